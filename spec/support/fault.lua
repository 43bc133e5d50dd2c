-- SPDX-License-Identifier: MIT
-- Plays rows of the fault matrix: a transport meets a fault of the hostile
-- server, tells it, and is then used as if nothing had happened (C20).
--
-- fault.suite(fn)   around all that follows; starts the server
-- fault.server()   it (hostile.lua)
-- fault.growth(fn) by how many bytes the process grew meanwhile, at most
-- fault.matrix(what, rows [, options])   specs for each row, over ws and wss
--   options.width     rows that are played at once (16); 1: each in its own
--                     spec, which checks its memory, too
--   options.memory    bytes by which memory may grow (8 MB)
--   options.tag       for all of it, such as "#slow"
-- These specs look after descriptors, leftovers and errors of callbacks
-- themselves and need no helper.watch().
-- A row, where phase is nil if nothing is wrong:
--   { words, code, phase, sent, ... }
--   words       what the server does: see hostile.py
--   code phase  what is told by connect()'s completion, or by on_disconnect if
--               the phase is "open"
--   sent        the code of the close frame that we send; nil: none
--   limit       seconds, from connect(), or from the `up` or `act` named by
--               `from`, until it is told; without it: at once after what the
--               server did
--   options     of the transport; times are scaled
--   at_most     it may be told earlier, too
--   messages    texts that arrive before the end
--   act         function(play), called in on_connect
--   on_message  function(play, message), which returns what to put on record
--               instead
--   or_phase    may be told instead
--   info        fields of info beside those that follow from the row
--   ends        how the server sees us leave; "fin" where we end it
--   check       function(play, report of the server)
--   url         for the first attempt, instead of the hostile server's
--   unreported  the server does not notice the end
--   ws, wss     a table of fields that differ there; false: not there

local assert = require "luassert"
local busted = require "busted"
local hostile = require "spec.support.hostile"
local play = require "spec.support.fault_play"
local run = require "spec.support.run"

local M = { growth = play.growth }

local scale = run.scale
local server -- the suite's

local function merged(row, scheme)
  local given = { scheme = scheme }
  for name, value in pairs(row) do given[name] = value end
  for name, value in pairs(row[scheme] or {}) do given[name] = value end
  given.words, given.code, given.phase, given.sent =
    given[1], given[2], given[3], given[4]
  if not given.phase then given.sent = 1000 end
  return given
end

-- ---- judging ---------------------------------------------------------------

