-- SPDX-License-Identifier: MIT
-- Calls that come to a user agent, message by message (RFC 3261 sections 9.2,
-- 13.3 and 17.2.1, RFC 6026).

local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  w = sip_peer.open(options)
  return w
end
-- An INVITE that came; its fields.
local function invited(more)
  more = more or {}
  w:request("INVITE", more)
  return w:receive(), more
end

local function tag_of(message)
  return message.headers.to[1]:match ";tag=(%w+)$"
end

-- A call that came, was answered and acknowledged; the fields of its dialog.
local function talk(more)
  more = more or {}
  more.call_id, more.branch = more.call_id or "talk", "z9hG4bKtalk"
  local req = invited(more)
  local call = w:reply(req, 200, { body = "v=0\r\n" })
  local m = w:take(200)
  local dialog = { call_id = "talk", to_tag = tag_of(m) }
  w:request("ACK", dialog)
  assert.equal("ACK", w:finish(w:call(call, "wait", "ACK", 5)).method)
  return call, dialog, m
end

sip_peer.describe("an INVITE that comes", function()
  it("gets a 100 when nothing else is said for long", function()
    open()
    local req, fields = invited { branch = "z9hG4bKslow", call_id = "slow" }
    w:take(100)
    w:request("INVITE", fields)
    assert.is_nil(tag_of(w:take(100)))
    w:reply(req, 180)
    local ringing = w:take(180)
    w:request("INVITE", fields)
    assert.equal(ringing.raw, w:take(180).raw)
    w:reply(req, 603)
    w:take(603)
  end)

  it("makes an early dialog with one tag, and a call", function()
    open()
    local req = invited()
    local call = w:reply(req, 180)
    local ringing = w:take(180)
    assert.same({ "early", 180 }, { call.state, call.status })
    assert.equal(call, w:reply(req, 183, { body = "v=0\r\n" }))
    local progress = w:take(183)
    assert.equal(call, w:reply(req, 200, { body = "v=0\r\n" }))
    local answered = w:take(200)
    assert.is_string(tag_of(ringing))
    for _, m in ipairs { progress, answered } do
      assert.equal(tag_of(ringing), tag_of(m))
      assert.same({ w.ua.contact }, m.headers.contact)
      assert.same({ "application/sdp" }, m.headers["content-type"])
    end
    assert.equal("confirmed", call.state)
    assert.equal(call, req.call)
  end)

  it("that is refused has its answer repeated until the ACK", function()
    open()
    local req, fields = invited { branch = "z9hG4bKno", call_id = "no" }
    assert.is_true(w:reply(req, 486))
    local busy = w:take(486)
    w:request("INVITE", fields)
    assert.equal(busy.raw, w:take(486).raw)
    local seen = w:strays()
    w:request("ACK", fields)
    w:nothing()
    assert.same({}, seen)
    w:request("ACK", fields)
    run_until(function() return seen[1] end)
  end)

  it("has its 2xx repeated, twice as slowly each time, until the ACK",
    function()
      open { t1 = 0.02 }
      local req, fields = invited { branch = "z9hG4bKok", call_id = "ok" }
      local call = w:reply(req, 200)
      local first = w:take(200)
      for _ = 1, 3 do assert.equal(first.raw, w:take(200).raw) end
      local bye = w:call(call, "bye") -- not before the ACK
      local seen = w:strays()
      w:request("INVITE", fields) -- is absorbed
      w:request("ACK", { call_id = "ok", to_tag = tag_of(first), cseq = 7 })
      run_until(function() return seen[1] end)
      for _ = 1, 2 do assert.equal(first.raw, w:take(200).raw) end
      w:request("ACK", { call_id = "ok", to_tag = tag_of(first) })
      local m
      repeat -- one more copy may be under way
        run_until(function() return w.got[1] end)
        m = table.remove(w.got, 1)
      until m.method
      assert.equal("BYE", m.method)
      w:answer(m, 200)
      assert.equal(200, w:finish(bye).status)
      w:request("INVITE", fields)
      w:request("ACK", { call_id = "ok", to_tag = tag_of(first) })
      w:nothing()
      assert.equal(1, #seen)
      assert.is_nil(w:finish(w:call(w.ua, "receive", 0)))
    end)

  it("may be hung up before its ACK, which comes then", function()
    open()
    local call = w:reply(invited { call_id = "fast" }, 200)
    local seen = w:strays()
    local dialog = { call_id = "fast", to_tag = tag_of(w:take(200)), cseq = 2 }
    w:request("BYE", dialog)
    w:take(200)
    dialog.cseq = 1
    w:request("ACK", dialog)
    w:nothing()
    assert.same({}, seen)
    assert.equal("ended", call.state)
  end)

  it("cannot be answered when the connection is gone", function()
    open()
    local req, ringing = invited(), invited()
    local call = w:reply(ringing, 180)
    w.peer:disconnect()
    run_until(function() return call.state == "ended" end)
    for _, each in ipairs { req, ringing } do
      local _, err, code = w:reply(each, 200)
      assert.same({ "closed: connection closed by peer", "closed" },
        { err, code })
    end
  end)

  it("takes an ACK of the same branch, as some send it", function()
    open()
    local req, fields = invited { branch = "z9hG4bKold", call_id = "old" }
    local call = w:reply(req, 200)
    fields.to_tag = tag_of(w:take(200))
    w:request("ACK", fields)
    assert.equal("ACK", w:finish(w:call(call, "wait", "ACK", 5)).method)
    w:request("INVITE", fields)
    w:nothing()
  end)

  it("whose 2xx gets no ACK is hung up after 64 T1", function()
    open { t1 = sip_peer.T1 }
    local call = w:reply(invited(), 200)
    local flow = w:call(call, "wait", "ACK")
    local count, m = 0, nil
    repeat
      run_until(function() return w.got[1] end)
      m = table.remove(w.got, 1)
      count = count + 1
    until m.method
    assert.equal("BYE", m.method)
    -- after 1, 3, 7, 15, 23, 31, 39, 47, 55, 63 of T1
    assert.equal(1 + 10 + 1, count)
    w:answer(m, 200)
    local _, err, code = w:finish(flow)
    assert.same({ sip_peer.no_answer "ACK", "timeout" }, { err, code })
    assert.same({ "ended", "timeout" }, { call.state, call.code })
    w:nothing()
  end)

  for _, ringing in ipairs { false, true } do
    it("may be cancelled " .. (ringing and "while it rings" or "before that"),
      function()
        open()
        local req, fields = invited { branch = "z9hG4bKgone", call_id = "gone" }
        local call = ringing and w:reply(req, 180)
        local flow = ringing and w:call(call, "wait", "CANCEL")
        local ring = ringing and w:take(180)
        w:request("CANCEL", fields)
        local m = w:take(200)
        assert.same({ "1 CANCEL" }, m.headers.cseq)
        local gone = w:take(487)
        assert.same({ "1 INVITE" }, gone.headers.cseq)
        assert.equal(tag_of(m), tag_of(gone))
        if ringing then
          assert.equal(tag_of(ring), tag_of(gone))
          assert.equal("CANCEL", w:finish(flow).method)
          local _, err, code = w:finish(w:call(call, "wait", "BYE"))
          assert.same({ "ended: the caller gave up (CANCEL)", "ended" },
            { err, code })
          assert.equal("ended", call.state)
        end
        assert.is_true(req.cancelled)
        local _, err, code = w:reply(req, 200)
        assert.same({ "state: the caller gave up (CANCEL)", "state" },
          { err, code })
        w:request("ACK", fields)
        w:request("CANCEL", fields) -- its transaction is over
        w:take(481)
        w:nothing()
      end)
  end

  it("that is answered cannot be cancelled any more", function()
    open()
    local req, fields = invited { branch = "z9hG4bKlate", call_id = "late" }
    local call = w:reply(req, 200)
    local m = w:take(200)
    w:request("CANCEL", fields)
    assert.same({ "1 CANCEL" }, w:take(200).headers.cseq)
    assert.is_nil(req.cancelled)
    w:request("ACK", { call_id = "late", to_tag = tag_of(m) })
    w:nothing()
    assert.equal("confirmed", call.state)
  end)
end)

sip_peer.describe("a call that came", function()
  it("ends by a BYE of theirs", function()
    open()
    local call, dialog = talk()
    local flow = w:call(call, "wait", "BYE")
    dialog.cseq = 2
    w:request("BYE", dialog)
    w:take(200)
    assert.equal("BYE", w:finish(flow).method)
    assert.equal("ended", call.state)
    local _, err, code = w:finish(w:call(call, "wait", "CANCEL"))
    assert.same({ "ended: the other side hung up (BYE)", "ended" },
      { err, code })
    _, err, code = w:finish(w:call(call, "receive"))
    assert.same({ "ended: the other side hung up (BYE)", "ended" },
      { err, code })
    dialog.cseq = 3
    w:request("INFO", dialog)
    w:take(481)
  end)

  it("ends by a BYE before it was answered", function()
    open()
    local req = invited { call_id = "early" }
    local call = w:reply(req, 180)
    local dialog = { call_id = "early", to_tag = tag_of(w:take(180)), cseq = 2 }
    w:request("BYE", dialog)
    assert.same({ "2 BYE" }, w:take(200).headers.cseq)
    assert.same({ "1 INVITE" }, w:take(487).headers.cseq)
    assert.equal("ended", call.state)
  end)

  it("gives requests to w:receive() or to a function", function()
    open()
    local call, dialog = talk()
    dialog.cseq, dialog.body = 2, "one"
    w:request("INFO", dialog)
    local req = w:finish(w:call(call, "receive", 5))
    assert.same({ "INFO", "one", call }, { req.method, req.body, req.call })
    w:reply(req, 200)
    w:take(200)
    call:on("MESSAGE", (helper.counted(function(m)
      m:reply(m.body == "two" and 200 or 500)
    end)))
    dialog.cseq, dialog.body = 3, "two"
    w:request("MESSAGE", dialog)
    w:take(200)
    dialog.cseq = 4
    w:request("OPTIONS", dialog)
    assert.equal("OPTIONS", w:finish(w:call(call, "receive", 5)).method)
  end)

  it("refuses what nobody takes, and what is late or too early", function()
    open { patience = 0 }
    w.ua:on("INVITE", function(req) req:reply(200) end)
    w:request("INVITE", { call_id = "talk" })
    local dialog = { call_id = "talk", to_tag = tag_of(w:take(200)), cseq = 2 }
    w:request("INVITE", dialog) -- before the ACK
    assert.is_string(w:take(500).headers["retry-after"][1])
    dialog.cseq = 1
    w:request("ACK", dialog)
    w:request("INFO", dialog) -- its number was used
    w:take(500)
    for i, case in ipairs { { "INVITE", 488 }, { "INFO", 405 },
      { "DANCE", 501 }, { "OPTIONS", 200 } } do
      dialog.cseq = 10 + i
      w:request(case[1], dialog)
      assert.same({ dialog.cseq .. " " .. case[1] },
        w:take(case[2]).headers.cseq)
    end
    dialog.cseq, dialog.from_tag = 20, "stranger"
    w:request("BYE", dialog)
    w:take(481)
  end)

  it("goes on when a change of it is cancelled", function()
    open()
    local call, dialog = talk()
    dialog.cseq, dialog.branch = 2, "z9hG4bKre"
    w:request("INVITE", dialog)
    local req = w:finish(w:call(call, "receive", 5))
    w:request("CANCEL", dialog)
    w:take(200)
    w:take(487)
    w:request("ACK", dialog)
    assert.same({ true, "confirmed" }, { req.cancelled, call.state })
    dialog.cseq, dialog.branch = 3, nil
    w:request("BYE", dialog)
    w:take(200)
  end)

  it("knows the number of its INVITE", function()
    open()
    local call = w:reply(invited { call_id = "five", cseq = 5 }, 180)
    local dialog = { call_id = "five", to_tag = tag_of(w:take(180)), cseq = 4 }
    w:request("INFO", dialog)
    w:take(500)
    assert.equal("early", call.state)
  end)

  it("waits for the ACK of the last INVITE", function()
    open()
    local call, dialog = talk()
    dialog.cseq = 8
    w:request("INVITE", dialog)
    local req = w:finish(w:call(call, "receive", 5))
    w:reply(req, 200)
    w:take(200)
    local flow = w:call(call, "wait", "ACK")
    w:nothing()
    assert.is_nil(flow.results)
    w:request("ACK", dialog)
    assert.equal(8, w:finish(flow).cseq.number)
  end)

  it("can be changed by them, and goes on at their new address", function()
    open()
    local call, dialog = talk()
    call:on("INVITE", (helper.counted(function(req)
      req:reply(200, { body = "v=0\r\n" })
    end)))
    dialog.cseq, dialog.no_contact = 2, true
    dialog[1] = "Contact: <sip:bob@new.invalid>"
    w:request("INVITE", dialog)
    local m = w:take(200)
    assert.same({ w.ua.contact }, m.headers.contact)
    w:request("ACK", dialog)
    local flow = w:call(call, "bye")
    local bye = w:take "BYE"
    assert.equal("sip:bob@new.invalid", bye.uri)
    assert.same({ "1 BYE" }, bye.headers.cseq)
    dialog.cseq = 3
    w:request("INFO", dialog)
    w:take(481)
    dialog.cseq = 4
    w:request("BYE", dialog) -- at the same time
    w:take(200)
    w:answer(bye, 200)
    assert.equal(200, w:finish(flow).status)
    assert.equal("ended", call.state)
  end)
end)
