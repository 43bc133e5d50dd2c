-- SPDX-License-Identifier: MIT
-- Through HTTP proxies (CONNECT, RFC 9110 section 9.3.6): tinyproxy, and peers
-- that say what no proxy should.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local daemon = require "spec.support.daemon"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

local BASIC = 'Proxy-Authenticate: Basic realm="p"\r\n'
local DIGEST = 'Proxy-Authenticate: Digest realm="p", nonce="n", qop="auth"\r\n'
local ASKS = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\n\r\n"
local OK = "HTTP/1.1 200 Connection established\r\n\r\n"

local tinyproxy, guarded

local function file(name) return helper.certs() .. "/" .. name end

setup(function()
  tinyproxy = daemon.tinyproxy()
  guarded = daemon.tinyproxy "BasicAuth alice pass-word"
end)
teardown(function()
  tinyproxy.process:stop()
  guarded.process:stop()
end)

helper.watch()

local function refused(status, fields)
  return ("HTTP/1.1 %s\r\n%sContent-Length: 0\r\n\r\n"):format(status,
    fields or "")
end

local function client(server, proxy, more)
  local options = { server = server, proxy = proxy,
                    tls = { ca_file = file "ca.pem" } }
  for name, value in pairs(more or {}) do options[name] = value end
  return pair.client(options)
end

local function finish(t)
  local outcome = pair.finish(pair.connect(t))
  outcome.stats = t:stats()
  t:disconnect()
  pair.gone(t)
  return outcome
end

local function echo(options)
  options = options or {}
  options.on_connection = function(t)
    t.on_message = function(_, text) t:send(text) end
  end
  local listener = assert(sipwire.listen(options))
  run.track { close = function() listener:close() end }
  return listener
end

local function secure_echo(name, address)
  return echo { address = address, tls = {
    cert_file = file(name .. ".pem"), key_file = file(name .. ".key") } }
end

local function passes(server, proxy, more)
  local t, seen = client(server, proxy, more)
  local outcome = pair.finish(pair.connect(t))
  assert.is_nil(outcome.err)
  local message = ("x"):rep(100000)
  t:send(message)
  helper.run_until(function() return seen.messages[1] == message end)
  t:disconnect()
  pair.gone(t)
end

local function fails(code, phase, words, outcome)
  assert.equal(code, outcome.code)
  assert.equal(phase, outcome.info.phase)
  assert.matches(words, outcome.err, 1, true)
end

