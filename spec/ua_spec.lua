-- SPDX-License-Identifier: MIT
-- User agents as objects: how they are made, several of them, who gets which
-- request, flows and functions that raise.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local sip_peer = require "spec.support.sip_peer"

helper.watch()

local run_until = helper.run_until

local w
local function open(options)
  w = sip_peer.open(options)
  return w
end
-- What the loop's handler is told while fn runs, as one text.
local function errors_of(fn)
  local _, err = pcall(function()
    fn()
    run_until(function() return false end, 2, "an error")
  end)
  return err
end

sip_peer.describe("a user agent", function()
  it("is loaded when it is first asked for", function()
    local code = [[
      local sipwire = require "sipwire"
      for name in pairs(package.loaded) do
        assert(not name:find "^sipwire%.sip" and not name:find "^sipwire%.ua",
          name)
      end
      assert(sipwire.nothing == nil)
      assert(sipwire.ua == require "sipwire.ua")
      assert(sipwire.sip == require "sipwire.sip")
      assert(rawget(sipwire, "ua"))
      io.write "good"]]
    local process = require "spec.support.process"
    local command = process.lua("-e", code)
    command.as_is, command.cwd = true, helper.root
    command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
    local status, out, err = process.run(command)
    assert.same({ 0, "good", "" }, { status, out, err })
  end)

  it("wants right options, at the caller's line", function()
    open()
    for _, case in ipairs {
      { nil, "the options must be a table, not nil" },
      { {}, "option 'aor' is required" },
      { { aor = 1 },
        "option 'aor' must be a string without control characters" },
      { { aor = "alice" }, "option 'aor': " },
      { { aor = "sip:x@y\r\n" },
        "option 'aor' must be a string without control characters" },
      { { aor = "sip:x@y", pasword = "z" },
        "unknown option 'pasword', did you mean 'password'?" },
      { { aor = "sip:y", password = "z" },
        "option 'username' is required: the aor names no user" },
      { { aor = "sip:x@y", t1 = 0 }, "option 't1' must be 0.001 to 60" },
      { { aor = "sip:x@y", ha1 = "zz" },
        "option 'ha1' must be hex, or a table of hex by the hash's name" },
      { { aor = "sip:x@y", route = "sip:z" },
        "option 'route' must be a table, not string" },
      { { aor = "sip:x@y", contact = "<sip:z>" }, "option 'contact': " },
    } do
      local _, err = pcall(function() sipwire.ua(w.c, case[1]) end)
      assert.matches("^spec/ua_spec%.lua:%d+: ",
        (err:gsub("^.*/spec/", "spec/")))
      assert.matches(case[2], err, 1, true)
    end
    assert.has_error(function() sipwire.ua(nil, { aor = "sip:x@y" }) end,
      "a user agent needs a connection, not nil")
  end)

  it("tells mistakes of its callers", function()
    open()
    assert.equal("sipwire.ua: sip:alice@example.org", tostring(w.ua))
    for text, fn in pairs {
      ["request(): INVITE is sent by calls, see invite()"] = function()
        w.ua:request("INVITE", { uri = "sip:x" })
      end,
      ["on(): the method must be a name, not nil"] = function()
        w.ua:on(nil, print)
      end,
      ["unknown field 'on_strai', did you mean 'on_stray'?"] = function()
        w.ua.on_strai = print
      end,
      ["receive() outside a task: use spawn() or run(main)"] = function()
        w.ua:receive()
      end,
      ["request() outside a task: use spawn() or run(main)"] = function()
        w.ua:request("OPTIONS", { uri = "sip:x" })
      end,
    } do
      local ok, err = pcall(fn)
      assert.is_false(ok)
      assert.matches(text, err, 1, true)
    end
    for _, fn in ipairs { function() w.ua:request("OPTIONS", { uri = "x" }) end,
      function() w.ua:invite "no uri" end,
      function() w.ua.on_stray = 1 end } do
      assert.has_error(fn)
    end
    w:nothing() -- nothing was sent
  end)

  it("reads all messages of its connection", function()
    open()
    local flow = w:go(function()
      local _, err = pcall(w.c.receive, w.c, 0)
      return err
    end)
    assert.matches("messages of this connection go to its user agent",
      w:finish(flow))
  end)

  it("gets what came before it was made, in order", function()
    open()
    local c = w:finish(w:go(function()
      return (assert(sipwire.open { server = w.listener.url }))
    end))
    run_until(function() return w.peer.state end)
    local late = w.peer
    for i = 1, 3 do
      w:request("MESSAGE", { uri = "sip:dave@x", body = tostring(i) })
    end
    run_until(function() return c._last == 3 end)
    local dave = sipwire.ua(c, { aor = "sip:dave@x" })
    for i = 1, 3 do
      local req = w:finish(w:call(dave, "receive", 5))
      assert.equal(tostring(i), req.body)
      w:finish(w:call(req, "reply", 200))
      w:take(200)
    end
    late:disconnect()
    local _, _, code = w:finish(w:call(dave, "receive", 5))
    assert.equal("closed", code)
  end)

  it("may be one of several: requests go to whom they are for", function()
    open()
    local carol = w:agent { aor = "sip:carol@example.org" }
    local carla = w:agent { aor = "sip:carol@example.com" }
    local got = {}
    for name, ua in pairs { alice = w.ua, carol = carol, carla = carla } do
      ua:on("MESSAGE", function(req)
        got[#got + 1] = name
        req:reply(200)
      end)
    end
    for _, case in ipairs {
      { carol.contact:match "<(.-)>", nil, "carol" },
      { w.ua.contact:match "<(.-)>", "<sip:carol@example.org>", "alice" },
      { "sip:carol@EXAMPLE.com", nil, "carla" },
      { "sip:1.2.3.4", "<sip:carol@example.org>", "carol" },
    } do
      w:request("MESSAGE", { uri = case[1], to = case[2] })
      w:take(200)
      assert.equal(case[3], got[#got])
    end
    w:request("MESSAGE", { uri = "sip:dave@example.org", to = "<sip:dave@x>" })
    w:take(404)
  end)

  it("may sit on a transport, and goes on after it connects again", function()
    open()
    local t = sipwire.new { server = w.listener.url }
    local ua = sipwire.ua(t, { aor = "sip:tom@x" })
    for _ = 1, 2 do
      local connected
      t:connect(function(err) connected = err or true end)
      run_until(function() return connected end)
      local _, _, code = w:finish(w:call(ua, "receive", 0))
      assert.equal("timeout", code)
      local flow = w:call(ua, "request", "OPTIONS", { uri = "sip:x" })
      w:answer(w:take "OPTIONS", 200)
      assert.equal(200, w:finish(flow).status)
      flow = w:call(ua, "receive", 5)
      w:request("MESSAGE", { uri = "sip:tom@x" })
      local req = w:finish(flow)
      assert.equal("MESSAGE", req.method)
      w:finish(w:call(req, "reply", 200))
      w:take(200)
      flow = w:call(ua, "receive", 5)
      run_until(function() return #ua._inbox.waiters == 1 end)
      t:disconnect()
      local _, err
      _, err, code = w:finish(flow)
      assert.same({ "closed: the connection was closed here", "closed" },
        { err, code })
      run_until(function() return t.state == "Disconnected" end)
    end
    local _, _, code = w:finish(w:call(ua, "request", "OPTIONS",
      { uri = "sip:x" }))
    assert.equal("closed", code)
    t:dispose()
    _, _, code = w:finish(w:call(ua, "request", "OPTIONS", { uri = "sip:x" }))
    assert.equal("disposed", code)
  end)

  it("ends with its transport", function()
    open()
    local flow = w:call(w.ua, "receive")
    run_until(function() return #w.ua._inbox.waiters == 1 end)
    w.c.transport:dispose()
    local _, err, code = w:finish(flow)
    assert.same({ "disposed: the transport was disposed", "disposed" },
      { err, code })
  end)
end)

sip_peer.describe("a function set by on()", function()
  it("runs as a task that may wait, for each request one", function()
    open { patience = 0 }
    local order = {}
    w.ua:on("MESSAGE", (helper.counted(function(req)
      order[#order + 1] = "begin " .. req.body
      if req.body == "1" then
        sipwire.sleep(0.02)
      end
      order[#order + 1] = "end " .. req.body
      req:reply(200)
    end, 2)))
    w:request("MESSAGE", { body = "1" })
    w:request("MESSAGE", { body = "2" })
    w:take(200)
    w:take(200)
    assert.same({ "begin 1", "begin 2", "end 2", "end 1" }, order)
    w.ua:on("MESSAGE", nil)
    w.ua:on("INFO", helper.never())
    w:request "MESSAGE"
    w:take(405)
  end)

  it("that raises has its request answered 500, others go on", function()
    open()
    w.ua:on("MESSAGE", function(req)
      if req.body ~= "bad" then return assert(req:reply(200)) end
      assert(nil, "no such thing")
    end)
    local err = errors_of(function() w:request("MESSAGE", { body = "bad" }) end)
    assert.matches("no such thing", err)
    w:take(500)
    w:request("MESSAGE", { body = "good" })
    w:take(200)
    -- one that had answered already
    w.ua:on("INFO", function(req)
      req:reply(200)
      error "too late"
    end)
    err = errors_of(function() w:request "INFO" end)
    assert.matches("too late", err)
    w:take(200)
    w:nothing()
  end)
end)

sip_peer.describe("requests()", function()
  local puc51 = _VERSION == "Lua 5.1" and not rawget(_G, "jit")

  it("iterates where Lua can wait in a loop, and ends with the connection",
    function()
      open()
      local flow = w:go(function()
        local bodies = {}
        for req in w.ua:requests() do
          bodies[#bodies + 1] = req.body
          req:reply(200)
        end
        return bodies
      end)
      if puc51 then
        local _, err = pcall(run_until, function() return false end, 2)
        return assert.matches("cannot wait on this Lua: use receive", err)
      end
      for i = 1, 3 do
        w:request("MESSAGE", { body = tostring(i) })
        w:take(200)
      end
      w.peer:disconnect()
      assert.same({ "1", "2", "3" }, w:finish(flow))
    end)
end)

sip_peer.describe("a flow", function()
  it("gives what its function returns", function()
    open()
    local results = { w:finish(w:go(function()
      return sipwire.ua.flow(function(...)
        sipwire.sleep(0)
        return select("#", ...), nil, ...
      end, "a", nil):wait()
    end)) }
    assert.same({ true, 2, nil, "a" }, results)
  end)

  it("that raises fails alone, with its words as the cause", function()
    open()
    local outcome = w:finish(w:go(function()
      local flows = {
        sipwire.ua.flow(function()
          assert(w.ua:request("OPTIONS", { uri = "sip:x", timeout = 0.01 }))
        end),
        sipwire.ua.flow(function() error { code = 7 } end),
        sipwire.ua.flow(function() coroutine.yield() end),
        sipwire.ua.flow(function()
          sipwire.sleep(0.03)
          return "well"
        end),
      }
      local told = {}
      for i, flow in ipairs(flows) do told[i] = { flow:wait(5) } end
      told.err = flows[1].err
      return told
    end))
    local first, second, third = outcome[1], outcome[2], outcome[4]
    assert.equal("a task may wait only in functions of sipwire", outcome[3][2])
    assert.is_nil(first[1])
    assert.matches("timeout: no final response within 0.01 s", first[2], 1,
      true)
    assert.equal(outcome.err, first[2])
    assert.equal("raised", first[3])
    assert.matches("stack traceback:", first[4].traceback, 1, true)
    assert.equal("raised", second[3])
    assert.same({ true, "well" }, third)
    w:take "OPTIONS"
  end)

  it("is waited for as long as told, by many", function()
    open()
    local flow
    local first = w:go(function()
      flow = sipwire.ua.flow(function() sipwire.sleep(0.05) return 1 end)
      return flow:wait(0.001)
    end)
    local _, err, code = w:finish(first)
    assert.same({ "timeout: not over within 0.001 s", "timeout" },
      { err, code })
    local a, b = w:go(function() return flow:wait() end),
      w:go(function() return flow:wait(5) end)
    assert.same({ true, 1 }, { w:finish(a) })
    assert.same({ true, 1 }, { w:finish(b) })
    assert.has_error(function() sipwire.ua.flow(1) end)
  end)
end)

describe("a transport that had a user agent", function()
  it("can be collected", function()
    local kept = setmetatable({}, { __mode = "v" })
    do
      local t = sipwire.new { server = "ws://127.0.0.1:9/" }
      kept.ua, kept.t = sipwire.ua(t, { aor = "sip:a@b" }), t
    end
    run_until(function()
      collectgarbage()
      return not kept.ua and not kept.t
    end)
  end)
end)
