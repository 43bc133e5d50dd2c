-- SPDX-License-Identifier: MIT
-- The way of a call's requests, and their numbers (RFC 3261 sections 12, 14
-- and 15).

local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local w
local CONTACT = "Contact: <sip:bob@peer.invalid;alias=1.2.3.4~5~6>"

local function invite(given)
  local call = w:finish(w:call(w.ua, "invite", "sip:bob@example.org", given))
  return call, w:take "INVITE"
end

-- A call that was answered with these header lines, and acknowledged.
local function talk(lines, options)
  w = sip_peer.open(options)
  local call, request = invite { body = "v=0\r\n" }
  lines = lines or { CONTACT }
  w:answer(request, 200, lines)
  assert.equal(200, w:finish(w:call(call, "wait", 200)).status)
  assert.is_true(w:finish(w:call(call, "ack")))
  return call, w:take "ACK", request
end

-- A request of the other side within that call.
local function within(request, more)
  more.call_id, more.from_tag = request.call_id, more.from_tag or "peer"
  more.to_tag = request.headers.from[1]:match ";tag=(%w+)$"
  return more
end

sip_peer.describe("a dialog", function()
  it("takes the recorded route, the nearest first, two in one line too",
    function()
      local call, ack = talk { CONTACT,
        'Record-Route: <sip:far;lr>, "x,y" <sip:mid;lr=on>;p=1',
        "Record-Route: <sip:near:5060;transport=ws;lr>" }
      local flow = w:call(call, "bye")
      local bye = w:take "BYE"
      for _, m in ipairs { ack, bye } do
        assert.equal("sip:bob@peer.invalid;alias=1.2.3.4~5~6", m.uri)
        assert.same({ "<sip:near:5060;transport=ws;lr>",
          '"x,y" <sip:mid;lr=on>;p=1', "<sip:far;lr>" }, m.headers.route)
      end
      w:answer(bye, 200)
      w:finish(flow)
    end)

  it("sends a strict router what it wants (RFC 2543)", function()
    local _, ack = talk { CONTACT,
      "Record-Route: <sip:far;lr>", "Record-Route: <sip:strict>" }
    assert.equal("sip:strict", ack.uri)
    assert.same({ "<sip:far;lr>",
      "<sip:bob@peer.invalid;alias=1.2.3.4~5~6>" }, ack.headers.route)
  end)

  for _, uri in ipairs { "sip:bob@my_pbx:5060", "sip:*1#2@h", "sip:b@h;x=a=b" }
  do
    it("goes to a Contact that no grammar allows: " .. uri, function()
      local _, ack = talk { "Contact: <" .. uri .. ">" }
      assert.equal(uri, ack.uri)
    end)
  end

  for _, status in ipairs { 200, 486 } do
    it("repeats an address without brackets with its tag after a " .. status,
      function()
        w = sip_peer.open()
        local call, request = invite()
        request.headers.to[1] = "sip:bob@example.org;tag=a=/b"
        w:answer(request, status, { CONTACT })
        w:finish(w:call(call, "wait", status))
        w:finish(w:call(call, "ack"))
        assert.same({ "<sip:bob@example.org>;tag=a=/b" },
          w:take "ACK".headers.to)
      end)
  end

  it("of the called one repeats addresses without brackets with tags",
    function()
      w = sip_peer.open()
      w:send("INVITE " .. w.ua.contact:match "<(.-)>" .. " SIP/2.0\r\n" ..
        "Via: SIP/2.0/WS peer.invalid;branch=z9hG4bK1\r\nCall-ID: in\r\n" ..
        "From: sip:bob@example.org;tag=a/b\r\nTo: sip:alice@example.org\r\n" ..
        "CSeq: 1 INVITE\r\nContact: sip:bob@peer\r\n\r\n")
      local call = w:reply(w:receive(), 200)
      local tag = w:take(200).headers.to[1]:match "^sip:.*;tag=(%w+)$"
      w:request("ACK", { call_id = "in", from_tag = "a/b", to_tag = tag })
      w:call(call, "bye")
      local bye = w:take "BYE"
      assert.same({ "<sip:bob@example.org>;tag=a/b" }, bye.headers.to)
      assert.same({ "<sip:alice@example.org>;tag=" .. tag }, bye.headers.from)
      w:answer(bye, 200)
    end)

  it("of the called one takes the route as it is", function()
    w = sip_peer.open()
    w:request("INVITE", { call_id = "in", "Record-Route: <sip:near;lr>",
      "Record-Route: <sip:mid;lr>,<sip:far;lr>" })
    local req = w:finish(w:call(w.ua, "receive"))
    local call = w:finish(w:call(req, "reply", 200))
    local m = w:take(200)
    assert.equal(2, #m.headers["record-route"])
    local tag = m.headers.to[1]:match ";tag=(%w+)"
    w:request("ACK", { call_id = "in", to_tag = tag })
    local flow = w:call(call, "bye")
    local bye = w:take "BYE"
    assert.same({ "<sip:near;lr>", "<sip:mid;lr>", "<sip:far;lr>" },
      bye.headers.route)
    assert.equal("sip:bob@peer.invalid;transport=ws", bye.uri)
    assert.same({ "<sip:alice@example.org>;tag=" .. tag }, bye.headers.from)
    assert.same({ "<sip:bob@example.org>;tag=peer" }, bye.headers.to)
    w:answer(bye, 200)
    w:finish(flow)
  end)

  it("counts its requests on from the INVITE", function()
    local call, _, request = talk()
    for i = 2, 4 do
      local flow = w:call(call, "info", { body = "5", headers =
        { { "X", i } }, content_type = "application/dtmf" })
      local m = w:take "INFO"
      assert.same({ { i .. " INFO" }, { tostring(i) }, { "application/dtmf" },
        request.call_id, request.headers.from, "5" }, { m.headers.cseq,
        m.headers.x, m.headers["content-type"], m.call_id, m.headers.from,
        m.body })
      assert.matches(";tag=peer$", m.headers.to[1])
      w:answer(m, 200)
      assert.equal(200, w:finish(flow).status)
    end
  end)

  it("hears requests of the other side, of this dialog only", function()
    local call, _, request = talk()
    w:request("INFO", within(request, { cseq = 77 }))
    local req = w:finish(w:call(call, "receive", 5))
    assert.equal("INFO", req.method)
    w:finish(w:call(req, "reply", 200))
    w:take(200)
    for _, used in ipairs { 77, 76 } do
      w:request("INFO", within(request, { cseq = used }))
      w:take(500)
    end
    w:request("INFO", within(request, { cseq = 80, from_tag = "other" }))
    w:take(481)
    w:request("BYE", within(request, { cseq = 78 }))
    w:take(200)
    assert.equal("ended", call.state)
  end)

  it("ends when the other side knows no such call", function()
    local call = talk()
    local flow = w:call(call, "info")
    w:answer(w:take "INFO", 481)
    assert.equal(481, w:finish(flow).status)
    local _, err, code, info = w:finish(w:call(call, "wait", "BYE"))
    assert.same({ "status: 481 Told", "status", 481 },
      { err, code, info.response.status })
    local _, _, state = w:finish(w:call(call, "bye"))
    assert.equal("state", state)
  end)

  it("may be early: requests go there, the 2xx decides", function()
    w = sip_peer.open()
    local call, request = invite()
    w:answer(request, 183, { tag = "one", "Contact: <sip:one@x>",
      "Record-Route: <sip:p;lr>" })
    w:finish(w:call(call, "wait", 183))
    local flow = w:call(call, "request", "UPDATE")
    local m = w:take "UPDATE"
    assert.same({ "sip:one@x", { "<sip:p;lr>" }, { "2 UPDATE" } },
      { m.uri, m.headers.route, m.headers.cseq })
    assert.same({ w.ua.contact }, m.headers.contact)
    w:answer(m, 200)
    w:finish(flow)
    w:answer(request, 200, { tag = "two", "Contact: <sip:two@x>" })
    w:finish(w:call(call, "wait", 200))
    w:finish(w:call(call, "ack"))
    m = w:take "ACK"
    assert.same({ "sip:two@x" }, { m.uri, m.headers.route })
    assert.matches(";tag=two$", m.headers.to[1])
  end)

  it("that was early goes on counting", function()
    w = sip_peer.open()
    local call, request = invite()
    w:answer(request, 183, { CONTACT })
    w:finish(w:call(call, "wait", 183))
    local flow = w:call(call, "request", "PRACK")
    w:answer(w:take "PRACK", 200)
    w:finish(flow)
    w:request("UPDATE", within(request, { cseq = 7 }))
    w:reply(w:finish(w:call(call, "receive", 5)), 200)
    w:take(200)
    for _, status in ipairs { 180, 200 } do
      w:answer(request, status, { CONTACT })
      w:finish(w:call(call, "wait", status))
    end
    w:finish(w:call(call, "ack"))
    assert.same({ "1 ACK" }, w:take "ACK".headers.cseq)
    w:request("INFO", within(request, { cseq = 7 }))
    w:take(500)
    w:call(call, "bye")
    local bye = w:take "BYE"
    assert.same({ "3 BYE" }, bye.headers.cseq)
    w:answer(bye, 200)
  end)
end)

sip_peer.describe("bye()", function()
  it("sends the ACK that is missing", function()
    w = sip_peer.open()
    local call, request = invite()
    w:answer(request, 200, { CONTACT })
    w:finish(w:call(call, "wait", 200))
    local flow = w:call(call, "bye")
    w:take "ACK"
    w:answer(w:take "BYE", 200)
    assert.equal(200, w:finish(flow).status)
    w:answer(request, 200, { CONTACT })
    w:take "ACK"
    w:nothing()
  end)

  it("ends the call even without an answer", function()
    local call = talk(nil, { t1 = sip_peer.T1 })
    local _, err, code = w:finish(w:call(call, "bye"))
    assert.same({ sip_peer.no_answer "response", "timeout" },
      { err, code })
    assert.equal("ended", call.state)
    w:take "BYE"
  end)
end)

sip_peer.describe("reinvite()", function()
  it("acknowledges by itself and goes on at the new address", function()
    local call = talk()
    local flow = w:call(call, "reinvite", { body = "v=1\r\n",
      ack = { headers = { { "X-Ack", "1" } } } })
    local m = w:take "INVITE"
    assert.same({ { "2 INVITE" }, "v=1\r\n", { w.ua.contact } },
      { m.headers.cseq, m.body, m.headers.contact })
    w:answer(m, 100)
    for _ = 1, 2 do
      w:answer(m, 200, { "Contact: <sip:bob@moved.invalid>" })
      local ack = w:take "ACK"
      assert.same({ "sip:bob@moved.invalid", { "2 ACK" }, { "1" } },
        { ack.uri, ack.headers.cseq, ack.headers["x-ack"] })
    end
    assert.equal(200, w:finish(flow).status)
    flow = w:call(call, "reinvite") -- no Contact: no move
    w:answer(w:take "INVITE", 200)
    w:take "ACK"
    w:finish(flow)
    flow = w:call(call, "info")
    m = w:take "INFO"
    assert.same({ "sip:bob@moved.invalid", { "4 INFO" } },
      { m.uri, m.headers.cseq })
    w:answer(m, 200)
    w:finish(flow)
  end)

  it("that is refused leaves the call as it was", function()
    local call = talk()
    local flow = w:call(call, "reinvite")
    local m = w:take "INVITE"
    w:answer(m, 488, { "Contact: <sip:bob@moved.invalid>" })
    w:take "ACK"
    assert.equal(488, w:finish(flow).status)
    assert.equal("confirmed", call.state)
    w:nothing()
  end)

  it("and one of theirs at the same time: 491", function()
    local call, _, request = talk()
    local flow = w:call(call, "reinvite")
    local m = w:take "INVITE"
    local _, _, code = w:finish(w:call(call, "reinvite"))
    assert.equal("state", code)
    local theirs = within(request, { cseq = 5, branch = "z9hG4bKglare" })
    w:request("INVITE", theirs)
    w:take(491)
    w:request("ACK", theirs)
    w:answer(m, 491)
    w:take "ACK"
    assert.equal(491, w:finish(flow).status)
  end)

  it("that takes too long is cancelled, and still acknowledged", function()
    local call = talk()
    local flow = w:call(call, "reinvite", { timeout = 0.01 })
    local m = w:take "INVITE"
    local _, err, code = w:finish(flow)
    assert.same({ "timeout: no final response within 0.01 s", "timeout" },
      { err, code })
    w:answer(m, 100)
    w:take "CANCEL"
    w:answer(m, 200, { CONTACT })
    assert.same({ "2 ACK" }, w:take "ACK".headers.cseq)
  end)
end)
