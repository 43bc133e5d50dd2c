-- SPDX-License-Identifier: MIT
-- Users of a Kamailio (see kamailio.lua), each with a transport.
--
-- phone.options(k, scheme [, more]) -> options for sipwire: the URL of |k| for
--   "ws" or "wss", trusting its authority; more.path, and more options
-- phone.open(k, scheme [, more]) -> p    connected, with callbacks (pair.lua)
--   p.t  p.seen  p.user (sip.lua)
-- p:take(what, fits) -> parsed, message, binary   the first message for which
--   fits(parsed) holds; others stay
-- p:answer(call_id)  p:incoming(method)  likewise
-- p:ask(message, call_id [, frame]) -> the answer, parsed
-- p:provoke(user [, line...])   an OPTIONS for one of the server's magic users
-- phone.hang_up(p...)           all at once; waits for Disconnected
-- phone.check_answer(answer, status, message)   it answers |message| so
-- phone.check_registered(answer, user)
-- phone.statistic(k, name)      of Kamailio's module: "received_frames"
-- phone.knows(k, address)       whether Kamailio has a connection from there

local assert = require "luassert"
local pair = require "spec.support.pair"
local run = require "spec.support.run"
local sip = require "spec.support.sip"

local M = {}
local phone = {}
phone.__index = phone

function M.options(k, scheme, more)
  local path = more and more.path
  local options = { server = k:url(path) }
  if scheme == "wss" then
    options.server = k:secure_url(path)
    options.tls = { ca_file = k.certs .. "/ca.pem" }
  end
  for name, value in pairs(more or {}) do
    if name ~= "path" then options[name] = value end
  end
  return options
end

function M.open(k, scheme, more)
  local t, seen = pair.client(M.options(k, scheme, more))
  local outcome = pair.finish(pair.connect(t, seen))
  if outcome.err then error("cannot connect: " .. outcome.err, 2) end
  return setmetatable({ t = t, seen = seen,
    user = sip.user("user", t.protocol) }, phone)
end

function M.hang_up(...)
  for _, p in ipairs { ... } do p.t:disconnect() end
  for _, p in ipairs { ... } do pair.gone(p.t) end
end

local function find(p, fits)
  for i, message in ipairs(p.seen.messages) do
    local parsed = sip.parse(message)
    if fits(parsed) then return i, parsed end
  end
end

function phone:take(what, fits)
  local at, parsed
  run.wait(function()
    at, parsed = find(self, fits)
    if not at and self.t.state == "Disconnected" then
      error(("no %s: %s"):format(what, self.seen.err or "Disconnected"), 0)
    end
    return at
  end, 5, what)
  return parsed, table.remove(self.seen.messages, at),
    table.remove(self.seen.binary, at)
end

function phone:answer(call_id)
  return self:take("answer", function(message)
    return message.status and message.call_id == call_id
  end)
end

function phone:incoming(method)
  return self:take(method, function(message)
    return message.method == method
  end)
end

function phone:ask(message, call_id, frame)
  assert(self.t:send(message, nil, frame))
  return (self:answer(call_id))
end

function phone:provoke(magic, ...)
  assert(self.t:send((self.user:request("OPTIONS",
    "sip:" .. magic .. "@localhost", { ... }))))
end

function M.check_answer(answer, status, message)
  local request = sip.parse(message)
  assert.equal(status, answer.status)
  assert.equal(request.call_id, answer.call_id)
  assert.equal(request.branch, answer.branch)
  assert.same(request.headers.cseq, answer.headers.cseq)
end

function M.check_registered(answer, user)
  assert.equal(200, answer.status)
  assert.equal(1, #answer.headers.contact)
  assert.matches("<" .. user.contact .. ">;expires=60;",
    answer.headers.contact[1], 1, true)
end

function M.statistic(k, name)
  return tonumber(k:rpc("stats.get_statistics", "websocket:")
    :match(":ws_" .. name .. " = (%d+)"))
end

function M.knows(k, address)
  local port = address:match ":%d+$" -- IPv6 addresses have several spellings
  return k:rpc("ws.dump"):find(port .. " ", 1, true) ~= nil
end

return M
