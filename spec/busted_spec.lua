-- SPDX-License-Identifier: MIT
-- sipwire.busted: spec files that a busted of their own runs, good ones and
-- such that must fail, with what it says then.

local helper = require "spec.helper"
local process = require "spec.support.process"

helper.watch()

local LIMIT = 30

-- Runs a spec file; returns TAP's lines of results, and all of its output.
local function busted(text, path)
  local dir = helper.tmpdir()
  if text then
    path = dir .. "/some_spec.lua"
    local file = assert(io.open(path, "w"))
    file:write(text)
    file:close()
  end
  local command = process.lua("/usr/bin/busted", "-o", "TAP", path)
  command.cwd, command.limit, command.as_is = dir, LIMIT, true
  command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  local _, out, err = process.run(command)
  local results = {}
  for verdict in out:gmatch "%f[^\n%z]([no]+[kt ok]*) %d+ %-" do
    results[#results + 1] = verdict
  end
  return results, out .. err
end

local head = [[
local sipwire = require "sipwire"
local specs = require "sipwire.busted"
local it_async, expect = specs.it_async, specs.expect_message
]]

-- A spec body's outcome: "ok" or "not ok", and the output.
local function outcome(body, limit)
  local results, out = busted(head .. ('it_async("spec", function()\n%s\nend%s)')
    :format(body, limit and ", " .. limit or ""))
  assert.equal(1, #results, out)
  return results[1], out
end

local function passes(body)
  return function()
    local verdict, out = outcome(body)
    assert.equal("ok", verdict, out)
  end
end

-- That it fails, and that the output has each of the patterns.
local function fails(body, limit, ...)
  local patterns = { ... }
  return function()
    local verdict, out = outcome(body, limit)
    assert.equal("not ok", verdict, out)
    for _, pattern in ipairs(patterns) do assert.matches(pattern, out) end
  end
end

describe("it_async", function()
  it("runs its body as a task", passes [[
    sipwire.sleep(0.001)
    local server = specs.server(function() return 200 end)
    local c = assert(sipwire.open { server = server.url })
    c:send "OPTIONS sip:a SIP/2.0\r\nVia: x\r\n\r\n"
    assert.equal("SIP/2.0 200 OK\r\nVia: x\r\nContent-Length: 0\r\n\r\n",
      (c:receive(5)))]])

  it("fails with what is raised, and from where", fails([[
    local function deep() sipwire.sleep(0.001) error "broken" end
    deep()]], nil, "some_spec.lua:5: broken", "in .-deep"))

  it("fails with what an assertion says, and from where", fails([[
    sipwire.sleep(0.001)
    assert.equal(1, 2)]], nil, "Expected objects to be equal",
    "some_spec.lua:6:"))

  it("fails with what a callback raises", fails([[
    sipwire.timer(0.001, function() error "in a timer" end)
    sipwire.sleep(5)]], nil, "error in timer: .*some_spec.lua:5: in a timer"))

  it("fails when its time is over", fails("sipwire.sleep(60)", 0.05,
    "the spec did not end within 0.05 s"))

  it("lets its body close the loop", passes [[
    local server = specs.server {}
    local c = assert(sipwire.open { server = server.url })
    assert(c.transport.loop:close())]])

  it("fails when a callback closes the loop under it", fails([[
    local t = sipwire.new { server = "ws://127.0.0.1:1" }
    sipwire.timer(0, function() t.loop:close() end)
    sipwire.sleep(60)]], nil, "closed before the spec ended"))

  it("leaves nothing to the next spec, and what is older alone", function()
    local results, out = busted(head .. [[
      local loop = require "sipwire.loop".default()
      local old = assert(sipwire.listen { on_connection = function() end })
      local older = sipwire.timer(600, print)
      local t, peer, left, fired
      it_async("leaves all sorts of things", function()
        local server = assert(sipwire.listen { on_connection = function(p)
          peer = p
        end })
        t = sipwire.new { server = server.url }
        t:connect()
        specs.run_until(function() return peer and t:is_connected() end)
        local waits
        sipwire.spawn(function()
          local c = assert(sipwire.open { server = old.url })
          waits = true
          c:receive() -- until it is disposed
          fired = "receiver"
        end)
        specs.run_until(function() return waits end)
        sipwire.timer(0.001, function() fired = "timer" end)
        sipwire.defer(function() fired = "defer" end)
        sipwire.spawn(function() sipwire.sleep(0.001) fired = "task" end)
        left = server
        if t then error "and fails" end
      end)
      it_async("finds none", function()
        sipwire.sleep(0.02)
        assert.is_nil(fired)
        assert.is_nil(next(loop._live))
        local own = next(loop._tasks)
        assert.is_nil(next(loop._tasks, own))
        assert.equal("Disconnected", t.state)
        assert.matches("disposed", tostring(t))
        assert.matches("disposed", tostring(peer))
        local c, _, code = sipwire.open { server = left.url }
        assert.same({ nil, "refused" }, { c, code })
        assert(sipwire.open { server = old.url })
        assert.truthy(older._tag)
      end)
      it_async("has a loop that still works", function()
        local deferred
        sipwire.defer(function() deferred = true end)
        specs.run_until(function() return deferred end)
      end)]])
    assert.same({ "not ok", "ok", "ok" }, results, out)
  end)
end)

describe("run_until", function()
  it("returns what the condition returned", passes [[
    local n = 0
    assert.equal("third", specs.run_until(function()
      n = n + 1
      return n == 3 and "third"
    end))]])

  it("says what was waited for", fails([[
    specs.run_until(function() end, 0.01, "Godot")]], nil,
    "some_spec.lua:5: not within 0.01 s: Godot"))

  it("says where the condition is if it was not told what it is", fails([[
    specs.run_until(function() end, 0.01)]], nil,
    "not within 0.01 s: the condition of .*some_spec.lua:5"))

  it("turns the loop in specs that are no tasks", function()
    local results, out = busted(head .. [[
      it("plain", function()
        local fired
        sipwire.timer(0.01, function() fired = true end)
        specs.run_until(function() return fired end)
        assert.has_error(function()
          specs.run_until(function() return false end, 0.01, "never")
        end)
      end)]])
    assert.same({ "ok" }, results, out)
  end)
end)

describe("expect_message", function()
  -- A server that says "one", "two" and "three 3" to everybody.
  local three = [[
    local server = assert(sipwire.listen { on_connection = function(peer)
      for _, word in ipairs { "one", "two", "three 3" } do peer:send(word) end
    end })
    local c = assert(sipwire.open { server = server.url })
  ]]

  it("returns message and captures, keeping what it passes by", passes(three .. [[
    assert.same({ "three 3", "three", "3" }, { expect(c, "^(t%a+) (%d)$") })
    assert.same({ "one", "one" }, { expect(c, "one") })
    assert.same({ "two", 3 }, { expect(c, function(m)
      return m == "two" and #m
    end) })]]))

  it("says what came instead, in time", fails(three .. [[
    expect(c, "four", 0.05)]], 2, "no message that matches 'four': " ..
    "not within 0.05 s; these came instead:", "1%. one %(3 bytes%)",
    "3%. three 3 %(7 bytes%)", "some_spec.lua:9:"))

  it("is not held up by what keeps coming", fails([[
    local server = assert(sipwire.listen { on_connection = function(peer)
      local function again()
        if peer:is_connected() then
          peer:send "no"
          sipwire.timer(0.01, again)
        end
      end
      again()
    end })
    expect(assert(sipwire.open { server = server.url }), "yes", 0.1)]], 2,
    "not within 0.1 s; these came instead"))

  it("says when the connection ended", fails([[
    local server = specs.server { { close = true } }
    local c = assert(sipwire.open { server = server.url })
    c:send "x"
    expect(c, "y", 5)]], 2, "matches 'y': closed: .*no message came"))
end)

describe("a scripted server", function()
  local request = [[
    local request = "INVITE sip:b SIP/2.0\r\nVia: one\r\nv: two\r\n" ..
      "From: a;tag=1\r\nTo: b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n" ..
      "Max-Forwards: 70\r\n\r\n"
    local function open(server)
      return assert(sipwire.open { server = server.url })
    end
  ]]

  it("makes its steps one after the other", passes(request .. [[
    local server = specs.server {
      { expect = "INVITE sip:b", reply = 100 },
      { reply = 180, headers = { "X: y" }, body = "body", reason = "Ding" },
      { expect = function(text) return #text > 9 end, reply = "raw", delay = 0.02 },
      { expect = "INVITE" },
      { expect = "INVITE", reply = function(text) return #text end },
    }
    local c = open(server)
    for _ = 1, 3 do c:send(request) end
    assert.equal("SIP/2.0 100 Trying\r\nVia: one\r\nv: two\r\nFrom: a;tag=1\r\n" ..
      "To: b\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n",
      (c:receive(5)))
    assert.matches("^SIP/2.0 180 Ding\r\n.*To: b;tag=%w+\r\n.*\r\nX: y\r\n" ..
      "Content%-Length: 4\r\n\r\nbody$", (c:receive(5)))
    assert.equal("raw", (c:receive(5)))
    c:send(request)
    assert.equal("timeout", select(3, c:receive(0.02)))
    c:send(request)
    specs.run_until(function() return #server.received == 5 end)
    assert.equal(request, server.received[5])
    server:send "hello"
    expect(c, "^hello$")]]))

  it("fails the spec when something else comes", fails(request .. [[
    local server = specs.server { { expect = "REGISTER", reply = 200 } }
    open(server):send(request)
    specs.run_until(function() return server.received[1] end)]], nil,
    "the scripted server: 1%. expected REGISTER, got INVITE sip:b SIP/2.0"))

  it("fails the spec when too much comes", fails(request .. [[
    local server = specs.server {}
    open(server):send(request)
    specs.run_until(function() return server.received[1] end)]], nil,
    "not expected any more: INVITE sip:b"))

  it("fails the spec when too little comes", fails([[
    specs.server { { expect = "REGISTER" } }]], nil,
    "the scripted server still expected: 1%. REGISTER"))

  it("asks a function, whose assertions count", fails(request .. [[
    local server = specs.server(function(text, peer)
      assert.equal("Connected", peer.state)
      assert.equal("BYE", text:match "^%a+")
    end)
    local c = open(server)
    c:send(request)
    c:receive(5)]], 3, "error in on_message: .*Expected objects to be equal",
    "%(string%) 'INVITE'"))

  it("closes connections", passes(request .. [[
    local server = specs.server(function() return { close = true } end)
    local c = open(server)
    c:send(request)
    local _, _, code, info = c:receive(5)
    assert.same({ "closed", 1000 }, { code, info.close_code })
    local other = open(server)
    server:close()
    assert.equal("closed", select(3, other:receive(5)))]]))
end)

describe("examples/specs", function()
  it("pass", function()
    local results, out = busted(nil, helper.root ..
      "/examples/specs/register_spec.lua")
    assert.same({ "ok", "ok" }, results, out)
  end)
end)
