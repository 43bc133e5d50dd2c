-- SPDX-License-Identifier: MIT
-- What a listener does with requests: on_request's answers, and requests that
-- no server may accept (RFC 6455 section 4.2.1, RFC 7118 section 4.1).

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local sha1 = require "spec.support.sha1"

local run_until = helper.run_until
local scale = run.scale

helper.watch()

local function listen(options)
  local given = { connection_timeout = 5 * scale,
                  on_connection = function(t) t:dispose() end }
  for name, value in pairs(options or {}) do given[name] = value end
  local listener = assert(sipwire.listen(given))
  run.track { close = function() listener:close() end }
  return listener
end

-- What the default loop's handler gets until the spec ends: { err, name }.
local function collect_errors()
  local errors = {}
  run.default_loop().on_error = function(err, _, name)
    table.insert(errors, { err, name })
  end
  return errors
end

local key = sha1.base64 "sipwire raw peer"

local good = {
  "GET /ws?a=b HTTP/1.1", "Host: pbx.example:5060", "Upgrade: websocket",
  "Connection: Upgrade", "Sec-WebSocket-Key: " .. key,
  "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip",
}

-- The good request with some lines changed: by name; false takes one out.
local function request(changes, ...)
  local lines = {}
  for i, line in ipairs(good) do
    local name = i == 1 and "line" or line:match "^[^:]*"
    local change = changes and changes[name]
    if change == nil then change = line end
    if change then lines[#lines + 1] = change end
  end
  for _, line in ipairs { ... } do lines[#lines + 1] = line end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

-- A connection that sent |bytes|; its first answer; whether it ended then.
local function ask(listener, bytes, write)
  local peer = assert(rawpeer.connect { host = listener.address,
                                        port = listener.port })
  if write then write(peer, bytes) else peer:write(bytes) end
  return peer:read_head(), peer
end

-- Refused with |status|, no body, and the connection closed.
local function expect_refusal(answer, peer, status)
  assert.equal(status, answer.status)
  assert.matches("close", answer:get "Connection", 1, true)
  assert.equal("0", answer:get "Content-Length")
  assert.is_nil(answer:get "Sec-WebSocket-Accept")
  assert.equal("eof", peer:wait_end())
  assert.equal("", peer:peek())
  peer:close()
end

local function refuses(listener, status, cases)
  for name, bytes in pairs(cases) do
    local answer, peer = ask(listener, bytes)
    assert.equal(status, answer.status, name)
    expect_refusal(answer, peer, status)
  end
end

local function accepts(listener, cases)
  for name, bytes in pairs(cases) do
    local answer, peer = ask(listener, bytes)
    assert.equal(101, answer.status, name)
    assert.equal("sip", answer:get "Sec-WebSocket-Protocol")
    peer:close()
  end
end

describe("a request", function()
  local function never()
    return listen { on_connection = helper.never "on_connection",
                    on_request = helper.never "on_request" }
  end

  it("that is right is accepted, as HTTP says in any shape", function()
    accepts(listen(), {
      plain = request(),
      cases = request { Upgrade = "uPGRADE:WebSocket",
                        Connection = "CONNECTION:\tkeep-alive , UPGRADE\t" },
      lists = request({ Connection = "Connection: keep-alive",
                        ["Sec-WebSocket-Protocol"] =
                          "Sec-WebSocket-Protocol: chat,,x" },
        "connection: upgrade", "sec-websocket-protocol: a , sip"),
      extension = request(nil, "Sec-WebSocket-Extensions: permessage-deflate"),
      upgrades = request { Upgrade = "Upgrade: h2c, websocket" },
      ipv6 = request { Host = "Host: [::1]:80" },
      newer = request { line = "GET / HTTP/1.2" },
      no_body = request(nil, "Content-Length: 0", "Origin: http://evil"),
      longest = request(nil, "X: " .. ("x"):rep(16379 - #request())),
    })
  end)

  it("may come byte by byte", function()
    local listener = listen()
    local answer, peer = ask(listener, request(), function(p, bytes)
      p:dribble(bytes)
    end)
    assert.equal(101, answer.status)
    peer:close()
  end)

  it("that HTTP forbids is refused with 400", function()
    refuses(never(), 400, {
      no_host = request { Host = false },
      two_hosts = request(nil, "Host: pbx.example"),
      empty_host = request { Host = "Host:" },
      bad_host = request { Host = "Host: a b" },
      path_host = request { Host = "Host: a/b" },
      absolute = request { line = "GET http://pbx.example/ HTTP/1.1" },
      star = request { line = "GET * HTTP/1.1" },
      fragment = request { line = "GET /#x HTTP/1.1" },
      body = request(nil, "Content-Length: 1"),
      chunked = request(nil, "Transfer-Encoding: chunked"),
      two_words = request { line = "GET /" },
      four_words = request { line = "GET / x HTTP/1.1" },
      no_http = request { line = "GET / SIP/2.0" },
      folded = request(nil, "X: a", " b"),
      no_colon = request(nil, "nothing"),
      blank_name = request(nil, "Upgrade : websocket"),
      control = request(nil, "X: \1"),
      nul = request(nil, "X: a\0b"),
      bare_lf = request(nil, "X: a\nY: b"),
    })
  end)

  it("with another method is refused with 405", function()
    local listener = never()
    for _, method in ipairs { "POST", "OPTIONS", "get", "INVITE", "HEAD" } do
      local answer, peer = ask(listener,
        request { line = method .. " / HTTP/1.1" })
      assert.equal("GET", answer:get "Allow")
      expect_refusal(answer, peer, 405)
    end
  end)

  it("in HTTP/1.0 is refused with 505", function()
    refuses(never(), 505, { old = request { line = "GET / HTTP/1.0" } })
  end)

  it("for another version is told of 13 with 426", function()
    local listener = never()
    for _, line in ipairs { false, "Sec-WebSocket-Version: 8",
                            "Sec-WebSocket-Version: 13, 8",
                            "Sec-WebSocket-Version: 013",
                            "Sec-WebSocket-Version:" } do
      local answer, peer = ask(listener,
        request { ["Sec-WebSocket-Version"] = line })
      assert.equal("13", answer:get "Sec-WebSocket-Version")
      assert.equal("websocket", answer:get "Upgrade")
      expect_refusal(answer, peer, 426)
    end
    refuses(listener, 426, {
      twice = request(nil, "Sec-WebSocket-Version: 13") })
  end)

  it("that wants no WebSocket, or no SIP, is refused with 400", function()
    refuses(never(), 400, {
      no_upgrade = request { Upgrade = false },
      other_upgrade = request { Upgrade = "Upgrade: websockets" },
      no_connection = request { Connection = false },
      other_connection = request { Connection = "Connection: close" },
      no_protocol = request { ["Sec-WebSocket-Protocol"] = false },
      other_protocol = request {
        ["Sec-WebSocket-Protocol"] = "Sec-WebSocket-Protocol: chat, sips" },
      case = request {
        ["Sec-WebSocket-Protocol"] = "Sec-WebSocket-Protocol: SIP" },
    })
  end)

  it("without one good key is refused with 400", function()
    local cases = { absent = request { ["Sec-WebSocket-Key"] = false },
                    twice = request(nil, "Sec-WebSocket-Key: " .. key) }
    for _, wrong in ipairs { "", "x", key:sub(1, -2), key .. "=", key .. "A",
                             key:sub(1, 21) .. "A==A", key:gsub("^.", "-"),
                             (" "):rep(24), ("A"):rep(24) } do
      cases[wrong] = request { ["Sec-WebSocket-Key"] =
        "Sec-WebSocket-Key: " .. wrong }
    end
    refuses(never(), 400, cases)
  end)

  it("that is too long is refused with 431, though it goes on", function()
    local listener = never()
    for _, bytes in ipairs { request(nil, "X: " .. ("x"):rep(20000)),
                             "GET / HTTP/1.1\r\nX: " .. ("x"):rep(17000),
                             ("x"):rep(17000),
                             request(nil, "X: " ..
                               ("x"):rep(16380 - #request())) } do
      local answer, peer = ask(listener, bytes)
      expect_refusal(answer, peer, 431)
    end
  end)

  it("that is never completed ends with connection_timeout", function()
    local listener = listen { connection_timeout = 0.1 * scale,
      on_connection = helper.never(), on_request = helper.never() }
    for _, bytes in ipairs { "", "GET /", request():sub(1, -2) } do
      local peer = assert(rawpeer.connect { port = listener.port })
      peer:write(bytes)
      peer:wait_end(2)
      assert.equal("", peer:peek())
    end
  end)

  it("whose client left in between is nobody's", function()
    local listener = never()
    for _, leave in ipairs { "close", "reset", "fin" } do
      local peer = assert(rawpeer.connect { port = listener.port })
      peer:write(request():sub(1, 90)):flush()
      helper.pass(2)
      peer[leave](peer)
      helper.pass(5)
    end
  end)
end)

describe("on_request", function()
  -- Answers a request with |fn|; no transport comes of it.
  local function refused(status, fn)
    local listener = listen { on_connection = helper.never "on_connection",
                              on_request = helper.counted(fn) }
    local answer, peer = ask(listener, request())
    expect_refusal(answer, peer, status)
    return answer
  end

  it("is told what the client sent", function()
    local seen, given, peer
    local listener = listen {
      on_request = function(r) seen = r end,
      on_connection = function(t, r) given = r t:dispose() end,
    }
    peer = select(2, ask(listener, request(
      { line = "GET /a%20b?c=d?e HTTP/1.1" },
      "X-Many: 1", "x-many:  2 ", "Cookie: a=b")))
    run_until(function() return given end)
    assert.equal(seen, given)
    assert.equal("/a%20b?c=d?e", seen.target)
    assert.equal("/a%20b", seen.path)
    assert.equal("c=d?e", seen.query)
    assert.is_false(seen.secure)
    assert.equal("1, 2", seen.headers["x-many"])
    assert.equal("a=b", seen.headers.cookie)
    assert.equal("pbx.example:5060", seen.headers.host)
    assert.equal(key, seen.headers["sec-websocket-key"])
    local name = peer.handle:getsockname()
    assert.equal(("127.0.0.1:%d"):format(name.port), seen.peer_address)
    ask(listener, request { line = "GET / HTTP/1.1" })
    assert.is_nil(seen.query)
    ask(listener, request { line = "GET /? HTTP/1.1" })
    assert.equal("", seen.query)
  end)

  it("accepts with nil and true", function()
    for _, fn in ipairs { function() end, function() return true end,
                          function() return nil, "ignored" end } do
      local on_connection, counter = helper.counted(function(t)
        t:dispose()
      end)
      local listener = listen { on_request = fn,
                                on_connection = on_connection }
      assert.equal(101, ask(listener, request()).status)
      run_until(function() return counter.count == 1 end)
    end
  end)

  it("refuses with false, a status, a reason and headers", function()
    assert.equal("HTTP/1.1 403 Forbidden",
      refused(403, function() return false end).first)
    assert.equal("HTTP/1.1 404 Not Found",
      refused(404, function() return 404 end).first)
    assert.equal("HTTP/1.1 300 Multiple Choices",
      refused(300, function() return 300 end).first)
    assert.equal("HTTP/1.1 599 ", refused(599, function() return 599 end).first)
    assert.equal("HTTP/1.1 403 No, sir",
      refused(403, function() return false, "No, sir" end).first)
    local answer = refused(401, function()
      return 401, nil, { ["WWW-Authenticate"] = { "Basic", "Digest x" },
                         ["X-A"] = "b" }
    end)
    assert.equal("HTTP/1.1 401 Unauthorized", answer.first)
    assert.equal("Basic, Digest x", answer:get "WWW-Authenticate")
    assert.equal("b", answer:get "X-A")
    answer = refused(302, function()
      return 302, "There", { Location = "ws://there/" }
    end)
    assert.equal("HTTP/1.1 302 There", answer.first)
    assert.equal("ws://there/", answer:get "Location")
  end)

  it("that raises or answers nonsense refuses with 500 (C47)", function()
    local errors = collect_errors()
    for i, case in ipairs {
      { "own fault", function() error "own fault" end },
      { "not yes", function() return "yes" end },
      { "not 404.5", function() return 404.5 end },
      { "a status from 300 to 599, not ", function() return 200 end },
      { "a status from 300 to 599, not ", function() return 101 end },
      { "a status from 300 to 599, not ", function() return 600 end },
      { "a status from 300 to 599, not ", function() return -1 end },
      { "a reason that is a string", function() return 403, 1 end },
      { "control character", function() return 403, "a\r\nX: b" end },
      { "must be a table", function() return 403, nil, "X: y" end },
      { "header 'A'", function() return 403, nil, { A = 1 } end },
      { "control character", function()
        return 403, nil, { A = "a\r\nb: c" }
      end },
      { "by the upgrade", function()
        return 403, nil, { Connection = "keep-alive" }
      end },
    } do
      local answer = refused(500, case[2])
      assert.equal("HTTP/1.1 500 Internal Server Error", answer.first)
      assert.equal(i, #errors)
      assert.matches(case[1], errors[i][1], 1, true)
      assert.equal("on_request", errors[i][2])
    end
  end)

  it("may be slow or fast: others are served meanwhile", function()
    local n = 0
    local listener = listen { on_request = function()
      n = n + 1
      if n % 2 == 0 then return 403 end
    end }
    local peers = {}
    for i = 1, 20 do
      peers[i] = assert(rawpeer.connect { port = listener.port })
      peers[i]:write(request())
    end
    local counts = {}
    for i = 1, 20 do
      local status = peers[i]:read_head().status
      counts[status] = (counts[status] or 0) + 1
    end
    assert.same({ [101] = 10, [403] = 10 }, counts)
  end)

  it("answers our own client, too", function()
    local listener = listen { on_request = function(r)
      if r.headers.cookie ~= "let=me" then
        return 401, "Who?", { ["X-Hint"] = "cookie" }
      end
    end, on_connection = function(t) t:send "welcome" end }
    local t = sipwire.new { server = listener.url }
    local outcome = pair.finish(pair.connect(t))
    assert.equal("http", outcome.code)
    assert.matches("401 Who?", outcome.err, 1, true)
    assert.equal(401, outcome.info.http_status)
    assert.equal("cookie", outcome.info.http_headers["x-hint"])
    local seen
    t, seen = pair.client { server = listener.url,
                            headers = { Cookie = "let=me" } }
    assert.is_nil(pair.finish(pair.connect(t)).err)
    run_until(function() return seen.messages[1] == "welcome" end)
    t:disconnect()
    pair.gone(t)
  end)
end)

describe("on_connection", function()
  it("that raises leaves the connection to the handler of errors (C47)",
    function()
      local errors, t = collect_errors(), nil
      local listener = listen { on_connection = function(accepted)
        t = accepted
        error "own fault"
      end }
      local answer, peer = ask(listener, request())
      assert.equal(101, answer.status)
      assert.equal(1, #errors)
      assert.matches("own fault", errors[1][1], 1, true)
      assert.equal("on_connection", errors[1][2])
      assert.equal("Connected", t.state)
      t:disconnect()
      peer:answer_close()
      pair.gone(t)
    end)
end)
