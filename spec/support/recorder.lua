-- SPDX-License-Identifier: MIT
-- Writes down what a transport tells, in order, and checks what holds for
-- every callback whatever happens.
--
-- recorder.loop([options]) -> loop    turned by run_until, closed after the
--                                     spec; its errors are the spec's
-- recorder.new(t) -> r                takes all callbacks of |t|, which is r.t
-- recorder.client(peer [, options]) -> r   of a new transport for a peer (see
--                                     peers.lua), on a new loop unless one is
--                                     among the options; r.poll polls the peer
-- recorder.call(fn, ...)              a call of the library: no callback may
--                                     come before it returns
-- recorder.callback(fn)               checks that calls of |fn| do not nest
-- recorder.raising(fn)                for an |fn| that raises inside of one
-- recorder.drain(n, loop, ...)        |n| ticks without waiting, of luv too
-- recorder.await(condition, what, loop [, poll [, limit]])   like run_until;
--                                     tries without waiting first
-- r:connect(name)  r:disconnect(name)  r:send(name, message): the methods of
--   t with a completion of that name; they return what t's return
-- r.log        one line per callback: the state that was entered, "up", "down",
--              "message TEXT", names of completions; then the code, if any
-- r.ends       line -> { err, code, info } of the last such line with an error
-- r:within(line, fn)       fn(t) is called once, inside the callback that
--                          writes |line| (without the code)
-- r:has(line)              whether the log has it
-- r:take()                 the log as one string; the log is empty then
-- r:expect(text [, limit]) waits until there are as many lines, goes on for
--                          some ticks, compares and takes.  r.poll, if there is
--                          one, is called at every turn
-- r:await(what, condition [, limit])  waits likewise
-- r:up()  r:down()         connects, disconnects; expects what that tells

local assert = require "luassert"
local sipwire = require "sipwire"
local uv = require "luv"
local run = require "spec.support.run"

local unpack = table.unpack or unpack

local M = {}
local recorder = {}
recorder.__index = recorder

local depth, calls = 0, 0

function M.call(fn, ...)
  calls = calls + 1
  local results = { pcall(fn, ...) }
  calls = calls - 1
  if not results[1] then error(results[2], 2) end
  return unpack(results, 2, 5)
end

-- No callback comes inside another one or inside a call (DESIGN rule 1).
function M.callback(fn)
  return function(...)
    if depth > 0 then error "a callback was called inside another one" end
    if calls > 0 then error "a callback was called inside a call" end
    depth = 1
    fn(...)
    depth = 0
  end
end

function M.raising(fn)
  return function()
    depth = 0
    fn()
  end
end

function M.loop(options)
  depth, calls = 0, 0
  options = options or {}
  if options.on_error == nil then
    options.on_error = function(err) run.report(err) end
  end
  return run.track(run.add_loop(sipwire.loop(options)))
end

local function turn(...)
  if run.gc_stress then collectgarbage() end
  uv.run "nowait"
  for _, loop in ipairs { ... } do loop:step(0) end
end

function M.drain(n, ...)
  for _ = 1, n do turn(...) end
end

-- Over loopback most things are there after some turns.
function M.await(condition, what, loop, poll, limit)
  local function check()
    if poll then poll() end
    return condition()
  end
  for _ = 1, 20 do
    if check() then return end
    turn(loop)
  end
  run.run_until(check, limit, what)
end

-- ---- what is written -------------------------------------------------------

-- Returns the line's end; nil, nil, nil or an error of all three.
local function judge(self, line, err, code, info)
  if err == nil then
    assert.is_nil(code)
    assert.is_nil(info)
    return line
  end
  assert.equal("string", type(err))
  assert.equal("string", type(code))
  assert.equal(code .. ": ", err:sub(1, #code + 2))
  assert.equal("table", type(info))
  self.ends[line] = { err = err, code = code, info = info }
  return line .. " " .. code
end

function recorder:note(line, err, code, info)
  assert.equal(self.t.state == "Connected", self.t:is_connected()) -- C6
  table.insert(self.log, judge(self, line, err, code, info))
  local fn = self.inside[line]
  self.inside[line] = nil
  if fn then fn(self.t) end
end

local function on_state(self, state, previous, t, ...)
  assert.equal(self.t, t)
  assert.equal(self.last, previous)
  assert.not_equal(state, previous)
  self.last = state
  self:note(state, ...)
end

local function on_connect(self, n, t)
  assert.equal(1, n)
  assert.equal(self.t, t)
  assert.equal("Connected", t.state) -- C41
  assert.equal("Connected", self.last)
  self:note "up"
end

local function on_disconnect(self, t, err, code, info)
  assert.equal(self.t, t)
  assert.not_equal("Connected", t.state) -- C42
  assert.equal(err and "Disconnected" or "Disconnecting", self.last)
  self:note("down", err, code, info)
end

local function on_message(self, n, t, message, binary)
  assert.equal(3, n)
  assert.equal(self.t, t)
  assert.equal("Connected", t.state)
  self:note((binary and "binary " or "message ") .. message)
end

function M.new(t)
  local self = setmetatable({ t = t, log = {}, ends = {}, inside = {},
    last = t.state, counts = {} }, recorder)
  t.state_change:add_listener(M.callback(function(...) on_state(self, ...) end))
  t.on_connect = M.callback(function(...)
    on_connect(self, select("#", ...), ...)
  end)
  t.on_disconnect = M.callback(function(...) on_disconnect(self, ...) end)
  t.on_message = M.callback(function(...)
    on_message(self, select("#", ...), ...)
  end)
  return self
end

function M.client(peer, options)
  local limit = 5 * run.scale
  local given = { server = peer.url, connection_timeout = limit,
    disconnect_timeout = limit,
    loop = not (options and options.loop) and M.loop() or nil }
  for name, value in pairs(options or {}) do given[name] = value end
  local self = M.new(sipwire.new(given))
  function self.poll() peer:poll() end
  return self
end

-- A completion that may come once.
function recorder:done(name)
  local came = false
  return M.callback(function(...)
    assert.is_false(came, name .. " completed twice")
    came = true
    self:note(name, ...)
  end)
end

function recorder:connect(name)
  return M.call(self.t.connect, self.t, name and self:done(name))
end

function recorder:disconnect(name)
  return M.call(self.t.disconnect, self.t, name and self:done(name))
end

function recorder:send(name, message)
  return M.call(self.t.send, self.t, message, name and self:done(name))
end

function recorder:within(line, fn) self.inside[line] = fn end

function recorder:has(line)
  for _, other in ipairs(self.log) do
    if other == line then return true end
  end
  return false
end

function recorder:take()
  local text = table.concat(self.log, ", ")
  self.log = {}
  return text
end

-- ---- what is waited for ----------------------------------------------------

local function count(text)
  if text == "" then return 0 end
  return select(2, text:gsub(", ", "")) + 1
end

function recorder:await(what, condition, limit)
  M.await(condition, what, self.t.loop, self.poll, limit)
end

function recorder:expect(text, limit)
  local wanted = count(text)
  limit = limit or 2
  local deadline = run.now() + limit * run.scale
  self:await(text, function()
    return #self.log >= wanted or run.now() > deadline
  end, limit + 5)
  for _ = 1, 8 do
    if self.poll then self.poll() end
    M.drain(1, self.t.loop)
  end
  local errors = run.take_errors()
  assert(not errors, errors)
  assert.equal(text, self:take())
end

function recorder:up()
  assert.is_true(self:connect())
  self:expect "Connecting, Connected, up"
end

function recorder:down()
  assert.is_true(self:disconnect())
  self:expect "Disconnecting, down, Disconnected"
end

return M
