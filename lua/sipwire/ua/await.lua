-- SPDX-License-Identifier: MIT
-- Waiting in tasks for something that others will see to.

local options = require "sipwire.options"
local task = require "sipwire.task"

--- Waits until ready() returns a value, asking again whenever `list` is woken.
---@param list table of sipwire.waiting
---@param what string the waiting function's name, for errors
---@param timeout? number seconds; nil: no limit
---@param ready fun(): any
---@return any value nil: the time is over
return function(list, what, timeout, ready)
  local waiter = task.current(what)
  local ms = timeout ~= nil and options.seconds(timeout, "timeout") or nil
  local value, expired = ready(), false
  if value ~= nil then
    return value
  end
  local timer = ms and waiter.loop:_timer(ms, function()
    expired = true
    list:wake_all()
  end)
  repeat
    list:wait(waiter)
    value = ready()
  until value ~= nil or expired
  if timer then
    timer:stop()
  end
  return value
end
