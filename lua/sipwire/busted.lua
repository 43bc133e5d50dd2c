-- SPDX-License-Identifier: MIT
-- For specs that busted runs against SIP servers: specs that wait, and a server
-- that answers as it is told. Knows SIP only as text.

local busted = require "busted"
local sipwire = require "sipwire"
local interpreted = require "sipwire.interpreted"
local loops = require "sipwire.loop"
local task = require "sipwire.task"

local unpack = table.unpack or unpack

local module = {}

-- The time that a spec or a wait has if none is given.
local SPEC_LIMIT, WAIT_LIMIT, MESSAGE_LIMIT = 10, 5, 5

-- ---- Waiting ---------------------------------------------------------------

local function words(what, condition)
  if type(what) == "function" then
    what = what()
  elseif what == nil then
    local info = debug.getinfo(condition, "S")
    what = ("the condition of %s:%d"):format(info.short_src, info.linedefined)
  end
  return tostring(what)
end

--- Waits, in a spec or in a task, until a condition holds, and returns what it
--- returned; raises an error that says what was waited for.
---@param condition fun(): any
---@param limit? number seconds, 5
---@param what? string|fun(): string for the error
---@return any
function module.run_until(condition, limit, what)
  limit = limit or WAIT_LIMIT
  local late = false
  local loop = task.loop() or loops.default()
  local timer = loop:timer(limit, function() late = true end)
  local result = condition()
  while not result and not late do
    if task.loop() then
      sipwire.sleep(0.005)
    else
      loop:step(0.005)
    end
    result = condition()
  end
  timer:stop()
  if not result then
    error(("not within %g s: %s"):format(limit, words(what, condition)), 2)
  end
  return result
end

-- ---- Expected messages -----------------------------------------------------

-- Messages that came before one that was expected, by connection: a later
-- expect_message() may want them.
local skipped = setmetatable({}, { __mode = "k" })

-- A match's captures, or what a function returned; nothing if it is none.
local function match(message, wanted)
  if type(wanted) == "function" then
    return wanted(message)
  end
  return message:match(wanted)
end

