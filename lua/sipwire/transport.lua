-- SPDX-License-Identifier: MIT
-- Transports: the core's object with callbacks.

local core = require "sipwire.core"
local loops = require "sipwire.loop"
local new_emitter = require "sipwire.emitter"
local interpreted = require "sipwire.interpreted"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local task = require "sipwire.task"

local core_send = core.transport_send

--- A SIP over WebSocket transport (RFC 7118). Never blocks; its callbacks are
--- called in a later tick of its loop, never from inside a call.
---@class sipwire.Transport
---@field state "Disconnected"|"Connecting"|"Connected"|"Disconnecting" (read only)
---@field protocol "WS"|"WSS" the Via transport (RFC 7118 section 5.1);
--- assignable for a server behind a TLS front, nil resets it
---@field server string|nil the URL of the next attempt, or of the last one
--- that a server function gave (read only)
---@field local_address string|nil "address:port" of the live connection (read only)
---@field peer_address string|nil the other end's (read only)
---@field loop sipwire.Loop (read only)
---@field state_change sipwire.Emitter of
--- fun(state, previous, t, err, code, info) (read only)
---@field on_connect fun(t: sipwire.Transport)|nil on entering Connected
---@field on_disconnect fun(t: sipwire.Transport, err: string|nil, code: string|nil, info: sipwire.Info|nil)|nil
--- on leaving Connected; err is nil if we asked for it
---@field on_message fun(t: sipwire.Transport, message: string, binary: boolean)|nil
--- one SIP message per call
local Transport = {}

--- Why a connection failed or ended; fields are present when known.
---@class sipwire.Info
---@field phase "dns"|"tcp"|"proxy"|"tls"|"upgrade"|"open"|"closing"|nil where
---@field http_status integer|nil of a refused upgrade or tunnel
---@field http_headers table<string, string>|nil lower-case names
---@field close_code integer|nil 1005: a close frame without a code, 1006: no
--- close frame (RFC 6455 section 7.4.1)
---@field close_reason string|nil
---@field was_clean boolean|nil both close frames were exchanged
---@field tls_error string|nil OpenSSL's words
---@field errno integer|nil of the system call that failed

local callbacks = { on_connect = true, on_disconnect = true, on_message = true }

local function check(t)
  if t._disposed then
    raise("disposed: %s was disposed", tostring(t))
  end
  return t._core
end

-- ---- Who keeps it alive ---------------------------------------------------

-- The loop holds a transport as long as it may have something to tell.
local function hold(t)
  t._loop._live[t._id] = t
end

local function release_if_done(t)
  if t._pending == 0 and t._core:state() == "Disconnected" then
    t._loop._live[t._id] = nil
  end
end

-- A tag for a call's completion, or nil. `call(err, code, info)` in a tick.
local function completion_tag(t, name, done)
  if not done then
    return nil
  end
  local loop = t._loop
  local tag
  t._pending = t._pending + 1
  tag = loop:_tag(function(...)
    t._tags[tag] = nil
    loop:_call(t, name, done, ...)
    t._pending = t._pending - 1
    if not t._disposed then
      release_if_done(t)
    end
  end)
  t._tags[tag] = true
  return tag
end

local function cancel_tag(t, tag)
  if tag then
    t._tags[tag] = nil
    t._loop:_untag(tag)
    t._pending = t._pending - 1
  end
end

-- ---- What the loop dispatches ---------------------------------------------

function Transport:_trace_message(direction, message)
  if not self._disposed then
    self._loop:_call(self, "trace", self._trace, direction, message, self)
  end
end

-- Requests made inside a transition's callbacks are carried out when all of
-- them have run.
local function run_held(t)
  local held = t._held
  t._held = nil
  for _, request in ipairs(held or {}) do
    if not t._disposed then
      request()
    end
  end
end

function Transport:_transition(state, previous, up, down, err, code, info)
  local loop = self._loop
  self._in_transition = true
  if self._state_change then
    self._state_change:_each(function(listener)
      if not self._disposed then
        loop:_call(self, "state_change", listener, state, previous, self, err,
          code, info)
      end
    end)
  end
  local fn = up and self._on_connect
  if fn and not self._disposed then
    loop:_call(self, "on_connect", fn, self)
  end
  fn = down and self._on_disconnect
  if fn and not self._disposed then
    loop:_call(self, "on_disconnect", fn, self, err, code, info)
  end
  self._in_transition = nil
  run_held(self)
  if not self._disposed then
    release_if_done(self)
  end
end

-- ---- Calls ----------------------------------------------------------------

-- Raises what the core said of an option: "invalid: server: port is ..." is
-- told without the code.
local function complain(err, code)
  raise("%s", code == "invalid" and err:gsub("^invalid: ", "") or err)
end

