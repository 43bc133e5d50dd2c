-- SPDX-License-Identifier: MIT
-- usage: hosts.lua BUILD ROUNDS LUA...
-- What it costs to run in somebody else's loop. Started by hosts.sh.

local json = require "dkjson"

local build, rounds = arg[1], tonumber(arg[2])
local BAR = 1.5
local hosts = { "none", "luv", "cqueues" }

local function median(values)
  table.sort(values)
  return values[math.ceil(#values / 2)]
end

-- The server, on the same core; it ends with its stdin.
local function start_server()
  local port_file = os.tmpname()
  local handle = assert(io.popen(
    ("exec taskset -c 0 %s/bench/echo_server > %s"):format(build, port_file),
    "w"))
  local port
  repeat
    local file = assert(io.open(port_file))
    port = file:read "*l"
    file:close()
  until port
  os.remove(port_file)
  return handle, port
end

local function measure(lua, host, port)
  local command = ('HOST=%s LUA_PATH="lua/?.lua;;" LUA_CPATH="%s/lua/%s/?.so;;"' ..
    " taskset -c 0 %s spec/bench/client.lua echo %s 10000 500 1 1")
    :format(host, build, lua, lua, port)
  local output = assert(io.popen(command))
  local figures = assert(json.decode(output:read "*a"), command)
  output:close()
  return figures.p50_us
end

local server, port = start_server()
local missed = false
for i = 3, #arg do
  local times, ratios = {}, {}
  for _, host in ipairs(hosts) do times[host], ratios[host] = {}, {} end
  for round = 1, rounds do
    for _, host in ipairs(hosts) do
      times[host][round] = measure(arg[i], host, port)
      ratios[host][round] = times[host][round] / times.none[round]
    end
  end
  for _, host in ipairs(hosts) do
    local ratio = median(ratios[host])
    missed = missed or ratio > BAR
    print(("%-8s %-8s %6.1f us  %.2f%s"):format(arg[i], host,
      median(times[host]), ratio, ratio > BAR and "  MISSED" or ""))
  end
end
server:close()
os.exit(not missed)
