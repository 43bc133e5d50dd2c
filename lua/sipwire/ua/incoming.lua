-- SPDX-License-Identifier: MIT
-- A request that came, until it is answered.

local raise = require "sipwire.raise"

--- A request that came. What the message has can be read from it: method, uri,
--- from, to, body and so on, see sipwire.sip.
---@class sipwire.ua.Request
---@field message sipwire.sip.Message
---@field call sipwire.ua.Call|nil the call it belongs to
---@field answered integer|nil the final status that it got
---@field cancelled boolean|nil the caller gave up
local Request = {}

local Meta = { __name = "sipwire.ua.request" }

function Meta.__index(self, name)
  local own = Request[name]
  if own ~= nil then
    return own
  end
  return rawget(self, "message")[name]
end

function Meta.__tostring(self)
  return ("sipwire.ua.request: %s %s"):format(self.message.method,
    tostring(self.message.uri))
end

--- The first value of a header field.
---@param name string
---@return string|nil value
function Request:get(name)
  return self.message:get(name)
end

--- All values of a header field.
---@param name string
---@return string[] values
function Request:all(name)
  return self.message:all(name)
end

-- Methods whose 2xx says where the dialog's next requests are to be sent.
local refreshes = { INVITE = true, UPDATE = true, SUBSCRIBE = true,
  NOTIFY = true, REFER = true }

local function build(self, status, given)
  local method = self.message.method
  local fields = { headers = given.headers, body = given.body,
    content_type = given.content_type,
    to_tag = self._transaction.tag }
  if given.body and not given.content_type then
    fields.content_type = method == "INVITE" and "application/sdp"
      or "text/plain"
  end
  if refreshes[method] and status > 100 and status < 300 then
    fields.contact = given.contact or self.ua.contact
  end
  local response = self.message:response(status, given.reason, fields)
  if status == 405 or status == 200 and (method == "OPTIONS" or
    method == "INVITE") then
    if not response:get "Allow" then
      response:set("Allow", self.ua:_allow())
    end
  end
  return response
end

--- Answers.
---@param status integer 100 to 699
---@param given? table reason, body, content_type, headers ({{name, value}}),
--- contact
---@return sipwire.ua.Call|true|nil call of an INVITE that got 101 to 299; else
--- true
---@return string|nil err
---@return string|nil code "state": it was answered, or given up, before
---@return table|nil info
function Request:reply(status, given)
  if type(status) ~= "number" or status < 100 or status > 699 or
    status % 1 ~= 0 then
    raise("reply(): the status must be 100 to 699, not %s", tostring(status))
  end
  given = given or {}
  if self.cancelled then
    return nil, "state: the caller gave up (CANCEL)", "state", {}
  elseif self.answered then
    return nil, "state: the request was answered already", "state", {}
  end
  local is_invite = self.message.method == "INVITE"
  if is_invite and not self.call and status > 100 and status < 300 then
    self.call = self.ua:_incoming_call(self)
  end
  local response = build(self, status, given)
  if status >= 200 then
    self.answered = status
  end
  local ok, err, code, info = self._transaction:respond(response)
  if not ok then
    if is_invite and self.call then
      self.call:_fail(err, code, info)
    end
    return nil, err, code, info or {}
  elseif self.call then
    self.call:_replied(self, response)
  end
  return is_invite and status < 300 and self.call or true
end

-- After a handler that raised.
function Request:_fail()
  if not self.answered and not self.cancelled then
    self:reply(500)
  end
end

--- What a User Agent knows of, beyond those that it was taught.
local known = {}
for method in ([[INVITE ACK CANCEL BYE OPTIONS REGISTER MESSAGE INFO UPDATE
  PRACK SUBSCRIBE NOTIFY REFER PUBLISH]]):gmatch "%u+" do
  known[method] = true
end

--- Answers what nobody took, as RFC 3261 section 8.2.1 wants it.
function Request:_refuse()
  if self.answered or self.cancelled then
    return
  end
  local method = self.message.method
  if method == "OPTIONS" then
    self:reply(200, { headers = { { "Accept", "application/sdp" },
      { "Accept-Encoding", "identity" }, { "Accept-Language", "en" },
      { "Supported", self.ua:_supported() } } })
  elseif not known[method] then
    self:reply(501)
  elseif self.call and method == "INVITE" then
    self:reply(488)
  elseif self.ua._inbox:takes(method) then
    self:reply(480)
  else
    self:reply(405)
  end
end

local function new(ua, message, transaction, call)
  return setmetatable({ ua = ua, message = message, call = call,
    _transaction = transaction }, Meta)
end

return { new = new }