local function summary(messages)
  if #messages == 0 then
    return "no message came"
  end
  local lines = { "these came instead:" }
  for i, message in ipairs(messages) do
    lines[#lines + 1] = ("  %d. %s (%d bytes)"):format(i,
      message:match "^[^\r\n]*", #message)
  end
  return table.concat(lines, "\n")
end

local function complain(wanted, why, seen)
  local name = type(wanted) == "string" and "'" .. wanted .. "'" or
    "what the function wants"
  error(("no message that matches %s: %s; %s"):format(name, why,
    summary(seen)), 3)
end

--- Waits, in a task, for a message. Those that do not match are kept for later
--- calls.
---@param connection sipwire.Connection
---@param wanted string|fun(message: string): any a pattern, or a function
--- that returns something for the right one
---@param timeout? number seconds, 5
---@return string message
---@return any ... captures, or what the function returned
function module.expect_message(connection, wanted, timeout)
  local seen = skipped[connection] or {}
  skipped[connection] = seen
  for i, message in ipairs(seen) do
    local found = { match(message, wanted) }
    if found[1] then
      table.remove(seen, i)
      return message, unpack(found)
    end
  end
  timeout = timeout or MESSAGE_LIMIT
  local late = false
  local loop = task.current("expect_message").loop
  local timer = loop:timer(timeout, function() late = true end)
  while not late do
    local message, err, code = connection:receive(0.02) -- to look at the time
    local found = message and { match(message, wanted) } or {}
    if found[1] then
      timer:stop()
      return message, unpack(found)
    elseif not message and code ~= "timeout" then
      timer:stop()
      complain(wanted, err, seen)
    end
    seen[#seen + 1] = message
  end
  complain(wanted, ("not within %g s"):format(timeout), seen)
end

-- ---- A server by script ----------------------------------------------------

local reasons = {
  [100] = "Trying", [180] = "Ringing", [183] = "Session Progress",
  [200] = "OK", [202] = "Accepted", [302] = "Moved Temporarily",
  [400] = "Bad Request", [401] = "Unauthorized", [403] = "Forbidden",
  [404] = "Not Found", [405] = "Method Not Allowed",
  [407] = "Proxy Authentication Required", [408] = "Request Timeout",
  [415] = "Unsupported Media Type", [423] = "Interval Too Brief",
  [480] = "Temporarily Unavailable", [481] = "Call Does Not Exist",
  [486] = "Busy Here", [487] = "Request Terminated",
  [488] = "Not Acceptable Here", [500] = "Server Internal Error",
  [503] = "Service Unavailable", [603] = "Decline",
}

-- Fields that a response repeats (RFC 3261 section 8.2.6.2).
local repeated = {
  via = true, v = true, from = true, f = true, to = true, t = true,
  ["call-id"] = true, i = true, cseq = true, ["record-route"] = true,
}

local tags = 0

local function with_tag(line, status)
  local name = line:match "^[^:%s]+":lower()
  if (name ~= "to" and name ~= "t") or status == 100 or
    line:lower():find ";%s*tag%s*=[^>]*$" then
    return line
  end
  tags = tags + 1
  return line .. ";tag=scripted" .. tags
end

--- Makes the text of a response.
---@param request string
---@param status integer
---@param given? table reason, body, headers: a list of whole lines
---@return string
function module.response(request, status, given)
  given = given or {}
  local head = request:match "^(.-\r\n)\r\n" or request
  local lines = { ("SIP/2.0 %d %s"):format(status,
    given.reason or reasons[status] or "Scripted") }
  for line in head:gsub("\r\n[ \t]+", " "):gmatch "[^\r\n]+" do
    local name = line:match "^([^:%s]+)%s*:"
    if name and repeated[name:lower()] then
      lines[#lines + 1] = with_tag(line, status)
    end
  end
  for _, line in ipairs(given.headers or {}) do
    lines[#lines + 1] = line
  end
  local body = given.body or ""
  lines[#lines + 1] = "Content-Length: " .. #body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

--- A server that answers by script.
---@class sipwire.ScriptedServer
---@field url string
---@field received string[] all messages, in order
---@field connections sipwire.Transport[] in order of their coming
---@field faults string[] what came and was not expected
local Server = {}
Server.__index = Server

local servers = {} -- of the running spec

-- Sends what a step or a function of the user's says: a status, a text, or a
-- table { reply = status or text or function, headers=, body=, reason=,
-- delay=, close= }.
local function act(self, peer, request, answer)
  if type(answer) ~= "table" then
    answer = { reply = answer }
  end
  local function now()
    local reply = answer.reply
    if type(reply) == "function" then
      reply = reply(request, peer)
    end
    if type(reply) == "number" then
      reply = module.response(request, reply, answer)
    end
    if reply and peer:is_connected() then
      peer:send(reply)
    end
    if answer.close and peer:is_connected() then
      peer:disconnect()
    end
  end
  if answer.delay then
    self._loop:timer(answer.delay, now)
  else
    now()
  end
end

local function fits(step, request)
  local wanted = step.expect
  if wanted == nil then
    return true
  elseif type(wanted) == "function" then
    return wanted(request)
  end
  return request:find("^" .. wanted) ~= nil
end

local function next_step(self, peer, request)
  local step = self._steps[self._next]
  local line = request:match "^[^\r\n]*"
  if not step then
    self.faults[#self.faults + 1] = "not expected any more: " .. line
  elseif not fits(step, request) then
    self.faults[#self.faults + 1] = ("%d. expected %s, got %s"):format(
      self._next, tostring(step.expect), line)
  else
    self._next = self._next + 1
    act(self, peer, request, step)
  end
end

--- Raises an error if something came that was not expected, or not all steps
--- were made. it_async() does so at its end.
function Server:check()
  local step = self._steps and self._steps[self._next]
  if #self.faults > 0 then
    error("the scripted server: " .. table.concat(self.faults, "\n"), 2)
  elseif step then
    error(("the scripted server still expected: %d. %s"):format(self._next,
      tostring(step.expect or "anything")), 2)
  end
end

--- Sends a message of the server's own.
---@param message string
---@param number? integer of the connection, the last one
function Server:send(message, number)
  local peer = self.connections[number or #self.connections]
  return assert(peer, "nobody is connected"):send(message)
end

--- Ends all connections (close code 1000) and stops listening.
function Server:close()
  self._listener:close()
  for _, peer in ipairs(self.connections) do
    if not peer._disposed then
      peer:disconnect()
    end
  end
end

--- Starts a server on a free port of 127.0.0.1.
---@param script table|fun(request: string, peer: sipwire.Transport): any
--- a list of steps { expect = pattern of the beginning or function, reply = },
--- made one after the other, or a function that returns the answer to each
--- message. An answer is a status, a text, a table { reply =, reason =,
--- headers = { lines }, body =, delay = seconds, close = true }, or nothing.
---@param options? table more options of sipwire.listen()
---@return sipwire.ScriptedServer
function module.server(script, options)
  local self = setmetatable({ received = {}, connections = {}, faults = {} },
    Server)
  self._steps = type(script) == "table" and script or nil
  self._next = 1
  local given = {}
  for name, value in pairs(options or {}) do
    given[name] = value
  end
  self._loop = given.loop or task.loop() or loops.default()
  given.loop = self._loop
  function given.on_connection(peer)
    self.connections[#self.connections + 1] = peer
    peer.on_message = function(_, request)
      self.received[#self.received + 1] = request
      if self._steps then
        next_step(self, peer, request)
      else
        act(self, peer, request, script(request, peer))
      end
    end
  end
  self._listener = assert(sipwire.listen(given))
  self.url = self._listener.url
  servers[#servers + 1] = self
  return self
end
interpreted(module.server)

-- ---- Specs that wait -------------------------------------------------------

local kinds = { "_transports", "_listeners", "_timers", "_tasks" }

-- What a loop has, to tell what a spec added.
local function snapshot(loop)
  local seen = { deferred = loop._deferred }
  for _, kind in ipairs(kinds) do
    seen[kind] = {}
    for key in pairs(loop[kind]) do
      seen[kind][key] = true
    end
  end
  return seen
end
interpreted(snapshot)

local function added(loop, before, kind)
  local found = {}
  for key, value in pairs(loop[kind]) do
    if not before[kind][key] then
      found[key] = value
    end
  end
  return found
end
interpreted(added)

-- Ends what the spec left, and has the peers see that.
local function clean(loop, before)
  for thread in pairs(added(loop, before, "_tasks")) do
    loop._tasks[thread] = nil
  end
  for _, t in pairs(added(loop, before, "_transports")) do
    t:dispose()
  end
  for _, listener in pairs(added(loop, before, "_listeners")) do
    listener:close()
  end
  for _, timer in pairs(added(loop, before, "_timers")) do
    timer:stop()
  end
  if loop._deferred ~= before.deferred then -- its timer was stopped
    loop._deferred = nil
  end
  for _ = 1, loop._core and 5 or 0 do
    loop:step(0)
  end
end
interpreted(clean)

-- The error as busted knows it, told of where it was raised.
local function with_trace(err, trace)
  if type(err) == "table" and type(err.message) == "string" then
    err.message = err.message .. "\n" .. trace
    return err
  elseif type(err) == "string" then
    return err .. "\n" .. trace
  end
  return err
end

local function play(loop, fn, limit)
  local done, failed, err, late = false, false, nil, false
  local function fail(what)
    if not failed then
      failed, err = true, what
    end
  end
  local on_error = loop.on_error
  loop.on_error = function(what, _, name)
    fail(("error in %s: %s"):format(name, what))
  end
  loop:_spawn(function(what, trace)
    fail(with_trace(what, trace))
  end, function()
    fn()
    done = true
  end)
  loop:timer(limit, function() late = true end)
  while loop._core and not (done or failed or late) do
    loop:step()
  end
  loop.on_error = on_error
  if failed then
    return true, err
  elseif not done and not loop._core then
    return true, "the default loop was closed before the spec ended"
  elseif not done then
    return true, ("the spec did not end within %g s"):format(limit)
  end
end

--- Like busted's it(), but the body runs as a task of the default loop. What
--- it leaves is ended afterwards: transports, listeners, timers, tasks.
---@param name string
---@param fn fun()
---@param limit? number seconds, 10
function module.it_async(name, fn, limit)
  return busted.it(name, function()
    local loop = loops.default()
    local before = snapshot(loop)
    servers = {}
    local failed, err = play(loop, fn, limit or SPEC_LIMIT)
    clean(loop, before)
    if failed then
      error(err, 0)
    end
    for _, server in ipairs(servers) do
      server:check()
    end
  end)
end

return module
