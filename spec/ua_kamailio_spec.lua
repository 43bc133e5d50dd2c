-- SPDX-License-Identifier: MIT
-- User agents with Kamailio as registrar and proxy that asks for passwords, and
-- with SIPp behind it on UDP.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local mass = require "spec.support.ua_mass"
local run = require "spec.support.run"
local sipp = require "spec.support.sipp"

helper.watch()

local run_until = helper.run_until
local sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"
local k

-- Runs fn as a task; what it raises fails the spec.
local function main(fn)
  local done
  sipwire.spawn(function()
    fn()
    done = true
  end)
  run_until(function() return done end, 20, "the flow")
end

local function open(name, scheme, more)
  local options = scheme == "wss" and { server = k:secure_url(),
    tls = { ca_file = helper.certs() .. "/ca.pem" } } or { server = k:url() }
  local given = more or {}
  given.aor = ("sip:%s@localhost"):format(name)
  given.password = given.password or "secret-" .. name
  return sipwire.ua(assert(sipwire.open(options)), given)
end

local function close(...)
  for _, ua in ipairs { ... } do
    assert(ua.connection:close())
  end
end

local function status_of(response, err)
  return response and response.status or err
end

describe("with Kamailio, user agents", function()
  setup(function() k = helper.kamailio "PROXY_AUTH" end)

  it("call each other over ws and wss, and change the call", function()
    main(function()
      local alice, bob = open "alice", open("bob", "wss")
      assert(bob:register(60))
      bob:on("INVITE", (helper.counted(function(req)
        assert(req:reply(180))
        local call = assert(req:reply(200, { body = sdp }))
        call:on("INVITE", (helper.counted(function(re)
          assert(re:reply(200, { body = sdp .. "a=two\r\n" }))
        end)))
        assert(call:wait("ACK", 5))
        local info = assert(call:receive(5))
        assert(info:reply(200, { body = info.body }))
        assert(call:info { body = "back" }.status == 200)
        assert(call:wait("BYE", 5))
      end)))
      local call = assert(alice:invite(bob.aor, { body = sdp }))
      call:on("INFO", (helper.counted(function(req)
        assert.equal("back", req.body)
        assert(req:reply(200))
      end)))
      assert(call:wait(180, 5))
      assert.equal(sdp, assert(call:wait(200, 5)).body)
      assert(call:ack())
      local answer = assert(call:info { body = "5" })
      assert.same({ 200, "5" }, { answer.status, answer.body })
      answer = assert(call:reinvite { body = sdp })
      assert.matches("a=two", answer.body)
      assert.equal(200, status_of(call:bye()))
      close(alice, bob)
    end)
  end)

  it("cancel calls, refuse them, hang up as the called one", function()
    main(function()
      local alice, bob = open "alice", open "bob"
      assert(bob:register(60))
      local call = assert(alice:invite(bob.aor, { body = sdp }))
      local req = assert(bob:receive(5))
      local theirs = assert(req:reply(180))
      assert(call:wait(180, 5))
      assert(call:cancel())
      assert.equal(487, assert(call:wait(nil, 5)).status)
      assert(theirs:wait("CANCEL", 5))

      call = assert(alice:invite(bob.aor, { body = sdp }))
      req = assert(bob:receive(5))
      assert(req:reply(603))
      local _, err, code = call:wait(200, 5)
      assert.same({ "status: 603 Decline", "status" }, { err, code })

      call = assert(alice:invite(bob.aor, { body = sdp }))
      theirs = assert(assert(bob:receive(5)):reply(200, { body = sdp }))
      assert(call:wait(200, 5))
      assert(call:ack())
      assert.equal(200, status_of(theirs:bye()))
      assert(call:wait("BYE", 5))
      close(alice, bob)
    end)
  end)

  it("are told all that may go wrong", function()
    main(function()
      local alice = open "alice"
      local function call(name, more)
        return assert(alice:invite("sip:" .. name .. "@localhost",
          more)):wait(200, 5)
      end
      for _, case in ipairs { { "busy", "status: 486 Busy Here" },
        { "fail", "status: 503 As Asked" },
        { "nobody", "status: 404 Not Found" } } do
        local _, err, code = call(case[1])
        assert.same({ case[2], "status" }, { err, code })
      end
      local _, _, _, info = call "fail"
      assert.equal(5, info.response.retry_after)
      local _, err = call("fail", { headers = { { "X-Code", "480" } } })
      assert.equal("status: 480 As Asked", err)
      -- a black hole
      local hole = open("alice", "ws", { t1 = 0.003 * math.min(run.scale, 4) })
      local code
      _, _, code = hole:request("OPTIONS", { uri = "sip:black-hole@localhost" })
      assert.equal("timeout", code)
      local lost = assert(hole:invite "sip:black-hole@localhost")
      _, _, code = lost:wait()
      assert.equal("timeout", code)
      -- the connection goes
      _, _, code = alice:request("OPTIONS", { uri = "sip:tcp-drop@localhost" })
      assert.is_true(code == "closed" or code == "reset", code)
      close(hole)
    end)
  end)

  it("end with the refusal of a wrong password", function()
    main(function()
      local c = assert(sipwire.open { server = k:url() })
      local sent = 0
      local function count() sent = c.transport:stats().messages_out end
      local ua = sipwire.ua(c, { aor = "sip:alice@localhost", password = "no" })
      local _, err = ua:register()
      count()
      assert.same({ "status: 401 Unauthorized", 2 }, { err, sent })
      local call = assert(ua:invite "sip:nobody@localhost")
      _, err = call:wait(200, 5)
      count()
      assert.same({ "status: 407 Proxy Authentication Required", 6 },
        { err, sent }) -- two of them, and their ACKs
      close(ua)
    end)
  end)

  it("are bound again at once after a reconnect", function()
    local t = sipwire.new { server = k:url() }
    local ua = sipwire.ua(t, { aor = "sip:ann@localhost",
      password = "secret-ann" })
    for _ = 1, 3 do
      local up
      t:connect(function(err) up = err or true end)
      run_until(function() return up end)
      assert.is_true(up)
      main(function()
        assert(ua:register(60))
        local flow = sipwire.ua.flow(function()
          assert(assert(ua:receive(5)):reply(202))
        end)
        assert.equal(202, assert(ua:request("MESSAGE",
          { uri = ua.aor, body = "me" })).status)
        assert(flow:wait(5))
      end)
      t:disconnect()
      run_until(function() return t.state == "Disconnected" end)
    end
  end)

  it("call SIPp over UDP, and are called by it, at once #slow", function()
    local calls = 10
    local s = sipp.called(k, calls)
    local c = sipp.caller -- begins when bob is there
    main(function()
      local alice, bob = open "alice", open "bob"
      assert(bob:register(60))
      local ended = 0
      bob:on("INVITE", function(req)
        assert(req:reply(180))
        local call = assert(req:reply(200, { body = sdp }))
        assert(call:wait("ACK", 10))
        assert(call:wait("BYE", 10))
        ended = ended + 1
      end)
      local flows = {}
      for i = 1, calls do
        flows[i] = sipwire.ua.flow(function()
          local call = assert(alice:invite(s.uri, { body = sdp }))
          assert(call:wait(180, 10))
          assert(call:wait(200, 10))
          assert(call:ack())
          assert(assert(call:bye()).status == 200)
        end)
      end
      for i = 1, calls do assert(flows[i]:wait(20)) end
      k.bob = { ua = bob, ended = function() return ended end, alice = alice }
    end)
    s:finish()
    c(k, "bob", calls):finish()
    run_until(function() return k.bob.ended() == calls end)
    main(function() close(k.bob.ua, k.bob.alice) end)
  end)

  it("are many at once: none lost, none stuck #slow", function()
    local report
    main(function()
      report = mass.run { url = k:url(), users = 40, calls = 20,
        connections = 4, limit = 10 * run.scale }
    end)
    assert.same({ registered = 40, called = 20, answered = 20,
      unregistered = 40, strays = 0, problems = {} }, report)
  end)
end)

describe("with another Kamailio, a user agent", function()
  setup(function() k = helper.kamailio("SHA256", "NO_QOP") end)

  it("does SHA-256, and the way of RFC 2069", function()
    main(function()
      local alice = open "alice"
      assert(alice:register(60))
      assert(alice:register(60))
      assert(alice:unregister())
      close(alice)
    end)
  end)
end)
