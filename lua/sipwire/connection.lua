-- SPDX-License-Identifier: MIT
-- Connections for tasks: open, send, receive and close that wait.

local options = require "sipwire.options"
local raise = require "sipwire.raise"
local task = require "sipwire.task"
local transports = require "sipwire.transport"
local waiting = require "sipwire.waiting"

-- Bytes received and not fetched at which reading stops, and goes on.
local HIGH, LOW = 262144, 65536

-- What a queued message costs beyond its bytes.
local MESSAGE_COST = 64

local unpack = table.unpack or unpack

--- A connected transport that belongs to tasks: its functions wait.
---@class sipwire.Connection
---@field transport sipwire.Transport its callbacks are the connection's own
local Connection = {}
Connection.__index = Connection

function Connection:__tostring()
  return (tostring(self.transport)
    :gsub("^sipwire%.transport", "sipwire.connection"))
end

-- ---- The inbox ------------------------------------------------------------

local function put(self, message, binary)
  local last = self._last + 1
  self._last = last
  self._inbox[last] = { message, binary }
  self._size = self._size + #message + MESSAGE_COST
  if self._size > HIGH and not self._paused then
    self._paused = true
    self.transport:_pause(true)
  end
end

local function take(self)
  local first = self._first
  local entry = self._inbox[first]
  self._inbox[first] = nil
  self._first = first + 1
  self._size = self._size - #entry[1] - MESSAGE_COST
  if self._paused and self._size <= LOW then
    self._paused = false
    self.transport:_pause(false)
  end
  return entry[1], entry[2]
end

local function on_message(self, message, binary)
  if self._reader then
    self._reader(message, binary)
  elseif not self._receivers:wake_first(message, binary) then
    put(self, message, binary)
  end
end

-- ---- The end --------------------------------------------------------------

local function set_end(self, wake_all, err, code, info)
  if self._end then
    return
  end
  self._end = { err or "closed: the connection was closed here",
    code or "closed", info or {} }
  wake_all(self._receivers, nil, unpack(self._end))
  wake_all(self._senders)
  if self._on_end then
    self._on_end(unpack(self._end))
  end
end

-- Gives all messages, those that wait first, and then the end to others, from
-- the next tick on: for sipwire.ua.
function Connection:_divert(reader, on_end)
  self._diverted = true
  self.transport.loop:_defer(function()
    while self._first <= self._last do
      reader(take(self))
    end
    self._reader, self._on_end = reader, on_end
    if self._end then
      on_end(unpack(self._end))
    end
  end)
end

local function watch(self, t)
  t.on_message = function(_, message, binary)
    on_message(self, message, binary)
  end
  t.on_disconnect = function(_, err, code, info)
    set_end(self, self._receivers.wake_all, err, code, info)
  end
  t._on_dispose = function()
    local err, code = "disposed: the transport was disposed", "disposed"
    set_end(self, self._receivers.wake_all_later, err, code)
    self._closers:wake_all_later(nil, err, code)
    self._openers:wake_all_later(err, code, {})
  end
end

-- ---- Calls ----------------------------------------------------------------

--- Opens a connection, in a task: waits until it is up.
---@param given sipwire.Options
---@return sipwire.Connection|nil connection
---@return string|nil err
---@return string|nil code
---@return sipwire.Info|nil info
local function open(given)
  local running = task.current("open")
  local t = transports.new(given)
  local self = setmetatable({
    transport = t, _inbox = {}, _first = 1, _last = 0, _size = 0,
    _openers = waiting.new(), _receivers = waiting.new(),
    _senders = waiting.new(), _closers = waiting.new(),
  }, Connection)
  watch(self, t)
  local ok, err, code, info = t:connect(function(...)
    if not self._openers:wake_first(...) then -- a host ended who waited
      t:dispose()
    end
  end)
  if ok then
    err, code, info = self._openers:wait(running)
  end
  if err then
    t:dispose()
    return nil, err, code, info or {}
  end
  return self
end

--- Sends one SIP message. Waits only while the send queue is full.
---@param message string
---@param frame? "auto"|"text"|"binary"
---@return true|nil ok
---@return string|nil err
---@return string|nil code
---@return sipwire.Info|nil info of the connection's end
function Connection:send(message, frame)
  local running = task.current("send")
  while not self._end do
    local ok, err, code = self.transport:send(message, function()
      self._unsent = self._unsent - 1
      self._senders:wake_all()
    end, frame)
    if ok then
      self._unsent = (self._unsent or 0) + 1
      return true
    elseif code ~= "queue_full" or (self._unsent or 0) == 0 then
      return nil, err, code
    end
    self._senders:wait(running)
  end
  return nil, unpack(self._end)
end

--- Waits for the next message. What came before the end is still received.
---@param timeout? number seconds; nil: no limit
---@return string|nil message
---@return boolean|string binary, or err
---@return string|nil code "timeout", or why the connection ended
---@return sipwire.Info|nil info
function Connection:receive(timeout)
  local running = task.current("receive")
  if self._diverted then
    raise("receive(): the messages of this connection go to its user agent")
  end
  local ms = timeout ~= nil and options.seconds(timeout, "timeout") or nil
  if self._first <= self._last then
    return take(self)
  elseif self._end then
    return nil, unpack(self._end)
  end
  local message, binary, code, info =
    self._receivers:wait(running, ms)
  if message == nil and binary == nil then
    return nil, ("timeout: no message within %g s"):format(timeout),
      "timeout", {}
  end
  if message ~= nil then
    return message, binary
  end
  return nil, binary, code, info
end

--- Iterates over messages until the connection ends. Not on PUC Lua 5.1, which
--- cannot wait in an iterator: use receive() there.
---@return fun(): string|nil, boolean
function Connection:messages()
  task.current("messages")
  if not task.can_yield_in_iterator then
    raise("messages() cannot wait on this Lua: use receive()")
  end
  return function()
    local message, binary = self:receive()
    if message ~= nil then
      return message, binary
    end
  end
end

--- Closes and waits for the end.
---@param timeout? number seconds; nil: the option disconnect_timeout alone
---@return true|nil ok
---@return string|nil err
---@return string|nil code
function Connection:close(timeout)
  local running = task.current("close")
  local ms = timeout ~= nil and options.seconds(timeout, "timeout") or nil
  local ok, err, code = self.transport:disconnect(function(...)
    self._closers:wake_all(true, ...)
  end)
  if not ok then
    return nil, err, code
  end
  local woken, why, why_code = self._closers:wait(running, ms)
  if woken == nil and why == nil then
    return nil, ("timeout: not closed within %g s"):format(timeout), "timeout"
  elseif why then
    return nil, why, why_code
  end
  return true
end

return { open = open }
