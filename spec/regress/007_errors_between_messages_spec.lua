-- SPDX-License-Identifier: MIT
-- One xpcall() guards all on_message callbacks of a tick. It went on with a
-- closed loop, and lost errors that Lua itself could not put into words.

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

-- A client that gets "one", "two", "three" in one tick, on a loop of its own.
local function three_messages(options)
  local loop = sipwire.loop()
  local listener = assert(sipwire.listen { loop = loop,
    on_connection = function(t)
      for _, text in ipairs { "one", "two", "three" } do t:send(text) end
      t:disconnect()
    end })
  options.loop, options.server = loop, listener.url
  local t = sipwire.new(options)
  t.on_disconnect = function() listener:close() end
  t:connect()
  return loop, t
end

describe("an error in on_message", function()
  it("after it closed the loop ends run() as usual", function()
    local loop, t = three_messages {}
    local told = {}
    loop.on_error = function(err) table.insert(told, err:match "boom") end
    t.on_message = function() loop:close() error("boom") end
    assert.is_true(loop:run())
    assert.same({ "boom" }, told)
  end)

  it("may make on_error close the loop", function()
    local loop, t = three_messages {}
    local told = 0
    loop.on_error = function() told = told + 1 loop:close() end
    t.on_message = function() error("boom") end
    assert.is_true(loop:run())
    assert.equal(1, told)
  end)

  -- As when there is no memory for the words: Lua gives a string of its own.
  it("is told even if its handler fails", function()
    local loop, t = three_messages {}
    local traceback, seen, told = debug.traceback, {}, {}
    loop.on_error = function(err, whose, name)
      debug.traceback = traceback -- luacheck: ignore
      table.insert(told, { type(err), whose == t, name })
    end
    t.on_message = function(_, message)
      table.insert(seen, message)
      if message ~= "two" then return end
      debug.traceback = function() error("no words") end -- luacheck: ignore
      error("boom")
    end
    local ok = loop:run()
    debug.traceback = traceback -- luacheck: ignore
    assert.is_true(ok)
    assert.same({ "one", "two", "three" }, seen)
    assert.same({ { "string", true, "on_message" } }, told)
    assert(loop:close())
  end)
end)

describe("a trace that disconnects", function()
  it("keeps its message from on_message (C40)", function()
    local loop, t, traced
    loop, t = three_messages { trace = function(direction)
      if direction == "in" and not traced then
        traced = true
        t:disconnect()
      end
    end }
    t.on_message = helper.never "on_message"
    assert.is_true(loop:run())
    assert.is_true(traced)
    assert(loop:close())
  end)
end)
