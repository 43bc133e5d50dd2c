-- SPDX-License-Identifier: MIT
-- Transactions over a reliable transport (RFC 3261 section 17, RFC 6026). Must
-- not know dialogs, nor wait: whoever uses one is told by functions.
--
-- Timers A, E, G never run on a reliable transport. D and J do, although the
-- RFC sets them to zero there: behind a stateless proxy somebody may still be
-- repeating messages over UDP.

local sip = require "sipwire.sip"

local transaction = {}

-- ---- What belongs together ------------------------------------------------

local function client_key(branch, method)
  return branch .. " " .. method
end

--- Tells which client transaction a response is for.
---@param response table
---@return string|nil key
function transaction.response_key(response)
  local via, cseq = response.via and response.via[1], response.cseq
  if via and via.branch and cseq then
    return client_key(via.branch, cseq.method)
  end
end

--- Tells which server transaction a request is for: an ACK belongs to its
--- INVITE's (RFC 3261 section 17.2.3).
---@param request table
---@param method? string instead of the request's own: CANCEL asks for "INVITE"
---@return string key
function transaction.request_key(request, method)
  local via = request.via[1]
  method = method or request.method
  if method == "ACK" then
    method = "INVITE"
  end
  local sent_by = ("%s:%s"):format((via.host or ""):lower(), via.port or "")
  local branch = via.branch or ""
  if branch:sub(1, 7):lower() == "z9hg4bk" then
    return table.concat({ branch, sent_by, method }, " ")
  end
  return table.concat({ branch, sent_by, method, request.call_id,
    request.cseq.number, request.from.tag or "" }, " ")
end

-- ---- Clients --------------------------------------------------------------

local Client = {}
Client.__index = Client

--- Makes the transaction of a request that is still to be sent.
---@param endpoint table
---@param request table
---@param user table t1 (seconds), _on_response(user, response),
--- _on_failure(user, err, code, info)
function transaction.client(endpoint, request, user)
  return setmetatable({
    endpoint = endpoint, request = request, user = user,
    key = client_key(request.via[1].branch, request.method),
    is_invite = request.method == "INVITE", state = "trying",
  }, Client)
end

local function set_timer(self, seconds, fn)
  if self.timer then
    self.timer:stop()
  end
  self.timer = seconds and self.endpoint:timer(seconds, fn)
end

function Client:terminate()
  self.state = "terminated"
  set_timer(self)
  self.endpoint.clients[self.key] = nil
end

--- Ends it without a response.
function Client:fail(err, code, info)
  local waiting = self.state == "trying" or self.state == "proceeding"
  self:terminate()
  if waiting then
    self.user:_on_failure(err, code, info or {})
  end
end

local function limit(self, what)
  local seconds = 64 * self.user.t1
  set_timer(self, seconds, function()
    self:fail(("timeout: no %s within %g s"):format(what, seconds), "timeout")
  end)
end

---@return true|nil ok nil: nothing was sent, the user's functions stay uncalled
function Client:start()
  local ok, err, code, info = self.endpoint:send(tostring(self.request))
  if not ok then
    self.state = "terminated"
    return nil, err, code, info
  end
  self.endpoint.clients[self.key] = self
  limit(self, "response") -- timers B and F
  return true
end

-- A request on the same way as another one: ACK and CANCEL.
local function sibling(self, method, to)
  local request = self.request
  local via = request.via[1]
  return sip.request {
    method = method, uri = request.uri,
    via = { transport = via.transport, host = via.host, branch = via.branch },
    from = request.from, to = to, call_id = request.call_id,
    cseq = request.cseq.number, route = request.route,
  }
end

local silent = { _on_response = function() end, _on_failure = function() end }
silent.__index = silent

local function send_cancel(self)
  self.cancel_sent = true
  limit(self, "response after CANCEL") -- RFC 3261 section 9.1
  local cancel = sibling(self, "CANCEL", self.request.to)
  return transaction.client(self.endpoint, cancel,
    setmetatable({ t1 = self.user.t1 }, silent)):start()
end

