-- SPDX-License-Identifier: MIT
-- sipwire.listen(): the socket, and the transports it gives.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local frames = rawpeer.frames

local run_until = helper.run_until

helper.watch()

-- A listener that ends with the spec, and a list of what it accepted.
local function listen(options)
  local accepted = {}
  local given = { connection_timeout = 5 * run.scale,
                  on_connection = function(t) table.insert(accepted, t) end }
  for name, value in pairs(options or {}) do given[name] = value end
  local listener = assert(sipwire.listen(given))
  run.track { close = function() listener:close() end }
  return listener, accepted
end

local function raw_client(listener, options)
  local peer = assert(rawpeer.connect { host = listener.address,
                                        port = listener.port })
  local answer = peer:upgrade(options)
  assert.equal(101, answer.status)
  return peer, answer
end

-- A raw client, and the transport that serves it.
local function serve(options)
  local listener, accepted = listen(options)
  local peer = raw_client(listener)
  run_until(function() return accepted[1] end, 5, "on_connection")
  return accepted[1], peer, listener, accepted
end

local function part(t, peer)
  t:disconnect()
  peer:answer_close()
  pair.gone(t)
end

describe("a listening socket", function()
  it("takes any port of 127.0.0.1 if not told otherwise", function()
    local listener = listen()
    local other = listen()
    assert.equal("127.0.0.1", listener.address)
    assert.is_true(listener.port > 0 and listener.port ~= other.port)
    assert.equal("ws://127.0.0.1:" .. listener.port, listener.url)
    assert.matches(listener.url, tostring(listener), 1, true)
    for _, one in ipairs { listener, other } do
      local t = sipwire.new { server = one.url }
      assert.is_nil(pair.finish(pair.connect(t)).err)
      t:disconnect()
      pair.gone(t)
    end
  end)

  it("takes the address and port it is told", function()
    local free = rawpeer.refusing()
    free:close()
    helper.pass()
    local listener, accepted = listen { address = "127.0.0.2",
                                        port = free.port }
    assert.equal("127.0.0.2", listener.address)
    assert.equal(free.port, listener.port)
    raw_client(listener)
    run_until(function() return accepted[1] end)
    assert.equal("127.0.0.2:" .. free.port, accepted[1].local_address)
    local nobody, why = rawpeer.connect { port = free.port }
    assert.is_nil(nobody)
    assert.equal("ECONNREFUSED", why)
    accepted[1]:dispose()
  end)

  it("speaks IPv6, and IPv6 only", function()
    local listener, accepted = listen { address = "::1" }
    assert.equal("ws://[::1]:" .. listener.port, listener.url)
    local t = sipwire.new { server = listener.url }
    assert.is_nil(pair.finish(pair.connect(t)).err)
    run_until(function() return accepted[1] end)
    assert.equal("[::1]:" .. listener.port, accepted[1].local_address)
    assert.equal(t.local_address, accepted[1].peer_address)
    t:disconnect()
    pair.gone(t)
    local all = listen { address = "::", port = 0 }
    assert.equal("ws://[::1]:" .. all.port, all.url)
    -- its port is free on IPv4, unless another process has it there
    local beside
    for _ = 1, 10 do
      local ok, server = pcall(rawpeer.listen, { port = all.port })
      beside = ok and server
      if beside then break end
      all = listen { address = "::", port = 0 }
    end
    assert.is_truthy(beside)
    beside:close()
    assert.equal("ws://127.0.0.1:", listen { address = "0.0.0.0" }.url
      :match "^.*:")
  end)

  it("whose address is taken is refused", function()
    local listener = listen()
    local other, err, code = sipwire.listen { port = listener.port,
      on_connection = function() end }
    assert.is_nil(other)
    assert.equal("refused", code)
    assert.matches("^refused: .*" .. listener.port, err)
  end)

  it("whose address is of another machine is unreachable", function()
    for _, address in ipairs { "192.0.2.1", "2001:db8::1" } do
      local listener, err, code = sipwire.listen { address = address,
        on_connection = function() end }
      assert.is_nil(listener)
      assert.equal("unreachable", code)
      assert.matches("unreachable: " .. address, err, 1, true)
    end
  end)

  it("is not made from nonsense", function()
    for words, options in pairs {
      ["numeric IP address"] = { address = "localhost" },
      ["'address'"] = { address = 1 },
      ["'port'"] = { port = 65536 },
      ["0 to 65535"] = { port = -1 },
      ["whole number"] = { port = 1.5 },
      ["did you mean 'on_request'"] = { on_requests = print },
      ["'on_connection'"] = { on_connection = 1 },
      ["'on_request'"] = { on_request = true },
      ["unknown option 'server'"] = { server = "ws://x/" },
      ["unknown option 'headers'"] = { headers = {} },
      ["unknown option 'local_address'"] = { local_address = "127.0.0.1" },
    } do
      options.on_connection = options.on_connection or function() end
      local ok, err = pcall(sipwire.listen, options)
      assert.is_false(ok)
      assert.matches(words, err, 1, true)
    end
    assert.error_matches(function() sipwire.listen {} end, "on_connection")
    assert.error_matches(function() sipwire.listen() end, "must be a table")
  end)

  it("is closed for good by close(), its transports live on", function()
    local t, peer, listener = serve()
    local waiting = assert(rawpeer.connect { port = listener.port })
    waiting:write "GET / HTTP/1.1\r\n"
    helper.pass(3)
    listener:close()
    listener:close()
    assert.matches("closed", tostring(listener), 1, true)
    waiting:wait_end(2)
    assert.equal("", waiting:peek())
    local nobody, why = rawpeer.connect { port = listener.port }
    assert.is_nil(nobody)
    assert.equal("ECONNREFUSED", why)
    local heard = {}
    t.on_message = function(_, message) table.insert(heard, message) end
    peer:send("text", "still here")
    run_until(function() return heard[1] end)
    t:send "so am I"
    assert.equal("so am I", peer:read_frame().payload)
    part(t, peer)
    -- the address is free again at once
    local again = assert(sipwire.listen { port = listener.port,
      on_connection = function() end })
    again:close()
  end)

  it("drops what is neither answered nor asked when closed inside on_request",
    function()
      local listener
      listener = listen { on_connection = helper.never "on_connection",
                          on_request = function() listener:close() end }
      local peer = assert(rawpeer.connect { port = listener.port })
      peer:write "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
      peer:write "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      peer:write "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
      peer:write "Sec-WebSocket-Protocol: sip\r\n\r\n"
      peer:wait_end()
      assert.equal("", peer:peek())
    end)

  it("serves many clients at once", function()
    local n = 500
    local heard = {}
    local listener, accepted = listen { on_connection = function(t)
      t.on_message = function(_, message)
        heard[message] = (heard[message] or 0) + 1
        t:send("to " .. message)
      end
    end }
    assert.equal(0, #accepted)
    local clients, up, answers, gone = {}, 0, 0, 0
    for i = 1, n do
      local t = sipwire.new { server = listener.url, connection_timeout = 60 }
      clients[i] = t
      t.on_connect = function() up = up + 1 t:send("client " .. i) end
      t.on_message = function(_, message)
        assert.equal("to client " .. i, message)
        answers = answers + 1
      end
      t.on_disconnect = function(_, err) assert.is_nil(err) gone = gone + 1 end
      t:connect()
    end
    run_until(function() return answers == n end, 20,
      function() return n .. " clients, " .. up .. " up" end)
    for i = 1, n do assert.equal(1, heard["client " .. i]) end
    for _, t in ipairs(clients) do t:disconnect() end
    run_until(function()
      for _, t in ipairs(clients) do
        if t.state ~= "Disconnected" then return false end
      end
      return gone == n
    end, 20)
  end)

  it("serves clients of another loop", function()
    local loop = run.track(helper.add_loop(sipwire.loop()))
    local listener, accepted = listen { loop = loop }
    local t, seen = pair.client { server = listener.url }
    assert.is_nil(pair.finish(pair.connect(t)).err)
    run_until(function() return accepted[1] end)
    assert.equal(loop, accepted[1].loop)
    accepted[1]:send "across"
    run_until(function() return seen.messages[1] == "across" end)
    t:disconnect()
    pair.gone(t)
    pair.gone(accepted[1])
  end)

  it("ends with its loop", function()
    local loop = sipwire.loop()
    local listener = listen { loop = loop }
    loop:close()
    local nobody, why = rawpeer.connect { port = listener.port }
    assert.is_nil(nobody)
    assert.equal("ECONNREFUSED", why)
  end)

  it("gives its loop a reason to run", function()
    local loop = sipwire.loop()
    local listener = sipwire.listen { loop = loop,
                                      on_connection = function() end }
    loop:timer(0.01, function() listener:close() end)
    assert.is_true(loop:run())
    loop:close()
  end)
end)

describe("an accepted transport", function()
  it("is Connected from the start, and knows both ends", function()
    local at_once
    local listener = listen { on_connection = function(t, request)
      at_once = { t.state, t:is_connected(), t.protocol, t.server,
                  t.peer_address == request.peer_address }
      t:dispose()
    end }
    local peer = raw_client(listener)
    run_until(function() return at_once end)
    assert.same({ "Connected", true, "WS", nil, true }, at_once)
    assert.equal(frames.close(1000), peer:read_frame().payload)
  end)

  it("answers 101 with what RFC 6455 and 7118 want, and no more", function()
    local listener, accepted = listen()
    local peer, answer = raw_client(listener,
      { protocol = "chat, sip", key = "dGhlIHNhbXBsZSBub25jZQ==" })
    assert.equal("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" ..
      "Connection: Upgrade\r\n" ..
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" ..
      "Sec-WebSocket-Protocol: sip\r\n\r\n", answer.raw)
    run_until(function() return accepted[1] end)
    part(accepted[1], peer)
  end)

  it("sends unmasked frames (RFC 6455 section 5.1)", function()
    local t, peer = serve()
    for _, length in ipairs { 0, 5, 126, 65536 } do
      t:send(("x"):rep(length))
      local frame = peer:read_frame()
      assert.is_false(frame.masked)
      assert.is_true(frame.fin)
      assert.equal("text", frame.name)
      assert.equal(("x"):rep(length), frame.payload)
    end
    peer:send("ping", "p")
    local pong = peer:read_frame()
    assert.equal("pong", pong.name)
    assert.equal("p", pong.payload)
    assert.is_false(pong.masked)
    t:disconnect()
    local close = peer:read_frame()
    assert.equal(frames.close(1000), close.payload)
    assert.is_false(close.masked)
    peer:send("close", close.payload)
    pair.gone(t)
  end)

  it("refuses an unmasked frame with 1002 (R26)", function()
    for _, opcode in ipairs { "text", "ping", "close" } do
      local t, peer = serve()
      local seen
      t.on_disconnect = function(_, _, code, info) seen = { code, info } end
      t.on_message = helper.never "on_message"
      peer:write(frames.build { opcode = opcode } ..
        frames.build { payload = "more", mask = "abcd" })
      run_until(function() return seen end)
      assert.equal("protocol", seen[1])
      assert.equal(1002, seen[2].close_code)
      local close = peer:read_frame()
      assert.equal("close", close.name)
      assert.equal(frames.close(1002), close.payload)
      assert.equal("eof", peer:wait_end())
      assert.equal("", peer:peek())
    end
  end)

  it("closes the connection itself, once both said close (R28)", function()
    local t, peer = serve()
    local seen
    t.on_disconnect = function(_, _, code, info) seen = { code, info } end
    peer:send("close", frames.close(4000, "bye"))
    assert.equal(frames.close(4000), peer:read_frame().payload)
    assert.equal("eof", peer:wait_end())
    assert.equal("closed", seen[1])
    assert.equal("bye", seen[2].close_reason)
    assert.is_true(seen[2].was_clean)
  end)

  it("gets messages that came with the request, after on_connection",
    function()
      local order, t = {}, nil
      local listener = listen { on_connection = function(accepted)
        t = accepted
        t.on_message = function(_, message) table.insert(order, message) end
        table.insert(order, "up")
      end }
      local peer = assert(rawpeer.connect { port = listener.port })
      peer:write("GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n" ..
        "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n" ..
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" ..
        "Sec-WebSocket-Protocol: sip\r\n\r\n" ..
        frames.build { payload = "first", mask = "abcd" } ..
        frames.build { payload = "second", mask = "efgh" })
      run_until(function() return #order == 3 end)
      assert.same({ "up", "first", "second" }, order)
      peer:read_head()
      part(t, peer)
    end)

  it("cannot connect, and disconnects like any other", function()
    local t, peer = serve()
    local ok, err, code = t:connect()
    assert.is_nil(ok)
    assert.equal("state", code)
    assert.matches("^state: ", err)
    assert.equal("Connected", t.state)
    part(t, peer)
    assert.is_nil((t:connect()))
    assert.is_nil((t:send "x"))
  end)

  it("has the listener's limits", function()
    local t, peer = serve { max_message_size = 10, raw = true,
                            frame = "binary" }
    local heard = {}
    t.on_message = function(_, message) table.insert(heard, message) end
    t:send "x"
    assert.equal("binary", peer:read_frame().name)
    peer:send("text", "\r\n\r\n"):send("text", ("x"):rep(11))
    assert.equal(frames.close(1009), peer:read_frame().payload)
    pair.gone(t)
    assert.same({ "\r\n\r\n" }, heard)
  end)
end)
