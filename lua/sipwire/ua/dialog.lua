-- SPDX-License-Identifier: MIT
-- Dialogs (RFC 3261 section 12): who talks to whom, by which way, and what
-- number the next request has.

local sip = require "sipwire.sip"

local dialog = {}

local Dialog = {}
Dialog.__index = Dialog

local function copied(list, is_reversed)
  local out, count = {}, #list
  for i, each in ipairs(list) do
    out[is_reversed and count + 1 - i or i] = each
  end
  return out
end

local function contact_of(message)
  local contact = message.contact and message.contact[1]
  return contact and contact.uri
end

--- What keeps requests from being built on a message, or nil: it was readable,
--- but has what may not be sent.
---@param message table
---@return string|nil err
function dialog.problem(message)
  local ok, err = pcall(sip.request, { method = "ACK",
    uri = contact_of(message) or message.from.uri, from = message.from,
    to = message.to, call_id = message.call_id, cseq = message.cseq.number,
    route = message.record_route })
  return not ok and tostring(err) or nil
end

--- The caller's dialog, as a response with a To tag makes it.
---@param request table the INVITE
---@param response table
---@param before? table the call's dialog so far, maybe this one while early
function dialog.uac(request, response, before)
  if not before or before.remote_tag ~= response.to.tag then
    before = {}
  end
  return setmetatable({
    call_id = request.call_id,
    cseq = math.max(request.cseq.number, before.cseq or 0),
    remote_cseq = before.remote_cseq,
    here = request.from, there = response.to,
    local_tag = request.from.tag, remote_tag = response.to.tag,
    target = contact_of(response) or request.uri,
    routes = copied(response.record_route or {}, true),
  }, Dialog)
end

--- The called one's.
---@param request table the INVITE
---@param tag string that our responses have in To
function dialog.uas(request, tag)
  return setmetatable({
    call_id = request.call_id, cseq = 0, remote_cseq = request.cseq.number,
    here = request:response(200, nil, { to_tag = tag }).to,
    there = request.from,
    local_tag = tag, remote_tag = request.from.tag,
    target = contact_of(request) or request.from.uri,
    routes = request.record_route or {},
  }, Dialog)
end

--- Goes to where a message says that the other side is now.
function Dialog:refresh(message)
  self.target = contact_of(message) or self.target
end

--- Whether a request is newer than all before; remembers it.
function Dialog:advance(request)
  local number = request.cseq.number
  if self.remote_cseq and number <= self.remote_cseq then
    return false
  end
  self.remote_cseq = number
  return true
end

--- Request-URI and Route of a request (RFC 3261 section 12.2.1.1).
---@return table uri
---@return table[] routes
function Dialog:way()
  local first, target = self.routes[1], self.target
  if first and not first.uri.params.lr then -- a strict router (RFC 2543)
    local routes = copied(self.routes)
    table.remove(routes, 1)
    routes[#routes + 1] = target
    return first.uri, routes
  end
  return target, self.routes
end

--- What a new request of this dialog says; ACK repeats its INVITE's number.
---@param method string
---@param cseq? integer
---@return table fields for sip.request
function Dialog:fields(method, cseq)
  if not cseq then
    self.cseq = self.cseq + 1
    cseq = self.cseq
  end
  local uri, routes = self:way()
  return { method = method, uri = uri, from = self.here, to = self.there,
    call_id = self.call_id, cseq = cseq, route = routes }
end

return dialog
