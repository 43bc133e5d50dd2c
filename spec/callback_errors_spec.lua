-- SPDX-License-Identifier: MIT
-- What callbacks raise reaches on_error and changes nothing else (C47, DESIGN
-- rule 8).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local recorder = require "spec.support.recorder"
local sipwire = require "sipwire"

helper.watch()

-- What is raised and what on_error has to begin with.
local thrown = {
  string = function() error("a string", 0) end,
  position = function() error "a place" end,
  table = function() error(setmetatable({}, {
    __tostring = function() return "a table" end })) end,
  ["nil"] = function() error() end,
  number = function() error(42, 0) end,
  bug = function() local nothing; return nothing.field end,
}
for kind, throw in pairs(thrown) do thrown[kind] = recorder.raising(throw) end
local said = { string = "a string", position = "spec/callback_errors_spec.lua:",
  table = "a table", ["nil"] = "nil", number = "42",
  bug = "spec/callback_errors_spec.lua:" }

-- A client whose loop writes errors down.
local function fixture(options)
  local errors = {}
  local peer = peers.raw()
  options = options or {}
  options.loop = recorder.loop {
    on_error = function(...)
      assert.equal(3, select("#", ...))
      table.insert(errors, { ... })
    end,
  }
  return recorder.client(peer, options), peer, errors
end

