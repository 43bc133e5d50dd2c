-- SPDX-License-Identifier: MIT
-- Stands between client and server of a soak run, on luv, and does to each
-- connection what its dice say.
--
-- relay.listen(port, secure, random) -> { port = }   passes on to that port
-- relay.newest(role, port) -> line  of a client that connects from this port, or
--                              of ours to the server
-- relay.common(client_port, server_port) -> line   that had both
-- relay.count                  connections in all;  relay.faults[kind]: of those
-- relay.open                   that are not closed yet
-- relay.slowest                seconds that an end needed to notice silence
-- relay.close()
--
-- line.kind   what it was given; "none" for most
-- line.fired  when it came to that; then anything may have been lost
-- line.garbled  bytes were changed

local uv = require "luv"

local M = { count = 0, open = 0, slowest = 0, faults = {} }
local lines = { client = {}, server = {} } -- by port: lists, the newest first
local handles = {}

local HIGH = 65536

-- libuv writes to sockets that were reset.
local broken_pipe = uv.new_signal()
broken_pipe:start("sigpipe", function() end)
broken_pipe:unref()

-- Of 100 connections. "early" ones are hit before or in the upgrade.
local kinds = {
  { 30, "none" }, { 8, "reset both" }, { 6, "reset client" },
  { 6, "reset server" }, { 6, "fin both" }, { 4, "fin client" },
  { 4, "fin server" }, { 5, "silence" }, { 3, "silence up" },
  { 3, "silence down" }, { 7, "cut" }, { 5, "slow" }, { 7, "garbage" },
  { 6, "late close" },
}

local function choose(random)
  local dice = random(100)
  for _, kind in ipairs(kinds) do
    dice = dice - kind[1]
    if dice <= 0 then
      return kind[2]
    end
  end
  return "none"
end

local function now()
  return uv.hrtime() / 1e9
end

local function close(handle)
  handles[handle] = nil
  if not handle:is_closing() then
    handle:close()
  end
end

local function reset(handle)
  handles[handle] = nil
  if not handle:is_closing() then
    handle:close_reset()
  end
end

local function after(ms, fn)
  local timer = uv.new_timer()
  handles[timer] = true
  timer:start(ms, 0, function()
    close(timer)
    fn()
  end)
end

-- ---- A line: two sockets and what is done to them --------------------------

local line = {}
line.__index = line

local function other(self, side)
  return side == self.client and self.server or self.client
end

function line:finish()
  if not self.closed then
    self.closed = true
    M.open = M.open - 1
  end
  close(self.client.handle)
  close(self.server.handle)
end

-- An end noticed what we did not tell it.
function line:noticed(side)
  if self.silent and not side.noticed then
    side.noticed = true
    M.slowest = math.max(M.slowest, now() - self.silent)
  end
end

function line:fin(side)
  if not side.fin and not side.handle:is_closing() then
    side.fin = true
    side.handle:shutdown(function() end)
  end
end

function line:ended(side, err)
  local peer = other(self, side)
  if side.ended then
    return
  end
  side.ended = true
  self:noticed(side)
  if peer.ended then
    return self:finish()
  end
  if self.mute and self.mute ~= peer then
    return -- the other end is to find out by itself
  end
  after(self.kind == "late close" and 50 + self.random(400) or 0, function()
    if self.closed or self.mute and self.mute ~= peer then
      return
    elseif err then
      reset(peer.handle)
      self:finish()
    else
      self:fin(peer)
    end
  end)
end

function line:write(side, bytes)
  if side.handle:is_closing() or side.fin or bytes == "" then
    return
  end
  local from = other(self, side)
  side.unwritten = side.unwritten + #bytes
  side.handle:write(bytes, function()
    side.unwritten = side.unwritten - #bytes
    if from.stopped and side.unwritten < HIGH and not from.napping then
      self:read(from)
    end
  end)
  if side.unwritten >= HIGH then
    self:stop_reading(from)
  end
end

function line:stop_reading(side)
  if not side.stopped and not side.handle:is_closing() then
    side.stopped = true
    side.handle:read_stop()
  end
end

-- ---- Faults ----------------------------------------------------------------

local deeds = {}

deeds["reset both"] = function(self)
  reset(self.client.handle)
  reset(self.server.handle)
  self:finish()
end

deeds["reset client"] = function(self)
  reset(self.client.handle)
  self:finish()
end

deeds["reset server"] = function(self)
  reset(self.server.handle)
  self:finish()
end

deeds["fin both"] = function(self)
  self:fin(self.client)
  self:fin(self.server)
end

deeds["fin client"] = function(self)
  self:fin(self.client)
end

deeds["fin server"] = function(self)
  self:fin(self.server)
end

