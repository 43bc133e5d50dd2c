-- SPDX-License-Identifier: MIT
-- loop:close() with everything alive, loops that are dropped, several loops.

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local rawpeer = require "spec.support.rawpeer"
local recorder = require "spec.support.recorder"
local run = require "spec.support.run"
local sipwire = require "sipwire"

helper.watch()

local function collect()
  collectgarbage()
  collectgarbage()
end

local function closes(peer, code, link)
  link = link or peer.links[1]
  run.run_until(function()
    peer:poll()
    return link.c:ended()
  end, 2, "the end of a link")
  assert.equal(code, link.close_code)
end

-- run_until must not turn a loop that is closed.
local function own_loop(options)
  return run.track(sipwire.loop(options or {
    on_error = function(err) run.report(err) end,
  }))
end

local function client(peer, loop)
  local r = recorder.new(sipwire.new { server = peer.url, loop = loop })
  function r.poll() peer:poll() end
  return r
end

local states = {
  ["Disconnected"] = function() end,
  ["Connecting"] = function(r, peer)
    peer.held = true
    r:connect "c0"
    r:await("a request", function() return peer:asked() end)
    r:expect "Connecting"
  end,
  ["Connecting, this tick"] = function(r) r:connect "c0" end,
  ["Connected"] = function(r) r:up() end,
  ["Connected, with work"] = function(r)
    r:up()
    r:connect "c0"
    r:send("s0", "last words")
  end,
  ["Disconnecting"] = function(r, peer)
    r:up()
    peer.held = true
    r:disconnect "d0"
    r:expect "Disconnecting, down"
  end,
  ["Disconnecting, this tick"] = function(r)
    r:up()
    r:disconnect "d0"
  end,
}

