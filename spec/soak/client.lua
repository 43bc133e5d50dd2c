-- SPDX-License-Identifier: MIT
-- usage: client.lua SEED SECONDS CONNECTIONS SCALE CA END-URL URL...
-- The connecting process of a soak run: keeps so many transports busy, each of
-- them connecting again whenever it is down. Tells "fail CODE PHASE SECONDS"
-- for each attempt in vain, and "up" and "down" for calls of on_connect and
-- on_disconnect. END-URL leads to the server itself and tells it at the end that
-- no more will come.

local sipwire = require "sipwire"
local common = require "spec.soak.common"
local new_flow = require "spec.soak.flow".new

local seed, seconds, connections, scale, ca, end_url = ...
local urls = { select(7, ...) }
local random = common.random(tonumber(seed))
scale = tonumber(scale)

local LIMIT = 2 * scale -- for an attempt
local ending = false
local members = {}
local serial = 0

local function size()
  local dice = random(200)
  if dice == 1 then
    return 20000 + random(common.MAX - 20000)
  end
  return dice <= 20 and random(20000) or random(1000)
end

-- ---- A member: one transport at a time -------------------------------------

local connect

local function again(member)
  if not ending then
    member.timer = sipwire.timer(random(100) / 1000, function()
      member.timer = nil
      connect(member)
    end)
  end
end

local function failed(member, began, code, info)
  local took = os.time() - began
  common.tell("fail", member.id, code, info and info.phase or "-", took)
  if code ~= "aborted" and took > LIMIT + 2 * scale then
    common.tell("fault", member.id, "client failed after", took, "seconds")
  end
end

local function opened(member, t)
  local port = (t.local_address or ""):match ":(%d+)$" or "-" -- reset already
  member.flow = new_flow(member.id, "client", port, t)
  common.tell "up"
end

local function dispatcher(member, t)
  t.on_connect = function()
    opened(member, t)
  end
  t.on_message = function(_, message, binary)
    member.flow:receive(message, binary)
  end
  t.on_disconnect = function(_, _, code)
    common.tell "down"
    member.flow:down(code)
  end
  t.state_change:add_listener(function(state, previous)
    local flow = member.flow
    if state == "Connecting" and previous == "Disconnecting" and flow then
      member.flow = nil
      flow:over("left")
    end
  end)
end

-- Every URL names its connection, on which the ends can then agree.
local function renew(member)
  local base = urls[member.number % #urls + 1]
  local t = sipwire.new {
    server = function()
      serial = serial + 1
      member.id = serial .. "/" .. member.number
      return base .. member.id
    end,
    connection_timeout = LIMIT, disconnect_timeout = 3 * scale,
    keep_alive_interval = 1 * scale, keep_alive_timeout = 2 * scale,
    keep_alive_method = member.number % 4 < 2 and "ping" or "crlf",
    tls = { ca_file = ca },
  }
  member.t = t
  dispatcher(member, t)
end

-- Disconnected is told to listeners before on_disconnect; this comes later.
local function settle(member, t)
  local flow = member.flow
  if flow and flow.t == t and t.state == "Disconnected" then
    member.flow = nil
    flow:over()
  end
end

function connect(member)
  local t, began = member.t, os.time()
  if ending or t.state == "Connecting" or t.state == "Connected" then
    return
  end
  settle(member, t)
  assert(t:connect(function(err, code, info)
    if err then
      failed(member, began, code, info)
      if code ~= "aborted" then
        again(member)
      end
    end
  end))
end

-- ---- What a user may do ----------------------------------------------------

local function disconnect(member)
  local t = member.t
  t:disconnect(function(err)
    if not err then
      settle(member, t)
      again(member)
    end
  end)
end

-- A transport goes while it is in whatever state, another takes its place.
local function replace(member)
  local flow = member.flow
  if member.timer then
    member.timer:stop()
    member.timer = nil
  end
  member.flow = nil
  member.t:dispose()
  if flow then
    if not flow.outcome then
      common.tell "down"
    end
    flow:over("disposed")
  end
  renew(member)
  connect(member)
end

local function act(member)
  local t, dice = member.t, random(400)
  if dice == 1 then
    disconnect(member)
  elseif dice == 2 then
    t:disconnect()
    connect(member)
  elseif dice == 3 then
    replace(member)
  elseif dice == 4 and member.flow and t.state == "Connected" then
    for _ = 1, 5 do -- all of these have to arrive
      member.flow:send(size())
    end
    disconnect(member)
  elseif t.state == "Connected" and member.flow then
    for _ = 1, random(4) do
      member.flow:send(size())
    end
  end
end

local function look(member)
  local t = member.t
  if t.state == "Disconnected" and member.flow then
    settle(member, t)
    if not member.timer then
      again(member)
    end
  end
end

-- ---- The run ---------------------------------------------------------------

local function stop()
  ending = true
  for _, member in ipairs(members) do
    if member.timer then
      member.timer:stop()
    end
    local t = member.t
    t:disconnect(function()
      settle(member, t)
      member.over = true
    end)
  end
end

local function report()
  common.tell("stat", "client", common.memory(), common.descriptors(),
    math.floor(collectgarbage "count"))
  io.stdout:flush()
end

local function main()
  for number = 1, tonumber(connections) do
    members[number] = { number = number }
    renew(members[number])
    again(members[number])
  end
  common.every(0.02, function()
    for _ = 1, math.ceil(#members / 5) do
      act(members[random(#members)])
    end
    return ending
  end)
  common.every(0.1, function()
    for _, member in ipairs(members) do
      look(member)
    end
    io.stdout:flush()
    return ending
  end)
  common.every(1, function()
    report()
    return ending
  end)
  sipwire.timer(tonumber(seconds), stop)
end

common.warm_up()
local before = common.descriptors()
main()
assert(sipwire.run())
for _, member in ipairs(members) do
  assert(member.over and not member.flow and member.t.state == "Disconnected")
end
members = {}
assert(sipwire.run(function()
  local _, _, code = sipwire.open { server = end_url }
  assert(code == "http")
end))
local ok, err = require "sipwire.loop".default():close()
collectgarbage()
collectgarbage()
common.tell("end", "client", before, common.descriptors(),
  ok and "closed" or err)
io.stdout:flush()
