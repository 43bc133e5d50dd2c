-- SPDX-License-Identifier: MIT
-- One measurement of sipwire with a callback per message, printed as JSON.
--   client.lua MODE PORT COUNT SIZE CONNECTIONS WINDOW [tls]
-- MODE  echo: COUNT messages there and back, WINDOW of them on their way on
--             each connection;  burst: COUNT messages received on the first
--       idle: memory of a connection;  churn: COUNT times connect, disconnect
-- $IDLE_NEIGHBOURS: so many idle connections beside those that are measured.
-- $HOST: "luv" or "cqueues", whose loop drives sipwire's.

local sipwire = require "sipwire"
local uv = require "luv"

local mode, port, count, size, connections, window, tls = arg[1], arg[2],
  tonumber(arg[3]), tonumber(arg[4]), tonumber(arg[5]), tonumber(arg[6]), arg[7]
local neighbours = tonumber(os.getenv "IDLE_NEIGHBOURS") or 0
local options = {
  server = ("%s://127.0.0.1:%s/"):format(tls and "wss" or "ws", port),
  connection_timeout = 60,
  max_message_size = 2 ^ 24, send_queue_limit = 2 ^ 24,
  tls = tls and { ca_file = tls } or nil,
}
local message = ("x"):rep(size)
local in_turn = mode == "echo" and connections == 1 and window == 1
local transports, times = {}, {}
local sent, received = 0, 0
local cpu_start, wall_start, memory_start, asked

local function memory()
  collectgarbage()
  collectgarbage()
  for line in io.lines "/proc/self/status" do
    local kilobytes = line:match "^VmRSS:%s*(%d+)"
    if kilobytes then return tonumber(kilobytes) end
  end
end

local function percentile(fraction)
  return times[math.max(1, math.ceil(#times * fraction))] or 0
end

local function report(values)
  local list = {}
  for name, value in pairs(values) do
    list[#list + 1] = ('"%s":%.3f'):format(name, value)
  end
  print("{" .. table.concat(list, ",") .. "}")
  io.stdout:flush()
  os.exit(0, false)
end

local function report_messages()
  local cpu, wall = os.clock() - cpu_start, (uv.hrtime() - wall_start) / 1e9
  table.sort(times)
  report { cpu_us = cpu * 1e6 / count, per_second = count / wall,
           p50_us = percentile(0.5), p99_us = percentile(0.99) }
end

local function send(t)
  sent = sent + 1
  if in_turn then asked = uv.hrtime() end
  assert(t:send(message))
end

local function on_message(t)
  received = received + 1
  if in_turn then times[received] = (uv.hrtime() - asked) / 1e3 end
  if received == count then
    report_messages()
  elseif sent < count and mode == "echo" then
    send(t)
  end
end

local function start()
  cpu_start, wall_start = os.clock(), uv.hrtime()
  if mode == "burst" then
    assert(transports[1]:send(("BURST %d %d"):format(count, size)))
    return
  end
  for _ = 1, window do
    for _, t in ipairs(transports) do
      if sent < count then send(t) end
    end
  end
end

-- With many connections an address has no ports left soon, those of earlier
-- runs being in TIME_WAIT: they get addresses of this process's own.
local function source_address(number)
  local id = uv.os_getpid() % 60000
  return ("127.%d.%d.%d"):format(1 + math.floor(number / 4000),
    math.floor(id / 250), id % 250 + 1)
end

-- Some at a time, so that the server's backlog does not overflow.
local function open(total, each, done)
  local begun, up = 0, 0
  local function one()
    if begun == total then return end
    begun = begun + 1
    options.local_address = total > 1000 and source_address(begun) or nil
    local t = sipwire.new(options)
    t:connect(function(err)
      assert(not err, err)
      each(t)
      up = up + 1
      if up == total then done() else one() end
    end)
  end
  for _ = 1, math.min(total, 100) do one() end
  if total == 0 then done() end
end

local function measure_messages()
  local idle = {}
  open(neighbours, function(t) idle[#idle + 1] = t end, function()
    open(connections, function(t)
      t.on_message = on_message
      transports[#transports + 1] = t
    end, start)
  end)
end

-- The first ones pay for what all share.
local function measure_memory()
  local function keep(t) transports[#transports + 1] = t end
  open(200, keep, function()
    memory_start = memory()
    open(connections, keep, function()
      report { kilobytes = (memory() - memory_start) / connections }
    end)
  end)
end

local function measure_connects()
  local done = 0
  cpu_start = os.clock()
  local function cycle(t)
    t:connect(function(err)
      assert(not err, err)
      t:disconnect()
    end)
  end
  local function again(t)
    done = done + 1
    if done == count then
      report { per_cpu_second = count / (os.clock() - cpu_start) }
    elseif done + connections <= count then
      cycle(t)
    end
  end
  for _ = 1, connections do
    local t = sipwire.new(options)
    t.on_disconnect = again
    cycle(t)
  end
end

local modes = { echo = measure_messages, burst = measure_messages,
                idle = measure_memory, churn = measure_connects }
local hosts = {}

function hosts.luv()
  require "sipwire.luv"
  modes[mode]()
  uv.run()
end

function hosts.cqueues()
  local controller = require "cqueues".new()
  require "sipwire.cqueues".attach(controller)
  modes[mode]()
  assert(controller:loop())
end

function hosts.none()
  modes[mode]()
  assert(sipwire.run())
end

hosts[os.getenv "HOST" or "none"]()
