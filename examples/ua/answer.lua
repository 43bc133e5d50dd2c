-- SPDX-License-Identifier: MIT
-- Registers, answers one call, and stays in it until the caller hangs up.
--   answer.lua [URL [AOR [PASSWORD]]]

local sipwire = require "sipwire"

local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local aor = arg[2] or os.getenv "SIP_USER" or "sip:bob@localhost"
local password = arg[3] or os.getenv "SIP_PASSWORD" or "secret-bob"

assert(sipwire.run(function()
  local c = assert(sipwire.open { server = url })
  local ua = sipwire.ua(c, { aor = aor, password = password })
  assert(ua:register())
  print "waiting"
  local req = assert(ua:receive(60))
  assert(req.method == "INVITE", req.method)
  print(("%s calls"):format(req.from.uri.user))
  assert(req:reply(180))
  local call = assert(req:reply(200, { body = req.body })) -- their own SDP
  assert(call:wait("ACK", 30))
  assert(call:wait("BYE", 30))
  print "the caller hung up"
  c:close()
end))
