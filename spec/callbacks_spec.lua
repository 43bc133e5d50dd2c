-- SPDX-License-Identifier: MIT
-- When callbacks come, and what may be done in them (C7, C41-C44, DESIGN
-- section 2, rules 1-6).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local recorder = require "spec.support.recorder"
local sipwire = require "sipwire"

helper.watch()

local function gone(r)
  r.t:disconnect()
  r:await("Disconnected", function() return r.t.state == "Disconnected" end)
end

-- ---- connect(), disconnect() and send() in each kind of callback -----------

-- way, callback, whether send() is accepted there, what is told if that
-- callback calls connect "c1", and if it calls disconnect "d1".
local cases = {
  { "connecting", "Connecting", false,
    "Connecting, Connected, up, c0, c1",
    "Connecting, Disconnecting, c0 aborted, Disconnected, d1" },
  { "connected", "Connected", true,
    "Connecting, Connected, up, c0, c1",
    "Connecting, Connected, up, c0, Disconnecting, down, Disconnected, d1" },
  { "connected", "up", true,
    "Connecting, Connected, up, c0, c1",
    "Connecting, Connected, up, c0, Disconnecting, down, Disconnected, d1" },
  { "connected", "c0", true,
    "Connecting, Connected, up, c0, c1",
    "Connecting, Connected, up, c0, Disconnecting, down, Disconnected, d1" },
  { "message", "message hello", true,
    "message hello, c1",
    "message hello, Disconnecting, down, Disconnected, d1" },
  { "sent", "s0", true,
    "s0, c1",
    "s0, Disconnecting, down, Disconnected, d1" },
  { "left", "Disconnecting", false,
    "Disconnecting, down, Connecting, d0 aborted, Connected, up, c1",
    "Disconnecting, down, Disconnected, d0, d1" },
  { "left", "down", false,
    "Disconnecting, down, Connecting, d0 aborted, Connected, up, c1",
    "Disconnecting, down, Disconnected, d0, d1" },
  { "left", "Disconnected", false,
    "Disconnecting, down, Disconnected, d0, Connecting, Connected, up, c1",
    "Disconnecting, down, Disconnected, d0, d1" },
  { "left", "d0", false,
    "Disconnecting, down, Disconnected, d0, Connecting, Connected, up, c1",
    "Disconnecting, down, Disconnected, d0, d1" },
  { "lost", "Disconnected", false,
    "Disconnected closed, down closed, Connecting, Connected, up, c1",
    "Disconnected closed, down closed, d1" },
  { "lost", "down", false,
    "Disconnected closed, down closed, Connecting, Connected, up, c1",
    "Disconnected closed, down closed, d1" },
  { "failed", "Disconnected", false,
    "Connecting, Disconnected http, c0 http, " ..
      "Connecting, Disconnected http, c1 http",
    "Connecting, Disconnected http, c0 http, d1" },
  { "failed", "c0", false,
    "Connecting, Disconnected http, c0 http, " ..
      "Connecting, Disconnected http, c1 http",
    "Connecting, Disconnected http, c0 http, d1" },
}

-- Inside a transition's callbacks requests wait, elsewhere they act at once.
local is_transition = { Connecting = true, Connected = true, up = true,
  Disconnecting = true, down = true, Disconnected = true }

local function in_callback(case, fn)
  local peer = peers.raw()
  local r = recorder.client(peer)
  local came = 0
  r:within(case[2], function(t)
    came = came + 1
    fn(r, t)
  end)
  peers.ways[case[1]](r, peer)
  return r, peer, function() assert.equal(1, came) end
end

local after_call = {
  connect = { Disconnected = "Connecting", Connected = "Connected",
              Connecting = "Connecting", Disconnecting = "Connecting" },
  disconnect = { Disconnected = "Disconnected", Connected = "Disconnecting",
                 Connecting = "Disconnecting",
                 Disconnecting = "Disconnecting" },
}

