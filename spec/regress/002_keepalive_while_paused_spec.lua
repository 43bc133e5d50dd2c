-- SPDX-License-Identifier: MIT
-- A connection whose reader was slow was ended by its own keep-alive: the
-- answer lay unread behind what had made us stop reading.

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

describe("a connection that does not read for a while", function()
  it("is not taken for dead, and loses nothing #timing (rule 10, R32)", function()
    local loop, sent, got, failure = sipwire.loop(), 11, 0, nil
    local listener = assert(sipwire.listen { loop = loop,
      on_connection = function(t)
        for _ = 1, 10 do
          t:send(("m"):rep(60000))
        end
        t:send("last")
      end })
    loop.on_error = function(err) failure = err loop:stop() end
    loop:run(function()
      local c = assert(sipwire.open { server = listener.url,
        keep_alive_interval = 0.05, keep_alive_timeout = 0.1 })
      for _ = 1, 20 do -- several limits long, with nobody at receive()
        sipwire.sleep(0.03)
      end
      local message
      repeat
        message = assert(c:receive(10))
        got = got + 1
      until message == "last"
      assert(c.transport:is_connected())
      assert(c:close())
      listener:close()
    end)
    assert.is_nil(failure)
    assert.are.equal(sent, got)
    assert(loop:close())
  end)
end)
