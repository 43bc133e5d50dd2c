-- SPDX-License-Identifier: MIT
-- sipwire inside nginx with Lua (support/nginx_app.lua).  nginx has a Lua of
-- its own, so this is for one of ours only; and a sanitized module does not
-- load there.

local uv = require "luv"

local helper = require "spec.helper"
local daemon = require "spec.support.daemon"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

if _VERSION ~= "Lua 5.4" or (os.getenv "SIPWIRE_BUILD" or ""):find "asan" then
  return
end

local SERVER = [[
  %s
  lua_check_client_abort on;
  server {
    listen 127.0.0.1:PORT;
    location ~ ^/(?<name>\w+)$ {
      content_by_lua_block {
        local app = require "spec.support.nginx_app"
        ngx.print(app[ngx.var.name](ngx.req.get_uri_args()))
      }
    }
  }
]]

local FOLDERS = { "/tmp", os.getenv "TMPDIR" }

helper.watch()

-- ---- Peers and looks at the worker ------------------------------------------

local closes -- codes that the peer was told, in order; "" for none

-- A WebSocket server that sends every message back.
local function peer()
  closes = {}
  local server = rawpeer.listen {}
  server.connections = {}
  server:each(function(c)
    table.insert(server.connections, c)
    c:answer_upgrade()
    while true do
      run.wait(function() return #c:peek() > 0 or c:ended() end, 60, "a frame")
      if #c:peek() == 0 then
        table.insert(closes, "")
        return
      end
      local frame = c:read_frame()
      if frame.name == "close" then
        table.insert(closes, (rawpeer.frames.code(frame.payload)))
        c:send("close", frame.payload)
        c:fin()
        return
      end
      c:send("text", frame.payload)
    end
  end)
  return server
end

local function wait(condition, what, limit)
  return run.wait(condition, limit or 5, what)
end

-- Waits for a line in nginx's log.
local function logs(d, pattern)
  wait(function() return d.process.stderr:find(pattern) end, pattern)
end

local function read(path)
  local file = io.open(path)
  local text = file and file:read "*a"
  if file then file:close() end
  return text
end

local function count(folder)
  local scan, n = uv.fs_scandir(folder), 0
  while scan and uv.fs_scandir_next(scan) do n = n + 1 end
  return n
end

local function threads(pid) return count(("/proc/%d/task"):format(pid)) end
local function descriptors(pid) return count(("/proc/%d/fd"):format(pid)) end
local function runs(pid) return read(("/proc/%d/stat"):format(pid)) ~= nil end

local function status(pid, field)
  return tonumber((read(("/proc/%s/status"):format(pid)) or "")
    :match(field .. ":%s*(%d+)"))
end

-- How often all threads of it were put to sleep.
local function switches(pid)
  local sum = 0
  local folder = ("/proc/%d/task"):format(pid)
  local scan = uv.fs_scandir(folder)
  for task in function() return uv.fs_scandir_next(scan) end do
    sum = sum + status(pid .. "/task/" .. task, "voluntary_ctxt_switches")
  end
  return sum
end

local function start(options)
  options = options or {}
  local d = daemon.openresty(SERVER:format(options.http or ""), options)
  run.track { close = function() d.process:stop() end }
  wait(function() return #d:workers() == (options.workers or 1) end, "workers")
  return d
end

local function leavings()
  local found = 0
  for _, folder in ipairs(FOLDERS) do
    local scan = uv.fs_scandir(folder)
    for name in function() return uv.fs_scandir_next(scan) end do
      if name:find "^sipwire%-......$" and
         uv.fs_lstat(folder .. "/" .. name .. "/bridge") then
        found = found + 1
      end
    end
  end
  return found
end

for _, native in ipairs { false, true } do
  local how = native and ", by its own events" or ", by a bridge"
  local http = native and "" or
    'init_by_lua_block { require "sipwire.nginx".native = false }'

  local function nginx(options)
    options = options or {}
    options.http = http .. (options.http or "")
    return start(options)
  end

  describe("sipwire in nginx" .. how .. " #slow", function()
    it("lets requests open, send, receive and close", function()
      local d, server = nginx(), peer()
      local path = "/echo?text=hello&server=" .. server:url()
      assert.are.equal("hello", (d:get(path)))
      assert.are.equal("hello", (d:get(path)))
      wait(function() return #closes == 2 end, "two ends")
      assert.are.same({ 1000, 1000 }, closes)
      assert.are.equal(native and 1 or 2, threads(d:workers()[1]))
      assert.are.equal(0, leavings())
      if uv.getuid() == 0 then
        assert.are_not.equal(0, status(d:workers()[1], "Uid"))
      end
    end)

    it("lets callbacks wait for all that nginx offers", function()
      local d, server = nginx(), peer()
      local lines = rawpeer.listen {}
      lines:each(function(c) c:write(c:take_until "\n") c:fin() end)
      local body = d:get(("/ways?server=%s&port=%d&names=%s"):format(
        server:url(), lines.port, "sleep+socket+thread+coroutine+open+spawn+timer"))
      assert.are.equal("sleep=slept socket=cosocket thread=thread " ..
        "coroutine=coroutine open=opened spawn=spawned timer=timer", body)
    end)

    it("goes on without a callback that waits", function()
      local d, server = nginx(), peer()
      local body = d:get("/order?server=" .. server:url())
      assert.are.equal("Connecting, Connected, on_connect, slow, fast, " ..
        "listener ends, slow ends", body)
    end)

    it("goes on without any number of callbacks that wait", function()
      local d, server = nginx(), peer()
      local up, down = {}, {}
      for i = 1, 30 do
        up[i], down[31 - i] = tostring(i), tostring(i)
      end
      local expected = table.concat(up, " ") .. " / " .. table.concat(down, " ")
      assert.are.equal("true " .. expected,
        (d:get("/hold?count=30&server=" .. server:url())))
    end)

    it("goes on from one callback that waits to the next, without growing",
      function()
        local d, server = nginx(), peer()
        local path = "/relay?count=%d&server=" .. server:url()
        assert.are.equal("true 1500", (d:get(path:format(1500), 20)))
        local worker = d:workers()[1]
        local size = status(worker, "VmRSS")
        assert.are.equal("true 3000", (d:get(path:format(3000), 20)))
        assert(status(worker, "VmRSS") - size < 1500,
          status(worker, "VmRSS") - size)
        assert.is_nil(d.process.stderr:find "%[error%]")
      end)

    it("lets a request wait while others are answered", function()
      local d, server = nginx(), peer()
      assert.are.equal("open", (d:get("/share?server=" .. server:url())))
      local first = d:ask "/receive?limit=5"
      local second = d:ask "/receive?limit=5"
      assert.are.equal("quick", (d:get "/quick"))
      assert.are.equal("timeout: no message within 0.05 s",
        (d:ask "/receive?limit=0.05":answer()))
      d:get "/send?text=one"
      d:get "/send?text=two"
      local bodies = { (first:answer()), (second:answer()) }
      table.sort(bodies)
      assert.are.same({ "one", "two" }, bodies)
    end)

    it("gives no message to a request that was given up", function()
      local d, server = nginx(), peer()
      d:get("/share?server=" .. server:url())
      local first = d:ask "/receive?limit=5"
      d:get "/receive?limit=0.02" -- so the first one waits
      first.connection:close()
      d:get "/quick"
      local second = d:ask "/receive?limit=5"
      d:get "/receive?limit=0.02"
      d:get "/send?text=text"
      assert.are.equal("text", (second:answer()))
    end)

    it("tells errors of callbacks to nginx's log and goes on", function()
      local d, server = nginx(), peer()
      assert.are.equal("true", (d:get("/fail?server=" .. server:url())))
      logs(d, "sipwire: error in on_message of .-an error of the spec")
    end)

    it("asks on_request before it lets a client in, however long", function()
      local d = nginx()
      assert.are.equal("403 TEXT 500", (d:get "/listen"))
      assert.is_nil(d.process.stderr:find "cannot be driven")
    end)

    it("goes on where no other timer may take over", function()
      local d = nginx { http = "lua_max_running_timers 4;" }
      assert.are.equal("true", (d:get "/crowd?tasks=3"))
      logs(d, "timers are not enough")
    end)

    for _, name in ipairs { "on_connect", "on_message" } do
      it("survives ngx.exit() in " .. name, function()
        local d, server = nginx(), peer()
        assert.are.equal("alive", (d:get(("/exit?callback=%s&server=%s"):format(
          name, server:url()))))
      end)
    end

    it("refuses to be run by a request", function()
      local d = nginx()
      local lines = d:get "/refused"
      assert(lines:find("run() in nginx", 1, true), lines)
      assert(lines:find("step() in nginx", 1, true), lines)
      assert(lines:find "\ntrue$", lines)
    end)

    for _, signal in ipairs { "sighup", "sigquit" } do
      it("closes its links with 1000 and leaves in time: " .. signal, function()
        local d, server = nginx(), peer()
        d:get("/connect?server=" .. server:url())
        local waits = d:ask("/echo?server=" .. server:url()) -- sends no text
        local worker = d:workers()[1]
        local begin = run.now()
        uv.kill(d.process.pid, signal)
        wait(function() return not runs(worker) end, "the old worker's end")
        assert(run.now() - begin < 1, run.now() - begin)
        assert.are.equal(1000, closes[1])
        waits.connection:close()
        if signal == "sighup" then
          assert.are.equal("new",
            (d:get("/echo?text=new&server=" .. server:url())))
        end
        assert.is_nil(d.process.stderr:find "signal 11")
        assert.is_nil(d.process.stderr:find "open socket")
      end)
    end

    it("leaves in time though the peer does not answer its close", function()
      local d, server = nginx(), rawpeer.listen {}
      server:each(function(c)
        c:answer_upgrade()
        wait(function() return c:ended() end, "an end")
      end)
      d:get("/connect?server=" .. server:url())
      local worker, begin = d:workers()[1], run.now()
      uv.kill(d.process.pid, "sigquit")
      wait(function() return not runs(worker) end, "the worker's end")
      assert(run.now() - begin < 1.2, run.now() - begin)
      assert.is_nil(d.process.stderr:find "%[error%]")
    end)

    it("ends at once when it is told to: sigterm", function()
      local d, server = nginx(), peer()
      d:get("/connect?server=" .. server:url())
      local worker, begin = d:workers()[1], run.now()
      uv.kill(d.process.pid, "sigterm")
      wait(function() return not runs(worker) end, "the worker's end")
      assert(run.now() - begin < 1, run.now() - begin)
      wait(function() return #closes == 1 end, "the link's end")
      assert(closes[1] == 1000 or closes[1] == 1001, closes[1])
      assert.is_nil(d.process.stderr:find "signal 11")
    end)

    it("takes no time while nothing happens", function()
      local d, server = nginx(), peer()
      d:get("/connect?server=" .. server:url())
      local worker = d:workers()[1]
      local before
      wait(function()
        local now = switches(worker)
        local still = now == before
        before = now
        return still
      end, "rest")
      local ends = run.now() + 0.7
      wait(function() return run.now() >= ends end, "a while")
      assert(switches(worker) - before <= 1, switches(worker) - before)
    end)

    it("does not grow with its connections", function()
      local d, server = nginx(), peer()
      local path = "/churn?count=%d&server=" .. server:url()
      d:get(path:format(100), 10)
      local worker = d:workers()[1]
      local threads_before, before = threads(worker), descriptors(worker)
      local size = status(worker, "VmRSS")
      d:get(path:format(native and 1000 or 300), 30)
      assert.are.equal(threads_before, threads(worker))
      assert(descriptors(worker) - before <= 2) -- links that are closing
      assert(status(worker, "VmRSS") - size < 1500,
        status(worker, "VmRSS") - size)
    end)

    it("has a loop in each of two workers", function()
      local d, server = nginx { workers = 2 }, peer()
      local seen, n = {}, 0
      wait(function()
        local pid = d:get "/pid"
        d:get("/echo?text=x&server=" .. server:url())
        if not seen[pid] then n = n + 1 end
        seen[pid] = true
        return n == 2
      end, "requests in both workers", 10)
      local gone = d:workers()
      uv.kill(d.process.pid, "sigquit")
      wait(function() return not runs(gone[1]) and not runs(gone[2]) end,
        "both workers' ends")
    end)
  end)
end

describe("sipwire in nginx #slow", function()
  it("makes no loop before nginx forks", function()
    local ok, err = pcall(start, { http =
      'init_by_lua_block { require "sipwire.nginx".loop() }' })
    assert.is_false(ok)
    assert(err:find("init_by_lua runs before nginx forks", 1, true), err)
    ok, err = pcall(start, { http =
      'init_by_lua_block { require "sipwire.nginx" ' ..
      'require "sipwire".new { server = "ws://127.0.0.1:1" } }' })
    assert.is_false(ok)
    assert(err:find("init_by_lua runs before nginx forks", 1, true), err)
  end)

  it("makes one when a worker begins", function()
    local server = peer()
    start { http = ([[init_by_lua_block { require "sipwire.nginx" }
      init_worker_by_lua_block {
        local t = require "sipwire".new { server = "%s" }
        t.on_connect = function() t:send "from init_worker" end
        t:connect()
      }]]):format(server:url()) }
    wait(function() return server.connections[1] end, "a connection")
    wait(function() return #server.connections[1]:peek() == 0 and
      server.connections[1].received > 150 end, "a message")
  end)

  it("makes no watch where nginx is not as it is known", function()
    assert.are.equal("true false false false false", (start():get "/watches"))
  end)

  local function with_bridge(body)
    return start { http = ([[init_by_lua_block {
      require "sipwire.nginx".native = false
      local core, calls = require "sipwire.core", 0
      local bridge_new = core.bridge_new
      core.bridge_new = function(loop) calls = calls + 1 %s end }]])
      :format(body) }
  end

  it("goes through a port where it can make no file", function()
    local d = with_bridge 'return bridge_new(loop, "/nonexistent")'
    local server = peer()
    for _ = 1, 2 do
      assert.are.equal("text", (d:get("/echo?text=text&server=" .. server:url())))
    end
  end)

  it("tries again when a bridge cannot be made", function()
    local d = with_bridge 'if calls < 3 then error "none" end return bridge_new(loop)'
    local server = peer()
    assert.are.equal("text", (d:get("/echo?text=text&server=" .. server:url())))
    logs(d, "the loop cannot be driven: [^\n]*none")
  end)

  it("begins though nginx dropped its first timer", function()
    local d, server = start { http = "lua_max_running_timers 2;" }, peer()
    assert(d:get("/occupy?timers=2"):find "^sipwire.loop")
    logs(d, "timers are not enough")
    local begin = run.now()
    wait(function() return run.now() - begin > 0.2 end, "a while")
    assert.are.equal("text", (d:get("/echo?text=text&server=" .. server:url())))
  end)

  it("waits nowhere where nginx cannot", function()
    local d = start { http = [[init_by_lua_block {
      function try_it() require "sipwire.nginx" return select(2,
        pcall(require "sipwire".open, { server = "ws://127.0.0.1:1" })) end }
      header_filter_by_lua_block { ngx.header.X = try_it() }]] }
    local _, head = d:get "/quick"
    assert(head:find "X: [^\r]*open%(%) outside a task", head)
  end)

  it("leaves nothing of requests' own Lua states", function()
    local d, server = start { http = "lua_code_cache off;" }, peer()
    local worker = d:workers()[1]
    for i = 1, 60 do
      local what = i % 2 == 0 and "/echo?text=x" or "/connect?"
      d:get(what .. "&server=" .. server:url())
    end
    wait(function() return threads(worker) <= 2 end, "the threads' ends")
    wait(function() return #closes >= 59 end, "the links' ends")
    for _, code in ipairs(closes) do assert.are.equal(1000, code) end
    assert.are.equal(worker, d:workers()[1])
    assert(descriptors(worker) < 60, descriptors(worker))
    assert.is_nil(d.process.stderr:find "signal 11")
    uv.kill(d.process.pid, "sigquit")
    wait(function() return not runs(worker) end, "the worker's end")
  end)
end)
