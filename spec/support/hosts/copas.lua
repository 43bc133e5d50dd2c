-- SPDX-License-Identifier: MIT
-- copas as a host, with the adapter of its page: see play.lua.

local copas = require "copas"
local socket = require "socket"
local page = require "spec.support.page"

local M = { ends_by_itself = false }
local stopped
local due = {}

M.attach = page.load("docs/hosts/copas.md", 1)

-- copas 1.2 has no timers: what one does is to step with a limit.
function M.every(seconds, fn)
  local timer = { at = socket.gettime() + seconds, every = seconds, fn = fn }
  due[timer] = true
  return function() due[timer] = nil end
end

local function fire()
  local wait, now = 0.2, socket.gettime()
  local ready = {}
  for timer in pairs(due) do
    if timer.at <= now then ready[#ready + 1] = timer end
  end
  for _, timer in ipairs(ready) do
    if due[timer] then
      timer.at = timer.at + timer.every
      timer.fn()
    end
  end
  now = socket.gettime()
  for timer in pairs(due) do wait = math.min(wait, timer.at - now) end
  return math.max(0, wait)
end

function M.run()
  stopped = false
  while not stopped do
    copas.step(fire())
  end
end

function M.stop() stopped = true end

return M
