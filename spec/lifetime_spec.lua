-- SPDX-License-Identifier: MIT
-- dispose(), the garbage collector and loop:close(), whenever they come (C45,
-- DESIGN rule 7 and section 3). exit_spec.lua has the end of the process.

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local rawpeer = require "spec.support.rawpeer"
local recorder = require "spec.support.recorder"
local run = require "spec.support.run"
local sipwire = require "sipwire"

helper.watch()

local unpack = table.unpack or unpack

-- ---- states ----------------------------------------------------------------

local function asked(r, peer)
  r:await("a request", function() return peer:asked() end)
end

-- How to get there, and whether the peer sees a close frame then.
local states = {
  { "Disconnected, new", function() end },
  { "Disconnected, used", function(r)
    r:up()
    r:down()
  end },
  { "Disconnected, failed", function(r, peer)
    peer.refuse = true
    r:connect()
    r:expect "Connecting, Disconnected http"
  end },
  { "Disconnected, lost", function(r, peer)
    r:up()
    peer:hang_up()
    r:expect "Disconnected closed, down closed"
  end },
  { "Connecting", function(r, peer)
    peer.held = true
    r:connect "c0"
    asked(r, peer)
    r:expect "Connecting"
  end },
  { "Connecting, this tick", function(r) r:connect "c0" end },
  { "Connected", function(r) r:up() end, true },
  { "Connected, with work", function(r)
    r:up()
    r:connect "c0"
    r:send("s0", "last words")
  end, true },
  { "Disconnecting", function(r, peer)
    r:up()
    peer.held = true
    r:disconnect "d0"
    r:expect "Disconnecting, down"
  end, true },
  { "Disconnecting, this tick", function(r)
    r:up()
    r:disconnect "d0"
  end, true },
  { "Disconnecting, from Connecting", function(r, peer)
    peer.held = true
    r:connect "c0"
    asked(r, peer)
    r:expect "Connecting"
    r:disconnect "d0"
  end },
  { "Connecting, from Connected", function(r)
    r:up()
    r:disconnect "d0"
    r:connect "c0"
  end, true },
}

-- |fn| must raise "disposed: ..." here, at the line that calls it.
local function raises_disposed(fn, ...)
  local arguments, n = { ... }, select("#", ...)
  local ok, err = pcall(function()
    local result = fn(unpack(arguments, 1, n))
    return result
  end)
  assert.is_false(ok)
  assert.truthy(err:find("lifetime_spec.lua:%d+: disposed: "), err)
end

local function field(t, name) return t[name] end

local function check_disposed(t)
  assert.equal("Disconnected", t.state)
  assert.is_false(t:is_connected())
  raises_disposed(t.connect, t)
  raises_disposed(t.connect, t, print)
  raises_disposed(t.disconnect, t)
  raises_disposed(t.send, t, "x")
  raises_disposed(t.stats, t)
  for _, name in ipairs { "server", "protocol", "local_address",
                          "peer_address" } do
    local ok, err = pcall(field, t, name)
    assert.is_false(ok)
    assert.truthy(err:find "disposed: ", err)
  end
  assert.truthy(tostring(t):find("disposed", 1, true))
  t:dispose()
end

local function closes(peer, link, code)
  link = link or peer.links[1]
  run.run_until(function()
    peer:poll()
    return link.close_code or link.c:ended()
  end, 2, "a close frame")
  assert.equal(code, link.close_code)
end

-- ---- dispose() -------------------------------------------------------------

