-- SPDX-License-Identifier: MIT
-- Calls that raise, or come too late, must leave nothing behind.

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

describe("a call that raises", function()
  local loop

  before_each(function() loop = sipwire.loop() end)
  after_each(function() assert(loop:close()) end)

  it("does not keep the transport alive: send() with a bad frame", function()
    local kept = setmetatable({}, { __mode = "v" })
    local listener = assert(sipwire.listen { loop = loop,
      on_connection = function() end })
    do
      local t = sipwire.new { server = listener.url, loop = loop }
      kept[1] = t
      t.on_connect = function(self)
        assert.is_false(pcall(self.send, self, "x", print, "bad"))
        self:disconnect()
        listener:close()
      end
      t:connect()
    end
    assert.is_true(loop:run())
    collectgarbage()
    collectgarbage()
    assert.is_nil(kept[1])
  end)

  it("tells that a server function may not connect", function()
    local t
    t = sipwire.new { loop = loop, server = function() t:connect() end }
    local ok, err = pcall(t.connect, t)
    assert.is_false(ok)
    assert.is_truthy(err:find("connect() inside its own server function", 1, true))
    t = sipwire.new { loop = loop, server = function()
      t:dispose()
      return "ws://127.0.0.1:9/"
    end }
    ok, err = pcall(t.connect, t)
    assert.is_false(ok)
    assert.is_truthy(err:find("disposed: ", 1, true), err)
    t = sipwire.new { loop = loop, server = function() return "ws://h\0/x" end }
    ok, err = pcall(t.connect, t)
    assert.is_false(ok)
    assert.is_truthy(err:find("NUL", 1, true), err)
  end)
end)

describe("a loop that closes", function()
  it("runs nothing of what was deferred behind it", function()
    local loop = sipwire.loop()
    loop:defer(function() assert(loop:close()) end)
    loop:defer(helper.never("deferred"))
    loop:step(0)
    assert.is_false(pcall(loop.step, loop, 0))
  end)

  it("wakes a task of another loop that opens a connection on it", function()
    local mine, other = sipwire.loop(), sipwire.loop()
    local silent = require("luv").new_tcp()
    silent:bind("127.0.0.1", 0)
    silent:listen(1, function() end)
    local url = "ws://127.0.0.1:" .. silent:getsockname().port
    local code
    mine:timer(0.01, function() other:close() end)
    assert.is_true(mine:run(function()
      code = select(3, sipwire.open { server = url, loop = other })
    end))
    assert.are.equal("disposed", code)
    silent:close()
    require("luv").run("nowait")
    assert(mine:close())
  end)

  it("is the loop of what its tasks make", function()
    local loop, seen = sipwire.loop(), nil
    local listener
    assert.is_true(loop:run(function()
      listener = assert(sipwire.listen { on_connection = function() end })
      local c = assert(sipwire.open { server = listener.url })
      seen = c.transport.loop
      c:close()
      listener:close()
    end))
    assert.are.equal(loop, seen)
    assert(loop:close())
  end)
end)
