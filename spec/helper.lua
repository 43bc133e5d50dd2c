-- SPDX-License-Identifier: MIT
-- What every spec has at hand.  busted loads it (--helper=spec/helper.lua);
-- specs get it by
--
--   local helper = require "spec.helper"
--   helper.watch()
--   describe("…", function() …
--
-- helper.watch([options])      once per file, outside of describe, so that its
--   check comes after any after_each.  After each spec of the file it checks
--   that the callbacks wrapped below were called as often as they should, no
--   callback raised, no transport of the default loop is left that is not
--   Disconnected, the loop has nothing to wait for, and no descriptor stayed
--   open.  What the spec made with fixtures is closed first;
--   what is older (setup) is kept.
--   options.warm_up: a function that uses once what opens descriptors for good
-- helper.run_until(condition, limit, what)     see support/run.lua
-- helper.script(fn, ...)  helper.pass(n)       likewise
-- helper.default_loop()        sipwire's
-- helper.add_loop(loop)        run_until turns it too, until the spec ends
-- helper.drive_default(false)  until the spec ends, run_until leaves the
--                              default loop alone (the spec's host turns it)
-- helper.counted(fn, n, what)  returns a function and a record {count, last}:
--   the function calls |fn| (may be nil); after the spec it must have been
--   called n times (1); later calls are errors too.  last holds the arguments
--   of the last call, all[i] those of the i-th
-- helper.never(what)           a callback that must not be called
-- helper.take_errors()         errors of callbacks so far, nil if there were
--                              none; they count as handled then
-- helper.root  helper.tmpdir()  helper.certs()  helper.on_exit(fn)
-- helper.kamailio(defines...)  a running one, shared by all specs that ask for
--                              the same defines
--
-- Environment: SIPWIRE_LUA_PATH, SIPWIRE_LUA_CPATH go in front of package.path
-- and cpath.  SIPWIRE_GC_STRESS=1: the collector never rests.
-- SIPWIRE_TIME_SCALE=n: all limits are n times as long.  SIPWIRE_CERTS: where
-- certificates are made, instead of a directory that is removed at the end.

local source = debug.getinfo(1, "S").source:match "^@(.*)$"
local here = source:match "^(.*)/[^/]*$" or "."

local function prepend(name, value)
  if value and value ~= "" then
    package[name] = value:gsub(";*$", "") .. ";" .. package[name]
  end
end

prepend("path", here .. "/../?.lua")
prepend("path", os.getenv "SIPWIRE_LUA_PATH")
prepend("cpath", os.getenv "SIPWIRE_LUA_CPATH")

local uv = require "luv"

local M = { root = assert(uv.fs_realpath(here .. "/..")) }
package.loaded["spec.helper"] = M

-- From here on absolute: specs may change directory.
package.path = M.root .. "/?.lua;" .. package.path

local run = require "spec.support.run"
local process = require "spec.support.process"
require "spec.support.rawpeer"
require "spec.support.node_server"
local kamailio = require "spec.support.kamailio"

M.run_until, M.script, M.pass = run.run_until, run.script, run.pass
M.add_loop, M.take_errors = run.add_loop, run.take_errors
M.default_loop = run.default_loop

function M.drive_default(on) run.drive_default = on end

-- busted forgets modules between files; C modules want to be loaded once.
local found, why = pcall(require, "sipwire")
if not found and not tostring(why):find("module 'sipwire' not found", 1, true)
then
  error(why, 0)
end

if run.gc_stress then
  collectgarbage("setpause", 0)
  collectgarbage("setstepmul", 400)
end

-- luv writes to sockets and pipes that nobody reads any more; the signal for
-- that would end the run without a word.
local broken_pipe = uv.new_signal()
broken_pipe:start("sigpipe", function() end)
broken_pipe:unref()

-- ---- things that live as long as the run -----------------------------------

local exits = {}

function M.on_exit(fn) table.insert(exits, 1, fn) end

local function leave()
  for _, fn in ipairs(exits) do
    local ok, err = pcall(fn)
    if not ok then io.stderr:write(tostring(err), "\n") end
  end
  exits = {}
  run.close_since(nil)
  -- luv of 5.1 fails when the state is closed with handles still there.
  uv.walk(function(handle)
    if not handle:is_closing() then handle:close() end
  end)
  uv.run()
end

local function remove(path)
  local stat = uv.fs_lstat(path)
  if not stat then return end
  if stat.type ~= "directory" then return uv.fs_unlink(path) end
  local scan = uv.fs_scandir(path)
  for name in function() return uv.fs_scandir_next(scan) end do
    remove(path .. "/" .. name)
  end
  uv.fs_rmdir(path)
end

-- A new empty directory, removed at the end of the run.
function M.tmpdir()
  local dir = assert(uv.fs_mkdtemp "/tmp/sipwire-XXXXXX")
  M.on_exit(function() remove(dir) end)
  return dir
end

local certs

-- The directory of certificates that support/certs.sh describes.
function M.certs()
  if certs then return certs end
  local dir = os.getenv "SIPWIRE_CERTS" or M.tmpdir()
  local code, _, err = process.run { M.root .. "/spec/support/certs.sh", dir,
                                     limit = 60 }
  assert(code == 0, err)
  certs = assert(uv.fs_realpath(dir))
  return certs
end

-- ---- counted callbacks -----------------------------------------------------

local counters = {}
local late = {}

local function where(level)
  local info = debug.getinfo(level + 1, "Sl")
  return info.short_src .. ":" .. info.currentline
end

function M.counted(fn, n, what, level)
  local counter = { count = 0, expected = n or 1, all = {},
    what = (what or "callback") .. " of " .. where((level or 1) + 1) }
  table.insert(counters, counter)
  return function(...)
    counter.count = counter.count + 1
    counter.last = { n = select("#", ...), ... }
    counter.all[counter.count] = counter.last
    if counter.over then
      table.insert(late, counter.what .. " was called after its spec")
    end
    if fn then return fn(...) end
  end, counter
end

function M.never(what) return M.counted(nil, 0, what, 2) end

local function check_counters(problems)
  for _, counter in ipairs(counters) do
    counter.over = true
    if counter.count ~= counter.expected then
      table.insert(problems, ("%s: %d calls instead of %d"):format(
        counter.what, counter.count, counter.expected))
    end
  end
  for _, text in ipairs(late) do table.insert(problems, text) end
  counters, late = {}, {}
end

-- ---- transports ------------------------------------------------------------

-- Looks into the loop: wrapping sipwire.new would change the line that its
-- errors name.
local function check_transports(problems, loop)
  local left = {}
  for _, transport in pairs(loop and loop._transports or {}) do
    if transport.state ~= "Disconnected" then left[#left + 1] = transport end
  end
  for _, transport in ipairs(left) do
    table.insert(problems, "left over: " .. tostring(transport))
    pcall(transport.dispose, transport)
  end
end

local function is_alive(loop)
  return loop and loop._core and loop._core:alive()
end

-- ---- descriptors -----------------------------------------------------------

-- How many are open of each kind; numbers in names do not tell kinds apart.
local function descriptors()
  local kinds = {}
  local scan = assert(uv.fs_scandir "/proc/self/fd")
  for name in function() return uv.fs_scandir_next(scan) end do
    local link = uv.fs_readlink("/proc/self/fd/" .. name)
    if link then
      local kind = link:gsub("%[%d+%]", "[]")
      kinds[kind] = (kinds[kind] or 0) + 1
    end
  end
  return kinds
end

local function growth(before)
  local grown = {}
  for kind, count in pairs(descriptors()) do
    local old = before[kind] or 0
    if count > old then
      grown[#grown + 1] = ("%s %d -> %d"):format(kind, old, count)
    end
  end
  return #grown > 0 and table.concat(grown, ", ") or nil
end

local function is_settled(before)
  return not is_alive(run.default_loop()) and not growth(before)
end

local function check_descriptors(problems, before)
  -- __gc closes what a spec just dropped
  collectgarbage()
  collectgarbage()
  local ok, err = pcall(run.run_until, function() return is_settled(before) end,
    2, "nothing open")
  if ok then return end
  local grown = growth(before)
  if grown then
    table.insert(problems, "descriptors left open: " .. grown)
  end
  if is_alive(run.default_loop()) then
    table.insert(problems, "the default loop still has something to wait for")
  end
  if not tostring(err):find("not within", 1, true) then run.report(err) end
end

-- What is open while a spec runs and may be so afterwards.
local allowed

-- Runs fn; descriptors that it opens may outlive the spec.
local function keeping(fn)
  local before = descriptors()
  local result = fn()
  for kind, count in pairs(allowed and descriptors() or {}) do
    local opened = math.max(0, count - (before[kind] or 0))
    allowed[kind] = (allowed[kind] or 0) + opened
  end
  return result
end

local kamailios = {}

function M.kamailio(...)
  local key = table.concat({ ... }, " ")
  local defines = { ... }
  local certificates = M.certs()
  kamailios[key] = kamailios[key] or keeping(function()
    local k = kamailio.start { dir = M.tmpdir(), certs = certificates,
                               defines = defines }
    run.untrack(k.process)
    M.on_exit(function() k:stop() end)
    return k
  end)
  return kamailios[key]
end

-- What luv, libc and the default loop open once and keep.
local warm = false
local function warm_up()
  if warm then return end
  warm = true
  process.run { "true" }
  local resolved
  uv.getaddrinfo("localhost", nil, nil, function() resolved = true end)
  run.run_until(function() return resolved end, 10, "resolver")
end

-- ---- watch -----------------------------------------------------------------

local function begin(watch)
  warm_up()
  if watch.warm_up then
    watch.warm_up()
    watch.warm_up = nil
  end
  run.take_errors()
  counters = {}
  watch.loop = run.default_loop()
  if watch.loop then
    watch.on_error = watch.loop.on_error
    watch.loop.on_error = function(err) run.report(err) end
  end
  watch.marked = run.mark()
  allowed = descriptors()
end

local function finish(watch)
  local problems = {}
  check_counters(problems)
  check_transports(problems, watch.loop)
  run.close_since(watch.marked)
  check_descriptors(problems, allowed)
  local errors = run.take_errors()
  if errors then table.insert(problems, "errors in callbacks: " .. errors) end
  if watch.loop then watch.loop.on_error = watch.on_error end
  if #problems > 0 then error(table.concat(problems, "\n"), 0) end
end

function M.watch(options)
  local busted = require "busted"
  local watch = { warm_up = options and options.warm_up }
  busted.before_each(function() begin(watch) end)
  busted.after_each(function() finish(watch) end)
end

local under_busted, busted = pcall(require, "busted")
if under_busted and busted.subscribe then
  busted.subscribe({ "suite", "end" }, function()
    leave()
    return nil, true
  end)
end

return M
