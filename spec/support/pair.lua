-- SPDX-License-Identifier: MIT
-- A transport at one end, a raw peer at the other.
--
-- pair.client(options) -> t, seen   a transport that notes what it tells; its
--   connection_timeout is scaled as all limits are:
--   seen.states   names of states, in order
--   seen.ups, seen.downs            calls of on_connect and on_disconnect
--   seen.err, seen.code, seen.info  of the last on_disconnect
--   seen.messages, seen.binary      lists, one entry per message
--   seen.order    "up", "down", "connected" (completion) and messages, in order
-- pair.connect(t) -> outcome        connect() whose completion is noted:
--   outcome.done, .err, .code, .info; completions beyond the first raise
-- pair.finish(outcome) -> outcome   waits for it
-- pair.open([options [, upgrade]]) -> t, peer, seen
--   a client that is Connected to a raw peer of ours; |upgrade| as for
--   answer_upgrade(); peer.server is where it listens, peer.head what it read
-- pair.reopen(t, server [, upgrade]) -> peer   the same for a t that is there
-- pair.try(t) -> outcome            connects and disconnects; .stats in between
-- pair.leave_at_every_turn(new) -> codes   disconnect() and dispose() of what
--   new() makes, 0 to 24 turns after its connect(): the set of codes
-- pair.part(t, peer)                the usual closing handshake, by |t|
-- pair.gone(t)                      waits for Disconnected

local sipwire = require "sipwire"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

local M = {}

function M.client(options)
  local seen = { states = {}, ups = 0, downs = 0, messages = {}, binary = {},
                 order = {} }
  local function note(what) table.insert(seen.order, what) end
  options.connection_timeout = options.connection_timeout or 5 * run.scale
  local t = sipwire.new(options)
  t.state_change:add_listener(function(state)
    table.insert(seen.states, state)
  end)
  t.on_connect = function()
    seen.ups = seen.ups + 1
    note "up"
  end
  t.on_disconnect = function(_, err, code, info)
    seen.downs = seen.downs + 1
    seen.err, seen.code, seen.info = err, code, info
    note "down"
  end
  t.on_message = function(_, message, binary)
    table.insert(seen.messages, message)
    table.insert(seen.binary, binary)
    note(message)
  end
  seen.note = note
  return t, seen
end

function M.connect(t, seen)
  local outcome = {}
  assert(t:connect(function(err, code, info)
    if outcome.done then error "a connect() completed twice" end
    outcome.done, outcome.err, outcome.code, outcome.info =
      true, err, code, info
    if seen then seen.note "connected" end
  end))
  return outcome
end

function M.finish(outcome, limit)
  run.wait(function() return outcome.done end, limit, "end of a connect()")
  return outcome
end

function M.reopen(t, server, upgrade, seen)
  local outcome = M.connect(t, seen)
  local peer = server:accept()
  peer.server = server
  peer.head = peer:answer_upgrade(upgrade)
  M.finish(outcome)
  if outcome.err then error("cannot connect: " .. outcome.err, 2) end
  return peer
end

function M.open(options, upgrade)
  local server = rawpeer.listen()
  local given = { server = server:url() }
  for name, value in pairs(options or {}) do given[name] = value end
  local t, seen = M.client(given)
  return t, M.reopen(t, server, upgrade, seen), seen
end

function M.gone(t, limit)
  run.wait(function() return t.state == "Disconnected" end, limit,
    "end of " .. tostring(t))
end

function M.try(t)
  local outcome = M.finish(M.connect(t))
  outcome.stats = t:stats()
  t:disconnect()
  M.gone(t)
  return outcome
end

function M.leave_at_every_turn(new)
  local codes = {}
  for turns = 0, 24 do
    for _, name in ipairs { "disconnect", "dispose" } do
      local t = new()
      local outcome = M.connect(t)
      run.pass(turns)
      t[name](t)
      if name == "disconnect" then
        codes[M.finish(outcome).code] = true
        M.gone(t)
      end
    end
  end
  return codes
end

function M.part(t, peer)
  t:disconnect()
  peer:answer_close()
  M.gone(t)
  peer:wait_end()
end

return M
