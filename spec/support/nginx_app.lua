-- SPDX-License-Identifier: MIT
-- What spec/nginx_spec.lua has nginx do: a location /NAME calls app.NAME, with
-- the query's arguments; what that returns is the answer.

local ffi = require "ffi"

local core = require "sipwire.core"
local semaphore = require "ngx.semaphore"
local sipwire = require "sipwire"
local nginx = require "sipwire.nginx"

local app = {}
local shared, messages = nil, {}

-- A connection of the request's own, and one that all share.
function app.echo(args)
  local c = assert(sipwire.open { server = args.server })
  assert(c:send(args.text))
  local text = assert(c:receive(2))
  assert(c:close())
  return text
end

function app.share(args)
  shared = assert(sipwire.open { server = args.server })
  return "open"
end

function app.send(args)
  return tostring(shared:send(args.text))
end

function app.receive(args)
  local text, err = shared:receive(tonumber(args.limit))
  return text or err
end

function app.quick()
  return "quick"
end

-- A transport that answers requests by their first word.
local waiting = {}

function app.connect(args)
  local up = semaphore.new()
  local t = sipwire.new { server = args.server }
  t.on_message = function(_, text)
    local word = text:match "^%w+"
    messages[#messages + 1] = text
    if waiting[word] then
      waiting[word]:post(1)
      waiting[word] = text
    end
  end
  t.on_connect = function() up:post(1) end
  t:connect()
  shared = t
  return tostring(up:wait(2)) .. " " .. t.state
end

function app.call(args)
  local answered = semaphore.new()
  waiting[args.word] = answered
  assert(shared:send(args.word))
  if not answered:wait(2) then
    return "no answer"
  end
  return waiting[args.word]
end

-- Callbacks that wait in each of nginx's ways.
local ways = {}

function ways.sleep() ngx.sleep(0.02) return "slept" end

function ways.socket(args)
  local socket = ngx.socket.tcp()
  assert(socket:connect("127.0.0.1", args.port))
  assert(socket:send "cosocket\n")
  local line = assert(socket:receive())
  socket:close()
  return line
end

function ways.thread()
  local thread = ngx.thread.spawn(function() ngx.sleep(0.01) return "thread" end)
  local _, result = ngx.thread.wait(thread)
  return result
end

function ways.coroutine()
  return coroutine.wrap(function() ngx.sleep(0.01) return "coroutine" end)()
end

function ways.open(args)
  return app.echo { server = args.server, text = "opened" }
end

function ways.spawn()
  local done, result = semaphore.new(), nil
  sipwire.spawn(function(text)
    sipwire.sleep(0.01)
    result = text
    done:post(1)
  end, "spawned")
  done:wait(1)
  return result
end

function ways.timer()
  local done = semaphore.new()
  sipwire.timer(0.01, function() ngx.sleep(0.01) done:post(1) end)
  return done:wait(1) and "timer" or "no timer"
end

function app.ways(args)
  local t = sipwire.new { server = args.server }
  local results, all = {}, semaphore.new()
  t.on_connect = function()
    for name in args.names:gmatch "%w+" do t:send(name) end
  end
  t.on_message = function(_, name)
    results[name] = { pcall(ways[name], args) }
    all:post(1)
  end
  t:connect()
  local lines = {}
  for name in args.names:gmatch "%w+" do
    lines[#lines + 1] = name
    assert(all:wait(3))
  end
  t:disconnect()
  for i, name in ipairs(lines) do
    lines[i] = name .. "=" .. tostring(results[name][2])
  end
  return table.concat(lines, " ")
end

-- The order in which callbacks begin and end.
function app.order(args)
  local t = sipwire.new { server = args.server }
  local lines, last = {}, semaphore.new()
  local fast_ended, listener_ended = semaphore.new(), semaphore.new()
  local function say(line) lines[#lines + 1] = line end
  t.state_change:add_listener(function(state)
    say(state)
    if state == "Connected" then
      fast_ended:wait(2)
      say "listener ends"
      listener_ended:post(1)
    end
  end)
  t.on_connect = function()
    say "on_connect"
    t:send "slow"
    t:send "fast"
  end
  t.on_message = function(_, text)
    say(text)
    if text == "slow" then
      listener_ended:wait(2)
      say "slow ends"
      last:post(1)
    else
      fast_ended:post(1)
    end
  end
  t:connect()
  assert(last:wait(3))
  t:dispose()
  return table.concat(lines, ", ")
end

function app.fail(args)
  local t = sipwire.new { server = args.server }
  local again = semaphore.new()
  t.on_connect = function() t:send "one" t:send "two" end
  t.on_message = function(_, text)
    if text == "one" then
      ngx.sleep(0.001)
      error "an error of the spec"
    end
    again:post(1)
  end
  t:connect()
  local ok = again:wait(2)
  ngx.sleep(0.02)
  t:dispose()
  return tostring(ok)
end

-- Every message keeps its callback waiting until all are there; then they end,
-- the last one first.
function app.hold(args)
  local t = sipwire.new { server = args.server }
  local count, begun, ended = tonumber(args.count), {}, {}
  local gates, done = {}, semaphore.new()
  for i = 1, count do gates[i] = semaphore.new() end
  t.on_connect = function()
    for i = 1, count do t:send(tostring(i)) end
  end
  t.on_message = function(_, text)
    begun[#begun + 1] = text
    if #begun == count then gates[count]:post(1) end
    gates[tonumber(text)]:wait(3)
    ended[#ended + 1] = text
    local next_gate = gates[tonumber(text) - 1] or done
    next_gate:post(1)
  end
  t:connect()
  local ok = done:wait(3)
  t:disconnect()
  return tostring(ok) .. " " .. table.concat(begun, " ") .. " / " ..
    table.concat(ended, " ")
end

-- Callbacks that wait, each for the next message, so that no driver stays one
-- for long; and light threads that nobody waits for.
function app.relay(args)
  local t = sipwire.new { server = args.server }
  local count, seen, last = tonumber(args.count), 0, semaphore.new()
  local before
  t.on_connect = function() t:send "0" end
  t.on_message = function(_, text)
    seen = seen + 1
    if seen == count then
      last:post(1)
      return
    end
    ngx.thread.spawn(function() end)
    if before then before:post(1) end
    local mine = semaphore.new()
    before = mine
    t:send(tostring(seen))
    mine:wait(0.5)
  end
  t:connect()
  local ok = last:wait(20)
  t:disconnect()
  collectgarbage()
  return tostring(ok) .. " " .. seen
end

function app.exit(args)
  local t = sipwire.new { server = args.server }
  local called
  t.on_connect = function() t:send "text" end
  t[args.callback] = function()
    called = true
    ngx.exit(0)
  end
  t:connect()
  repeat ngx.sleep(0.05) until called
  return app.echo { server = args.server, text = "alive" }
end

-- A listener whose answer to a client takes its time, as its callback for a
-- connection does.
function app.listen()
  local listener = assert(sipwire.listen {
    on_request = function(request)
      ngx.sleep(0.02)
      if request.path == "/raise" then error "an error of the spec" end
      if request.path ~= "/right" then return 403 end
    end,
    on_connection = function(t)
      t.on_message = function(_, text) t:send(text:upper()) end
      ngx.sleep(0.001)
    end,
  })
  local lines = {}
  for _, path in ipairs { "wrong", "right", "raise" } do
    local c, _, _, info = sipwire.open { server = listener.url .. "/" .. path }
    if c then
      c:send "text"
      lines[#lines + 1] = c:receive(1)
      c:close()
    else
      lines[#lines + 1] = info.http_status
    end
  end
  listener:close()
  return table.concat(lines, " ")
end

function app.churn(args)
  for _ = 1, tonumber(args.count) do
    local t = sipwire.new { server = args.server }
    local done = semaphore.new()
    t.on_message = function() t:disconnect() end
    t.on_connect = function() t:send "text" end
    t.on_disconnect = function() done:post(1) end
    t:connect()
    assert(done:wait(5))
  end
  collectgarbage()
  return tostring(ngx.worker.pid())
end

-- More callbacks than one timer of nginx drives, one of which waits, while
-- tasks run in all other timers that nginx allows.
function app.crowd(args)
  for _ = 1, tonumber(args.tasks) do
    sipwire.spawn(function() sipwire.sleep(60) end)
  end
  sipwire.timer(0, function() ngx.sleep(60) end)
  local done, left = semaphore.new(), 1500
  local function again()
    left = left - 1
    if left == 0 then
      done:post(1)
    else
      sipwire.timer(0, again)
    end
  end
  again()
  return tostring(done:wait(3))
end

-- All timers that nginx allows are taken for a while.
function app.occupy(args)
  for _ = 1, tonumber(args.timers) do
    ngx.timer.at(0, function() ngx.sleep(0.1) end)
  end
  ngx.sleep(0.001)
  return tostring(nginx.loop())
end

function app.refused()
  local found = {}
  for _, name in ipairs { "run", "step" } do
    found[#found + 1] = select(2, pcall(nginx.loop()[name], nginx.loop()))
  end
  found[#found + 1] = tostring(nginx.loop() == nginx.loop())
  return table.concat(found, "\n")
end

-- Watches by addresses and symbols that are none of this nginx.
function app.watches()
  local handle = nginx.loop()._core
  local sema = semaphore.new()
  local address = tonumber(ffi.cast("uintptr_t", sema.sem))
  local post = "ngx_http_lua_ffi_sema_post"
  local found = {}
  for _, case in ipairs { { address, post }, { address + 8, post },
    { address - 8, post }, { address, "ngx_no_symbol" },
    { address, "ngx_close_connection" } } do
    local watch = core.nginx_watch(handle, case[1], case[2])
    found[#found + 1] = tostring(watch ~= nil)
    if watch then watch:close() end
  end
  return table.concat(found, " ")
end

function app.pid() return tostring(ngx.worker.pid()) end

function app.log(args)
  return select(2, pcall(sipwire.open, { server = args.server }))
end

return app
