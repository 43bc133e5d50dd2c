-- SPDX-License-Identifier: MIT
-- Requests that come to a user agent, message by message (RFC 3261 sections 8.2
-- and 17.2).

local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  w = sip_peer.open(options)
  return w
end
local function tag_of(message)
  return message.headers.to[1]:match ";tag=(%w+)$"
end

sip_peer.describe("a request that comes", function()
  it("is received, read and answered", function()
    open()
    w:request("MESSAGE", { body = "hello", "X-Test: 1", "x-test: 2" })
    local req = w:receive()
    assert.same({ "MESSAGE", "hello", "1", "peer", nil }, { req.method,
      req.body, req:get "X-Test", req.from.tag, req.call })
    assert.same({ "1", "2" }, req:all "x-test")
    assert.matches("^sipwire%.ua%.request: MESSAGE sip:alice@", tostring(req))
    assert.is_true(w:reply(req, 200, { reason = "Fine", body = "ok",
      headers = { { "X-Back", "1" } } }))
    local m = w:take(200)
    assert.same({ "Fine", "ok", { "1" }, { "text/plain" } }, { m.reason, m.body,
      m.headers["x-back"], m.headers["content-type"] })
    assert.same({ "SIP/2.0/WS peer.invalid;branch=" .. m.branch },
      m.headers.via)
    assert.is_string(tag_of(m))
    assert.is_nil(m.headers.contact)
    local _, err, code = w:reply(req, 200)
    assert.same({ "state: the request was answered already", "state" },
      { err, code })
    w:nothing()
  end)

  it("again gets the same answer, and nobody is told", function()
    open()
    local fields = { branch = "z9hG4bKsame", call_id = "same" }
    w:request("MESSAGE", fields)
    local req = w:receive()
    w:request("MESSAGE", fields)
    w:nothing()
    w:reply(req, 180)
    local first = w:take(180)
    w:request("MESSAGE", fields)
    assert.equal(first.raw, w:take(180).raw)
    w:reply(req, 200)
    local final = w:take(200)
    for _ = 1, 2 do
      w:request("MESSAGE", fields)
      assert.equal(final.raw, w:take(200).raw)
    end
    assert.is_nil(w:finish(w:call(w.ua, "receive", 0)))
    -- an INVITE of the same branch is another one
    fields.branch = "z9hG4bKother"
    fields.call_id = "other"
    w:request("MESSAGE", fields)
    assert.equal("MESSAGE", w:receive().method)
  end)

  it("is remembered as one of the last 1000 #slow", function()
    open()
    local function ask(number)
      w:request("MESSAGE", { branch = "z9hG4bKno" .. number,
        call_id = "no" .. number })
    end
    for number = 1, 1001 do
      ask(number)
      w:reply(w:receive(), 200)
      w:take(200)
    end
    ask(2)
    w:take(200)
    ask(1001)
    w:take(200)
    ask(1)
    w:reply(w:receive(), 202)
    w:take(202)
    assert.is_nil(w:finish(w:call(w.ua, "receive", 0)))
  end)

  it("of before RFC 3261 is told apart by more than its branch", function()
    open()
    w:request("MESSAGE", { branch = "1", call_id = "a" })
    w:reply(w:receive(), 200)
    w:take(200)
    w:request("MESSAGE", { branch = "1", call_id = "b" })
    w:reply(w:receive(), 202)
    w:take(202)
    w:request("MESSAGE", { branch = "1", call_id = "b" })
    w:take(202)
  end)

  it("by two ways is answered 482 the second time", function()
    open()
    w:request("MESSAGE", { call_id = "merged", branch = "z9hG4bKm1" })
    local req = w:receive()
    w:request("MESSAGE", { call_id = "merged", branch = "z9hG4bKm2" })
    w:take(482)
    w:reply(req, 200)
    w:take(200)
  end)

  it("that needs what we cannot do is answered 420", function()
    open { supported = { "path" } }
    w:request("MESSAGE", { "Require: path, 100rel", "Require: timer" })
    assert.same({ "100rel, timer" }, w:take(420).headers.unsupported)
    w:request("MESSAGE", { "Require: a\0b" })
    assert.same({ "a?b" }, w:take(420).headers.unsupported)
    w:request("MESSAGE", { "Require: PATH" })
    w:reply(w:receive(), 200)
    w:take(200)
  end)

  it("whose CSeq names another method is answered 400", function()
    open()
    w:request("MESSAGE", { cseq_method = "INFO" })
    w:take(400)
  end)

  it("with a tag of no dialog is answered 481, an ACK never", function()
    open()
    local seen = w:strays()
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
    local seen = w:strays()
    w:send "hello"
    run_until(function() return #seen == 1 end)
    assert.equal("hello", seen.last)
    w:send("OPTIONS sip:x SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 0\r\n\r\n")
    run_until(function() return #seen == 2 end)
    assert.matches("^syntax: ", seen[2])
    w:nothing()
    w:send("OPTIONS sip:x SIP/2.0\r\nVia: SIP/2.0/WS p;branch=z9hG4bK1\r\n" ..
      "Call-ID: 1\r\nTo: <sip:x>\r\nCSeq: 1 OPTIONS\r\n\r\n")
    assert.matches("branch=z9hG4bK1", w:take(400).headers.via[1])
    assert.equal(3, #seen)
  end)

  it("that can be read and not be answered in a call is refused", function()
    open()
    local seen = w:strays()
    w:request("INVITE", { no_contact = true, "Contact: <sip:b\0b@x>" })
    assert.same({ "1 INVITE" }, w:take(400).headers.cseq)
    w:request("INVITE", { no_contact = true,
      "Record-Route: <sip:a>, <sip:b\0b;lr>" })
    w:take(400)
    w:request("UPDATE", { cseq = 4294967295 })
    w:take(400)
    w:request("ACK", { cseq_method = "INVITE", "Contact: <sip:\0>" })
    run_until(function() return seen[4] end)
    for i = 1, 4 do assert.matches("^syntax: ", seen[i]) end
    w:nothing()
    w:request("INVITE", { no_contact = true }) -- From has to do
    local call = w:reply(w:receive(), 200)
    w:take(200)
    assert.equal("sip:bob@example.org", tostring(call._dialog.target))
  end)

  it("that brings out a fault of ours harms nothing else", function()
    open()
    local seen = w:strays()
    rawset(w.ua, "_on_request", function() error "a fault" end)
    w:request "MESSAGE"
    run_until(function() return seen[1] end)
    assert.matches("^error: .*a fault$", seen[1])
    rawset(w.ua, "_on_request", nil)
    w:request "OPTIONS"
    w:take(200)
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

sip_peer.describe("a request that nobody takes", function()
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

  it("is kept for w:receive() for a while", function()
    open { patience = 0.05 }
    w:request "INVITE"
    w:take(405)
    w:request "MESSAGE"
    w:reply(w:receive(), 200)
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
    local flow = w:call(w.ua, "receive", 5)
    run_until(function() return #w.ua._inbox.waiters == 1 end)
    w:request "MESSAGE"
    assert.equal("MESSAGE", w:finish(flow).method)
  end)
end)
