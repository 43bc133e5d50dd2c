-- SPDX-License-Identifier: MIT
-- Requests and calls that come to a user agent, message by message (RFC 3261
-- sections 8.2, 9.2, 13.3 and 17.2, RFC 6026).

local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  w = sip_peer.open(options)
  return w
end
local function describe_with_peer(what, fn)
  describe(what, function()
    after_each(function()
      if w then w:close() end
      w = nil
    end)
    fn()
  end)
end

-- Runs one method of an object as a task.
local function call_of(object, method, ...)
  local arguments = { ... }
  return w:go(function()
    return object[method](object, arguments[1], arguments[2])
  end)
end

local function receive() return w:finish(call_of(w.ua, "receive", 5)) end

local function reply(req, ...) return w:finish(call_of(req, "reply", ...)) end

-- An INVITE that came; its fields.
local function invited(more)
  more = more or {}
  w:request("INVITE", more)
  return receive(), more
end

local function tag_of(message)
  return message.headers.to[1]:match ";tag=(%w+)$"
end

-- A call that came, was answered and acknowledged; the fields of its dialog.
local function talk(more)
  more = more or {}
  more.call_id, more.branch = more.call_id or "talk", "z9hG4bKtalk"
  local req = invited(more)
  local call = reply(req, 200, { body = "v=0\r\n" })
  local m = w:take(200)
  local dialog = { call_id = "talk", to_tag = tag_of(m) }
  w:request("ACK", dialog)
  assert.equal("ACK", w:finish(call_of(call, "wait", "ACK", 5)).method)
  return call, dialog, m
end

