-- SPDX-License-Identifier: MIT
-- Plays rows of the fault matrix (see fault.lua), many at once in one loop.
--
-- play.run(server, rows, width) -> plays, one for each row, in that order
--   |server|  a hostile server (hostile.lua)
--   |rows|    with `scheme`, `words`, `code`, `phase`, `sent` beside the rest
--   plays.errors  of callbacks    plays.left   descriptors that stayed open
--   plays.grown   bytes           one.row  one.log  one.messages
--   one.err  one.code  one.info   what was told of the fault, at one.told_at
--   one.since     { connect =, up =, act = }, when these were
--   one.listener  the server's    play.reported(one)  whether it told all
-- play.growth(fn)    by how many bytes the process grew meanwhile, at most

local assert = require "luassert"
local sipwire = require "sipwire"
local uv = require "luv"
local helper = require "spec.helper"
local hostile = require "spec.support.hostile"
local run = require "spec.support.run"

local M = {}
local Play = {}
Play.__index = Play

local scale = run.scale

-- ---- this process ----------------------------------------------------------

local function count_descriptors()
  local n = 0
  local scan = assert(uv.fs_scandir "/proc/self/fd")
  for _ in function() return uv.fs_scandir_next(scan) end do n = n + 1 end
  return n
end

local function status_kb(field)
  local file = assert(io.open "/proc/self/status")
  local text = file:read "*a"
  file:close()
  return tonumber(text:match(field .. ":%s*(%d+) kB"))
end

-- Bytes that are resident; the peak is counted anew from here on.
local function start_peak()
  collectgarbage()
  collectgarbage()
  local reset = assert(io.open("/proc/self/clear_refs", "w"))
  reset:write "5"
  reset:close()
  return status_kb "VmRSS" * 1024
end

local function peak() return status_kb "VmHWM" * 1024 end

function M.growth(fn)
  local before = start_peak()
  fn()
  return peak() - before
end

-- ---- one row ---------------------------------------------------------------

local timed = { connection_timeout = 5, disconnect_timeout = 5,
                keep_alive_timeout = 10, keep_alive_interval = 0 }

local function options_of(row, server)
  local options = { server = server }
  for name, value in pairs(row.options or {}) do options[name] = value end
  for name, default in pairs(timed) do
    options[name] = (options[name] or default) * scale
  end
  if row.scheme == "wss" then
    options.tls = { ca_file = helper.certs() .. "/ca.pem" }
  end
  return options
end

function Play:note(what, code)
  table.insert(self.log, code and what .. " " .. code or what)
end

-- The first time, it is the fault.
function Play:told(err, code, info)
  if self.told_at then return end
  self.told_at = run.now()
  self.err, self.code, self.info = err, code, info
  self.since = { connect = self.began, up = self.up, act = self.acted }
  if self.listener.words:match "^refusing" or
    self.listener.words:match "^full" then
    self.listener:open()
    self.opening = true
  else
    self:again()
  end
end

function Play:connect()
  self.began = run.now()
  assert(self.t:connect(function(err, code, info)
    self:note("connect", code)
    if err then self:told(err, code, info) end
  end))
end

function Play:disconnect()
  self.acted = run.now()
  assert(self.t:disconnect(function(err, code)
    self:note("disconnect", code)
    if self.used then
      self.over = true
    else
      self:told(err, code, {})
    end
  end))
end

-- The same object, a good server.
function Play:again()
  self.opening = nil
  self.good = true
  self:connect()
end

function Play:on_connect()
  self:note "up"
  self.up = run.now()
  if self.good then
    assert(self.t:send("again", function(err, code)
      self:note("sent", code)
      assert.is_nil(err)
    end))
  elseif self.row.act then
    self.acted = run.now()
    self.row.act(self)
  elseif not self.row.phase and not self.row.messages then
    self:disconnect()
  end
end

function Play:on_message(message)
  if self.good then
    self:note("message " .. message)
    self.used = true
    return self:disconnect()
  end
  local row, messages = self.row, self.messages
  if row.on_message then message = row.on_message(self, message) end
  messages[#messages + 1] = message
  if not row.phase and #messages == #row.messages then self:disconnect() end
end

function Play:start()
  local row = self.row
  local t = sipwire.new(options_of(row, function()
    return not self.good and row.url or self.listener.url
  end))
  self.t = t
  t.state_change:add_listener(function(state, _, _, _, code)
    self:note(state, code)
  end)
  t.on_connect = function() self:on_connect() end
  t.on_disconnect = function(_, err, code, info)
    self:note("down", code)
    if code then self:told(err, code, info) end
  end
  t.on_message = function(_, message) self:on_message(message) end
  self:connect()
end

function M.reported(play)
  local reports = play.listener.reports
  local first = play.row.unreported or play.row.url or reports[1] or
    play.opened_late
  local last = play.row.url and 1 or 2
  return first and reports[last]
end

function Play:advance()
  if self.opening and self.listener.opened then
    self.opened_late = true
    self:again()
  end
  return self.over and M.reported(self)
end

-- ---- many rows -------------------------------------------------------------

local function settled(fds)
  local loop = run.default_loop()
  return not loop._core:alive() and count_descriptors() <= fds
end

-- Plays them, |width| at a time; those that hang are left to judge().
local function play_all(server, plays, width)
  local first, running = 1, {}
  local limit = 8 * scale
  local progress = run.now()
  repeat
    while #running < width and plays[first] do
      running[#running + 1] = plays[first]
      plays[first]:start()
      first, progress = first + 1, run.now()
    end
    for i = #running, 1, -1 do
      if running[i]:advance() then
        table.remove(running, i)
        progress = run.now()
      end
    end
    server:poll()
    run.pass()
  until #running == 0 and not plays[first] or run.now() - progress > limit
end

function M.run(server, rows, width)
  local loop = run.default_loop()
  local plays = { errors = {} }
  for i, row in ipairs(rows) do
    plays[i] = setmetatable({ row = row, log = {}, messages = {},
      listener = server:listen(row.scheme, row.url and "good" or row.words),
    }, Play)
  end
  server:await(function() return plays[#plays].listener.url end, 10, "ports")
  local on_error = loop.on_error
  loop.on_error = function(err) table.insert(plays.errors, err) end
  local fds = count_descriptors()
  plays.grown = M.growth(function() play_all(server, plays, width) end)
  for _, one in ipairs(plays) do
    if one.t and not one.over then one.t:dispose() end
  end
  pcall(run.run_until, function() return settled(fds) end, 3)
  plays.left = count_descriptors() - fds
  loop.on_error = on_error
  return plays
end

return M
