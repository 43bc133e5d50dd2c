-- SPDX-License-Identifier: MIT
-- Requests and calls that a user agent sends, message by message (RFC 3261
-- sections 9, 13 and 17.1, RFC 6026).

local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  w = sip_peer.open(options)
  return w
end
local function ask(method, given)
  given = given or {}
  given.uri = given.uri or "sip:bob@example.org"
  return w:go(function() return w.ua:request(method or "OPTIONS", given) end)
end

local function invite(given)
  local call = w:finish(w:go(function()
    return assert(w.ua:invite("sip:bob@example.org", given))
  end))
  return call, w:take "INVITE"
end

local function wait(call, ...)
  local arguments = { ... }
  return w:go(function() return call:wait(arguments[1], arguments[2]) end)
end

-- A call that was answered, and acknowledged.
local function talk(more)
  local call, request = invite { body = "v=0\r\n" }
  more = more or { "Contact: <sip:bob@peer.invalid>" }
  w:answer(request, 200, more)
  assert.equal(200, w:finish(wait(call, 200)).status)
  w:finish(w:go(function() assert(call:ack()) end))
  return call, request, w:take "ACK"
end

sip_peer.describe("a request", function()
  it("is as RFC 3261 section 8.1.1 wants it, and gets its response", function()
    open { display_name = 'A "B"', headers = { { "X-All", "1" } },
      route = { "<sip:proxy;lr>" } }
    local flow = ask("MESSAGE", { body = "h\195\164", to = "<sip:x@y>",
      headers = { { "X-One", 2 } } })
    local m = w:take "MESSAGE"
    assert.equal("sip:bob@example.org", m.uri)
    assert.matches("^SIP/2%.0/WS %x+%.invalid;branch=z9hG4bK%w+$",
      m.headers.via[1])
    assert.matches('^"A \\"B\\"" <sip:alice@example%.org>;tag=%w+$',
      m.headers.from[1])
    assert.same({ { "<sip:x@y>" }, { "1 MESSAGE" }, { "70" }, { "1" }, { "2" },
      { "text/plain" }, { "<sip:proxy;lr>" } }, { m.headers.to, m.headers.cseq,
      m.headers["max-forwards"], m.headers["x-all"], m.headers["x-one"],
      m.headers["content-type"], m.headers.route })
    assert.is_nil(m.headers.contact)
    assert.equal("h\195\164", m.body)
    w:answer(m, 100)
    w:answer(m, 404, { reason = "No Bob" })
    local response, err = w:finish(flow)
    assert.same({ 404, "No Bob", nil },
      { response.status, response.reason, err })
    local seen = w:strays()
    w:answer(m, 404)
    run_until(function() return seen[1] end)
    assert.same({ "response to nothing", 404 }, { seen[1], seen.last.status })
    w:nothing()
  end)

  it("tells them apart by branch and method", function()
    open()
    local one, two = ask(), ask "MESSAGE"
    local first, second = w:take "OPTIONS", w:take "MESSAGE"
    assert.not_equal(first.branch, second.branch)
    assert.not_equal(first.call_id, second.call_id)
    local seen = w:strays()
    local fake = { headers = {} }
    for name, value in pairs(first.headers) do fake.headers[name] = value end
    fake.headers.cseq = { "1 MESSAGE" }
    w:answer(fake, 200)
    fake.headers.cseq = first.headers.cseq
    fake.headers.via = { first.headers.via[1], "SIP/2.0/WS other.invalid" }
    w:answer(fake, 200)
    w:answer(second, 202)
    w:answer(first, 201)
    assert.equal(201, w:finish(one).status)
    assert.equal(202, w:finish(two).status)
    assert.same({ "response to nothing", "response to nothing" },
      { seen[1], seen[2] })
  end)

  it("ends after 64 T1, provisional or not; what is late is stray", function()
    open { t1 = sip_peer.T1 }
    local seen = w:strays()
    local silent, slow = ask(), ask()
    local one, two = w:take "OPTIONS", w:take "OPTIONS"
    w:answer(two, 100)
    for _, flow in ipairs { silent, slow } do
      local response, err, code, info = w:finish(flow)
      assert.is_nil(response)
      assert.same({ sip_peer.no_answer "response", "timeout", {} },
        { err, code, info })
    end
    w:answer(one, 200)
    run_until(function() return seen[1] end)
    assert.same({ "response to nothing", 200 }, { seen[1], seen.last.status })
  end)

  it("has a time limit of its own", function()
    open()
    local seen = w:strays()
    local response, err, code = w:finish(ask("OPTIONS", { timeout = 0.01 }))
    assert.is_nil(response)
    assert.same({ "timeout: no final response within 0.01 s", "timeout" },
      { err, code })
    w:answer(w:take "OPTIONS", 200)
    run_until(function() return seen[1] end)
  end)

  it("fails at once when the connection does, as does all else", function()
    open()
    local call = invite()
    local flows = { ask(), wait(call, 200),
      w:go(function() return w.ua:receive() end) }
    w:take "OPTIONS"
    w.peer:disconnect()
    for _, flow in ipairs(flows) do
      local result, err, code, info = w:finish(flow)
      assert.is_nil(result)
      assert.same({ "closed: connection closed by peer", "closed", 1000 },
        { err, code, info.close_code })
    end
    local result, err, code, info = w:finish(ask())
    assert.same({ "closed: connection closed by peer", "closed", 1000 },
      { err, code, info.close_code }, result)
    assert.equal("ended", call.state)
    assert.equal("closed", call.code)
  end)

  it("fails when we close the connection", function()
    open()
    local flow = ask()
    w:take "OPTIONS"
    w:go(function() w.c:close() end)
    local _, err, code = w:finish(flow)
    assert.same({ "closed: the connection was closed here", "closed" },
      { err, code })
  end)

  it("waits for room in the send queue", function()
    open()
    local body, flows = ("x"):rep(400000), {}
    for i = 1, 40 do flows[i] = ask("MESSAGE", { body = body }) end
    for i = 1, 40 do
      local m = w:take "MESSAGE"
      assert.equal(#body, #m.body)
      w:answer(m, 200 + i)
    end
    for i, flow in ipairs(flows) do
      assert.equal(200 + i, w:finish(flow).status)
    end
  end)

  it("fails when there is no room and the peer reads nothing", function()
    open()
    local endpoint, t, limit = w.ua._endpoint, w.c.transport, 1
    endpoint.backlog_limit = 10000
    endpoint.transport = setmetatable({ stats = function()
      return { queue = limit }
    end, send = function(_, text)
      if limit > 0 or #text > 5000 then
        return nil, "queue_full: no room", "queue_full"
      end
      return t:send(text)
    end }, { __index = t })
    local flows = {}
    for i, size in ipairs { 10, 6000, 20, 6000 } do
      flows[i] = ask("MESSAGE", { body = ("x"):rep(size) })
    end
    local _, err, code = w:finish(flows[4])
    assert.same({ "queue_full: the peer does not read", "queue_full" },
      { err, code })
    limit = 0 -- now it does; one is more than ever fits
    for _, i in ipairs { 1, 3 } do
      w:answer(w:take "MESSAGE", 200)
      assert.equal(200, w:finish(flows[i]).status)
    end
    endpoint.transport = t
  end)
end)

sip_peer.describe("an INVITE", function()
  it("tells each response once, in order, the final one always", function()
    open()
    local call, request = invite { body = "v=0\r\n" }
    assert.equal("calling", call.state)
    assert.same({ "application/sdp" }, request.headers["content-type"])
    assert.matches("^<sip:alice@%x+%.invalid;transport=ws>$",
      request.headers.contact[1])
    for _, status in ipairs { 100, 180, 183, 180, 200 } do
      w:answer(request, status)
    end
    for _, pair in ipairs { { 100, 100 }, { "1xx", 180 }, { 180, 180 },
      { 200, 200 }, { "2xx", 200 }, { nil, 200 } } do
      assert.equal(pair[2], w:finish(wait(call, pair[1])).status)
    end
    local missing, err, code, info = w:finish(wait(call, 183))
    assert.is_nil(missing)
    assert.same({ "status: 200 Told", "status", 200 },
      { err, code, info.response.status })
    assert.equal("confirmed", call.state)
  end)

  it("has the last hundred responses kept", function()
    open()
    local call, m = invite()
    for i = 1, 150 do w:answer(m, 180, { reason = "r" .. i }) end
    w:answer(m, 181)
    w:finish(wait(call, 181))
    assert.equal(100, #call._responses)
    w:answer(m, 180, { reason = "r" })
    assert.equal("r", w:finish(wait(call, 180)).reason)
  end)

  it("is waited for as long as told", function()
    open()
    local call, request = invite()
    local _, err, code = w:finish(wait(call, 180, 0.01))
    assert.same({ "timeout: no 180 within 0.01 s", "timeout" }, { err, code })
    w:answer(request, 180)
    assert.equal(180, w:finish(wait(call, 180, 5)).status)
    assert.equal("early", call.state)
  end)

  it("that is refused is acknowledged by itself, each time", function()
    open { route = { "<sip:p1;lr>", "<sip:p2;lr>" } }
    local call, request = invite()
    w:answer(request, 486, { tag = "busy" })
    local response, err, code, info = w:finish(wait(call, 200))
    assert.is_nil(response)
    assert.same({ "status: 486 Told", "status", 486 },
      { err, code, info.response.status })
    assert.equal(486, w:finish(wait(call)).status)
    w:answer(request, 486, { tag = "busy" })
    for _ = 1, 2 do
      local ack = w:take "ACK"
      assert.equal(request.uri, ack.uri)
      assert.same({ request.headers.via[1] }, ack.headers.via)
      assert.same({ "1 ACK" }, ack.headers.cseq)
      assert.equal(request.headers.to[1] .. ";tag=busy", ack.headers.to[1])
      for _, name in ipairs { "from", "call-id", "route" } do
        assert.same(request.headers[name], ack.headers[name])
      end
      assert.equal(2, #ack.headers.route)
    end
    local seen = w:strays()
    w:answer(request, 200)
    run_until(function() return seen[1] end)
    assert.equal("response to nothing", seen[1])
    w:nothing()
    assert.same({ "ended", 486 }, { call.state, call.status })
    for _, name in ipairs { "ack", "cancel", "bye", "reinvite" } do
      local _, _, state = w:finish(w:go(function() return call[name](call) end))
      assert.equal("state", state, name)
    end
  end)

  it("ends after 64 T1 without any response, but may ring for longer",
    function()
      open { t1 = sip_peer.T1 }
      local silent = invite()
      local ringing, request = invite()
      w:answer(request, 180)
      local _, err, code = w:finish(wait(silent))
      assert.same({ sip_peer.no_answer "response", "timeout" },
        { err, code })
      assert.same({ "ended", "timeout" }, { silent.state, silent.code })
      _, err, code = w:finish(wait(ringing, nil, 0.1))
      assert.equal("timeout: no final response within 0.1 s", err)
      assert.equal("early", ringing.state)
      w:answer(request, 200)
      assert.equal(200, w:finish(wait(ringing)).status)
    end)

  it("has its 2xx acknowledged end to end, again for each copy", function()
    open()
    local call, request, ack = talk()
    assert.equal("sip:bob@peer.invalid", ack.uri)
    assert.not_equal(request.branch, ack.branch)
    assert.same({ "1 ACK" }, ack.headers.cseq)
    assert.matches(";tag=peer$", ack.headers.to[1])
    w:answer(request, 200, { "Contact: <sip:bob@peer.invalid>" })
    assert.equal(ack.raw, w:take "ACK".raw)
    w:finish(w:call(call, "ack"))
    assert.equal(ack.raw, w:take "ACK".raw)
    local seen = w:strays()
    w:answer(request, 486)
    run_until(function() return seen[1] end)
    w:nothing()
    assert.equal("confirmed", call.state)
  end)

  it("takes no answer that nothing can be built on", function()
    open()
    local call, request = invite()
    local seen = w:strays()
    w:answer(request, 200, { "Contact: <sip:b\0b@x>" })
    run_until(function() return seen[1] end)
    assert.matches("^syntax: ", seen[1])
    assert.equal("calling", call.state)
    w:answer(request, 200, { "Contact: <sip:bob@x>" })
    assert.equal(200, w:finish(wait(call)).status)
  end)

  it("is not acknowledged before we want it", function()
    open()
    local call, request = invite()
    w:answer(request, 200)
    w:answer(request, 200)
    w:finish(wait(call, 200))
    w:nothing()
    w:finish(w:go(function() assert(call:ack { body = "v=0\r\n" }) end))
    assert.equal("v=0\r\n", w:take "ACK".body)
    w:nothing()
  end)

  it("that was answered by two has the second one hung up", function()
    open()
    local call, request = talk()
    w:answer(request, 200, { tag = "other", "Contact: <sip:other@y.invalid>" })
    local ack, bye = w:take "ACK", w:take "BYE"
    for _, m in ipairs { ack, bye } do
      assert.equal("sip:other@y.invalid", m.uri)
      assert.matches(";tag=other$", m.headers.to[1])
    end
    assert.same({ { "1 ACK" }, { "2 BYE" } },
      { ack.headers.cseq, bye.headers.cseq })
    w:answer(bye, 200)
    w:answer(request, 200, { tag = "other", "Contact: <sip:other@y.invalid>" })
    w:take "ACK"
    w:nothing()
    assert.equal("confirmed", call.state)
  end)
end)

sip_peer.describe("cancel()", function()
  local function cancel(call)
    return w:finish(w:go(function() return call:cancel() end))
  end

  it("waits for a provisional response, and is sent once", function()
    open { route = { "<sip:p1;lr>" } }
    local call, request = invite()
    assert.is_true(cancel(call))
    assert.is_true(cancel(call))
    w:nothing()
    w:answer(request, 100)
    local m = w:take "CANCEL"
    assert.equal(request.uri, m.uri)
    assert.same({ "1 CANCEL" }, m.headers.cseq)
    for _, name in ipairs { "via", "from", "to", "call-id", "route" } do
      assert.same(request.headers[name], m.headers[name], name)
    end
    assert.is_true(cancel(call))
    w:answer(m, 200)
    w:answer(request, 180)
    w:answer(request, 487)
    w:take "ACK"
    assert.equal(487, w:finish(wait(call, 487)).status)
    w:nothing()
    assert.same({ "ended", 487 }, { call.state, call.status })
  end)

  it("that crosses a 200 ends the call all the same", function()
    open()
    local call, request = invite()
    w:answer(request, 180)
    w:finish(wait(call, 180))
    assert.is_true(cancel(call))
    local m = w:take "CANCEL"
    w:answer(request, 200, { "Contact: <sip:bob@peer.invalid>" })
    w:answer(m, 481)
    w:take "ACK"
    local bye = w:take "BYE"
    assert.equal("sip:bob@peer.invalid", bye.uri)
    w:answer(bye, 200)
    local _, err, code = w:finish(wait(call, 487))
    assert.same({ "status: 200 Told", "status" }, { err, code })
    assert.equal("ended", call.state)
    w:answer(request, 200, { "Contact: <sip:bob@peer.invalid>" })
    w:take "ACK"
    w:nothing()
  end)

  it("is given up after 64 T1 without a final response", function()
    open { t1 = sip_peer.T1 }
    local call, request = invite()
    w:answer(request, 180)
    w:finish(wait(call, 180))
    assert.is_true(cancel(call))
    local _, err, code = w:finish(wait(call))
    assert.same({ sip_peer.no_answer "response after CANCEL",
      "timeout" }, { err, code })
  end)
end)
