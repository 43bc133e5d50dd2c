-- SPDX-License-Identifier: MIT
-- How a connection ends and what is told of it (C35, C37, C45).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local rawpeer = require "spec.support.rawpeer"
local recorder = require "spec.support.recorder"
local uv = require "luv"

helper.watch()

-- A client and a raw peer that are Connected.
local function connected(options)
  local peer = peers.raw()
  local r = recorder.client(peer, options)
  r:up()
  return r, peer, peer:link()
end

describe("the end of a connection", function()
  -- |act| ends it; what on_disconnect is told.
  local function ends(act, code, options)
    local r, peer, link = connected(options)
    local info
    for _ = 1, 2 do
      act(link.c)
      r:expect(("Disconnected %s, down %s"):format(code, code))
      assert.same(r.ends.Disconnected, r.ends.down)
      info = r.ends.down.info
      link.closed = true
      r:up() -- C20
      link = peer:link()
    end
    r:down()
    return info
  end

  it("tells a close frame with its code and reason (C35, C37)", function()
    local info = ends(function(c)
      c:send("close", rawpeer.frames.close(4321, "b\195\164h"))
    end, "closed")
    assert.equal(4321, info.close_code)
    assert.equal("b\195\164h", info.close_reason)
    assert.is_true(info.was_clean)
    assert.equal("open", info.phase)
  end)

  it("tells a close frame without a code (C35, C37)", function()
    local info = ends(function(c) c:send("close", "") end, "closed")
    assert.equal(1005, info.close_code)
    assert.is_true(info.was_clean)
  end)

  it("tells that there was no close frame (C35, C37)", function()
    local info = ends(function(c) c:fin() end, "closed")
    assert.equal(1006, info.close_code)
    assert.is_false(info.was_clean)
    assert.is_nil(info.close_reason)
  end)

  it("tells a reset (C35, C37)", function()
    local info = ends(function(c) c:reset() end, "reset")
    assert.equal(1006, info.close_code)
    assert.is_false(info.was_clean)
    assert.equal(uv.constants.ECONNRESET or 104, info.errno)
  end)

  it("tells a violation of the protocol (C35, C37)", function()
    local info = ends(function(c)
      c:send("text", "", { rsv = 4 })
    end, "protocol")
    assert.equal(1002, info.close_code)
    assert.is_false(info.was_clean)
  end)

  it("is found when a keep-alive is not answered #timing (C35, C37)", function()
    local r, _, link = connected { keep_alive_interval = 0.05,
      keep_alive_timeout = 0.1 }
    link.c:pause()
    r:expect "Disconnected timeout, down timeout"
    assert.equal(1006, r.ends.down.info.close_code)
    assert.is_false(r.ends.down.info.was_clean)
  end)

  it("by dispose() is the last that is heard (C45)", function()
    local r, peer, link = connected()
    r:connect "c1"
    r:send("s1", "last words")
    r.t:dispose()
    assert.equal("Disconnected", r.t.state)
    r:expect ""
    r:await("a close frame", function() return link.close_code end)
    assert.equal(1000, link.close_code)
    assert.equal("last words", link.messages[1])
    peer:send "anybody there?"
    r:expect ""
  end)

  -- In the tick in which the end was read, and before it is applied.
  local function ended_already(options)
    local r, peer, link = connected(options)
    link.c:reset()
    local function act(fn)
      local came = false
      r.t.loop:timer(0, recorder.callback(function()
        assert.equal("Connected", r.t.state)
        came = true
        fn(r.t)
      end))
      r.t.loop:step(0)
      assert.is_true(came)
    end
    return r, peer, act
  end

  it("that disconnect() came before is not told (C35, rule 2)", function()
    local r, _, act = ended_already()
    act(function(t) t:disconnect(r:done "d1") end)
    r:expect "Disconnecting, down, Disconnected, d1"
  end)

  it("does not end the next connection (C13, rule 9)", function()
    local r, peer, act = ended_already()
    act(function(t)
      t:disconnect(r:done "d1")
      t:connect(r:done "c1")
    end)
    r:expect "Disconnecting, down, Connecting, d1 aborted, Connected, up, c1"
    assert.equal(2, #peer.links)
    r:down()
  end)

  it("is not told after dispose() (C45, rule 7)", function()
    local r, _, act = ended_already()
    act(function(t) t:dispose() end)
    r:expect ""
  end)

  it("waits until what was caused before is told (rule 2)", function()
    local r, _, act = ended_already()
    act(function(t)
      t:connect(r:done "c1")
      t:connect(r:done "c2")
    end)
    r:within("c1", function(t) assert.equal("Connected", t.state) end)
    r:within("c2", function(t) assert.equal("Connected", t.state) end)
    r:expect "c1, c2, Disconnected reset, down reset"
  end)
end)
