-- SPDX-License-Identifier: MIT
-- Two users call each other in one script: each is a flow of its own, and
-- what goes wrong in one is told at the end.
--   two_users.lua [URL [DOMAIN]]   their passwords are secret-alice, secret-bob

local sipwire = require "sipwire"

local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local domain = arg[2] or os.getenv "SIP_DOMAIN" or "localhost"
local sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"

local function register(name)
  local c = assert(sipwire.open { server = url })
  local ua = sipwire.ua(c, { aor = ("sip:%s@%s"):format(name, domain),
    password = "secret-" .. name })
  assert(ua:register())
  return ua
end

local function answer(ua)
  local req = assert(ua:receive(5))
  assert(req:reply(180))
  local call = assert(req:reply(200, { body = sdp }))
  assert(call:wait("ACK", 5))
  return call
end

local function dial(ua, target)
  local call = assert(ua:invite(target, { body = sdp }))
  assert(call:wait(180, 5))
  assert(call:wait(200, 5))
  assert(call:ack())
  return call
end

assert(sipwire.run(function()
  local alice, bob = register "alice", register "bob"
  local flows = {
    alice = sipwire.ua.flow(function()
      local call = dial(alice, bob.aor)
      assert(call:bye())
      call = answer(alice) -- he calls back
      call:on("INVITE", function(req)
        assert(req:reply(200, { body = sdp }))
      end)
      local digit = assert(call:receive(5))
      assert(digit:reply(200))
      assert(call:wait("BYE", 5))
      return digit.body
    end),
    bob = sipwire.ua.flow(function()
      assert(answer(bob):wait("BYE", 5))
      local call = dial(bob, alice.aor)
      assert(call:info { body = "Signal=5", content_type =
        "application/dtmf-relay" })
      assert(call:reinvite { body = sdp }.status == 200)
      assert(call:bye())
      return "done"
    end),
  }
  for _, name in ipairs { "alice", "bob" } do
    print(name, flows[name]:wait(20))
  end
  alice.connection:close()
  bob.connection:close()
end))