local function extend(list, ...)
  for _, word in ipairs { ... } do list[#list + 1] = word end
end

-- What has to be told in all, in this order.
local function expected_log(row)
  local log = { "Connecting" }
  if row.phase and row.phase ~= "open" then
    extend(log, "Disconnected " .. row.code, "connect " .. row.code)
  else
    extend(log, "Connected", "up", "connect")
    if row.phase then
      extend(log, "Disconnected " .. row.code, "down " .. row.code)
    else
      extend(log, "Disconnecting", "down", "Disconnected", "disconnect")
    end
  end
  extend(log, "Connecting", "Connected", "up", "connect", "sent",
    "message again", "Disconnecting", "down", "Disconnected", "disconnect")
  return log
end

local told_codes = { protocol = true, utf8 = true, too_big = true }

local function check_info(one)
  local row, info = one.row, one.info
  assert.equal(row.code, one.code)
  assert.equal(row.code .. ": ", one.err:sub(1, #row.code + 2))
  if info.phase ~= row.or_phase then assert.equal(row.phase, info.phase) end
  local wanted = { was_clean = false }
  if row.phase ~= "open" then
    wanted = {}
  elseif told_codes[row.code] then
    wanted.close_code = row.sent
  elseif not row.sent then
    wanted.close_code = 1006
  else
    wanted = { was_clean = true, close_code = row.sent }
  end
  for name, value in pairs(row.info or {}) do wanted[name] = value end
  for name, value in pairs(wanted) do
    assert.equal(value, info[name], "info." .. name)
  end
  if row.phase ~= "open" then assert.is_nil(info.close_code) end
  if row.code == "reset" then assert.equal(104, info.errno) end
  assert.equal(row.code == "tls", info.tls_error ~= nil)
  if not row.info or not row.info.http_status then
    assert.is_nil(info.http_status)
  end
end

local function check_reports(one)
  local row, reports = one.row, one.listener.reports
  local first = reports[1]
  if row.url or one.opened_late or row.unreported then
    first = nil
  end
  if first then
    assert.equal(row.sent, first.close, "close code on the wire")
    assert.equal(0, first.late, "bytes behind the close frame")
    assert.equal(0, first.unmasked)
    assert.not_equal("time", first["end"])
    if row.sent then
      assert.equal(row.ends or "fin", first["end"])
      assert.equal("", first.reason)
    end
  end
  if row.check then row.check(one, reports[1]) end
  local again = reports[row.url and 1 or 2]
  assert.same({ 1000, "fin", 0, 0 },
    { again.close, again["end"], again.late, again.unmasked })
  assert.same({ "again" }, again.texts)
end

local function judge(one)
  local row = one.row
  if not (one.over and play.reported(one)) then
    error(("%s hangs: %s; told %s %s; the server saw %s"):format(row.words,
      table.concat(one.log, ", "), tostring(one.err),
      one.info and one.info.phase or "-",
      require "dkjson".encode(one.listener.reports)), 0)
  end
  assert.same(expected_log(row), one.log)
  assert.same(row.messages or {}, one.messages)
  if row.phase then check_info(one) end
  check_reports(one)
end

local epsilon = 0.005 -- of timers

-- Returns what is wrong about the time, or nil.
local function untimely(one)
  local row, report = one.row, one.listener.reports[1]
  local since = one.since.connect
  if row.limit then
    since = one.since[row.from or "connect"]
  elseif report and report.at then
    since = report.at
  end
  local took, limit = one.told_at - since, (row.limit or 0) * scale
  local early = row.limit and not row.at_most and took < limit - epsilon
  if early or took > limit + 0.1 * scale then
    return ("%s: told after %.3f s, not %.3f"):format(row.words, took, limit)
  end
end

-- What a busy machine made late is played again, alone.
local function check_time(one)
  local wrong = untimely(one)
  for _ = 1, 3 do
    if not wrong then return end
    local again = play.run(server, { one.row }, 1)[1]
    judge(again)
    wrong = untimely(again)
  end
  if wrong then error(wrong, 0) end
end

local function check_rest(plays, memory)
  assert.same({}, plays.errors)
  assert.is_true(plays.left <= 0, plays.left .. " descriptors left open")
  assert.is_false(run.default_loop()._core:alive())
  if scale == 1 then
    assert.is_true(plays.grown < memory,
      ("memory grew by %d bytes"):format(plays.grown))
  end
end

-- ---- specs -----------------------------------------------------------------

local function title(row)
  local what = row.scheme .. ", " .. row.words
  if not row.phase then return what .. ": is fine" end
  return ("%s: %s in %s%s"):format(what, row.code, row.phase,
    row.sent and ", close " .. row.sent or "")
end

function M.server() return server end

-- Where everything is many times slower, TLS is tried once in each group, and
-- more rows share the turns of the loop.
local instrumented = scale >= 10

local function list_of(rows)
  local list, secure = {}, false
  for _, row in ipairs(rows) do
    if row.ws ~= false then list[#list + 1] = merged(row, "ws") end
    if row.wss ~= false and not (secure and instrumented) then
      list[#list + 1] = merged(row, "wss")
      secure = true
    end
  end
  return list
end

local function alone(rows, memory)
  for _, row in ipairs(rows) do
    busted.it(title(row), function()
      local plays = play.run(server, { row }, 1)
      judge(plays[1])
      if scale == 1 then check_time(plays[1]) end
      check_rest(plays, row.memory or memory)
    end)
  end
end

local function together(rows, memory, width)
  local plays
  busted.lazy_setup(function() plays = play.run(server, rows, width) end)
  for i, row in ipairs(rows) do
    busted.it(title(row), function() judge(plays[i]) end)
  end
  busted.it("leave nothing open and little in memory", function()
    check_rest(plays, memory)
  end)
  busted.it("are told within their limits and 100 ms #timing", function()
    for _, one in ipairs(plays) do check_time(one) end
  end)
end

function M.matrix(what, rows, options)
  options = options or {}
  local list = list_of(rows)
  local memory = options.memory or 8 * 1048576
  busted.describe(what .. " " .. (options.tag or ""), function()
    if options.width == 1 then return alone(list, memory) end
    together(list, memory, instrumented and 64 or options.width or 16)
  end)
end

function M.suite(fn)
  busted.describe("The fault matrix:", function()
    busted.lazy_setup(function()
      server = hostile.start()
      run.default_loop():pollfd() -- what the loop opens once
    end)
    busted.lazy_teardown(function()
      if server then server:stop() end
    end)
    fn()
  end)
end

return M
