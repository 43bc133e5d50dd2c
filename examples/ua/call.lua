-- SPDX-License-Identifier: MIT
-- Calls somebody, talks for a moment and hangs up.
--   call.lua [URL [TARGET [AOR [PASSWORD]]]]

local sipwire = require "sipwire"

local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local target = arg[2] or os.getenv "SIP_TARGET" or "sip:bob@localhost"
local aor = arg[3] or os.getenv "SIP_USER" or "sip:alice@localhost"
local password = arg[4] or os.getenv "SIP_PASSWORD" or "secret-alice"

-- What is said in SDP is nobody's business here: no sound is sent.
local offer = table.concat({ "v=0", "o=- 1 1 IN IP4 127.0.0.1", "s=-",
  "c=IN IP4 127.0.0.1", "t=0 0", "m=audio 40000 RTP/AVP 0", "" }, "\r\n")

assert(sipwire.run(function()
  local c = assert(sipwire.open { server = url })
  local ua = sipwire.ua(c, { aor = aor, password = password })
  local call = assert(ua:invite(target, { body = offer }))
  if call:wait(180, 10) then
    print "it rings"
  end
  local answer = assert(call:wait(200, 30))
  print(("answered, %d bytes of SDP"):format(#answer.body))
  assert(call:ack())
  sipwire.sleep(0.1)
  print(("hung up: %d"):format(assert(call:bye()).status))
  c:close()
end))
