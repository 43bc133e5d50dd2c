-- SPDX-License-Identifier: MIT
-- The README's example: an OPTIONS and its answer.
-- test: $LUA examples/hello.lua
local sipwire = require "sipwire"
local sip = require "examples.sip" -- sipwire carries SIP, this builds it

local server = assert(sipwire.listen { on_connection = function(peer)
  peer.on_message = function(_, m) peer:send(sip.response(m, 200, "OK")) end
end })

local t = sipwire.new { server = server.url, keep_alive_interval = 30 }
local alice = sip.agent("sip:alice@example.invalid", t)
t.on_message = function(_, message) print(message) t:disconnect() end
t.on_disconnect = function(_, err) print(err or "bye") server:close() end
t:connect(function(err)
  assert(not err, err)
  t:send(alice:request("OPTIONS", "sip:example.invalid"))
end)
assert(sipwire.run())
