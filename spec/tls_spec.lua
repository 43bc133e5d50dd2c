-- SPDX-License-Identifier: MIT
-- wss: whom the client trusts (R18), who it says it is (R16), and what it
-- tells when TLS fails.

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local relay = require "spec.support.relay"
local run = require "spec.support.run"

local logged

before_each(function()
  logged = {}
  helper.default_loop().on_log = function(...)
    table.insert(logged, { ... })
  end
end)
after_each(function() helper.default_loop().on_log = nil end)

helper.watch()

local function file(name) return helper.certs() .. "/" .. name end

-- A listener that speaks TLS with the certificate |name|.
local function listen(name, more)
  local key = name:gsub("%-chain$", "") .. ".key"
  local tls = { cert_file = file(name .. ".pem"), key_file = file(key) }
  for option, value in pairs(more and more.tls or {}) do tls[option] = value end
  local listener = assert(sipwire.listen { tls = tls,
    address = more and more.address, connection_timeout = 5 * run.scale,
    on_connection = more and more.on_connection or function() end })
  run.track { close = function() listener:close() end }
  return listener
end

local function trust(more)
  local tls = { ca_file = file "ca.pem" }
  for option, value in pairs(more or {}) do tls[option] = value end
  return tls
end

local function url(listener, host)
  return ("wss://%s:%d/"):format(host or "127.0.0.1", listener.port)
end

local function attempt(server, tls)
  local t = pair.client { server = server, tls = tls }
  local outcome = pair.finish(pair.connect(t))
  t:disconnect()
  pair.gone(t)
  return outcome
end

local function connects(server, tls)
  assert.is_nil(attempt(server, tls).err)
end

local function fails(words, server, tls)
  local outcome = attempt(server, tls)
  assert.equal("tls", outcome.code)
  assert.equal("tls", outcome.info.phase)
  assert.matches(words, outcome.info.tls_error, 1, true)
  assert.equal("tls: " .. outcome.info.tls_error, outcome.err)
  assert.is_nil(outcome.info.close_code)
end

