-- SPDX-License-Identifier: MIT
-- SIP over both kinds of URL with Kamailio as registrar and proxy: requests
-- and relayed messages, keep-alives, and all the ways it can refuse or leave.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local kamailio = require "spec.support.kamailio"
local pair = require "spec.support.pair"
local run = require "spec.support.run"
local sip = require "spec.support.sip"

local run_until = helper.run_until
local scale = run.scale

helper.watch()

local k

-- Only the spec of pings has connections that are idle for as long as that.
setup(function() k = helper.kamailio("NO_AUTH", "IDLE_PING=1") end)

-- Options of a client that trusts our authority.
local function options_of(scheme, more, server)
  server = server or k
  local path = more and more.path
  local options = { server = scheme == "wss" and server:secure_url(path) or
    server:url(path), tls = { ca_file = server.certs .. "/ca.pem" } }
  if scheme == "ws" then options.tls = nil end
  for name, value in pairs(more or {}) do
    if name ~= "path" then options[name] = value end
  end
  return options
end

-- A user with a transport and callbacks.
local function phone(name, scheme, more, server)
  local t, seen = pair.client(options_of(scheme, more, server))
  local outcome = pair.finish(pair.connect(t, seen), 10)
  if outcome.err then error("cannot connect: " .. outcome.err, 2) end
  return { t = t, seen = seen, user = sip.user(name, t.protocol) }
end

local function hang_up(...)
  for _, p in ipairs { ... } do p.t:disconnect() end
  for _, p in ipairs { ... } do pair.gone(p.t) end
end

-- The next message for which |fits|(parsed message) holds, taken from the
-- others.
local function take(p, what, fits)
  local text, binary
  local message = run_until(function()
    for i, candidate in ipairs(p.seen.messages) do
      local parsed = sip.parse(candidate)
      if fits(parsed) then
        text = table.remove(p.seen.messages, i)
        binary = table.remove(p.seen.binary, i)
        return parsed
      end
    end
    assert(p.t.state == "Connected", tostring(p.t))
  end, 5, what)
  return message, text, binary
end

local function answer_to(p, call_id)
  return take(p, "answer", function(message)
    return message.status and message.call_id == call_id
  end)
end

local function ask(p, message, call_id, frame)
  assert(p.t:send(message, nil, frame))
  return answer_to(p, call_id)
end

-- Sends to one of the server's magic users, and expects no answer.
local function provoke(p, magic, ...)
  assert(p.t:send((p.user:request("OPTIONS", "sip:" .. magic .. "@localhost",
    { ... }))))
end

local function expect_answer(answer, status, message)
  local request = sip.parse(message)
  assert.equal(status, answer.status)
  assert.equal(request.call_id, answer.call_id)
  assert.equal(request.branch, answer.branch)
  assert.same(request.headers.cseq, answer.headers.cseq)
end

