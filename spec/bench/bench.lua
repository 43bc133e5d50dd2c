-- SPDX-License-Identifier: MIT
-- usage: bench.lua BUILD CERTIFICATES [--json] [--rounds N] [WORKLOAD...]
-- Runs each workload with each client in turn, several rounds of it, and prints
-- medians, and medians of the ratios within a round. Started by run.sh.

local json = require "dkjson"

local build, certificates = arg[1], arg[2]
local here = "spec/bench/"

-- ---- What is measured ------------------------------------------------------

-- Which client can do what: the programs of this folder all take
-- MODE PORT COUNT SIZE CONNECTIONS WINDOW [CA_FILE]. Slow ones get a share of
-- the count.
local clients = {
  { "raw", build .. "/bench/client_raw", plain_only = true,
    modes = { echo = true, burst = true } },
  { "lua5.4", "lua5.4 " .. here .. "client.lua", lua = "lua5.4" },
  { "luajit", "luajit " .. here .. "client.lua", lua = "luajit" },
  { "sip.js", "node --expose-gc " .. here .. "node/client.mjs" },
  { "lua-http", "luajit " .. here .. "client_luahttp.lua", plain_only = true,
    one_only = true, share = 1 / 50, modes = { echo = true, burst = true } },
}

-- 20000, or what the limit of descriptors lets through.
local most = math.min(20000,
  tonumber(io.popen("ulimit -n"):read "*l") - 300)

-- Bars: the ratio to a peer's figure that is not to be exceeded.
local workloads = {
  { "ws, window 1", "p50_us", { "echo", 10000, 500, 1, 1 },
    bars = { ["sip.js"] = 0.85, raw = 1.25 } },
  { "ws, window 64", "cpu_us", { "echo", 200000, 500, 1, 64 },
    bars = { ["sip.js"] = 1 / 8 } },
  { "ws, burst", "cpu_us", { "burst", 200000, 500, 1, 1 },
    bars = { ["sip.js"] = 1 / 2.5 } },
  { "ws, 1000 connections", "cpu_us", { "echo", 50000, 500, 1000, 1 },
    bars = { ["sip.js"] = 1 / 2.2, raw = 1.4 } },
  { "ws, 4 kB, window 16", "cpu_us", { "echo", 30000, 4096, 1, 16 } },
  { "ws, 1 MB, window 2", "cpu_us", { "echo", 100, 1000000, 1, 2 } },
  { "wss, window 64", "cpu_us", { "echo", 100000, 500, 1, 64 }, tls = true,
    bars = { ["sip.js"] = 1 / 4 } },
  { "wss, burst", "cpu_us", { "burst", 100000, 500, 1, 1 }, tls = true,
    bars = { ["sip.js"] = 1 / 2.2 } },
  { "wss, 500 connections", "cpu_us", { "echo", 25000, 500, 500, 1 },
    tls = true, bars = { ["sip.js"] = 1 / 1.7 } },
  { "ws, connects", "per_cpu_second", { "churn", 2000, 0, 50, 0 },
    bars = { ["sip.js"] = 2 }, at_least = true },
  { "wss, connects", "per_cpu_second", { "churn", 600, 0, 20, 0 }, tls = true,
    bars = { ["sip.js"] = 1.3 }, at_least = true },
  { "ws, idle", "kilobytes", { "idle", 0, 0, 2000, 0 }, limit = 5 },
  { "wss, idle", "kilobytes", { "idle", 0, 0, 500, 0 }, tls = true,
    limit = 28 },
  { "ws, many idle", "kilobytes", { "idle", 0, 0, most, 0 }, limit = 5,
    only = { ["lua5.4"] = true, luajit = true } },
  { "100 idle beside", "cpu_us", { "echo", 200000, 500, 1, 64 },
    neighbours = 100, only = { ["lua5.4"] = true, luajit = true } },
  { "10000 idle beside", "cpu_us", { "echo", 200000, 500, 1, 64 },
    neighbours = 10000, only = { ["lua5.4"] = true, luajit = true },
    bars = { ["100 idle beside"] = 1.3 } },
}