-- Returns a run-time failure; a loop of the parent process is a mistake.
local function failure(err, code)
  if code == "fork" then
    complain(err, code)
  end
  return nil, err, code
end

-- Asks the server function where to connect to. It is the only user code that
-- runs inside a call, so it may not make one of its transport.
local function ask_server(t)
  if t._asking then
    raise("connect() inside its own server function")
  end
  t._asking = true
  local called, url, headers = pcall(t._server)
  t._asking = nil
  check(t)
  if not called then
    error(url, 0)
  end
  url, headers = options.answer(url, headers)
  local ok, err, code = t._core:set_server(t._loop._core, url, headers)
  if not ok then
    complain(err, code)
  end
end

local function connect(t, done)
  if t._accepted then
    return nil, "state: an accepted transport cannot connect", "state"
  end
  local state = t._core:state()
  if t._server and (state == "Disconnected" or state == "Disconnecting") then
    ask_server(t)
  end
  local tag = completion_tag(t, "connect completion", done)
  local ok, err, code = t._core:connect(tag)
  if not ok then
    cancel_tag(t, tag)
    return failure(err, code)
  end
  hold(t)
  t._loop:_tell_host()
  return true
end

local function disconnect(t, done)
  local tag = completion_tag(t, "disconnect completion", done)
  local ok, err, code = t._core:disconnect(tag)
  if not ok then
    cancel_tag(t, tag)
    return failure(err, code)
  end
  if tag then
    hold(t)
  end
  t._loop:_tell_host()
  return true
end