local function expect_registered(answer, user)
  assert.equal(200, answer.status)
  assert.equal(1, #answer.headers.contact)
  assert.matches("<" .. user.contact .. ">;expires=60;",
    answer.headers.contact[1], 1, true)
end

-- Runs |fn| as a task, to its end.
local function in_task(fn)
  local done
  sipwire.spawn(function()
    fn()
    done = true
  end)
  run_until(function() return done end, 15, "end of the task")
end

local function open(name, scheme, more)
  local c = assert(sipwire.open(options_of(scheme, more)))
  return c, sip.user(name, c.transport.protocol)
end

local function receive(c)
  local text, binary = c:receive(5 * scale)
  return sip.parse(assert(text, binary)), text, binary
end

local function statistic(name)
  return tonumber(k:rpc("stats.get_statistics", "websocket:")
    :match(":ws_" .. name .. " = (%d+)"))
end

local function knows(address)
  return k:rpc("ws.dump"):find(":" .. address .. " ", 1, true) ~= nil
end

-- Behind its close frame Kamailio leaves the connection open for a second.
local hasty = { disconnect_timeout = 0.1 * scale }

-- All bytes there are, and CRLFs where no message ends.
local bytes = {}
for i = 0, 255 do bytes[i + 1] = string.char(i) end
bytes = ("\r\n\r\n" .. table.concat(bytes)):rep(200)

for _, scheme in ipairs { "ws", "wss" } do
  local via, other = scheme:upper(), scheme == "ws" and "wss" or "ws"

  describe("over " .. scheme .. ", with callbacks, Kamailio", function()
    it("answers OPTIONS, in text and binary (C14, C29, R5)", function()
      local p = phone("alice", scheme)
      assert.equal(via, p.t.protocol)
      for _, frame in ipairs { "auto", "text", "binary" } do
        local message, id = p.user:request("OPTIONS", "sip:localhost")
        expect_answer(ask(p, message, id, frame), 200, message)
      end
      hang_up(p)
      assert.same({ "Connecting", "Connected", "Disconnecting",
        "Disconnected" }, p.seen.states)
      assert.equal(1, p.seen.downs)
      assert.is_nil(p.seen.err)
      assert.equal(0, #p.seen.messages)
    end)

    it("registers our contact", function()
      local p = phone("alice", scheme)
      expect_registered(ask(p, p.user:register()), p.user)
      -- who is registered is known by the connection: it ends with it
      local own = p.user:request("MESSAGE", p.user.uri)
      p.t:send(own)
      local request = take(p, "own MESSAGE", function(message)
        return message.method == "MESSAGE"
      end)
      assert.equal(p.user.contact, request.uri)
      hang_up(p)
    end)

    it("takes a MESSAGE to another user and the answer back", function()
      local alice, bob = phone("alice", scheme), phone("bob", other)
      for _, p in ipairs { alice, bob } do
        expect_registered(ask(p, p.user:register()), p.user)
      end
      local text = "gr\195\188\195\159 dich\r\n\r\n"
      local message, id = alice.user:request("MESSAGE", bob.user.uri,
        { "Content-Type: text/plain;charset=utf-8", body = text })
      alice.t:send(message)
      local request, raw, binary = take(bob, "MESSAGE", function(m)
        return m.method == "MESSAGE"
      end)
      assert.equal(bob.user.contact, request.uri)
      assert.equal(text, request.body)
      assert.equal(id, request.call_id)
      assert.equal(2, #request.headers.via)
      assert.is_false(binary)
      bob.t:send(sip.response(raw, 200, "Heard You"))
      local answer = answer_to(alice, id)
      expect_answer(answer, 200, message)
      assert.equal("Heard You", answer.reason)
      hang_up(alice, bob)
      assert.equal(0, #alice.seen.messages + #bob.seen.messages)
    end)

    it("takes all bytes there are (R6, R8)", function()
      local alice, bob = phone("alice", scheme), phone("bob", other)
      ask(bob, bob.user:register())
      local message, id = alice.user:request("MESSAGE", bob.user.uri,
        { "Content-Type: application/octet-stream", body = bytes })
      alice.t:send(message)
      local request, raw, binary = take(bob, "MESSAGE", function(m)
        return m.method == "MESSAGE"
      end)
      assert.is_true(binary)
      assert.equal(#bytes, #request.body)
      assert.is_true(request.body == bytes)
      bob.t:send(sip.response(raw, 202, "Kept"))
      assert.equal(202, answer_to(alice, id).status)
      hang_up(alice, bob)
    end)

    it("answers every one of 500 requests sent at once", function()
      local p = phone("alice", scheme)
      local open_ids, sent = {}, 0
      for _ = 1, 500 do
        local message, id = p.user:request("OPTIONS", "sip:localhost")
        open_ids[id] = true
        assert(p.t:send(message, function(err)
          assert.is_nil(err)
          sent = sent + 1
        end))
      end
      run_until(function() return #p.seen.messages >= 500 end, 10, "answers")
      assert.equal(500, sent)
      for _, text in ipairs(p.seen.messages) do
        local answer = sip.parse(text)
        assert.equal(200, answer.status)
        assert.is_true(open_ids[answer.call_id])
        open_ids[answer.call_id] = nil
      end
      assert.is_nil(next(open_ids))
      hang_up(p)
      assert.equal(500, p.t:stats().messages_in)
      assert.equal(500, p.t:stats().messages_out)
    end)

    it("answers keep-alives by ping and by CRLF (R31, C38, C46)", function()
      for _, method in ipairs { "ping", "crlf" } do
        local p = phone("alice", scheme, { keep_alive_method = method,
          keep_alive_interval = 0.02, keep_alive_timeout = 5 * scale })
        assert.is_nil(p.t:stats().rtt)
        run_until(function() return p.t:stats().pongs_received >= 5 end)
        local stats = p.t:stats()
        assert.is_true(stats.rtt >= 0 and stats.rtt < 5 * scale, stats.rtt)
        assert.is_true(stats.pings_sent >= stats.pongs_received)
        assert.equal(0, stats.messages_in)
        local message, id = p.user:request("OPTIONS", "sip:localhost")
        expect_answer(ask(p, message, id), 200, message)
        hang_up(p)
        assert.equal(0, #p.seen.messages)
      end
    end)

    it("is told why we leave, after all we had to say (C21, C26)", function()
      local p = phone("alice", scheme)
      local address = p.t.local_address
      assert.is_true(knows(address))
      local frames, clean, failed = statistic "received_frames",
        statistic "remote_closed_connections", statistic "failed_connections"
      for _ = 1, 50 do provoke(p, "black-hole") end
      hang_up(p)
      run_until(function() return not knows(address) end, 5, "clean end")
      assert.equal(frames + 51, statistic "received_frames")
      assert.equal(clean + 1, statistic "remote_closed_connections")
      assert.equal(failed, statistic "failed_connections")
    end)

    it("closes with a code and a reason (C35, C37)", function()
      local closed, failed = statistic "local_closed_connections",
        statistic "failed_connections"
      local reasons = { [1000] = "as asked", [1001] = "gr\195\188\195\159",
        [1011] = ("r"):rep(120), [3000] = "a b", [4999] = "x" }
      for code, reason in pairs(reasons) do
        local p = phone("alice", scheme, hasty)
        provoke(p, "ws-close", "X-Code: " .. code, "X-Reason: " .. reason)
        pair.gone(p.t)
        assert.same({ "Connecting", "Connected", "Disconnected" },
          p.seen.states)
        assert.equal(1, p.seen.downs)
        assert.equal("closed", p.seen.code)
        assert.matches("^closed: ", p.seen.err)
        assert.equal(code, p.seen.info.close_code)
        assert.equal(reason, p.seen.info.close_reason)
        assert.is_true(p.seen.info.was_clean)
        assert.equal("open", p.seen.info.phase)
      end
      assert.equal(closed + 5, statistic "local_closed_connections")
      assert.equal(failed, statistic "failed_connections")
    end)

    it("answers and closes: the answer comes first", function()
      local p = phone("alice", scheme, hasty)
      provoke(p, "ws-reply-close")
      pair.gone(p.t)
      assert.equal(1, #p.seen.messages)
      assert.equal(200, sip.parse(p.seen.messages[1]).status)
      assert.same({ "up", "connected", p.seen.messages[1], "down" },
        p.seen.order)
      assert.equal(1001, p.seen.info.close_code)
      assert.equal("going away", p.seen.info.close_reason)
      assert.is_true(p.seen.info.was_clean)
    end)

    it("drops the connection without a close frame (C35, C37)", function()
      local p = phone("alice", scheme)
      provoke(p, "tcp-drop")
      pair.gone(p.t)
      assert.is_truthy(p.seen.code == "closed" or p.seen.code == "reset")
      assert.equal(1, p.seen.downs)
      assert.equal(1006, p.seen.info.close_code)
      assert.is_false(p.seen.info.was_clean)
      assert.is_nil(p.seen.info.close_reason)
      -- C20: as good as new
      pair.finish(pair.connect(p.t))
      local message, id = p.user:request("OPTIONS", "sip:localhost")
      expect_answer(ask(p, message, id), 200, message)
      hang_up(p)
    end)

    local function refused(path, more)
      more = more or {}
      more.path = path
      local t, seen = pair.client(options_of(scheme, more))
      local outcome = pair.finish(pair.connect(t, seen))
      assert.equal("Disconnected", t.state)
      assert.same({ "Connecting", "Disconnected" }, seen.states)
      assert.same({ "connected" }, seen.order)
      assert.equal("upgrade", outcome.info.phase)
      assert.is_nil(outcome.info.close_code)
      return outcome
    end

    it("refuses the upgrade, or never answers it (C15, C16, R25)", function()
      local outcome = refused "/deny"
      assert.equal("http", outcome.code)
      assert.equal("http: HTTP status 403 Forbidden", outcome.err)
      assert.equal(403, outcome.info.http_status)
      assert.equal("sipwire-spec", outcome.info.http_headers.server)
      assert.equal("text/plain", outcome.info.http_headers["content-type"])
      outcome = refused "/redirect"
      assert.equal("http", outcome.code)
      assert.equal(302, outcome.info.http_status)
      assert.equal("ws://localhost/elsewhere",
        outcome.info.http_headers.location)
      outcome = refused("/hang", { connection_timeout = 0.3 * scale })
      assert.equal("timeout", outcome.code)
      assert.is_nil(outcome.info.http_status)
    end)
  end)

  describe("over " .. scheme .. ", in tasks, Kamailio", function()
    it("answers OPTIONS and REGISTER", function()
      local address
      in_task(function()
        local c, user = open("alice", scheme)
        local message = user:request("OPTIONS", "sip:localhost")
        assert(c:send(message))
        expect_answer(receive(c), 200, message)
        assert(c:send(message, "binary"))
        expect_answer(receive(c), 200, message)
        assert(c:send((user:register())))
        expect_registered(receive(c), user)
        address = c.transport.local_address
        assert.is_true(c:close())
      end)
      run_until(function() return not knows(address) end, 5, "clean end")
    end)

    it("takes a MESSAGE and its answer between two tasks", function()
      local heard
      in_task(function()
        local bob, bob_user = open("bob", other)
        assert(bob:send((bob_user:register())))
        expect_registered(receive(bob), bob_user)
        sipwire.spawn(function()
          local request, text, binary = receive(bob)
          heard = { request.method, request.body, binary }
          assert(bob:send(sip.response(text, 200, "Heard You")))
          bob:close()
        end)
        local alice, user = open("alice", scheme)
        local message = user:request("MESSAGE", bob_user.uri,
          { "Content-Type: application/octet-stream", body = bytes })
        assert(alice:send(message))
        local answer = receive(alice)
        expect_answer(answer, 200, message)
        assert.equal("Heard You", answer.reason)
        assert.same({ "MESSAGE", true }, { heard[1], heard[3] })
        assert.is_true(heard[2] == bytes)
        alice:close()
      end)
    end)
  end)
end

describe("Kamailio's own pings", function()
  it("are answered, so that an idle connection lives on (R26)", function()
    local quiet = { phone("alice", "ws"), phone("bob", "wss") }
    local sent, received =
      statistic "transmitted_frames", statistic "received_frames"
    -- an answer that does not come costs the connection after a second
    run_until(function()
      return statistic "transmitted_frames" >= sent + 4 and
        statistic "received_frames" >= received + 4
    end, 15, "second ping and pong of both")
    for _, p in ipairs(quiet) do
      assert.same({ "up", "connected" }, p.seen.order)
      assert.equal(0, p.t:stats().dropped)
      local message, id = p.user:request("OPTIONS", "sip:localhost")
      expect_answer(ask(p, message, id), 200, message)
    end
    hang_up(quiet[1], quiet[2])
  end)
end)

describe("a Kamailio that goes away", function()
  it("ends its connections; connect() works again when it is back (C20, C35)",
    function()
      local options = { dir = helper.tmpdir(), certs = helper.certs(),
                        defines = { "NO_AUTH" } }
      local server = kamailio.start(options)
      options.port = server.ws
      local phones = { phone("alice", "ws", nil, server),
                       phone("bob", "wss", nil, server) }
      server:stop()
      for _, p in ipairs(phones) do
        pair.gone(p.t)
        assert.is_truthy(p.seen.code == "closed" or p.seen.code == "reset")
        assert.equal(1006, p.seen.info.close_code)
        assert.is_false(p.seen.info.was_clean)
        local outcome = pair.finish(pair.connect(p.t))
        assert.equal("refused", outcome.code)
        assert.equal("tcp", outcome.info.phase)
        p.seen.states = {}
      end
      kamailio.start(options)
      for _, p in ipairs(phones) do
        assert.is_nil(pair.finish(pair.connect(p.t)).err)
        expect_registered(ask(p, p.user:register()), p.user)
      end
      hang_up(phones[1], phones[2])
      for _, p in ipairs(phones) do
        assert.same({ "Connecting", "Connected", "Disconnecting",
          "Disconnected" }, p.seen.states)
        assert.equal(2, p.seen.ups)
        assert.equal(2, p.seen.downs)
        assert.is_nil(p.seen.err)
      end
    end)
end)

describe("Kamailio's certificate", function()
  local function attempt(port, tls)
    tls = tls or {}
    if tls.ca_file == nil then tls.ca_file = k.certs .. "/ca.pem" end
    local t, seen = pair.client { tls = tls,
      server = k:secure_url("/", k[port]) }
    local outcome = pair.finish(pair.connect(t, seen))
    t:disconnect()
    pair.gone(t)
    return outcome, seen
  end

  local function fails(words, port, tls)
    local outcome, seen = attempt(port, tls)
    assert.equal("tls", outcome.code)
    assert.matches(words, outcome.info.tls_error, 1, true)
    assert.equal("tls: " .. outcome.info.tls_error, outcome.err)
    assert.is_nil(outcome.info.http_status)
    assert.same({ "Connecting", "Disconnected" }, seen.states)
  end

  it("has to be valid, for localhost, from our authority (R18)", function()
    assert.is_nil(attempt "wss".err)
    fails("local issuer", "wss", { ca_file = k.certs .. "/other-ca.pem" })
    fails("certificate has expired", "expired")
    fails("hostname mismatch", "wrong_host")
    assert.is_nil(attempt("wrong_host", { server_name = "other.test" }).err)
    assert.is_nil(attempt("expired", { verify = false }).err)
  end)

  it("is shown to those who have one, where it asks for ours (R16)",
    function()
      local function ours(name)
        return { cert_file = k.certs .. "/" .. name .. ".pem",
                 key_file = k.certs .. "/" .. name:match "%a+" .. ".key" }
      end
      assert.is_nil(attempt("mtls", ours "client").err)
      fails("certificate required", "mtls")
      local stranger = ours "client-other"
      stranger.key_file = k.certs .. "/client-other.key"
      fails("alert", "mtls", stranger)
    end)
end)
