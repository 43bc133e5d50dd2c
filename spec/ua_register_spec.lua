-- SPDX-License-Identifier: MIT
-- Registrations and challenges, message by message (RFC 3261 sections 10 and
-- 22), with credentials that the spec checks by itself.

local core = require "sipwire.core"
local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  options = options or {}
  options.password = options.password or "secret"
  w = sip_peer.open(options)
  return w
end

local function register(...)
  local arguments = { ... }
  return w:go(function()
    return w.ua:register(arguments[1], arguments[2])
  end)
end

-- The 200 of a registrar that has bound what it was asked to.
local function bound(m, ...)
  local lines = { "Contact: <sip:else@where>;expires=9", ... }
  if not m.headers.contact[1]:find "expires=0$" then
    lines[1] = lines[1] .. ", " .. m.headers.contact[1]:lower()
  end
  w:answer(m, 200, lines)
end

local function challenge(m, status, rest)
  local proxy = status == 407
  w:answer(m, status, { (proxy and "Proxy" or "WWW") ..
    '-Authenticate: Digest realm="r", ' .. rest })
end

-- Checks the credentials of qop auth; returns their parameters.
local function check(m, field, password)
  local value = m.headers[field][1]
  local p = {}
  for name, text in value:gmatch '(%w+)="([^"]*)"' do p[name] = text end
  for name, text in value:gmatch "(%w+)=(%w[%w-]*)" do p[name] = text end
  local name = (p.algorithm or "MD5"):lower()
  local function h(...) return core.hash(name, table.concat({ ... }, ":")) end
  assert.equal(m.uri, p.uri)
  assert.equal(h(h(p.username, p.realm, password or "secret"), p.nonce, p.nc,
    p.cnonce, "auth", h(m.method, p.uri)), p.response)
  return p
end

