-- SPDX-License-Identifier: MIT
-- Runs ticks: takes events from the core one by one and calls the functions
-- that wait for them. Everything that calls user code starts here.

local core = require "sipwire.core"
local interpreted = require "sipwire.interpreted"
local options = require "sipwire.options"
local raise = require "sipwire.raise"

local STATE, MESSAGE, REQUEST = core.STATE, core.MESSAGE, core.REQUEST
local TIMER, LOG = core.TIMER, core.LOG
local step, next_event, is_alive = core.loop_step, core.loop_next,
  core.loop_alive

--- An event loop. Private to sipwire: a host polls its descriptor, or calls
--- run().
---@class sipwire.Loop
---@field on_error fun(err: string, t: sipwire.Transport|nil, name: string)
--- called with what a callback or task raised, traceback included. Default:
--- prints it to stderr and makes run() return nil, err.
---@field on_log fun(line: string, level: "error"|"warn"|"info") called with
--- what deserves attention and ends nothing. Default: prints it to stderr.
local Loop = {}

-- ---- Guarded calls -------------------------------------------------------

local unpack = table.unpack or unpack

-- xpcall() of PUC 5.1 takes no arguments for the function.
local guarded = xpcall
do
  local passed = false
  xpcall(function(value) passed = value end, print, true)
  if not passed then
    guarded = function(fn, handler, ...)
      local count, arguments = select("#", ...), { ... }
      return xpcall(function()
        return fn(unpack(arguments, 1, count))
      end, handler)
    end
  end
end

-- An error in words, also error(nil) and an object whose __tostring raises.
local function describe(err)
  local ok, words = pcall(tostring, err)
  return ok and type(words) == "string" and words or
    "(an error object of type " .. type(err) .. ")"
end

local function with_traceback(err, level)
  -- no tail call: on LuaJIT it would take a level away
  return (debug.traceback(describe(err), level or 2))
end

local function default_on_error(err, t, name)
  io.stderr:write(("sipwire: error in %s%s: %s\n")
    :format(name, t and " of " .. tostring(t) or "", err))
end

-- Hands an error to the loop's handler, which may be broken too.
function Loop:_report(err, t, name)
  local handler = self._on_error
  if handler then
    local ok, second = guarded(handler, with_traceback, err, t, name)
    if ok then
      return
    end
    err, t, name = second, nil, "on_error"
  end
  default_on_error(err, t, name)
  self._failure = self._failure or err
end

-- Calls a user's function; returns whether it did not raise.
function Loop:_call(t, name, fn, ...)
  local ok, err = guarded(fn, with_traceback, ...)
  if not ok then
    self:_report(err, t, name)
  end
  return ok
end

-- The same, for hosts that have another _call(): one that lets a callback wait
-- and goes on without it.
Loop._try = Loop._call

function Loop:_log(level, line)
  if self._on_log then
    self:_call(nil, "on_log", self._on_log, line, level)
  else
    io.stderr:write("sipwire: ", line, "\n")
  end
end

-- ---- Hosts -----------------------------------------------------------------

-- A module that keeps the loop going inside another one sets `_host`. Its
-- update(alive) is called outside of ticks whenever the loop may have got
-- something to wait for (true), or have none any more (false); close() before
-- the loop's descriptor is closed.
function Loop:_tell_host()
  local host = self._host
  if host and not self._stepping then
    host:update(self._core and is_alive(self._core) or false)
  end
end

-- ---- Tags: what the core's events are for --------------------------------

function Loop:_tag(handler)
  local tag = self._last_tag + 1
  self._last_tag = tag
  self._handlers[tag] = handler
  return tag
end

function Loop:_untag(tag)
  local handler = self._handlers[tag]
  self._handlers[tag] = nil
  return handler
end

-- ---- Timers and deferred functions ---------------------------------------

--- A running timer.
---@class sipwire.Timer
local Timer = {}
Timer.__index = Timer

--- Stops the timer; its function will not be called. May be called again.
function Timer:stop()
  local tag = self._tag
  if tag then
    self._tag = nil
    self._loop:_untag(tag)
    self._loop._timers[tag] = nil
    self._core:stop()
    self._loop:_tell_host()
  end
end

-- `handler` is called from the dispatcher, unguarded. Internal.
function Loop:_timer(ms, handler)
  local timer = setmetatable({ _loop = self }, Timer)
  timer._tag = self:_tag(function()
    self._timers[timer._tag] = nil
    timer._tag = nil
    timer._core:stop()
    handler()
  end)
  timer._core = core.timer_new(self:_check(), ms, timer._tag)
  self._timers[timer._tag] = timer
  self:_tell_host()
  return timer
end

