-- SPDX-License-Identifier: MIT
-- SIP with Kamailio as registrar and proxy, over ws and wss, with callbacks
-- and in tasks: requests, relayed messages, keep-alives.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local phone = require "spec.support.phone"
local scale = require "spec.support.run".scale
local sip = require "spec.support.sip"

local run_until = helper.run_until

helper.watch()

local k

setup(function() k = helper.kamailio "NO_AUTH" end)

local function open(scheme, more) return phone.open(k, scheme, more) end

local function options_are_answered(p, frame)
  local message, id = p.user:request("OPTIONS", "sip:localhost")
  phone.check_answer(p:ask(message, id, frame), 200, message)
end

-- All bytes there are, and CRLFs where no message ends.
local bytes = {}
for i = 0, 255 do bytes[i + 1] = string.char(i) end
bytes = ("\r\n\r\n" .. table.concat(bytes)):rep(200)

for _, scheme in ipairs { "ws", "wss" } do
  local other = scheme == "ws" and "wss" or "ws"

  describe("over " .. scheme .. ", with callbacks, Kamailio", function()
    it("answers OPTIONS, in text and binary (C14, C29, R5)", function()
      local p = open(scheme)
      assert.equal(scheme:upper(), p.t.protocol)
      for _, frame in ipairs { "auto", "text", "binary" } do
        options_are_answered(p, frame)
      end
      phone.hang_up(p)
      assert.same({ "Connecting", "Connected", "Disconnecting",
        "Disconnected" }, p.seen.states)
      assert.same({ "up", "connected" }, { p.seen.order[1], p.seen.order[2] })
      assert.equal("down", p.seen.order[6])
      assert.equal(6, #p.seen.order)
      assert.is_nil(p.seen.err)
      assert.equal(0, #p.seen.messages)
    end)

    it("registers our contact", function()
      local p = open(scheme)
      phone.check_registered(p:ask(p.user:register()), p.user)
      -- and finds us there
      p.t:send((p.user:request("MESSAGE", p.user.uri)))
      assert.equal(p.user.contact, p:incoming "MESSAGE".uri)
      phone.hang_up(p)
    end)

    it("takes a MESSAGE to another user and the answer back (C34)", function()
      local alice, bob = open(scheme), open(other)
      for _, p in ipairs { alice, bob } do
        phone.check_registered(p:ask(p.user:register()), p.user)
      end
      local text = "gr\195\188\195\159 dich\r\n\r\n"
      local message, id = alice.user:request("MESSAGE", bob.user.uri,
        { "Content-Type: text/plain;charset=utf-8", body = text })
      alice.t:send(message)
      local request, raw, binary = bob:incoming "MESSAGE"
      assert.equal(bob.user.contact, request.uri)
      assert.equal(text, request.body)
      assert.equal(id, request.call_id)
      assert.equal(2, #request.headers.via)
      assert.is_false(binary)
      bob.t:send(sip.response(raw, 200, "Heard You"))
      local answer = alice:answer(id)
      phone.check_answer(answer, 200, message)
      assert.equal("Heard You", answer.reason)
      phone.hang_up(alice, bob)
      assert.equal(0, #alice.seen.messages + #bob.seen.messages)
    end)

    it("takes all bytes there are (R5, R8)", function()
      local alice, bob = open(scheme), open(other)
      phone.check_registered(bob:ask(bob.user:register()), bob.user)
      local message, id = alice.user:request("MESSAGE", bob.user.uri,
        { "Content-Type: application/octet-stream", body = bytes })
      alice.t:send(message)
      local request, raw, binary = bob:incoming "MESSAGE"
      assert.is_true(binary)
      assert.equal(#bytes, #request.body)
      assert.is_true(request.body == bytes)
      bob.t:send(sip.response(raw, 202, "Kept"))
      assert.equal(202, alice:answer(id).status)
      phone.hang_up(alice, bob)
    end)

    it("answers every one of 500 requests sent at once", function()
      local p = open(scheme)
      local unanswered, sent = {}, 0
      for _ = 1, 500 do
        local message, id = p.user:request("OPTIONS", "sip:localhost")
        unanswered[id] = true
        assert(p.t:send(message, function(err)
          assert.is_nil(err)
          sent = sent + 1
        end))
      end
      run_until(function() return #p.seen.messages >= 500 end, 10, "answers")
      assert.equal(500, sent)
      for _, text in ipairs(p.seen.messages) do
        local answer = sip.parse(text)
        assert.equal(200, answer.status)
        assert.is_true(unanswered[answer.call_id])
        unanswered[answer.call_id] = nil
      end
      assert.is_nil(next(unanswered))
      phone.hang_up(p)
      assert.equal(500, p.t:stats().messages_in)
      assert.equal(500, p.t:stats().messages_out)
    end)

    it("answers keep-alives by ping and by CRLF (R31, C38, C46)", function()
      for _, method in ipairs { "ping", "crlf" } do
        local p = open(scheme, { keep_alive_method = method,
          keep_alive_interval = 0.02, keep_alive_timeout = 5 * scale })
        assert.is_nil(p.t:stats().rtt)
        run_until(function() return p.t:stats().pongs_received >= 5 end)
        local stats = p.t:stats()
        assert.is_true(stats.rtt >= 0 and stats.rtt < 5 * scale, stats.rtt)
        assert.is_true(stats.pings_sent >= stats.pongs_received)
        assert.equal(0, stats.messages_in)
        options_are_answered(p)
        phone.hang_up(p)
        assert.equal(0, #p.seen.messages)
      end
    end)
  end)

  describe("over " .. scheme .. ", in tasks, Kamailio", function()
    -- Runs |fn| as a task, to its end.
    local function in_task(fn)
      local done
      sipwire.spawn(function()
        fn()
        done = true
      end)
      run_until(function() return done end, 10, "end of the task")
    end

    local function open_here(over)
      local c = assert(sipwire.open(phone.options(k, over,
        { connection_timeout = 5 * scale })))
      return c, sip.user("user", c.transport.protocol)
    end

    local function receive(c)
      local text, binary = c:receive(5 * scale)
      return sip.parse(assert(text, binary)), text, binary
    end

    it("answers OPTIONS and REGISTER", function()
      local address
      in_task(function()
        local c, user = open_here(scheme)
        for _, frame in ipairs { "auto", "binary" } do
          local message = user:request("OPTIONS", "sip:localhost")
          assert(c:send(message, frame))
          phone.check_answer(receive(c), 200, message)
        end
        assert(c:send((user:register())))
        phone.check_registered(receive(c), user)
        address = c.transport.local_address
        assert.is_true(c:close())
      end)
      run_until(function() return not phone.knows(k, address) end, 5,
        "clean end")
    end)

    it("takes a MESSAGE and its answer between two tasks", function()
      local heard
      in_task(function()
        local bob, bob_user = open_here(other)
        assert(bob:send((bob_user:register())))
        phone.check_registered(receive(bob), bob_user)
        sipwire.spawn(function()
          local request, text, binary = receive(bob)
          heard = { request.method, request.body, binary }
          assert(bob:send(sip.response(text, 200, "Heard You")))
          heard.closed = bob:close()
        end)
        local alice, user = open_here(scheme)
        local message = user:request("MESSAGE", bob_user.uri,
          { "Content-Type: application/octet-stream", body = bytes })
        assert(alice:send(message))
        local answer = receive(alice)
        phone.check_answer(answer, 200, message)
        assert.equal("Heard You", answer.reason)
        assert.same({ "MESSAGE", true }, { heard[1], heard[3] })
        assert.is_true(heard[2] == bytes)
        assert.is_true(alice:close())
      end)
      run_until(function() return heard.closed end, 5, "bob's end")
    end)

    it("answers every one of 500 requests sent at once", function()
      in_task(function()
        local c, user = open_here(scheme)
        local unanswered = {}
        for _ = 1, 500 do
          local message, id = user:request("OPTIONS", "sip:localhost")
          unanswered[id] = true
          assert(c:send(message))
        end
        for _ = 1, 500 do
          local answer = receive(c)
          assert.equal(200, answer.status)
          assert.is_true(unanswered[answer.call_id])
          unanswered[answer.call_id] = nil
        end
        assert.is_true(c:close())
        assert.equal("closed", select(3, c:receive()))
      end)
    end)
  end)
end
