-- SPDX-License-Identifier: MIT
-- Messages as sip.parse reads them: what they say, what it forgives.

local sip = require "sipwire.sip"
local text_of = require "spec.support.sip_text"
local torture = require "spec.support.torture"

local request = text_of.request

local function lines(...)
  return table.concat({ ... }, "\r\n")
end

local function parse(text)
  local m, err = sip.parse(text)
  return assert.is_truthy(m, err) and m
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
