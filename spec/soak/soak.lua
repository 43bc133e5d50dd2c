-- SPDX-License-Identifier: MIT
-- usage: soak.lua MINUTES CONNECTIONS SEED CERTIFICATES (see run.sh)
-- Runs a server, a client and, in this process, a relay between them that
-- makes faults; compares what both ends counted, connection by connection.
--
-- What must hold, for each direction of each connection:
--   every message accepted by send() was completed, exactly once, in order,
--     those that were handed to the kernel before those that were lost
--   what came is what was sent: the same bytes, in order, once, from the first
--     one on without a gap
--   nothing came that was reported lost:  received + dropped <= handed
--   if the relay let the connection be,  handed = received + dropped  (dropped:
--     it came after the receiver's disconnect(), CONTRACT C40), and nothing is
--     lost but what was accepted after the peer's close frame had come, unseen
--     as yet (C26); with what was not completed because of a dispose(), too
-- So accepted = received + dropped + reported lost + on the way when a fault
-- struck. For each process: on_connect and on_disconnect pair up, every
-- connection is accounted for, no descriptor stays, the loop closes with no
-- handle left, and memory does not grow.

local uv = require "luv"
local common = require "spec.soak.common"
local relay = require "spec.soak.relay"

local minutes, connections, seed, certificates = ...
minutes, connections, seed = tonumber(minutes), tonumber(connections),
  tonumber(seed)
local scale = tonumber(os.getenv "SIPWIRE_TIME_SCALE") or 1
local seconds = minutes * 60
local began = uv.hrtime()

local faults = 0

local function fault(format, ...)
  faults = faults + 1
  if faults <= 50 then
    print("FAULT " .. format:format(...))
  end
end

local function elapsed()
  return (uv.hrtime() - began) / 1e9
end

-- ---- Accounts --------------------------------------------------------------

local total = { flows = 0, fails = 0, accepted = 0, handed = 0, lost = 0,
                pending = 0, received = 0, dropped = 0, way = 0, clean = 0,
                odd = 0, server_only = 0 }
local outcomes = {}
local ups = { client = 0, server = 0 }
local downs = { client = 0, server = 0 }
local told = { client = 0, server = 0 }
local waiting = { client = {}, server = {} } -- flows of which one end is known
local bad = {} -- id .. end -> what

local function judge_sender(flow)
  if flow.accepted ~= flow.handed + flow.lost + flow.pending then
    fault("%s: %s sent %d, handed %d, lost %d, pending %d", flow.id, flow.role,
      flow.accepted, flow.handed, flow.lost, flow.pending)
  elseif flow.pending > 0 and flow.outcome ~= "disposed" then
    fault("%s: %s has no completion for %d", flow.id, flow.role, flow.pending)
  end
end

-- One direction. |known|: the receiver saw all to the end.
local function judge(from, to, line)
  local arrived = to.received + (to.dropped or 0)
  local function wrong(what)
    fault("%s %s to %s (%s, %s; %s%s): %s: accepted %d handed %d lost %d " ..
      "pending %d; received %d dropped %s", from.id, from.role, to.role,
      from.outcome, to.outcome, line.kind, line.fired and " fired" or "", what,
      from.accepted, from.handed, from.lost, from.pending, to.received,
      tostring(to.dropped))
  end
  local most = from.handed + from.pending
  if to.received > most or arrived > most and not line.garbled then
    wrong "more came than was handed over"
  end
  if to.bad and (not line.garbled or line.secure) then
    wrong(to.bad)
  end
  total.accepted = total.accepted + from.accepted
  total.handed = total.handed + from.handed
  total.lost = total.lost + from.lost
  total.pending = total.pending + from.pending
  total.received = total.received + to.received
  total.dropped = total.dropped + (to.dropped or 0)
  total.way = total.way + from.accepted - from.lost - arrived
  if line.fired then
    return
  end
  if from.lost > 0 and from.outcome ~= "closed" then
    wrong "lost without a fault"
  elseif to.dropped and arrived ~= most then
    wrong "not all came, and there was no fault"
  end
end

-- The client had given up, or never knew: nobody says what came.
local none = { accepted = 0, handed = 0, lost = 0, pending = 0, received = 0,
               outcome = "never up", role = "client", port = "-" }

local unknown = { fired = true, kind = "gone" } -- before it told its port

-- A flow without a port was reset at once.
local function line_of(client, server)
  if client == none or client.port == "-" then
    return server.line or unknown
  elseif server.port == "-" then
    return client.line or unknown
  end
  local line = relay.common(client.port, server.port)
  if not line then
    fault("%s: its ends had different connections", server.id)
  end
  return line or unknown
end

local function judge_flow(client, server)
  local line = line_of(client, server)
  total.clean = total.clean + (line.fired and 0 or 1)
  judge(client, server, line)
  judge(server, client, line)
end

local function match(id)
  local client, server = waiting.client[id], waiting.server[id]
  if client and server then
    waiting.client[id], waiting.server[id] = nil, nil
    total.flows = total.flows + 1
    judge_flow(client, server)
  end
end

local handlers = {}

function handlers.flow(role, id, _, port, ...)
  local numbers = { ... }
  local flow = { id = id, role = role, port = port, outcome = numbers[7],
    accepted = tonumber(numbers[1]), handed = tonumber(numbers[2]),
    lost = tonumber(numbers[3]), pending = tonumber(numbers[4]),
    received = tonumber(numbers[5]), dropped = tonumber(numbers[6]),
    bad = bad[id .. role] }
  bad[id .. role] = nil
  flow.line = relay.newest(role, port)
  local key = role .. " " .. flow.outcome
  outcomes[key] = (outcomes[key] or 0) + 1
  told[role] = told[role] + 1
  judge_sender(flow)
  if waiting[role][id] then
    fault("%s: the %s has it twice", id, role)
  end
  waiting[role][id] = flow
  match(id)
end

function handlers.bad(role, id, _, _, ...)
  bad[id .. role] = table.concat({ ... }, " ")
end

function handlers.fault(role, ...)
  fault("%s: %s", role, table.concat({ ... }, " "))
end

function handlers.fail(_, id, code, phase)
  total.fails = total.fails + 1
  local key = "attempt " .. code .. " in " .. phase
  outcomes[key] = (outcomes[key] or 0) + 1
end

function handlers.up(role) ups[role] = ups[role] + 1 end

function handlers.down(role) downs[role] = downs[role] + 1 end

function handlers.odd(_, address)
  total.odd = total.odd + 1
end

-- ---- Processes -------------------------------------------------------------

local memory = { client = {}, server = {} } -- kB, one per second
local last = { client = {}, server = {} }
local ended = {}

function handlers.stat(role, _, kb, descriptors, lua_kb)
  table.insert(memory[role], tonumber(kb))
  last[role] = { kb = tonumber(kb), descriptors = descriptors, lua = lua_kb }
end

handlers["end"] = function(role, _, before, after, closed)
  ended[role] = true
  if before ~= after then
    fault("%s: %s descriptors, %s at the beginning", role, after, before)
  end
  if closed ~= "closed" then
    fault("%s: loop: %s", role, closed)
  end
end

local function dispatch(role, text)
  local words = {}
  for word in text:gmatch "%S+" do
    words[#words + 1] = word
  end
  local handler = handlers[words[1]]
  if handler then
    handler(role, (table.unpack or unpack)(words, 2))
  else
    fault("%s says: %s", role, text)
  end
end

local function lines_of(role, pipe, handler)
  local rest = ""
  pipe:read_start(function(_, data)
    if not data then
      return pipe:close()
    end
    rest = rest .. data
    local at = 1
    for text, stop in rest:gmatch "([^\n]*)\n()" do
      at = stop
      handler(role, text)
    end
    rest = rest:sub(at)
  end)
end

local running = {}

-- LUA is what runs Lua here, maybe with words before it.
local function start(role, ...)
  local command = {}
  for word in (os.getenv "LUA" or "lua5.4"):gmatch "%S+" do
    command[#command + 1] = word
  end
  table.insert(command, "spec/soak/" .. role .. ".lua")
  for i = 1, select("#", ...) do
    command[#command + 1] = tostring((select(i, ...)))
  end
  local out = uv.new_pipe(false)
  local handle
  handle = assert(uv.spawn(table.remove(command, 1), { args = command,
    stdio = { nil, out, 2 } }, function(code, signal)
    running[role] = nil
    handle:close()
    if code ~= 0 or signal ~= 0 then
      fault("%s: exit code %d, signal %d", role, code, signal)
    end
  end))
  running[role] = handle
  lines_of(role, out, dispatch)
end

local function run(condition, limit, what)
  local timer, late = uv.new_timer(), false
  timer:start(math.ceil(limit * 1000), 0, function() late = true end)
  while not condition() and not late do
    uv.run "once"
  end
  timer:close()
  if late then
    fault("not within %d s: %s", limit, what)
  end
  return not late
end

-- ---- Reports ---------------------------------------------------------------

local function line()
  local c, s = last.client, last.server
  local count = 0
  for _, n in pairs(relay.faults) do
    count = count + n
  end
  print(("%6.0f s  %d up, %d flows over, %d failed attempts, %d faults made; " ..
    "%d sent, %d received; client %s kB %s fds, server %s kB %s fds%s"):format(
    elapsed(), ups.client - downs.client, total.flows, total.fails, count,
    total.accepted, total.received, c.kb, c.descriptors, s.kb, s.descriptors,
    faults > 0 and ("; FAULTS " .. faults) or ""))
  io.stdout:flush()
end

local function most(list, from, to)
  local highest = 0
  for i = from, to do
    highest = math.max(highest, list[i] or 0)
  end
  return highest
end

-- The highest of the last third is compared with that of the second: it is the
-- queues that make the difference, and they are full at some moment of each.
local function judge_memory(role)
  local list = memory[role]
  local n = #list
  local before = most(list, math.floor(n / 3) + 1, math.floor(n * 2 / 3))
  local after = most(list, math.floor(n * 2 / 3) + 1, n)
  print(("%s: at most %d kB in the second third, %d kB in the last"):format(
    role, before, after))
  if n >= 45 and after > before * 1.1 + 4096 then
    fault("%s: memory grows", role)
  end
end

local function print_sorted(title, counts)
  local names = {}
  for name in pairs(counts) do
    names[#names + 1] = name
  end
  table.sort(names)
  for i, name in ipairs(names) do
    names[i] = ("%s %d"):format(name, counts[name])
  end
  print(title .. ": " .. table.concat(names, ", "))
end

local function judge_rest()
  for id, client in pairs(waiting.client) do
    fault("%s: the server does not know of it", id)
  end
  for id, server in pairs(waiting.server) do
    total.server_only = total.server_only + 1
    judge_flow(none, server)
  end
  for _, role in ipairs { "client", "server" } do
    if not ended[role] then
      fault("%s: did not come to its end", role)
    end
    if ups[role] ~= downs[role] then
      fault("%s: %d times up, %d times down", role, ups[role], downs[role])
    end
    if told[role] ~= ups[role] then
      fault("%s: %d connections, %d are accounted for", role, ups[role],
        told[role])
    end
    judge_memory(role)
  end
  if total.flows < connections or total.received == 0 then
    fault("nothing happened")
  end
  local limit = 8 * scale
  if relay.slowest > limit then
    fault("it took %.1f s to notice silence", relay.slowest)
  end
end

local function summary()
  print_sorted("faults made", relay.faults)
  print_sorted("ends", outcomes)
  print(("silence was noticed after at most %.1f s"):format(relay.slowest))
  print(("%d connections, %d known to the server only, %d without a fault; " ..
    "of %d messages accepted, %d received, %d dropped after a disconnect(), " ..
    "%d reported lost, %d on their way when a fault struck or the client gave up"):format(
    total.flows, total.server_only, total.clean, total.accepted,
    total.received, total.dropped, total.lost, total.way))
  print(("soak: %s, %d faults, seed %d"):format(
    faults == 0 and "ok" or "FAILED", faults, seed))
end

-- ---- The run ---------------------------------------------------------------

print(("soak: %g minutes, %d connections, seed %d"):format(minutes,
  connections, seed))
io.stdout:flush()

local ports
function handlers.port(_, ws, wss) ports = { ws, wss } end

start("server", seed, scale, certificates .. "/server.pem",
  certificates .. "/server.key")
if run(function() return ports end, 20 * scale, "ports") then
  local random = common.random(seed + 1)
  local ws = relay.listen(tonumber(ports[1]), false, random)
  local wss = relay.listen(tonumber(ports[2]), true, random)
  start("client", seed + 2, seconds, connections, scale,
    certificates .. "/ca.pem", "ws://127.0.0.1:" .. ports[1] .. "/end",
    "ws://127.0.0.1:" .. ws .. "/", "wss://127.0.0.1:" .. wss .. "/")
  local ticker = uv.new_timer()
  ticker:start(10000, 10000, line)
  run(function() return not next(running) end, seconds + 60 * scale, "the end")
  ticker:close()
end
for _, handle in pairs(running) do
  handle:kill "sigterm"
end
run(function() return not next(running) end, 20, "end of processes")
judge_rest()
relay.close()
uv.run()
line()
summary()
os.exit(faults == 0 and 0 or 1)
