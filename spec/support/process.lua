-- SPDX-License-Identifier: MIT
-- Child processes of specs.  They get stdin, stdout and stderr as pipes and an
-- environment without LD_PRELOAD, sanitizers' and valgrind's variables.  None
-- outlives the spec that started it (or the run, if started outside of one):
-- the kernel sends them SIGTERM even when the runner is killed.
--
-- process.spawn { "program", "argument", ..., cwd = , env = { NAME = value },
--                 as_is = true (keep the environment: for sanitized modules) }
-- p.pid  p.code  p.signal (once it ended)  p.lines (stdout not taken)  p.stderr
-- p:line([limit])     the next line of stdout; raises if there will be none
-- p:json([limit])     the same, decoded
-- p:output([limit])   all of the rest, after its end
-- p:write(bytes)  p:close_stdin()
-- p:wait_asleep([limit])   until it waits for something
-- p:wait([limit])     code, signal
-- p:stop([limit])     closes stdin, sends SIGTERM, then SIGKILL; waits
-- process.run { ..., input = bytes, limit = seconds }: code, stdout, stderr
-- process.lua(argument, ...)   such a table that runs Lua

local uv = require "luv"
local run = require "spec.support.run"

local M = {}
local process = {}
process.__index = process

local setpriv = "/usr/bin/setpriv"
local stderr_kept = 65536
local alive = {} -- pid -> true

local function unwanted(name)
  return name == "LD_PRELOAD" or name:match "^[ALTUM]+SAN_OPTIONS$" or
    name:match "^VALGRIND" or name:match "^GLIBC[PX]+_FORCE_NEW$"
end

