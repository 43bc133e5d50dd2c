-- SPDX-License-Identifier: MIT
-- Ways into every state, for specs that do something there.
--
-- paths.new(peer [, options]) -> w    a new client (w.t) of a peer, its
--                                     recorder (w.r)
-- w:call("connect" | "disconnect" [, name])  checks the state on return
-- w:calls "connect disconnect"        completions are c1, d1, c2 and so on
-- w:expect(text)  w:await(what, condition)   the recorder's
-- paths.states: state -> name -> function(w), which goes there and returns what
--   is told of that and not in the log yet; completions c0, d0 are pending then

local assert = require "luassert"
local recorder = require "spec.support.recorder"

-- State on return of a call, by the state before it.
local on_return = {
  connect = { Disconnected = "Connecting", Connecting = "Connecting",
    Connected = "Connected", Disconnecting = "Connecting" },
  disconnect = { Disconnected = "Disconnected", Connecting = "Disconnecting",
    Connected = "Disconnecting", Disconnecting = "Disconnecting" },
}

local M = {}
local world = {}
world.__index = world

function M.new(peer, options)
  local r = recorder.client(peer, options)
  return setmetatable({ peer = peer, r = r, t = r.t }, world)
end

function world:call(what, name)
  local before = self.t.state
  assert.is_true(self.r[what](self.r, name))
  assert.equal(on_return[what][before], self.t.state)
end

-- "connect disconnect": each with the next number.
function world:calls(list)
  local counts = {}
  for what in list:gmatch "%a+" do
    counts[what] = (counts[what] or 0) + 1
    self:call(what, what:sub(1, 1) .. counts[what])
  end
end

function world:expect(text) self.r:expect(text) end

function world:await(what, condition)
  self.r:await(what, condition)
end

function world:connected()
  self:call("connect")
  self:expect "Connecting, Connected, up"
end

function world:disconnected()
  self:call("disconnect")
  self:expect "Disconnecting, down, Disconnected"
end

-- ---- paths -----------------------------------------------------------------

-- Each returns what it had told and is not taken from the log yet.
M.states = {
  Disconnected = {
    ["as it is"] = function() end,
    ["after a refusal"] = function(w)
      w.peer.refuse = true
      w:call("connect", "c0")
      w:expect "Connecting, Disconnected http, c0 http"
      w.peer.refuse = false
    end,
    ["after disconnect"] = function(w)
      w:connected()
      w:disconnected()
    end,
    ["after the peer's close"] = function(w)
      w:connected()
      w.peer:hang_up()
      w:expect "Disconnected closed, down closed"
    end,
    ["after an aborted connect"] = function(w)
      w:call "connect"
      w:call "disconnect"
      w:expect "Connecting, Disconnecting, Disconnected"
    end,
  },
  Connecting = {
    ["from Disconnected"] = function(w)
      w.peer.held = true
      w:call("connect", "c0")
      w:await("a request", function() return w.peer:asked() end)
      w:expect "Connecting"
    end,
    ["from Disconnected, this tick"] = function(w)
      w.peer.held = true
      w:call("connect", "c0")
      return "Connecting"
    end,
    ["from Disconnecting"] = function(w)
      w:connected()
      w.peer.held = true
      w:call "disconnect"
      w:expect "Disconnecting, down"
      w:call("connect", "c0")
      w:await("a request", function() return w.peer:asked() end)
      w:expect "Connecting"
    end,
    ["from Connected by way of Disconnecting, this tick"] = function(w)
      w:connected()
      w.peer.held = true
      w:call "disconnect"
      w:call("connect", "c0")
      return "Disconnecting, down, Connecting"
    end,
    ["from Connecting by way of Disconnecting, this tick"] = function(w)
      w.peer.held = true
      w:call "connect"
      w:call "disconnect"
      w:call("connect", "c0")
      return "Connecting, Disconnecting, Connecting"
    end,
  },
  Connected = {
    ["for the first time"] = world.connected,
    ["for the second time"] = function(w)
      w:connected()
      w:disconnected()
      w:connected()
    end,
    ["from Connected by way of Disconnecting"] = function(w)
      w:connected()
      w:call "disconnect"
      w:call "connect"
      w:expect "Disconnecting, down, Connecting, Connected, up"
    end,
  },
  Disconnecting = {
    ["from Connected"] = function(w)
      w:connected()
      w.peer.held = true
      w:call("disconnect", "d0")
      w:expect "Disconnecting, down"
    end,
    ["from Connected, this tick"] = function(w)
      w:connected()
      w.peer.held = true
      w:call("disconnect", "d0")
      return "Disconnecting, down"
    end,
    ["from Connecting"] = function(w)
      w.peer.held = true
      w:call "connect"
      w:await("a request", function() return w.peer:asked() end)
      w:expect "Connecting"
      w:call("disconnect", "d0")
      return "Disconnecting"
    end,
    ["from Connecting, this tick"] = function(w)
      w.peer.held = true
      w:call "connect"
      w:call("disconnect", "d0")
      return "Connecting, Disconnecting"
    end,
  },
}

return M
