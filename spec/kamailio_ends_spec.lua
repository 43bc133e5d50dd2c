-- SPDX-License-Identifier: MIT
-- All the ways in which Kamailio refuses, leaves, or is left.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local kamailio = require "spec.support.kamailio"
local pair = require "spec.support.pair"
local phone = require "spec.support.phone"
local run = require "spec.support.run"
local sip = require "spec.support.sip"

local run_until = helper.run_until
local scale = run.scale

helper.watch()

-- Our own, as one spec stops it and starts it again.
local k

local function start(port)
  k = kamailio.start { dir = k and k.dir or helper.tmpdir(), port = port,
                       certs = helper.certs(), defines = { "NO_AUTH" } }
  run.untrack(k.process)
end

setup(function() start() end)
teardown(function() k:stop() end)

local function open(scheme, more) return phone.open(k, scheme, more) end

local function options_are_answered(p)
  local message, id = p.user:request("OPTIONS", "sip:localhost")
  phone.check_answer(p:ask(message, id), 200, message)
end

-- Behind its close frame Kamailio leaves the connection open for a second.
local hasty = { disconnect_timeout = 0.1 }

-- Time enough to get as far as the upgrade, in which nothing comes any more.
local brief = 0.3 * math.min(scale, 4)

local function is_lost(p)
  pair.gone(p.t)
  assert.same({ "Connecting", "Connected", "Disconnected" }, p.seen.states)
  assert.equal(1, p.seen.downs)
  assert.is_truthy(p.seen.code == "closed" or p.seen.code == "reset")
  assert.equal(p.seen.code .. ": ", p.seen.err:sub(1, #p.seen.code + 2))
  assert.equal(1006, p.seen.info.close_code)
  assert.is_nil(p.seen.info.close_reason)
  assert.is_false(p.seen.info.was_clean)
  assert.equal("open", p.seen.info.phase)
end

for _, scheme in ipairs { "ws", "wss" } do
  describe("over " .. scheme .. ", Kamailio", function()
    it("sees us leave cleanly, after all we had to say (C21, C26)", function()
      local p = open(scheme)
      local address = p.t.local_address
      assert.is_true(phone.knows(k, address))
      local frames, clean = phone.statistic(k, "received_frames"),
        phone.statistic(k, "remote_closed_connections")
      for _ = 1, 50 do p:provoke "black-hole" end
      phone.hang_up(p)
      run_until(function() return not phone.knows(k, address) end, 5,
        "clean end")
      assert.equal(frames + 51, phone.statistic(k, "received_frames"))
      assert.equal(clean + 1, phone.statistic(k, "remote_closed_connections"))
    end)

    it("closes with a code and a reason (C35, C37)", function()
      local closed = phone.statistic(k, "local_closed_connections")
      local reasons = { [1000] = "as asked", [1001] = "gr\195\188\195\159",
        [1011] = ("r"):rep(120), [3000] = "a b", [4999] = "x" }
      for code, reason in pairs(reasons) do
        local p = open(scheme, hasty)
        p:provoke("ws-close", "X-Code: " .. code, "X-Reason: " .. reason)
        pair.gone(p.t)
        assert.same({ "Connecting", "Connected", "Disconnected" },
          p.seen.states)
        assert.same({ "up", "connected", "down" }, p.seen.order)
        assert.equal("closed", p.seen.code)
        assert.matches("^closed: ", p.seen.err)
        assert.equal(code, p.seen.info.close_code)
        assert.equal(reason, p.seen.info.close_reason)
        assert.is_true(p.seen.info.was_clean)
        assert.equal("open", p.seen.info.phase)
      end
      assert.equal(closed + 5, phone.statistic(k, "local_closed_connections"))
    end)

    it("answers and closes: the answer comes first", function()
      local p = open(scheme, hasty)
      p:provoke "ws-reply-close"
      pair.gone(p.t)
      assert.equal(1, #p.seen.messages)
      assert.equal(200, sip.parse(p.seen.messages[1]).status)
      assert.same({ "up", "connected", p.seen.messages[1], "down" },
        p.seen.order)
      assert.equal(1001, p.seen.info.close_code)
      assert.equal("going away", p.seen.info.close_reason)
      assert.is_true(p.seen.info.was_clean)
    end)

    it("drops the connection without a close frame (C20, C35, C37)", function()
      local p = open(scheme)
      p:provoke "tcp-drop"
      is_lost(p)
      pair.finish(pair.connect(p.t))
      options_are_answered(p)
      phone.hang_up(p)
      assert.is_nil(p.seen.err)
    end)

    -- What a task is told of a closed connection, and of one that is dropped.
    it("ends the connection of a task (C35, C37)", function()
      local ends = {}
      for _, magic in ipairs { "ws-reply-close", "tcp-drop" } do
        sipwire.spawn(function()
          local more = { disconnect_timeout = hasty.disconnect_timeout,
                         connection_timeout = 5 * scale }
          local c = assert(sipwire.open(phone.options(k, scheme, more)))
          local user = sip.user "user"
          assert(c:send((user:request("OPTIONS",
            "sip:" .. magic .. "@localhost"))))
          local messages = -1
          local message, err, code, info
          repeat
            messages = messages + 1
            message, err, code, info = c:receive(5 * scale)
          until not message
          ends[magic] = { messages = messages, err = err, code = code,
                          info = info }
        end)
      end
      run_until(function()
        return ends["ws-reply-close"] and ends["tcp-drop"]
      end, 5, "both ends")
      local closed, dropped = ends["ws-reply-close"], ends["tcp-drop"]
      assert.same({ 1, "closed", 1001, "going away", true },
        { closed.messages, closed.code, closed.info.close_code,
          closed.info.close_reason, closed.info.was_clean })
      assert.same({ 0, 1006, false }, { dropped.messages,
        dropped.info.close_code, dropped.info.was_clean })
      assert.is_truthy(dropped.code == "closed" or dropped.code == "reset")
    end)

    local function refused(path, more)
      more = more or {}
      more.path = path
      local t, seen = pair.client(phone.options(k, scheme, more))
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
      assert.equal("http: upgrade refused: HTTP status 403 Forbidden", outcome.err)
      assert.equal(403, outcome.info.http_status)
      assert.equal("sipwire-spec", outcome.info.http_headers.server)
      assert.equal("text/plain", outcome.info.http_headers["content-type"])
      outcome = refused "/redirect"
      assert.equal("http", outcome.code)
      assert.equal(302, outcome.info.http_status)
      assert.equal("ws://localhost/elsewhere",
        outcome.info.http_headers.location)
      outcome = refused("/hang", { connection_timeout = brief })
      assert.equal("timeout", outcome.code)
      assert.is_nil(outcome.info.http_status)
    end)

    it("refuses the upgrade of a task", function()
      local outcome
      sipwire.spawn(function()
        local c, err, code, info = sipwire.open(phone.options(k, scheme,
          { path = "/deny", connection_timeout = 5 * scale }))
        outcome = { c or false, err, code, info.http_status, info.phase }
      end)
      run_until(function() return outcome end, 5, "open()'s end")
      assert.same({ false, "http: upgrade refused: HTTP status 403 Forbidden", "http", 403,
        "upgrade" }, outcome)
    end)
  end)
end

describe("a Kamailio that goes away", function()
  it("ends its connections; connect() works again when it is back (C20, C35)",
    function()
      local phones = { open "ws", open "wss" }
      k:stop()
      for _, p in ipairs(phones) do
        is_lost(p)
        local outcome = pair.finish(pair.connect(p.t))
        assert.equal("refused", outcome.code)
        assert.equal("tcp", outcome.info.phase)
        p.seen.states = {}
      end
      start(k.ws)
      for _, p in ipairs(phones) do
        assert.is_nil(pair.finish(pair.connect(p.t)).err)
        phone.check_registered(p:ask(p.user:register()), p.user)
      end
      phone.hang_up(phones[1], phones[2])
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
    tls.ca_file = tls.ca_file or k.certs .. "/ca.pem"
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
    return outcome.info.phase
  end

  it("has to be valid, for localhost, from our authority (R18)", function()
    assert.is_nil(attempt "wss".err)
    for words, attempted in pairs {
      ["self-signed"] = { "wss", { ca_file = k.certs .. "/other-ca.pem" } },
      ["certificate has expired"] = { "expired" },
      ["hostname mismatch"] = { "wrong_host" },
    } do
      assert.equal("tls", fails(words, attempted[1], attempted[2]))
    end
    assert.is_nil(attempt("wrong_host", { server_name = "other.test" }).err)
    assert.is_nil(attempt("expired", { verify = false }).err)
  end)

  it("is not enough where it asks for ours (R16)", function()
    local function ours(name)
      return { cert_file = k.certs .. "/" .. name .. ".pem",
               key_file = k.certs .. "/" .. name .. ".key" }
    end
    local tls = ours "client"
    tls.ca_file = k.certs .. "/ca.pem"
    local p = open("wss", { server = k:secure_url("/", k.mtls), tls = tls })
    options_are_answered(p)
    phone.hang_up(p)
    fails("certificate required", "mtls")
    fails("alert", "mtls", ours "client-other")
  end)
end)
