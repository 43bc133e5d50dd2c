-- SPDX-License-Identifier: MIT
-- usage: faulty.lua CERTIFICATES [COUNT [SEED]] (100000 connections)
-- Connections that all fail, each in the way that the dice say, by objects new
-- and used before, a few at a time, to hostile.lua and to listeners of our own.
-- Each failure must have the code its kind has. After the first tenth (at
-- least 5000) and at the end, with everything at rest, it looks at memory and
-- descriptors. Between the two these may not grow by more than so many kB: what
-- is resident, what Lua has in use, and (on LuaJIT, which can ask) what malloc()
-- has given out; descriptors not at all. A leak may fill what the heap has to
-- spare before anything more becomes resident: LuaJIT sees it at once.

local uv = require "luv"
local sipwire = require "sipwire"
local common = require "spec.soak.common"

local certificates, count, seed = ...
count, seed = tonumber(count or 100000), tonumber(seed or os.time() % 100000)
local random = common.random(seed)
local scale = tonumber(os.getenv "SIPWIRE_TIME_SCALE") or 1

local SLOTS = 64
local LIMITS = { rss = 1024, lua = 384, heap = 384 }
local warm = math.max(5000, math.floor(count / 10))

-- ---- Whom to connect to ----------------------------------------------------

local hostile_in, hostile_out = uv.new_pipe(false), uv.new_pipe(false)
local hostile
local hostile_handle = assert(uv.spawn("luajit", {
  args = { "spec/soak/hostile.lua" }, stdio = { hostile_in, hostile_out, 2 },
}, function() end))
hostile_out:read_start(function(_, bytes)
  hostile = hostile or tonumber(bytes)
end)
while not hostile do
  uv.run "once"
end

local certificate = { cert_file = certificates .. "/server.pem",
                      key_file = certificates .. "/server.key" }
local listeners = {}

