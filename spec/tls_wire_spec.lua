-- SPDX-License-Identifier: MIT
-- wss on the wire: versions, records, ends, and peers that speak something
-- else.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local relay = require "spec.support.relay"
local run = require "spec.support.run"

local run_until = helper.run_until

-- It would say that nothing is verified.
before_each(function() helper.default_loop().on_log = function() end end)
after_each(function() helper.default_loop().on_log = nil end)

helper.watch()

local function file(name) return helper.certs() .. "/" .. name end

local function server_tls(more)
  local tls = { cert_file = file "server.pem", key_file = file "server.key" }
  for option, value in pairs(more or {}) do tls[option] = value end
  return tls
end

-- A listener that speaks TLS, and a list of the transports it accepted.
local function listen(tls, options)
  local accepted = {}
  local given = { tls = server_tls(tls), connection_timeout = 5 * run.scale,
                  on_connection = function(t) table.insert(accepted, t) end }
  for name, value in pairs(options or {}) do given[name] = value end
  local listener = assert(sipwire.listen(given))
  run.track { close = function() listener:close() end }
  return listener, accepted
end

local function client(port, tls, options)
  local given = { server = ("wss://127.0.0.1:%d/"):format(port),
                  tls = { ca_file = file "ca.pem" } }
  for name, value in pairs(tls or {}) do given.tls[name] = value end
  for name, value in pairs(options or {}) do given[name] = value end
  return pair.client(given)
end

local function attempt(port, tls)
  local t = client(port, tls)
  local outcome = pair.finish(pair.connect(t))
  t:disconnect()
  pair.gone(t)
  return outcome
end

-- A client that is Connected through a relay, and the server's transport.
local function open(options)
  local listener, accepted = listen()
  local r = relay.listen(listener.port)
  local t, seen = client(r.port, nil, options)
  assert.is_nil(pair.finish(pair.connect(t, seen)).err)
  run_until(function() return accepted[1] end)
  return t, seen, accepted[1], r
end

local function part(t, served)
  t:disconnect()
  pair.gone(t)
  pair.gone(served)
end