deeds["cut"] = deeds["fin both"]

-- mute: the side that hears nothing any more, or "both".
local function silence(who)
  return function(self)
    self.silent = now()
    self.mute = self[who] or who
  end
end

deeds["silence"] = silence "both"
deeds["silence up"] = silence "server"
deeds["silence down"] = silence "client"

local function garbled(bytes, random)
  local at, choice = random(#bytes), random(3)
  local garbage = string.char(random(256) - 1, random(256) - 1, random(256) - 1)
  if choice == 1 then
    return bytes:sub(1, at) .. garbage .. bytes:sub(at + 1)
  elseif choice == 2 then
    return bytes:sub(1, at - 1) .. bytes:sub(at + 1)
  end
  return bytes:sub(1, at - 1) .. garbage .. bytes:sub(at + 3)
end

local function nap(self, side)
  side.napping = true
  self:stop_reading(side)
  after(20 + self.random(180), function()
    side.napping = false
    if not self.closed then
      self:read(side)
    end
  end)
end

-- What a line does with bytes on their way, once it is due.
local treatments = {
  garbage = function(self, to, bytes)
    if self.garbled then
      return bytes
    end
    self.garbled = true
    return garbled(bytes, self.random)
  end,
  slow = function(self, to, bytes)
    nap(self, other(self, to))
    return bytes
  end,
  cut = function(self, to, bytes)
    self:write(to, bytes:sub(1, self.random(#bytes) - 1))
    deeds["cut"](self)
    return ""
  end,
}

function line:pass(to, bytes)
  self.passed = self.passed + #bytes
  if self.mute == to or self.mute == "both" or to.ended and to.fin then
    return
  end
  if self.passed >= self.due and self.kind ~= "none" then
    if not self.fired and self.kind ~= "late close" then
      self.fired = true
      M.faults[self.kind] = (M.faults[self.kind] or 0) + 1
    end
    if treatments[self.kind] then
      bytes = treatments[self.kind](self, to, bytes)
    elseif deeds[self.kind] and not self.done then
      self.done = true
      deeds[self.kind](self)
    end
  end
  if self.mute ~= to and self.mute ~= "both" then
    self:write(to, bytes)
  end
end

-- ---- Reading, accepting ----------------------------------------------------

function line:read(side)
  local to = other(self, side)
  side.stopped = false
  if side.handle:is_closing() or side.ended then
    return
  end
  side.handle:read_start(function(err, bytes)
    if bytes then
      self:pass(to, bytes)
    else
      self:ended(side, err)
    end
  end)
end

-- Ports are used again, maybe before anybody asked for the line.
local KEPT = 4

local function remember(role, line, address)
  local port = tostring(address and address.port or 0)
  local list = lines[role][port] or {}
  lines[role][port] = list
  table.insert(list, 1, line)
  list[KEPT + 1] = nil
end

function M.newest(role, port)
  return (lines[role][port] or {})[1]
end

function M.common(client_port, server_port)
  for _, line in ipairs(lines.client[client_port] or {}) do
    for _, also in ipairs(lines.server[server_port] or {}) do
      if line == also then
        return line
      end
    end
  end
end

-- When it fires: some at the first bytes, some in the upgrade (or TLS
-- handshake), most later. What is not encrypted is garbled after the upgrade
-- only, or a path could become another good one.
local function due(self, secure, random)
  local stage = random(4)
  if self.kind == "garbage" and not secure then
    return 1500 + random(20000)
  elseif stage == 1 then
    return random(3000)
  end
  return random(60000)
end

local function accept(listening, port, secure, random)
  local client, server = uv.new_tcp(), uv.new_tcp()
  assert(listening:accept(client))
  handles[client], handles[server] = true, true
  client:nodelay(true)
  local self = setmetatable({ passed = 0, random = random, secure = secure,
    kind = choose(random), client = { handle = client, unwritten = 0 },
    server = { handle = server, unwritten = 0 } }, line)
  self.due = due(self, secure, random)
  M.count, M.open = M.count + 1, M.open + 1
  remember("client", self, client:getpeername())
  assert(server:connect("127.0.0.1", port, function(err)
    if err or self.closed then
      self.fired = true
      return self:finish()
    end
    server:nodelay(true)
    remember("server", self, server:getsockname())
    self:read(self.client)
    self:read(self.server)
  end))
end

function M.listen(port, secure, random)
  local listening = uv.new_tcp()
  handles[listening] = true
  assert(listening:bind("127.0.0.1", 0))
  assert(listening:listen(512, function(err)
    assert(not err, err)
    accept(listening, port, secure, random)
  end))
  return listening:getsockname().port
end

function M.close()
  for handle in pairs(handles) do
    close(handle)
  end
end

return M
