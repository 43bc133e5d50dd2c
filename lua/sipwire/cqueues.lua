-- SPDX-License-Identifier: MIT
-- Keeps sipwire's loops going inside a cqueues controller, and lets coroutines
-- of cqueues wait where tasks can.

local cqueues = require "cqueues"
local condition = require "cqueues.condition"
local interpreted = require "sipwire.interpreted"
local loops = require "sipwire.loop"
local raise = require "sipwire.raise"
local task = require "sipwire.task"

local unpack = table.unpack or unpack

--- sipwire in cqueues, and so in lua-http.
local module = {}

-- Loops by controller, pumps by coroutine, those that have waited.
local attached = setmetatable({}, { __mode = "kv" })
local pumps = setmetatable({}, { __mode = "k" })
local waiters = setmetatable({}, { __mode = "k" })

-- ---- What the loop tells its host ----------------------------------------

local Host = {}
Host.__index = Host

-- The default on_error ends what runs the loop: here, controller:loop() returns
-- nil and an error. Another call of that goes on.
local function check_failure(self)
  local loop = self.loop
  if loop._failure then
    loop._failure = false
    self.pumping = false
    self:update(self.alive)
    error("sipwire.cqueues: a callback failed, see above", 0)
  end
end

local function pump(self)
  local loop = self.loop
  pumps[coroutine.running()] = true
  while self.alive do
    cqueues.poll(loop)
    if loop._core then
      loop._failure = false
      loop:step(0)
      check_failure(self)
    end
  end
  self.pumping = false
end

function Host:update(alive)
  self.alive = alive
  if alive and not self.pumping then
    self.pumping = true
    self.controller:wrap(pump, self)
  end
end

-- cqueues must forget a descriptor before it is closed. Nothing else would wake
-- those that wait for a timer of the loop.
function Host:close()
  cqueues.cancel(self.fd)
  self:update(false)
  for waiter in pairs(waiters) do
    if waiter.loop == self.loop then
      waiter.resumed:signal()
    end
  end
end
interpreted(Host.close)

-- ---- What waits in a coroutine of cqueues ----------------------------------

local Waiter = {}
Waiter.__index = Waiter

function Waiter:wait()
  waiters[self] = true
  while not self.values do
    self.resumed:wait()
    if not self.values and not self.loop._core then
      raise("closed: the loop was closed")
    end
  end
  local values = self.values
  self.values = nil
  return unpack(values, 1, values.n)
end

function Waiter:resume(...)
  self.values = { n = select("#", ...), ... }
  self.resumed:signal()
  return true
end

Waiter.resume_later = Waiter.resume

-- A callback would wait for the pump that waits for it. Elsewhere cqueues lets
-- coroutines inside its own wait, too: on Lua 5.1 lua-http has such ones.
task.host(function()
  local controller, own_coroutine = cqueues.running()
  local loop = controller and (attached[controller] or loops.default())
  local in_callback = pumps[coroutine.running() or false] or
    loop and loop._stepping and not own_coroutine
  if loop and not in_callback then
    return setmetatable({ loop = loop, resumed = condition.new() }, Waiter)
  end
end)

-- ---- Calls -----------------------------------------------------------------

--- Drives a loop from a controller's loop(), which lasts as long as sipwire has
--- something to wait for. Once is enough; it ends with the loop.
---@param controller table of cqueues.new(), or lua-http's server.cq
---@param loop? sipwire.Loop the default one if absent
---@return sipwire.Loop
function module.attach(controller, loop)
  if cqueues.type(controller) ~= "controller" then
    raise("controller must be one of cqueues.new()")
  end
  loop = loops.given(loop)
  local host = loop._host
  if not host then
    host = setmetatable({
      name = "cqueues", loop = loop, controller = controller, alive = false,
      pumping = false, fd = loop:pollfd(),
    }, Host)
    loop._host, attached[controller] = host, loop
    loop:_tell_host()
  elseif host.name ~= "cqueues" or host.controller ~= controller then
    raise("the loop is driven by %s already", host.name)
  end
  return loop
end

return module
