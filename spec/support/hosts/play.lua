-- SPDX-License-Identifier: MIT
-- What every host must be able to do, played in a real one:
--   play.lua HOST [SCENARIO]
-- prints a line of JSON for each scenario, {"name":, "error": or nothing}.
--
-- A host is a module of this folder:
--   host.attach(loop)            has the host drive it
--   host.before_close(loop)      (if the host wants to know)
--   host.every(seconds, fn)      a timer of the host's; returns what stops it
--   host.run()  host.stop()      stop() is called in a callback of the host's
--   host.ends_by_itself          run() ends when nothing is left
--   host.timers_last             a busy descriptor holds its timers up

local sipwire = require "sipwire"
local json = require "dkjson"
local uv = require "luv" -- for the time

local host = require("spec.support.hosts." .. arg[1])
local scale = tonumber(os.getenv "SIPWIRE_TIME_SCALE") or 1

local function now()
  return uv.hrtime() / 1e9
end

-- ---- What scenarios are made of --------------------------------------------

-- A loop that the host drives, and that counts its ticks.
local function drive(loop)
  local step = loop.step
  rawset(loop, "ticks", 0)
  rawset(loop, "step", function(...)
    rawset(loop, "ticks", loop.ticks + 1)
    return step(...)
  end)
  host.attach(loop)
  return loop
end

local function new_loop()
  return drive(sipwire.loop())
end

local function close(loop)
  if host.before_close then host.before_close(loop) end
  assert(loop:close())
end

