-- SPDX-License-Identifier: MIT
-- Messages as sip.parse reads them: what they say, what it forgives, what
-- strict parsing rejects.

local sip = require "sipwire.sip"
local torture = require "spec.support.torture"

local function lines(...)
  return table.concat({ ... }, "\r\n")
end

local function request(more, body)
  local list = { "INVITE sip:bob@example.com SIP/2.0",
    "Via: SIP/2.0/WS a.invalid;branch=z9hG4bK1", "Max-Forwards: 70",
    'From: "Alice" <sip:alice@example.com>;tag=f1',
    "To: <sip:bob@example.com>", "Call-ID: c1", "CSeq: 7 INVITE" }
  for _, line in ipairs(more or {}) do
    list[#list + 1] = line
  end
  return table.concat(list, "\r\n") .. "\r\n\r\n" .. (body or "")
end

local function parse(text, options)
  local m, err = sip.parse(text, options)
  return assert.is_truthy(m, err) and m
end

local function strict_code(text)
  local m, err, code, info = sip.parse(text, { strict = true })
  if m then
    return true
  end
  assert.is_truthy(err:find("^" .. code .. ": %S"))
  assert.is_true(info.position >= 1 and info.position <= #text + 1)
  return code, info.position
end

describe("sip.parse #text", function()
  it("reads requests", function()
    local m = parse(request({ "Contact: <sip:alice@a.invalid;transport=ws>" ..
      ';expires=60;q=0.5;+sip.instance="<urn:uuid:1>"', "Expires: 300",
      "Content-Length: 2" }, "hi"))
    assert.same({ true, "INVITE", "SIP/2.0", "hi", 70, 300, 2, "c1" },
      { m.is_request, m.method, m.version, m.body, m.max_forwards, m.expires,
        m.content_length, m.call_id })
    assert.is_nil(m.status)
    assert.equal("bob", m.uri.user)
    assert.same({ number = 7, method = "INVITE" }, m.cseq)
    local via = m.via[1]
    assert.same({ "SIP", "2.0", "WS", "a.invalid", "z9hG4bK1" },
      { via.protocol, via.version, via.transport, via.host, via.branch })
    assert.same({ branch = "z9hG4bK1" }, via.params)
    assert.same({ "Alice", "f1", "alice" },
      { m.from.display, m.from.tag, m.from.uri.user })
    assert.same({ nil, nil }, { m.to.display, m.to.tag })
    local contact = m.contact[1]
    assert.same({ expires = "60", q = "0.5",
      ["+sip.instance"] = "<urn:uuid:1>" }, contact.params)
    assert.same({ 60, 0.5 }, { contact.expires, contact.q })
    assert.same({ transport = "ws" }, contact.uri.params)
    assert.same({}, m.warnings)
  end)

  it("reads responses", function()
    local m = parse(lines("SIP/2.0 401 Un authorized",
      "v: SIP/2.0/WSS h:5061;rport=9;received=192.0.2.1;branch=b, " ..
      "SIP/2.0/TCP [::1]:7;rport", "WWW-Authenticate: Digest " ..
      'realm="a \\"b\\", c",nonce="n=", qop="auth,auth-int",stale=TRUE',
      "WWW-Authenticate: Basic realm=x", "Retry-After: 18 (soon);duration=2",
      "Supported: path , outbound", "k: gruu", "Allow:", "", ""))
    assert.same({ false, 401, "Un authorized", "" },
      { m.is_request, m.status, m.reason, m.body })
    assert.same({ "WSS", "h", 5061, "b", "192.0.2.1", 9 },
      { m.via[1].transport, m.via[1].host, m.via[1].port, m.via[1].branch,
        m.via[1].received, m.via[1].rport })
    assert.same({ "[::1]", 7, true, "" }, { m.via[2].host, m.via[2].port,
      m.via[2].rport, m.via[2].params.rport })
    local digest, basic = m.www_authenticate[1], m.www_authenticate[2]
    assert.same({ "Digest", 'a "b", c', "n=", "auth,auth-int", "TRUE" },
      { digest.scheme, digest.realm, digest.nonce, digest.qop, digest.stale })
    assert.same({ "Basic", "x" }, { basic.scheme, basic.realm })
    assert.equal(18, m.retry_after)
    assert.same({ "path", "outbound", "gruu" }, m.supported)
    assert.same({}, m.allow)
  end)

  it("has nil for what is absent, or makes no sense", function()
    local m = parse(request { "Expires: soon", "Contact: nonsense",
      "Retry-After: x", "Event: ;id=1", "Content-Type: text" })
    for _, name in ipairs { "route", "require", "min_expires", "event",
      "authorization", "refer_to", "expires", "content_type", "retry_after",
      "no_such_field" } do
      assert.is_nil(m[name], name)
    end
    assert.same({}, m.contact)
    assert.equal(5, #m.warnings)
  end)

  it("reads other headers", function()
    local m = parse(request { "Event: presence;id=4", "Record-Route: <sip:a;lr>",
      "record-route: <sip:b;lr>,<sip:c>", "Contact: *", "Refer-To: <tel:+1-2>",
      "Content-Type: Text/PLAIN ; charset=utf-8", "Accept: a/b;c=\"d,e\", f/g",
      "P-Asserted-Identity: \"x, y\" <sip:z@a>, tel:+12",
      "Authorization: Digest username=\"u\",uri=\"sip:a\"" })
    assert.same({ "presence", "4" }, { m.event.type, m.event.id })
    assert.same({ "a", "b", "c" }, { m.record_route[1].uri.host,
      m.record_route[2].uri.host, m.record_route[3].uri.host })
    assert.is_true(m.contact[1].star)
    assert.is_nil(m.contact[1].uri)
    assert.equal("+1-2", m.refer_to.uri.number)
    assert.same({ "text", "plain", { charset = "utf-8" } },
      { m.content_type.type, m.content_type.subtype, m.content_type.params })
    assert.same({ "a/b;c=\"d,e\"", "f/g" }, m.accept)
    assert.same({ "x, y", "tel" }, { m.p_asserted_identity[1].display,
      m.p_asserted_identity[2].uri.scheme })
    assert.equal("u", m.authorization[1].username)
  end)

  it("finds fields by any spelling of their names", function()
    local m = parse(request { "SuBjEcT : a", "s: b\r\n  c ", "X-Y:", "K: q" })
    assert.equal("a", m:get "subject")
    assert.equal("a", m:get "S")
    assert.same({ "a", "b c" }, m:all "Subject")
    assert.equal("", m:get "x-y")
    assert.is_nil(m:get "x-z")
    assert.same({}, m:all "x-z")
    local seen = {}
    for name, value, id in m:each() do
      seen[#seen + 1] = name .. "|" .. value .. "|" .. id
    end
    assert.same({ "SuBjEcT|a|subject", "s|b c|subject", "X-Y||x-y",
      "K|q|supported" }, { seen[7], seen[8], seen[9], seen[10] })
    assert.equal("Via|SIP/2.0/WS a.invalid;branch=z9hG4bK1|via", seen[1])
  end)

  it("keeps the bytes", function()
    for _, t in ipairs(torture.list) do
      local m = sip.parse(t.text)
      if m then
        assert.is_true(type(m.warnings) == "table" and m.from ~= false)
        assert.equal(t.text, tostring(m))
      end
    end
  end)

  it("takes as body what Content-Length says, if that is there", function()
    local function body(length, text)
      local m = parse(request({ length and "Content-Length: " .. length }, text))
      return m.body, #m.warnings
    end
    local all = "\0a\r\n\r\nb\n"
    assert.same({ all, 0 }, { body(nil, all) })
    assert.same({ all, 0 }, { body(#all, all) })
    assert.same({ "\0a\r", 1 }, { body(3, all) })
    assert.same({ "", 1 }, { body(0, all) })
    assert.same({ all, 1 }, { body(99, all) })
    assert.same({ all, 1 }, { body("x", all) })
    assert.same({ all, 1 }, { body("-1", all) })
  end)

  it("forgives line ends and blanks, and says so", function()
    local text = request { "Subject: x" }
    local exact = sip.parse(text)
    local function check(changed, count)
      local m = parse(changed)
      assert.equal(count, #m.warnings, table.concat(m.warnings, "\n"))
      assert.same({ exact.method, tostring(exact.uri), exact.from.tag,
        exact.cseq.number, exact.via[1].branch, "x" }, { m.method,
        tostring(m.uri), m.from.tag, m.cseq.number, m.via[1].branch,
        m:get "subject" })
      assert.equal(changed, tostring(m))
    end
    check(text, 0)
    check("\r\n\r\n" .. text, 1)
    check(text:gsub("\r\n", "\n"), 1)
    check(text:gsub("INVITE sip", "INVITE  sip"), 1)
    check(text:gsub(" SIP/2.0\r\n", " SIP/2.0 \r\n", 1), 1)
    check(text:gsub("\r\nTo", "\r\nno field\r\nTo"), 1)
    check(text:gsub("\r\nTo", "\r\n: no name\r\nTo"), 1)
    check(text:gsub("x\r\n\r\n", "x"), 1)
    check(text:gsub("x\r\n\r\n", "x\r\n"), 1)
    check(text:gsub("Subject: ", "Subject:\r\n \t"), 0)
    check(text:gsub(": ", ":"):gsub("\r\n", " \t\r\n"):gsub("2.0 \t", "2.0"),
      1) -- the last line is not blank
  end)

  it("takes a lone CR or LF for a blank", function()
    local m = parse(request { "Subject: a\rb\nX: c", "Y: d" })
    assert.equal("a b X: c", m:get "Subject")
    assert.equal("d", m:get "Y")
    assert.is_false(#m.warnings == 0)
  end)

  it("takes the first of what is there twice", function()
    local m = parse(request { "Contact: <sip:a>;x=1;X=2, <sip:b>; x=1 ;x=2",
      "Authorization: Digest realm=a, realm=b", "Subject: 1", "Subject: 2",
      "To: <sip:no@where>" })
    assert.same({ "1", "1", "a", "1", "bob" }, { m.contact[1].params.x,
      m.contact[2].params.x, m.authorization[1].realm, m:get "Subject",
      m.to.uri.user })
  end)

  it("knows where addresses and URIs end", function()
    local m = parse(request { 'Refer-To: sip:a@b;x="<sip:c@d>";y=1',
      "Contact: <sip:a@b?c=d;e>, sip:f@g;x=\"h,i\" , \"<,\" <sip:j,k@l>" })
    assert.same({ "a", "b", "<sip:c@d>", "1" }, { m.refer_to.uri.user,
      m.refer_to.uri.host, m.refer_to.params.x, m.refer_to.params.y })
    local uri = m.contact[1].uri
    assert.same({ "b", {}, { c = "d;e" } }, { uri.host, uri.params,
      uri.headers })
    assert.same({ 3, "h,i", "<,", "j,k" }, { #m.contact, m.contact[2].params.x,
      m.contact[3].display, m.contact[3].uri.user })
  end)

  it("does not take a line for what goes on elsewhere", function()
    local m = parse(request { "X: a", "no field", " b" })
    assert.equal("a", m:get "X")
    assert.equal(2, #m.warnings)
    m = parse "SIP/2.0 200 OK\nX: a\n\nb\r\n\r\n"
    assert.same({ "OK", "a", "b\r\n\r\n" }, { m.reason, m:get "X", m.body })
  end)

  it("does not take a field's end for a field", function()
    local m = parse(request { "X: a\r\n\tTo: <sip:no@where>", "Y: \"a\\",
      " b\", <c" })
    assert.equal("bob", m.to.uri.user)
    assert.equal("a To: <sip:no@where>", m:get "X")
    assert.equal('"a\\ b", <c', m:get "Y")
  end)

  it("rejects what is no message", function()
    for _, text in ipairs { "", "\r\n", "x", "GET / HTTP/1.1\r\n\r\n",
      "SIP/2.0", "SIP/2.0 20 x", "SIP/2.0 2000 x", "SIP/2.0 020 x",
      "SIP/2.0 2x0 OK\r\n\r\n", "INVITE sip:a", "INVITE SIP/2.0\r\n\r\n",
      "IN VI<TE sip:a SIP/2.0 x", "a,b sip:a SIP/2.0\r\n\r\n",
      " SIP/2.0\r\n\r\n", "\0" } do
      local m, err, code, info = sip.parse(text)
      assert.is_nil(m, text)
      assert.equal("start_line", code)
      assert.is_truthy(err:find "^start_line: ")
      assert.equal("number", type(info.position))
    end
  end)

  it("reads numbers only where they are", function()
    for _, value in ipairs { "0x10", "1e3", "1.5", "-1", "+1", " ", "1 2",
      "1" .. ("0"):rep(15) } do
      assert.is_nil(parse(request { "Expires: " .. value }).expires, value)
      assert.is_nil(parse((request():gsub("7 INV", value .. " INV"))).cseq)
    end
    assert.equal(12, parse(request { "Expires: 0012" }).expires)
  end)

  it("raises for mistakes of the caller, at their line", function()
    local function place(fn, pattern)
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.is_truthy(err:find("sip_parse_spec.lua:%d+: " .. pattern), err)
    end
    place(function() sip.parse() end, "parse needs a string, not nil")
    place(function() sip.parse("", { strikt = true }) end,
      "unknown option 'strikt', did you mean 'strict'")
    place(function() sip.parse("", { strict = 1 }) end, "option 'strict' must")
    place(function() sip.uri(1) end, "uri needs a string, not number")
    local m = parse(request())
    for _, field in ipairs { "method", "from", "body", "new" } do
      place(function() m[field] = 1 end, "a message's '" .. field)
    end
    place(function() m:get() end, "a header field's name must be a string")
  end)
end)

describe("RFC 4475 #text", function()
  for _, t in ipairs(torture.list) do
    it(("%s (%s) is %s"):format(t.name, t.section,
      t.valid == true and "valid" or "not valid: " .. t.valid), function()
      assert.equal(t.valid, (strict_code(t.text)))
      local m = sip.parse(t.text)
      assert.equal(t.name ~= "bigcode", m ~= nil)
      if m and t.valid ~= true then
        assert.is_true(#m.warnings > 0)
      end
    end)
  end

  local function message(name)
    for _, t in ipairs(torture.list) do
      if t.name == name then
        return parse(t.text)
      end
    end
  end

  it("wsinv says what it says", function()
    local m = message "wsinv"
    assert.same({ "1918181833n", "98asjd8", 'J Rosenberg \\"' },
      { m.to.tag, m.from.tag, m.from.display })
    assert.same({ 68, 9, "INVITE", "wsinv.ndaksdj@192.0.2.1", 150 },
      { m.max_forwards, m.cseq.number, m.cseq.method, m.call_id, #m.body })
    assert.equal(3, #m.via)
    assert.same({ "UDP", "192.0.2.2", "390skdjuw" },
      { m.via[1].transport, m.via[1].host, m.via[1].branch })
    assert.same({ "TCP", "spindle.example.com", "z9hG4bK9ikj8" },
      { m.via[2].transport, m.via[2].host, m.via[2].branch })
    assert.same({ "UDP", "192.168.255.111", "z9hG4bK30239" },
      { m.via[3].transport, m.via[3].host, m.via[3].branch })
    assert.same({ "", "newfangled value continued newfangled value" },
      { m:get "Subject", m:get "NewFangledHeader" })
    local contact = m.contact[1]
    assert.same({ 'Quoted string ""', 0.33, "newvalue", "" }, {
      contact.display, contact.q, contact.params.newparam,
      contact.params.secondparam })
    assert.equal("value", m.route[1].uri.params.unknownwith)
  end)

  it("others say what they say", function()
    local m = message "intmeth"
    assert.same({ "1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*",
      "&it+has=1,weird!*pas$wo~d_too.(doesn't-it)", "example.com" },
      { m.uri.user, m.uri.password, m.uri.host })
    assert.equal("BEL:\7 NUL:\0 DEL:\127", m.to.display)
    assert.equal("_token~1'+`*%!-.", m.from.tag)
    assert.equal("token1~` token2'+_ token3*%!.-", m.from.display)
    assert.equal(34, #message "longreq".via)
    assert.equal("", message "noreason".reason)
    assert.equal("caller", message "lwsdisp".from.display)
    assert.equal("", message "dblreq".body)
    assert.equal("user;par=u%40example.net", message "semiuri".uri.user)
    assert.equal(2, #message "esc02".contact)
    assert.equal("UNKNOWN", message "transports".via[4].transport)
    assert.is_truthy(message "mpart01".body:find("\6\0\r\n\r\n\255", 1, true))
    assert.equal("totallyopaquecontent", tostring(message "unkscm".uri)
      :match ":(.*)")
  end)

  it("invalid ones still say what can be understood", function()
    assert.equal("user", message "ltgtruri".uri.user)
    assert.equal("user", message "lwsruri".uri.user)
    assert.equal("INVITE", message "lwsstart".method)
    assert.equal("SIP/7.0", message "badvers".version)
    assert.equal("Bell, Alexander", message "baddn".from.display)
    assert.equal("t.watson", message "badaspec".to.uri.user)
    assert.is_nil(message "quotbal".to)
    assert.is_nil(message "scalar02".cseq)
    assert.equal("192.0.2.15", message "badinv01".via[1].host)
    assert.equal("multi01.98asdh@192.0.2.1", message "multi01".call_id)
  end)
end)

describe("strict parsing #text", function()
  local function code(...)
    return (strict_code(request { ... }))
  end

  it("takes what is valid", function()
    assert.is_true(code())
    for _, line in ipairs { "Supported:", "Contact: *", "Via: sip/2.0/WS [::1]:1",
      "Accept: ", "Date: Sun, 22 Nov 2026 21:00:00 GMT", "Timestamp: 54.1 0.7",
      "Timestamp: .5", "Retry-After: 5 (in a meeting) ;duration=9",
      'Warning: 307 isi.edu "a \\" b", 301 x "y"', "Expires: 4294967295",
      "Contact: sip:a@b;expires=9;q=1.000, \"c, d\" <sip:e,f@g>;x=[::1]",
      "Authorization: Bearer abc.def-_~+/==", "P-Asserted-Identity: tel:+1;a=b",
      "Event: a.b;id=1", "MIME-Version: 1.0", "X: \"", "X-Y: \195\164",
      "Authorization: Digest a=b , c=\"d,\\\"e\"" } do
      local result = code(line)
      if line == "Timestamp: .5" then
        assert.equal("value", result)
      else
        assert.is_true(result, line)
      end
    end
  end)

  it("rejects values that are not", function()
    for _, line in ipairs { "Via: SIP/2.0/WS", "Via: SIP/2.0/WS a;branch",
      "Via: SIP/2.0/WS a b", "Via: SIP/2.0 WS a", "Via: SIP/2.0/WS a:99999",
      "Via: SIP/2.0/WS -a", "Via: SIP/3.0/WS a", "Via: SIP/2.0/WS a;=b",
      "Via: SIP/2.0/WS a;b=", "Via: SIP/2.0/WS a;b=c;B=d", "Via:",
      "Via: SIP/2.0/WS a,", "Contact: <sip:a@b", "Contact: <sip:a@b> x",
      "Contact: <sip:a@b>;x=\"y", "Contact: a b@c <sip:a@b>", "Contact: sip:",
      "Contact: <sip:a b@c>", "Contact: <sip:a@b>;q=2", "Contact: \"a\" sip:b@c",
      "Contact: <sip:a@b>;expires=x", "Route: sip:a;lr", "Route: <sip:a>,",
      "Contact: *, <sip:a@b>", "Content-Type: text", "Content-Type: t/p;c",
      "Content-Type: text/plain;a=b c", "Event: a b", "Allow: A,,B", "Require:",
      "Authorization: Digest", "Authorization: Digest a=b c=d",
      'Authorization: Digest a="b', "Authorization: Digest a=b,,c=d",
      "Authorization: Digest a=b,a=c", "Authorization: Digest a",
      "Retry-After: 5 (a", "Date: Sun, 22 Nov 2026 21:00:00 CET",
      "Timestamp: a", "MIME-Version: 1", "Expires: 4294967296",
      "Warning: 30 a \"b\"", "Warning: 307 a b", "Refer-To: x" } do
      local result = code(line)
      if line == "Via: SIP/2.0/WS a;branch" or line == "Content-Type: t/p;c" then
        assert.is_true(result) -- parameters need no value
      else
        assert.equal("value", result, line)
      end
    end
  end)

  it("rejects other faults, and says where they are", function()
    local text = request { "Subject: x" }
    local function rejects(wanted, changed, where)
      local result, position = strict_code(changed)
      assert.equal(wanted, result)
      if where then
        assert.equal(changed:find(where, 1, true), position)
      end
    end
    for _, name in ipairs { "Via", "From", "To", "Call%-ID", "CSeq" } do
      rejects("missing", (text:gsub("\r\n" .. name .. ":[^\r]*", "")))
    end
    assert.is_true((strict_code((text:gsub("\r\nMax%-F[^\r]*", "")))))
    assert.is_true((strict_code("\r\n" .. text)))
    rejects("repeated", request { "Expires: 1", "Expires: 2" }, " 2")
    rejects("value", request { "Expires: 1x" }, " 1x")
    rejects("mismatch", (text:gsub("7 INVITE", "7 BYE")))
    rejects("value", (text:gsub("7 INVITE", "2147483648 INVITE")))
    assert.is_true((strict_code((text:gsub("7 INV", "2147483647 INV")))))
    rejects("body", request { "Content-Length: 4" })
    rejects("header", (text:gsub("\r\n", "\n")))
    rejects("header", (text:gsub("x\r\n\r\n", "x\r\n")))
    rejects("header", (text:gsub("x\r\n", "x\n")))
    rejects("header", (text:gsub("x\r\n", "x\ry\r\n")))
    rejects("header", (text:gsub(": x", ": x\1")))
    rejects("header", (text:gsub("Subject: x", "Subject")), "Subject\r")
    rejects("header", (text:gsub("Subject", "Sub(ject")))
    rejects("start_line", (text:gsub("bob@", "b ob@", 1)), "INVITE")
    rejects("start_line", (text:gsub("sip:bob@example.com SIP", "* SIP", 1)))
    rejects("start_line", "SIP/2.0 799 x\r\n" .. text:match "\r\n(.*)")
    rejects("version", (text:gsub("SIP/2.0", "sip/2.1", 1)))
  end)

  it("is what warnings tell", function()
    for _, t in ipairs(torture.list) do
      local m = sip.parse(t.text)
      if m and #m.warnings == 0 then
        assert.is_true((strict_code(t.text)))
      end
    end
  end)
end)
