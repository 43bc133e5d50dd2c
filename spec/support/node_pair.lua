-- SPDX-License-Identifier: MIT
-- A transport at one end, node's server (node_server.lua) at the other.
--
-- node_pair.start() -> peer      with ws and wss; it asks for a certificate and
--                                does not insist
-- node_pair.options(peer, scheme [, path [, more]]) -> options for sipwire
-- node_pair.open(peer, scheme [, path [, more]]) -> t, seen, asked
--   connected (see pair.lua); asked is what the peer reported, with its id
-- node_pair.closed(peer, id, code [, reason])   what the peer saw of the end
-- node_pair.leave(peer, t, id)   by disconnect(), clean on both sides
-- node_pair.messages(seen, n)    waits until so many came

local assert = require "luassert"
local helper = require "spec.helper"
local node_server = require "spec.support.node_server"
local pair = require "spec.support.pair"
local run = require "spec.support.run"

local M = {}

function M.start()
  local dir = helper.certs()
  return node_server.start { tls = { cert = dir .. "/server.pem",
    key = dir .. "/server.key", ca = dir .. "/ca.pem", requestCert = true,
    rejectUnauthorized = false } }
end

function M.options(peer, scheme, path, more)
  local options = { server = peer:url(path) }
  if scheme == "wss" then
    options.server = peer:secure_url(path)
    options.tls = { ca_file = helper.certs() .. "/ca.pem" }
  end
  for name, value in pairs(more or {}) do options[name] = value end
  return options
end

function M.open(peer, scheme, path, more)
  local t, seen = pair.client(M.options(peer, scheme, path, more))
  local outcome = pair.finish(pair.connect(t, seen))
  if outcome.err then error("cannot connect: " .. outcome.err, 2) end
  return t, seen, peer:event("open", { path = path or "/" })
end

function M.closed(peer, id, code, reason)
  local close = peer:event("close", { id = id })
  assert.same({ code, reason or "" }, { close.code, close.reason })
end

function M.leave(peer, t, id)
  t:disconnect()
  pair.gone(t)
  M.closed(peer, id, 1000)
  assert.equal(0, peer:seen("error", { id = id }))
end

function M.messages(seen, n)
  run.wait(function() return #seen.messages >= n end, 10, function()
    return n .. " messages; there are " .. #seen.messages
  end)
end

return M
