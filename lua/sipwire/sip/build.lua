-- SPDX-License-Identifier: MIT
-- Requests and responses from what users give (RFC 3261 section 8, RFC 7118
-- section 5, RFC 5626).

local change = require "sipwire.sip.change"
local check = require "sipwire.sip.check"
local interpreted = require "sipwire.interpreted"
local messages = require "sipwire.sip.message"
local names = require "sipwire.sip.names"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local random = require "sipwire.sip.random"
local scan = require "sipwire.sip.scan"
local uris = require "sipwire.sip.uri"
local values = require "sipwire.sip.values"

local build = {}

--- What a request consists of. Addresses are "sip:a@b", '"A" <sip:a@b>;x=y' or
--- what was read from another message.
---@class sipwire.sip.RequestOptions
---@field method string required
---@field uri string|sipwire.sip.Uri required
---@field from string|sipwire.sip.Uri|sipwire.sip.Address required; without a
--- tag it gets one
---@field to? string|sipwire.sip.Uri|sipwire.sip.Address default: for REGISTER
--- what `from` is, else `uri`
---@field call_id? string default: random
---@field cseq? integer 0 to 2^31 - 1; default 1
---@field via? sipwire.sip.ViaOptions
---@field contact? string|sipwire.sip.Uri|sipwire.sip.Address|boolean true: the
--- user of `from` at the host of `via`, with transport=ws; default true for
--- INVITE, SUBSCRIBE, REFER, UPDATE and NOTIFY, else false: none
---@field instance? string "urn:uuid:...": +sip.instance of Contact, which is
--- made if there is none, and "Supported: path, outbound" (RFC 5626)
---@field reg_id? integer 1 to 2^31 - 1, with `instance`
---@field route? (string|sipwire.sip.Uri|sipwire.sip.Address)[]
---@field max_forwards? integer 0 to 255; default 70
---@field headers? table more of them: a list of { name, value }, or values (or
--- lists of them) by name
---@field body? string
---@field content_type? string required with a body

--- The Via of a request.
---@class sipwire.sip.ViaOptions
---@field transport? string "WS" (default), "WSS" ...: `t.protocol`
---@field host? string with a port if need be; default: random, ".invalid"
---@field branch? string default: random

--- What a response has besides what it takes from its request.
---@class sipwire.sip.ResponseOptions
---@field headers? table as of a request
---@field body? string
---@field content_type? string required with a body
---@field contact? string|sipwire.sip.Uri|sipwire.sip.Address
---@field to_tag? string default: random, if To has none and status is not 100

-- ---- Kinds of values: each returns what is used, or nil and why not ---------

local LINE = "has a line end or a NUL byte"

local function text(value)
  if type(value) ~= "string" then
    return nil, "must be a string, not " .. type(value)
  elseif value:find "[\r\n%z]" then
    return nil, LINE
  elseif value == "" then
    return nil, "is empty"
  end
  return value
end

local function token(value)
  local result, why = text(value)
  if result and not scan.is_token(result) then
    return nil, ("'%s' is no token"):format(result)
  end
  return result, why
end

local function word(value)
  local result, why = text(value)
  if result and result:find "[%s,;]" then
    return nil, "must not have blanks, commas and semicolons"
  end
  return result, why
end

local function integer(least, most)
  return function(value)
    if type(value) ~= "number" or value % 1 ~= 0 or value < least or
      value > most then
      return nil, ("must be a whole number from %d to %.0f"):format(least, most)
    end
    return value
  end
end

local any_bytes, of_table = options.is_type "string", options.is_type "table"

-- What was read is used as it was forgiven, but must not go beyond its place.
local function uri(value)
  local result, why = value, nil
  if uris.is(value) then
    result = tostring(value)
    if not result:find "[%s%z<>]" then
      return result
    end
  end
  result, why = text(result)
  if result then
    local problem = uris.problem(result)
    if problem then
      return nil, ("'%s' %s"):format(result, problem)
    end
  end
  return result, why
