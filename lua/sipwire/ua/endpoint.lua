-- SPDX-License-Identifier: MIT
-- One per transport: reads what comes and gives it to the transaction, call or
-- user agent it is for.

local dialog = require "sipwire.ua.dialog"
local incoming = require "sipwire.ua.incoming"
local interpreted = require "sipwire.interpreted"
local sip = require "sipwire.sip"
local transaction = require "sipwire.ua.transaction"

local Endpoint = {}
Endpoint.__index = Endpoint

local RETRY_MS = 10 -- when the send queue was full
local BACKLOG = 2 ^ 26 -- bytes: a peer may ask on and read no answer

local unpack = table.unpack or unpack

-- ---- Sending --------------------------------------------------------------

-- After an end: a transport may connect again.
local function revive(self)
  self.ended = nil
  for _, ua in ipairs(self.uas) do
    ua._inbox:reopen()
  end
end

local function new_backlog()
  return { first = 1, last = 0, bytes = 0 }
end

local function flush(self)
  self.flushing = nil
  local t, backlog = self.transport, self.backlog
  while backlog.first <= backlog.last do
    local text = backlog[backlog.first]
    local ok, _, code = t:send(text)
    if not ok and code == "queue_full" and t:stats().queue > 0 then
      self.flushing = self.loop:_timer(RETRY_MS, function()
        flush(self)
      end)
      return
    end
    backlog[backlog.first] = nil
    backlog.first, backlog.bytes = backlog.first + 1, backlog.bytes - #text
  end
end

local function keep(self, text)
  local backlog = self.backlog
  if backlog.bytes + #text > self.backlog_limit then
    return nil, "queue_full: the peer does not read", "queue_full", {}
  end
  backlog.last, backlog.bytes = backlog.last + 1, backlog.bytes + #text
  backlog[backlog.last] = text
  return true
end

--- Sends a message, later if the send queue is full.
---@return true|nil ok
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Endpoint:send(text)
  local t = self.transport
  if t._disposed then
    return nil, "disposed: the transport was disposed", "disposed", {}
  elseif self.flushing then
    return keep(self, text)
  end
  local ok, err, code = t:send(text)
  if ok then
    return true
  elseif code == "queue_full" and t:stats().queue > 0 then
    local kept, why, kind, info = keep(self, text)
    flush(self)
    return kept, why, kind, info
  elseif code == "state" and self.ended then
    return nil, unpack(self.ended)
  end
  return nil, err, code, {}
end

--- What Via says that we use.
function Endpoint:protocol()
  return self.transport._disposed and "WS" or self.transport.protocol
end

function Endpoint:timer(seconds, fn)
  return self.loop:_timer(math.ceil(seconds * 1000), function()
    self.loop:_call(self.transport, "timer", fn)
  end)
end

-- ---- Calls ----------------------------------------------------------------

local function call_key(call_id, local_tag)
  return call_id .. " " .. local_tag
end

function Endpoint:add_call(call)
  self.calls[call_key(call.call_id, call._local_tag)] = call
end

function Endpoint:remove_call(call)
  self.calls[call_key(call.call_id, call._local_tag)] = nil
end

local function find_call(self, request)
  local tag = request.to.tag
  local call = tag and self.calls[call_key(request.call_id, tag)]
  if call and call:_owns(request) and
    (call.state ~= "ended" or request.method == "ACK") then
    return call
  end
end

-- ---- Requests -------------------------------------------------------------

local function same_place(a, b)
  return a and b and a.user == b.user and
    (a.host or ""):lower() == (b.host or ""):lower()
end

-- By our Contact, by the address of record, or the only one there is.
local function find_ua(self, request)
  for _, ua in ipairs(self.uas) do
    if same_place(request.uri, ua._contact_uri) then
      return ua
    end
  end
  for _, uri in ipairs { request.uri, request.to.uri } do
    for _, ua in ipairs(self.uas) do
      if same_place(uri, ua._aor_uri) then
        return ua
      end
    end
  end
  return #self.uas == 1 and self.uas[1] or nil
end

-- What nobody waits for is told to the agent whose it would be, or to all.
local function stray(self, message, why)
  local of
  if type(message) == "table" then
    local from = message.from and message.from.uri
    for _, ua in ipairs(self.uas) do
      if not message.is_request and same_place(from, ua._aor_uri) then
        of = { ua }
      end
    end
    of = of or message.is_request and { find_ua(self, message) }
  end
  for _, ua in ipairs(of and of[1] and of or { unpack(self.uas) }) do
    if ua.on_stray then
      self.loop:_call(self.transport, "on_stray", ua.on_stray, message, why)
    end
  end
end


-- Without a transaction, as nothing is remembered.
local function answer(self, request, status, to_tag)
  self:send(tostring(request:response(status, nil, { to_tag = to_tag })))
end

local function on_cancel(self, request)
  local server = self.servers[transaction.request_key(request, "INVITE")]
  if not server then
    return answer(self, request, 481)
  end
  local req = server.req
  local call = req and req.call
  answer(self, request, 200, server.tag)
  if not req or req.answered or req.cancelled then
    return
  elseif call and call.state == "early" then
    call:_on_cancel(request)
  end
  req:reply(487)
  req.cancelled = true
end

