-- SPDX-License-Identifier: MIT
-- A TCP relay between a client and a server of the same process, and what TLS
-- shows of itself to whoever listens in.
--
-- relay.listen(port) -> r        forwards connections to 127.0.0.1:port
--   r.port  r.client, r.server   of the last one: connections of rawpeer
--   r:records([server])          TLS records of the client, or of the server:
--                                a list of { type, length }
--   r:corrupt()                  flips a bit in the next bytes for the client
--   r:stop()                     what comes from now on goes nowhere
-- relay.client_hello(peer) -> { names = list, alpn = list, has = set of types }
--   takes a ClientHello from a connection of rawpeer; names are those of SNI

local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local bits = require "spec.support.bits"

local M = {}
local relay = {}
relay.__index = relay

local function flip(bytes)
  local last = bytes:byte(-1)
  return bytes:sub(1, -2) .. string.char(bits.bxor(last, 1))
end

-- Passes on what came; the end of one side becomes the FIN of the other.
local function pass(from, to, note)
  while true do
    run.wait(function() return #from:peek() > 0 or from:ended() end, 60,
      "bytes")
    local bytes = from:peek()
    from:drop(#bytes)
    if bytes ~= "" then to:write(note(bytes) or bytes) end
    if from:ended() and from:peek() == "" then return to:fin() end
  end
end

function M.listen(port)
  local r = setmetatable({ from_client = {}, from_server = {} }, relay)
  local listening = rawpeer.listen()
  r.port = listening.port
  listening:each(function(client)
    local server = assert(rawpeer.connect { port = port })
    r.client, r.server = client, server
    run.script(pass, server, client, function(bytes)
      table.insert(r.from_server, bytes)
      if r.stopped then return "" end
      if r.corrupting then
        r.corrupting = false
        return flip(bytes)
      end
    end)
    pass(client, server, function(bytes)
      table.insert(r.from_client, bytes)
      return r.stopped and "" or nil
    end)
  end)
  return r
end

function relay:corrupt() self.corrupting = true end

function relay:stop() self.stopped = true end

function relay:records(server)
  local sent = table.concat(server and self.from_server or self.from_client)
  local list, at = {}, 1
  while at + 4 <= #sent do
    local kind, _, _, high, low = sent:byte(at, at + 4)
    local length = high * 256 + low
    list[#list + 1] = { type = kind, length = length }
    at = at + 5 + length
  end
  return list
end

-- ---- ClientHello (RFC 8446 section 4.1.2) ----------------------------------

local function reader(bytes)
  local at = 1
  local self = {}
  function self.number(n)
    local value = 0
    for _ = 1, n do
      value = value * 256 + bytes:byte(at)
      at = at + 1
    end
    return value
  end
  function self.vector(n) -- with its length in n bytes before it
    local length = self.number(n)
    at = at + length
    assert(at <= #bytes + 1, "vector is too long")
    return bytes:sub(at - length, at - 1)
  end
  function self.skip(n) at = at + n end
  function self.more() return at <= #bytes end
  return self
end

local function server_names(data)
  local names, list = {}, reader(reader(data).vector(2))
  while list.more() do
    assert(list.number(1) == 0, "type of name")
    names[#names + 1] = list.vector(2)
  end
  return names
end

local function protocols(data)
  local names, list = {}, reader(reader(data).vector(2))
  while list.more() do names[#names + 1] = list.vector(1) end
  return names
end

function M.client_hello(peer)
  local record = reader(peer:take(5))
  assert(record.number(1) == 22, "no handshake record")
  record.skip(2)
  local body = reader(peer:take(record.number(2)))
  assert(body.number(1) == 1, "no ClientHello")
  body.skip(3 + 2 + 32)
  body.vector(1) -- session
  body.vector(2) -- cipher suites
  body.vector(1) -- compression
  local extensions = reader(body.vector(2))
  local hello = { names = {}, alpn = {}, has = {} }
  while extensions.more() do
    local kind = extensions.number(2)
    local data = extensions.vector(2)
    hello.has[kind] = true
    if kind == 0 then hello.names = server_names(data) end
    if kind == 16 then hello.alpn = protocols(data) end
  end
  return hello
end

return M
