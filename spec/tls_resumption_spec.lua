-- SPDX-License-Identifier: MIT
-- TLS sessions that go on (RFC 8446 section 2.2, RFC 5077): with whom, and with
-- whom never. Python's ssl tells what its side saw.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local run = require "spec.support.run"

local python, ports

local function file(name) return helper.certs() .. "/" .. name end

setup(function()
  python = process.spawn { "python3", helper.root ..
    "/spec/support/resuming.py", file "server.pem", file "server.key" }
  ports = python:json(20).ports
end)
teardown(function() python:stop() end)

helper.watch()

local function url(port, host, path)
  return ("wss://%s:%d%s"):format(host or "127.0.0.1", port, path or "/")
end

local function trust(more)
  local tls = { ca_file = file "ca.pem" }
  for name, value in pairs(more or {}) do tls[name] = value end
  return tls
end

local function forget()
  python:write "forget\n"
  assert.is_true(python:json().forgot)
end

-- Connects and disconnects; whether both sides say that they resumed.
local function resumes(t)
  assert.is_nil(pair.finish(pair.connect(t)).err)
  local resumed, saw = t:stats().tls_resumed, python:json()
  t:disconnect()
  pair.gone(t)
  assert.equal(saw.reused, resumed)
  return resumed, saw
end

-- A client whose server can be changed.
local function wanderer(tls)
  local place = {}
  return sipwire.new { tls = tls or trust(),
    connection_timeout = 10 * run.scale,
    server = function() return place.url end }, place
end