describe("a server's certificate", function()
  it("is trusted if one of ours signed it (R18)", function()
    local listener = listen "server"
    connects(url(listener), trust())
    connects(url(listener, "localhost"), trust())
    connects(url(listener), { ca_path = file "capath" })
    connects(url(listener), trust { ca_path = "/" })
  end)

  it("is not, if it is a stranger's (R18)", function()
    fails("local issuer", url(listen "other"), trust())
    fails("self-signed certificate", url(listen "self-signed"), trust())
    fails("local issuer", url(listen "server"), nil) -- the system's
    fails("local issuer", url(listen "server"), { ca_path = "/" })
    fails("local issuer", url(listen "server"),
      { ca_file = file "other-ca.pem" })
    -- trusting it by name is enough
    connects(url(listen "self-signed"), { ca_file = file "self-signed.pem" })
  end)

  it("comes with its intermediates, or fails", function()
    connects(url(listen "inter-chain"), trust())
    fails("unable to get local issuer certificate", url(listen "inter"),
      trust())
    -- whose root is there, and nobody's friend
    local chain = helper.tmpdir() .. "/chain.pem"
    local out = assert(io.open(chain, "w"))
    for _, name in ipairs { "other.pem", "other-ca.pem" } do
      local source = assert(io.open(file(name)))
      out:write((source:read "*a"))
      source:close()
    end
    out:close()
    fails("self-signed certificate in certificate chain",
      url(listen("other", { tls = { cert_file = chain } })), trust())
  end)

  it("is valid today, for a server", function()
    fails("expired", url(listen "expired"), trust())
    fails("not yet valid", url(listen "future"), trust())
    fails("purpose", url(listen "wrong-usage"), trust())
  end)

  it("is for the host of the URL (R18)", function()
    local listener = listen "wrong-host"
    fails("hostname mismatch", url(listener, "localhost"), trust())
    fails("IP address mismatch", url(listener), trust())
    fails("hostname mismatch", url(listen "wildcard", "localhost"), trust())
    -- a name in the subject is none (RFC 9525 section 2)
    fails("hostname mismatch", url(listen "cn-only", "localhost"), trust())
  end)

  it("is for the address, if the URL has one (R18)", function()
    local six = listen("server", { address = "::1" })
    connects(url(six, "[::1]"), trust())
    connects(url(six, "[0:0::1]"), trust())
    local wrong = listen "wrong-ip" -- has "127.0.0.1" as a name
    fails("IP address mismatch", url(wrong), trust())
    connects(url(wrong, "localhost"), trust())
    fails("IP address mismatch", url(listen("wrong-ip", { address = "::1" }),
      "[::1]"), trust())
    fails("IP address mismatch", url(listen "cn-only"), trust())
  end)

  it("is checked against server_name, if there is one", function()
    local listener = listen "server"
    fails("hostname mismatch", url(listener), trust { server_name = "a.test" })
    connects(url(listener), trust { server_name = "EXAMPLE.test" })
    connects(url(listener), trust { server_name = "example.test." })
    connects(url(listener, "localhost"), trust { server_name = "::1" })
    for _, bad in ipairs { ".example.test", "a..test", "a b", "[::1]", "1.2.3",
                           "*.test" } do
      local ok, err = pcall(sipwire.new,
        { server = "wss://h/", tls = { server_name = bad } })
      assert.is_false(ok, bad)
      assert.is_truthy(err:find("tls.server_name: host ", 1, true), err)
    end
    fails("IP address mismatch", url(listener, "localhost"),
      trust { server_name = "127.0.0.3" })
    local wild = listen "wildcard"
    connects(url(wild), trust { server_name = "a.example.test" })
    for _, name in ipairs { "example.test", "a.b.example.test",
                            "aexample.test" } do
      fails("hostname mismatch", url(wild), trust { server_name = name })
    end
  end)

  it("does not matter with verify = false", function()
    for _, name in ipairs { "other", "self-signed", "expired", "wrong-host",
                            "inter" } do
      connects(url(listen(name)), { verify = false })
    end
  end)

  it("that is not checked is said to be so, once", function()
    local listener, words = listen "other", "tls.verify is false: nobody " ..
      "checks whether it is %s that we speak to"
    local function connect_twice(tls)
      local t = sipwire.new { server = url(listener), tls = tls }
      for _ = 1, 2 do
        pair.finish(pair.connect(t))
        t:disconnect()
        pair.gone(t)
      end
      t:dispose()
    end
    connect_twice(trust())
    connect_twice { verify = true }
    assert.same({}, logged)
    connect_twice { verify = false, server_name = "a.test" }
    connect_twice { verify = false, server_name = "a.test" }
    assert.same({ { words:format "a.test", "warn" } }, logged)
    connect_twice { verify = false, server_name = "b.test" }
    connect_twice { verify = false, server_name = "a.test" }
    assert.same({ words:format "b.test", "warn" }, logged[2])
    assert.equal(2, #logged)
  end)

  it("is checked anew by every transport, whatever others did", function()
    local listener = listen "other"
    connects(url(listener), { verify = false })
    fails("local issuer", url(listener), trust())
    connects(url(listener), { verify = false })
    fails("local issuer", url(listener), { verify = true })
  end)

  it("that is wrong leaves the transport as good as new (C20)", function()
    local bad, good = listen "expired", listen "server"
    local server = url(bad)
    local t, seen = pair.client { tls = trust(),
                                  server = function() return server end }
    assert.equal("tls", pair.finish(pair.connect(t)).code)
    server = url(good)
    assert.is_nil(pair.finish(pair.connect(t)).err)
    assert.same({ "Connecting", "Disconnected", "Connecting", "Connected" },
      seen.states)
    t:disconnect()
    pair.gone(t)
  end)
end)

describe("the ClientHello", function()
  local function hello_of(host, tls)
    local server = rawpeer.listen { host = host and host:match "^%[(.*)%]$" }
    local t = sipwire.new { server = url(server, host), tls = tls }
    local outcome = pair.connect(t)
    local peer = server:accept()
    local hello = relay.client_hello(peer)
    peer:close()
    pair.finish(outcome)
    return hello
  end

  it("names the host, but never an address (R18)", function()
    assert.same({ "localhost" }, hello_of("localhost").names)
    assert.same({ "localhost" },
      hello_of("localhost", { verify = false }).names)
    assert.is_nil(hello_of("127.0.0.1").has[0])
    assert.is_nil(hello_of("[::1]").has[0])
    assert.is_nil(hello_of("localhost", { server_name = "127.0.0.1" }).has[0])
    assert.is_nil(hello_of("127.0.0.1", { verify = false }).has[0])
    assert.same({ "a.test" },
      hello_of("127.0.0.1", { server_name = "a.test." }).names)
  end)

  it("offers HTTP/1.1 only", function()
    assert.same({ "http/1.1" }, hello_of("127.0.0.1").alpn)
  end)
end)

describe("a client's certificate", function()
  local function asking(ca)
    return listen("server", { tls = { verify = true,
                                      ca_file = file(ca or "ca.pem") } })
  end

  -- In TLS 1.3 the client is done before the server has seen its certificate.
  local function refused(words, listener, tls)
    local outcome = attempt(url(listener), tls)
    assert.equal("tls", outcome.code)
    assert.matches(words, outcome.info.tls_error, 1, true)
    assert.equal("tls", outcome.info.phase)
  end

  it("is shown if the server asks for it (R16)", function()
    local tls = trust { cert_file = file "client.pem",
                        key_file = file "client.key" }
    connects(url(asking()), tls)
    connects(url(listen "server"), tls)
    local both = helper.tmpdir() .. "/both.pem"
    local out = assert(io.open(both, "w"))
    for _, name in ipairs { "client.key", "client.pem" } do
      local source = assert(io.open(file(name)))
      out:write(source:read "*a")
      source:close()
    end
    out:close()
    connects(url(asking()), trust { cert_file = both })
  end)

  it("may have an encrypted key", function()
    connects(url(asking()), trust { cert_file = file "client.pem",
      key_file = file "client-encrypted.key", key_password = "secret" })
  end)

  it("that is missing or a stranger's is refused by the server", function()
    refused("certificate required", asking(), trust())
    refused("unknown ca", asking(), trust { cert_file = file "client-other.pem",
      key_file = file "client-other.key" })
    connects(url(asking "other-ca.pem"),
      trust { cert_file = file "client-other.pem",
              key_file = file "client-other.key" })
  end)

  it("never makes a refused client an accepted one", function()
    local listener = listen("server", {
      tls = { verify = true, ca_file = file "ca.pem" },
      on_connection = helper.never "on_connection" })
    refused("certificate required", listener, trust())
  end)
end)

describe("a bad TLS option", function()
  local function raises(words, tls)
    local ok, err = pcall(sipwire.new, { server = "wss://127.0.0.1:1/",
                                         tls = tls })
    assert.is_false(ok)
    for _, word in ipairs(words) do assert.matches(word, err, 1, true) end
  end

  it("raises at new(), naming the option and the file", function()
    local pem = file "client.pem"
    raises({ "tls.cert_file", "/nowhere.pem", "No such file" },
      { cert_file = "/nowhere.pem" })
    raises({ "tls.key_file", "/nowhere.key", "No such file" },
      { cert_file = pem, key_file = "/nowhere.key" })
    raises({ "tls.cert_file", file "ca.key" }, { cert_file = file "ca.key" })
    raises({ "tls.cert_file", pem }, { cert_file = pem }) -- has no key
    raises({ "tls.key_file", file "server.key", "mismatch" },
      { cert_file = pem, key_file = file "server.key" })
    raises({ "tls.key_file", "cert_file" }, { key_file = file "client.key" })
    raises({ "tls.ca_file", "/nowhere", "No such file" },
      { ca_file = "/nowhere" })
    raises({ "tls.ca_file", "server.key" }, { ca_file = file "server.key" })
    raises({ "tls.ca_path", "/nowhere", "No such file" },
      { ca_path = "/nowhere" })
    raises({ "tls.ca_path", "ca.pem", "Not a directory" },
      { ca_path = file "ca.pem" })
    raises({ "tls.keylog_file", "/nowhere/x", "No such file" },
      { keylog_file = "/nowhere/x" })
  end)

  it("raises at new() if it is a wrong password #slow", function()
    local pem, secret = file "client.pem", file "client-encrypted.key"
    raises({ "tls.key_file", secret }, { cert_file = pem, key_file = secret })
    raises({ "tls.key_file", secret, "decrypt" },
      { cert_file = pem, key_file = secret, key_password = "wrong" })
  end)

  it("raises at new(), saying what is allowed", function()
    raises({ "min_version", "1.2", "1.3" }, { min_version = "1.1" })
    raises({ "min_version" }, { min_version = "TLS1.2" })
    raises({ "ciphers", "NONSENSE" }, { ciphers = "NONSENSE" })
    raises({ "verify", "boolean" }, { verify = "yes" })
    raises({ "ca_file", "string" }, { ca_file = true })
    raises({ "server_name", "253" }, { server_name = ("a"):rep(254) })
    raises({ "unknown option 'tls.cafile'", "'ca_file'" }, { cafile = "x" })
  end)

  it("raises for listeners, too", function()
    for words, tls in pairs {
      ["tls.cert_file is required"] = {},
      ["tls.server_name is for clients"] = { server_name = "x",
        cert_file = file "server.pem", key_file = file "server.key" },
      ["tls.verify needs"] = { verify = true, cert_file = file "server.pem",
                               key_file = file "server.key" },
      ["tls.cert_file '/nowhere'"] = { cert_file = "/nowhere" },
    } do
      local ok, err = pcall(sipwire.listen, { tls = tls,
                                              on_connection = function() end })
      assert.is_false(ok)
      assert.matches(words, err, 1, true)
    end
  end)
end)
