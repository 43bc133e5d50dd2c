-- SPDX-License-Identifier: MIT
-- sipwire in nginx with lua-nginx-module: each worker's loop is driven by a
-- light thread of a timer, the driver, which also waits for the loop's
-- descriptor (see wakers.lua).
--
-- All callbacks run in light threads of that timer. What waits in a callback, a
-- cosocket or a semaphore, keeps only this callback waiting: the loop goes on
-- with the next event. A timer's memory grows by some bytes with each light
-- thread, so another timer takes over now and then: the next shift.

local core = require "sipwire.core"
local interpreted = require "sipwire.interpreted"
local loops = require "sipwire.loop"
local raise = require "sipwire.raise"
local semaphore = require "ngx.semaphore"
local task = require "sipwire.task"
local wakers = require "sipwire.nginx.wakers"

local ngx, Loop = ngx, loops.Loop
local spawn_thread, wait_thread = ngx.thread.spawn, ngx.thread.wait
local unpack = table.unpack or unpack

local LONG = wakers.LONG
local CALLS_PER_SHIFT = 1000
local LEAVING_TIME = 0.8 -- seconds for closing handshakes
local QUIET_TIME = 0.2   -- of these, when only disposed transports are left
local RETRY_INTERVAL = 0.5
local START_TIME = 0.1 -- a timer that has not begun by then was dropped
local CHECK_INTERVAL = 0.2 -- where no code is cached

--- nginx as a host of sipwire. Once this is loaded, sipwire's default loop is
--- the worker's, and what waits in a task waits in requests and timers as well.
---@class sipwire.nginx
---@field native boolean false, set before the first use: a thread wakes nginx
--- instead of an event in nginx's own set, whatever nginx this is
local nginx = { native = true }

