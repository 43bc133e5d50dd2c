-- SPDX-License-Identifier: MIT
-- Calls: an INVITE, the dialog that it makes, and its end.

local await = require "sipwire.ua.await"
local dialog = require "sipwire.ua.dialog"
local exchange = require "sipwire.ua.exchange"
local inbox = require "sipwire.ua.inbox"
local raise = require "sipwire.raise"
local waiting = require "sipwire.waiting"

local MAX_RESPONSES = 100 -- that are kept for wait()

--- A call, made by ua:invite() or by answering an INVITE.
---@class sipwire.ua.Call
---@field ua sipwire.UserAgent
---@field state "calling"|"early"|"confirmed"|"ended"
---@field status integer|nil the last response to the INVITE
---@field response sipwire.sip.Message|nil that response
---@field invite sipwire.sip.Message the INVITE, as it was sent last
---@field call_id string
---@field err string|nil why it ended, unless by BYE, CANCEL or a response
---@field code string|nil
local Call = {}
Call.__index = Call

function Call:__tostring()
  return ("sipwire.ua.call: %s %s"):format(self.call_id, self.state)
end

local function new(ua, is_caller, request, local_tag)
  local self = setmetatable({
    ua = ua, invite = request, call_id = request.call_id,
    state = is_caller and "calling" or "early",
    _is_caller = is_caller, _local_tag = local_tag, _endpoint = ua._endpoint,
    _responses = {}, _seen = 0, _came = {}, _waiters = waiting.new(),
    _inbox = inbox.new(ua._endpoint.loop, ua._patience),
  }, Call)
  ua._endpoint:add_call(self)
  return self
end

-- Ends it, but late ACKs may still find it. What is to be told to those that
-- wait follows.
local function finish(self, err, code, info)
  if self.state == "ended" then
    return
  end
  self.state = "ended"
  self._end = { nil, err, code, info or {} }
  self._inbox:finish(err, code, info)
  if not self._lingers then
    self._endpoint:remove_call(self)
  end
  if self._repeat then
    self._repeat:stop()
    self._repeat = nil
  end
  self._unacked = nil
  self._waiters:wake_all_later()
end

--- Ends it by something that is nobody's wish.
function Call:_fail(err, code, info)
  if self.state ~= "ended" then
    self.err, self.code = err, code
    finish(self, err, code, info)
  end
end

-- ---- Requests of the dialog -----------------------------------------------

local function build(self, method, given, cseq)
  local fields = self._dialog:fields(method, cseq)
  return self.ua:_request(fields, given or {})
end

local function hang_up(self, of)
  exchange.start(self.ua, function()
    return self.ua:_request(of:fields "BYE", {})
  end, exchange.nobody)
end

-- The ACK of a 2xx: a request of its own with the INVITE's number and
-- credentials (RFC 3261 section 13.2.2.4).
local function acknowledge(self, of, invite, given)
  local ack = self.ua:_request(of:fields("ACK", invite.cseq.number),
    given or {})
  for _, name in ipairs { "Authorization", "Proxy-Authorization" } do
    for _, value in ipairs(invite:all(name)) do
      ack:add(name, value)
    end
  end
  return tostring(ack)
end

-- ---- The caller's side ----------------------------------------------------

-- One more 2xx: the same once more, or of another branch of a fork.
local function on_another_success(self, response)
  if response.to.tag == self._dialog.remote_tag then
    if self._ack then
      self._endpoint:send(self._ack)
    end
    return
  end
  local other = dialog.uac(self.invite, response)
  self._endpoint:send(acknowledge(self, other, self.invite))
  self._forks = self._forks or {}
  if not self._forks[response.to.tag or ""] then
    self._forks[response.to.tag or ""] = true
    hang_up(self, other)
  end
end