describe("loop:close()", function()
  for name, enter in pairs(states) do
    it("ends a transport that is " .. name, function()
      local peer, loop = peers.raw(), own_loop()
      local r = client(peer, loop)
      enter(r, peer)
      assert.is_true((recorder.call(loop.close, loop)))
      assert.equal("", r:take())
      assert.equal("Disconnected", r.t.state)
      local ok, err = pcall(r.t.connect, r.t)
      assert.is_false(ok)
      assert.truthy(err:find("disposed: ", 1, true), err)
      r.t:dispose()
      local link = peer.links[1]
      if link then
        closes(peer, name:find "^Connected" and 1001 or
          name:find "^Disconnecting" and 1000 or nil)
      end
      if name:find "work" then
        assert.equal("last words", link.messages[1])
      end
      assert.equal("", r:take())
    end)
  end

  it("may be called again, and leaves nothing that works", function()
    local loop = own_loop()
    local timer = loop:timer(0, helper.never "a timer")
    loop:defer(helper.never "a deferred function")
    loop:spawn(helper.never "a task")
    assert.is_true((loop:close()))
    assert.is_true((loop:close()))
    timer:stop()
    for _, name in ipairs { "step", "run", "pollfd", "timeout" } do
      local ok, err = pcall(loop[name], loop)
      assert.is_false(ok, name)
      assert.truthy(err:find("disposed: ", 1, true), err)
    end
    for _, name in ipairs { "defer", "spawn" } do
      assert.is_false((pcall(loop[name], loop, print)))
    end
    assert.is_false((pcall(loop.timer, loop, 0, print)))
    assert.is_false((pcall(sipwire.new, { server = "ws://a/", loop = loop })))
    local options = { on_connection = print, loop = loop }
    assert.is_false((pcall(sipwire.listen, options)))
    assert.equal("sipwire.loop: closed", tostring(loop))
  end)

  it("closes listeners and what they accepted", function()
    local loop, accepted = own_loop(), nil
    local listener = sipwire.listen {
      loop = loop, on_connection = function(t) accepted = t end,
    }
    run.add_loop(loop)
    local c = rawpeer.connect { port = listener.port }
    assert.is_true(c:upgrade().accepted)
    helper.run_until(function() return accepted end, 2, "a transport")
    accepted.on_disconnect = helper.never "on_disconnect"
    run.close_since(run.mark()) -- run_until turns it no more
    loop:close()
    assert.equal("Disconnected", accepted.state)
    local frame = c:read_frame()
    assert.equal("close", frame.name)
    assert.equal(1001, (rawpeer.frames.code(frame.payload)))
    c:wait_end()
    assert.equal("ECONNREFUSED",
      select(2, rawpeer.connect { port = listener.port }))
    listener:close()
  end)

  it("forgets tasks that wait in a connection", function()
    local peer, loop = peers.raw(), own_loop()
    local connection
    for _, wait in ipairs { "receive", "close" } do
      loop = own_loop()
      peer = peers.raw()
      connection = nil
      loop:spawn(function()
        connection = assert(sipwire.open { server = peer.url, loop = loop })
        peer.held = true
        connection[wait](connection)
        error "resumed after the end"
      end)
      recorder.await(function() return connection end, "a connection", loop,
        function() peer:poll() end)
      recorder.drain(2, loop)
      assert.is_true((loop:close()))
      assert.equal("Disconnected", connection.transport.state)
      closes(peer, wait == "receive" and 1001 or 1000)
    end
  end)

  it("may be called in every kind of callback", function()
    local callbacks = {
      { "connecting", "Connecting" }, { "connected", "Connected" },
      { "connected", "up" }, { "connected", "c0" },
      { "message", "message hello" }, { "sent", "s0" },
      { "left", "Disconnecting" }, { "left", "down" },
      { "left", "Disconnected" }, { "left", "d0" },
      { "lost", "Disconnected" }, { "lost", "down" },
      { "failed", "Disconnected" }, { "failed", "c0" },
    }
    for _, case in ipairs(callbacks) do
      local peer, loop = peers.raw(), own_loop()
      local r, closed = client(peer, loop), false
      local never = helper.never "a deferred function"
      r:within(case[2], function(t)
        t:connect(r:done "never 1")
        t:disconnect(r:done "never 2")
        loop:defer(never)
        assert.is_true((loop:close()))
        closed = #r.log
        assert.equal("Disconnected", t.state)
      end)
      peers.ways[case[1]](r, peer)
      run.run_until(function()
        peer:poll()
        if not closed then loop:step(0) end
        return closed
      end, 2, case[2])
      assert.equal(closed, #r.log)
      assert.is_nil(run.take_errors())
    end
  end)

  it("may be called in timers, deferred functions and tasks", function()
    for _, what in ipairs { "timer", "defer", "spawn" } do
      local loop, closed = own_loop(), false
      local never = helper.never "a deferred function"
      local function fn()
        loop:defer(never)
        closed = loop:close()
      end
      if what == "timer" then loop:timer(0, fn) else loop[what](loop, fn) end
      assert.is_true((loop:run()))
      assert.is_true(closed)
    end
  end)
end)

describe("a loop that was dropped with all that is on it", function()
  it("is collected and ends its connections", function()
    local peer = peers.raw()
    local weak = setmetatable({}, { __mode = "v" })
    local function begin()
      local loop = sipwire.loop()
      local t = sipwire.new { server = peer.url, loop = loop }
      local on = false
      t.on_connect = function() on = t ~= nil end
      t:connect(function() assert.truthy(t) end)
      recorder.await(function() return on end, "up", loop,
        function() peer:poll() end)
      recorder.drain(2, loop)
      t:send "last words"
      weak[1], weak[2] = loop, t
    end
    begin()
    collect()
    collect()
    assert.is_nil(weak[1])
    assert.is_nil(weak[2])
    run.run_until(function()
      peer:poll()
      return peer.links[1].c:ended()
    end, 2, "the end of the link")
    assert.is_truthy(peer.links[1].close_code)
  end)
end)

describe("several loops", function()
  it("do not turn each other", function()
    local peer = peers.raw()
    local loop_a, loop_b = own_loop(), own_loop()
    local a, b = client(peer, loop_a), client(peer, loop_b)
    a:connect "a"
    b:connect "b"
    a:expect "Connecting, Connected, up, a"
    assert.equal("", b:take())
    assert.equal("Connecting", b.t.state)
    b:expect "Connecting, Connected, up, b"
    loop_a:close()
    assert.equal("Disconnected", a.t.state)
    assert.equal("Connected", b.t.state)
    peer:send "hello"
    b:expect "message hello"
    b:down()
    assert.equal("", a:take())
  end)

  it("may turn each other from callbacks", function()
    local loop_a, loop_b = own_loop(), own_loop()
    local came = 0
    loop_b:defer(function() came = came + 1 end)
    loop_a:defer(function()
      loop_b:step(0)
      came = came + 1
    end)
    loop_a:step(0)
    assert.equal(2, came)
  end)

  it("serve both ends of a connection", function()
    local peer = peers.sipwire() -- on a loop of its own
    local r = recorder.client(peer)
    r:up()
    peer:send "hello"
    r:expect "message hello"
    r:send("s1", "and back")
    r:expect "s1"
    assert.same({ "and back" }, peer:link().messages)
    r:down()
  end)
end)

describe("the default loop", function()
  it("is made when needed and replaced after close()", function()
    local old = sipwire.new { server = "ws://127.0.0.1:1/" }
    local loop = old.loop
    assert.equal(loop, sipwire.new({ server = "ws://127.0.0.1:1/" }).loop)
    assert.is_true((loop:close()))
    assert.is_false((pcall(old.connect, old)))
    local new = sipwire.new { server = "ws://127.0.0.1:1/" }
    assert.not_equal(loop, new.loop)
    local code
    new:connect(function(_, why) code = why end)
    assert.is_true((sipwire.run()))
    assert.equal("refused", code)
    new.loop:close()
  end)
end)