--- Calls a function once, after a time.
---@param seconds number 0 to 604800
---@param fn fun() called in a tick
---@return sipwire.Timer
function Loop:timer(seconds, fn)
  local ms = options.seconds(seconds, "seconds")
  options.fn(fn, "timer")
  return self:_timer(ms, function()
    self:_call(nil, "timer", fn)
  end)
end

-- One timer for all that is deferred in one tick. `fn` runs unguarded.
function Loop:_defer(fn)
  local deferred = self._deferred
  if deferred then
    deferred[#deferred + 1] = fn
    return
  end
  deferred = { fn }
  self:_timer(0, function()
    self._deferred = nil
    for _, each in ipairs(deferred) do
      if self._core then
        each()
      end
    end
  end)
  self._deferred = deferred
end

--- Calls a function in the next tick.
---@param fn fun()
function Loop:defer(fn)
  options.fn(fn, "defer")
  self:_check()
  self:_defer(function()
    self:_call(nil, "defer", fn)
  end)
end

-- ---- The tick ------------------------------------------------------------

local function dispatch_done(loop, tag, ...)
  local handler = loop:_untag(tag)
  if handler then
    handler(...)
  end
end

local function dispatch(loop, kind, id, a, b, ...)
  if kind == STATE then
    local t = loop._transports[id]
    if t then
      t:_transition(a, b, ...)
    end
  elseif kind == REQUEST then
    local listener = loop._listeners[id]
    if listener then
      listener:_request(a)
    end
  elseif kind == TIMER then
    dispatch_done(loop, a)
  elseif kind == LOG then
    loop:_log(a, b)
  else
    dispatch_done(loop, a, b, ...)
  end
end

-- Hands out all events of a tick; returns false if somebody else is to go on,
-- as a host's _receive() said. (No closures over the loop: LuaJIT's traces
-- would keep it.)
local function pump(loop, handle)
  local transports, receive = loop._transports, loop._receive
  while true do
    local kind, id, a, b, c, d, e, f, g = next_event(handle)
    if kind == MESSAGE then
      local t = transports[id]
      local fn = t and t._on_message
      if t and t._trace then
        t:_trace_message("in", a)
        fn = t:is_connected() and t._on_message -- trace may have ended that
      end
      if fn and receive then
        if not receive(loop, t, fn, a, b) then
          return false
        end
      elseif fn then
        loop._receiver = t
        fn(t, a, b)
      end
    else
      loop._receiver = false
      if not kind then
        return true
      end
      dispatch(loop, kind, id, a, b, c, d, e, f, g)
    end
  end
end

local function tick(loop, handle, ms)
  step(handle, ms)
  pump(loop, handle)
end

local function goes_on(loop)
  return loop._core and not loop._stopped and not loop._failure and
    is_alive(loop._core)
end

local function ticks(loop, handle)
  repeat
    step(handle, -1)
    pump(loop, handle)
  until not goes_on(loop)
end

local function both_ways(err)
  return { err, with_traceback(err, 3) }
end

-- Calls one of the functions above. Returns false if an on_message raised,
-- which is reported then.
local function survived(fn, loop, handle, ms)
  local ok, errors = guarded(fn, both_ways, loop, handle, ms)
  if ok then
    return true
  end
  local t = loop._receiver
  loop._receiver = false
  if type(errors) ~= "table" then -- Lua had no memory to tell
    errors = { errors, describe(errors) }
  end
  if not t then -- a forked child, or Ctrl-C
    error(errors[1], 0)
  end
  loop:_report(errors[2], t, "on_message")
  return false
end

-- What a message costs in Lua is spent here, so one xpcall() guards the
-- on_message callbacks of many ticks: as events are pulled, an error in one of
-- them loses none of the others.
local function turn(fn, loop, handle, ms)
  if not survived(fn, loop, handle, ms) then
    repeat until survived(pump, loop, handle)
  end
end

-- A tick without a wait, for a host whose _receive() guards on_message.
function Loop:_tick()
  local handle = self._core
  step(handle, 0)
  return pump(self, handle)
end

function Loop:_check()
  local handle = self._core
  if not handle then
    raise("disposed: the loop is closed")
  end
  return handle
end

--- One tick: waits for I/O, then calls all callbacks that are due.
---@param timeout? number seconds to wait at most; 0: not at all; nil: until
--- something happens, or nothing is left that could
function Loop:step(timeout)
  local handle = self:_check()
  local ms = -1
  if timeout ~= nil then
    ms = options.seconds(timeout, "timeout")
  end
  if self._stepping then
    raise("step() inside a callback: the loop is running already")
  end
  self._stepping = true
  local ok, err = pcall(turn, tick, self, handle, ms)
  self._stepping = false
  self:_tell_host()
  if not ok then
    raise("%s", describe(err))
  end
