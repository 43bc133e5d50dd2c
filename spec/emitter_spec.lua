-- SPDX-License-Identifier: MIT
-- Listeners of state_change and the three slots (C7, C44).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local recorder = require "spec.support.recorder"

helper.watch()

-- A transport that makes a transition, and a list that listeners write to.
local function fixture()
  local r = recorder.client(peers.raw())
  local heard = {}
  local function listener(name, fn)
    return recorder.callback(function(state, ...)
      table.insert(heard, name)
      if fn then fn(state, ...) end
    end)
  end
  -- What is heard in one transition to Connecting, after which the transport
  -- is Disconnected again, unheard.
  local function emission()
    r.t:connect()
    r.t.loop:step(0)
    r:await("Connecting", function() return r:has "Connecting" end)
    local text = table.concat(heard, " ")
    r.t:disconnect()
    r:await("Disconnected", function() return r.t.state == "Disconnected" end)
    r:expect "Connecting, Disconnecting, Disconnected"
    for i = #heard, 1, -1 do heard[i] = nil end
    return text
  end
  return r.t.state_change, listener, emission
end

-- Calls fn on the first transition only: there are more in an emission().
local function first(fn)
  return function(state)
    if state == "Connecting" and fn then
      local now = fn
      fn = nil
      now()
    end
  end
end

describe("state_change", function()
  it("calls listeners in the order added (C44)", function()
    local change, listener, emission = fixture()
    for _, name in ipairs { "a", "b", "c" } do
      change:add_listener(listener(name))
    end
    assert.equal("a b c", emission())
    assert.equal("a b c", emission())
  end)

  it("calls one added twice twice, until removed twice (C44)", function()
    local change, listener, emission = fixture()
    local a, b = listener "a", listener "b"
    change:add_listener(a)
    change:add_listener(b)
    change:add_listener(a)
    assert.equal("a b a", emission())
    change:remove_listener(a)
    assert.equal("b a", emission())
    change:remove_listener(a)
    assert.equal("b", emission())
    change:remove_listener(a) -- unknown by now
    assert.equal("b", emission())
  end)

  it("lets one that is added meanwhile wait for the next (C44)", function()
    local change, listener, emission = fixture()
    local late = listener "late"
    change:add_listener(listener("a", first(function()
      change:add_listener(late)
    end)))
    change:add_listener(listener "b")
    assert.equal("a b", emission())
    assert.equal("a b late", emission())
  end)

  it("does not call one that was removed meanwhile (C44)", function()
    local change, listener, emission = fixture()
    local b, c = listener "b", listener "c"
    change:add_listener(listener("a", first(function()
      change:remove_listener(b)
    end)))
    change:add_listener(b)
    change:add_listener(c)
    assert.equal("a c", emission())
    assert.equal("a c", emission())
  end)

  it("calls those behind one that removes itself (C44)", function()
    local change, listener, emission = fixture()
    local a
    a = listener("a", first(function() change:remove_listener(a) end))
    change:add_listener(a)
    change:add_listener(listener "b")
    assert.equal("a b", emission())
    assert.equal("b", emission())
  end)

  it("lets one removed and added again wait for the next (C44)", function()
    local change, listener, emission = fixture()
    local b = listener "b"
    change:add_listener(listener("a", first(function()
      change:remove_listener(b)
      change:add_listener(b)
    end)))
    change:add_listener(b)
    change:add_listener(listener "c")
    assert.equal("a c", emission())
    assert.equal("a c b", emission())
  end)

  it("calls a once listener once (C44)", function()
    local change, listener, emission = fixture()
    change:add_listener(listener "a", { once = true })
    change:add_listener(listener "b", { once = false })
    change:add_listener(listener "c")
    assert.equal("a b c", emission())
    assert.equal("b c", emission())
  end)

  it("lets a once listener be removed by its own function (C44)", function()
    local change, listener, emission = fixture()
    local a, b = listener "a", listener "b"
    change:add_listener(a, { once = true })
    change:add_listener(b)
    change:remove_listener(a)
    assert.equal("b", emission())
    change:add_listener(a, { once = true })
    change:remove_listener(b)
    change:add_listener(b)
    assert.equal("a b", emission())
    change:remove_listener(a) -- gone already: b must stay
    assert.equal("b", emission())
  end)

  it("lets a once listener add itself again (C44)", function()
    local change, listener, emission = fixture()
    local a
    a = listener("a", function(state)
      if state == "Connecting" then change:add_listener(a, { once = true }) end
    end)
    change:add_listener(a, { once = true })
    assert.equal("a", emission())
    -- that one heard Disconnecting and was not added again
    assert.equal("", emission())
  end)

  it("does not call a once listener that was removed (C44)", function()
    local change, listener, emission = fixture()
    local b = listener "b"
    change:add_listener(listener("a", first(function()
      change:remove_listener(b)
    end)))
    change:add_listener(b, { once = true })
    assert.equal("a", emission())
    assert.equal("a", emission())
  end)

  it("says what it does not take", function()
    local r = recorder.client(peers.raw())
    local change = r.t.state_change
    local function refused(...)
      local arguments = { n = select("#", ...), ... }
      local ok, err = pcall(function()
        change:add_listener(arguments[1], arguments[2])
      end)
      assert.is_false(ok)
      assert.truthy(err:find("emitter_spec.lua", 1, true), err)
    end
    refused(nil)
    refused "f"
    refused(print, true)
    refused(print, { once = 1 })
    refused(print, { twice = true })
    assert.is_false((pcall(change.remove_listener, change, nil)))
    assert.is_false((pcall(function() r.t.state_change = {} end)))
    assert.equal(change, r.t.state_change)
    r:expect ""
  end)
end)

