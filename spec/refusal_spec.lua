-- SPDX-License-Identifier: MIT
-- Answers that are no upgrade, each wrong in one point only: what the client
-- tells of them (C15), and that it is as good as new afterwards (C20).

local helper = require "spec.helper"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"

helper.watch()

local server, t, seen

-- One attempt that |speak|(peer, request) answers; it must fail with |code| in
-- phase "upgrade".  Returns its info.
local function attempt(code, speak)
  seen.states = {}
  local outcome = pair.connect(t)
  local peer = server:accept()
  speak(peer, peer:read_head())
  pair.finish(outcome)
  assert.equal(code, outcome.code)
  assert.equal(code .. ": ", outcome.err:sub(1, #code + 2))
  assert.equal("upgrade", outcome.info.phase)
  assert.is_nil(outcome.info.close_code)
  assert.same({ "Connecting", "Disconnected" }, seen.states)
  assert.equal("Disconnected", t.state)
  peer:wait_end()
  peer:close()
  return outcome.info, outcome.err
end

local function answers(code, text)
  return attempt(code, function(peer) peer:write(text) end)
end

-- The same with what rawpeer.response() makes of |options|.
local function responds(code, options)
  return attempt(code, function(peer, request)
    peer:write(rawpeer.response(request,
      type(options) == "function" and options(request) or options))
  end)
end

local function begin()
  server = rawpeer.listen()
  t, seen = pair.client { server = server:url() }
end

-- No callback but state_change in all those failures, and then success.
local function works_still()
  assert.equal(0, seen.ups + seen.downs + #seen.messages)
  pair.part(t, pair.reopen(t, server))
  assert.same({ "up", "down" }, seen.order)
end

describe("a refused upgrade", function()
  it("tells status and headers (R25)", function()
    begin()
    for _, line in ipairs { "200 OK", "204 No Content", "302 Found",
                            "400 Bad Request", "401 Unauthorized",
                            "403 Forbidden", "404 Not Found", "426 x", "500 ",
                            "503 Service Unavailable", "599 What", "999 ?" } do
      local info, err = answers("http", "HTTP/1.1 " .. line .. "\r\n" ..
        "Content-Length: 4\r\nX-Why:  be cause \t\r\n" ..
        "www-authenticate: Basic realm=\"a\"\r\n" ..
        "WWW-Authenticate: Digest realm=\"b\"\r\n\r\nbody")
      assert.equal(tonumber(line:match "^%d+"), info.http_status)
      assert.matches(line:match "^%d+", err, 1, true)
      assert.same({ ["content-length"] = "4", ["x-why"] = "be cause",
        ["www-authenticate"] = 'Basic realm="a", Digest realm="b"',
      }, info.http_headers)
    end
    works_still()
  end)

  it("may come in HTTP/1.0, without reason or headers", function()
    begin()
    assert.equal(404, answers("http", "HTTP/1.0 404 No\r\n\r\n").http_status)
    local info = answers("http", "HTTP/1.1 503\r\n\r\n")
    assert.equal(503, info.http_status)
    assert.same({}, info.http_headers)
    works_still()
  end)

  it("is refused however good its headers are", function()
    begin()
    assert.equal(200, responds("http", { status = "200 OK" }).http_status)
    assert.equal(201, responds("http", { status = "201 x" }).http_status)
    works_still()
  end)

  it("is not followed elsewhere; Location is in info (R25)", function()
    begin()
    local other = rawpeer.listen()
    for _, status in ipairs { 300, 301, 302, 303, 307, 308 } do
      local before = server.accepted
      local info = answers("http", ("HTTP/1.1 %d x\r\nLocation: %s\r\n\r\n")
        :format(status, other:url "/there"))
      assert.equal(status, info.http_status)
      assert.equal(other:url "/there", info.http_headers.location)
      helper.pass(5)
      assert.equal(before + 1, server.accepted)
    end
    assert.equal(0, other.accepted)
    works_still()
  end)

  it("may come byte by byte, or behind interim responses", function()
    begin()
    local text = "HTTP/1.1 100 C\r\nX: 1\r\n\r\nHTTP/1.1 403 No\r\nY: 2\r\n\r\n"
    local info = answers("http", text)
    assert.equal(403, info.http_status)
    assert.same({ y = "2" }, info.http_headers)
    info = attempt("http", function(peer) peer:dribble(text) end)
    assert.equal(403, info.http_status)
    assert.same({ y = "2" }, info.http_headers)
    works_still()
  end)
end)

describe("a wrong 101", function()
  local function none_of(code, cases)
    begin()
    for name, options in pairs(cases) do
      local info = responds(code, options)
      assert.equal(101, info.http_status, name)
      assert.is_table(info.http_headers, name)
    end
    works_still()
  end

  local function extra(...)
    return { headers = { ... } }
  end

  local function instead(name, ...)
    return { without = name, headers = { ... } }
  end

  it("in Upgrade fails (R25)", function()
    none_of("http", {
      absent = instead "Upgrade",
      empty = instead("Upgrade", "Upgrade: "),
      other = instead("Upgrade", "Upgrade: h2c"),
      longer = instead("Upgrade", "Upgrade: websocket2"),
      prefix = instead("Upgrade", "Upgrade: websocke"),
      several = instead("Upgrade", "Upgrade: websocket, h2c"),
      more = extra "Upgrade: h2c",
    })
  end)

  it("in Connection fails (R25)", function()
    none_of("http", {
      absent = instead "Connection",
      other = instead("Connection", "Connection: keep-alive"),
      longer = instead("Connection", "Connection: upgrades"),
      quoted = instead("Connection", 'Connection: "Upgrade"'),
    })
  end)

  it("in Sec-WebSocket-Accept fails (R25)", function()
    local right = function(request)
      return rawpeer.response(request):match "Accept: (%S+)"
    end
    none_of("http", {
      absent = instead "Sec-WebSocket-Accept",
      empty = { accept = "" },
      example = { accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" },
      key = function(request)
        return { accept = request:get "Sec-WebSocket-Key" }
      end,
      case = function(request)
        return { accept = (right(request):gsub("%a", function(c)
          return c == c:lower() and c:upper() or c:lower()
        end)) }
      end,
      cut = function(request) return { accept = right(request):sub(1, -2) } end,
      longer = function(request) return { accept = right(request) .. "=" } end,
      twice = function(request)
        return extra("Sec-WebSocket-Accept: " .. right(request))
      end,
      second_wrong = extra "Sec-WebSocket-Accept: x",
    })
  end)

  it("in Sec-WebSocket-Extensions fails (R25)", function()
    none_of("http", {
      deflate = extra "Sec-WebSocket-Extensions: permessage-deflate",
      unknown = extra("sec-websocket-extensions:",
        "Sec-WebSocket-Extensions: x"),
    })
  end)

  it("in Sec-WebSocket-Protocol fails as subprotocol (R2)", function()
    none_of("subprotocol", {
      absent = { protocol = false },
      empty = { protocol = "" },
      other = { protocol = "chat" },
      case = { protocol = "SIP" },
      longer = { protocol = "sips" },
      list = { protocol = "sip, chat" },
      twice = extra "Sec-WebSocket-Protocol: sip",
      second = extra "Sec-WebSocket-Protocol: chat",
    })
  end)

  it("in its version fails", function()
    begin()
    local info = attempt("http", function(peer, request)
      peer:write((rawpeer.response(request):gsub("^HTTP/1.1", "HTTP/1.0")))
    end)
    assert.equal(101, info.http_status)
    works_still()
  end)

  it("brings no message with it", function()
    begin()
    attempt("subprotocol", function(peer, request)
      peer:write(rawpeer.response(request, { protocol = "chat" }) ..
        rawpeer.frames.build { payload = "INVITE" })
    end)
    works_still()
  end)
end)

describe("a malformed answer", function()
  it("fails on the first byte that HTTP/1 cannot have", function()
    begin()
    for _, text in ipairs { "\0", "S", "HTTP/2", "HTTP/1.1  101", "http/1.1 1",
                            "HTTP/1.1 0", "HTTP/1.1 10x", "HTTP/1.x", "\r\n",
                            "HTTP/1.1 101x", "HTTP/1.1 101 a\0", "\21\3\1\0\2",
                            "HTTP/1.1 101 Switching\n", "HTTP/1.1 101\rx",
                            "PRI * HTTP/2.0\r\n", "<html>", "HTTP/1.1\t101" } do
      -- the peer neither ends the head nor the connection
      assert.is_nil(answers("http", text).http_status, text)
    end
    works_still()
  end)

  it("fails on lines that can be read in two ways", function()
    begin()
    for name, line in pairs { no_colon = "Upgrade websocket", empty = ": x",
                              blank = "Upgrade : websocket", folded = " x: y",
                              tab = "\tx: y", control = "X: a\1b",
                              nul = "X: \0", lf = "X: a\nY: b", cr = "X: a\rb",
                              name = "X(: y" } do
      local info = responds("http", { headers = { "A: b", line } })
      assert.is_nil(info.http_status, name)
    end
    works_still()
  end)

  it("fails when it is too long, though it goes on", function()
    begin()
    answers("http", "HTTP/1.1 101 x\r\nX: " .. ("x"):rep(20000))
    answers("http", "HTTP/1.1 101 " .. ("x"):rep(20000))
    answers("http", "HTTP/1.1 101 x\r\n" .. ("X: y\r\n"):rep(3000))
    attempt("http", function(peer, request)
      local short = rawpeer.response(request, { headers = { "X: " } })
      peer:write(rawpeer.response(request,
        { headers = { "X: " .. ("x"):rep(16385 - #short) } }))
    end)
    works_still()
  end)
end)

describe("a connection that ends during the upgrade", function()
  local stages = {
    ["before the request is read"] = function() return "" end,
    ["in the status line"] = function() return "HTTP/1.1 10" end,
    ["in the headers"] = function(answer) return answer:sub(1, 60) end,
    ["one byte before the end"] = function(answer) return answer:sub(1, -2) end,
    ["after an interim response"] = function()
      return "HTTP/1.1 100 Continue\r\n\r\n"
    end,
  }

  it("tells nothing of an interim response (C20)", function()
    begin()
    local info = attempt("http", function(peer)
      peer:write("HTTP/1.1 100 Continue\r\nA: b\r\n\r\n" ..
        "HTTP/2 garbage\r\n\r\n")
    end)
    assert.is_nil(info.http_status)
    assert.is_nil(info.http_headers)
    works_still()
  end)

  it("by FIN fails as closed, at every stage", function()
    begin()
    for _, cut in pairs(stages) do
      attempt("closed", function(peer, request)
        peer:write(cut(rawpeer.response(request))):fin()
      end)
    end
    works_still()
  end)

  it("by RST fails as reset, at every stage", function()
    begin()
    for _, cut in pairs(stages) do
      local info = attempt("reset", function(peer, request)
        peer:write(cut(rawpeer.response(request))):flush():reset()
      end)
      assert.equal(104, info.errno)
    end
    works_still()
  end)

  it("before the request is there fails too", function()
    begin()
    for code, hang_up in pairs { closed = "close", reset = "reset" } do
      local outcome = pair.connect(t)
      local peer = server:accept()
      peer[hang_up](peer)
      pair.finish(outcome)
      -- a close() on unread bytes is a reset
      assert.is_true(outcome.code == code or outcome.code == "reset")
      assert.equal("upgrade", outcome.info.phase)
    end
    works_still()
  end)

  it("is told with the status, if that was there before the RST", function()
    begin()
    local info = attempt("http", function(peer)
      peer:write "HTTP/1.1 403 Forbidden\r\n\r\n":flush():reset()
    end)
    assert.equal(403, info.http_status)
    works_still()
  end)
end)
