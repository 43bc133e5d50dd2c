-- SPDX-License-Identifier: MIT
-- usage: server.lua SEED SCALE CERTIFICATE KEY
-- The listening process of a soak run. Tells its ports in a line "port WS WSS",
-- and ends when a client has asked for "/end" and all connections have ended.

local sipwire = require "sipwire"
local common = require "spec.soak.common"
local new_flow = require "spec.soak.flow".new

local seed, scale, certificate, key = ...
local random = common.random(tonumber(seed) + 77)
scale = tonumber(scale)

local flows = {} -- that are not over, by transport
local listeners = {}
local ending = false

local function serve(t, request)
  local id = request.path:match "^/(%d+/%d+)$"
  if not id then -- garbage hit the request
    common.tell("odd", t.peer_address or "-")
    return t:dispose()
  end
  local port = request.peer_address:match ":(%d+)$" or "-" -- reset already
  local flow = new_flow(id, "server", port, t)
  flows[t] = flow
  common.tell "up"
  t.on_message = function(_, message, binary)
    if flow:receive(message, binary) and random(3) == 1 then
      flow:send(random(2000))
    end
  end
  t.on_disconnect = function(_, _, code)
    common.tell "down"
    flow:down(code)
  end
end

local function sweep()
  for t, flow in pairs(flows) do
    if t.state == "Disconnected" and flow.outcome then
      flows[t] = nil
      flow:over()
    end
  end
end

local function act(t, flow)
  if t.state ~= "Connected" then
    return
  end
  local dice = random(1000)
  if dice == 1 then
    t:disconnect()
  elseif dice == 2 then
    flow:send(20000 + random(common.MAX - 20000))
    t:disconnect()
  elseif dice <= 200 then
    flow:send(random(3000))
  end
end

local function listen(secure)
  listeners[#listeners + 1] = assert(sipwire.listen {
    connection_timeout = 2 * scale, disconnect_timeout = 3 * scale,
    keep_alive_interval = 1 * scale, keep_alive_timeout = 2 * scale,
    tls = secure and { cert_file = certificate, key_file = key } or nil,
    on_request = function(request)
      if request.path == "/end" then
        ending = true
        return 404
      end
    end,
    on_connection = serve,
  })
  return listeners[#listeners].port
end

local function main()
  common.tell("port", listen(false), listen(true))
  io.stdout:flush()
  common.every(0.1, function()
    sweep()
    for t, flow in pairs(flows) do
      act(t, flow)
    end
    io.stdout:flush()
    if ending and not next(flows) then
      for _, listener in ipairs(listeners) do
        listener:close()
      end
      return true
    end
  end)
  common.every(1, function()
    common.tell("stat", "server", common.memory(), common.descriptors(),
      math.floor(collectgarbage "count"))
    return ending
  end)
end

common.warm_up()
local before = common.descriptors()
main()
assert(sipwire.run())
listeners = {}
local ok, err = require "sipwire.loop".default():close()
collectgarbage()
collectgarbage()
common.tell("end", "server", before, common.descriptors(),
  ok and "closed" or err)
io.stdout:flush()
