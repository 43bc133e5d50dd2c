-- SPDX-License-Identifier: MIT
-- Reconnecting is the application's business: after a loss it waits longer and
-- longer, and never as long as others do (RFC 5626 section 4.5). The server
-- here drops the connection three times, the second time it is down for a
-- moment.
-- test: $LUA examples/reconnect.lua

local sipwire = require "sipwire"

local RECONNECTS = 3

-- ---- The client ------------------------------------------------------------

local FIRST, LONGEST = 0.1, 2 -- seconds; 30 and 1800 in RFC 5626

math.randomseed(os.time())

local function stay_connected(t, on_up)
  local failures, try = 0, nil

  local function wait()
    local longest = math.min(LONGEST, FIRST * 2 ^ failures)
    local delay = longest * (0.5 + math.random() / 2)
    print(("  next attempt in %.2f s"):format(delay))
    sipwire.timer(delay, try)
  end

  function try()
    t:connect(function(err, code)
      if not err then
        failures = 0
      elseif code ~= "aborted" then -- that was our own disconnect()
        print("failed: " .. err)
        failures = failures + 1
        wait()
      end
    end)
  end

  t.on_connect = on_up
  t.on_disconnect = function(_, err)
    if err then -- not if we asked for it
      print("lost: " .. err)
      wait()
    end
  end
  try()
end

-- ---- The server ------------------------------------------------------------

local listener, port
local served = 0

local function open()
  listener = assert(sipwire.listen { port = port or 0,
    on_connection = function(peer)
      served = served + 1
      if served > RECONNECTS then
        return
      end
      sipwire.timer(0.05, function() peer:disconnect() end)
      if served == 2 then
        listener:close()
        sipwire.timer(0.5, open)
      end
    end })
  port = listener.port
end

open()

-- ---- Both ------------------------------------------------------------------

local t = sipwire.new { server = listener.url }
local connected = 0

stay_connected(t, function()
  connected = connected + 1
  print(("connected (%d)"):format(connected))
  if connected > RECONNECTS then
    t:disconnect()
    listener:close()
    print(("done after %d reconnects"):format(RECONNECTS))
  end
end)

assert(sipwire.run())