local function strays()
  local list = {}
  w.ua.on_stray = function(message, why)
    list[#list + 1] = why
    list.last = message
  end
  return list
end

describe_with_peer("a request that comes", function()
  it("is received, read and answered", function()
    open()
    w:request("MESSAGE", { body = "hello", "X-Test: 1", "x-test: 2" })
    local req = receive()
    assert.same({ "MESSAGE", "hello", "1", "peer", nil }, { req.method,
      req.body, req:get "X-Test", req.from.tag, req.call })
    assert.same({ "1", "2" }, req:all "x-test")
    assert.matches("^sipwire%.ua%.request: MESSAGE sip:alice@", tostring(req))
    assert.is_true(reply(req, 200, { reason = "Fine", body = "ok",
      headers = { { "X-Back", "1" } } }))
    local m = w:take(200)
    assert.same({ "Fine", "ok", { "1" }, { "text/plain" } }, { m.reason, m.body,
      m.headers["x-back"], m.headers["content-type"] })
    assert.same({ "SIP/2.0/WS peer.invalid;branch=" .. m.branch },
      m.headers.via)
    assert.is_string(tag_of(m))
    assert.is_nil(m.headers.contact)
    local _, err, code = reply(req, 200)
    assert.same({ "state: the request was answered already", "state" },
      { err, code })
    w:nothing()
  end)

  it("again gets the same answer, and nobody is told", function()
    open()
    local fields = { branch = "z9hG4bKsame", call_id = "same" }
    w:request("MESSAGE", fields)
    local req = receive()
    w:request("MESSAGE", fields)
    w:nothing()
    reply(req, 180)
    local first = w:take(180)
    w:request("MESSAGE", fields)
    assert.equal(first.raw, w:take(180).raw)
    reply(req, 200)
    local final = w:take(200)
    for _ = 1, 2 do
      w:request("MESSAGE", fields)
      assert.equal(final.raw, w:take(200).raw)
    end
    assert.is_nil(w:finish(call_of(w.ua, "receive", 0)))
    -- an INVITE of the same branch is another one
    fields.branch = "z9hG4bKother"
    fields.call_id = "other"
    w:request("MESSAGE", fields)
    assert.equal("MESSAGE", receive().method)
  end)

  it("of before RFC 3261 is told apart by more than its branch", function()
    open()
    w:request("MESSAGE", { branch = "1", call_id = "a" })
    reply(receive(), 200)
    w:take(200)
    w:request("MESSAGE", { branch = "1", call_id = "b" })
    reply(receive(), 202)
    w:take(202)
    w:request("MESSAGE", { branch = "1", call_id = "b" })
    w:take(202)
  end)

  it("by two ways is answered 482 the second time", function()
    open()
    w:request("MESSAGE", { call_id = "merged", branch = "z9hG4bKm1" })
    local req = receive()
    w:request("MESSAGE", { call_id = "merged", branch = "z9hG4bKm2" })
    w:take(482)
    reply(req, 200)
    w:take(200)
  end)

  it("that needs what we cannot do is answered 420", function()
    open { supported = { "path" } }
    w:request("MESSAGE", { "Require: path, 100rel", "Require: timer" })
    assert.same({ "100rel, timer" }, w:take(420).headers.unsupported)
    w:request("MESSAGE", { "Require: PATH" })
    reply(receive(), 200)
    w:take(200)
  end)

  it("whose CSeq names another method is answered 400", function()
    open()
    w:request("MESSAGE", { cseq_method = "INFO" })
    w:take(400)
  end)

  it("with a tag of no dialog is answered 481, an ACK never", function()
    open()
    local seen = strays()
    for _, method in ipairs { "BYE", "INFO", "INVITE", "NOTIFY", "UPDATE" } do
      w:request(method, { to_tag = "nobody" })
      w:take(481)
      if method == "INVITE" then
        w:request("ACK", { to_tag = "nobody" })
      end
    end
    w:request "BYE"
    w:take(481)
    w:request("ACK", { to_tag = "nobody" })
    w:request "ACK"
    run_until(function() return #seen == 3 end)
    assert.same({ "ACK of nothing", "ACK" }, { seen[3], seen.last.method })
    w:request "CANCEL"
    w:take(481)
    w:nothing()
  end)

  it("that is no message, or half of one, goes to on_stray", function()
    open()
    local seen = strays()
    w:send "hello"
    run_until(function() return #seen == 1 end)
    assert.equal("hello", seen.last)
    w:send("OPTIONS sip:x SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n")
    run_until(function() return #seen == 2 end)
    assert.matches("^syntax: ", seen[2])
    w:nothing()
  end)

  it("that on_stray raises for harms nothing", function()
    open()
    w.ua.on_stray = function() error "not mine" end
    w:send "hello"
    local _, err = pcall(run_until, function() return false end)
    assert.matches("not mine", err)
    w.ua.on_stray = nil
    w:send "hello"
    w:request "OPTIONS"
    w:take(200)
  end)
end)

describe_with_peer("a request that nobody takes", function()
  it("is answered as RFC 3261 says", function()
    open { patience = 0 }
    w.ua:on("MESSAGE", helper.never())
    w:request "OPTIONS"
    local m = w:take(200)
    assert.same({ { "OPTIONS, MESSAGE" }, { "application/sdp" } },
      { m.headers.allow, m.headers.accept })
    for _, method in ipairs { "INVITE", "INFO", "SUBSCRIBE", "REGISTER" } do
      local id = w:request(method, { branch = "z9hG4bK" .. method })
      m = w:take(405)
      assert.same({ "OPTIONS, MESSAGE" }, m.headers.allow)
      if method == "INVITE" then
        w:request("ACK", { branch = "z9hG4bKINVITE", call_id = id })
      end
    end
    w:request "DANCE"
    w:take(501)
    w:nothing()
  end)

  it("is kept for receive() for a while", function()
    open { patience = 0.05 }
    w:request "INVITE"
    w:take(405)
    w:request "MESSAGE"
    reply(receive(), 200)
    w:take(200)
    -- somebody receives at times
    w:request "INVITE"
    local m = w:take(480)
    assert.is_string(tag_of(m))
    w:request "OPTIONS"
    assert.same({ "ACK, BYE, CANCEL, INVITE, OPTIONS, INFO, MESSAGE, NOTIFY, " ..
      "REFER, SUBSCRIBE, UPDATE" }, w:take(200).headers.allow)
  end)

  it("is refused at once without patience, but for who waits", function()
    open { patience = 0 }
    w:request "MESSAGE"
    w:take(405)
    local flow = call_of(w.ua, "receive", 5)
    run_until(function() return #w.ua._inbox.waiters == 1 end)
    w:request "MESSAGE"
    assert.equal("MESSAGE", w:finish(flow).method)
  end)
end)

describe_with_peer("an INVITE that comes", function()
  it("gets a 100 when nothing else is said for long", function()
    open()
    local req, fields = invited { branch = "z9hG4bKslow", call_id = "slow" }
    w:take(100)
    w:request("INVITE", fields)
    assert.is_nil(tag_of(w:take(100)))
    reply(req, 180)
    local ringing = w:take(180)
    w:request("INVITE", fields)
    assert.equal(ringing.raw, w:take(180).raw)
    reply(req, 603)
    w:take(603)
  end)

  it("makes an early dialog with one tag, and a call", function()
    open()
    local req = invited()
    local call = reply(req, 180)
    local ringing = w:take(180)
    assert.same({ "early", 180 }, { call.state, call.status })
    assert.equal(call, reply(req, 183, { body = "v=0\r\n" }))
    local progress = w:take(183)
    assert.equal(call, reply(req, 200, { body = "v=0\r\n" }))
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
    assert.is_true(reply(req, 486))
    local busy = w:take(486)
    w:request("INVITE", fields)
    assert.equal(busy.raw, w:take(486).raw)
    local seen = strays()
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
      local call = reply(req, 200)
      local first = w:take(200)
      for _ = 1, 3 do assert.equal(first.raw, w:take(200).raw) end
      local bye = call_of(call, "bye") -- not before the ACK
      w:request("INVITE", fields) -- is absorbed
      w:request("ACK", { call_id = "ok", to_tag = tag_of(first) })
      local m
      repeat -- one more copy may be under way
        run_until(function() return w.got[1] end)
        m = table.remove(w.got, 1)
      until m.method
      assert.equal("BYE", m.method)
      w:answer(m, 200)
      assert.equal(200, w:finish(bye).status)
      w:nothing()
    end)

  it("whose 2xx gets no ACK is hung up after 64 T1", function()
    open { t1 = 0.001 }
    local call = reply(invited(), 200)
    local flow = call_of(call, "wait", "ACK")
    local count, m = 0, nil
    repeat
      run_until(function() return w.got[1] end)
      m = table.remove(w.got, 1)
      count = count + 1
    until m.method
    assert.equal("BYE", m.method)
    assert.is_true(count > 3 and count < 14, count)
    w:answer(m, 200)
    local _, err, code = w:finish(flow)
    assert.same({ "timeout: no ACK within 0.064 s", "timeout" }, { err, code })
    assert.same({ "ended", "timeout" }, { call.state, call.code })
    w:nothing()
  end)

  for _, ringing in ipairs { false, true } do
    it("may be cancelled " .. (ringing and "while it rings" or "before that"),
      function()
        open()
        local req, fields = invited { branch = "z9hG4bKgone", call_id = "gone" }
        local call = ringing and reply(req, 180)
        local flow = ringing and call_of(call, "wait", "CANCEL")
        local ring = ringing and w:take(180)
        w:request("CANCEL", fields)
        local m = w:take(200)
        assert.same({ "1 CANCEL" }, m.headers.cseq)
        local gone = w:take(487)
        assert.same({ "1 INVITE" }, gone.headers.cseq)
        if ringing then
          assert.same({ tag_of(ring), tag_of(ring) },
            { tag_of(m), tag_of(gone) })
          assert.equal("CANCEL", w:finish(flow).method)
          local _, err, code = w:finish(call_of(call, "wait", "BYE"))
          assert.same({ "ended: the caller gave up (CANCEL)", "ended" },
            { err, code })
          assert.equal("ended", call.state)
        end
        assert.is_true(req.cancelled)
        local _, err, code = reply(req, 200)
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
    local call = reply(req, 200)
    local m = w:take(200)
    w:request("CANCEL", fields)
    assert.same({ "1 CANCEL" }, w:take(200).headers.cseq)
    w:request("ACK", { call_id = "late", to_tag = tag_of(m) })
    w:nothing()
    assert.equal("confirmed", call.state)
  end)
end)

describe_with_peer("a call that came", function()
  it("ends by a BYE of theirs", function()
    open()
    local call, dialog = talk()
    local flow = call_of(call, "wait", "BYE")
    dialog.cseq = 2
    w:request("BYE", dialog)
    w:take(200)
    assert.equal("BYE", w:finish(flow).method)
    assert.equal("ended", call.state)
    local _, err, code = w:finish(call_of(call, "wait", "CANCEL"))
    assert.same({ "ended: the other side hung up (BYE)", "ended" },
      { err, code })
    _, err, code = w:finish(call_of(call, "receive"))
    assert.same({ "ended: the other side hung up (BYE)", "ended" },
      { err, code })
    dialog.cseq = 3
    w:request("INFO", dialog)
    w:take(481)
  end)

  it("ends by a BYE before it was answered", function()
    open()
    local req = invited { call_id = "early" }
    local call = reply(req, 180)
    local dialog = { call_id = "early", to_tag = tag_of(w:take(180)), cseq = 2 }
    w:request("BYE", dialog)
    assert.same({ "2 BYE" }, w:take(200).headers.cseq)
    assert.same({ "1 INVITE" }, w:take(487).headers.cseq)
    assert.equal("ended", call.state)
  end)

  it("gives requests to receive() or to a function", function()
    open()
    local call, dialog = talk()
    dialog.cseq, dialog.body = 2, "one"
    w:request("INFO", dialog)
    local req = w:finish(call_of(call, "receive", 5))
    assert.same({ "INFO", "one", call }, { req.method, req.body, req.call })
    reply(req, 200)
    w:take(200)
    call:on("MESSAGE", (helper.counted(function(m)
      m:reply(m.body == "two" and 200 or 500)
    end)))
    dialog.cseq, dialog.body = 3, "two"
    w:request("MESSAGE", dialog)
    w:take(200)
    dialog.cseq = 4
    w:request("OPTIONS", dialog)
    assert.equal("OPTIONS", w:finish(call_of(call, "receive", 5)).method)
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
    local flow = call_of(call, "bye")
    local bye = w:take "BYE"
    assert.equal("sip:bob@new.invalid", bye.uri)
    assert.same({ "1 BYE" }, bye.headers.cseq)
    dialog.cseq = 3
    w:request("BYE", dialog) -- at the same time
    w:take(200)
    w:answer(bye, 200)
    assert.equal(200, w:finish(flow).status)
    assert.equal("ended", call.state)
  end)
end)
