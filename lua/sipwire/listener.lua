-- SPDX-License-Identifier: MIT
-- The listening side: accepted connections become transports.

local core = require "sipwire.core"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local transports = require "sipwire.transport"

--- A listening socket. The loop keeps it alive until close().
---@class sipwire.Listener
---@field address string the numeric address it is bound to (read only)
---@field port integer (read only)
---@field url string of its root, for a client on this machine (read only)
local Listener = {}

--- What a client sent to be upgraded.
---@class sipwire.Request
---@field target string path and query as sent
---@field path string
---@field query string|nil
---@field headers table<string, string> lower-case names
---@field peer_address string "address:port"
---@field secure boolean over TLS

local function describe(handle)
  local target, headers, peer_address, secure = handle:details()
  local path, query = target:match("^([^?]*)%??(.*)$")
  return {
    target = target, path = path,
    query = target:find("?", 1, true) and query or nil,
    headers = headers, peer_address = peer_address, secure = secure,
  }
end

-- ---- Answers --------------------------------------------------------------

local function refuse(handle, ...)
  local ok, err = handle:refuse(options.refusal(...))
  if not ok then
    error(err, 0)
  end
end

local function accept(self, handle, request)
  local loop = self._loop
  local id = transports.next_id(loop)
  local transport = handle:accept(id)
  if transport then
    local t = transports.adopt(loop, transport, id, self._trace)
    loop:_call(nil, "on_connection", self._on_connection, t, request)
  end
end

-- Asks the user; an error, or an answer that cannot be sent, refuses.
function Listener:_request(handle)
  local request = describe(handle)
  local loop, answered = self._loop, true
  local status, reason, headers
  if self._on_request then
    answered = loop:_call(nil, "on_request", function()
      status, reason, headers = self._on_request(request)
      if status ~= nil and status ~= true then
        refuse(handle, status, reason, headers)
      end
    end)
  end
  if not answered then
    handle:refuse(500)
  elseif status == nil or status == true then
    accept(self, handle, request)
  end
end

--- Stops listening. Accepted transports live on; handshakes are dropped. May
--- be called again.
function Listener:close()
  self._core:close()
  self._closed = true
  self._loop._listeners[self._id] = nil
  self._loop:_tell_host()
end

-- ---- The object -----------------------------------------------------------

local readable = { address = "_address", port = "_port", url = "_url" }

local Meta = { __name = "sipwire.listener" }

function Meta.__index(self, name)
  return Listener[name] or readable[name] and rawget(self, readable[name])
end

function Meta.__newindex(self, name, value)
  if type(name) ~= "string" or name:sub(1, 1) ~= "_" then
    raise("field '%s' cannot be assigned", tostring(name))
  end
  rawset(self, name, value)
end

function Meta.__tostring(self)
  return ("sipwire.listener: %s%s"):format(self._url,
    self._closed and " closed" or "")
end

local function url_of(secure, address, port)
  local any = { ["0.0.0.0"] = "127.0.0.1", ["::"] = "::1" }
  address = any[address] or address
  return ("%s://%s:%d"):format(secure and "wss" or "ws",
    address:find(":", 1, true) and "[" .. address .. "]" or address, port)
end

--- Listens for SIP over WebSocket clients (RFC 7118 section 4).
---@param given sipwire.ListenerOptions
---@return sipwire.Listener|nil listener
---@return string|nil err
---@return "refused"|"unreachable"|"nomem"|nil code refused: address in use, or
--- not permitted; unreachable: not an address of this machine
local function listen(given)
  local checked, config = options.listener(given)
  local loop = transports.loop_of(checked)
  local id, secure = transports.next_id(loop), checked.tls ~= nil
  local handle, err, code = core.listener_new(loop._core, config, id,
    checked.address, checked.port, secure)
  if not handle then
    if code == "refused" or code == "unreachable" or code == "nomem" then
      return nil, err, code
    end
    transports.complain(err, code)
  end
  local self = setmetatable({
    _core = handle, _loop = loop, _id = id,
    _on_connection = checked.on_connection, _on_request = checked.on_request,
    _trace = checked.trace,
    _address = handle:address(), _port = handle:port(),
    _url = url_of(secure, handle:address(), handle:port()),
  }, Meta)
  loop._listeners[id] = self
  loop:_tell_host()
  return self
end

return { listen = listen }
