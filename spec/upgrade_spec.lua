-- SPDX-License-Identifier: MIT
-- The client's half of the WebSocket handshake, byte by byte.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local scale = require "spec.support.run".scale

local run_until = helper.run_until

helper.watch()

-- Connects |t| once and lets the peer hang up; returns the request's head.
local function request_of(t, server)
  local outcome = pair.connect(t)
  local peer = server:accept()
  local head = peer:read_head()
  peer:close()
  assert.equal("closed", pair.finish(outcome).code)
  return head
end

local function head_for(path, options)
  local server = rawpeer.listen()
  options = options or {}
  options.server = server:url(path)
  return request_of(sipwire.new(options), server), server
end

describe("the upgrade request", function()
  local function lines(server, target, key, ...)
    return table.concat({ "GET " .. target .. " HTTP/1.1",
      "Host: 127.0.0.1:" .. server.port, "Upgrade: websocket",
      "Connection: Upgrade", "Sec-WebSocket-Key: " .. key,
      "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip", ... },
      "\r\n") .. "\r\n"
  end

  it("is what RFC 6455 wants and offers sip (R1, R12)", function()
    for path, target in pairs {
      ["/"] = "/", [""] = "/", ["/ws"] = "/ws", ["?a=b"] = "/?a=b",
      ["/a%20b/c;d?x=1&y=%2F?"] = "/a%20b/c;d?x=1&y=%2F?",
    } do
      local head, server = head_for(path)
      local key = head:get "Sec-WebSocket-Key"
      assert.equal(lines(server, target, key, ""), head.raw)
    end
  end)

  it("brackets an IPv6 literal in Host (C3, R12)", function()
    local server = rawpeer.listen { host = "::1" }
    local head = request_of(sipwire.new { server = server:url() }, server)
    assert.equal("[::1]:" .. server.port, head:get "Host")
  end)

  it("names the host as the URL does", function()
    local server = rawpeer.listen()
    local url = ("ws://LocalHost:%d/"):format(server.port)
    local head = request_of(sipwire.new { server = url }, server)
    assert.equal("localhost:" .. server.port, head:get("Host"):lower())
  end)

  it("carries the user's headers, in order and nothing twice (R14)", function()
    local head, server = head_for("/", { headers = {
      Origin = "https://example", Cookie = "a=b; c=d",
      ["X-Many"] = { "1", "2" }, ["X-Empty"] = "", ["X-Bytes"] = "\195\164\t.",
    } })
    assert.equal(lines(server, "/", head:get "Sec-WebSocket-Key",
      "Cookie: a=b; c=d", "Origin: https://example", "X-Bytes: \195\164\t.",
      "X-Empty: ", "X-Many: 1", "X-Many: 2", ""), head.raw)
  end)

  it("refuses headers that would change its meaning", function()
    for name, value in pairs {
      Host = "x", upgrade = "h2c", CONNECTION = "close",
      ["Content-Length"] = "4", ["transfer-encoding"] = "chunked",
      ["Sec-WebSocket-Protocol"] = "chat", ["sec-websocket-key"] = "x",
      ["Sec-WebSocket-Anything"] = "x", ["a b"] = "x", [""] = "x",
      ["a:"] = "x", ["X-Split"] = "a\r\nb: c", ["X-LF"] = "a\nb",
      ["X-NUL"] = "a\0b", ["X-CR"] = "a\r", ["X-DEL"] = "\127",
    } do
      local ok, err = pcall(sipwire.new, { server = "ws://127.0.0.1:1/",
        headers = { [name] = value } })
      assert.is_false(ok, name)
      assert.matches("header", err, 1, true)
    end
  end)

  it("has a fresh key of 16 bytes in every attempt (R21)", function()
    local server = rawpeer.listen()
    local t = sipwire.new { server = server:url() }
    local seen, columns, n = {}, {}, 40
    for _ = 1, n do
      local key = request_of(t, server):get "Sec-WebSocket-Key"
      -- 22 characters of 6 bits, of which the last has four bits too many
      assert.matches("^[%w+/]+==$", key)
      assert.equal(24, #key)
      assert.matches("[AQgw]", key:sub(22, 22))
      assert.is_nil(seen[key])
      seen[key] = true
      for i = 1, 21 do
        columns[i] = columns[i] or {}
        columns[i][key:sub(i, i)] = true
      end
    end
    -- 40 draws of 64 values: 30 different ones expected, 15 as good as sure
    for i = 1, 21 do
      local count = 0
      for _ in pairs(columns[i]) do count = count + 1 end
      assert.is_true(count > 14, "column " .. i)
    end
  end)
end)

describe("a server function", function()
  it("is asked in every connect() that opens a connection", function()
    local first, second = rawpeer.listen(), rawpeer.listen()
    local calls, t = 0, nil
    local function server()
      calls = calls + 1
      if calls == 1 then return first:url("/one"), { Cookie = "n=1" } end
      return second:url("/two"), { ["X-N"] = tostring(calls) }
    end
    t = sipwire.new { server = server, headers = { Origin = "dropped" } }
    assert.equal(0, calls)
    assert.is_nil(t.server)
    local outcome = pair.connect(t)
    assert.equal(1, calls)
    assert.is_true(t:connect()) -- joins: nothing new
    assert.equal(1, calls)
    assert.equal(first:url("/one"), t.server)
    local peer = first:accept()
    local head = peer:answer_upgrade()
    pair.finish(outcome)
    assert.equal("/one", head.target)
    assert.equal("n=1", head:get "Cookie")
    assert.is_true(t:connect()) -- Connected: nothing new
    assert.equal(1, calls)
    t:disconnect()
    outcome = pair.connect(t) -- Disconnecting: a new connection
    assert.equal(2, calls)
    peer:answer_close()
    peer = second:accept()
    head = peer:answer_upgrade()
    pair.finish(outcome)
    assert.equal("/two", head.target)
    assert.equal("2", head:get "X-N")
    assert.is_nil(head:get "Cookie")
    assert.equal(second:url("/two"), t.server)
    pair.part(t, peer)
    assert.equal(0, #first.waiting + #second.waiting)
  end)

  it("may leave the headers out the next time", function()
    local server, n = rawpeer.listen(), 0
    local t = sipwire.new { server = function()
      n = n + 1
      return server:url(), n == 1 and { Cookie = "a=b" } or nil
    end }
    assert.equal("a=b", request_of(t, server):get "Cookie")
    assert.is_nil(request_of(t, server):get "Cookie")
  end)

  it("that is wrong makes connect() raise and changes nothing", function()
    local server, answer = rawpeer.listen(), nil
    local t = sipwire.new { server = function() return answer() end }
    for words, fn in pairs {
      ["no idea"] = function() error "no idea" end,
      ["must return a URL, not nil"] = function() end,
      ["must return a URL, not table"] = function() return {} end,
      ["scheme"] = function() return "http://127.0.0.1/" end,
      ["port"] = function() return "ws://127.0.0.1:0/" end,
      ["header 'Cookie'"] = function() return server:url(), { Cookie = 1 } end,
      ["header"] = function() return server:url(), { Host = "x" } end,
      ["must be a table"] = function() return server:url(), "x" end,
    } do
      answer = fn
      local ok, err = pcall(t.connect, t, function() error "never" end)
      assert.is_false(ok)
      assert.matches(words, err, 1, true)
      assert.equal("Disconnected", t.state)
    end
    answer = function() return server:url() end
    pair.part(t, pair.reopen(t, server))
    assert.equal(1, server.accepted)
  end)
end)

describe("the upgrade's answer", function()
  local function connects(write)
    local server = rawpeer.listen()
    local t, seen = pair.client { server = server:url() }
    local outcome = pair.connect(t)
    local peer = server:accept()
    local request = peer:read_head()
    write(peer, request)
    pair.finish(outcome)
    assert.is_nil(outcome.err)
    assert.same({ "Connecting", "Connected" }, seen.states)
    pair.part(t, peer)
  end

  -- A 101 that has only the lines given; %s stands for the right accept value.
  local function lines(...)
    local text = table.concat({ ... }, "\r\n") .. "\r\n\r\n"
    return function(peer, request)
      local accept = rawpeer.response(request):match "Accept: (%S+)"
      peer:write((text:gsub("%%s", accept)))
    end
  end

  it("is read as HTTP says, in any case and order (R25)", function()
    connects(lines("HTTP/1.1 101 x", "SEC-WEBSOCKET-PROTOCOL:sip",
      "sec-websocket-accept:\t%s \t", "connection: Keep-Alive,\tuPGRADE ,",
      "upgrade: WebSocket"))
    connects(lines("HTTP/1.1 101 ", "Connection: keep-alive",
      "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: %s",
      "Sec-WebSocket-Protocol: sip", "Sec-WebSocket-Extensions: "))
    connects(lines("HTTP/1.1 101", "Connection: Upgrade", "Upgrade: websocket",
      "Sec-WebSocket-Accept: %s", "Sec-WebSocket-Protocol: sip"))
  end)

  it("may have more headers, and a Content-Length of 0 (R25)", function()
    connects(lines("HTTP/1.1 101 Switching Protocols", "Sia: SIP/2.0/TCP x",
      "Upgrade: websocket", "Connection: upgrade", "Sec-WebSocket-Accept: %s",
      "Sec-WebSocket-Protocol: sip", "Content-Length: 0",
      "Transfer-Encoding: chunked", "Set-Cookie: a=b", "X: \1955"))
  end)

  it("may follow interim responses", function()
    connects(function(peer, request)
      local interim = "HTTP/1.1 100 Continue\r\n\r\n" ..
        "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\nUpgrade: h2c\r\n\r\n" ..
        "HTTP/1.1 102 Processing\r\n\r\n"
      peer:write(interim:rep(20) .. rawpeer.response(request))
    end)
  end)

  it("may come byte by byte", function()
    connects(function(peer, request)
      peer:dribble("HTTP/1.1 103 x\r\nA: b\r\n\r\n" ..
        rawpeer.response(request, { headers = { "Content-Length: 0" } }))
    end)
  end)

  it("may be as long as 16384 bytes", function()
    connects(function(peer, request)
      local short = rawpeer.response(request, { headers = { "X: " } })
      peer:write(rawpeer.response(request,
        { headers = { "X: " .. ("x"):rep(16384 - #short) } }))
    end)
  end)

  it("is awaited as long as connection_timeout says (C16)", function()
    for _, said in ipairs { "", "HTTP/1.1 101 Swi",
                            "HTTP/1.1 100 Continue\r\n\r\n" } do
      local server = rawpeer.listen()
      local t = sipwire.new { server = server:url(),
                              connection_timeout = 0.1 * scale }
      local outcome = pair.connect(t)
      local peer = server:accept()
      peer:read_head()
      peer:write(said)
      pair.finish(outcome)
      assert.equal("timeout", outcome.code)
      assert.equal("upgrade", outcome.info.phase)
      peer:wait_end()
    end
  end)

  it("fails when it is silent, also if hints keep coming", function()
    local server = rawpeer.listen()
    local t = sipwire.new { server = server:url(),
                            connection_timeout = 0.1 * scale }
    local outcome = pair.connect(t)
    local peer = server:accept()
    peer:read_head()
    run_until(function()
      peer:write "HTTP/1.1 102 Processing\r\n\r\n"
      return outcome.done
    end)
    assert.equal("timeout", outcome.code)
  end)
end)
