-- SPDX-License-Identifier: MIT
-- The module as users see it.

local core = require "sipwire.core"
local connection = require "sipwire.connection"
local listener = require "sipwire.listener"
local loops = require "sipwire.loop"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local task = require "sipwire.task"
local transports = require "sipwire.transport"

--- SIP over WebSocket (RFC 7118) for Lua. Durations are seconds. Run-time
--- failures are returned as nil, "code: text", "code"[, info]; mistakes raise.
---@class sipwire
---@field VERSION string
---@field sip table messages: see sipwire.sip; loaded when first asked for
---@field ua table user agents: see sipwire.ua; loaded when first asked for
local sipwire = { VERSION = core.VERSION }

--- Makes a transport in state Disconnected.
---@param given sipwire.Options
---@return sipwire.Transport
function sipwire.new(given)
  return transports.new(given)
end

--- Makes a loop of its own; most programs need only the default one.
---@param given? sipwire.LoopOptions
---@return sipwire.Loop
function sipwire.loop(given)
  return loops.new(given)
end

sipwire.listen = listener.listen
sipwire.open = connection.open
sipwire.sleep = task.sleep

--- Runs the default loop: see sipwire.Loop.run.
---@param main? fun(...) run as a task
---@return true|nil ok
---@return string|nil err
function sipwire.run(main, ...)
  if main ~= nil and type(main) ~= "function" then
    raise("main must be a function, not %s", type(main))
  end
  return loops.default():run(main, ...)
end

-- The loop of the running task, or the default one.
local function here()
  return task.loop() or loops.default()
end

--- Runs a function as a task of the running task's loop, or of the default
--- one.
---@param fn fun(...)
function sipwire.spawn(fn, ...)
  options.fn(fn, "spawn")
  here():spawn(fn, ...)
end

--- Calls a function in the next tick.
---@param fn fun()
function sipwire.defer(fn)
  options.fn(fn, "defer")
  here():defer(fn)
end

--- Calls a function once, after a time.
---@param seconds number 0 to 604800
---@param fn fun()
---@return sipwire.Timer
function sipwire.timer(seconds, fn)
  return here():timer(seconds, fn)
end

-- Optional parts, loaded when first asked for: sipwire.sip and sipwire.ua.
return setmetatable(sipwire, { __index = function(self, name)
  if name == "sip" or name == "ua" then
    local part = require("sipwire." .. name)
    self[name] = part
    return part
  end
end })