describe("wss", function()
  it("tells itself by protocol, addresses, info and times", function()
    local secure
    local listener, accepted = listen(nil, {
      on_request = function(request) secure = request.secure end })
    assert.equal("wss://127.0.0.1:" .. listener.port, listener.url)
    local t = client(listener.port)
    assert.equal("WSS", t.protocol)
    assert.is_nil(pair.finish(pair.connect(t)).err)
    run_until(function() return accepted[1] end)
    assert.is_true(secure)
    assert.equal("WSS", accepted[1].protocol)
    assert.equal(t.local_address, accepted[1].peer_address)
    local stats = t:stats()
    for _, time in ipairs { "tcp_time", "tls_time", "upgrade_time" } do
      assert.is_true(stats[time] >= 0 and stats[time] < 5 * run.scale)
    end
    assert.is_true(stats.tls_time > 0)
    part(t, accepted[1])
  end)

  it("carries messages of 1 MB both ways, byte for byte (R38)", function()
    local t, seen, served = open()
    local echoed = {}
    served.on_message = function(_, message, binary)
      table.insert(echoed, message)
      served:send(message, nil, binary and "binary" or "text")
    end
    local big = {}
    for i = 1, 16384 do big[i] = ("%063d\n"):format(i) end
    local message = table.concat(big)
    assert.equal(1048576, #message)
    local lengths = { 0, 1, 125, 126, 16384, 16385, 65536 }
    local sent = { message }
    for _, length in ipairs(lengths) do
      sent[#sent + 1] = message:sub(1, length)
    end
    sent[#sent + 1] = message:sub(1, 1048575) .. "\255"
    for _, each in ipairs(sent) do
      run_until(function() return t:send(each) end, 10)
    end
    -- empty ones are dropped
    run_until(function() return #seen.messages == #sent - 1 end, 10)
    table.remove(sent, 2)
    for i, each in ipairs(sent) do
      assert.is_true(each == echoed[i] and each == seen.messages[i], i)
      assert.equal(i == #sent, seen.binary[i])
    end
    part(t, served)
  end)

  it("puts what was sent in one tick into one write (one record)", function()
    local t, _, served, r = open()
    local heard = 0
    served.on_message = function() heard = heard + 1 end
    helper.pass(5)
    local before = r:records()
    for i = 1, 50 do t:send("message " .. i) end
    run_until(function() return heard == 50 end)
    local after = r:records()
    assert.equal(#before + 1, #after)
    assert.equal(23, after[#after].type)
    for i = 1, 3 do
      t:send "alone"
      run_until(function() return heard == 50 + i end)
    end
    assert.equal(#before + 4, #r:records())
    part(t, served)
  end)

  -- An alert of TLS 1.3 is a record of 2 bytes, its type, and a tag of 16.
  local function ends_in_alert(records)
    local last = records[#records]
    return last.type == 23 and last.length == 19
  end

  it("says close_notify before FIN, whoever says FIN first", function()
    local t, _, served, r = open { max_message_size = 5 }
    part(t, served)
    r.client:wait_end()
    assert.is_true(ends_in_alert(r:records(true)))
    t, _, served, r = open { max_message_size = 5 }
    assert.is_false(ends_in_alert(r:records()))
    served:send "too big"
    pair.gone(t)
    pair.gone(served)
    r.client:wait_end()
    assert.is_true(ends_in_alert(r:records()))
  end)

  it("ends as closed, not clean, when FIN comes without close_notify (C37)",
    function()
      local t, seen, served, r = open()
      served:send "last words"
      run_until(function() return seen.messages[1] end)
      r:stop()
      r.client:fin()
      pair.gone(t)
      assert.equal("closed", seen.code)
      assert.equal(1006, seen.info.close_code)
      assert.is_false(seen.info.was_clean)
      assert.equal("open", seen.info.phase)
      r.server:reset()
      pair.gone(served)
    end)

  it("ends as reset when RST comes, with all that came before (C37)", function()
    local t, seen, served, r = open()
    for i = 1, 300 do served:send("message " .. i) end
    run_until(function() return served:stats().queue == 0 end)
    helper.pass(3)
    r.client:flush():reset()
    pair.gone(t)
    assert.equal("reset", seen.code)
    assert.equal(300, #seen.messages)
    assert.equal(1006, seen.info.close_code)
    r.server:reset()
    pair.gone(served)
  end)

  it("ends with code tls when a bit is wrong", function()
    local t, seen, served, r = open()
    r:corrupt()
    served:send "will not arrive"
    pair.gone(t)
    assert.equal("tls", seen.code)
    assert.equal("open", seen.info.phase)
    assert.matches("bad record mac", seen.info.tls_error, 1, true)
    assert.equal(1006, seen.info.close_code)
    assert.equal(0, #seen.messages)
    pair.gone(served)
  end)
end)

describe("TLS", function()
  local function s_server(...)
    local words = { "openssl", "s_server", "-accept", "127.0.0.1:0", "-quiet",
                    "-naccept", "1", "-cert", file "server.pem", "-key",
                    file "server.key", ... }
    local port = rawpeer.listen()
    words[4] = "127.0.0.1:" .. port.port
    port:close()
    helper.pass()
    local p = process.spawn(words)
    return p, port.port
  end

  -- s_server says nothing when it listens, and ends after one connection:
  -- only one that refuses must still be on its way.
  local function attempt_until_there(p, port, tls)
    while true do
      local outcome = attempt(port, tls)
      if outcome.code ~= "refused" then return outcome end
      assert.is_nil(p.code, p.stderr)
    end
  end

  it("1.3 is demanded with min_version", function()
    local p, port = s_server "-tls1_2"
    local outcome = attempt_until_there(p, port, { min_version = "1.3" })
    p:stop()
    assert.equal("tls", outcome.code)
    assert.equal("tls", outcome.info.phase)
    assert.matches("protocol version", outcome.info.tls_error, 1, true)
  end)

  it("1.2 is the default minimum, and enough", function()
    -- it has no WebSocket to offer, so the upgrade gets no answer
    local p, port = s_server "-tls1_2"
    local t = client(port)
    local outcome
    repeat
      outcome = pair.connect(t)
      run_until(function() return outcome.done or p.lines[1] end)
    until p.lines[1] or outcome.code ~= "refused"
    assert.equal("GET / HTTP/1.1\r", p:line())
    t:disconnect()
    pair.gone(t)
    p:stop()
  end)

  it("1.1 is too old", function()
    local p, port = s_server("-tls1_1", "-cipher", "ALL:@SECLEVEL=0")
    local outcome = attempt_until_there(p, port, { verify = false })
    p:stop()
    assert.equal("tls", outcome.code)
    assert.matches("protocol", outcome.info.tls_error, 1, true)
  end)

  it("1.2 ciphers are chosen with ciphers", function()
    local p, port = s_server("-tls1_2", "-cipher",
      "ECDHE-ECDSA-AES128-GCM-SHA256")
    local outcome = attempt_until_there(p, port,
      { ciphers = "ECDHE-ECDSA-AES256-GCM-SHA384" })
    p:stop()
    assert.equal("tls", outcome.code)
    assert.matches("handshake failure", outcome.info.tls_error, 1, true)
  end)

  it("1.3 is demanded by a listener, too", function()
    local listener = listen { min_version = "1.3" }
    local code, _, err = process.run { "openssl", "s_client", "-tls1_2",
      "-connect", "127.0.0.1:" .. listener.port }
    assert.equal(1, code)
    assert.matches("protocol version", err, 1, true)
  end)

  it("secrets are appended to keylog_file, for both sides", function()
    local name = helper.tmpdir() .. "/keys"
    local log = assert(io.open(name, "w"))
    log:write "# first line\n"
    log:close()
    local listener, accepted = listen()
    for _ = 1, 2 do
      local t = client(listener.port, { keylog_file = name })
      assert.is_nil(pair.finish(pair.connect(t)).err)
      run_until(function() return accepted[1] end)
      part(t, table.remove(accepted))
    end
    local text = assert(io.open(name)):read "*a"
    assert.equal("# first line\n", text:match "^[^\n]*\n")
    assert.equal("\n", text:sub(-1))
    local labels = {}
    for line in text:gmatch "\n([^\n]+)" do
      local label, random, secret = line:match "^([A-Z_0-9]+) (%x+) (%x+)$"
      assert.is_string(label, line)
      labels[label] = (labels[label] or 0) + 1
      assert.equal(64, #random)
      assert.is_true(#secret == 64 or #secret == 96)
    end
    assert.equal(2, labels.CLIENT_TRAFFIC_SECRET_0)
    assert.equal(2, labels.SERVER_TRAFFIC_SECRET_0)
    local other = helper.tmpdir() .. "/server"
    listener, accepted = listen { keylog_file = other }
    local t = client(listener.port)
    assert.is_nil(pair.finish(pair.connect(t)).err)
    run_until(function() return accepted[1] end)
    part(t, accepted[1])
    local file_of_server = assert(io.open(other))
    assert.matches("CLIENT_TRAFFIC_SECRET_0", file_of_server:read "*a", 1, true)
    file_of_server:close()
  end)
end)

describe("a peer that speaks something else", function()
  -- One attempt with TLS at a raw peer that answers the ClientHello so.
  local function answered(write, limit)
    local server = rawpeer.listen()
    local t, seen = client(server.port, nil, { connection_timeout = limit })
    local outcome = pair.connect(t)
    local peer = server:accept()
    relay.client_hello(peer)
    write(peer)
    pair.finish(outcome)
    assert.equal("tls", outcome.info.phase)
    assert.equal(0, seen.ups + seen.downs)
    peer:wait_end()
    return outcome.code, outcome.info
  end

  it("than TLS fails with code tls", function()
    for _, text in ipairs { "HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n",
                            "SIP/2.0 400 Bad Request\r\n\r\n" } do
      local code, info = answered(function(peer) peer:write(text) end)
      assert.equal("tls", code)
      assert.matches("wrong version number", info.tls_error, 1, true)
    end
    local code, info = answered(function(peer)
      peer:write "\21\3\3\0\2\2\40" -- an alert
    end)
    assert.equal("tls", code)
    assert.matches("handshake failure", info.tls_error, 1, true)
  end)

  it("than TLS 1.2 or 1.3 may also just leave, or be silent", function()
    local code, info = answered(function(peer) peer:fin() end)
    assert.equal("closed", code)
    assert.is_nil(info.tls_error)
    code, info = answered(function(peer) peer:reset() end)
    assert.equal("reset", code)
    assert.equal(104, info.errno)
    code = answered(function() end, 0.1 * run.scale)
    assert.equal("timeout", code) -- C16
  end)

  it("TLS where ws was meant fails in the upgrade", function()
    local listener = listen()
    local t = sipwire.new { server = "ws://127.0.0.1:" .. listener.port }
    local outcome = pair.finish(pair.connect(t))
    assert.equal("upgrade", outcome.info.phase)
    assert.is_true(outcome.code == "closed" or outcome.code == "reset" or
      outcome.code == "http")
    assert.is_nil(outcome.info.http_status)
  end)

  it("than a listener of wss expects is dropped", function()
    local listener = listen(nil, {
      connection_timeout = 0.1 * run.scale,
      on_request = helper.never "on_request",
      on_connection = helper.never "on_connection" })
    for _, bytes in ipairs { "GET / HTTP/1.1\r\n\r\n", ("\0"):rep(600),
                             "\22\3\1", "" } do
      local peer = assert(rawpeer.connect { port = listener.port })
      peer:write(bytes)
      peer:wait_end()
    end
  end)
end)
