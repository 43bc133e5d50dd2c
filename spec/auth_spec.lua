-- SPDX-License-Identifier: MIT
-- Answers to a server's 401: who gets them, when, and how often (RFC 7616,
-- 7617). The digests are checked by Python, Basic by nginx.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local daemon = require "spec.support.daemon"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

local PASSWORD = 'op\195\169n: "ses\\ame"' -- as digest.py has it
local BASIC = 'WWW-Authenticate: Basic realm="x"\r\n'
local DIGEST = 'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth"\r\n'

local python, ports, nginx

local function file(name) return helper.certs() .. "/" .. name end

setup(function()
  python = process.spawn { "python3", helper.root .. "/spec/support/digest.py",
                           file "server.pem", file "server.key" }
  ports = python:json(20)
  local users = helper.tmpdir() .. "/users" -- base64 of "secret"'s SHA-1
  local out = assert(io.open(users, "w"))
  out:write "alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n"
  out:close()
  nginx = daemon.nginx(([[
    ssl_certificate %s; ssl_certificate_key %s;
    server {
      listen 127.0.0.1:PORT; listen 127.0.0.1:SECURE_PORT ssl;
      auth_basic "a realm"; auth_basic_user_file %s;
      location ~ ^/(\d+)$ {
        proxy_pass http://127.0.0.1:$1; proxy_http_version 1.1;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection Upgrade;
      }
    }]]):format(file "server.pem", file "server.key", users))
end)
teardown(function()
  python:stop()
  nginx.process:stop()
end)

helper.watch()

-- A client of |server| that is alice unless |more| says else.
local function client(server, more)
  local options = { server = server, username = "alice", password = PASSWORD,
                    tls = { ca_file = file "ca.pem" } }
  for name, value in pairs(more or {}) do options[name] = value or nil end
  return pair.client(options)
end

