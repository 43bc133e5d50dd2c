-- SPDX-License-Identifier: MIT
-- The README's example: an OPTIONS and its answer.
-- test: $LUA examples/hello.lua
local sipwire = require "sipwire"
local sip = require "sipwire.sip"

local server = assert(sipwire.listen { on_connection = function(peer)
  peer.on_message = function(_, message)
    peer:send(tostring(assert(sip.parse(message)):response(200)))
  end
end })

local t = sipwire.new { server = server.url, keep_alive_interval = 30 }
t.on_message = function(_, message) print(message) t:disconnect() end
t.on_disconnect = function(_, err) print(err or "bye") server:close() end
t:connect(function(err)
  assert(not err, err)
  t:send(tostring(sip.request { method = "OPTIONS",
    uri = "sip:example.invalid", from = "sip:alice@example.invalid" }))
end)
assert(sipwire.run())