local function check(errors, kind, t, name)
  assert.equal(1, #errors)
  local err = errors[1][1]
  assert.equal("string", type(err))
  local begin = said[kind]
  local at = err:find(begin, 1, true)
  assert.truthy(at and at <= 40, err)
  if kind ~= "position" and kind ~= "bug" then assert.equal(1, at) end
  assert.truthy(err:find("stack traceback:", 1, true), err)
  local traceback = err:match "stack traceback:(.*)"
  assert.truthy(traceback:find("callback_errors_spec.lua", 1, true), err)
  assert.equal(t, errors[1][2])
  assert.equal(name, errors[1][3])
  table.remove(errors)
end

local places = {
  { "Connecting", "state_change" }, { "Connected", "state_change" },
  { "up", "on_connect" }, { "c1", "connect completion" },
  { "message m1", "on_message" }, { "s1", "send completion" },
  { "Disconnecting", "state_change" }, { "down", "on_disconnect" },
  { "Disconnected", "state_change" }, { "d1", "disconnect completion" },
}

describe("an error in a callback", function()
  for kind, throw in pairs(thrown) do
    local slow = kind == "string" and "" or " #slow"
    it(("changes nothing, wherever it is raised: %s (C47, rule 8)%s"):format(
      kind, slow), function()
        local r, peer, errors = fixture()
        for _, place in ipairs(places) do
          r:within(place[1], throw)
          r:connect "c1"
          r:connect "c2"
          r:expect "Connecting, Connected, up, c1, c2"
          r:send("s1", "x")
          r:expect "s1"
          peer:send "m1"
          peer:send "m2"
          r:expect "message m1, message m2"
          r:disconnect "d1"
          r:disconnect "d2"
          r:expect "Disconnecting, down, Disconnected, d1, d2"
          check(errors, kind, r.t, place[2])
        end
      end)
  end

  it("does not keep other listeners and requests (C47, rule 8)", function()
    local r, _, errors = fixture()
    r.t.state_change:add_listener(recorder.callback(function(state)
      r:note(state .. "2")
    end))
    r:within("Connected", function(t)
      t:disconnect(r:done "d1")
      thrown.string()
    end)
    r:connect "c1"
    r:expect("Connecting, Connecting2, Connected, Connected2, up, c1, " ..
      "Disconnecting, Disconnecting2, down, Disconnected, Disconnected2, d1")
    check(errors, "string", r.t, "state_change")
  end)

  it("does not free or hold anything (C47)", function()
    local r, _, errors = fixture()
    r:within("c1", thrown.string)
    local peer = peers.raw()
    peer.refuse = true
    local t = sipwire.new { server = peer.url, loop = r.t.loop }
    local weak = setmetatable({ t }, { __mode = "v" })
    t:connect(function() error("the only one", 0) end)
    r:await("an error", function()
      peer:poll()
      return errors[1]
    end)
    assert.equal(t, errors[1][2])
    t, errors[1] = nil, nil
    recorder.drain(3, r.t.loop)
    collectgarbage()
    collectgarbage()
    assert.is_nil(weak[1])
  end)

  for _, what in ipairs { "timer", "defer", "task" } do
    for kind, throw in pairs(thrown) do
      it(("in a %s reaches on_error: %s (C47, rule 8)"):format(what, kind),
        function()
          local r, _, errors = fixture()
          local loop, after = r.t.loop, false
          if what == "timer" then loop:timer(0, throw) end
          if what == "defer" then loop:defer(throw) end
          if what == "task" then loop:spawn(throw) end
          loop:defer(function() after = true end)
          r:await("both", function() return after and errors[1] end)
          check(errors, kind, nil, what)
          r:up()
          r:down()
        end)
    end
  end

  it("in trace names the transport (C47)", function()
    local r, peer, errors = fixture { trace = thrown.string }
    r:up()
    r:send("s1", "x")
    r:expect "s1"
    check(errors, "string", r.t, "trace")
    peer:send "m1"
    r:expect "message m1"
    check(errors, "string", r.t, "trace")
    r:down()
  end)

  it("on the listening side refuses or is only told (C47)", function()
    local errors, accepted = {}, nil
    local loop = recorder.loop {
      on_error = function(...) table.insert(errors, { ... }) end,
    }
    local bad = true
    local listener = sipwire.listen {
      loop = loop,
      on_request = function()
        if bad then thrown.string() end
      end,
      on_connection = function(t)
        accepted = t
        thrown.string()
      end,
    }
    local r = recorder.new(sipwire.new { server = listener.url, loop = loop })
    r:connect "c1"
    r:expect "Connecting, Disconnected http, c1 http"
    assert.equal(500, r.ends.c1.info.http_status)
    check(errors, "string", nil, "on_request")
    bad = false
    r:up()
    check(errors, "string", nil, "on_connection")
    assert.equal("Connected", accepted.state)
    r:down()
    listener:close()
  end)
end)

describe("on_error", function()
  it("is a slot like the others (rule 8)", function()
    local loop = recorder.loop()
    local function fn() end
    loop.on_error = fn
    assert.equal(fn, loop.on_error)
    for _, bad in ipairs { 1, "f", true, {} } do
      assert.is_false((pcall(function() loop.on_error = bad end)))
      assert.equal(fn, loop.on_error)
    end
    loop.on_error = nil
    assert.is_nil(loop.on_error)
    assert.is_false((pcall(sipwire.loop, { on_error = 1 })))
  end)

  it("may use the transport, and be replaced meanwhile (rule 8)", function()
    local r, _, errors = fixture()
    r.t.loop.on_error = function(_, t)
      t:send("said by on_error", r:done "s1")
      t:disconnect(r:done "d1")
      t.loop.on_error = function(...) table.insert(errors, { ... }) end
    end
    r:within("up", thrown.string)
    r:within("s1", thrown.string)
    r:connect "c1"
    r:expect("Connecting, Connected, up, c1, Disconnecting, down, s1, " ..
      "Disconnected, d1")
    check(errors, "string", r.t, "send completion")
  end)

  -- A script in a process of its own: what it prints on stderr, and says.
  local function script(body)
    local command = process.lua("-e", ([[
      local sipwire = require "sipwire"
      local loop = sipwire.loop()
      local after = 0
      local function boom() error("boom", 0) end
      %s
      print(loop:run())
      print(after)
      print(loop:run())
    ]]):format(body))
    command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
    command.as_is = true
    local code, out, err = process.run(command)
    assert.equal(0, code, err)
    return out, err
  end

  it("by default prints, and makes run() return nil, err (rule 8)", function()
    local out, err = script [[
      loop:defer(boom)
      loop:defer(function() error("second", 0) end)
      loop:defer(function() after = after + 1 end)
    ]]
    assert.equal("nil\tboom", out:match "^[^\n]+")
    assert.truthy(out:find("\n1\ntrue\n$"), out)
    assert.truthy(err:find("sipwire: error in defer: boom\nstack traceback:", 1,
      true), err)
    assert.truthy(err:find("sipwire: error in defer: second", 1, true), err)
  end)

  it("that raises too is told as the default does (rule 8)", function()
    local out, err = script [[
      loop.on_error = function(err)
        error("worse than " .. err:match "^%w+", 0)
      end
      loop:defer(boom)
      loop:defer(function() after = after + 1 end)
    ]]
    assert.equal("nil\tworse than boom", out:match "^[^\n]+")
    assert.truthy(out:find("\n1\ntrue\n$"), out)
    assert.truthy(err:find("error in on_error: worse than boom", 1, true), err)
  end)

  it("that takes it lets run() go on (rule 8)", function()
    local out, err = script [[
      loop.on_error = function(err) after = after + 1 end
      loop:defer(boom)
      loop:timer(0.01, boom)
    ]]
    assert.equal("true\n2\ntrue\n", out)
    assert.equal("", err)
  end)

  it("makes run() of the default loop fail a script (rule 8)", function()
    local out, err = script [[
      local t = sipwire.new { server = "ws://127.0.0.1:1/", loop = loop }
      t.state_change:add_listener(boom)
      t:connect()
    ]]
    assert.equal("nil\tboom", out:match "^[^\n]+")
    assert.truthy(err:find(
      "error in state_change of sipwire.transport: ws://127.0.0.1:1/", 1, true),
      err)
  end)
end)
