-- SPDX-License-Identifier: MIT
-- 64 kB of pongs stopped a connection from reading for good, and so did one
-- ping while the user's own messages waited to be sent.

local sipwire = require "sipwire"
local frames = require "spec.support.frames"
local helper = require "spec.helper"
local pair = require "spec.support.pair"

helper.watch()

describe("a peer that pings", function()
  it("much, and reads the pongs, is read from", function()
    local client, peer = pair.open()
    local got = {}
    client.on_message = function(_, message) got[#got + 1] = message end
    local pings = frames.build { opcode = 9, payload = "" }:rep(40000)
    peer:write(pings .. frames.build { opcode = 1, payload = "hello" })
    helper.run_until(function() return got[1] end, 20, "the message behind")
    assert.are.same({ "hello" }, got)
    client:dispose()
  end)

  it("once, while much of ours is unsent, is read from", function()
    local client, peer = pair.open { send_queue_limit = 100000000 }
    local got = {}
    client.on_message = function(_, message) got[#got + 1] = message end
    peer:pause()
    local accepted = 0
    while client:stats().queue < 1000000 and accepted < 200 do
      assert(client:send(("u"):rep(1000000)))
      accepted = accepted + 1
      client.loop:step(0)
    end
    peer:write(frames.build { opcode = 9, payload = "x" })
    helper.pass(5)
    peer:write(frames.build { opcode = 1, payload = "hello" })
    helper.run_until(function() return got[1] end, 10, "the message behind")
    client:dispose()
  end)
end)

describe("a transport that is let go with a full inbox", function()
  it("still hears the peer's close", function()
    local loop = helper.add_loop(sipwire.loop())
    local served
    local listener = assert(sipwire.listen { loop = loop,
      on_connection = function(t)
        served = t
        for _ = 1, 60 do
          t:send(("m"):rep(10000))
        end
      end })
    local ended
    local t = sipwire.new { server = listener.url, loop = loop,
      disconnect_timeout = 5 }
    t.on_message = function() t:dispose() end
    t:connect()
    helper.run_until(function() return served end, 10, "the connection")
    served.on_disconnect = function(_, _, _, info) ended = info end
    helper.run_until(function() return ended end, 3, "the close")
    assert.are.equal(1000, ended.close_code)
    listener:close()
    assert(loop:close())
  end)
end)