-- ---- Running ---------------------------------------------------------------

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a" or ""
  if file then file:close() end
  return text
end

-- Client and server share a core: between two, a virtual machine's ways of
-- waking a core cost more than the messages.
local one_core = "taskset -c 0 "

-- Runs until its stdin, the returned handle, is closed.
local function start_server(name, arguments)
  local path = ("%s/bench/port.%s"):format(build, name)
  os.remove(path)
  local handle = assert(io.popen(("exec %s%s/bench/echo_server %s > %s")
    :format(one_core, build, arguments, path), "w"))
  for _ = 1, 100 do
    local port = read(path):match "%d+"
    if port then return handle, port end
    os.execute "sleep 0.05"
  end
  error "the echo server does not start"
end

local ports, servers = {}, {}
servers[1], ports.plain = start_server("ws", "")
servers[2], ports.tls = start_server("wss",
  ("%s/server.pem %s/server.key"):format(certificates, certificates))

local function able(client, workload)
  local mode, connections = workload[3][1], workload[3][4]
  return (not workload.only or workload.only[client[1]]) and
    (not client.modes or client.modes[mode]) and
    not (client.plain_only and workload.tls) and
    not (client.one_only and connections > 1)
end

local function command_of(client, workload, count)
  local mode, all, size, connections, window = table.unpack(workload[3])
  local port = workload.tls and ports.tls or ports.plain
  count = count or math.max(math.floor(all * (client.share or 1)),
    math.min(all, 2 * window))
  local words = { client[2], mode, port, count, size, connections,
    window, workload.tls and certificates .. "/ca.pem" or nil }
  local environment = ""
  if client.lua then
    environment = ("LUA_PATH='lua/?.lua;;' LUA_CPATH='%s/lua/%s/?.so;;' " ..
      "IDLE_NEIGHBOURS=%d "):format(build, client.lua, workload.neighbours or 0)
  end
  return environment .. one_core, table.concat(words, " ")
end

local function run(client, workload)
  local before, command = command_of(client, workload)
  local pipe = assert(io.popen(before .. command))
  local line = pipe:read "*l"
  pipe:close()
  local result = line and json.decode(line)
  if not result then error("no result from: " .. before .. command) end
  return result
end