-- A proxy that answers its n-th connection's CONNECT with the n-th answer; what
-- it lets through it answers for the server: |inner|[n] or an upgrade.
local function proxy_of(answers, inner)
  local heads, requests, server = {}, {}, rawpeer.listen()
  server:each(function(c)
    local n = #heads + 1
    heads[n] = false
    heads[n] = c:read_head()
    local answer = answers[math.min(n, #answers)]
    c:write(answer)
    if answer:find "^HTTP/1.1 2" then
      requests[n] = c:read_head()
      local refusal = inner and inner[math.min(n, #inner)]
      if not refusal then
        c:write(rawpeer.response(requests[n]))
        c:answer_close()
      else
        c:write(refusal)
      end
    end
    c:wait_end()
  end)
  server.heads, server.requests = heads, requests
  server.at = ("127.0.0.1:%d"):format(server.port)
  server.proxy = "http://" .. server.at
  return server
end

local NAME = "ws://only-the-proxy-knows.test:5066/x"

describe("tinyproxy", function()
  local function url() return "http://127.0.0.1:" .. tinyproxy.port end

  it("leads to servers with names and with addresses", function()
    local port = echo().port
    passes("ws://127.0.0.1:" .. port, url())
    passes("ws://localhost:" .. port, url() .. "/")
    passes(("ws://[::1]:%d/"):format(echo { address = "::1" }.port), url())
  end)

  it("leads to servers with TLS, whose own names are checked", function()
    local port = secure_echo("server").port
    passes("wss://127.0.0.1:" .. port, url())
    passes("wss://localhost:" .. port, url())
    passes(("wss://[::1]:%d/"):format(secure_echo("server", "::1").port), url())
    for name, words in pairs { ["wrong-host"] = "hostname mismatch",
                               other = "local issuer" } do
      local server = "wss://localhost:" .. secure_echo(name).port
      fails("tls", "tls", words, finish(client(server, url())))
    end
  end)

  it("says what it could not do", function()
    local closed = rawpeer.refusing()
    local outcome = finish(client(closed:url(), url()))
    fails("http", "proxy", "tunnel refused: HTTP status 500", outcome)
    assert.equal(500, outcome.info.http_status)
    assert.matches("^text/html", outcome.info.http_headers["content-type"])
  end)

  it("wants a password, if it is told to", function()
    local at = "@127.0.0.1:" .. guarded.port
    local port, secure_port = echo().port, secure_echo("server").port
    local right = "http://alice:p%61ss%2dword" .. at
    passes("ws://localhost:" .. port, right)
    passes("wss://localhost:" .. secure_port, right)
    for _, who in ipairs { "", "alice@", "alice:guess@", "bob:pass-word@" } do
      local outcome = finish(client("ws://localhost:" .. port,
        "http://" .. who .. at:sub(2)))
      local status = who == "" and 407 or 401 -- tinyproxy's "wrong"
      fails("http", "proxy", "tunnel refused: HTTP status " .. status, outcome)
      assert.is_nil(outcome.err:find("guess", 1, true))
      assert.equal(status, outcome.info.http_status)
    end
  end)
end)

describe("a proxy", function()
  it("is asked for the server, and resolves its name", function()
    for server, authority in pairs {
      [NAME] = "only-the-proxy-knows.test:5066",
      ["ws://only-the-proxy-knows.test"] = "only-the-proxy-knows.test:80",
      ["ws://[::1]:81/"] = "[::1]:81", ["ws://10.0.0.1?x"] = "10.0.0.1:80",
    } do
      local proxy = proxy_of { OK }
      local t = client(server, proxy.proxy, { headers = { Cookie = "a=b" } })
      assert.is_nil(finish(t).err)
      assert.equal(("CONNECT %s HTTP/1.1\r\nHost: %s\r\n\r\n"):format(authority,
        authority), proxy.heads[1].raw)
      assert.equal("a=b", proxy.requests[1]:get "Cookie")
      local host = authority:gsub(":80$", "")
      assert.equal(host, proxy.requests[1]:get "Host")
    end
  end)

  it("may answer byte by byte, and with more 2xx and 1xx", function()
    for _, answer in ipairs { OK, "HTTP/1.0 200\r\n\r\n",
      "HTTP/1.1 204 x\r\nTransfer-Encoding: chunked\r\n\r\n",
      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\nA: b\r\n\r\n" .. OK } do
      local server = rawpeer.listen()
      local t = client(NAME, "http://127.0.0.1:" .. server.port)
      local outcome = pair.connect(t)
      local c = server:accept()
      c:read_head()
      c:dribble(answer)
      c:answer_upgrade()
      assert.is_nil(pair.finish(outcome).err)
      pair.part(t, c)
    end
  end)

  it("gets no TLS hello before it has connected", function()
    local proxy = rawpeer.listen()
    local outcome = pair.connect(client("wss://a.test",
      "http://127.0.0.1:" .. proxy.port))
    local c = proxy:accept()
    assert.equal("CONNECT a.test:443 HTTP/1.1", c:read_head().first)
    helper.pass(20)
    assert.equal("", c:peek())
    c:write(OK)
    assert.equal("\22\3", c:take(2))
    helper.run_until(function() return c:peek():find("a.test", 1, true) end)
    c:reset()
    fails("reset", "tls", "", pair.finish(outcome))
  end)

  it("gets an answer to its 407, once", function()
    local proxy = proxy_of { refused("407 P", DIGEST), OK }
    local with = "http://u:p@" .. proxy.at
    assert.is_nil(finish(client(NAME, with)).err)
    assert.equal(2, proxy.accepted)
    assert.is_nil(proxy.heads[1]:get "Proxy-Authorization")
    local answer = proxy.heads[2]:get "Proxy-Authorization"
    assert.matches('^Digest username="u", .*uri="only%-the%-proxy%-knows%.' ..
      'test:5066", qop=auth, nc=00000001, ', answer)
    assert.is_nil(proxy.requests[2].raw:find "Authorization")
    proxy = proxy_of { refused("407 P", BASIC) }
    with = "http://u:hunter2@" .. proxy.at
    local outcome = finish(client(NAME, with))
    fails("http", "proxy", "credentials were refused: HTTP status 407 P",
      outcome)
    assert.is_nil(outcome.err:find("hunter2", 1, true))
    assert.equal(2, proxy.accepted)
    assert.equal("Basic dTpodW50ZXIy",
      proxy.heads[2]:get "Proxy-Authorization")
    assert.is_nil(proxy.heads[2]:get "Authorization")
  end)

  it("gets a digest of its own request", function()
    local function md5(text)
      local _, out = process.run { "md5sum", input = text }
      return out:match "^%x+"
    end
    local proxy = proxy_of { refused("407 P",
      'Proxy-Authenticate: Digest realm="p", nonce="n"\r\n'), OK }
    assert.is_nil(finish(client(NAME, "http://u:p@" .. proxy.at)).err)
    local uri = "only-the-proxy-knows.test:5066"
    assert.equal(('Digest username="u", realm="p", nonce="n", uri="%s", ' ..
      'response="%s"'):format(uri, md5(md5 "u:p:p" .. ":n:" ..
      md5("CONNECT:" .. uri))), proxy.heads[2]:get "Proxy-Authorization")
  end)

  it("may have a name and password with escapes", function()
    local proxy = proxy_of { refused("407 P", BASIC), OK }
    local with = "http://a%20b:p%40ss:w%25rd%2f%E4@" .. proxy.at
    assert.is_nil(finish(client(NAME, with)).err)
    assert.equal("Basic YSBiOnBAc3M6dyVyZC/k",
      proxy.heads[2]:get "Proxy-Authorization")
  end)

  it("does not get the server's password, nor the server the proxy's",
    function()
      local proxy = proxy_of({ refused("407 P", BASIC), OK,
        refused("407 P", BASIC), OK }, { false, ASKS, false, false })
      local who = { username = "server", password = "s" }
      local with = "http://u:p@" .. proxy.at
      assert.is_nil(finish(client(NAME, with, who)).err)
      assert.equal(4, proxy.accepted)
      for n, wanted in ipairs { "", "Basic dTpw", "", "Basic dTpw" } do
        local head = proxy.heads[n]
        assert.equal(wanted, head:get "Proxy-Authorization" or "")
        assert.is_nil(head:get "Authorization")
      end
      assert.is_nil(proxy.requests[2]:get "Authorization")
      assert.equal("Basic c2VydmVyOnM=", proxy.requests[4]:get "Authorization")
      assert.is_nil(proxy.requests[4]:get "Proxy-Authorization")
      -- it may also let us in at once the second time
      proxy = proxy_of({ refused("407 P", BASIC), OK, OK },
        { false, ASKS, ASKS })
      with = "http://u:p@" .. proxy.at
      fails("http", "upgrade", "credentials were refused: HTTP status 401",
        finish(client(NAME, with, who)))
      assert.equal(3, proxy.accepted)
    end)

  it("asks without end for nothing", function()
    local proxy = proxy_of({ refused("407 P", BASIC), OK,
      refused("407 P", BASIC) }, { false, ASKS })
    fails("http", "proxy", "credentials were refused: HTTP status 407",
      finish(client(NAME, "http://u:p@" .. proxy.at, { username = "server" })))
    assert.equal(4, proxy.accepted)
    -- a 401 of the proxy's is none of the server's
    proxy = proxy_of { refused("401 No", "WWW-Authenticate: Basic\r\n" ..
      BASIC) }
    fails("http", "proxy", "tunnel refused: HTTP status 401",
      finish(client(NAME, "http://u:p@" .. proxy.at, { username = "server" })))
    assert.equal(1, proxy.accepted)
  end)

  it("is told apart from the server when it refuses", function()
    for status, words in pairs { ["403 Forbidden"] = "403 Forbidden",
      ["502 Bad Gateway"] = "502", ["302 Found"] = "302",
      ["101 Switching Protocols"] = "tunnel refused" } do
      local proxy = proxy_of { refused(status, "X-Why: because\r\n") }
      local outcome = finish(client(NAME, proxy.proxy))
      fails("http", "proxy", words, outcome)
      assert.equal(tonumber(status:match "%d+"), outcome.info.http_status)
      assert.equal("because", outcome.info.http_headers["x-why"])
    end
  end)

  it("that speaks something else is found out", function()
    for answer, words in pairs {
      ["SSH-2.0-OpenSSH\r\n"] = "not an HTTP", ["\22\3\1\0\5"] = "not an HTTP",
      ["HTTP/2 200\r\n\r\n"] = "", ["HTTP/1.1 200 OK\nA: b\n\n"] = "",
      ["HTTP/1.1 200 OK\r\nA b\r\n\r\n"] = "",
      [OK .. "\129\2hi"] = "proxy sent data of its own",
      [OK .. OK] = "proxy sent data of its own",
      ["HTTP/1.1 200 OK\r\n" .. ("A: b\r\n"):rep(20000)] = "too long",
    } do
      local proxy = rawpeer.listen()
      proxy:each(function(c)
        c:read_head()
        c:write(answer):wait_end()
      end)
      fails("http", "proxy", words, finish(client(NAME,
        "http://127.0.0.1:" .. proxy.port)))
    end
  end)

  it("may end instead of answering", function()
    for how, code in pairs { fin = "closed", reset = "reset" } do
      for _, before in ipairs { "", "HTTP/1.1 2" } do
        local proxy = rawpeer.listen()
        proxy:each(function(c)
          c:read_head()
          c:write(before):flush()
          c[how](c)
        end)
        fails(code, "proxy", "", finish(client(NAME,
          "http://127.0.0.1:" .. proxy.port)))
      end
    end
  end)

  it("has no more time than a server", function()
    local proxy = rawpeer.listen()
    local began, limit = run.now(), 0.1 * run.scale
    fails("timeout", "proxy", "proxy did not connect in time", finish(
      client(NAME, "http://127.0.0.1:" .. proxy.port,
        { connection_timeout = limit })))
    assert.is_true(run.now() - began >= limit * 0.99)
  end)

  it("that is not there is named as what is missing", function()
    local closed = rawpeer.refusing()
    fails("refused", "tcp", "proxy: ", finish(client("ws://127.0.0.1:" ..
      echo().port, "http://127.0.0.1:" .. closed.port)))
    fails("dns", "dns", "proxy: ", finish(client("ws://127.0.0.1:" ..
      echo().port, "http://nowhere.invalid:8080")))
  end)

  it("may be left at any time", function()
    local proxy = rawpeer.listen()
    proxy:each(function(c)
      local answer = refused("407 P", BASIC)
      run.wait(function() return c:peek():find "\n\r\n$" or c:ended() end)
      if c:peek():find "Authorization" then answer = OK end
      c:write(answer)
      run.wait(function() return c:ended() or c:peek():find "\22\3" end)
      c:close()
    end)
    local codes = pair.leave_at_every_turn(function()
      return client("wss://a.test", "http://u:p@127.0.0.1:" .. proxy.port)
    end)
    assert.is_true(codes.aborted)
  end)

  it("that failed leaves the transport as good as new (C20)", function()
    local proxy = proxy_of { refused "503 x", OK }
    local t = client(NAME, proxy.proxy)
    fails("http", "proxy", "503", finish(t))
    assert.is_nil(finish(t).err)
  end)
end)
