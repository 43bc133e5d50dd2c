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

local task = {}

local function finish(self, err)
  self.loop._tasks[self.thread] = nil
  tasks[self.thread] = nil
  if err ~= nil then
    self.loop:_report(debug.traceback(self.thread, err), nil, "task")
  end
end

local function after_resume(self, ok, result)
  if not ok then
    finish(self, loops.describe(result))
  elseif coroutine.status(self.thread) == "dead" then
    finish(self)
  elseif result ~= WAITING then
    finish(self, "a task may wait only in functions of sipwire")
  end
end

-- Resumes a waiting task. Only from the dispatcher.
function task.resume(self, ...)
  if self.loop._tasks[self.thread] then
    after_resume(self, coroutine.resume(self.thread, ...))
  end
end

-- Resumes it from inside a user's call: in the next tick.
function task.resume_later(self, ...)
  local a, b, c, d = ...
  if not self.loop._core then
    return -- closed: nothing is resumed any more
  end
  self.loop:_defer(function()
    task.resume(self, a, b, c, d)
  end)
end

-- Waits until the task is resumed; returns what it is resumed with.
function task.wait()
  return coroutine.yield(WAITING)
end

-- The running task, or an error.
function task.current(what)
  local thread = coroutine.running()
  local self = thread and tasks[thread]
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
  local self_task = { loop = self, thread = coroutine.create(fn) }
  local count, arguments = select("#", ...), { ... }
  local unpack = table.unpack or unpack
  tasks[self_task.thread] = self_task
  self._tasks[self_task.thread] = self_task
  self:_defer(function()
    task.resume(self_task, unpack(arguments, 1, count))
  end)
end

--- Waits, in a task.
---@param seconds number 0 to 604800
function task.sleep(seconds)
  local self = task.current("sleep")
  local ms = options.seconds(seconds, "seconds")
  self.loop:_timer(ms, function()
    task.resume(self)
  end)
  task.wait()
end

return task