describe("a second connection", function()
  for _, version in ipairs { "1.2", "1.3" } do
    it("resumes the first one's session, TLS " .. version, function()
      forget()
      local t = sipwire.new { server = url(ports[version][1]), tls = trust() }
      local resumed, saw = resumes(t)
      assert.is_false(resumed)
      assert.equal("TLSv" .. version, saw.version)
      for _ = 1, 3 do assert.is_true((resumes(t))) end
      -- and so does somebody else with the same options
      local other = sipwire.new { server = url(ports[version][1]),
                                  tls = trust() }
      assert.is_true((resumes(other)))
    end)

    it("resumes it after a rude end, TLS " .. version, function()
      for path, code in pairs { ["/rst"] = "reset", ["/fin"] = "closed" } do
        forget()
        local t, seen = pair.client { tls = trust(),
          server = url(ports[version][1], nil, path) }
        for n = 0, 2 do
          assert.is_nil(pair.finish(pair.connect(t)).err)
          assert.equal(n > 0, t:stats().tls_resumed)
          assert.equal(n > 0, python:json().reused)
          t:send "now"
          pair.gone(t)
          assert.equal(code, seen.code)
        end
      end
    end)

    it("is a full one, if the server forgot, TLS " .. version, function()
      local t = sipwire.new { server = url(ports[version][1]), tls = trust() }
      resumes(t)
      assert.is_true((resumes(t)))
      forget()
      assert.is_false((resumes(t)))
      assert.is_true((resumes(t)))
    end)

    it("is a full one to another host, port or name, TLS " .. version,
      function()
        forget()
        local t, place = wanderer()
        for _, to in ipairs { url(ports[version][1]), url(ports[version][2]),
                              url(ports[version][1], "localhost"),
                              url(ports[version][2], "localhost") } do
          place.url = to
          assert.is_false((resumes(t)), to)
        end
        for _, to in ipairs { url(ports[version][2]),
                              url(ports[version][1], "localhost") } do
          place.url = to
          local resumed, saw = resumes(t)
          assert.is_true(resumed)
          assert.equal(to:match "localhost", saw.name)
        end
      end)

    it("is a full one with other options, TLS " .. version, function()
      forget()
      local all = {}
      for _, tls in ipairs { trust(), trust { ca_path = file "capath" },
        trust { ciphers = "ECDHE+AESGCM" }, trust { server_name = "localhost" },
        trust { cert_file = file "client.pem", key_file = file "client.key" },
        trust { verify = false }, trust { min_version = "1.2" } } do
        local t = sipwire.new { server = url(ports[version][1]), tls = tls }
        t.loop.on_log = function() end
        assert.is_false((resumes(t)))
        t.loop.on_log = nil
        all[#all + 1] = t
      end
      for _, t in ipairs(all) do assert.is_true((resumes(t))) end
    end)
  end

  it("over ws resumes nothing", function()
    local t, peer = pair.open()
    assert.is_falsy(t:stats().tls_resumed)
    pair.part(t, peer)
  end)
end)

-- Listeners of ours with one certificate: they share one context.
local function listen(n, name, address)
  local list = {}
  for i = 1, n do
    local listener = assert(sipwire.listen { address = address, tls = {
      cert_file = file(name .. ".pem"), key_file = file(name .. ".key") },
      on_connection = function(t) list.last = t end })
    run.track { close = function() listener:close() end }
    list[i] = listener.port
  end
  return list
end

describe("sessions", function()
  it("are told by the transport at the other end, too", function()
    local list = listen(1, "server")
    local t = sipwire.new { server = url(list[1]), tls = trust() }
    for n = 0, 2 do
      assert.is_nil(pair.finish(pair.connect(t)).err)
      helper.run_until(function() return list.last end)
      assert.equal(n > 0, t:stats().tls_resumed)
      assert.equal(n > 0, list.last:stats().tls_resumed)
      t:disconnect()
      pair.gone(t)
      pair.gone(list.last)
      list.last = nil
    end
  end)

  it("of the last 64 servers are kept #slow", function()
    local list, most = listen(70, "server"), 64
    local t, place = wanderer()
    for i = 1, #list do
      place.url = url(list[i])
      local outcome = pair.try(t)
      assert.is_nil(outcome.err)
      assert.is_false(outcome.stats.tls_resumed)
    end
    for i = #list, 1, -1 do
      place.url = url(list[i])
      local outcome = pair.try(t)
      assert.is_nil(outcome.err)
      assert.equal(i > #list - most, outcome.stats.tls_resumed, i)
    end
  end)

  it("do not stand in for the check of a name", function()
    local list = listen(1, "wrong-ip") -- it is localhost, not 127.0.0.1
    local t, place = wanderer()
    for _ = 1, 2 do
      place.url = url(list[1], "localhost")
      assert.is_nil(pair.try(t).err)
      place.url = url(list[1])
      local outcome = pair.try(t)
      assert.equal("tls", outcome.code)
      assert.equal("IP address mismatch", outcome.info.tls_error)
    end
    place.url = url(list[1], "localhost")
    assert.is_true(pair.try(t).stats.tls_resumed)
  end)

  it("that nobody checked are of no use to who checks", function()
    local list = listen(1, "other")
    local loop = helper.default_loop()
    loop.on_log = function() end
    local careless = sipwire.new { server = url(list[1]),
                                   tls = { verify = false } }
    local careful = sipwire.new { server = url(list[1]), tls = trust() }
    for n = 0, 2 do
      assert.equal(n > 0, pair.try(careless).stats.tls_resumed)
      local outcome = pair.try(careful)
      assert.equal("tls", outcome.code)
      assert.matches("local issuer", outcome.info.tls_error, 1, true)
    end
    loop.on_log = nil
  end)

  it("that are given to nobody do no harm", function()
    forget()
    local t = sipwire.new { server = url(ports["1.3"][1]), tls = trust() }
    for turns = 0, 16 do
      for _, name in ipairs { "disconnect", "dispose" } do
        local early = sipwire.new { server = url(ports["1.3"][1]),
                                    tls = trust() }
        early:connect()
        helper.pass(turns)
        early[name](early)
        helper.run_until(function()
          return name == "dispose" or early.state == "Disconnected"
        end)
      end
    end
    collectgarbage()
    assert.is_nil(pair.try(t).err)
    assert.is_true(pair.try(t).stats.tls_resumed)
    python.lines = {}
  end)
end)
