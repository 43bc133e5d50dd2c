-- SPDX-License-Identifier: MIT
-- examples/openresty and the program of docs/hosts/nginx.md, as they stand
-- there but for ports and paths.  Where: see nginx_spec.lua.

local dkjson = require "dkjson"
local uv = require "luv"

local helper = require "spec.helper"
local daemon = require "spec.support.daemon"
local phone = require "spec.support.phone"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local sip = require "spec.support.sip"

if _VERSION ~= "Lua 5.4" or (os.getenv "SIPWIRE_BUILD" or ""):find "asan" then
  return
end

helper.watch()

local function read(path)
  local file = assert(io.open(helper.root .. "/" .. path))
  local text = file:read "*a"
  file:close()
  return text
end

-- What stands in http { } of a configuration.
local function http_of(text, listen)
  local inside = text:match "\nhttp {\n(.*)}%s*$"
  local replaced
  inside = inside:gsub("lua_package_c?path[^\n]*\n", "")
    :gsub("access_log[^\n]*\n", "")
  inside, replaced = inside:gsub("listen " .. listen .. ";",
    "listen 127.0.0.1:PORT;")
  assert(replaced == 1)
  return inside
end

local function stopped(d)
  run.track { close = function() d.process:stop() end }
  return d
end

describe("docs/hosts/nginx.md #slow", function()
  it("has a program that does what the page says", function()
    local program = read "docs/hosts/nginx.md":match "```nginx\n(.-)```"
    local _, lines = program:gsub("\n", "")
    assert(lines <= 20, lines)
    local server = rawpeer.listen {}
    server:each(function(c)
      c:answer_upgrade()
      c:send("text", "answer to " .. c:read_message().payload)
      assert.are.equal(1000, (c:answer_close()))
    end)
    local found
    program, found = program:gsub("ws://127.0.0.1:5066/", server:url())
    assert.are.equal(1, found)
    local d = stopped(daemon.openresty(http_of(program, "127.0.0.1:8080")))
    for i = 1, 3 do
      assert.are.equal("answer to request " .. i,
        (d:ask("/", "POST", "request " .. i):answer()))
    end
  end)
end)