sip_peer.describe("register()", function()
  it("binds the contact, and tells for how long", function()
    open()
    local flow = register()
    local m = w:take "REGISTER"
    assert.equal("sip:example.org", m.uri)
    assert.same({ { "<sip:alice@example.org>" }, { "1 REGISTER" },
      { w.ua.contact .. ";expires=600" } }, { m.headers.to, m.headers.cseq,
      m.headers.contact })
    assert.matches("^<sip:alice@example%.org>;tag=%w+$", m.headers.from[1])
    w:answer(m, 200, { 'Contact: "x" <sip:else@where>;expires=9, ' ..
      w.ua.contact .. ";expires=321" })
    local response, granted = w:finish(flow)
    assert.same({ 200, 321 }, { response.status, granted })
    assert.is_true(w.ua.registered)
    flow = register(60)
    local again = w:take "REGISTER"
    assert.same({ m.call_id, { "2 REGISTER" } },
      { again.call_id, again.headers.cseq })
    w:answer(again, 200, { "Contact: " .. w.ua.contact, "Expires: 50" })
    response, granted = w:finish(flow)
    assert.same({ 200, 50 }, { response.status, granted })
  end)

  it("may be told contact and registrar", function()
    open { contact = "sips:me@1.2.3.4:99", registrar = "sip:reg.example.org" }
    local flow = register(60, { headers = { { "X", "y" } } })
    local m = w:take "REGISTER"
    assert.same({ "sip:reg.example.org", { "<sips:me@1.2.3.4:99>;expires=60" },
      { "y" } }, { m.uri, m.headers.contact, m.headers.x })
    w:answer(m, 200, { "Contact: <sips:me@1.2.3.4:98>, <sips:me@1.2.3.4>" })
    bound(w:take "REGISTER")
    assert.equal(200, w:finish(flow).status)
    assert.is_false(w.ua._refresh)
  end)

  it("tries once more under a new name when it is not listed", function()
    open()
    local flow = register(60)
    local m = w:take "REGISTER"
    w:answer(m, 200, { "Contact: <sip:else@where>" })
    local again = w:take "REGISTER"
    assert.not_equal(m.call_id, again.call_id)
    assert.same({ "1 REGISTER" }, again.headers.cseq)
    bound(again)
    assert.equal(200, w:finish(flow).status)

    flow = register(60)
    w:answer(w:take "REGISTER", 200)
    w:answer(w:take "REGISTER", 200)
    local _, err, code, info = w:finish(flow)
    assert.same({ "contact: the registrar lists no Contact of ours", "contact",
      200 }, { err, code, info.response.status })
    assert.is_false(w.ua.registered)
    w:nothing()
  end)

  it("asks for as much as the registrar wants, once", function()
    open()
    local flow = register(60)
    w:answer(w:take "REGISTER", 423, { "Min-Expires: 120" })
    local m = w:take "REGISTER"
    assert.matches(";expires=120$", m.headers.contact[1])
    w:answer(m, 423, { "Min-Expires: 240" })
    local _, err, code = w:finish(flow)
    assert.same({ "status: 423 Told", "status" }, { err, code })
  end)

  it("tells what the registrar said instead", function()
    open()
    local flow = register()
    w:answer(w:take "REGISTER", 503, { "Retry-After: 7" })
    local _, err, code, info = w:finish(flow)
    assert.same({ "status: 503 Told", "status", 7 },
      { err, code, info.response.retry_after })
    for _, wrong in ipairs { 0, -1, 1.5, "60" } do
      assert.has_error(function() w.ua:register(wrong) end,
        "register(): expires must be a number of seconds, from 1")
    end
  end)

  it("refreshes as long as the connection lasts, if asked to", function()
    open()
    local flow = register(1, { refresh = true })
    local function grant()
      local m = w:take "REGISTER"
      w:answer(m, 200, { "Contact: " .. w.ua.contact .. ";expires=0" })
      return m
    end
    grant()
    w:finish(flow)
    assert.same({ "2 REGISTER" }, grant().headers.cseq)
    assert.same({ "3 REGISTER" }, grant().headers.cseq)
    local told = {}
    w.ua.on_unregistered = function(...) told[#told + 1] = { ... } end
    w:answer(w:take "REGISTER", 403)
    run_until(function() return told[1] end)
    assert.same({ "status: 403 Told", "status" }, { told[1][1], told[1][2] })
    assert.is_false(w.ua.registered)
    -- and no further attempt: closing leaves no timer
  end)

  it("leaves nothing to wait for when the connection ends", function()
    open()
    local flow = register(600, { refresh = true })
    bound(w:take "REGISTER")
    w:finish(flow)
    assert.is_truthy(w.ua._refresh) -- see helper.watch()
  end)

  it("is taken back by unregister()", function()
    open()
    local flow = register(1, { refresh = true })
    bound(w:take "REGISTER")
    w:finish(flow)
    flow = w:go(function() return w.ua:unregister() end)
    local m = w:take "REGISTER"
    assert.same({ { w.ua.contact .. ";expires=0" }, { "2 REGISTER" } },
      { m.headers.contact, m.headers.cseq })
    bound(m)
    assert.equal(200, w:finish(flow).status)
    assert.is_false(w.ua.registered)
    assert.is_false(w.ua._refresh)
    flow = w:go(function() return w.ua:unregister() end)
    w:answer(w:take "REGISTER", 200, { "Contact: " .. w.ua.contact })
    local _, err, code = w:finish(flow)
    assert.same({ "contact: the registrar still lists our Contact", "contact" },
      { err, code })
  end)

  for _, status in ipairs { 200, 403 } do
    it("stays taken back when a refresh is answered by " .. status ..
      " meanwhile", function()
      open()
      w.ua.on_unregistered = error
      local flow = register(1, { refresh = true })
      w:answer(w:take "REGISTER", 200,
        { "Contact: " .. w.ua.contact .. ";expires=0" })
      w:finish(flow)
      local refresh = w:take "REGISTER"
      flow = w:go(function() return w.ua:unregister() end)
      local m = w:take "REGISTER"
      w:answer(refresh, status, { "Contact: " .. w.ua.contact .. ";expires=9" })
      bound(m)
      assert.equal(200, w:finish(flow).status)
      assert.is_false(w.ua.registered)
      assert.is_false(w.ua._refresh)
    end)
  end
end)

sip_peer.describe("a challenge", function()
  it("is answered with a new number, and remembered", function()
    open { username = "al" }
    local flow = register()
    local m = w:take "REGISTER"
    assert.is_nil(m.headers.authorization)
    challenge(m, 401, 'nonce="n1", qop="auth", algorithm=SHA-256')
    local again = w:take "REGISTER"
    assert.same({ m.call_id, m.headers.from, { "2 REGISTER" } },
      { again.call_id, again.headers.from, again.headers.cseq })
    assert.not_equal(m.branch, again.branch)
    local p = check(again, "authorization")
    assert.same({ "al", "00000001", "SHA-256" },
      { p.username, p.nc, p.algorithm })
    bound(again)
    w:finish(flow)
    flow = register()
    again = w:take "REGISTER"
    assert.equal("00000002", check(again, "authorization").nc)
    bound(again, 'Authentication-Info: nextnonce="n2"')
    w:finish(flow)
    flow = register()
    again = w:take "REGISTER"
    p = check(again, "authorization")
    assert.same({ "n2", "00000001" }, { p.nonce, p.nc })
    -- a new nonce without "stale"
    challenge(again, 401, 'nonce="n3", qop="auth"')
    again = w:take "REGISTER"
    assert.equal("n3", check(again, "authorization").nonce)
    bound(again)
    assert.equal(200, w:finish(flow).status)
  end)

  it("of proxy and server, in a row, is answered to both", function()
    open()
    local flow = w:go(function()
      return w.ua:request("MESSAGE", { uri = "sip:bob@x", body = "hi" })
    end)
    challenge(w:take "MESSAGE", 407, 'nonce="p1", qop="auth"')
    local m = w:take "MESSAGE"
    check(m, "proxy-authorization")
    challenge(m, 401, 'nonce="s1", qop="auth"')
    m = w:take "MESSAGE"
    assert.equal("p1", check(m, "proxy-authorization").nonce)
    assert.equal("s1", check(m, "authorization").nonce)
    assert.same({ "3 MESSAGE" }, m.headers.cseq)
    w:answer(m, 200)
    assert.equal(200, w:finish(flow).status)
  end)

  for _, status in ipairs { 401, 407 } do
    it("ends with the second " .. status .. " for a wrong password", function()
      open()
      local flow = register()
      challenge(w:take "REGISTER", status, 'nonce="n1", qop="auth"')
      challenge(w:take "REGISTER", status, 'nonce="n2", qop="auth"')
      local _, err, code, info = w:finish(flow)
      assert.same({ ("status: %d Told"):format(status), "status", status },
        { err, code, info.response.status })
      w:nothing()
    end)
  end

  it("that is always stale ends too", function()
    open()
    local flow = w:go(function()
      return w.ua:request("OPTIONS", { uri = "sip:x" })
    end)
    for i = 1, 4 do
      challenge(w:take "OPTIONS", 401, ('nonce="n%d", stale=true'):format(i))
    end
    assert.equal(401, w:finish(flow).status)
    w:nothing()
  end)

  it("is the final response to who has no password", function()
    w = sip_peer.open()
    local flow = w:go(function()
      return w.ua:request("OPTIONS", { uri = "sip:x" })
    end)
    challenge(w:take "OPTIONS", 401, 'nonce="n"')
    assert.equal(401, w:finish(flow).status)
    w:nothing()
  end)

  it("of an INVITE is acknowledged, answered, and repeated in the ACK",
    function()
      open()
      local call = w:finish(w:go(function()
        return w.ua:invite("sip:bob@x", { body = "v=0\r\n" })
      end))
      local m = w:take "INVITE"
      challenge(m, 407, 'nonce="n", qop="auth"')
      assert.equal(m.branch, w:take "ACK".branch)
      local again = w:take "INVITE"
      challenge(m, 407, 'nonce="n", qop="auth"') -- a copy
      assert.equal(m.branch, w:take "ACK".branch)
      check(again, "proxy-authorization")
      assert.same({ m.call_id, { "2 INVITE" }, m.body, m.headers.from },
        { again.call_id, again.headers.cseq, again.body, again.headers.from })
      w:answer(again, 200, { "Contact: <sip:bob@peer.invalid>" })
      local flow = w:go(function()
        local ok = assert(call:wait(200))
        assert(call:ack())
        return ok
      end)
      assert.equal(200, w:finish(flow).status)
      local ack = w:take "ACK"
      assert.same({ "2 ACK" }, ack.headers.cseq)
      assert.same(again.headers["proxy-authorization"],
        ack.headers["proxy-authorization"])
      flow = w:go(function() return call:bye() end)
      local bye = w:take "BYE"
      assert.equal("00000002", check(bye, "proxy-authorization").nc)
      assert.same({ "3 BYE" }, bye.headers.cseq)
      w:answer(bye, 200)
      w:finish(flow)
    end)

  it("comes too late for a call that was cancelled", function()
    open()
    local call = w:finish(w:go(function() return w.ua:invite "sip:bob@x" end))
    local m = w:take "INVITE"
    w:answer(m, 100)
    w:finish(w:go(function()
      assert(call:wait(100))
      assert(call:cancel())
    end))
    w:answer(w:take "CANCEL", 200)
    challenge(m, 401, 'nonce="n"')
    w:take "ACK"
    assert.equal(401, w:finish(w:go(function() return call:wait() end)).status)
    w:nothing()
  end)
end)