describe("a slot", function()
  it("takes a function or nil, and gives it back (C7)", function()
    local r = recorder.client(peers.raw())
    for _, name in ipairs { "on_connect", "on_disconnect", "on_message" } do
      local function fn() end
      r.t[name] = fn
      assert.equal(fn, r.t[name])
      for _, bad in ipairs { 1, "f", true, {}, coroutine.create(fn) } do
        local ok, err = pcall(function() r.t[name] = bad end)
        assert.is_false(ok)
        assert.truthy(err:find("emitter_spec.lua", 1, true), err)
        local text = name .. " must be a function or nil"
        assert.truthy(err:find(text, 1, true), err)
        assert.equal(fn, r.t[name])
      end
      assert.is_false((pcall(function() r.t[name] = false end)))
      r.t[name] = nil
      assert.is_nil(r.t[name])
    end
  end)

  it("that does not exist says so (C7)", function()
    local r = recorder.client(peers.raw())
    local ok, err = pcall(function() r.t.on_conect = print end)
    assert.is_false(ok)
    assert.truthy(err:find("did you mean 'on_connect'", 1, true), err)
  end)

  it("that was cleared is silent (C7)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    r.t.on_connect, r.t.on_disconnect, r.t.on_message = nil, nil, nil
    r:connect "c1"
    r:expect "Connecting, Connected, c1"
    peer:send "unheard"
    r:await("the message", function()
      return r.t:stats().messages_in == 1
    end)
    r:disconnect "d1"
    r:expect "Disconnecting, Disconnected, d1"
  end)

  it("is looked at when its turn comes (C7)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    r:within("Connected", function(t)
      t.on_connect = recorder.callback(function() r:note "new" end)
    end)
    r:connect "c1"
    r:expect "Connecting, Connected, new, c1"
    local function second(_, message) r:note("second " .. message) end
    r:within("message m1", function(t)
      t.on_message = recorder.callback(second)
    end)
    peer:send "m1"
    peer:send "m2"
    r:expect "message m1, second m2"
    r:within("Disconnecting", function(t) t.on_disconnect = nil end)
    r:disconnect "d1"
    r:expect "Disconnecting, Disconnected, d1"
  end)
end)