-- Whether this Lua state is the worker's and not that of a request, as they are
-- where no code is cached. (The first such request's is kept as well.)
local stays = false

-- ---- What waits -----------------------------------------------------------

-- A light thread of a request or timer in the place of a task.
local Waiter = {}
Waiter.__index = Waiter

local waiters = setmetatable({}, { __mode = "k" })

function Waiter:wait()
  local sema, err = semaphore.new()
  if not sema then
    raise("a semaphore cannot be made: %s", err)
  end
  self._semaphore = sema
  waiters[self] = true
  repeat
    local _, why = sema:wait(LONG)
    if why and why ~= "timeout" then
      raise("cannot wait here: %s", why)
    end
  until self._results
  waiters[self] = nil
  if self._closed then
    raise("closed: the loop was closed")
  end
  return unpack(self._results, 1, self._count)
end

-- The light threads of a request that was given up are gone without a word,
-- but the semaphore counts who waits.
function Waiter:resume(...)
  local sema = self._semaphore
  if not sema or sema:count() >= 0 then
    return false
  end
  self._results, self._count = { ... }, select("#", ...)
  sema:post(1)
  return true
end

Waiter.resume_later = Waiter.resume

-- Nothing else would wake those that wait for a timer of a closed loop.
local function give_up_waiting(loop)
  for waiter in pairs(waiters) do
    if waiter.loop == loop then
      waiter._closed = true
      waiter:resume()
    end
  end
end
interpreted(give_up_waiting)

-- ---- Callbacks ------------------------------------------------------------

local function run_callback(ended, loop, t, name, fn, ...)
  loop:_try(t, name, fn, ...)
  ended[#ended + 1] = coroutine.running()
end

-- Light threads that have ended keep their memory until they are waited for.
local function reap(ended)
  for i = #ended, 1, -1 do
    local thread = ended[i]
    ended[i] = nil
    wait_thread(thread)
  end
end

-- Loop:_call() of a worker's loop: comes back when the callback has ended, or
-- waits for something.
local function call(loop, t, name, fn, ...)
  local worker = loop._worker
  -- only the light thread that spawned one can wait for it
  local ended = coroutine.running() == worker.driver and worker.ended or {}
  worker.calls = worker.calls + 1
  spawn_thread(run_callback, ended, loop, t, name, fn, ...)
  reap(ended)
  return true
end

-- Loop:_receive() of a worker's loop. Spawning a light thread for each message
-- takes longer than all else that is done for it, so the driver runs on_message
-- itself. The supervisor, which is woken when this light thread waits or has
-- done all, has another driver go on if on_message waits. Returns whether this
-- one is to go on.
local function receive(loop, t, fn, ...)
  local worker = loop._worker
  local shift, number = worker.shift, worker.shift.drivers
  worker.calls = worker.calls + 1
  shift.in_callback = true
  if not shift.told then
    shift.told = true
    shift.news:post(1)
  end
  loop:_try(t, "on_message", fn, t, ...)
  if shift.drivers ~= number then
    return false
  end
  shift.in_callback = false
  return true
end

local function log_error(err, t, name)
  ngx.log(ngx.worker.exiting() and ngx.INFO or ngx.ERR, "sipwire: error in ",
    name, t and " of " .. tostring(t) or "", ": ", err)
end

local levels = { error = ngx.ERR, warn = ngx.WARN, info = ngx.INFO }

local function log_line(line, level)
  ngx.log(levels[level], "sipwire: ", line)
end

-- ---- The worker's end -----------------------------------------------------

local function disconnect_all(loop)
  for _, listener in pairs(loop._listeners) do
    listener:close()
  end
  for _, t in pairs(loop._live) do
    if t.state ~= "Disconnecting" then
      t:disconnect()
    end
  end
end
interpreted(disconnect_all)

-- Returns for how many seconds more links may be closing, 0: over. (Timers of
-- the user keep the loop alive, but not the worker.)
local function leave(worker)
  local loop = worker.loop
  if worker.alarm then
    worker.alarm:stop()
  end
  ngx.update_time()
  local now = ngx.now()
  worker.deadline = worker.deadline or now + LEAVING_TIME
  disconnect_all(loop)
  if next(loop._live) == nil then
    worker.deadline = math.min(worker.deadline,
      worker.quiet or now + QUIET_TIME)
    worker.quiet = worker.deadline
    if not loop._core:alive() then
      return 0
    end
  end
  return math.max(worker.deadline - now, 0)
end

-- ---- The light threads of a shift ------------------------------------------

local function new_waker(worker)
  if nginx.native then
    worker.native = worker.native or wakers.by_nginx(worker.loop)
  end
  return worker.native or wakers.by_bridge(worker.loop)
end

local function ring(worker)
  local waker = worker.shift.waker
  if waker then
    waker.ring()
  end
end

local start

-- Returns true when the loop is to be closed, false when another shift has
-- taken over: nginx drops timers when too many run, so this goes on until then.
-- Returns as well when another driver has gone on while a callback waited.
-- Errors are such as no descriptors left.
local function drive(worker, shift)
  local loop, ended = worker.loop, {}
  worker.driver, worker.ended = coroutine.running(), ended
  while loop._core and worker.shift == shift do
    if not loop:_tick() then
      return nil
    end
    reap(ended)
    if worker.leaving or ngx.worker.exiting() then
      local left = loop._core and leave(worker) or 0
      if left == 0 then
        return true
      end
      worker.alarm = loop:_timer(math.ceil(left * 1000), function() end)
    elseif worker.calls >= CALLS_PER_SHIFT then
      worker.calls = 0
      start(worker)
    end
    shift.waker.rearm()
    if not shift.waker.wait() then
      return true
    end
  end
  return worker.shift == shift
end

local function run_driver(worker, shift, number)
  local ok, over = pcall(drive, worker, shift)
  shift.ended[#shift.ended + 1] = coroutine.running()
  if shift.drivers == number then
    shift.over, shift.failure = ok and over, not ok and loops.describe(over)
    shift.news:post(1)
  end
end

-- As drive(), but goes on with another driver whenever one waits.
local function supervise(worker, shift)
  repeat
    shift.drivers, shift.in_callback = shift.drivers + 1, false
    spawn_thread(run_driver, worker, shift, shift.drivers)
    repeat
      shift.news:wait(LONG)
      shift.told = false
    until shift.in_callback or shift.over ~= nil
    reap(shift.ended)
  until shift.over ~= nil
  if shift.failure then
    error(shift.failure, 0)
  end
  return shift.over
end

-- As long as this waits, the timer's other light threads live as well: what
-- ends one from outside, ngx.exit() in a callback, ends all.
local function wait_for_end(life)
  repeat until life:wait(LONG)
end

local function take_over(worker)
  ring(worker) -- the shift before may end
  local shift = { drivers = 0, ended = {}, news = assert(semaphore.new()),
    life = assert(semaphore.new()) }
  worker.shift, worker.calls, worker.patient_until = shift, 0, 0
  spawn_thread(wait_for_end, shift.life)
  return shift
end

local function run_shift(worker)
  local shift = take_over(worker)
  local ok, over = pcall(new_waker, worker)
  if ok then
    shift.waker = over
    ok, over = pcall(supervise, worker, shift)
    shift.waker.close()
    shift.waker = nil
  end
  shift.life:post(1)
  return ok, over
end

local function run(_, worker)
  if worker.users then
    ngx.ctx.sipwire_worker = worker -- it is not one of them
  end
  local ok, over = run_shift(worker)
  while not ok and not ngx.worker.exiting() do
    ngx.log(ngx.ERR, "sipwire: the loop cannot be driven: ", over)
    worker.patient_until = ngx.now() + RETRY_INTERVAL + START_TIME
    ngx.sleep(RETRY_INTERVAL)
    ok, over = run_shift(worker)
  end
  if ok and not over then
    return
  end
  worker.over = true
  if worker.native then
    worker.native.finish()
  end
  Loop.close(worker.loop)
end

function start(worker)
  worker.patient_until = ngx.now() + START_TIME
  return ngx.timer.at(0, run, worker)
end

local watch_later

-- nginx ends timers early when the worker is to leave, however long they are
-- meant to last. Where no code is cached, each request has a Lua state of its
-- own that lives as long as its timers: there this looks whether the request
-- has ended.
local function watch(premature, worker)
  if worker.over then
    return
  end
  if worker.users then
    collectgarbage()
    worker.leaving = next(worker.users) == nil
  end
  worker.leaving = worker.leaving or premature
  if worker.leaving then
    ring(worker)
  end
  if not premature then
    watch_later(worker)
  end
end

function watch_later(worker)
  return ngx.timer.at(worker.users and CHECK_INTERVAL or LONG, watch, worker)
end

-- ---- The worker's loop ----------------------------------------------------

local function with_traceback(err)
  return { err, debug.traceback("", 2) }
end

local function run_task(_, loop, on_failure, fn, ...)
  if not loop._core then
    return
  elseif not on_failure then
    loop:_try(nil, "task", fn, ...)
    return
  end
  local ok, failure = xpcall(fn, with_traceback, ...)
  if not ok then
    on_failure(failure[1], failure[2])
  end
end

local methods = {}

-- As a timer of nginx: a coroutine would end with the request that made it.
function methods:_spawn(on_failure, fn, ...)
  local ok, err = ngx.timer.at(0, run_task, self, on_failure, fn, ...)
  if not ok then
    raise("spawn: %s", err)
  end
end

function methods.run()
  raise("run() in nginx: the worker runs its loop already")
end

function methods.step()
  raise("step() in nginx: the worker runs its loop already")
end

-- What the loop tells its host: see loop.lua. Its descriptor says the rest.
local Host = { name = "nginx" }
Host.__index = Host

function Host.update() end

function Host:close()
  ring(self.worker)
  give_up_waiting(self.worker.loop)
end

local function new_worker()
  local first = core.bridge_first(ngx.config.subsystem == "http" and 0 or 1)
  stays = stays or first or ngx.get_phase() == "init_worker"
  local loop = loops.new { on_error = log_error, on_log = log_line }
  local worker = { loop = loop, pid = ngx.worker.pid(), calls = 0,
    shift = { life = assert(semaphore.new()) } }
  loop._worker, loop._call, loop._receive = worker, call, receive
  loop._host = setmetatable({ worker = worker }, Host)
  for name, method in pairs(methods) do
    rawset(loop, name, method)
  end
  if not stays then
    worker.users = setmetatable({}, { __mode = "k" })
  end
  local ok, err = start(worker)
  if ok then
    ok, err = watch_later(worker)
  end
  if not ok then
    Loop.close(loop)
    raise("loop: %s", err)
  end
  return worker
end
interpreted(new_worker)

-- A Lua state that does not stay lives until what is in ngx.ctx is gone.
local function note_user(worker)
  local ctx = ngx.ctx
  if not ctx.sipwire_worker then
    ctx.sipwire_worker = {}
    worker.users[ctx.sipwire_worker] = true
  end
end

local current -- worker

--- The worker's loop, which is made when it is first asked for. All that
--- sipwire does in nginx happens on it unless told otherwise.
---@return sipwire.Loop
function nginx.loop()
  local worker = current
  if ngx.get_phase() == "init" then
    raise("loop: init_by_lua runs before nginx forks its workers: use "
      .. "init_worker_by_lua or a request")
  elseif not worker or worker.pid ~= ngx.worker.pid() or
    not worker.loop._core then
    if ngx.worker.exiting() then
      raise("loop: the worker is leaving")
    end
    worker = new_worker()
    current = worker
  elseif worker.shift.life:count() >= 0 and
    ngx.now() >= worker.patient_until then
    ngx.log(ngx.ERR, "sipwire: the loop's light thread is gone, as after ",
      "ngx.exit() in a callback or with too many timers; starting another")
    start(worker)
  end
  if worker.users then
    note_user(worker)
  end
  return worker.loop
end

local waits = { rewrite = true, server_rewrite = true, access = true,
  content = true, timer = true, preread = true, ssl_cert = true,
  ssl_session_fetch = true, ssl_client_hello = true }

loops.default = nginx.loop

task.host(function()
  if waits[ngx.get_phase()] then
    return setmetatable({ loop = nginx.loop() }, Waiter)
  end
end)

return nginx
