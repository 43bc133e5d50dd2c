-- SPDX-License-Identifier: MIT
-- Keeps sipwire's loops going inside luv's, by one descriptor each. luv's own
-- uv_loop_t is never touched.

local uv = require "luv"
local loops = require "sipwire.loop"
local raise = require "sipwire.raise"

--- Scripts that use uv.run() need no more than require "sipwire.luv": from then
--- on it drives the default loop, also one that is made later. uv.run() lasts
--- as long as sipwire has something to wait for.
local luv = {}

-- ---- What the loop tells its host ----------------------------------------

local Host = {}
Host.__index = Host

-- luv ends the program when a callback of its own raises. The default on_error
-- wants no less.
local function on_readable(self)
  local loop = self.loop
  if loop._stepping then -- uv.run() inside a callback: update() goes on
    self.poll:stop()
    return
  end
  loop._failure = false
  loop:step(0)
  if loop._failure then
    loop._failure = false
    error("sipwire.luv: a callback failed, see above", 0)
  end
end

local function start(self)
  if not self.poll or self.poll:is_closing() then -- by a uv.walk() of others
    self.poll = assert(uv.new_poll(self.loop:pollfd()))
  end
  if not self.poll:is_active() then
    assert(self.poll:start("r", function()
      on_readable(self)
    end))
  end
end

function Host:update(alive)
  if alive then
    start(self)
    self.poll:ref()
  elseif not self.poll:is_closing() then
    self.poll:unref()
  end
end

local function nothing() end

-- Leaves the handle to the collector, as luv for Lua 5.1 crashes at exit when a
-- close() is pending; so luv must not keep the function that knows us.
function Host:close()
  if not self.poll:is_closing() then
    self.poll:start("r", nothing)
    self.poll:stop()
  end
end

-- ---- Calls -----------------------------------------------------------------

--- Drives a loop from uv.run(). Once is enough; it ends with the loop.
---@param loop? sipwire.Loop the default one if absent
---@return sipwire.Loop
function luv.attach(loop)
  loop = loops.given(loop)
  local host = loop._host
  if not host then
    host = setmetatable({ name = "luv", loop = loop }, Host)
    start(host)
    loop._host = host
    loop:_tell_host()
  elseif host.name ~= "luv" then
    raise("the loop is driven by %s already", host.name)
  end
  return loop
end

--- Leaves a loop to others, such as its own run().
---@param loop? sipwire.Loop
function luv.detach(loop)
  loop = loops.given(loop)
  local host = loop._host
  if host and host.name == "luv" then
    host:close()
    loop._host = false
  end
end

loops.each_default(luv.attach)

return luv