local function on_success(self, response)
  self._dialog = dialog.uac(self.invite, response, self._dialog)
  self.state = "confirmed"
  if self._cancelled then -- it crossed our CANCEL
    self:ack()
    hang_up(self, self._dialog)
    finish(self, "ended: answered while it was cancelled, hung up", "ended",
      { response = response })
  end
end

-- The peer may ring as often as it likes.
local function keep_response(self, response)
  local list = self._responses
  list[#list + 1] = response
  if #list > MAX_RESPONSES then
    table.remove(list, 1)
    self._seen = math.max(self._seen - 1, 0)
  end
end

function Call:_on_response(response, request)
  local status = response.status
  self.invite = request
  if self._final then
    if status < 300 then
      on_another_success(self, response)
    end
    return
  end
  self.status, self.response = status, response
  keep_response(self, response)
  if status >= 300 then
    self._final = response
    finish(self, exchange.status_error(response))
  elseif status >= 200 then
    self._final = response
    on_success(self, response)
  elseif status > 100 and response.to.tag then
    self._dialog = dialog.uac(request, response, self._dialog)
    self.state = "early"
  end
  self._waiters:wake_all_later()
end

function Call:_on_failure(err, code, info)
  self:_fail(err, code, info)
end

--- Sends the ACK of the 2xx; repeats it by itself for repeated ones.
---@param given? table body, content_type, headers
---@return true|nil ok
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Call:ack(given)
  if not self._is_caller or self.state ~= "confirmed" then
    return nil, "state: there is no 2xx to acknowledge", "state", {}
  end
  self._ack = self._ack or
    acknowledge(self, self._dialog, self.invite, given)
  return self._endpoint:send(self._ack)
end

--- Gives up a call that was not answered yet; wait() tells with which response
--- it ended. If that is a 200 which crossed the CANCEL, the call is
--- acknowledged and hung up.
---@return true|nil ok
---@return string|nil err
---@return string|nil code "state": there is nothing to cancel any more
---@return table|nil info
function Call:cancel()
  if not self._is_caller or self._final or self.state == "ended" then
    return nil, "state: there is nothing to cancel any more", "state", {}
  end
  self._cancelled = true
  return self._exchange:cancel()
end

-- ---- The called one's side ------------------------------------------------

-- Repeats a 2xx until its ACK comes (RFC 3261 section 13.3.1.4).
local function repeat_until_acked(self, response)
  local t1 = self.ua._t1
  local gap, passed, text = t1, 0, tostring(response)
  self._unacked, self._came.ACK = response.cseq.number, nil
  local function again()
    passed = passed + gap
    if passed >= 64 * t1 then
      hang_up(self, self._dialog)
      return self:_fail(("timeout: no ACK within %g s"):format(64 * t1),
        "timeout")
    end
    self._endpoint:send(text)
    gap = math.min(2 * gap, 8 * t1)
    self._repeat = self._endpoint:timer(math.min(gap, 64 * t1 - passed), again)
  end
  self._repeat = self._endpoint:timer(gap, again)
end

-- As long as the INVITE's transaction there may be more ACKs (RFC 6026).
local function linger(self, server)
  self._lingers = true
  server.on_end = function()
    self._lingers = false
    if self.state == "ended" then
      self._endpoint:remove_call(self)
    end
  end
end

function Call:_replied(req, response)
  local status = response.status
  if req.message.method ~= "INVITE" then
    if req.message.method == "UPDATE" and status < 300 then
      self._dialog:refresh(req.message)
    end
    return
  end
  if not self._is_caller and self.state == "early" then
    self.status, self.response = status, response
    if status >= 300 then
      finish(self, exchange.status_error(response))
    elseif status >= 200 then
      self.state = "confirmed"
      linger(self, req._transaction)
    end
  end
  if status >= 200 then
    self._invited = nil
  end
  if status >= 200 and status < 300 and self.state == "confirmed" then
    self._dialog:refresh(req.message)
    repeat_until_acked(self, response)
  end
end

--- Takes the ACK of a 2xx; false if it is of none.
function Call:_on_ack(request)
  local number = request.cseq.number
  if number == self._unacked then
    self._repeat:stop()
    self._repeat, self._unacked, self._acked = nil, nil, number
    self._came.ACK = request
    self._waiters:wake_all_later()
  end
  return number == self._acked or self.state == "ended"
end

--- The caller gave up.
function Call:_on_cancel(request)
  self._came.CANCEL = request
  finish(self, "ended: the caller gave up (CANCEL)", "ended")
end

-- ---- Both sides -----------------------------------------------------------

local function on_bye(self, req)
  self._came.BYE = req.message
  req:reply(200)
  if self._invited then
    self._invited:reply(487)
  end
  if self._exchange and not self._final then
    self._exchange:cancel()
  end
  finish(self, "ended: the other side hung up (BYE)", "ended")
end

--- Takes a request of the dialog.
function Call:_on_request(req)
  local method = req.message.method
  if not self._dialog:advance(req.message) then
    return req:reply(500)
  elseif method == "BYE" then
    return on_bye(self, req)
  elseif self._leaving then
    return req:reply(481)
  elseif method == "INVITE" then
    if self._asking or self._is_caller and not self._final then
      return req:reply(491)
    elseif self._invited or self._unacked then
      return req:reply(500, { headers = { { "Retry-After",
        tostring(math.random(0, 10)) } } })
    end
    self._invited = req
  end
  self._inbox:take(req, req._refuse)
end

--- Whether a request is of this dialog.
function Call:_owns(request)
  return self._dialog and (self._dialog.remote_tag or "") ==
    (request.from.tag or "")
end

-- Sends a request of the dialog and waits for the final response. What says
-- that the other side knows no such call ends it.
local function ask(self, what, method, given, each)
  given = given or {}
  local response, err, code, info = exchange.ask(self.ua, what, function()
    return build(self, method, given)
  end, given.timeout, each)
  local status = response and response.status
  if status == 481 or status == 408 then
    self:_fail(exchange.status_error(response))
  elseif status and status < 300 and method == "UPDATE" then
    self._dialog:refresh(response)
  end
  return response, err, code, info
end

local function check_established(self, what)
  if self.state ~= "confirmed" then
    return nil, ("state: %s is not possible: the call is %s"):format(what,
      self.state == "ended" and "over" or "not established"), "state", {}
  end
  return true
end

--- Sends a request within the call, in a task.
---@param method string
---@param given? table body, content_type, headers, timeout
---@return sipwire.sip.Message|nil response
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Call:request(method, given)
  if not self._dialog or self.state == "ended" then
    return nil, "state: there is no dialog", "state", {}
  end
  return ask(self, "request", method, given)
end

--- Sends an INFO (RFC 6086), in a task.
---@param given? table body, content_type, headers, timeout
---@return sipwire.sip.Message|nil response
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Call:info(given)
  return self:request("INFO", given)
end

--- Changes the session, in a task; sends the ACK.
---@param given? table body, content_type, headers, timeout; ack: such a table
--- for the ACK
---@return sipwire.sip.Message|nil response
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Call:reinvite(given)
  local ok, err, code, info = check_established(self, "reinvite()")
  if not ok then
    return nil, err, code, info
  elseif self._asking then
    return nil, "state: a reinvite() is under way", "state", {}
  end
  local ack
  self._asking = true
  local response
  response, err, code, info = ask(self, "reinvite", "INVITE", given,
    function(each, request)
      if each.status >= 200 and each.status < 300 then
        if not ack then
          self._dialog:refresh(each)
          ack = acknowledge(self, self._dialog, request, given and given.ack)
        end
        self._endpoint:send(ack)
      end
    end)
  self._asking = false
  return response, err, code, info
end

local function await_ack(self)
  return await(self._waiters, "bye", 64 * self.ua._t1 + 1, function()
    return (not self._unacked or self.state == "ended") or nil
  end)
end

--- Hangs up, in a task, and waits for the answer. Sends an ACK that is missing
--- first; the called one waits for the ACK (RFC 3261 section 15).
---@param given? table headers, body, content_type, timeout
---@return sipwire.sip.Message|nil response
---@return string|nil err
---@return string|nil code "state": the call is not established, or over
---@return table|nil info
function Call:bye(given)
  local ok, err, code, info = check_established(self, "bye()")
  if ok and self._is_caller and not self._ack then
    ok, err, code, info = self:ack()
  elseif ok and self._unacked then
    await_ack(self)
    ok, err, code, info = check_established(self, "bye()")
  end
  if not ok then
    return nil, err, code, info
  elseif self._leaving then
    return nil, "state: a bye() is under way", "state", {}
  end
  self._leaving = true
  local response
  response, err, code, info = ask(self, "bye", "BYE", given)
  finish(self, "ended: hung up here (BYE)", "ended")
  return response, err, code, info
end

local function fits(response, wanted)
  local status = response.status
  return wanted == nil and status >= 200 or status == wanted or
    wanted == math.floor(status / 100) .. "xx"
end

-- What wait() returns, or nil when it has to wait.
local function look_for_response(self, wanted)
  if self._final and fits(self._final, wanted) then
    self._seen = #self._responses
    return { self._final }
  end
  for i = self._seen + 1, #self._responses do
    if fits(self._responses[i], wanted) then
      self._seen = i
      return { self._responses[i] }
    end
  end
  if self._final then
    return { nil, exchange.status_error(self._final) }
  end
  return self._end
end

local function look_for_request(self, method)
  return self._came[method] and { self._came[method] } or self._end
end

--- Waits, in a task, for a response to our INVITE: a status, a class of them
--- ("1xx"), or, with nil, the final one; each is found once, in order, the
--- final one always. Or for a request: "ACK", "BYE", "CANCEL".
---@param wanted? integer|string
---@param timeout? number seconds; nil: no limit
---@return sipwire.sip.Message|nil message
---@return string|nil err
---@return string|nil code "status": another final response came, see
--- info.response; "ended", "timeout", or why the connection ended
---@return table|nil info
function Call:wait(wanted, timeout)
  local look = look_for_response
  if type(wanted) == "string" and not wanted:find "^[1-6]xx$" then
    look = look_for_request
  elseif not self._is_caller then
    raise("wait(): an incoming call has no responses to wait for")
  end
  local result = await(self._waiters, "wait", timeout, function()
    return look(self, wanted)
  end)
  if not result then
    return nil, ("timeout: no %s within %g s"):format(
      tostring(wanted or "final response"), timeout), "timeout", {}
  end
  return result[1], result[2], result[3], result[4]
end

--- Waits, in a task, for the next request within the call that no function was
--- set for; BYE and ACK are not among them.
---@param timeout? number seconds; nil: no limit
---@return sipwire.ua.Request|nil req
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Call:receive(timeout)
  return self._inbox:receive(timeout)
end

--- Sets the function that is called, as a task, with each request of a method
--- within the call.
---@param method string
---@param fn? fun(req: sipwire.ua.Request) nil: none any more
function Call:on(method, fn)
  self._inbox:on(method, fn)
end

-- ---- How they begin -------------------------------------------------------

--- The call of an INVITE to be sent: |build| makes it.
local function outgoing(ua, first, build_invite)
  local self = new(ua, true, first, first.from.tag)
  local started, err, code, info = exchange.start(ua, build_invite, self)
  if not started then
    self:_fail(err, code, info)
    return nil, err, code, info
  end
  self._exchange = started
  return self
end

--- The call of an INVITE that came.
local function incoming(ua, req)
  local tag = req._transaction.tag
  local self = new(ua, false, req.message, tag)
  self._dialog = dialog.uas(req.message, tag)
  self._invited = req
  return self
end

return { outgoing = outgoing, incoming = incoming }