end

-- An address with its URI in brackets, so that what follows is of the field.
local function address(value)
  if values.is_address(value) then
    return text(values.in_brackets(value))
  end
  local result, why = value, nil
  if uris.is(value) then
    result, why = uri(value)
    return result and "<" .. result .. ">", why
  end
  result, why = text(result)
  if not result then
    return nil, why
  end
  if result:find("<", 1, true) == nil and result ~= "*" then
    result = "<" .. scan.trim(result) .. ">"
  end
  local problem = check.address(result)
  if problem then
    return nil, ("'%s' %s"):format(result, problem)
  end
  return result
end

local function contact(value)
  if type(value) == "boolean" then
    return value
  end
  return address(value)
end

local function addresses(value)
  if type(value) ~= "table" or getmetatable(value) then
    return nil, "must be a list of addresses"
  end
  local list = {}
  for i, item in ipairs(value) do
    local result, why = address(item)
    if not result then
      return nil, ("%d %s"):format(i, why)
    end
    list[i] = result
  end
  return list
end

-- ---- Headers ----------------------------------------------------------------

-- Fields that have an option of their own, or are made.
local own = { via = "via", from = "from", to = "to", ["call-id"] = "call_id",
  cseq = "cseq", contact = "contact", route = "route",
  ["max-forwards"] = "max_forwards", ["content-length"] = "body",
  ["content-type"] = "content_type" }
local own_of_response = { via = "", from = "", to = "to_tag", ["call-id"] = "",
  cseq = "", contact = "contact", ["content-length"] = "body",
  ["content-type"] = "content_type" }

local function add_header(list, name, value, reserved)
  if type(name) ~= "string" or not scan.is_token(name) then
    raise("'%s' is no name of a header field", tostring(name))
  end
  local option = reserved[names.canonical(name)]
  if option == "" then
    raise("header '%s' is made from the request", name)
  elseif option then
    raise("header '%s' has an option of its own, '%s'", name, option)
  end
  list[#list + 1] = { name, scan.trim(change.value_text(value,
    "header '" .. name .. "'")) }
end

local function is_plain(value)
  return type(value) == "table" and getmetatable(value) == nil
end