-- Closes a loop; returns a new one whose descriptor has the same number.
local function replace(loop)
  local fd, fillers = loop:pollfd(), {}
  close(loop)
  local second = sipwire.loop()
  while second:pollfd() ~= fd do
    assert(#fillers < 40, "no such descriptor")
    second:close()
    fillers[#fillers + 1] = assert(io.open "/dev/null")
    second = sipwire.loop()
  end
  for _, file in ipairs(fillers) do file:close() end
  return drive(second)
end

-- Runs the host until condition(); first() is called by a timer of the host's,
-- outside of all ticks. The host's timers tick no sipwire loop, so what comes
-- to pass does so because the descriptor said so.
local function run(what, condition, first)
  local deadline = now() + 5 * scale
  local cancel
  cancel = host.every(0.002, function()
    if first then
      first = first()
    end
    if condition() or now() > deadline then host.stop() end
  end)
  host.run()
  cancel()
  assert(condition(), "not within 5 s: " .. what)
end

-- Runs the host until the loop has not been ticked for 20 ms.
local function run_quiet(loop)
  local ticks, since = loop.ticks, now()
  run("the loop is quiet", function()
    if loop.ticks ~= ticks then ticks, since = loop.ticks, now() end
    return now() - since > 0.02
  end)
end

-- A listener and what was connected to it, both in the loop: each message is
-- answered with itself in upper case.
local function new_pair(loop)
  local pair = { got = {}, back = {} }
  pair.server = assert(sipwire.listen { loop = loop,
    on_connection = function(peer)
      pair.peer = peer
      peer.on_message = function(_, message)
        pair.got[#pair.got + 1] = message
        peer:send(message:upper())
      end
    end })
  pair.client = sipwire.new { server = pair.server.url, loop = loop }
  pair.client.on_message = function(_, message)
    pair.back[#pair.back + 1] = message
  end
  pair.client:connect()
  run("connected", function() return pair.client:is_connected() end)
  return pair
end

local function equal(expected, got, what)
  assert(expected == got, ("%s: %s instead of %s"):format(what, tostring(got),
    tostring(expected)))
end

-- ---- Scenarios -------------------------------------------------------------

local names, scenarios = {}, {}
local function scenario(name, fn)
  names[#names + 1], scenarios[name] = name, fn
end

scenario("a burst of 200 messages arrives in order", function(loop)
  local pair = new_pair(loop)
  for i = 1, 200 do
    assert(pair.client:send(("message %d"):format(i)))
  end
  run("200 answers", function() return #pair.back == 200 end)
  for i = 1, 200 do
    equal("message " .. i, pair.got[i], "received")
    equal("MESSAGE " .. i, pair.back[i], "answered")
  end
end)

scenario("calls made outside of ticks are carried out", function(loop)
  local pair = new_pair(loop)
  local done = {}
  local function outside(what, call, condition)
    run_quiet(loop)
    run(what, condition or function() return done[what] end, function()
      call(function() done[what] = true end)
    end)
  end
  outside("send", function() pair.client:send "a" end,
    function() return #pair.back == 1 end)
  outside("send with done", function(ok) pair.client:send("b", ok) end)
  outside("timer 0", function(ok) loop:timer(0, ok) end)
  outside("timer", function(ok) loop:timer(0.01, ok) end)
  outside("a shorter timer", function(ok)
    loop:timer(600, print)
    loop:timer(0.01, ok)
  end)
  outside("defer", function(ok) loop:defer(ok) end)
  outside("spawn", function(ok)
    loop:spawn(function() sipwire.sleep(0.001) ok() end)
  end)
  outside("disconnect", function(ok) pair.client:disconnect(ok) end)
  outside("disconnect again", function(ok) pair.client:disconnect(ok) end)
  outside("connect", function(ok) pair.client:connect(ok) end)
  outside("listen", function()
    pair.second = assert(sipwire.listen { loop = loop,
      on_connection = function() done.accepted = true end })
  end, function() return pair.second end)
  outside("accept", function()
    pair.other = sipwire.new { server = pair.second.url, loop = loop }
    pair.other:connect()
  end, function() return done.accepted and pair.other:is_connected() end)
  outside("dispose", function()
    pair.peer.on_disconnect = function() done.dispose = true end
    pair.client:dispose()
  end)
end)

scenario("calls made before it runs are carried out", function(loop)
  local fired
  local server = assert(sipwire.listen { loop = loop,
    on_connection = function() end })
  local t = sipwire.new { server = server.url, loop = loop }
  t:connect()
  loop:timer(0.001, function() fired = true end)
  run("both", function() return fired and t:is_connected() end)
end)

scenario("an error in a callback stops nothing else", function(loop)
  local pair = new_pair(loop)
  local errors = {}
  loop.on_error = function(err, _, name)
    errors[#errors + 1] = name .. ": " .. err:match "[^\n]*"
  end
  local on_message = pair.client.on_message
  pair.client.on_message = function(t, message)
    on_message(t, message)
    if message == "B" then error("no b", 0) end
  end
  loop:timer(0, function() error("no timer", 0) end)
  for word in ("a b c"):gmatch "%a" do pair.client:send(word) end
  run("all three", function() return #pair.back == 3 and #errors == 2 end)
  pair.client:send "d"
  run("a fourth", function() return #pair.back == 4 end)
  table.sort(errors)
  equal("on_message: no b, timer: no timer", table.concat(errors, ", "),
    "errors")
end)

scenario("a loop closed in a callback leaves the host going", function(loop)
  local pair = new_pair(loop)
  local second, ticks = nil, 0
  pair.client.on_message = function()
    second = replace(loop)
  end
  pair.client:send "end"
  run("closed", function() return second end)
  run("the host's timers", function()
    ticks = ticks + 1
    return ticks > 5
  end)
  local again = new_pair(second)
  again.client:send "hello"
  run("an answer in the second loop", function() return again.back[1] end)
  close(second)
end)

scenario("a loop closed outside of ticks leaves the host going", function(loop)
  new_pair(loop)
  run_quiet(loop)
  local second
  run("closed", function() return second end, function()
    second = replace(loop)
  end)
  local again = new_pair(second)
  again.client:send "hello"
  run("an answer in the second loop", function() return again.back[1] end)
  close(second)
end)

-- Told by what it costs: on a busy machine, a process may have to wait.
scenario("neither messages nor the host's timers starve", function(loop)
  local pair = new_pair(loop)
  local fired, worst, last = 0, 0, os.clock()
  pair.client.on_message = function(t, message)
    pair.back[#pair.back + 1] = message
    if not host.timers_last then t:send "more" end
  end
  pair.client:send "first"
  local cancel = host.every(0.005, function()
    fired, worst, last = fired + 1, math.max(worst, os.clock() - last),
      os.clock()
    if host.timers_last then pair.client:send "more" end
  end)
  run("30 of the host's timers", function() return fired >= 30 end)
  cancel()
  assert(worst < 0.05 * scale, worst .. " s of work between two timers")
  assert(#pair.back >= 15, #pair.back .. " messages")
end)

scenario("a quiet loop never wakes the host", function(loop)
  new_pair(loop)
  loop:timer(600, print)
  run_quiet(loop)
  local ticks, began = loop.ticks, now()
  run("a second", function() return now() - began > 1 end)
  equal(ticks, loop.ticks, "ticks")
end)

scenario("one timer is one wake-up, or two", function(loop)
  run_quiet(loop)
  local ticks, fired = loop.ticks, 0
  loop:timer(0.03, function() fired = fired + 1 end)
  run("the timer", function() return fired > 0 end)
  run_quiet(loop)
  equal(1, fired, "fired")
  -- one to take the call up, one or two (clocks differ) for the timer
  assert(loop.ticks - ticks <= 4, loop.ticks - ticks .. " ticks")
end)

scenario("the descriptor is the same for the loop's whole life", function(loop)
  local fd = loop:pollfd()
  local pair = new_pair(loop)
  for _ = 1, 3 do
    pair.client:disconnect()
    run("disconnected", function() return pair.client.state == "Disconnected" end)
    pair.client:connect()
    run("connected", function() return pair.client:is_connected() end)
  end
  equal(fd, loop:pollfd(), "descriptor")
end)

-- The other end is in a loop that is stepped here, while the host is not.
scenario("a host that is busy for a while loses nothing", function(loop)
  local elsewhere, got, fired, peer = sipwire.loop(), 0, 0, nil
  local server = assert(sipwire.listen { loop = elsewhere,
    on_connection = function(t) peer = t end })
  local t = sipwire.new { server = server.url, loop = loop }
  t.on_message = function() got = got + 1 end
  t:connect()
  run("connected", function()
    elsewhere:step(0)
    return t:is_connected()
  end)
  run_quiet(loop)
  run("100 messages, 10 timers", function() return got == 100 and fired == 10 end,
    function()
      for _ = 1, 10 do loop:timer(0.001, function() fired = fired + 1 end) end
      for _ = 1, 100 do peer:send(("x"):rep(1000)) end
      local until_then = now() + 0.05
      while now() < until_then do elsewhere:step(0) end
      equal(0, got + fired, "callbacks while the host was busy")
    end)
  elsewhere:close()
end)

if host.ends_by_itself then
  scenario("the host ends when sipwire has nothing left", function(loop)
    local pair = new_pair(loop)
    local fired
    loop:timer(0.02, function()
      pair.server:close()
      pair.client:disconnect()
      fired = now()
    end)
    host.run()
    assert(fired and now() - fired < 1 * scale)
    equal("Disconnected", pair.client.state, "state")
    host.run() -- and does not begin to wait
  end)
end

-- ---- All of them -----------------------------------------------------------

for _, name in ipairs(names) do
  if not arg[2] or name == arg[2] then
    local ok, err = xpcall(function()
      local loop = new_loop()
      scenarios[name](loop)
      if loop._core then close(loop) end
    end, debug.traceback)
    print(json.encode { name = name, error = not ok and err or nil })
    io.stdout:flush()
    if not ok then os.exit(1) end -- what it left would disturb the others
  end
end
