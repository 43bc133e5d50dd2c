-- SPDX-License-Identifier: MIT
-- sipwire.cqueues: coroutines of cqueues that wait for sipwire, beside an HTTP
-- server of lua-http; errors. Each spec is a program of its own.

local helper = require "spec.helper"
local page = require "spec.support.page"
local process = require "spec.support.process"
local program = require "spec.support.program"
local sipwire = require "sipwire"
local uv = require "luv"

local prints = program.prints

helper.watch()

program.head = [[
  -- Debian's lua-http is in three folders; it runs on all Luas.
  package.path = package.path .. ";/usr/share/lua/5.3/?.lua;" ..
    "/usr/share/lua/5.1/?.lua"
  local cqueues, sipwire = require "cqueues", require "sipwire"
  local controller = cqueues.new()
  local attach = require "sipwire.cqueues".attach
  local function listen()
    return assert(sipwire.listen { on_connection = function(peer)
      peer.on_message = function(_, message) peer:send(message:upper()) end
    end })
  end
]]

describe("sipwire.cqueues", function()
  it("lets coroutines wait as tasks do", prints([[
HELLO	false
nil	timeout: no message within 0.01 s	timeout
slept
true
nil	closed: the connection was closed here	closed
end	true
]], [[
    attach(controller)
    local server = listen()
    controller:wrap(function()
      local c = assert(sipwire.open { server = server.url })
      assert(c:send "hello")
      print(c:receive(5))
      print((function(a, b, code) return a, b, code end)(c:receive(0.01)))
      sipwire.sleep(0.01)
      print "slept"
      print(c:close())
      print((function(a, b, code) return a, b, code end)(c:receive()))
      server:close()
    end)
    print("end", controller:loop())]]))

  it("tells why a connection could not be opened", prints("nil refused tcp\n", [[
    attach(controller)
    controller:wrap(function()
      local c, _, code, info = sipwire.open { server = "ws://127.0.0.1:1" }
      print(tostring(c) .. " " .. code .. " " .. info.phase)
    end)
    assert(controller:loop())]]))

  it("has all who wait for one connection served in turn", prints("A1B2\n", [[
    attach(controller)
    local server, got = listen(), {}
    controller:wrap(function()
      local c = assert(sipwire.open { server = server.url })
      for i, word in ipairs { "a", "b" } do
        controller:wrap(function()
          local message = assert(c:receive(5))
          got[#got + 1] = message .. i
          if #got == 2 then
            c:close()
            server:close()
          end
        end)
        cqueues.sleep(0.01) -- it waits
      end
      c:send "a"
      c:send "b"
    end)
    assert(controller:loop())
    table.sort(got) -- cqueues resumes them as it likes
    print(table.concat(got))]]))

  it("lets a controller inside another one wait", prints("HELLO\n", [[
    attach(controller)
    local server, inner = listen(), cqueues.new()
    inner:wrap(function()
      local c = assert(sipwire.open { server = server.url })
      c:send "hello"
      print((c:receive(5)))
      c:close()
      server:close()
    end)
    controller:wrap(function() assert(inner:loop()) end)
    assert(controller:loop())]]))

  it("wakes those who wait when their connection ends", prints("closed\n", [[
    attach(controller)
    local server = assert(sipwire.listen { on_connection = function(peer)
      peer:disconnect()
    end })
    controller:wrap(function()
      local c = assert(sipwire.open { server = server.url })
      print((select(3, c:receive())))
      server:close()
    end)
    assert(controller:loop())]]))

  it("refuses to wait in a callback, which all would wait for",
    prints(("sleep() outside a task: use spawn() or run(main)\n"):rep(2), [[
    attach(controller)
    local function try()
      local _, err = pcall(sipwire.sleep, 1)
      print((err:gsub("^stdin:%d+: ", "")))
    end
    sipwire.timer(0.01, function()
      try()
      coroutine.wrap(try)()
    end)
    assert(controller:loop())]]))

  it("still runs tasks, and callbacks that start coroutines",
    prints("task\ncoroutine\n", [[
    attach(controller)
    sipwire.spawn(function()
      sipwire.sleep(0.01)
      print "task"
      controller:wrap(function() cqueues.sleep(0.01) print "coroutine" end)
    end)
    assert(controller:loop())]]))

  it("goes on when there is something again", prints("one\ntrue\ntwo\ntrue\n", [[
    attach(controller)
    for _, word in ipairs { "one", "two" } do
      sipwire.timer(0.01, function() print(word) end)
      print((controller:loop()))
    end]]))

  for _, left in ipairs {
    "sipwire.timer(600, print)", "listen()", "listen() left:close() left = " ..
      "sipwire.timer(600, print)" } do
    it("ends when a coroutine ends what is left: " .. left, prints("true\n", [[
      attach(controller)
      local left = ]] .. left .. [[

      controller:wrap(function()
        cqueues.sleep(0.01);
        (left.stop or left.close)(left)
      end)
      print((controller:loop()))]]))
  end

  it("ends when a coroutine closes the loop", prints("true\n", [[
    local loop = attach(controller, sipwire.loop())
    loop:timer(600, print)
    controller:wrap(function() cqueues.sleep(0.01) loop:close() end)
    print((controller:loop()))]]))

  it("wakes those who wait when their loop is closed", prints([[
closed: the loop was closed
true
nil	disposed: the transport was disposed
]], [[
    local loop, server = attach(controller), listen()
    local c, message, err
    controller:wrap(function()
      c = assert(sipwire.open { server = server.url })
      message, err = c:receive()
    end)
    controller:wrap(function() sipwire.sleep(600) end)
    controller:wrap(function()
      while not c do cqueues.sleep(0.001) end
      cqueues.sleep(0.01)
      loop:close()
    end)
    print((select(2, controller:loop()):match "closed: .*"))
    print((controller:loop()))
    print(message, err)]]))

  it("takes controllers and loops only, a loop once", prints([[
controller must be one of cqueues.new()
loop must be a sipwire loop, not number
the loop is driven by cqueues already
the same true
]], [[
    local loop = attach(controller)
    for _, given in ipairs { {}, { controller, 1 }, { cqueues.new() } } do
      local _, err = pcall(function() attach(given[1], given[2]) end)
      print((err:gsub("^stdin:%d+: ", "")))
    end
    print("the same " .. tostring(attach(controller) == loop))]]))

  describe("and an error in a callback:", function()
    it("on_error gets it, and all goes on", prints("timer: oops\nmore\n", [[
      local loop = attach(controller)
      loop.on_error = function(err, _, name)
        print(name .. ": " .. err:match "[^\n]*")
      end
      sipwire.timer(0.01, function() error("oops", 0) end)
      sipwire.timer(0.02, function() print "more" end)
      assert(controller:loop())]]))

    it("without on_error controller:loop() returns it, once", function()
      local code, out, err = program.run [[
        attach(controller)
        sipwire.timer(0.01, function() error "oops" end)
        sipwire.timer(0.02, function() print "more" end)
        local ok, why = controller:loop()
        print(ok and true or false, why)
        print(controller:loop())]]
      assert.same({ 0, "false\tsipwire.cqueues: a callback failed, see above\n" ..
        "more\ntrue\n" }, { code, out })
      assert.matches("^sipwire: error in timer: stdin:%d+: oops\nstack trace",
        err)
    end)
  end)
end)

describe("the page of cqueues", function()
  local function curl(url, body)
    return process.run { "curl", "-s", "-m", "10", "-w", " %{http_code}",
      "--data-binary", body, url, limit = 20 }
  end

  -- Whether somebody listens there.
  local function accepts(port)
    local tcp, refused = uv.new_tcp(), nil
    tcp:connect("127.0.0.1", port, function(err) refused = err or false end)
    helper.run_until(function() return refused ~= nil end)
    tcp:close()
    return not refused
  end

  local function gateway(url)
    local free = uv.new_tcp()
    free:bind("127.0.0.1", 0)
    local port = free:getsockname().port
    free:close()
    local p = program.start(page.blocks("docs/hosts/cqueues.md", "lua")[1], url,
      port)
    helper.run_until(function() return accepts(port) end, 10, "the gateway")
    return p, "http://127.0.0.1:" .. port .. "/"
  end

  it("has a gateway that passes SIP on and waits meanwhile", function()
    local held
    local server = assert(sipwire.listen { on_connection = function(peer)
      peer.on_message = function(_, message)
        if message == "hold" then
          held = peer
        else
          peer:send(message:upper())
          if held then held:send "at last" end
        end
      end
    end })
    local p, url = gateway(server.url)
    -- the first request waits until the second one was served
    local first = process.spawn { "curl", "-sS", "-m", "5", "--data-binary",
      "hold", url }
    helper.run_until(function() return held end, 10, function()
      return "the first request: " .. p.stderr .. first.stderr
    end)
    local code, out = curl(url, "hello")
    assert.same({ 0, "HELLO 200" }, { code, out }, p.stderr)
    assert.equal("at last", first:output(10))
    server:close()
    code, out = curl(url, "hello")
    assert.equal(0, code)
    assert.matches("^refused: .* 502$", out)
    p:stop()
  end)
end)
