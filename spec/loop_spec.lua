-- SPDX-License-Identifier: MIT
-- Loops: ticks, timers, the pollable descriptor, run() (DESIGN: hosts).

local sipwire = require "sipwire"
local helper = require "spec.helper"
local run = require "spec.support.run"
local uv = require "luv"

helper.watch()

local function seconds()
  return uv.hrtime() / 1e9
end

describe("a loop", function()
  local loop

  before_each(function()
    loop = sipwire.loop()
  end)

  after_each(function()
    assert(loop:close())
  end)

  local function readable()
    local seen = false
    local poll = uv.new_poll(loop:pollfd())
    poll:start("r", function() seen = true end)
    uv.run("nowait")
    poll:stop()
    poll:close()
    uv.run("nowait")
    return seen
  end

  local function rests()
    return loop:timeout() == nil
  end

  local function drain()
    for _ = 1, 20 do
      loop:step(0)
    end
  end

  describe("that is run", function()
    it("returns true at once when there is nothing to do", function()
      assert.is_true(loop:run())
    end)

    it("gives main its arguments and ends with it", function()
      local got
      assert.is_true(loop:run(function(...) got = { select("#", ...), ... } end,
        1, nil, 3))
      assert.are.same({ 3, 1, nil, 3 }, got)
    end)

    it("ends when the last timer is done, not before", function()
      local order = {}
      loop:timer(0.02, function() order[#order + 1] = "late" end)
      loop:timer(0, function() order[#order + 1] = "soon" end)
      assert.is_true(loop:run())
      assert.are.same({ "soon", "late" }, order)
    end)

    it("ends when nothing but a stopped timer is left", function()
      local timer = loop:timer(600, helper.never("timer"))
      loop:defer(function() timer:stop() timer:stop() end)
      assert.is_true(loop:run())
    end)

    it("ends after the tick in which stop() was called, and runs again", function()
      local order = {}
      loop:timer(0, function() loop:stop() order[#order + 1] = 1 end)
      loop:timer(600, helper.never("timer"))
      assert.is_true(loop:run())
      loop:timer(0, function() loop:stop() order[#order + 1] = 2 end)
      assert.is_true(loop:run())
      assert.are.same({ 1, 2 }, order)
    end)

    it("returns nil and what a callback raised, with the default on_error", function()
      local stderr, said = io.stderr, nil
      io.stderr = { write = function(_, text) said = text return true end }
      loop:timer(0, function() error("broken") end)
      loop:timer(600, helper.never("timer"))
      local ok, err = loop:run()
      io.stderr = stderr
      assert.is_nil(ok)
      assert.is_truthy(err:match("loop_spec%.lua:%d+: broken\nstack traceback"))
      assert.is_truthy(said:match("^sipwire: error in timer: .*broken"))
    end)

    it("goes on after an error that on_error took", function()
      local seen = {}
      loop.on_error = function(err, t, name)
        seen[#seen + 1] = { err:match("[^\n]*: (%w+)\n"), t, name }
      end
      loop:timer(0, function() error("one") end)
      loop:spawn(function() error("two") end)
      assert.is_true(loop:run())
      assert.are.same({ { "one", nil, "timer" }, { "two", nil, "task" } }, seen)
    end)

    it("fails a task that yields to nobody", function()
      local said
      loop.on_error = function(err, _, name) said = name .. ": " .. err end
      assert.is_true(loop:run(function() coroutine.yield("to nobody") end))
      assert.is_truthy(said:find("task: a task may wait only in functions of " ..
        "sipwire", 1, true))
    end)

    it("cannot be run or stepped from inside a callback", function()
      local errors = {}
      loop:defer(function()
        errors[1] = select(2, pcall(loop.step, loop, 0))
        errors[2] = select(2, pcall(loop.run, loop))
      end)
      assert.is_true(loop:run())
      assert.is_truthy(errors[1]:find("step() inside a callback", 1, true))
      assert.is_truthy(errors[2]:find("run() inside a callback", 1, true))
    end)
  end)

  describe("'s ticks", function()
    it("deliver what was queued when they began, the rest in the next", function()
      local order = {}
      loop:defer(function()
        order[#order + 1] = "a"
        loop:defer(function() order[#order + 1] = "c" end)
      end)
      loop:defer(function() order[#order + 1] = "b" end)
      loop:step(0)
      assert.are.same({ "a", "b" }, order)
      loop:step(0)
      assert.are.same({ "a", "b", "c" }, order)
    end)

    it("do not wait when told so, nor when nothing can happen", function()
      local started = seconds()
      loop:step(0)
      loop:step()
      assert.is_true(seconds() - started < 1)
    end)

    it("wait as long as they are told, and no longer", function()
      drain()
      for _ = 1, 30 do
        local started = seconds()
        loop:step(0.003)
        local took = seconds() - started
        assert.is_true(took > 0.001 and took < 2, took)
      end
    end)

    -- 100 clients on this loop, their server on another; what it sends waits in
    -- the kernel until this loop steps.
    local function crowd()
      local far = sipwire.loop()
      local served, clients = {}, {}
      local listener = assert(sipwire.listen { loop = far,
        on_connection = function(s) served[#served + 1] = s end })
      for i = 1, 100 do
        clients[i] = sipwire.new { server = listener.url, loop = loop }
        clients[i]:connect()
      end
      run.wait(function()
        far:step(0)
        loop:step(0)
        for i = 1, 100 do
          if not clients[i]:is_connected() then return false end
        end
        return #served == 100
      end, 20, "100 connections")
      drain()
      for i, s in ipairs(served) do s:send("for you " .. i) end
      far:step(0)
      return clients, function() assert(far:close()) end
    end

    it("read some of many connections, and ask for the next tick at once",
      function()
        local clients, close = crowd()
        local got, ticks, most, order = 0, 0, 0, {}
        for i = 1, 100 do
          clients[i].on_message = function(_, text)
            got = got + 1
            order[got] = tonumber(text:match "%d+")
          end
        end
        run.wait(function()
          local before = got
          if before > 0 then
            assert.are.equal(0, loop:timeout())
            assert.is_true(readable())
          end
          loop:step(before == 0 and 0.1 or nil)
          assert.is_true(before == 0 or got > before)
          ticks, most = ticks + 1, math.max(most, got - before)
          return got == 100
        end, 5, "100 messages")
        assert.is_true(most <= 32 and ticks >= 4, most)
        for i = 1, 100 do assert.are.equal(i, order[i]) end -- first come...
        assert.is_false(readable())
        close()
      end)

    it("leave out connections that were paused or dropped before their turn",
      function()
        local clients, close = crowd()
        local got, first = {}, nil
        local function count()
          local number = 0
          for _ in pairs(got) do number = number + 1 end
          return number
        end
        for i = 1, 100 do
          clients[i].on_message = function()
            got[i] = true
            if first then return end
            first = i
            for j = 1, 100 do
              if j == i then -- goes on
              elseif j % 3 == 0 then
                clients[j]:_pause(true)
              elseif j % 3 == 1 then
                clients[j]:dispose()
              end
            end
          end
        end
        run.wait(function() loop:step(0.1) return first end, 5, "the first")
        for _ = 1, 20 do loop:step(0.001) end
        for i = 1, 100 do
          if i ~= first and i % 3 == 1 then
            assert.is_nil(got[i], i)
          elseif i % 3 == 2 then
            assert.is_true(got[i], i)
          end
        end
        -- of the paused ones, those that had been read by then have theirs
        assert.is_true(count() < 34 + 32)
        for i = 3, 100, 3 do clients[i]:_pause(false) end
        run.wait(function()
          loop:step(0.1)
          for i = 3, 100, 3 do
            if not got[i] then return false end
          end
          return true
        end, 5, "the paused ones' messages")
        close()
      end)

    it("do not wait on once a timer is due (however late the step)", function()
      for _ = 1, 20 do
        local fired = false
        loop:timer(0.001, function() fired = true end)
        local due = seconds() + 0.002
        while seconds() < due do end -- the timer is due before the step
        local started = seconds()
        loop:step(5)
        assert.is_true(fired)
        assert.is_true(seconds() - started < 2)
      end
    end)
  end)

  describe("'s timers", function()
    it("fire in the order of their times, then of their making", function()
      local order = {}
      for i = 1, 50 do
        loop:timer(i % 2 == 0 and 0.5 or 0, function() order[#order + 1] = i end)
      end
      assert.is_true(loop:run())
      local expected = {}
      for first = 1, 2 do
        for i = first, 50, 2 do expected[#expected + 1] = i end
      end
      assert.are.same(expected, order)
    end)

    it("can be stopped by one that fires in the same tick", function()
      local second
      loop:timer(0, function() second:stop() end)
      second = loop:timer(0, helper.never("second"))
      assert.is_true(loop:run())
    end)

    it("are not collected while they run", function()
      local fired = 0
      for _ = 1, 20 do
        loop:timer(0.001, function() fired = fired + 1 end)
      end
      collectgarbage()
      collectgarbage()
      assert.is_true(loop:run())
      assert.are.equal(20, fired)
    end)
  end)

  describe("'s descriptor", function()
    it("is readable when a call or a timer is due, and only then", function()
      assert.are.equal("r", loop:events())
      drain()
      assert.is_false(readable())
      assert.is_true(rests())
      local t = sipwire.new { server = "ws://127.0.0.1:9/", loop = loop }
      t:disconnect(function() end)
      assert.is_true(readable())
      assert.are.equal(0, loop:timeout())
      drain()
      assert.is_false(readable())
      local timer = loop:timer(0.02, function() end)
      drain()
      assert.is_false(readable())
      assert.is_true(loop:timeout() <= 0.02)
      helper.run_until(readable, 2, "the timer makes the descriptor readable")
      drain()
      assert.is_false(readable())
      timer:stop()
      loop:timer(600, function() end):stop()
      drain()
      assert.is_false(readable())
      assert.is_true(rests())
    end)

    it("alone drives a whole conversation in a host's loop", function()
      local host = uv.new_poll(loop:pollfd())
      host:start("r", function() loop:step(0) end)
      local got, closed = {}, false
      local listener
      listener = assert(sipwire.listen { loop = loop, on_connection = function(s)
        s.on_message = function(_, message) s:send(message:upper()) end
        s.on_disconnect = function() listener:close() end
      end })
      local t = sipwire.new { server = listener.url, loop = loop }
      t.on_connect = function() t:send("one") end
      t.on_message = function(_, message)
        got[#got + 1] = message
        if #got == 1 then
          -- from outside of all ticks of sipwire
          local later = uv.new_timer()
          later:start(5, 0, function() later:close() t:send("two") end)
        else
          t:disconnect(function() closed = true end)
        end
      end
      t:connect()
      local deadline = seconds() + 5
      while not closed and seconds() < deadline do
        uv.run("once")
      end
      assert.are.same({ "ONE", "TWO" }, got)
      host:stop()
      host:close()
      uv.run("nowait")
    end)

    it("lets cqueues wait on the loop object as it is", function()
      local cqueues = require "cqueues"
      local cq, ticks, fired = cqueues.new(), 0, false
      loop:timer(0.01, function() fired = true end)
      cq:wrap(function()
        while not fired do
          cqueues.poll(loop, 5)
          loop:step(0)
          ticks = ticks + 1
        end
      end)
      assert(cq:loop(5))
      assert.is_true(fired)
      assert.is_true(ticks < 10, ticks .. " wake-ups for one timer")
    end)
  end)

  describe("that is closed", function()
    it("disposes its transports, listeners and timers", function()
      local listener = assert(sipwire.listen {
        loop = loop, on_connection = function() end })
      local t = sipwire.new { server = listener.url, loop = loop }
      t.on_connect = helper.never("on_connect")
      t:connect(helper.never("connect completion"))
      loop:timer(0, helper.never("timer"))
      loop:defer(helper.never("defer"))
      assert.is_true(loop:close())
      assert.is_true(loop:close())
      assert.are.equal("Disconnected", t.state)
      assert.is_false(t:is_connected())
      assert.is_false(pcall(t.connect, t))
      assert.is_truthy(tostring(t):find("disposed", 1, true))
      assert.is_truthy(tostring(loop):find("closed", 1, true))
      listener:close()
      t:dispose()
      assert.is_false(pcall(loop.step, loop, 0))
      assert.is_false(pcall(loop.run, loop))
    end)
  end)
end)
