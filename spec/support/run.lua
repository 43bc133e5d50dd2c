-- SPDX-License-Identifier: MIT
-- Turns the two event loops of a spec's process: sipwire's, whose code is
-- tested, and luv's, on which the fixtures live.  Nothing here sleeps without
-- need, and every wait has a limit.

local uv = require "luv"
local unpack = table.unpack or unpack

local M = {
  turns = 0,
  -- Limits are multiplied by it: for valgrind, sanitizers, slow machines.
  scale = tonumber(os.getenv "SIPWIRE_TIME_SCALE") or 1,
  gc_stress = os.getenv "SIPWIRE_GC_STRESS" == "1",
  -- false: the spec turns sipwire's default loop itself (host adapters)
  drive_default = true,
}

local extra_loops = {} -- sipwire loops other than the default one
local errors = {}      -- of fixtures' callbacks and sipwire's
local scripts = {}     -- coroutine -> what it waits for
local is_script = setmetatable({}, { __mode = "k" })
local resources = {}   -- to close after the spec, or at the end
local order = 0
local activity = 0
local turning = false

function M.now() return uv.hrtime() / 1e9 end

-- ---- errors ----------------------------------------------------------------

function M.report(err) errors[#errors + 1] = tostring(err) end

-- Returns and forgets what was reported, nil if nothing was.
function M.take_errors()
  if #errors == 0 then return nil end
  local text = table.concat(errors, "\n")
  errors = {}
  return text
end

-- luv ends the process when a callback raises; so none may.
function M.guard(fn)
  return function(...)
    activity = activity + 1
    local n, args = select("#", ...), { ... }
    local ok, err = xpcall(function()
      return fn(unpack(args, 1, n))
    end, debug.traceback)
    if not ok then M.report(err) end
  end
end

-- ---- loops -----------------------------------------------------------------

-- The loop of transports made without one, or nil while sipwire is not loaded.
function M.default_loop()
  local loops = package.loaded["sipwire.loop"]
  return type(loops) == "table" and loops.default() or nil
end

-- Has run_until turn |loop| too, until the spec ends.
function M.add_loop(loop)
  extra_loops[#extra_loops + 1] = loop
  return loop
end

local function sipwire_loops()
  local loops = { unpack(extra_loops) }
  local default = M.drive_default and M.default_loop()
  if default then table.insert(loops, 1, default) end
  return loops
end

-- Waits for I/O of luv's loop, at most so long.  The timer repeats because
-- "once" runs due timers before it waits: after a single shot it might wait
-- for ever.
local nap
local function luv_wait(seconds)
  local ms = math.max(1, math.floor(seconds * 1000))
  nap = nap or uv.new_timer()
  nap:start(ms, ms, function() end)
  uv.run "once"
  nap:stop()
end

-- One look at everything.  |idle|: seconds it may wait if there is nothing.
local function turn_loops(idle)
  local loops = sipwire_loops()
  local before = activity
  uv.run "nowait"
  if activity ~= before then idle = 0 end
  if #loops == 0 and idle > 0 then return luv_wait(idle) end
  for i, loop in ipairs(loops) do loop:step(i == 1 and idle or 0) end
end

-- ---- scripts ---------------------------------------------------------------

local function resume(co, entry)
  scripts[co] = nil
  local ok, ready, deadline, what = coroutine.resume(co, entry.late)
  activity = activity + 1
  if not ok then
    M.report(debug.traceback(co, tostring(ready)))
  elseif coroutine.status(co) ~= "dead" then
    scripts[co] = { ready = ready, deadline = deadline, what = what,
                    order = entry.order }
  end
end

local function resume_scripts()
  local due = {}
  for co, entry in pairs(scripts) do
    entry.late = M.now() > entry.deadline
    if entry.late or entry.ready() then due[#due + 1] = { co, entry } end
  end
  table.sort(due, function(a, b) return a[2].order < b[2].order end)
  for _, item in ipairs(due) do resume(item[1], item[2]) end
end

-- Runs |fn| beside the spec: the waiting functions of fixtures let the spec go
-- on there instead of blocking it.  Its errors reach the spec's next wait.
function M.script(fn, ...)
  order = order + 1
  local n, args = select("#", ...), { ... }
  local co = coroutine.create(function()
    return fn(unpack(args, 1, n))
  end)
  is_script[co] = true
  resume(co, { order = order })
end

local function in_script()
  local co = coroutine.running()
  return co and is_script[co]
end

-- ---- waiting ---------------------------------------------------------------

local function timed_out(limit, what, level)
  if type(what) == "function" then what = what() end
  error(string.format("not within %g s: %s", limit, what), level + 1)
end

local function turn(idle)
  if turning then
    error("run_until called by a callback that run_until called", 3)
  end
  turning = true
  M.turns = M.turns + 1
  if M.gc_stress then collectgarbage() end
  local ok, err = xpcall(function()
    resume_scripts()
    turn_loops(idle)
  end, debug.traceback)
  turning = false
  if not ok then M.report(err) end
  local text = M.take_errors()
  if text then error(text, 0) end
end

-- Turns both loops until |condition|() is true and returns what it returned.
-- After |limit| seconds (5) it raises an error that says |what|, a string or a
-- function that returns one.  An error of any fixture or callback in the
-- meantime is raised here.
function M.run_until(condition, limit, what)
  limit = (limit or 5) * M.scale
  local deadline = M.now() + limit
  while true do
    local result = condition()
    if result then return result end
    if M.now() > deadline then
      timed_out(limit, what or "condition of run_until", 2)
    end
    turn(0.001)
  end
end

-- The same for fixtures: in a script it lets everybody else go on.
function M.wait(condition, limit, what)
  if not in_script() then return M.run_until(condition, limit, what) end
  local result = condition()
  if result then return result end
  limit = (limit or 5) * M.scale
  local late = coroutine.yield(function()
    result = condition()
    return result
  end, M.now() + limit, what)
  if late and not result then
    timed_out(limit, what or "condition of a script", 2)
  end
  return result
end

-- Lets |n| turns go by (1), so that everybody sees what came so far.
function M.pass(n)
  local target = M.turns + (n or 1)
  M.wait(function() return M.turns >= target end, 60, "turns of the loops")
end

-- ---- resources -------------------------------------------------------------

-- |resource| has close(); it is called after the spec, or at the end.
function M.track(resource)
  resources[resource] = true
  return resource
end

function M.untrack(resource) resources[resource] = nil end

-- The resources of now, for close_since().
function M.mark()
  local marked = {}
  for resource in pairs(resources) do marked[resource] = true end
  return marked
end

-- Closes what was made since |marked|, and forgets scripts and loops.
function M.close_since(marked)
  scripts, extra_loops, M.drive_default = {}, {}, true
  for resource in pairs(M.mark()) do
    if not (marked and marked[resource]) then
      resources[resource] = nil
      local ok, err = pcall(resource.close, resource)
      if not ok then M.report(err) end
    end
  end
end

return M
