-- SPDX-License-Identifier: MIT
-- Every operation in every state, reached by every path, twice on one object
-- (C10-C13, C18-C25, C28, C30, C33-C35, C40).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local paths = require "spec.support.paths"
local recorder = require "spec.support.recorder"
local run = require "spec.support.run"

helper.watch()

-- ---- what has to happen ----------------------------------------------------

-- c0, d0: completions pending since the path; c1, d1, ...: of the operation.
local told = {
  ["connect"] = {
    Disconnected = "Connecting, Connected, up, c1",
    Connecting = "Connected, up, c0, c1",
    Connected = "c1",
    Disconnecting = "Connecting, d0 aborted, Connected, up, c1",
  },
  ["disconnect"] = {
    Disconnected = "d1",
    Connecting = "Disconnecting, c0 aborted, Disconnected, d1",
    Connected = "Disconnecting, down, Disconnected, d1",
    Disconnecting = "Disconnected, d0, d1",
  },
  ["connect disconnect"] = {
    Disconnected = "Connecting, Disconnecting, c1 aborted, Disconnected, d1",
    Connecting = "Disconnecting, c0 aborted, c1 aborted, Disconnected, d1",
    Connected = "c1, Disconnecting, down, Disconnected, d1",
    Disconnecting = "Connecting, d0 aborted, Disconnecting, c1 aborted, " ..
      "Disconnected, d1",
  },
  ["disconnect connect"] = {
    Disconnected = "d1, Connecting, Connected, up, c1",
    Connecting = "Disconnecting, c0 aborted, Connecting, d1 aborted, " ..
      "Connected, up, c1",
    Connected = "Disconnecting, down, Connecting, d1 aborted, Connected, " ..
      "up, c1",
    Disconnecting = "Connecting, d0 aborted, d1 aborted, Connected, up, c1",
  },
  ["connect disconnect connect"] = {
    Disconnected = "Connecting, Disconnecting, c1 aborted, Connecting, " ..
      "d1 aborted, Connected, up, c2",
    Connecting = "Disconnecting, c0 aborted, c1 aborted, Connecting, " ..
      "d1 aborted, Connected, up, c2",
    Connected = "c1, Disconnecting, down, Connecting, d1 aborted, " ..
      "Connected, up, c2",
    Disconnecting = "Connecting, d0 aborted, Disconnecting, c1 aborted, " ..
      "Connecting, d1 aborted, Connected, up, c2",
  },
  ["send"] = {
    Disconnected = "",
    Connecting = "Connected, up, c0",
    Connected = "s1",
    Disconnecting = "Disconnected, d0",
  },
  ["message from the peer"] = {
    Connecting = "Connected, up, c0, message hello",
    Connected = "message hello",
    Disconnecting = "Disconnected, d0",
  },
  ["close frame from the peer"] = {
    Connected = "Disconnected closed, down closed",
    Disconnecting = "Disconnected, d0",
  },
  ["end without a close frame"] = {
    Connecting = "Disconnected closed, c0 closed",
    Connected = "Disconnected closed, down closed",
    Disconnecting = "Disconnected, d0",
  },
  ["reset"] = {
    Connecting = "Disconnected reset, c0 reset",
    Connected = "Disconnected reset, down reset",
    Disconnecting = "Disconnected, d0",
  },
  ["protocol error"] = {
    Connected = "Disconnected protocol, down protocol",
    Disconnecting = "Disconnected, d0",
  },
  ["refusal"] = {
    Disconnected = "Connecting, Disconnected http, c1 http",
    Connecting = "Disconnected http, c0 http",
    Connected = "Disconnecting, down, Connecting, d1 aborted, " ..
      "Disconnected http, c1 http",
    Disconnecting = "Connecting, d0 aborted, Disconnected http, c1 http",
  },
  ["timeout of connect"] = {
    Disconnected = "Connecting, Disconnected timeout, c1 timeout",
    Connecting = "Disconnected timeout, c0 timeout",
    Connected = "Disconnecting, down, Connecting, d1 aborted, " ..
      "Disconnected timeout, c1 timeout",
    Disconnecting = "Connecting, d0 aborted, Disconnected timeout, c1 timeout",
  },
  ["timeout of disconnect"] = {
    Connected = "Disconnecting, down, Disconnected, d1",
    Disconnecting = "Disconnected, d0",
  },
}

-- ---- operations ------------------------------------------------------------

local function send(w)
  local open = w.t.state == "Connected"
  local ok, err, code = w.r:send("s1", "hello")
  if open then return assert.is_true(ok) end
  assert.is_nil(ok)
  assert.equal("state: cannot send while " .. w.t.state, err)
  assert.equal("state", code)
end

-- To Connecting, from wherever it is, by what `told` says.
local function start(w)
  if w.t.state == "Connected" then w:calls "disconnect" end
  if w.t.state ~= "Connecting" then w:calls "connect" end
end

local function asked(w)
  w:await("a request", function() return w.peer:asked() end)
end

local function by_peer(act)
  return function(w)
    if w.t.state == "Connecting" then asked(w) end
    act(w)
  end
end

-- Which of them make sense with which peer: a link that was given up in the
-- middle of its upgrade is out of the peer's reach, and only the raw peer can
-- say something while its answer is awaited.
local function is_possible(operation, kind, state, path_name)
  local by = operation.by_peer
  if not told[operation.name][state] then return false end
  if by and path_name:find("^from Connecting") and state == "Disconnecting" then
    return false
  end
  return kind == "raw" or by ~= "raw" and not (by and state == "Connecting")