end

local function run_all(self)
  while goes_on(self) do
    turn(ticks, self, self._core)
  end
end

--- Runs until no transport, timer or task is left, stop() is called, or a
--- callback raises with the default on_error.
---@param main? fun(...) run as a task
---@return true|nil ok
---@return string|nil err
function Loop:run(main, ...)
  self:_check()
  if self._stepping then
    raise("run() inside a callback: the loop is running already")
  end
  if main ~= nil then
    self:spawn(main, ...)
  end
  self._stepping, self._stopped, self._failure = true, false, false
  local ok, err = pcall(run_all, self)
  self._stepping = false
  self:_tell_host()
  if not ok then
    error(err, 0)
  elseif self._failure then
    return nil, self._failure
  elseif not self._stopped and self._core and next(self._tasks) then
    return nil, "state: a task waits for something that cannot happen any more"
  end
  return true
end

--- Makes run() return after the current tick.
function Loop:stop()
  self._stopped = true
end

--- A descriptor that is readable, level-triggered, when step() has work.
---@return integer fd
function Loop:pollfd()
  return self:_check():pollfd()
end

--- What to poll the descriptor for, in cqueues' words: "r".
---@return string events
function Loop:events()
  return "r"
end

--- How long a host may wait before it must step().
---@return number|nil seconds nil: no limit
function Loop:timeout()
  local ms = self:_check():timeout()
  if ms >= 0 then
    return ms / 1000
  end
end

--- Ends all connections (close code 1001) and releases the loop's
--- descriptors. Its transports and listeners are disposed; nothing is
--- delivered any more.
---@return true|nil ok
---@return string|nil err
---@return string|nil code
function Loop:close()
  local handle = self._core
  if not handle then
    return true
  end
  if self._host then
    self._host:close()
    self._host = false
  end
  local ok, err, code = handle:close()
  self._core = nil
  for _, t in pairs(self._transports) do
    t:dispose()
  end
  for _, listener in pairs(self._listeners) do
    listener:close()
  end
  for _, timer in pairs(self._timers) do
    timer._core:stop()
    timer._tag = nil
  end
  self._live, self._listeners, self._timers = {}, {}, {}
  self._handlers, self._tasks = {}, {}
  return ok, err, code
end
interpreted(Loop.close)

-- ---- The object ----------------------------------------------------------

local callbacks = { on_error = "_on_error", on_log = "_on_log" }

local Meta = {
  __name = "sipwire.loop",
  __index = function(self, name)
    local field = callbacks[name]
    if field then
      return rawget(self, field)
    end
    return Loop[name]
  end,
  __newindex = function(self, name, value)
    if callbacks[name] then
      name, value = callbacks[name], options.callback(value, name)
    elseif type(name) ~= "string" or name:sub(1, 1) ~= "_" then
      raise("unknown field '%s'%s", tostring(name),
        options.suggest(name, callbacks))
    end
    rawset(self, name, value)
  end,
  __tostring = function(self)
    return "sipwire.loop" .. (self._core and "" or ": closed")
  end,
}

local function is_loop(value)
  return getmetatable(value) == Meta
end

local function new(given)
  local checked = options.loop(given)
  return setmetatable({
    _core = core.loop_new(),
    _receiver = false, -- the transport whose on_message runs, or ran last
    _stepping = false, _stopped = false,
    _receive = false, -- a host's function for calling on_message
    _failure = false, -- what run() is to return
    _host = false,
    _on_error = checked.on_error,
    _on_log = checked.on_log,
    _last_tag = 0,
    _last_id = 0,
    _handlers = {},                                   -- by tag
    _timers = {},                                     -- by tag
    _transports = setmetatable({}, { __mode = "v" }), -- by id
    _live = {},                                       -- those not Disconnected
    _listeners = {},                                  -- by id
    _tasks = {},                                      -- by coroutine
  }, Meta)
end

local loops = {
  new = new, is_loop = is_loop, describe = describe, Loop = Loop,
}

local default, on_default

-- The loop of all that name none. (A host may have another function for it.)
function loops.default()
  if not default or not default._core then
    default = new()
    if on_default then
      on_default(default)
    end
  end
  return default
end

-- Calls a host's function with the default loop, and with each that comes in
-- its place.
function loops.each_default(fn)
  on_default = fn
  if default and default._core then
    fn(default)
  end
end

-- The loop that a host's module was given, or the default one.
function loops.given(loop)
  if loop ~= nil and not is_loop(loop) then
    raise("loop must be a sipwire loop, not %s", type(loop))
  end
  loop = loop or loops.default()
  loop:_check()
  return loop
end

return loops