--- Cancels an INVITE: at once, or when the first provisional response shows
--- that there is something to cancel.
---@return true|nil ok
---@return string|nil err
---@return string|nil code
function Client:cancel()
  if self.state == "proceeding" and not self.cancel_sent then
    return send_cancel(self)
  elseif self.state == "trying" then
    self.cancel_wanted = true
  elseif self.state ~= "proceeding" then
    return nil, "state: there is nothing to cancel any more", "state"
  end
  return true
end

local function on_provisional(self, response)
  if self.state ~= "trying" and self.state ~= "proceeding" then
    return false
  end
  if self.is_invite and self.state == "trying" then
    set_timer(self) -- it may ring for as long as it likes
  end
  self.state = "proceeding"
  if self.cancel_wanted and not self.cancel_sent then
    send_cancel(self)
  end
  self.user:_on_response(response)
  return true
end

-- Timers D and M: as long as there may be more of this.
local function linger(self, state)
  self.state = state
  set_timer(self, 64 * self.user.t1, function()
    self:terminate()
  end)
end

local function on_invite_final(self, response)
  local status, waiting = response.status,
    self.state == "trying" or self.state == "proceeding"
  if status < 300 then
    if self.state == "completed" then
      return false
    elseif waiting then
      linger(self, "accepted")
    end
    self.user:_on_response(response)
    return true
  elseif self.state == "accepted" then
    return false
  end
  self.endpoint:send(tostring(sibling(self, "ACK", response.to)))
  if waiting then
    linger(self, "completed")
    self.user:_on_response(response)
  end
  return true
end

--- Takes a response with its key.
---@return boolean taken false: nobody waits for it
function Client:receive(response)
  if response.status < 200 then
    return on_provisional(self, response)
  elseif self.is_invite then
    return on_invite_final(self, response)
  end
  self:terminate() -- timer K is zero
  self.user:_on_response(response)
  return true
end

-- ---- Servers --------------------------------------------------------------

local Server = {}
Server.__index = Server

--- Makes the transaction of a request that came; `tag` is for To in all its
--- responses. An INVITE that gets no answer within 200 ms gets a 100.
---@param endpoint table
---@param request table
---@param t1 number seconds
function transaction.server(endpoint, request, t1)
  local self = setmetatable({
    endpoint = endpoint, request = request, t1 = t1,
    key = transaction.request_key(request), tag = sip.tag(),
    is_invite = request.method == "INVITE", state = "proceeding",
  }, Server)
  endpoint.servers[self.key] = self
  if self.is_invite then
    set_timer(self, 0.2, function()
      self.timer = nil
      self:respond(request:response(100))
    end)
  end
  return self
end

function Server:terminate()
  self.state = "terminated"
  set_timer(self)
  self.endpoint.servers[self.key] = nil
  if self.on_end then
    self.on_end()
  end
end

-- How many of a connection's transactions wait for requests to come again, or
-- for ACKs: a peer must not fill the memory with them.
local LINGERING = 1000

-- The one that has waited longest goes for one that comes.
local function linger(self)
  local list = self.endpoint.lingering
  list.last = list.last + 1
  list[list.last] = self
  if list.last - list.first >= LINGERING then
    local oldest = list[list.first]
    list[list.first] = nil
    list.first = list.first + 1
    if oldest.state == "completed" then
      oldest:terminate()
    end
  end
end

--- Sends a response, and remembers it. After a final one there must be no
--- other.
---@return true|nil ok
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Server:respond(response)
  local text, status = tostring(response), response.status
  if self.state == "terminated" then -- the connection has ended meanwhile
    return self.endpoint:send(text)
  end
  set_timer(self)
  self.last = text
  if status >= 200 then
    -- timers H, J (which could be zero: this forgives peers that repeat), L
    self.state = self.is_invite and status < 300 and "accepted" or "completed"
    set_timer(self, 64 * self.t1, function()
      self:terminate()
    end)
    if self.state == "completed" then
      linger(self)
    end
  end
  return self.endpoint:send(text)
end

--- Takes a request with its key: the same again, or the ACK of an INVITE.
---@return boolean taken
function Server:receive(request)
  if request.method == "ACK" then
    if self.state == "completed" then
      self:terminate() -- timer I is zero
      return true
    end
    return false -- of a 2xx: its dialog's
  end
  if self.state ~= "accepted" and self.last then
    self.endpoint:send(self.last)
  end
  return true
end

return transaction
