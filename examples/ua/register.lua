-- SPDX-License-Identifier: MIT
-- Registers and goes away: register.lua [URL [AOR [PASSWORD]]]
local sipwire = require "sipwire"
local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local aor = arg[2] or os.getenv "SIP_USER" or "sip:alice@localhost"
local password = arg[3] or os.getenv "SIP_PASSWORD" or "secret-alice"

assert(sipwire.run(function()
  local c = assert(sipwire.open { server = url })
  local ua = sipwire.ua(c, { aor = aor, password = password })
  local _, seconds = assert(ua:register(600))
  print(("%s is registered for %d s"):format(aor, seconds))
  assert(ua:unregister())
  assert(c:close())
end))