local function listen(options)
  options.connection_timeout = 5 * scale
  options.on_connection = options.on_connection or function() end
  local listener = assert(sipwire.listen(options))
  listeners[#listeners + 1] = listener
  return listener.port
end

-- Its accepted transports end in all sorts of ways, and are forgotten.
local own = listen {
  on_request = function(request)
    local status = request.path:match "^/refuse/(%d+)"
    return tonumber(status) or nil
  end,
  on_connection = function(t, request)
    if request.path == "/dispose" then
      t:dispose()
    else
      t:send(("x"):rep(2000))
      t:disconnect()
    end
  end,
}
local secure = listen {
  tls = certificate,
  on_connection = function(t) t:disconnect() end,
}
local nobody = uv.new_tcp() -- bound, not listening
nobody:bind("127.0.0.1", 0)
local refusing = nobody:getsockname().port

-- ---- Kinds of failures -----------------------------------------------------

local function at(path, port, scheme, host)
  return ("%s://%s:%d/%s"):format(scheme or "ws",
    host or "127.0.0." .. random(200), port or hostile, path)
end

-- { weight, how it is called, URL, code or codes, class of object }
-- A RST may overtake what was sent before it.
local kinds = {
  { 60, "refused", function() return at("", refusing, nil, "127.0.0.1") end,
    "refused" },
  { 20, "refused name", function() return at("", refusing, nil, "localhost") end,
    "refused" },
  { 60, "403", function() return at "refuse" end, "http" },
  { 60, "reset", function() return at "reset" end, "reset closed" },
  { 40, "fin", function() return at "fin" end, "closed reset" },
  { 30, "half", function() return at "half" end, "closed http" },
  { 40, "garbage", function() return at "garbage" end, "http protocol" },
  { 15, "endless", function() return at "endless" end, "http too_big protocol" },
  { 40, "subprotocol", function() return at "subprotocol" end, "subprotocol" },
  { 40, "accept", function() return at "accept" end, "http" },
  { 60, "silent", function() return at "silent" end, "timeout", "hasty" },
  { 40, "masked", function() return at "masked" end, "protocol" },
  { 40, "rsv", function() return at "rsv" end, "protocol" },
  { 40, "utf8", function() return at "utf8" end, "utf8" },
  { 40, "announced", function() return at "announce" end, "too_big" },
  { 60, "cut", function() return at "cut" end, "closed reset" },
  { 60, "broken", function() return at "broken" end, "closed reset" },
  { 100, "close", function() return at("close/" .. 3000 + random(1999)) end,
    "closed" },
  { 20, "close", function() return at("close/" .. random(999)) end, "protocol" },
  { 30, "given up", function() return at "silent" end, "aborted" },
  { 30, "disposed", function() return at "silent" end, "disposed" },
  { 30, "forgotten", function() return at "reset" end, "forgotten" },
  { 30, "unused", function() return at "reset" end, "unused" },
  { 20, "wss to ws", function() return at("", nil, "wss") end, "tls" },
  { 20, "ws to wss", function()
    return at("", secure, "ws", "127.0.0.1") end, "closed reset http" },
  { 10, "unknown ca", function()
    return at("", secure, "wss", "127.0.0.1") end, "tls" },
  { 10, "wss", function()
    return at("", secure, "wss", "127.0.0.1") end, "closed", "trusting" },
  { 30, "own 503", function()
    return at("refuse/503", own, nil, "127.0.0.1") end, "http" },
  { 30, "own", function() return at("", own, nil, "127.0.0.1") end, "closed" },
  { 30, "own, disposed", function()
    return at("dispose", own, nil, "127.0.0.1") end, "closed" },
}

local weights = 0
for _, kind in ipairs(kinds) do
  weights = weights + kind[1]
  local codes = {}
  for code in kind[4]:gmatch "%S+" do
    codes[code] = true
  end
  kind.codes = codes
end

local function choose()
  local dice = random(weights)
  for _, kind in ipairs(kinds) do
    dice = dice - kind[1]
    if dice <= 0 then
      return kind
    end
  end
end

-- ---- Objects ---------------------------------------------------------------

local classes = {
  usual = { connection_timeout = 20 * scale },
  hasty = { connection_timeout = 0.02 },
  trusting = { connection_timeout = 20 * scale,
               tls = { ca_file = certificates .. "/ca.pem" } },
}
local idle = { usual = {}, hasty = {}, trusting = {} }

local function new(class)
  local url
  local options = { server = function() return url() end }
  for name, value in pairs(classes[class]) do
    options[name] = value
  end
  local object = { class = class }
  function object.set(given) url = given end
  object.t = sipwire.new(options)
  return object
end

-- One of two has failed before, until it is thrown away.
local function take(class)
  if random(4) > 1 and #idle[class] > 0 then
    return table.remove(idle[class])
  end
  return new(class)
end

local function give_back(object)
  local dice = random(10)
  if dice == 1 then
    object.t:dispose()
  elseif dice > 2 and #idle[object.class] < 2 * SLOTS then
    table.insert(idle[object.class], object)
  end
end

-- ---- Attempts --------------------------------------------------------------

local made, goal, running = 0, 0, 0
local by_kind, wrong = {}, 0
local next_attempt

local function complain(kind, what, info)
  wrong = wrong + 1
  if wrong <= 20 then
    print(("FAULT %s: %s %s"):format(kind[2], tostring(what),
      info and tostring(info.phase) or ""))
  end
end

local function over(kind, object, code, info)
  if not kind.codes[code] then
    complain(kind, code, info)
  end
  if object then
    give_back(object)
  end
  running = running - 1
  next_attempt()
end

local special = {}

function special.aborted(kind, object)
  local t = object.t
  t:connect(function(_, code)
    if code ~= "aborted" then
      complain(kind, code)
    end
  end)
  sipwire.timer(random(5) / 1000, function()
    t:disconnect(function() over(kind, object, "aborted") end)
  end)
end

function special.disposed(kind, object)
  object.t:connect(function() complain(kind, "completed") end)
  sipwire.timer(random(5) / 1000, function()
    object.t:dispose()
    over(kind, nil, "disposed")
  end)
end

-- Goes on at once; nobody holds the object but its loop.
function special.forgotten(kind, object)
  object.t:connect()
  sipwire.defer(function() over(kind, nil, "forgotten") end)
end

function special.unused(kind)
  sipwire.defer(function() over(kind, nil, "unused") end)
end

local function attempt(kind, object)
  local t = object.t
  local up = false
  t.on_disconnect = function(_, _, code, info)
    t.on_disconnect = nil
    over(kind, object, code, info)
  end
  t:connect(function(_, code, info)
    if code then
      t.on_disconnect = nil
      over(kind, object, code, info)
    end
  end)
end

function next_attempt()
  while running < SLOTS and made < goal do
    made, running = made + 1, running + 1
    local kind = choose()
    by_kind[kind[2]] = (by_kind[kind[2]] or 0) + 1
    local act = special[kind[4]]
    local object = act and kind[4] ~= "aborted" and new "usual" or
      take(kind[5] or "usual")
    object.set(kind[3])
    ;(act or attempt)(kind, object)
  end
end

-- ---- Measures --------------------------------------------------------------

local loop = require "sipwire.loop".default()

-- Until the listeners' connections and the forgotten ones are gone too.
local function rest()
  local limit = os.time() + 30 * scale
  while next(loop._live) and os.time() < limit do
    loop:step(0.05)
  end
  assert(not next(loop._live), "connections are left")
  for _ = 1, 20 do -- and what closes unseen
    loop:step(0.02)
  end
  collectgarbage()
  collectgarbage()
  loop:step(0)
end

local function measure()
  rest()
  return { rss = common.memory(), fds = common.descriptors(),
           lua = math.floor(collectgarbage "count"), heap = common.heap() }
end

local function run_to(number)
  goal = number
  next_attempt()
  while running > 0 do
    loop:step()
  end
end

loop.on_error = function(err)
  wrong = wrong + 1
  print("FAULT " .. err)
end

print(("faulty: %d connections, seed %d"):format(count, seed))
common.warm_up()
-- The system's certificates are 0.8 MB, kept while anybody needs them: always.
local keeper = sipwire.new { server = "wss://127.0.0.1:1" }
local began = uv.hrtime()
run_to(warm)
local before = measure()
local step = math.max(1, math.floor((count - warm) / 9))
local after = before
for number = warm + step, count + step - 1, step do
  run_to(math.min(number, count))
  after = measure()
  print(("%6.1f s  %6d connections, %d kB resident (Lua %d kB, malloc %s kB), " ..
    "%d descriptors"):format((uv.hrtime() - began) / 1e9, made, after.rss,
    after.lua, after.heap or "?", after.fds))
  io.stdout:flush()
end

local names = {}
for name, n in pairs(by_kind) do
  names[#names + 1] = ("%s %d"):format(name, n)
end
table.sort(names)
print(table.concat(names, ", "))
if after.fds ~= before.fds then
  wrong = wrong + 1
  print(("FAULT %d descriptors, %d before"):format(after.fds, before.fds))
end
for what, limit in pairs(LIMITS) do
  local growth = (after[what] or 0) - (before[what] or 0)
  if growth > limit then
    wrong = wrong + 1
    print(("FAULT memory (%s) grew by %d kB"):format(what, growth))
  end
end
for _, listener in ipairs(listeners) do
  listener:close()
end
keeper:dispose()
idle, listeners = {}, {}
local closed, why = loop:close()
if not closed then
  wrong = wrong + 1
  print("FAULT loop: " .. why)
end
hostile_in:close()
hostile_out:close()
nobody:close()
hostile_handle:close()
uv.run()
print(("faulty: %s, resident memory grew by %d kB from connection %d to %d, " ..
  "seed %d"):format(wrong == 0 and "ok" or "FAILED", after.rss - before.rss,
  warm, made, seed))
os.exit(wrong == 0 and 0 or 1)