local function header_list(given, reserved)
  local list, by_name = {}, {}
  for name in pairs(given) do
    if type(name) == "string" then
      by_name[#by_name + 1] = name
    elseif not is_plain(given[name]) then
      raise "headers must be { name, value } or values by name"
    end
  end
  table.sort(by_name) -- so that the same options make the same message
  for _, field in ipairs(given) do
    add_header(list, field[1], field[2], reserved)
  end
  for _, name in ipairs(by_name) do
    local value = given[name]
    for _, single in ipairs(is_plain(value) and value or { value }) do
      add_header(list, name, single, reserved)
    end
  end
  return list
end
interpreted(header_list)

local function add_body(list, given)
  local body = given.body or ""
  if given.content_type then
    list[#list + 1] = { "Content-Type", given.content_type }
  elseif body ~= "" then
    raise "option 'content_type' is required with a body"
  end
  list[#list + 1] = { "Content-Length", ("%d"):format(#body) }
  return body
end

-- ---- Requests ---------------------------------------------------------------

local request_spec = {
  method = token, uri = uri, from = address, to = address, call_id = word,
  cseq = integer(0, 2 ^ 31 - 1), via = of_table, contact = contact,
  instance = text, reg_id = integer(1, 2 ^ 31 - 1), route = addresses,
  max_forwards = integer(0, 255), headers = of_table, body = any_bytes,
  content_type = text,
}
local via_spec = { transport = token, host = word, branch = token }
local response_spec = { headers = of_table, body = any_bytes,
  content_type = text, contact = address, to_tag = token }
local parse_spec = { strict = options.is_type "boolean" }

-- By class, for the spec that compares them with the annotations.
build.known = {
  ["sipwire.sip.RequestOptions"] = request_spec,
  ["sipwire.sip.ViaOptions"] = via_spec,
  ["sipwire.sip.ResponseOptions"] = response_spec,
  ["sipwire.sip.ParseOptions"] = parse_spec,
}

local function checked(given, spec)
  if type(given) ~= "table" then
    raise("options must be a table, not %s", type(given))
  end
  return options.check(given, spec, "")
end

function build.parse_options(given)
  return checked(given, parse_spec)
end

local function tagged(value, tag)
  if values.address(value, true).tag then
    return value
  end
  return value .. ";tag=" .. tag
end

local makes_dialogs = { INVITE = true, SUBSCRIBE = true, REFER = true,
  UPDATE = true, NOTIFY = true }

local function contact_of(given, host)
  local value = given.contact
  if value == nil then
    value = makes_dialogs[given.method] or given.instance ~= nil
  end
  if value == true then
    local from = values.address(given.from, true).uri
    value = ("<%s:%s%s;transport=ws>"):format(
      from.scheme == "sips" and "sips" or "sip",
      from.user and from.user .. "@" or "", host)
  end
  if not given.instance then
    return value
  elseif not value or value == "*" then
    raise "option 'instance' needs a contact"
  end
  if given.reg_id then
    value = value .. ";reg-id=" .. ("%d"):format(given.reg_id)
  end
  return ('%s;+sip.instance="<%s>"'):format(value, given.instance)
end

--- Makes a request with what RFC 3261 wants of each (Via, Max-Forwards, From,
--- To, Call-ID, CSeq, Content-Length) and RFC 7118 of those over WebSocket.
---@param given sipwire.sip.RequestOptions
---@return sipwire.sip.Message
function build.request(given)
  given = checked(given, request_spec)
  for _, name in ipairs { "method", "uri", "from" } do
    if given[name] == nil then
      raise("option '%s' is required", name)
    end
  end
  if given.reg_id and not given.instance then
    raise "option 'reg_id' needs 'instance'"
  end
  local method = given.method
  local via = options.check(given.via or {}, via_spec, "via.")
  local host = via.host or random.host()
  local to = given.to or method == "REGISTER" and
    "<" .. tostring(values.address(given.from, true).uri) .. ">" or
    "<" .. given.uri .. ">"
  local list = {
    { "Via", ("SIP/2.0/%s %s;branch=%s"):format(via.transport or "WS", host,
      via.branch or random.branch()) },
    { "Max-Forwards", ("%d"):format(given.max_forwards or 70) },
  }
  for _, route in ipairs(given.route or {}) do
    list[#list + 1] = { "Route", route }
  end
  list[#list + 1] = { "From", tagged(given.from, random.tag()) }
  list[#list + 1] = { "To", to }
  list[#list + 1] = { "Call-ID", given.call_id or random.call_id() }
  list[#list + 1] = { "CSeq", ("%d %s"):format(given.cseq or 1, method) }
  local contact_value = contact_of(given, host)
  if contact_value then
    list[#list + 1] = { "Contact", contact_value }
  end
  local more = header_list(given.headers or {}, own)
  if given.instance then
    list[#list + 1] = { "Supported", "path, outbound" }
  end
  for _, field in ipairs(more) do
    list[#list + 1] = field
  end
  local body = add_body(list, given)
  return change.make({ is_request = true, method = method,
    version = "SIP/2.0" }, given.uri, list, body)
end

-- ---- Responses --------------------------------------------------------------

local reasons = {
  [100] = "Trying", [180] = "Ringing", [181] = "Call Is Being Forwarded",
  [182] = "Queued", [183] = "Session Progress",
  [199] = "Early Dialog Terminated",
  [200] = "OK", [202] = "Accepted", [204] = "No Notification",
  [300] = "Multiple Choices", [301] = "Moved Permanently",
  [302] = "Moved Temporarily", [305] = "Use Proxy",
  [380] = "Alternative Service", [400] = "Bad Request", [401] = "Unauthorized",
  [402] = "Payment Required", [403] = "Forbidden", [404] = "Not Found",
  [405] = "Method Not Allowed", [406] = "Not Acceptable",
  [407] = "Proxy Authentication Required", [408] = "Request Timeout",
  [410] = "Gone", [412] = "Conditional Request Failed",
  [413] = "Request Entity Too Large", [414] = "Request-URI Too Long",
  [415] = "Unsupported Media Type", [416] = "Unsupported URI Scheme",
  [417] = "Unknown Resource-Priority", [420] = "Bad Extension",
  [421] = "Extension Required", [422] = "Session Interval Too Small",
  [423] = "Interval Too Brief", [428] = "Use Identity Header",
  [429] = "Provide Referrer Identity", [430] = "Flow Failed",
  [433] = "Anonymity Disallowed", [436] = "Bad Identity-Info",
  [437] = "Unsupported Certificate", [438] = "Invalid Identity Header",
  [439] = "First Hop Lacks Outbound Support", [440] = "Max-Breadth Exceeded",
  [469] = "Bad Info Package", [470] = "Consent Needed",
  [480] = "Temporarily Unavailable",
  [481] = "Call/Transaction Does Not Exist", [482] = "Loop Detected",
  [483] = "Too Many Hops", [484] = "Address Incomplete", [485] = "Ambiguous",
  [486] = "Busy Here", [487] = "Request Terminated",
  [488] = "Not Acceptable Here", [489] = "Bad Event",
  [491] = "Request Pending", [493] = "Undecipherable",
  [494] = "Security Agreement Required", [500] = "Server Internal Error",
  [501] = "Not Implemented", [502] = "Bad Gateway",
  [503] = "Service Unavailable", [504] = "Server Time-out",
  [505] = "Version Not Supported", [513] = "Message Too Large",
  [555] = "Push Notification Service Not Supported",
  [580] = "Precondition Failure", [600] = "Busy Everywhere",
  [603] = "Decline", [604] = "Does Not Exist Anywhere",
  [606] = "Not Acceptable", [607] = "Unwanted", [608] = "Rejected",
}

local function copied(status)
  local ids = { via = true, from = true, to = true, ["call-id"] = true,
    cseq = true }
  if status == 100 then
    ids.timestamp = true -- RFC 3261 section 8.2.6.1
  elseif status < 300 then
    ids["record-route"] = true
  end
  return ids
end

--- Makes the response to a request. Via, From, To, Call-ID, CSeq and, in 101 to
--- 299, Record-Route are the request's.
---@param status integer 100 to 699
---@param reason? string default: the usual one
---@param given? sipwire.sip.ResponseOptions
---@return sipwire.sip.Message
function messages.Message:response(status, reason, given)
  if not self.is_request then
    raise "a response has no response"
  end
  local number, why = integer(100, 699)(status)
  if not number then
    raise("status %s", why)
  end
  reason = reason == nil and (reasons[status] or "") or
    change.value_text(reason, "the reason")
  given = checked(given or {}, response_spec)
  local ids, list = copied(status), {}
  local to = self.to
  for name, value, id in self:each() do
    if ids[id] then
      if id == "to" and to and not to.tag and
        (status > 100 or given.to_tag) then
        value = value .. ";tag=" .. (given.to_tag or random.tag())
      end
      list[#list + 1] = { names.written[id] or name, value }
    end
  end
  if given.contact then
    list[#list + 1] = { "Contact", given.contact }
  end
  for _, field in ipairs(header_list(given.headers or {}, own_of_response)) do
    list[#list + 1] = field
  end
  local body = add_body(list, given)
  return change.make({ is_request = false, status = status,
    reason = reason, version = "SIP/2.0" }, nil, list, body)
end

return build
