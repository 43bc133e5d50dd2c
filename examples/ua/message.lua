-- SPDX-License-Identifier: MIT
-- Alice and Bob register, each over a connection of their own, and send each
-- other a MESSAGE.
--   message.lua [URL [DOMAIN]]   their passwords are secret-alice, secret-bob

local sipwire = require "sipwire"

local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local domain = arg[2] or os.getenv "SIP_DOMAIN" or "localhost"

local function register(name)
  local c = assert(sipwire.open { server = url })
  local ua = sipwire.ua(c, { aor = ("sip:%s@%s"):format(name, domain),
    password = "secret-" .. name })
  assert(ua:register())
  return ua, c
end

assert(sipwire.run(function()
  local alice, alices = register "alice"
  local bob, bobs = register "bob"

  bob:on("MESSAGE", function(req)
    print(("bob hears %s say: %s"):format(req.from.uri.user, req.body))
    assert(req:reply(200))
    local back = assert(bob:request("MESSAGE", { uri = req.from.uri,
      body = "Coming." }))
    print(("bob's answer: %d"):format(back.status))
    bobs:close()
  end)

  local sent = assert(alice:request("MESSAGE", { uri = bob.aor,
    body = "Watson, come here." }))
  print(("alice's message: %d"):format(sent.status))
  local req = assert(alice:receive(5))
  print(("alice hears: %s"):format(req.body))
  assert(req:reply(200))
  alices:close()
end))
