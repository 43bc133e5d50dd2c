-- SPDX-License-Identifier: MIT
-- What strict parsing takes and rejects; the messages of RFC 4475.

local sip = require "sipwire.sip"
local text_of = require "spec.support.sip_text"
local torture = require "spec.support.torture"

local request, strict_code = text_of.request, text_of.strict_code

local function parse(text)
  local m, err = sip.parse(text)
  return assert.is_truthy(m, err) and m
end

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
