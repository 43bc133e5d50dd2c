-- SPDX-License-Identifier: MIT
-- Messages as sipwire.sip builds and changes them.

local sip = require "sipwire.sip"

local function strict(m)
  local parsed, err = sip.parse(tostring(m), { strict = true })
  assert.is_truthy(parsed, err and err .. "\n" .. tostring(m))
  assert.same({}, parsed.warnings)
  return parsed
end

local function register(more)
  local options = { method = "REGISTER", uri = "sip:example.com",
    from = "sip:alice@example.com" }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  return sip.request(options)
end

local function ids(m)
  local list = {}
  for name in m:each() do
    list[#list + 1] = name
  end
  return table.concat(list, " ")
end

local function raises(pattern, fn, ...)
  local arguments = { ... }
  local ok, err = pcall(function()
    fn(arguments[1], arguments[2], arguments[3])
  end)
  assert.is_false(ok, "no error: " .. pattern)
  assert.is_truthy(err:find("sip_build_spec.lua:%d+: "), err)
  assert.is_truthy(err:find(pattern), err)
end

describe("sip.request #text", function()
  it("has all that RFC 3261 and 7118 want", function()
    local m = strict(register())
    assert.equal("Via Max-Forwards From To Call-ID CSeq Content-Length", ids(m))
    assert.same({ "REGISTER", "sip:example.com", 70, 1, "REGISTER", 0 },
      { m.method, tostring(m.uri), m.max_forwards, m.cseq.number,
        m.cseq.method, m.content_length })
    assert.equal("<sip:alice@example.com>", tostring(m.to))
    assert.is_nil(m.to.tag)
    local via = m.via[1]
    assert.equal("WS", via.transport)
    assert.is_truthy(via.host:find "^%x%x%x%x%x%x%x%x%x%x%x%x%.invalid$")
    assert.is_truthy(via.branch:find "^z9hG4bK%x+$")
    assert.is_true(#via.branch >= 23 and #m.from.tag >= 16 and #m.call_id >= 16)
  end)

  it("is never the same twice", function()
    local seen = {}
    for _ = 1, 200 do
      local m = register()
      for _, value in ipairs { m.via[1].branch, m.via[1].host, m.from.tag,
        m.call_id } do
        assert.is_nil(seen[value])
        seen[value] = true
      end
    end
  end)

  it("takes what is given", function()
    local m = strict(sip.request { method = "MESSAGE", uri = "sip:bob@b:1;lr",
      from = '"A" <sip:alice@a>;tag=f1', to = "sip:bob@b", call_id = "c@d",
      cseq = 2147483647, via = { transport = "WSS", host = "h.invalid",
      branch = "z9hG4bKx" }, contact = "sip:me@here", max_forwards = 0,
      route = { "sip:p1;lr", "<sip:p2;lr>" }, body = "h\195\164",
      content_type = "text/plain",
      headers = { ["X-B"] = 2, ["X-A"] = { "1", "x, y" },
        Subject = " padded " } })
    assert.equal("Via Max-Forwards Route Route From To Call-ID CSeq Contact " ..
      "Subject X-A X-A X-B Content-Type Content-Length", ids(m))
    assert.equal("SIP/2.0/WSS h.invalid;branch=z9hG4bKx", m:get "Via")
    assert.same({ "f1", "c@d", 2147483647, "MESSAGE", 0, 3, "h\195\164" },
      { m.from.tag, m.call_id, m.cseq.number, m.cseq.method, m.max_forwards,
        m.content_length, m.body })
    assert.same({ "<sip:p1;lr>", "<sip:p2;lr>" }, m:all "Route")
    assert.same({ "<sip:bob@b>", "<sip:me@here>", "padded", "2" },
      { m:get "To", m:get "Contact", m:get "Subject", m:get "X-B" })
    assert.same({ "1", "x, y" }, m:all "X-A")
  end)

  it("keeps a list of headers in order", function()
    local m = strict(register { headers = { { "Z", "1" }, { "A", "2" },
      { "Z", "3" } } })
    assert.equal("Z A Z Content-Length", ids(m):match "CSeq (.*)")
  end)

  it("takes what was read", function()
    local other = strict(register { contact = true })
    local m = strict(sip.request { method = "BYE", uri = other.contact[1].uri,
      from = other.to, to = other.from, route = { other.contact[1] } })
    assert.equal(tostring(other.contact[1].uri), tostring(m.uri))
    assert.equal(other.from.tag, m.to.tag)
  end)

  it("takes what was read as it was forgiven, unless it would leave its place",
    function()
      local m = sip.parse "SIP/2.0 200 OK\r\nm: <sip:#@a_b>, <sip:a b@c>\r\n\r\n"
      m = { m.contact[1], m.contact[2].uri }
      assert.matches("^REGISTER sip:#@a_b SIP/2%.0\r\n",
        tostring(register { uri = m[1].uri, to = m[1], route = { m[1] } }))
      raises("'sip:a b@c' has a malformed user", register, { uri = m[2] })
      raises("'sip:a b@c' has a malformed user", register, { to = m[2] })
    end)

  it("makes a Contact for connections", function()
    for _, method in ipairs { "INVITE", "SUBSCRIBE", "REFER", "UPDATE",
      "NOTIFY" } do
      local m = strict(register { method = method })
      assert.equal(("<sip:alice@%s;transport=ws>"):format(m.via[1].host),
        m:get "Contact")
    end
    assert.is_nil(register({ method = "INVITE", contact = false }).contact)
    assert.is_nil(register({ method = "OPTIONS" }).contact)
    local m = strict(register { contact = true, from = "sips:a@b",
      via = { host = "h.invalid" } })
    assert.equal("<sips:a@h.invalid;transport=ws>", m:get "Contact")
    m = strict(register { contact = true, from = "sip:b",
      via = { host = "h.invalid" } })
    assert.equal("<sip:h.invalid;transport=ws>", m:get "Contact")
  end)

  it("registers a flow (RFC 5626)", function()
    local m = strict(register { instance = "urn:uuid:1", reg_id = 2,
      via = { host = "h.invalid" } })
    assert.equal("<sip:alice@h.invalid;transport=ws>;reg-id=2;" ..
      '+sip.instance="<urn:uuid:1>"', m:get "Contact")
    assert.same({ "path", "outbound" }, m.supported)
    m = strict(register { instance = "urn:uuid:1", contact = "<sip:a@b>" })
    assert.equal('<sip:a@b>;+sip.instance="<urn:uuid:1>"', m:get "Contact")
    raises("option 'reg_id' needs 'instance'", register, { reg_id = 1 })
    raises("'instance' needs a contact", register,
      { instance = "urn:x", contact = false })
  end)

  it("raises for what is wrong, at the caller's line", function()
    for _, case in ipairs {
      { "unknown option 'cal_id', did you mean 'call_id'", { cal_id = "x" } },
      { "unknown option 'via.hots', did you mean 'host'",
        { via = { hots = "x" } } },
      { "option 'method' is empty", { method = "" } },
      { "'a b' is no token", { method = "a b" } },
      { "option 'uri' 'bob' has no scheme", { uri = "bob" } },
      { "option 'uri' must be a string, not number", { uri = 1 } },
      { "option 'from' .* malformed host", { from = "sip:a b" } },
      { "option 'to' .* not closed", { to = '"a <sip:b>' } },
      { "option 'from' must be a string, not table", { from = {} } },
      { "option 'cseq' must be a whole number", { cseq = 1.5 } },
      { "option 'cseq' must be a whole number", { cseq = 2 ^ 31 } },
      { "option 'max_forwards' must", { max_forwards = 256 } },
      { "option 'call_id' must not have blanks", { call_id = "a b" } },
      { "option 'route' 2 '<x>' has a URI", { route = { "sip:a", "x" } } },
      { "option 'via' must be a table", { via = "WS" } },
      { "option 'headers' must be a table", { headers = "a: b" } },
      { "option 'content_type' is required", { body = "x" } },
      { "option 'body' must be a string", { body = 1 } },
      { "header 'From' has an option of its own, 'from'",
        { headers = { From = "x" } } },
      { "header 'l' has an option of its own, 'body'",
        { headers = { l = "0" } } },
      { "'a b' is no name", { headers = { ["a b"] = "x" } } },
      { "header 'A' must be a string, not boolean", { headers = { A = true } } },
      { "headers must be { name, value }", { headers = { "A: b" } } } } do
      raises(case[1], register, case[2])
    end
    raises("option 'uri' is required", sip.request, { method = "A",
      from = "sip:a" })
    raises("options must be a table, not string", sip.request, "REGISTER")
  end)

  it("lets no line end and no NUL in (nothing can be smuggled)", function()
    for _, bad in ipairs { "\r", "\n", "\r\n", "\0", "\r\nX: y" } do
      for _, name in ipairs { "method", "uri", "from", "to", "call_id",
        "contact", "instance", "content_type" } do
        raises("option '" .. name .. "' has a line end or a NUL byte", register,
          { [name] = "sip:a" .. bad .. "b" })
        raises("option '" .. name .. "' has a line end or a NUL byte", register,
          { [name] = "sip:a" .. bad })
      end
      for _, name in ipairs { "transport", "host", "branch" } do
        raises("option 'via." .. name .. "' has a line end", register,
          { via = { [name] = "a" .. bad } })
      end
      raises("option 'route' 1 has a line end", register,
        { route = { "<sip:a>" .. bad } })
      raises("header 'A' has a line end", register,
        { headers = { A = "b" .. bad } })
      raises("is no name", register, { headers = { ["A" .. bad] = "b" } })
      local m = register()
      raises("the value of 'A' has a line end", m.set, m, "A", bad)
      raises("the value of 'A' has a line end", m.add, m, "A", bad)
      raises("the value of 'A' has a line end", m.prepend, m, "A", bad)
      raises("is no name", m.set, m, "A" .. bad, "b")
      raises("the content type has a line end", m.set_body, m, "", "a" .. bad)
      raises("the reason has a line end", m.response, m, 200, bad)
      raises("option 'to_tag' has a line end", function()
        m:response(200, nil, { to_tag = "a" .. bad })
      end)
    end
  end)
end)

describe("m:response #text", function()
  local function invite()
    local m = strict(sip.request { method = "INVITE", uri = "sip:bob@b",
      from = "sip:alice@a", headers = { ["Record-Route"] = "<sip:p;lr>",
      Timestamp = "5" } })
    return strict(m:add("Via", "SIP/2.0/TCP other;branch=z9hG4bK2"))
  end

  it("takes over what identifies the request", function()
    local request = invite()
    local m = strict(request:response(200, nil, { contact = "sip:bob@h",
      headers = { Server = "x" }, body = "b", content_type = "a/b" }))
    assert.equal("Via Via From To Call-ID CSeq Record-Route Contact Server " ..
      "Content-Type Content-Length", ids(m))
    assert.same({ 200, "OK", "b" }, { m.status, m.reason, m.body })
    for _, name in ipairs { "Via", "From", "Call-ID", "CSeq", "Record-Route" } do
      assert.same(request:all(name), m:all(name))
    end
    assert.is_truthy(m:get "To":find "^<sip:bob@b>;tag=%x+$")
  end)

  it("has a tag in To, the same if there is one, none in 100", function()
    local request = invite()
    assert.is_nil(request:response(100).to.tag)
    assert.equal("mine", request:response(100, nil, { to_tag = "mine" }).to.tag)
    assert.equal("mine", request:response(180, nil, { to_tag = "mine" }).to.tag)
    assert.is_not.equal(request:response(180).to.tag,
      request:response(180).to.tag)
    request:set("To", "<sip:bob@b>;x=y;tag=old")
    assert.equal("<sip:bob@b>;x=y;tag=old", request:response(200):get "To")
  end)

  it("knows reasons, and takes others", function()
    local request = invite()
    assert.equal("Busy Here", request:response(486).reason)
    assert.equal("", strict(request:response(299)).reason)
    assert.equal("", strict(request:response(200, "")).reason)
    assert.equal("S\195\173", strict(request:response(200, "S\195\173")).reason)
  end)

  it("leaves Record-Route to 101 to 299, Timestamp to 100", function()
    local request = invite()
    assert.is_nil(request:response(100).record_route)
    assert.equal("5", request:response(100):get "Timestamp")
    assert.equal(1, #request:response(183).record_route)
    assert.is_nil(request:response(302).record_route)
    assert.is_nil(request:response(200):get "Timestamp")
  end)

  it("answers requests that are not quite right", function()
    local request = sip.parse("FOO sip:a SIP/2.0\nv:  SIP/2.0/WS a ,SIP/2.0/WS b" ..
      "\nTO: <<\nf: \"\nCall-ID: a\rb\n c\n\nbody")
    local m = request:response(400)
    assert.equal("SIP/2.0 400 Bad Request\r\n" ..
      "Via: SIP/2.0/WS a ,SIP/2.0/WS b\r\nTo: <<\r\nFrom: \"\r\n" ..
      "Call-ID: a b c\r\nContent-Length: 0\r\n\r\n", tostring(m))
  end)

  it("raises for mistakes", function()
    local request = invite()
    local response = request:response(200)
    raises("a response has no response", response.response, response, 200)
    for _, status in ipairs { 99, 700, 200.5, "200" } do
      raises("status must be a whole number from 100 to 699", request.response,
        request, status)
    end
    local function with(options)
      return function() request:response(200, nil, options) end
    end
    raises("the reason must be a string", request.response, request, 200, {})
    raises("unknown option 'headrs'", with { headrs = {} })
    raises("header 'Via' is made from the request", with {
      headers = { Via = "x" } })
    raises("'content_type' is required", with { body = "x" })
    raises("option 'to_tag' 'a b' is no token", with { to_tag = "a b" })
  end)
end)

describe("changes of a message #text", function()
  local text = "SIP/2.0 200 OK\r\nv: a\r\nX-A:  1 \r\nx-a: 2\r\nl: 9\r\nS: z" ..
    "\r\n b\r\n\r\nbody"

  local function changed(fn, original)
    local m = assert(sip.parse(original or text))
    fn(m)
    return tostring(m):match "^SIP/2.0 200 OK\r\n(.*)$"
  end

  it("leave the rest as it is", function()
    assert.equal("v: a\r\nX-A: new\r\nl: 4\r\nS: z b\r\n\r\nbody",
      changed(function(m) assert.equal(m, m:set("x-A", "new")) end))
    assert.equal("v: a\r\nX-A: 1\r\nx-a: 2\r\nX-a: 3\r\nl: 4\r\n" ..
      "S: z b\r\n\r\nbody", changed(function(m) m:add("X-a", 3) end))
    assert.equal("Via: b\r\nv: a\r\n", changed(function(m)
      m:prepend("Via", "b")
    end):sub(1, 14))
    assert.equal("v: a\r\nl: 4\r\nS: z b\r\n\r\nbody",
      changed(function(m) m:remove "X-A" end))
    assert.equal("v: a\r\nX-A: 1\r\nx-a: 2\r\nS: z b\r\n\r\nbody",
      changed(function(m) m:remove "Content-Length" end))
    assert.equal(text, "SIP/2.0 200 OK\r\n" ..
      changed(function(m) m:remove "X-B" end))
  end)

  it("show in the fields", function()
    local m = strict(register { contact = true })
    assert.equal("REGISTER", m.cseq.method)
    assert.equal(1, #m.contact)
    m:set("CSeq", "2 REGISTER"):add("Contact", "<sip:b>"):remove "Max-Forwards"
    assert.same({ 2, 2 }, { m.cseq.number, #m.contact })
    assert.is_nil(m.max_forwards)
    assert.same({ "Max-Forwards is missing" }, m.warnings)
    m:set("Expires", 60)
    assert.equal(60, m.expires)
    m:set("Reason", "SIP;cause=200")
    assert.equal("REGISTER", m.method)
    m = m:response(200)
    m:set("Reason", "x"):set("Status", "1"):set("Body", "y")
    assert.same({ 200, "OK", "" }, { m.status, m.reason, m.body })
    assert.equal("x", m:get "reason")
  end)

  it("keep Content-Length right", function()
    local m = strict(register())
    m:set_body("h\195\164", "text/plain")
    assert.same({ "h\195\164", 3, "text" },
      { m.body, m.content_length, m.content_type.type })
    strict(m)
    m:set_body "other"
    assert.same({ "other", 5, "text" },
      { strict(m).body, m.content_length, m.content_type.type })
    m:set_body ""
    assert.same({ "", 0 }, { strict(m).body, m.content_length })
    assert.is_nil(m.content_type)
    for _, name in ipairs { "set", "add", "prepend" } do
      raises("Content%-Length cannot be", m[name], m, "l", 3)
    end
    assert.equal(0, m:remove "l":set_body "".content_length)
    assert.equal("v: a\r\nX-A: 1\r\nx-a: 2\r\nl: 0\r\nS: z b" ..
      "\r\n\r\n", changed(function(n) n:set_body "" end))
  end)

  it("take numbers and what was read, nothing else", function()
    local m = strict(register { contact = true })
    m:set("X", 5):add("X", m.contact[1]):add("X", m.uri)
    assert.same({ "5", tostring(m.contact[1]), "sip:example.com" }, m:all "X")
    raises("the value of 'X' must be a string, not nil", m.set, m, "X")
    raises("not table", m.set, m, "X", {})
    raises("not a fraction", m.set, m, "X", 1.5)
    raises("not a fraction", m.set, m, "X", 0 / 0)
    raises("name must be a string", m.set, m, 1, "x")
    raises("is no name", m.set, m, "a:b", "x")
    raises("a body must be a string", m.set_body, m, 1)
  end)

  it("are seen by each() at once", function()
    local m = sip.parse "SIP/2.0 200 OK\r\nA: 1\r\nB: 2\r\n\r\n"
    local seen = {}
    for name in m:each() do
      seen[#seen + 1] = name
      if name == "A" then m:add("C", "3") end
    end
    assert.same({ "A", "B", "C" }, seen)
  end)

  it("work with many fields", function()
    local m = strict(register())
    for i = 1, 300 do m:add("X-" .. i % 3, i) end
    assert.equal(100, #m:all "X-1")
    m:remove "X-1":set("X-2", "only")
    assert.same({ "only" }, m:all "X-2")
    assert.equal(100, #strict(m):all "X-0")
  end)
end)

describe("random text #text", function()
  it("is hexadecimal, of the length asked for", function()
    assert.is_truthy(sip.token():find "^%x+$")
    assert.equal(16, #sip.token())
    assert.equal(2, #sip.token(1))
    assert.equal(2048, #sip.token(1024))
    for _, bytes in ipairs { 0, -1, 1.5, 1025, "x" } do
      raises("token needs a whole number", sip.token, bytes)
    end
    assert.is_truthy(sip.branch():find "^z9hG4bK%x+$")
    assert.is_truthy(sip.host():find "^%x+%.invalid$")
    assert.is_not.equal(sip.tag(), sip.tag())
    assert.is_not.equal(sip.call_id(), sip.call_id())
  end)
end)
