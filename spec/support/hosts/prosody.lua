-- SPDX-License-Identifier: MIT
-- Prosody's event loop as a host: see play.lua.

package.path = "/usr/lib/prosody/?.lua;" .. package.path
package.cpath = "/usr/lib/prosody/?.so;" .. package.cpath

require "util.logger".add_simple_sink(function() end)
local server = require "net.server_epoll"

-- Prosody looks after its timers when no descriptor has anything to say.
local M = { ends_by_itself = false, timers_last = true }
local watches = {}
local stopped

function M.attach(loop)
  watches[loop] = server.watchfd(loop:pollfd(), function() loop:step(0) end)
end

function M.before_close(loop)
  watches[loop]:close()
  watches[loop] = nil
end

function M.every(seconds, fn)
  local on = true
  server.add_task(seconds, function()
    if on then
      fn()
      return seconds
    end
  end)
  return function() on = false end
end

function M.run()
  stopped = false
  repeat server.loop(true) until stopped
end

function M.stop() stopped = true end

return M
