-- SPDX-License-Identifier: MIT
-- The end of a Lua state with transports in every state: no crash, no noise,
-- exit code 0, whether the script ends or leaves by os.exit().

local helper = require "spec.helper"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

helper.watch()

-- What a script does with transport |t| of |loop|; it says "there" when it is
-- where it wants to end.  |silent|: its peer answers nothing, |deaf|: no close.
local states = {
  { "Disconnected", "there()" },
  { "Disconnected, after a failure", [[
    t.state_change:add_listener(function(state)
      if state == "Disconnected" then there() end
    end)
    t:connect(function(err) assert(err) end)]], silent = true, limit = 0.05 },
  { "Connecting, this tick", [[
    t:connect(print)
    there()]] },
  { "Connecting", [[
    t:connect(print)
    for _ = 1, 10 do loop:step(0) end
    assert(t.state == "Connecting")
    there()]], silent = true },
  { "Connecting over TLS", [[
    t:connect(print)
    for _ = 1, 10 do loop:step(0) end
    assert(t.state == "Connecting")
    there()]], silent = true, tls = true },
  { "Connected", "t:connect(there)" },
  { "Connected, with messages unsent", [[
    t:connect(function()
      for _ = 1, 100 do t:send(("x"):rep(1000), print) end
      there()
    end)]] },
  { "Connected, in a callback", [[
    t.on_connect = function() error(there()) end
    loop.on_error = print
    t:connect(print)]] },
  { "Disconnecting", [[
    t.on_disconnect = there
    t:connect(function() t:disconnect(print) end)]], deaf = true },
  { "Disconnecting, this tick", [[
    t:connect(function()
      t:disconnect(print)
      there()
    end)]] },
  { "Connecting beside a link that closes", [[
    t:connect(function()
      t:disconnect()
      t:connect()
      there()
    end)]], deaf = true },
  { "disposed", [[
    t:connect(function()
      t:send("x", print)
      t:dispose()
      there()
    end)]], deaf = true },
  { "on a closed loop", [[
    t:connect(function() there() end)
    at_end = function() loop:close() end]] },
  { "with tasks that wait", [[
    loop:spawn(function()
      local c = assert(sipwire.open { server = url, loop = loop })
      loop:defer(there)
      c:receive()
    end)
    loop:spawn(sipwire.sleep, 60)
    loop:timer(60, print)]], deaf = true },
  { "listening", [[
    local l = sipwire.listen { loop = loop, on_connection = function(s)
      accepted = s
      s:send("x", print)
      there()
    end }
    sipwire.new({ server = l.url, loop = loop }):connect()]] },
}

-- How it ends; |raw| ends in the callback itself, with the loop on the stack.
local ends = {
  { "at the end of the script", "", "" },
  { "by os.exit(0, true)", "", "os.exit(0, true)" },
  { "by os.exit(0)", "", "os.exit(0)" },
  { "by os.exit(0, true) in the callback", "os.exit(0, true)", "" },
  { "by os.exit(0) in the callback", "os.exit(0)", "" },
}

local frame = [[
  local sipwire = require "sipwire"
  local url, limit, in_callback, at_last = ...
  local loop = sipwire.loop()
  local print = function(...) end
  local here, at_end, accepted = false, function() end, nil
  local load = loadstring or load
  local function there()
    here = true
    load(in_callback)()
  end
  local t = sipwire.new { server = url, loop = loop,
                          connection_timeout = tonumber(limit) }
  %s
  while not here do loop:step() end
  at_end()
  load(at_last)()
]]

-- A peer as the state wants it.
local function peer(state)
  local server = rawpeer.listen()
  server:each(function(c)
    if state.silent then return end
    run.wait(function()
      return c:ended() or c:peek():find("\r\n\r\n", 1, true)
    end, 60)
    if c:ended() then return end
    c:answer_upgrade()
    run.wait(function()
      return c:ended() or not state.deaf and c.size > 0
    end, 60)
    c:fin()
  end)
  local url = server:url()
  return state.tls and url:gsub("^ws", "wss") or url
end

local function spawn(state, ending)
  local command = process.lua("-", peer(state),
    state.limit or 20, ending[2], ending[3])
  command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  command.as_is = true
  local child = process.spawn(command)
  child:write(frame:format(state[2]))
  child:close_stdin()
  return child
end

for _, ending in ipairs(ends) do
  describe("a Lua state that ends " .. ending[1], function()
    it("ends well with a transport in every state", function()
      local children = {}
      for i, state in ipairs(states) do children[i] = spawn(state, ending) end
      for i, state in ipairs(states) do
        local code, signal = children[i]:wait(20)
        local out = children[i]:output()
        assert.same({ state[1], "", "", 0, 0 },
          { state[1], children[i].stderr, out, code, signal })
      end
    end)
  end)
end