-- What we cannot do although the sender depends on it, or nil.
local function unsupported(ua, request)
  local missing = {}
  for _, option in ipairs(request.require or {}) do
    if not ua._supports[option:lower()] then
      missing[#missing + 1] = option:gsub("%c", "?")
    end
  end
  return missing[1] and table.concat(missing, ", ")
end

-- The same request by another way (RFC 3261 section 8.2.2.2).
local function is_merged(self, request, server)
  local key = table.concat({ tostring(request.uri), request.call_id,
    request.from.tag or "", request.cseq.number, request.method }, " ")
  local other = self.merged[key]
  if other and other.state ~= "terminated" then
    return true
  end
  self.merged[key] = server
  return false
end

local function on_new_request(self, request)
  local call = find_call(self, request)
  local ua = call and call.ua or find_ua(self, request)
  if not ua then
    return answer(self, request, 404)
  end
  local server = transaction.server(self, request, ua._t1)
  local req = incoming.new(ua, request, server, call)
  server.req = req
  local missing = unsupported(ua, request)
  if request.cseq.method ~= request.method then
    req:reply(400)
  elseif missing then
    req:reply(420, { headers = { { "Unsupported", missing } } })
  elseif call then
    call:_on_request(req)
  elseif (request.to.tag or request.method == "BYE") and
    not (request.method == "NOTIFY" and ua._inbox:takes "NOTIFY") then
    req:reply(481)
  elseif is_merged(self, request, server) then
    req:reply(482)
  else
    ua:_on_request(req)
  end
end

local function on_ack(self, request)
  local server = self.servers[transaction.request_key(request)]
  if server and server:receive(request) then
    return
  end
  local call = find_call(self, request)
  if not call or not call:_on_ack(request) then
    stray(self, request, "ACK of nothing")
  end
end

local function on_request(self, request)
  if request.method == "ACK" then
    return on_ack(self, request)
  elseif request.method == "CANCEL" then
    return on_cancel(self, request)
  end
  local server = self.servers[transaction.request_key(request)]
  if server then
    server:receive(request)
  else
    on_new_request(self, request)
  end
end

local function on_response(self, response)
  local key = transaction.response_key(response)
  local client = key and self.clients[key]
  if not client or #response.via > 1 or not client:receive(response) then
    stray(self, response, "response to nothing")
  end
end

-- Of these more messages will be made.
local makes_dialog = { INVITE = true, UPDATE = true }

local function problem_of(message)
  if not (message.via and message.via[1] and message.from and message.to and
    message.cseq and message.call_id) then
    return "a header field is missing or malformed"
  end
  return makes_dialog[message.cseq.method] and dialog.problem(message)
end

local function on_message(self, text)
  local message, err = sip.parse(text)
  if not message then
    return stray(self, text, err)
  end
  local problem = problem_of(message)
  if problem then
    if message.is_request and message.method ~= "ACK" and message.via then
      answer(self, message, 400)
    end
    stray(self, text, "syntax: " .. problem)
  elseif message.is_request then
    on_request(self, message)
  else
    on_response(self, message)
  end
end

-- ---- The end --------------------------------------------------------------

local function values(map)
  local list = {}
  for _, value in pairs(map) do
    list[#list + 1] = value
  end
  return list
end
interpreted(values)

-- What a connection's end leaves nothing of.
local function forget(self)
  self.calls, self.lingering = {}, { first = 1, last = 0 }
  self.merged = setmetatable({}, { __mode = "v" })
end

local function finish(self, err, code, info)
  err = err or "closed: the connection was closed here"
  code, info = code or "closed", info or {}
  self.ended = { err, code, info }
  self.backlog = new_backlog()
  if self.flushing then
    self.flushing:stop()
    self.flushing = nil
  end
  for _, client in ipairs(values(self.clients)) do
    client:fail(err, code, info)
  end
  for _, server in ipairs(values(self.servers)) do
    server:terminate()
  end
  for _, call in ipairs(values(self.calls)) do
    call:_fail(err, code, info)
  end
  forget(self)
  for _, ua in ipairs({ unpack(self.uas) }) do
    ua:_ended(err, code, info)
  end
end

-- ---- How it begins --------------------------------------------------------

local function attach(self, connection)
  local t = self.transport
  local function take(text)
    -- What a peer sends may be readable and yet be nothing to build on.
    local ok, err = pcall(on_message, self, text)
    if not ok then
      stray(self, text, "error: " .. tostring(err))
    end
  end
  local function stop(err, code, info)
    finish(self, err, code, info)
  end
  if connection ~= t then
    return connection:_divert(take, stop)
  end
  t.on_message = function(_, text)
    take(text)
  end
  t.on_disconnect = function(_, ...)
    stop(...)
  end
  t.state_change:add_listener(function(state)
    if state == "Connected" then
      revive(self)
    end
  end)
  t._on_dispose = function()
    stop("disposed: the transport was disposed", "disposed")
  end
end

--- The endpoint of a connection, or of a transport: one for all user agents.
---@param connection table
local function of(connection)
  local t = connection.transport or connection
  local self = t._endpoint
  if not self then
    self = setmetatable({ transport = t, loop = t.loop, host = sip.host(),
      uas = {}, clients = {}, servers = {}, backlog = new_backlog(),
      backlog_limit = BACKLOG }, Endpoint)
    forget(self)
    t._endpoint = self
    attach(self, connection)
  end
  return self
end

return { of = of }