describe("dispose()", function()
  for _, state in ipairs(states) do
    it("is final in " .. state[1] .. " (C45, rule 7)", function()
      local peer = peers.raw()
      local r = recorder.client(peer)
      state[2](r, peer)
      recorder.call(r.t.dispose, r.t)
      check_disposed(r.t)
      peer.held = false
      r:expect ""
      if state[3] then closes(peer, nil, 1000) end
      r:await("the end", function() return not r.t.loop._core:alive() end)
    end)
  end

  it("closes after what send() accepted (C45, rule 11)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    r:up()
    for i = 1, 100 do r:send("s" .. i, "message " .. i) end
    r.t:dispose()
    r:expect ""
    closes(peer, nil, 1000)
    assert.equal(100, #peer.links[1].messages)
    assert.equal("message 100", peer.links[1].messages[100])
  end)

  local callbacks = {
    { "connecting", "Connecting", "Connecting" },
    { "connected", "Connected", "Connecting, Connected" },
    { "connected", "up", "Connecting, Connected, up" },
    { "connected", "c0", "Connecting, Connected, up, c0" },
    { "message", "message hello", "message hello" },
    { "sent", "s0", "s0" },
    { "left", "Disconnecting", "Disconnecting" },
    { "left", "down", "Disconnecting, down" },
    { "left", "Disconnected", "Disconnecting, down, Disconnected" },
    { "left", "d0", "Disconnecting, down, Disconnected, d0" },
    { "lost", "Disconnected", "Disconnected closed" },
    { "lost", "down", "Disconnected closed, down closed" },
    { "failed", "Disconnected", "Connecting, Disconnected http" },
    { "failed", "c0", "Connecting, Disconnected http, c0 http" },
  }
  for _, case in ipairs(callbacks) do
    it(("is final in the callback '%s' (%s) (C45, rule 7)")
      :format(case[2], case[1]), function()
        local peer = peers.raw()
        local r = recorder.client(peer)
        local disposed = false
        r:within(case[2], function(t)
          t:connect(r:done "never 1")
          t:disconnect(r:done "never 2")
          t:send("said in vain", r:done "never 3")
          t:dispose()
          disposed = true
          check_disposed(t)
        end)
        -- a listener behind the one that disposes of it
        r.t.state_change:add_listener(function(state)
          if disposed then r:note("never " .. state) end
        end)
        peers.ways[case[1]](r, peer)
        r:expect(case[3])
        assert.is_true(disposed)
        local open = case[1] ~= "connecting" and case[1] ~= "lost" and
          case[1] ~= "failed"
        if open then closes(peer, nil, 1000) end
      end)
  end

  it("drops what was read with the message that disposed (rule 7)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    r:up()
    r:within("message m1", function(t) t:dispose() end)
    local bytes = ""
    for i = 1, 3 do
      bytes = bytes .. rawpeer.frames.build { payload = "m" .. i }
    end
    peer:link().c:write(bytes)
    r:expect "message m1"
  end)

  it("works on one transport from another's callback (rule 7)", function()
    local peer, other = peers.raw(), peers.raw()
    local a = recorder.client(peer)
    local b = recorder.new(sipwire.new { server = other.url, loop = a.t.loop })
    a:within("message die", function() b.t:dispose() end)
    function a.poll()
      peer:poll()
      other:poll()
    end
    a:up()
    b.poll = a.poll
    b:up()
    peer:send "die"
    other:send "m1"
    b:send("s1", "x")
    a:expect "message die"
    b.poll = nil
    for _, line in ipairs(b.log) do -- each only if it came first
      assert.truthy(line == "message m1" or line == "s1", line)
    end
    b:take()
    b:expect ""
    closes(other, nil, 1000)
    a:down()
  end)

  it("works in timers, deferred functions and tasks (rule 7)", function()
    for _, what in ipairs { "defer", "spawn", "timer" } do
      local peer = peers.raw()
      local r = recorder.client(peer)
      r:up()
      local loop = r.t.loop
      local function fn()
        r.t:send("x", r:done "never")
        r.t:dispose()
      end
      if what == "timer" then loop:timer(0, fn) else loop[what](loop, fn) end
      r:expect ""
      closes(peer, nil, 1000)
      check_disposed(r.t)
    end
  end)
end)

-- ---- the garbage collector -------------------------------------------------

local function collect()
  collectgarbage()
  collectgarbage()
end

-- A transport that only the loop may know, in a weak table; its callbacks know
-- it, as those of most scripts do.
local function dropped(loop, url, told)
  local weak = setmetatable({}, { __mode = "v" })
  local t = sipwire.new { server = url, loop = loop }
  t.state_change:add_listener(function(state)
    assert.truthy(t)
    table.insert(told, state)
  end)
  t.on_connect = function() assert.truthy(t) end
  t.on_disconnect = function() table.insert(told, "down") end
  t.on_message = function(_, message) table.insert(told, message) end
  weak[1] = t
  return weak
end

describe("a transport that the script dropped", function()
  local loop, peer, told, weak

  local function begin()
    loop, peer, told = recorder.loop(), peers.raw(), {}
    weak = dropped(loop, peer.url, told)
  end

  local function await(text)
    recorder.await(function() return table.concat(told, ", ") == text end,
      text, loop, function()
        peer:poll()
        collect()
      end)
    recorder.drain(3, loop)
    assert.equal(text, table.concat(told, ", "))
    told[1] = nil
    for i = #told, 1, -1 do told[i] = nil end
  end

  -- Gone, and nothing waits for it any more.
  local function is_gone()
    collect()
    assert.is_nil(weak[1])
    recorder.await(function() return not loop._core:alive() end, "rest", loop,
      function() peer:poll() end)
  end

  it("is collected when Disconnected", function()
    begin()
    is_gone()
  end)

  it("is collected after disconnect() in Disconnected", function()
    begin()
    local done = false
    weak[1]:disconnect(function() done = true end)
    collect()
    assert.truthy(weak[1])
    recorder.drain(2, loop)
    assert.is_true(done)
    is_gone()
  end)

  it("lives until connect() failed", function()
    begin()
    peer.refuse = true
    local code
    weak[1]:connect(function(_, why) code = why end)
    await "Connecting, Disconnected"
    assert.equal("http", code)
    is_gone()
  end)

  it("lives until connect() failed of which nobody hears", function()
    begin()
    peer.refuse = true
    weak[1]:connect()
    await "Connecting, Disconnected"
    is_gone()
  end)

  it("lives while Connected, until the peer closes", function()
    begin()
    weak[1]:connect()
    await "Connecting, Connected"
    peer:send "hello"
    await "hello"
    peer:hang_up()
    await "Disconnected, down"
    is_gone()
  end)

  it("lives while Disconnecting, until it is done", function()
    begin()
    weak[1]:connect()
    await "Connecting, Connected"
    peer.held = true
    local done = false
    weak[1]:disconnect(function() done = true end)
    await "Disconnecting, down"
    collect()
    assert.truthy(weak[1])
    peer.held = false
    await "Disconnected"
    assert.is_true(done)
    is_gone()
  end)

  it("lives until a lost message was told", function()
    begin()
    weak[1]:connect()
    await "Connecting, Connected"
    local code
    weak[1]:send("x", function(_, why) code = why or "sent" end)
    peer:link().c:reset()
    await "Disconnected, down"
    assert.truthy(code)
    is_gone()
  end)

  for _, state in ipairs(states) do
    it("is collected when disposed in " .. state[1] .. " (C45)", function()
      local p = peers.raw()
      local r = recorder.client(p)
      state[2](r, p)
      local w, l = setmetatable({ r.t }, { __mode = "v" }), r.t.loop
      r.t:dispose()
      r = nil
      collect()
      recorder.drain(2, l)
      collect()
      assert.is_nil(w[1])
    end)
  end
end)
