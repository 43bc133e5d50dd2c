-- SPDX-License-Identifier: MIT
-- A session that a server cannot take up was offered to it for ever; and
-- without verification a failure was told in the words of the verification.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local pair = require "spec.support.pair"
local relay = require "spec.support.relay"
local run = require "spec.support.run"

helper.watch()

local function file(name) return helper.certs() .. "/" .. name end

local function listen(tls)
  tls.cert_file, tls.key_file = file "server.pem", file "server.key"
  local listener = assert(sipwire.listen { tls = tls,
    connection_timeout = 5 * run.scale, on_connection = function() end })
  run.track { close = function() listener:close() end }
  return listener
end

describe("a TLS handshake that fails", function()
  it("is not tried again with the same session (C20)", function()
    local between = relay.listen(listen({}).port)
    local t = sipwire.new { tls = { ca_file = file "ca.pem" },
      connection_timeout = 5 * run.scale,
      server = "wss://127.0.0.1:" .. between.port }
    local function connect()
      local err = pair.finish(pair.connect(t)).err
      local resumed = t:stats().tls_resumed
      if not err then
        t:disconnect()
        pair.gone(t)
      end
      return err, resumed
    end
    assert.same({ nil, false }, { connect() })
    assert.same({ nil, true }, { connect() })
    between:corrupt() -- the server's first words
    assert.matches("^tls: ", (connect()))
    assert.same({ nil, false }, { connect() })
    assert.same({ nil, true }, { connect() })
  end)

  it("is told in its own words without verification", function()
    local listener = listen { verify = true, ca_file = file "ca.pem" }
    helper.default_loop().on_log = function() end
    local t = sipwire.new { tls = { verify = false },
      server = "wss://127.0.0.1:" .. listener.port }
    local outcome = pair.finish(pair.connect(t))
    helper.default_loop().on_log = nil
    assert.equal("tls", outcome.code)
    assert.matches("certificate required", outcome.info.tls_error)
  end)
end)
