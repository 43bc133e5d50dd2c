-- SPDX-License-Identifier: MIT
-- Lists of those that wait for the same thing, first come, first served.

local Waiting = {}
Waiting.__index = Waiting

local function new()
  return setmetatable({}, Waiting)
end

local function remove(self, entry)
  for i = 1, #self do
    if self[i] == entry then
      return table.remove(self, i)
    end
  end
end

--- Waits, with `waiter` as task.current() returned it, until woken.
---@param waiter table
---@param ms? integer milliseconds at most; nil: no limit
---@return any ... what it is woken with; nothing when the time is over
function Waiting:wait(waiter, ms)
  local entry = { waiter = waiter }
  self[#self + 1] = entry
  if ms then
    entry.timer = waiter.loop:_timer(ms, function()
      entry.timer = nil
      if remove(self, entry) then
        waiter:resume()
      end
    end)
  end
  return waiter:wait()
end

local function wake_first(self, how, ...)
  while self[1] do
    local entry = table.remove(self, 1)
    if entry.timer then
      entry.timer:stop()
    end
    if entry.waiter[how](entry.waiter, ...) then
      return true
    end
  end
  return false
end

-- Those that wait now: one may wait again before the next is woken.
local function wake_all(self, how, ...)
  for _ = 1, #self do
    wake_first(self, how, ...)
  end
end

--- Wakes the first that still lives. Only from the dispatcher.
---@return boolean woken
function Waiting:wake_first(...)
  return wake_first(self, "resume", ...)
end

--- Wakes all. Only from the dispatcher.
function Waiting:wake_all(...)
  wake_all(self, "resume", ...)
end

--- Wakes all in the next tick.
function Waiting:wake_all_later(...)
  wake_all(self, "resume_later", ...)
end

return { new = new }