local function environment(options)
  local vars, list = {}, {}
  for name, value in pairs(uv.os_environ()) do
    if options.as_is or not unwanted(name) then vars[name] = value end
  end
  for name, value in pairs(options.env or {}) do
    vars[name] = tostring(value)
  end
  for name, value in pairs(vars) do list[#list + 1] = name .. "=" .. value end
  return list
end

local function command(options)
  local words = {}
  for i, word in ipairs(options) do words[i] = tostring(word) end
  if uv.fs_stat(setpriv) then
    local wrapped = { setpriv, "--pdeathsig", "TERM", "--" }
    for _, word in ipairs(words) do wrapped[#wrapped + 1] = word end
    words = wrapped
  end
  return table.remove(words, 1), words
end

function process:take_stdout(data)
  local from = 1
  while true do
    local stop = data:find("\n", from, true)
    if not stop then break end
    table.insert(self.partial, data:sub(from, stop - 1))
    self.lines[#self.lines + 1] = table.concat(self.partial)
    self.partial, from = {}, stop + 1
  end
  table.insert(self.partial, data:sub(from))
end

function process:take_stderr(data)
  self.stderr = (self.stderr .. data):sub(-stderr_kept)
end

function process:read(pipe, take)
  self.open = self.open + 1
  pipe:read_start(run.guard(function(_, data)
    if data then return take(self, data) end
    self.open = self.open - 1
    pipe:close()
  end))
end

local function close(handle)
  if not handle:is_closing() then handle:close() end
end

function M.spawn(options)
  local p = setmetatable({ name = tostring(options[1]), lines = {},
    partial = {}, stderr = "", open = 0 }, process)
  local stdio = { uv.new_pipe(false), uv.new_pipe(false), uv.new_pipe(false) }
  local file, args = command(options)
  local handle, pid, code = uv.spawn(file, { args = args, stdio = stdio,
    cwd = options.cwd, env = environment(options) },
    run.guard(function(status, signal)
      p.code, p.signal = status, signal
      alive[p.pid] = nil
      close(p.handle)
    end))
  if not handle then
    for _, pipe in ipairs(stdio) do pipe:close() end
    error(("cannot start %s: %s %s"):format(file, pid, code), 2)
  end
  p.handle, p.pid, p.stdin = handle, pid, stdio[1]
  alive[pid] = true
  p:read(stdio[2], p.take_stdout)
  p:read(stdio[3], p.take_stderr)
  p.pipes = { stdio[2], stdio[3] }
  return run.track(p)
end

function process:ended() return self.code ~= nil and self.open == 0 end

function process:line(limit)
  run.wait(function() return self.lines[1] or self:ended() end, limit,
    function() return "a line from " .. self.name .. "\n" .. self.stderr end)
  if not self.lines[1] then
    error(("%s ended (%s, signal %s) without that line\n%s"):format(self.name,
      self.code, self.signal, self.stderr), 2)
  end
  return table.remove(self.lines, 1)
end

function process:json(limit)
  local line = self:line(limit)
  local value, _, err = require "dkjson".decode(line)
  if err then error(self.name .. " wrote no JSON: " .. line, 2) end
  return value
end

function process:write(bytes)
  self.stdin:write(bytes, run.guard(function() end))
end

-- What was written before still arrives.
function process:close_stdin()
  local pipe = self.stdin
  if pipe:is_closing() or self.stdin_ended then return end
  self.stdin_ended = true
  local ok = pcall(pipe.shutdown, pipe, run.guard(function() close(pipe) end))
  if not ok then close(pipe) end
end

-- "PID (NAME) STATE ..."; no program that specs start has a ")" in its name.
local function is_asleep(pid)
  local file = io.open(("/proc/%d/stat"):format(pid))
  local line = file and file:read "*l"
  if file then file:close() end
  return line and line:match "%) (%a)" == "S"
end

function process:wait_asleep(limit)
  run.wait(function() return self.code or is_asleep(self.pid) end, limit,
    function() return self.name .. " asleep\n" .. self.stderr end)
  if self.code then error(self.name .. " ended\n" .. self.stderr, 2) end
end

function process:wait(limit)
  run.wait(function() return self.code end, limit,
    function() return "the end of " .. self.name .. "\n" .. self.stderr end)
  return self.code, self.signal
end

function process:output(limit)
  run.wait(function() return self:ended() end, limit,
    "the end of " .. self.name .. "'s output")
  local text = table.concat(self.lines, "\n")
  return text .. (#self.lines > 0 and "\n" or "") .. table.concat(self.partial)
end

function process:stop(limit)
  run.untrack(self)
  self:close_stdin()
  if not self.code then
    uv.kill(self.pid, "sigterm")
    local deadline = run.now() + (limit or 10) * run.scale
    run.wait(function() return self.code or run.now() > deadline end, 3600)
  end
  if not self.code then
    uv.kill(self.pid, "sigkill")
    self:wait(5)
  end
  -- A grandchild may hold the pipes open for longer than we care.
  for _, pipe in ipairs(self.pipes) do close(pipe) end
  close(self.stdin)
  run.pass()
  return self.code, self.signal
end

process.close = process.stop

function M.run(options)
  local p = M.spawn(options)
  if options.input then p:write(options.input) end
  p:close_stdin()
  local out = p:output(options.limit or 10)
  p:stop()
  return p.code, out, p.stderr
end

-- Hex SHA-256 of |bytes|, made by somebody else.
function M.sha256(bytes)
  local code, out = M.run { "sha256sum", input = bytes }
  assert(code == 0, "sha256sum failed")
  return out:match "^%x+"
end

-- The words that run this Lua, with the same modules: $LUA if the runner gave
-- it, else the program that runs this; then |...|.
function M.lua(...)
  local command = {}
  for word in (os.getenv "LUA" or ""):gmatch "%S+" do
    command[#command + 1] = word
  end
  command[1] = command[1] or assert(uv.fs_readlink "/proc/self/exe")
  for _, word in ipairs { ... } do command[#command + 1] = word end
  return command
end

-- Last resort when nobody got to stop them: the Lua state goes away.
local function kill_all()
  for pid in pairs(alive) do pcall(uv.kill, pid, "sigterm") end
end
if newproxy then
  M.sentinel = newproxy(true)
  getmetatable(M.sentinel).__gc = kill_all
else
  M.sentinel = setmetatable({}, { __gc = kill_all })
end

return M
