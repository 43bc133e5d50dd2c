-- SPDX-License-Identifier: MIT
-- sipwire.luv: how long uv.run() lasts, and what it does about errors. Each
-- spec is a program of its own, as its module hooks the default loop for good.

local helper = require "spec.helper"
local page = require "spec.support.page"
local program = require "spec.support.program"

local prints = program.prints

helper.watch()

program.head = [[
  local uv, sipwire = require "luv", require "sipwire"
  local function listen()
    return assert(sipwire.listen { on_connection = function(peer)
      peer.on_message = function(_, message) peer:send(message:upper()) end
    end })
  end
  local function after(ms, fn)
    local timer = uv.new_timer()
    timer:start(ms, 0, function() timer:stop() fn() end)
  end
]]

describe("sipwire.luv", function()
  it("has a page whose program runs", function()
    local code, out, err = program.run(page.blocks("docs/hosts/luv.md", "lua")[1])
    assert.same({ 0, "" }, { code, err })
    assert.matches("^%.[%.]*HELLO\tfalse\n%.[%.]+$", out)
  end)

  it("drives a default loop that is older", prints("timer\n", [[
    sipwire.timer(0.01, function() print "timer" end)
    require "sipwire.luv"
    uv.run()]]))

  it("drives a default loop that is younger, and the one after it",
    prints("one\ntwo\n", [[
    require "sipwire.luv"
    sipwire.timer(0.01, function() print "one" end)
    uv.run()
    require "sipwire.loop".default():close()
    sipwire.timer(0.01, function() print "two" end)
    uv.run()]]))

  it("lets uv.run() return at once when there is nothing", prints("false\n", [[
    require "sipwire.luv".attach()
    print(uv.run())]]))

  describe("keeps uv.run() going while there is", function()
    it("a task that waits for a message", prints("HELLO\nend\n", [[
      require "sipwire.luv"
      local server = listen()
      sipwire.spawn(function()
        local c = assert(sipwire.open { server = server.url })
        c:send "hello"
        print((c:receive(5)))
        c:close()
        server:close()
      end)
      uv.run()
      print "end"]]))

    it("a transport that is not Disconnected", prints("Disconnected\n", [[
      require "sipwire.luv"
      local server = listen()
      local t = sipwire.new { server = server.url }
      t:connect(function()
        server:close()
        after(30, function() t:disconnect() end)
      end)
      uv.run()
      print(t.state)]]))

    it("what luv's last callback began", prints("timer\n", [[
      require "sipwire.luv"
      after(1, function() sipwire.timer(0.01, function() print "timer" end) end)
      uv.run()]]))

    -- libuv closes handles last, when it has looked at everything else
    it("what the last handle's close callback began", prints("done\n", [[
      require "sipwire.luv"
      local timer = uv.new_timer()
      timer:start(1, 0, function()
        timer:close(function()
          sipwire.new { server = "ws://127.0.0.1:1" }:disconnect(function()
            print "done"
          end)
        end)
      end)
      uv.run()]]))
  end)

  describe("does not keep uv.run() going", function()
    it("for a timer that luv's callback stopped", prints("end\n", [[
      require "sipwire.luv"
      local timer = sipwire.timer(600, print)
      after(10, function() timer:stop() end)
      uv.run()
      print "end"]]))

    it("for a listener that luv's callback closed", prints("end\n", [[
      require "sipwire.luv"
      local server = listen()
      after(10, function() server:close() end)
      uv.run()
      print "end"]]))

    it("for a transport that luv's callback disposed", prints("end\n", [[
      require "sipwire.luv"
      local server = listen()
      local t = sipwire.new { server = server.url }
      t:connect()
      after(10, function() t:dispose() server:close() end)
      uv.run()
      print "end"]]))

    it("for a loop that luv's callback closed", prints("end\n", [[
      local loop = require "sipwire.luv".attach()
      sipwire.timer(600, print)
      after(10, function() loop:close() end)
      uv.run()
      print "end"]]))

    it("for what run() finished", prints("ran\nend\n", [[
      require "sipwire.luv"
      assert(sipwire.run(function() sipwire.sleep(0.01) print "ran" end))
      uv.run()
      print "end"]]))

    it("for what step() finished", prints("fired\nend\n", [[
      local loop, fired = require "sipwire.luv".attach(), nil
      loop:timer(0.01, function() fired = true end)
      while not fired do loop:step(0.1) end
      print "fired"
      uv.run()
      print "end"]]))
  end)

  it("goes on where uv.stop() ended it", prints("stopped\ntimer\n", [[
    require "sipwire.luv"
    sipwire.timer(0.03, function() print "timer" end)
    after(1, uv.stop)
    uv.run()
    print "stopped"
    uv.run()]]))

  it("ticks each loop once per wake-up, however often it is attached",
    prints("1 1\n2 1\n", [[
    for i = 1, 2 do
      local loop, ticks = sipwire.loop(), 0
      local step = loop.step
      rawset(loop, "step", function(...) ticks = ticks + 1 return step(...) end)
      for _ = 1, 2 do
        assert(require "sipwire.luv".attach(loop) == loop)
        package.loaded["sipwire.luv"] = nil
      end
      uv.run "nowait"
      ticks = 0
      loop:defer(function() print(i .. " " .. ticks) end)
    end
    uv.run()]]))

  it("leaves a loop that is detached to its run()", prints("end\nran\n", [[
    local luv = require "sipwire.luv"
    local loop = luv.attach(sipwire.loop())
    loop:timer(0.01, function() print "ran" end)
    luv.detach(loop)
    luv.detach(loop)
    uv.run()
    print "end"
    loop:run()]]))

  it("survives uv.run() inside a callback, and goes on after it",
    prints("inner\nouter\nlater\n", [[
    require "sipwire.luv"
    sipwire.timer(0.01, function()
      sipwire.defer(function() print "later" end)
      after(5, function() print "inner" end)
      uv.run()
      print "outer"
    end)
    uv.run()]]))

  it("survives that others close its handle", prints("again\n", [[
    local loop = require "sipwire.luv".attach()
    uv.run "nowait"
    uv.walk(function(handle) handle:close() end)
    uv.run()
    sipwire.timer(0.01, function() print "again" end)
    uv.run()
    loop:close()]]))

  it("lets go of a loop that was closed", prints("0\n", [[
    local seen = setmetatable({}, { __mode = "k" })
    for _ = 1, 3 do
      local loop = require "sipwire.luv".attach(sipwire.loop())
      seen[loop] = true
      loop:close()
    end
    for _ = 1, 4 do collectgarbage() uv.run() end
    local count = 0
    for _ in pairs(seen) do count = count + 1 end
    print(count)]]))

  it("takes loops only, and only those that no other host has", prints([[
loop must be a sipwire loop, not number
disposed: the loop is closed
the loop is driven by cqueues already
]], [[
    local luv = require "sipwire.luv"
    local closed, taken = sipwire.loop(), sipwire.loop()
    closed:close()
    require "sipwire.cqueues".attach(require "cqueues".new(), taken)
    for _, loop in ipairs { 1, closed, taken } do
      local _, err = pcall(function() luv.attach(loop) end)
      print((err:gsub("^stdin:%d+: ", "")))
    end]]))

  describe("and an error in a callback:", function()
    it("on_error gets it, and all goes on", prints("timer: oops\nmore\n", [[
      local loop = require "sipwire.luv".attach()
      loop.on_error = function(err, _, name)
        print(name .. ": " .. err:match "[^\n]*")
      end
      sipwire.timer(0.01, function() error("oops", 0) end)
      sipwire.timer(0.02, function() print "more" end)
      uv.run()]]))

    it("without on_error it ends the program as luv's own do", function()
      local code, out, err = program.run [[
        require "sipwire.luv"
        sipwire.timer(0.01, function() error "oops" end)
        sipwire.defer(function() print "before" end)
        uv.run()
        print "not reached"]]
      assert.same({ 255, "before\n" }, { code, out })
      assert.matches("^sipwire: error in timer: stdin:%d+: oops\nstack trace",
        err)
      assert.matches("\nUncaught Error: sipwire.luv: a callback failed", err)
    end)
  end)
end)