local function request(r, what, name, transition)
  local before = r.t.state
  assert.is_true(r[what](r, name))
  assert.equal(transition and before or after_call[what][before], r.t.state)
end

for _, case in ipairs(cases) do
  local place = ("in the callback '%s' (%s)"):format(case[2], case[1])
  local transition = is_transition[case[2]]

  describe(place, function()
    it("connect() is allowed (C43, rule 4)", function()
      local r, _, check = in_callback(case, function(r)
        request(r, "connect", "c1", transition)
      end)
      r:expect(case[4])
      check()
      gone(r)
    end)

    it("disconnect() is allowed (C43, rule 4)", function()
      local r, _, check = in_callback(case, function(r)
        request(r, "disconnect", "d1", transition)
      end)
      r:expect(case[5])
      check()
      assert.equal("Disconnected", r.t.state)
    end)

    it("send() does what the state allows (C31)", function()
      local accepted = {}
      local r, peer, check = in_callback(case, function(r, t)
        local ok, err, code = r:send("s1", "from a callback")
        table.insert(accepted, ok or false)
        assert.equal(not ok and "state" or nil, code)
        local text = "state: cannot send while " .. t.state
        assert.equal(not ok and text or nil, err)
      end)
      r:await("all", function() return r.t.state ~= "Connecting" and
        r.t.state ~= "Disconnecting" end)
      r:await("s1", function()
        return accepted[1] ~= nil and (not case[3] or r:has "s1")
      end)
      check()
      assert.same({ case[3] }, accepted)
      local link = peer:link()
      r:await("message", function()
        return not case[3] or link.messages[#link.messages] == "from a callback"
      end)
      if not case[3] then assert.same({}, link.messages) end
      gone(r)
    end)
  end)
end

describe("in a timer, a deferred function, a task", function()
  local starts = {
    timer = function(loop, fn) loop:timer(0, fn) end,
    defer = function(loop, fn) loop:defer(fn) end,
    task = function(loop, fn) loop:spawn(fn) end,
  }
  for name, start in pairs(starts) do
    it("calls act at once: " .. name .. " (C43, rule 4)", function()
      local peer = peers.raw()
      local r = recorder.client(peer)
      start(r.t.loop, recorder.callback(function()
        assert.is_nil((r:send("s0", "too early")))
        request(r, "connect", "c1")
      end))
      r:expect "Connecting, Connected, up, c1"
      start(r.t.loop, recorder.callback(function()
        assert.is_true(r:send("s1", "hello"))
        request(r, "disconnect", "d1")
        request(r, "connect", "c2")
      end))
      r:expect("Disconnecting, down, Connecting, d1 aborted, s1, Connected, " ..
        "up, c2")
      assert.same({ "hello" }, peer.links[1].messages)
      gone(r)
    end)
  end
end)

-- ---- order -----------------------------------------------------------------

describe("one transition", function()
  it("tells listeners, slot, completions in order (C14, rule 5)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    for i = 1, 2 do
      r.t.state_change:add_listener(recorder.callback(function(state)
        r:note(state .. i)
      end))
    end
    r:connect "a"
    r:connect "b"
    r:expect("Connecting, Connecting1, Connecting2, Connected, Connected1, " ..
      "Connected2, up, a, b")
    r:disconnect "x"
    r:disconnect "y"
    r:expect("Disconnecting, Disconnecting1, Disconnecting2, down, " ..
      "Disconnected, Disconnected1, Disconnected2, x, y")
  end)

  it("is over before what was asked for in it begins (C43, rule 4)", function()
    local r = recorder.client(peers.raw())
    r:within("Connected", function(t)
      t:disconnect(r:done "d1")
      t:connect(r:done "c1")
      t:disconnect(r:done "d2")
      assert.equal("Connected", t.state)
    end)
    r.t.state_change:add_listener(recorder.callback(function(state, _, t)
      if state == "Connected" then assert.equal("Connected", t.state) end
    end))
    r:within("up", function(t)
      assert.equal("Connected", t.state)
      t:connect(r:done "c2")
    end)
    r:within("c0", function(t) assert.equal("Connecting", t.state) end)
    r:connect "c0"
    r:expect("Connecting, Connected, up, c0, Disconnecting, down, " ..
      "Connecting, d1 aborted, Disconnecting, c1 aborted, Connecting, " ..
      "d2 aborted, Connected, up, c2")
    gone(r)
  end)

  it("holds requests of its own transport only (rule 4)", function()
    local a, b = recorder.client(peers.raw()), nil
    local peer = peers.raw()
    b = recorder.new(sipwire.new { server = peer.url, loop = a.t.loop })
    a:within("up", function() request(b, "connect", "c1") end)
    a:up()
    b.poll = function() peer:poll() end
    b:expect "Connecting, Connected, up, c1"
    gone(a)
    gone(b)
  end)

  it("never finds another one applied already (rule 2)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    r:within("up", function(t)
      assert.equal("Connected", t.state)
    end)
    r:within("c1", function(t) assert.equal("Connected", t.state) end)
    peer:answer(peer:link())
    peer:link().c:reset()
    r:expect("Connecting, Connected, up, c1, Disconnected reset, down reset")
  end)
end)