-- A server that gives one answer to each connection, a string or "good", the
-- last one to all further ones; and the heads that it read.
local function serve(...)
  local answers, heads, server = { ... }, {}, rawpeer.listen()
  server:each(function(c)
    local n = #heads + 1
    heads[n] = false
    heads[n] = c:read_head()
    local answer = answers[math.min(n, #answers)]
    if answer ~= "good" then
      c:write(answer):wait_end()
      return
    end
    c:write(rawpeer.response(heads[n]))
    c:answer_close()
  end)
  return server, heads
end

local function refusal(fields, status)
  return ("HTTP/1.1 %s\r\n%sContent-Length: 0\r\n\r\n"):format(
    status or "401 Unauthorized", fields or "")
end

local function works(t, server, heads)
  local before = server.accepted
  assert.is_nil(pair.try(t).err)
  for i = before + 1, server.accepted - 1 do
    assert.is_nil(heads[i]:get "Authorization")
  end
end

local function refused(words, outcome)
  assert.equal("http", outcome.code)
  assert.equal("upgrade", outcome.info.phase)
  assert.matches(words, outcome.err, 1, true)
  assert.is_nil(outcome.err:find(PASSWORD, 1, true))
end

describe("a server that wants a digest", function()
  local wishes = { "", "?algorithm=MD5&qop=auth", "?algorithm=SHA-256",
    "?algorithm=SHA-256&qop=auth", "?algorithm=SHA-256-sess&qop=auth-int",
    "?algorithm=MD5-sess&qop=auth", "?algorithm=SHA-512-256&qop=auth",
    "?algorithm=SHA-256&qop=auth&userhash=true", "?algorithm=MD5-sess" }

  local function answers(scheme)
    for _, wish in ipairs(wishes) do
      local target = "/a%20b;c,d" .. wish
      local outcome = pair.try(client(("%s://127.0.0.1:%d%s"):format(scheme,
        ports[scheme], target)))
      local first, second = python:json(), python:json()
      assert.is_nil(outcome.err, second.why)
      assert.same({ 401, "no answer", {} },
        { first.status, first.why, first.fields })
      assert.equal(101, second.status)
      assert.equal(scheme == "wss", second.secure)
      assert.equal(target, second.target)
      assert.is_true(outcome.stats.upgrade_time > 0)
    end
  end

  it("gets the right one over ws", function() answers "ws" end)
  it("gets the right one over wss", function() answers "wss" end)

  it("gets one only", function()
    for _, query in ipairs { "", "?qop=auth&stale=true" } do
      local outcome = pair.try(client("ws://127.0.0.1:" .. ports.ws .. "/" ..
        query, { password = "guess" }))
      refused("credentials were refused: HTTP status 401 Unauthorized", outcome)
      assert.equal(401, outcome.info.http_status)
      assert.equal("no answer", python:json().why)
      assert.equal("response is wrong", python:json().why)
      assert.same({}, python.lines)
    end
  end)
end)

describe("nginx with auth_basic", function()
  local function url(scheme, listener)
    return ("%s://127.0.0.1:%d/%d"):format(scheme,
      scheme == "ws" and nginx.port or nginx.secure_port, listener.port)
  end

  local function listen(n)
    local accept, calls = helper.counted(function(t, request)
      t.on_message = function(_, text) t:send(text) end
      assert.equal("Basic YWxpY2U6c2VjcmV0", request.headers.authorization)
    end, n)
    local listener = assert(sipwire.listen { on_connection = accept })
    run.track { close = function() listener:close() end }
    return listener, calls
  end

  it("lets in who knows the password, over ws and wss", function()
    local listener = listen(2)
    for _, scheme in ipairs { "ws", "wss" } do
      local t, seen = client(url(scheme, listener), { password = "secret" })
      assert.is_nil(pair.finish(pair.connect(t)).err)
      t:send "through"
      helper.run_until(function() return seen.messages[1] == "through" end)
      t:disconnect()
      pair.gone(t)
    end
  end)

  it("refuses everybody else", function()
    local listener = listen(0)
    for _, scheme in ipairs { "ws", "wss" } do
      local outcome = pair.try(client(url(scheme, listener)))
      refused("credentials were refused", outcome)
      assert.equal('Basic realm="a realm"',
        outcome.info.http_headers["www-authenticate"])
      outcome = pair.try(client(url(scheme, listener),
        { username = false, password = false }))
      refused("HTTP status 401", outcome)
    end
  end)
end)

describe("a 401", function()
  it("is answered on a second connection, in that field only", function()
    local server, heads = serve(refusal(BASIC), "good")
    local t = client(server:url "/x?y", { username = "Aladdin",
      password = "open sesame", headers = { Origin = "https://o" } })
    assert.is_nil(pair.try(t).err)
    assert.equal(2, server.accepted)
    assert.is_nil(heads[1]:get "Authorization")
    assert.equal("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==",
      heads[2]:get "Authorization")
    local function others(head)
      return (head.raw:gsub("\r\nAuthorization: [^\r]*", "")
        :gsub("(Key: )%S+", "%1"))
    end
    assert.equal(others(heads[1]), others(heads[2]))
    assert.are_not.equal(heads[1]:get "Sec-WebSocket-Key",
      heads[2]:get "Sec-WebSocket-Key")
  end)

  it("is the end if we are nobody, or do not know how", function()
    for answer, words in pairs {
      [refusal()] = "no challenge that can be answered",
      [refusal 'WWW-Authenticate: Negotiate\r\n'] = "no challenge that can",
      [refusal 'Proxy-Authenticate: Basic realm="x"\r\n'] = "no challenge that",
      [refusal('Proxy-Authenticate: Basic realm="x"\r\n' .. BASIC,
        "407 Proxy Authentication Required")] = "HTTP status 407",
      [refusal(BASIC, "403 Forbidden")] = "upgrade refused: HTTP status 403",
    } do
      local server = serve(answer)
      refused(words, pair.try(client(server:url())))
      assert.equal(1, server.accepted)
    end
    local server = serve(refusal(BASIC))
    local outcome = pair.try(client(server:url(),
      { username = false, password = false }))
    refused("upgrade refused: HTTP status 401 Unauthorized", outcome)
    assert.equal(1, server.accepted)
    assert.equal(401, outcome.info.http_status)
    server = serve(refusal(BASIC)) -- a colon would end Basic's name
    refused("no challenge",
      pair.try(client(server:url(), { username = "a:b" })))
    assert.equal(1, server.accepted)
  end)

  it("may come in any way that HTTP allows", function()
    for _, first in ipairs {
      "HTTP/1.0 401 \r\n" .. BASIC .. "\r\n",
      "HTTP/1.1 100 Continue\r\n\r\n" .. refusal(BASIC) .. "<html>",
      refusal("www-AUTHENTICATE:basic\r\n"),
      refusal("WWW-Authenticate: Bearer\r\n" .. BASIC .. DIGEST),
      "HTTP/1.1 401 x\r\n" .. BASIC .. ("X: y\r\n"):rep(2000) .. "\r\n",
    } do
      local server, heads = serve(first, "good")
      assert.is_nil(pair.try(client(server:url())).err)
      assert.equal(2, server.accepted)
      assert.is_string(heads[2]:get "Authorization")
    end
  end)

  it("may drip, and be followed by a reset", function()
    local server = rawpeer.listen()
    local outcome = pair.connect(client(server:url()))
    local c = server:accept()
    c:read_head()
    c:dribble(refusal(DIGEST))
    c:reset()
    c = server:accept()
    assert.matches("^Digest ", c:read_head():get "Authorization")
    c:write "HTTP/1.1 503 No\r\n\r\n"
    refused("upgrade refused: HTTP status 503 No", pair.finish(outcome))
  end)

  it("makes every connect() begin anew", function()
    local server, heads = serve(refusal(DIGEST), "good")
    local t = client(server:url())
    works(t, server, heads)
    works(t, server, heads) -- the third connection; "good" at once
    assert.equal(3, server.accepted)
    assert.is_nil(heads[3]:get "Authorization")
    local bad, bad_heads = serve(refusal(BASIC))
    t = client(bad:url())
    refused("refused", pair.try(t))
    refused("refused", pair.try(t))
    assert.equal(4, bad.accepted)
    assert.is_nil(bad_heads[3]:get "Authorization")
  end)

  it("sends nothing to anybody else", function()
    local other = rawpeer.listen()
    local moved = refusal("Location: " .. other:url() .. "\r\n", "302 Found")
    local server, heads = serve(refusal(BASIC), moved, moved, refusal(BASIC),
      refusal(BASIC))
    local urls, asked = { server:url(), server:url() }, 0
    local t = client(function()
      asked = asked + 1
      return urls[asked]
    end)
    refused("HTTP status 302", pair.try(t)) -- in answer to the credentials
    assert.is_string(heads[2]:get "Authorization")
    refused("HTTP status 302", pair.try(t))
    assert.equal(2, asked)
    local second, second_heads = serve "good"
    urls[3] = second:url()
    works(t, second, second_heads)
    assert.is_nil(second_heads[1]:get "Authorization")
    urls[4] = server:url()
    refused("refused", pair.try(t))
    assert.equal(4, asked)
    assert.equal(0, other.accepted)
  end)
end)

describe("between the two connections", function()
  -- The client has its 401, and its SYN is not answered.
  local function stuck(more)
    local server = rawpeer.listen()
    local t, seen = client(server:url(), more)
    local outcome = pair.connect(t)
    local c = server:accept()
    c:read_head()
    server:close()
    local hole = rawpeer.black_hole { port = server.port }
    c:write(refusal(BASIC)):wait_end()
    assert.equal("Connecting", t.state)
    return t, outcome, hole, seen
  end

  it("disconnect() ends the attempt", function()
    local t, outcome = stuck()
    local done, calls = helper.counted()
    t:disconnect(done)
    pair.gone(t)
    helper.run_until(function() return calls.count == 1 end)
    assert.equal("aborted", pair.finish(outcome).code)
    local server, heads = serve(refusal(BASIC), "good")
    t = client(server:url())
    works(t, server, heads)
  end)

  it("dispose() leaves nothing behind", function()
    local t, outcome = stuck()
    t:dispose()
    helper.pass(5)
    assert.is_nil(outcome.done)
  end)

  it("time is counted on #timing", function()
    local limit = 0.4 * run.scale
    local server = rawpeer.listen()
    local began = run.now()
    local outcome = pair.connect(client(server:url(),
      { connection_timeout = limit }))
    local c = server:accept()
    c:read_head()
    helper.run_until(function() return run.now() - began > limit * 0.75 end)
    c:write(refusal(BASIC))
    pair.finish(outcome)
    local took = run.now() - began
    assert.equal("timeout", outcome.code)
    assert.equal("upgrade", outcome.info.phase)
    assert.equal(2, server.accepted)
    assert.is_true(took >= limit * 0.99 and took < limit * 1.5, took)
  end)

  it("time is counted on for TCP #timing", function()
    local _, outcome = stuck { connection_timeout = 0.5 * run.scale }
    assert.equal("timeout", pair.finish(outcome).code)
    assert.equal("tcp", outcome.info.phase)
  end)

  it("the port may close", function()
    local server = rawpeer.listen()
    local outcome = pair.connect(client(server:url()))
    local c = server:accept()
    c:read_head()
    server:close()
    c:write(refusal(BASIC))
    assert.equal("refused", pair.finish(outcome).code)
    assert.equal("tcp", outcome.info.phase)
    assert.is_nil(outcome.info.http_status)
  end)

  -- Wherever in the two attempts it comes.
  it("and before and after disconnect() and dispose() may come", function()
    local server = rawpeer.listen()
    server:each(function(c)
      run.wait(function() return c:peek():find "\n\r\n$" or c:ended() end)
      c:write(refusal(DIGEST))
    end)
    local codes = pair.leave_at_every_turn(function()
      return client(server:url())
    end)
    assert.same({ aborted = true, http = true }, codes)
  end)
end)

describe("credentials that cannot be", function()
  local function raises(words, options)
    options.server = options.server or "ws://127.0.0.1:1/"
    local ok, err = pcall(function() sipwire.new(options) end)
    assert.is_false(ok, words)
    assert.matches("auth_spec.lua:%d+: .*" .. words, err)
    assert.is_nil(err:find("hunter2", 1, true))
  end

  it("raise at new()", function()
    for _, bad in ipairs { "a\rb", "a\nb", "a\tb", "a\127", "\1" } do
      raises("username has a control character", { username = bad,
        password = "hunter2" })
    end
    raises("username", { username = "a\0b" })
    raises("username.*empty", { username = "" })
    raises("username is too long", { username = ("a"):rep(100000) })
    raises("username.*string", { username = 1 })
    raises("password needs username", { password = "hunter2" })
    for _, name in ipairs { "Authorization", "authorization" } do
      raises("header 'Authorization' together with username",
        { username = "a", headers = { [name] = "Bearer hunter2" } })
    end
    local ok, err = pcall(sipwire.listen, { username = "a",
      on_connection = function() end })
    assert.is_false(ok)
    assert.matches("unknown option 'username'", err, 1, true)
  end)

  it("raise at connect(), if a function gave the header", function()
    local server = rawpeer.listen()
    local t = client(function()
      return server:url(), { Authorization = "Bearer hunter2" }
    end)
    local ok, err = pcall(t.connect, t)
    assert.is_false(ok)
    assert.matches("header 'Authorization' together with username", err, 1,
      true)
    assert.equal("Disconnected", t.state)
    assert.equal(0, server.accepted)
  end)

  it("are all others", function()
    for username, password in pairs { ["a:b"] = "", ["a\\\"b"] = "c\r\nd",
                                      [("x"):rep(256)] = ("y"):rep(9999) } do
      local server = serve(refusal(DIGEST), "good")
      assert.is_nil(pair.try(client(server:url(), { username = username,
                                                  password = password })).err)
    end
  end)
end)
