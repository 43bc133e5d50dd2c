-- SPDX-License-Identifier: MIT
-- Tasks: coroutines that wait for the loop. Only plain resume and yield, so
-- that tasks run on PUC Lua 5.1 as well.

local loops = require "sipwire.loop"
local options = require "sipwire.options"
local raise = require "sipwire.raise"

local Loop = loops.Loop

-- What a task yields, so that a foreign yield is not taken for a wait.
local WAITING = {}

-- Tasks by coroutine, to know the running one. The loop keeps them alive; a
-- strong value here would keep its own key on Lua 5.1.
local tasks = setmetatable({}, { __mode = "kv" })

-- What waits: a task, or what a host offers in its place (see task.host).
local Task = {}
Task.__index = Task

local task = {}

local function finish(self)
  self.loop._tasks[self.thread] = nil
  tasks[self.thread] = nil
end

local function fail(self, err)
  finish(self)
  if self.on_failure then
    self.on_failure(err, debug.traceback(self.thread, ""))
  else
    self.loop:_report(debug.traceback(self.thread, loops.describe(err)), nil,
      "task")
  end
end

local function after_resume(self, ok, result)
  if not ok then
    fail(self, result)
  elseif coroutine.status(self.thread) == "dead" then
    finish(self)
  elseif result ~= WAITING then
    fail(self, "a task may wait only in functions of sipwire")
  end
end

-- Waits until resumed; returns what it is resumed with. Only by the running
-- task itself.
function Task:wait()
  return coroutine.yield(WAITING)
end

-- Resumes it. Only from the dispatcher. Returns false if it has ended.
function Task:resume(...)
  if not self.loop._tasks[self.thread] then
    return false
  end
  after_resume(self, coroutine.resume(self.thread, ...))
  return true
end

-- Resumes it from inside a user's call: in the next tick, unless the loop is
-- closed by then.
function Task:resume_later(...)
  local a, b, c, d = ...
  if not self.loop._core or not self.loop._tasks[self.thread] then
    return false
  end
  self.loop:_defer(function()
    self:resume(a, b, c, d)
  end)
  return true
end

local in_host = function() end

-- Makes the functions that wait work in a host's own coroutines. `current`
-- returns for the running one an object with the field `loop` and the methods
-- of Task, or nil where it cannot wait.
function task.host(current)
  in_host = current
end

-- What waits when a function does, or an error.
function task.current(what)
  local thread = coroutine.running()
  local self = thread and tasks[thread] or in_host()
  if not self then
    raise("%s() outside a task: use spawn() or run(main)", what)
  end
  return self
end

-- The running task's loop, if there is one.
function task.loop()
  local thread = coroutine.running()
  local self = thread and tasks[thread]
  return self and self.loop
end

--- Runs a function as a task, from the next tick on. What it raises goes to
--- loop.on_error.
---@param fn fun(...)
function Loop:spawn(fn, ...)
  options.fn(fn, "spawn")
  self:_check()
  self:_spawn(nil, fn, ...)
end

-- What it raises goes to on_failure(err, traceback), if there is one.
function Loop:_spawn(on_failure, fn, ...)
  local self_task = setmetatable({
    loop = self, thread = coroutine.create(fn), on_failure = on_failure,
  }, Task)
  local count, arguments = select("#", ...), { ... }
  local unpack = table.unpack or unpack
  tasks[self_task.thread] = self_task
  self._tasks[self_task.thread] = self_task
  self:_defer(function()
    self_task:resume(unpack(arguments, 1, count))
  end)
end

-- PUC 5.1 runs a for loop's iterator where it cannot yield. (Not tried out: a
-- host may load this where nothing can.)
task.can_yield_in_iterator = _VERSION ~= "Lua 5.1" or
  package.loaded.jit ~= nil

--- Waits, in a task.
---@param seconds number 0 to 604800
function task.sleep(seconds)
  local self = task.current("sleep")
  local ms = options.seconds(seconds, "seconds")
  self.loop:_timer(ms, function()
    self:resume()
  end)
  self:wait()
end

return task