local function median(values)
  local sorted = table.move(values, 1, #values, 1, {})
  table.sort(sorted)
  local middle = #sorted // 2
  if #sorted == 0 then return nil end
  return #sorted % 2 == 1 and sorted[middle + 1] or
    (sorted[middle] + sorted[middle + 1]) / 2
end

-- System calls of one round trip: what 10000 more of them cost more.
local function count_calls(client)
  local workload = { "", "", { "echo", 0, 500, 1, 1 } }
  local function count(messages)
    local before, command = command_of(client, workload, messages)
    local path = build .. "/bench/strace"
    os.execute(("%s strace -f -c -o %s %s >/dev/null"):format(before, path,
      command))
    local calls = {}
    for line in io.lines(path) do -- % time, seconds, each, calls, errors, name
      local fields = {}
      for field in line:gmatch "%S+" do fields[#fields + 1] = field end
      local name = fields[#fields]
      if tonumber(fields[1]) and name ~= "total" then
        calls[name] = tonumber(fields[4])
      end
    end
    return calls
  end
  local few, many, each, total = count(2000), count(12000), {}, 0
  for name, number in pairs(many) do
    local per_message = (number - (few[name] or 0)) / 10000
    if per_message > 0.005 then
      each[#each + 1] = ("%s %.2f"):format(name, per_message)
      total = total + per_message
    end
  end
  table.sort(each)
  return total, table.concat(each, ", ")
end

-- ---- The rounds ------------------------------------------------------------

local rounds, as_json, wanted = 5, false, {}
do
  local i = 3
  while arg[i] do
    if arg[i] == "--json" then
      as_json = true
    elseif arg[i] == "--rounds" then
      i = i + 1
      rounds = assert(tonumber(arg[i]), "--rounds needs a number")
    else
      wanted[#wanted + 1] = arg[i]
    end
    i = i + 1
  end
end

local function is_wanted(workload)
  for _, part in ipairs(wanted) do
    if workload[1]:find(part, 1, true) then return true end
  end
  return #wanted == 0
end

local function progress(...)
  io.stderr:write(string.format(...))
end

local results = {} -- workload -> client -> list of values, by round

for _, workload in ipairs(workloads) do
  if is_wanted(workload) then
    progress("%-22s", workload[1])
    local values = {}
    results[workload[1]] = values
    for _, client in ipairs(clients) do values[client[1]] = {} end
    for _ = 1, rounds do
      for _, client in ipairs(clients) do
        if able(client, workload) then
          local result = run(client, workload)
          table.insert(values[client[1]], result[workload[2]])
        end
      end
      progress "."
    end
    progress "\n"
  end
end

-- ---- The tables ------------------------------------------------------------

local units = { cpu_us = "us CPU", p50_us = "us p50", kilobytes = "kB",
                per_cpu_second = "per CPU s" }
local report = { rounds = rounds, workloads = {} }
local misses = 0

-- The median of own / other within the rounds.
local function ratio(own, other)
  local ratios = {}
  for round, value in ipairs(own) do
    if other[round] then ratios[#ratios + 1] = value / other[round] end
  end
  return median(ratios)
end

local function judge(row, name, value, bar, at_least)
  local good = at_least and value >= bar or not at_least and value <= bar
  if not good then misses = misses + 1 end
  table.insert(row.checks, { what = name, value = value, bar = bar,
                             at_least = at_least or nil, good = good })
end

for _, workload in ipairs(workloads) do
  local values = results[workload[1]]
  if values then
    local row = { name = workload[1], unit = units[workload[2]], medians = {},
                  checks = {} }
    for name, list in pairs(values) do row.medians[name] = median(list) end
    for _, own in ipairs { "lua5.4", "luajit" } do
      for peer, bar in pairs(workload.bars or {}) do
        local other = values[peer] or (results[peer] or {})[own]
        if other then
          judge(row, own .. " / " .. peer, ratio(values[own], other), bar,
            workload.at_least)
        end
      end
      if workload.limit then
        judge(row, own, row.medians[own], workload.limit)
      end
    end
    table.sort(row.checks, function(a, b) return a.what < b.what end)
    table.insert(report.workloads, row)
  end
end

if #wanted == 0 then
  local row = { name = "system calls", unit = "per round trip", medians = {},
                checks = {} }
  for _, client in ipairs(clients) do
    if client[1] ~= "lua-http" then
      local total, names = count_calls(client)
      row.medians[client[1]] = total
      if client.lua then
        row.note = names
        judge(row, client[1], total, 3.05)
      end
    end
  end
  table.insert(report.workloads, row)
end

for _, server in ipairs(servers) do server:close() end

local function print_tables()
  local format = "%-22s %-10s" .. ("%10s"):rep(#clients)
  local names = {}
  for i, client in ipairs(clients) do names[i] = client[1] end
  print(format:format("workload", "unit", table.unpack(names)))
  for _, row in ipairs(report.workloads) do
    local cells = {}
    for i, name in ipairs(names) do
      local value = row.medians[name]
      cells[i] = value and ("%.2f"):format(value) or "-"
    end
    print(format:format(row.name, row.unit, table.unpack(cells)))
  end
  print(("\n%-22s %-20s %8s  %-10s"):format("workload", "what", "is", "bar"))
  for _, row in ipairs(report.workloads) do
    for _, check in ipairs(row.checks) do
      print(("%-22s %-20s %8.3f  %s %.3f  %s"):format(row.name, check.what,
        check.value, check.at_least and ">=" or "<=", check.bar,
        check.good and "ok" or "MISSED"))
    end
    if row.note then print(("%-22s %s"):format("", row.note)) end
  end
end

if as_json then
  print(json.encode(report, { indent = true }))
else
  print_tables()
end
os.exit(misses == 0 and 0 or 1)
