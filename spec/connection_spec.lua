-- SPDX-License-Identifier: MIT
-- Connections: open, send, receive and close that wait, in tasks.

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

local puc51 = _VERSION == "Lua 5.1" and not rawget(_G, "jit")

describe("a connection", function()
  local loop, listener, served

  before_each(function()
    loop = sipwire.loop()
    served = {}
    listener = assert(sipwire.listen {
      loop = loop,
      on_request = function(request)
        if request.path == "/forbidden" then
          return 403
        end
      end,
      on_connection = function(t)
        served[#served + 1] = t
        t.on_message = function(_, message, binary)
          t:send("echo " .. message, nil, binary and "binary" or "text")
        end
      end,
    })
  end)

  after_each(function()
    listener:close()
    assert(loop:close())
  end)

  -- Runs fn as the main task; what it raises fails the spec.
  local function main(fn)
    local failure
    loop.on_error = function(err) failure = failure or err loop:stop() end
    loop:run(function()
      fn()
      listener:close()
    end)
    assert.is_nil(failure)
  end

  local function open(options)
    options = options or {}
    options.server, options.loop = options.server or listener.url, loop
    return sipwire.open(options)
  end

  it("opens, sends, receives and closes", function()
    main(function()
      local c = assert(open())
      assert.is_true(c.transport:is_connected())
      assert.is_true(c:send("one"))
      assert.is_true(c:send("\255", "binary"))
      local message, binary, more = c:receive()
      assert.are.equal("echo one", message)
      assert.is_false(binary)
      assert.is_nil(more)
      message, binary = c:receive(5)
      assert.are.equal("echo \255", message)
      assert.is_true(binary)
      assert.is_true(c:close())
      assert.are.equal("Disconnected", c.transport.state)
      assert.is_truthy(tostring(c):match("^sipwire%.connection: ws://"))
    end)
  end)

  it("that cannot be opened is nil, err, code, info", function()
    main(function()
      local c, err, code, info = open { server = listener.url .. "/forbidden" }
      assert.is_nil(c)
      assert.are.equal("http: upgrade refused: HTTP status 403 Forbidden", err)
      assert.are.equal("http", code)
      assert.are.equal(403, info.http_status)
      assert.are.equal("upgrade", info.phase)
      c, err, code, info = open { server = "ws://127.0.0.1:1/" }
      assert.is_nil(c)
      assert.are.equal("refused", code)
      assert.are.equal("refused: Connection refused", err)
      assert.are.equal("tcp", info.phase)
      assert.is_number(info.errno)
      c, err, code, info = open { server = "ws://127.0.0.1:1/",
        local_address = "192.0.2.1" }
      assert.is_nil(c)
      assert.are.equal("unreachable", code)
      assert.are.equal("unreachable: Cannot assign requested address", err)
      assert.are.equal("tcp", info.phase)
      assert.is_number(info.errno)
    end)
  end)

  it("is not handed on to programs that are started", function()
    local function inherited()
      local list, count = io.popen("ls -l /proc/self/fd"), 0
      for line in list:lines() do
        count = count + (line:find("socket:", 1, true) and 1 or 0)
      end
      list:close()
      return count
    end
    main(function()
      local before = inherited()
      local c = assert(open())
      assert.are.equal(before, inherited())
      c:close()
    end)
  end)

  it("says when no message came in time, and goes on", function()
    main(function()
      local c = assert(open())
      local message, err, code = c:receive(0.01)
      assert.is_nil(message)
      assert.are.equal("timeout: no message within 0.01 s", err)
      assert.are.equal("timeout", code)
      assert(c:receive(0) == nil)
      c:send("late")
      assert.are.equal("echo late", (c:receive(5)))
      c:close()
    end)
  end)

  it("gives what came before the end, then the end, every time", function()
    main(function()
      local c = assert(open())
      local t = served[1]
      t:send("a")
      t:send("b")
      t:disconnect()
      while c.transport.state ~= "Disconnected" do
        sipwire.sleep(0.001)
      end
      assert.are.equal("a", (c:receive()))
      assert.are.equal("b", (c:receive()))
      for _ = 1, 2 do
        local message, err, code, info = c:receive()
        assert.is_nil(message)
        assert.are.equal("closed: connection closed by peer", err)
        assert.are.equal("closed", code)
        assert.are.equal(1000, info.close_code)
        assert.is_true(info.was_clean)
        local ok, _, send_code = c:send("x")
        assert.is_nil(ok)
        assert.are.equal("closed", send_code)
      end
      assert.is_true(c:close())
    end)
  end)

  it("wakes every waiting task at its end, and messages go in turn", function()
    main(function()
      local c = assert(open())
      local order, ended = {}, 0
      for i = 1, 3 do
        loop:spawn(function()
          local message = c:receive()
          order[#order + 1] = i .. message
          local none, _, code = c:receive()
          assert.is_nil(none)
          assert.are.equal("closed", code)
          ended = ended + 1
        end)
      end
      sipwire.sleep(0)
      sipwire.sleep(0)
      for _, message in ipairs { "x", "y", "z" } do
        served[1]:send(message)
      end
      while #order < 3 do
        sipwire.sleep(0.001)
      end
      assert.are.same({ "1x", "2y", "3z" }, order)
      c:close()
      sipwire.sleep(0.001)
      assert.are.equal(3, ended)
    end)
  end)

  it("wakes a waiting task when its transport is disposed", function()
    main(function()
      local c = assert(open())
      local codes = {}
      loop:spawn(function() codes[1] = select(3, c:receive()) end)
      sipwire.sleep(0.001)
      c.transport:dispose()
      assert.is_nil(codes[1]) -- not from inside the call
      sipwire.sleep(0.001)
      assert.are.equal("disposed", codes[1])
      assert.are.equal("disposed", select(3, c:receive()))
    end)
  end)

  it("stops reading when nobody receives, and loses nothing (rule 10)", function()
    main(function()
      local c = assert(open())
      local message, count, accepted = ("m"):rep(10000), 0, 0
      local t = served[1]
      -- 20 MB to a task that does not look: TCP must push back
      local function fill()
        while accepted < 2000 and t:is_connected() do
          local ok, _, code = t:send(("%05d"):format(accepted) .. message, fill)
          if not ok then
            assert.are.equal("queue_full", code)
            return
          end
          accepted = accepted + 1
        end
      end
      fill()
      local before = -1
      while before ~= accepted do -- until it is stuck
        before = accepted
        sipwire.sleep(0.05)
      end
      assert.is_true(accepted < 2000, "all was taken: no push-back")
      assert.is_true(c._size < 1000000, c._size .. " bytes wait in the inbox")
      while count < 2000 do
        local got = assert(c:receive(10))
        assert.are.equal(("%05d"):format(count), got:sub(1, 5))
        count = count + 1
      end
      assert.is_nil((c:receive(0.01)))
      c:close()
    end)
  end)

  it("waits in send() while the queue is full", function()
    main(function()
      local c = assert(open { send_queue_limit = 20000 })
      served[1].on_message = function() end
      local message = ("s"):rep(9000)
      for _ = 1, 500 do
        assert(c:send(message))
      end
      local ok, err, code = c:send(("s"):rep(20001))
      assert.is_nil(ok)
      assert.are.equal("queue_full", code, err)
      assert.is_true(c:close())
      while served[1].state ~= "Disconnected" do
        sipwire.sleep(0.001)
      end
      assert.are.equal(500, served[1]:stats().messages_in)
    end)
  end)

  it("can be iterated over, where iterators can wait", function()
    main(function()
      local c = assert(open())
      if puc51 then
        local ok, err = pcall(c.messages, c)
        assert.is_false(ok)
        assert.is_truthy(err:find("use receive()", 1, true))
        c:close()
        return
      end
      for i = 1, 3 do
        served[1]:send(tostring(i))
      end
      served[1]:disconnect()
      local got = {}
      for message, binary in c:messages() do
        got[#got + 1] = message
        assert.is_false(binary)
      end
      assert.are.same({ "1", "2", "3" }, got)
    end)
  end)

  it("says when closing took longer than asked", function()
    main(function()
      local c = assert(open())
      local ok, err, code = c:close(0)
      if not ok then -- a fast machine may be in time
        assert.are.equal("timeout", code)
        assert.are.equal("timeout: not closed within 0 s", err)
      end
      assert.is_true(c:close())
    end)
  end)

  it("belongs to tasks: its functions raise outside of one", function()
    local c
    main(function() c = assert(open()) c:close() end)
    for _, name in ipairs { "send", "receive", "close", "messages" } do
      local ok, err = pcall(c[name], c, "x")
      assert.is_false(ok)
      assert.is_truthy(err:find(name .. "() outside a task", 1, true), err)
    end
  end)
end)