end

local operations = {
  { name = "send", run = send },
  { name = "refusal", run = function(w)
    w.peer.refuse = true
    start(w)
  end },
  { name = "message from the peer", by_peer = "any", run = by_peer(function(w)
    if w.t.state ~= "Connecting" then return w.peer:send "hello" end
    w.peer:message_with_answer "hello"
  end) },
  { name = "close frame from the peer", by_peer = "any",
    run = by_peer(function(w) w.peer:hang_up() end) },
  { name = "end without a close frame", by_peer = "raw",
    run = by_peer(function(w) w.peer:link().c:fin() end) },
  { name = "reset", by_peer = "raw", run = by_peer(function(w)
    w.peer:link().c:reset()
  end) },
  { name = "protocol error", by_peer = "raw", run = by_peer(function(w)
    w.peer:link().c:send(3, "")
  end) },
}
for _, list in ipairs { "connect", "disconnect", "connect disconnect",
                        "disconnect connect", "connect disconnect connect" } do
  table.insert(operations, { name = list, run = function(w) w:calls(list) end })
end

local function joined(a, b)
  if a and a ~= "" and b ~= "" then return a .. ", " .. b end
  return a or b
end

local function final_state(text)
  local last
  for line in text:gmatch "[^,]+" do
    local state = line:match "^ ?(%u%a+)"
    last = state or last
  end
  return last
end

-- Enters a state and does the operation; returns what it has to tell in all.
local function begin(w, state, path, operation)
  w.peer.held, w.peer.refuse = false, false
  local pending = path(w)
  assert.equal(state, w.t.state)
  operation.run(w)
  return joined(pending, told[operation.name][state])
end

-- What arrived at the peer: only what was sent while Connected.
local function messages_at(peer)
  local all = {}
  for _, link in ipairs(peer.links) do
    for _, message in ipairs(link.messages) do table.insert(all, message) end
    link.messages = {}
  end
  return table.concat(all, ", ")
end

local function finish(w, state, operation, text)
  if not operation.held then w.peer.held = false end
  w:expect(text)
  assert.equal(final_state(text) or state, w.t.state)
  local sent = operation.name == "send" and state == "Connected"
  assert.equal(sent and "hello" or "", messages_at(w.peer))
end

-- Back to where another round can begin.
local function reset(w)
  w.peer.held, w.peer.refuse = false, false
  w.t:disconnect()
  w:await("Disconnected", function() return w.t.state == "Disconnected" end)
  recorder.drain(5, w.t.loop)
  w.r:take()
end

local function round(w, state, path, operation)
  finish(w, state, operation, begin(w, state, path, operation))
  reset(w)
end

-- ---- the matrix ------------------------------------------------------------

local function each_path(fn)
  for state, list in pairs(paths.states) do
    for name, path in pairs(list) do fn(state, name, path) end
  end
end

-- The operation after every way into |state|, each with a transport of its own.
local function by_every_path(operation, kind, state)
  local loop = recorder.loop()
  for name, path in pairs(paths.states[state]) do
    if is_possible(operation, kind, state, name) then
      local w = paths.new(peers[kind](), { loop = loop })
      for _ = 1, 2 do
        local ok, err = pcall(round, w, state, path, operation)
        if not ok then error(name .. ": " .. tostring(err), 0) end
      end
      w.t:dispose()
    end
  end
end

local function has_path(operation, kind, state)
  for name in pairs(paths.states[state]) do
    if is_possible(operation, kind, state, name) then return true end
  end
end

for _, kind in ipairs { "sipwire", "raw" } do
  for _, operation in ipairs(operations) do
    local many = kind == "sipwire" or operation.name:find " "
    local slow = many and " #slow" or ""
    local title = operation.name .. ", with a peer of kind " .. kind .. slow
    describe(title, function()
      for state in pairs(told[operation.name]) do
        if has_path(operation, kind, state) then
          it("in " .. state .. ", by every path, twice (C20)", function()
            by_every_path(operation, kind, state)
          end)
        end
      end
    end)
  end
end

-- All paths side by side, for the limit has to pass.
local function in_parallel(operation, options)
  local worlds = {}
  each_path(function(state, name, path)
    if not is_possible(operation, "raw", state, name) then return end
    -- this limit may pass before such a path is gone
    if operation.eager and state .. name == "Disconnectingfrom Connected" then
      return
    end
    local w = paths.new(peers.raw(), options)
    w.state, w.path, w.name = state, path, name
    table.insert(worlds, w)
  end)
  for _ = 1, 2 do
    for _, w in ipairs(worlds) do
      w.text = begin(w, w.state, w.path, operation)
    end
    for _, w in ipairs(worlds) do
      finish(w, w.state, operation, w.text)
    end
    for _, w in ipairs(worlds) do reset(w) end
  end
end

describe("a peer that does not answer", function()
  it("makes connect() time out, in every state by every path (C16)", function()
    in_parallel({ name = "timeout of connect", held = true,
      run = function(w)
        w.peer.held = true
        start(w)
      end }, { connection_timeout = 0.5 * run.scale })
  end)

  it("does not keep disconnect() from succeeding (C27)", function()
    in_parallel({ name = "timeout of disconnect", held = true, eager = true,
      run = function(w)
        w.peer.held = true
        if w.t.state == "Connected" then w:calls "disconnect" end
      end }, { disconnect_timeout = 0.1 * run.scale })
  end)
end)