describe("a tick", function()
  -- Each round asks for the next; one per tick, and no tick waits.
  local function one_per_tick(loop, ask, count)
    ask()
    for i = 1, 5 do
      assert.equal(i - 1, count())
      assert.equal(0, loop:timeout())
      loop:step(10)
      assert.equal(i, count())
    end
  end

  it("leaves completions that it causes to the next (rule 6)", function()
    for _, what in ipairs { "connect", "disconnect" } do
      local r = recorder.client(peers.raw())
      if what == "connect" then r:up() end
      local count = 0
      local function ask()
        r.t[what](r.t, recorder.callback(function()
          count = count + 1
          if count < 6 then ask() end
        end))
      end
      one_per_tick(r.t.loop, ask, function() return count end)
      recorder.drain(2, r.t.loop)
      gone(r)
    end
  end)

  it("leaves deferred functions and tasks to the next (rule 6)", function()
    for _, what in ipairs { "defer", "spawn" } do
      local loop, count = recorder.loop(), 0
      local function ask()
        loop[what](loop, recorder.callback(function()
          count = count + 1
          ask()
        end))
      end
      one_per_tick(loop, ask, function() return count end)
    end
  end)

  it("does not starve the network (rule 6)", function()
    local r = recorder.client(peers.raw())
    local count = 0
    local function again()
      count = count + 1
      r.t.loop:defer(again)
    end
    again()
    r:up()
    r:down()
    assert.is_true(count > 5)
  end)
end)

describe("step() and run()", function()
  local function refused(loop)
    for _, name in ipairs { "step", "run" } do
      local ok, err = pcall(function() return loop[name](loop) end)
      assert.is_false(ok)
      assert.truthy(err:find("callbacks_spec.lua", 1, true), err)
      assert.truthy(err:find(name .. "() inside a callback", 1, true), err)
    end
  end

  it("are refused in every callback (rule 1)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    local loop, count = r.t.loop, 0
    local function inside()
      refused(loop)
      count = count + 1
    end
    for _, line in ipairs { "Connecting", "Connected", "up", "c1", "s1",
        "message hello", "Disconnecting", "down", "Disconnected", "d1" } do
      r:within(line, inside)
    end
    loop:defer(inside)
    loop:timer(0, inside)
    loop:spawn(inside)
    r:connect "c1"
    r:expect "Connecting, Connected, up, c1"
    r:send("s1", "x")
    r:expect "s1"
    peer:send "hello"
    r:expect "message hello"
    r:disconnect "d1"
    r:expect "Disconnecting, down, Disconnected, d1"
    assert.equal(13, count)
  end)
end)