describe("examples/openresty #slow", function()
  local k, folder

  -- Workers are nobody, who cannot read where the certificates are.
  setup(function()
    k = helper.kamailio "NO_AUTH"
    folder = helper.tmpdir()
    assert(uv.fs_copyfile(k.certs .. "/ca.pem", folder .. "/ca.pem"))
    assert(uv.fs_chmod(folder, 493)) -- 755
    assert(uv.fs_chmod(folder .. "/ca.pem", 420)) -- 644
  end)

  local function start(server, timeout)
    local conf = read "examples/openresty/nginx.conf"
    local variables = {}
    for line in conf:gmatch "\n(env .-;)" do
      variables[#variables + 1] = line
    end
    return stopped(daemon.openresty(http_of(conf, "8080"), {
      main = table.concat(variables, "\n"),
      workers = tonumber(conf:match "worker_processes (%d+);"),
      lua_path = "ROOT/examples/openresty/?.lua",
      env = { SIP_SERVER = server, SIP_USER = "sip:gateway@localhost",
        SIP_CA_FILE = folder .. "/ca.pem", SIP_TIMEOUT = timeout },
    }))
  end

  local function json(body, head)
    local value = assert(dkjson.decode(body), body)
    return value, tonumber(head:match "^HTTP/%S+ (%d+)")
  end

  local function status(d)
    local body, head = d:get "/status"
    if head:find " 500" then error(d.process.stderr) end
    return (json(body, head))
  end

  -- Waits until both workers say so.
  local function all_are(d, state)
    run.wait(function()
      local seen = {}
      for _ = 1, 20 do
        local s = status(d)
        seen[s.worker] = s.state
        if seen[0] == state and seen[1] == state then return true end
      end
    end, 8, state .. " in both workers\n" .. d.process.stderr)
  end

  local function post(d, to, text)
    return json(d:ask("/message?to=" .. to, "POST", text):answer(8))
  end

  it("sends messages to Kamailio over wss and tells its answers", function()
    local d = start(k:secure_url())
    all_are(d, "Connected")
    local bob = phone.open(k, "ws")
    phone.check_registered(bob:ask(bob.user:register()), bob.user)
    for i = 1, 6 do
      local text = "message " .. i
      local request = d:ask("/message?to=" .. bob.user.uri, "POST", text)
      local came, raw = bob:incoming "MESSAGE"
      assert.are.equal(text, came.body)
      bob.t:send(sip.response(raw, 180, "Later"))
      bob.t:send(sip.response(raw, i % 2 == 0 and 202 or 480, "Reason"))
      local value, code = json(request:answer())
      assert.are.equal(i % 2 == 0 and 202 or 480, code)
      assert.are.same({ status = code, reason = "Reason" }, value)
    end
    local value, code = post(d, "sip:nobody@localhost", "text")
    assert.are.equal(404, code)
    assert.are.equal(404, value.status)
    phone.hang_up(bob)
    local s = status(d)
    assert.are.equal(k:secure_url(), s.server)
    assert.are.equal("number", type(s.stats.messages_out))
  end)

  it("finds the request of each answer, whatever their order", function()
    local d = start(k:secure_url())
    all_are(d, "Connected")
    local bob = phone.open(k, "ws")
    phone.check_registered(bob:ask(bob.user:register()), bob.user)
    local requests, raws = {}, {}
    for i = 1, 8 do
      requests[i] = d:ask("/message?to=" .. bob.user.uri, "POST", tostring(i))
    end
    for _ = 1, 8 do
      local came, raw = bob:incoming "MESSAGE"
      raws[tonumber(came.body)] = raw
    end
    for i = 8, 1, -1 do
      bob.t:send(sip.response(raws[i], 200, "For " .. i))
    end
    for i = 1, 8 do
      assert.are.equal("For " .. i, json(requests[i]:answer()).reason)
    end
    phone.hang_up(bob)
  end)

  it("refuses what it cannot send", function()
    local d = start(k:secure_url())
    local _, code = json(d:get "/message?to=sip:x@localhost")
    assert.are.equal(405, code)
    for _, to in ipairs { "", "tel:123", "sip:a%0D%0AX:%20y@b", "sip:%3Ca@b",
                          "sip:a@b&to=sip:c@d" } do
      _, code = post(d, to, "text")
      assert.are.equal(400, code)
    end
  end)

  it("says 504 without an answer, 503 without a connection", function()
    local server = rawpeer.listen {}
    local connections = {}
    server:each(function(c)
      connections[#connections + 1] = c
      c:answer_upgrade()
    end)
    local d = start(server:url(), "0.05")
    all_are(d, "Connected")
    local _, code = post(d, "sip:x@localhost", "text")
    assert.are.equal(504, code)
    -- it comes again when the connection is lost
    for _, c in ipairs(connections) do c:reset() end
    run.wait(function() return #connections == 4 end, 5, "new connections")
    all_are(d, "Connected")
    server:close()
    for _, c in ipairs(connections) do c:close() end
    all_are(d, "Disconnected")
    _, code = post(d, "sip:x@localhost", "text")
    assert.are.equal(503, code)
  end)

  it("tells waiting requests that the connection is lost", function()
    local server = rawpeer.listen {}
    server:each(function(c)
      local function came() return #c:peek() > 0 or c:ended() end
      run.wait(came, 20, "a client")
      if c:ended() then return end
      c:answer_upgrade()
      run.wait(came, 20, "a frame")
      c:reset()
    end)
    local d = start(server:url(), "20")
    all_are(d, "Connected")
    local value, code = post(d, "sip:x@localhost", "text")
    assert.are.equal(503, code)
    assert.are.equal("reset", value.error:match "^%a+")
    local pids = d:workers()
    uv.kill(d.process.pid, "sigquit")
    run.wait(function()
      return not uv.fs_stat("/proc/" .. pids[1]) and
        not uv.fs_stat("/proc/" .. pids[2])
    end, 2, "the workers' ends")
  end)
end)