-- A held request has nobody to return an error to but its completion.
local function hold_request(t, name, done, request)
  t._held = t._held or {}
  t._held[#t._held + 1] = function()
    local called, ok, err, code = pcall(request)
    if not called then
      local words = loops.describe(ok)
      t._loop:_report(words, t, name)
      ok, err, code = nil, "state: " .. words, "state"
    end
    if not ok and done then
      t._loop:_defer(function()
        if not t._disposed then
          t._loop:_call(t, name .. " completion", done, err, code, {})
        end
      end)
    end
  end
  return true
end

--- Connects. Joins a pending connect(); succeeds at once when Connected; while
--- Disconnecting it opens a new connection and lets the old one finish.
--- Inside on_connect, on_disconnect and state_change listeners it is carried
--- out when all of them have run.
---@param done? fun(err: string|nil, code: string|nil, info: sipwire.Info|nil)
--- called exactly once, in a later tick; err nil: connected
---@return true|nil ok
---@return string|nil err
---@return string|nil code
function Transport:connect(done)
  check(self)
  options.callback(done, "done")
  if self._in_transition then
    return hold_request(self, "connect", done, function()
      return connect(self, done)
    end)
  end
  return connect(self, done)
end

--- Disconnects with close code 1000 after everything that send() accepted, or
--- gives a pending connect() up.
---@param done? fun(err: string|nil, code: string|nil) called exactly once;
--- code "aborted" if a later connect() came first
---@return true|nil ok
---@return string|nil err
---@return string|nil code
function Transport:disconnect(done)
  check(self)
  options.callback(done, "done")
  if self._in_transition then
    return hold_request(self, "disconnect", done, function()
      return disconnect(self, done)
    end)
  end
  return disconnect(self, done)
end

--- Sends one SIP message as one WebSocket message.
---@param message string any bytes, also ""
---@param done? fun(err: string|nil, code: string|nil) called exactly once:
--- with no err when the bytes were handed to the kernel, else they were lost
---@param frame? "auto"|"text"|"binary" instead of the option of that name
---@return true|nil ok nil: nothing was accepted
---@return string|nil err
---@return "state"|"queue_full"|"utf8"|"nomem"|nil code
function Transport:send(message, done, frame)
  local tag, kind
  if frame ~= nil or done ~= nil then
    check(self)
    kind = frame ~= nil and options.frame(frame) or nil
    tag = completion_tag(self, "send completion",
      options.callback(done, "done"))
  end
  local ok, err, code = core_send(self._core, message, tag, kind)
  if not ok then -- only now, as most messages are right
    cancel_tag(self, tag)
    check(self)
    if type(message) ~= "string" then
      raise("message must be a string, not %s", type(message))
    end
    return failure(err, code)
  end
  if self._trace then -- not now: user code never runs inside a call
    self._loop:_defer(function()
      self:_trace_message("out", message)
    end)
  end
  return true
end

---@return boolean connected exactly state == "Connected"
function Transport:is_connected()
  return self._core:state() == "Connected"
end

--- Counters of the transport's life, and times of its last attempt.
---@return sipwire.Stats
function Transport:stats()
  return check(self):stats()
end

---@class sipwire.Stats
---@field messages_in integer delivered
---@field messages_out integer accepted by send()
---@field bytes_in integer payload of those
---@field bytes_out integer
---@field dropped integer received and not delivered
---@field queue integer bytes accepted and not handed to the kernel
---@field pings_sent integer keep-alives of the connection
---@field pongs_received integer their answers
---@field rtt number|nil seconds from the last keep-alive to its answer
---@field dns_time number|nil seconds
---@field tcp_time number|nil seconds
---@field tls_time number|nil seconds
---@field upgrade_time number|nil seconds
---@field tls_resumed boolean the last attempt went on with an earlier TLS session

--- Final: closes a live connection in the background; no callback is called
--- any more, and every method but is_connected() and dispose() raises.
function Transport:dispose()
  if self._disposed then
    return
  end
  self._disposed = true
  self._name = self._name or self._core:server()
  self._loop._live[self._id] = nil
  self._core:dispose()
  self._loop:_tell_host()
  for tag in pairs(self._tags) do -- nobody will ask for them any more
    self._loop:_untag(tag)
  end
  if self._on_dispose then
    self._on_dispose()
  end
end
interpreted(Transport.dispose)

-- Stops and resumes reading from the network; for connections.
function Transport:_pause(paused)
  if not self._disposed then
    self._core:pause(paused)
  end
end

-- ---- The object -----------------------------------------------------------

local getters = {}

function getters.state(t)
  return t._core:state()
end

function getters.protocol(t)
  if t._protocol then
    return t._protocol
  end
  return check(t):secure() and "WSS" or "WS"
end

function getters.server(t)
  return check(t):server()
end

function getters.local_address(t)
  return check(t):local_address()
end

function getters.peer_address(t)
  return check(t):peer_address()
end

function getters.loop(t)
  return t._loop
end

-- Made when first asked for: most transports of a load have no listeners.
function getters.state_change(t)
  local emitter = t._state_change
  if not emitter then
    emitter = new_emitter()
    t._state_change = emitter
  end
  return emitter
end

local Meta = { __name = "sipwire.transport" }

function Meta.__index(t, name)
  local method = Transport[name]
  if method then
    return method
  elseif getters[name] then
    return getters[name](t)
  elseif callbacks[name] then
    return rawget(t, "_" .. name) or nil
  end
end

local function set_protocol(t, value)
  if value ~= nil and value ~= "WS" and value ~= "WSS" then
    raise('protocol must be "WS", "WSS" or nil')
  end
  rawset(t, "_protocol", value)
end

function Meta.__newindex(t, name, value)
  if type(name) == "string" and name:sub(1, 1) == "_" then
    rawset(t, name, value)
  elseif callbacks[name] then
    rawset(t, "_" .. name, options.callback(value, name) or false)
  elseif name == "protocol" then
    set_protocol(t, value)
  elseif getters[name] or Transport[name] then
    raise("field '%s' is read-only", name)
  else
    raise("unknown field '%s'%s", tostring(name),
      options.suggest(name, callbacks))
  end
end

function Meta.__tostring(t)
  local name = t._name
  if not name and not t._disposed then
    name = t._core:server()
  end
  return ("sipwire.transport: %s %s"):format(name or "(no server yet)",
    t._disposed and "disposed" or t._core:state())
end

-- What the way of a message looks at is there from the start: a field that is
-- absent costs a call of __index (400 of the 6500 instructions of an echo in
-- spec/bench).
local function wrap(loop, handle, id, trace_fn)
  local t = setmetatable({
    _core = handle, _loop = loop, _id = id, _pending = 0, _tags = {},
    _disposed = false, _trace = trace_fn or false, _on_message = false,
    send = Transport.send,
  }, Meta)
  loop._transports[id] = t
  return t
end

local function next_id(loop)
  loop._last_id = loop._last_id + 1
  return loop._last_id
end

-- The loop an option names, or that of the running task, or the default one.
local function loop_of(checked)
  local loop = checked.loop
  if loop and not loops.is_loop(loop) then
    raise("option 'loop' must be a sipwire loop")
  end
  loop = loop or task.loop() or loops.default()
  loop:_check()
  return loop
end

local function new(given)
  local checked, config = options.transport(given)
  local loop = loop_of(checked)
  local dynamic = type(checked.server) == "function" and checked.server or nil
  config.server = not dynamic and checked.server or nil
  local id = next_id(loop)
  local handle, err, code =
    core.transport_new(loop._core, config, id, checked.headers)
  if not handle then
    complain(err, code)
  end
  local t = wrap(loop, handle, id, checked.trace)
  t._server = dynamic
  return t
end

-- A transport over an accepted connection, Connected already.
local function adopt(loop, handle, id, trace_fn)
  local t = wrap(loop, handle, id, trace_fn)
  t._accepted, t._name = true, handle:peer_address() or "(gone)"
  hold(t)
  return t
end

return {
  new = new, adopt = adopt, next_id = next_id, loop_of = loop_of,
  complain = complain,
  Transport = Transport,
}
