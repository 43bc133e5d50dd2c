-- SPDX-License-Identifier: MIT
-- A small user agent (RFC 3261) for flows: tasks that register, call, and are
-- called. Optional: nothing of the transport needs it.

local await = require "sipwire.ua.await"
local calls = require "sipwire.ua.call"
local digest = require "sipwire.ua.digest"
local endpoints = require "sipwire.ua.endpoint"
local exchange = require "sipwire.ua.exchange"
local inbox = require "sipwire.ua.inbox"
local loops = require "sipwire.loop"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local scan = require "sipwire.sip.scan"
local sip = require "sipwire.sip"
local task = require "sipwire.task"
local waiting = require "sipwire.waiting"

local unpack = table.unpack or unpack

--- What a user agent is made of.
---@class sipwire.UserAgentOptions
---@field aor string required: who it is, "sip:alice@example.org"
---@field display_name? string
---@field username? string for challenges; default: the aor's user
---@field password? string
---@field ha1? string|table instead of a password: hex of
--- user:realm:password hashed by MD5, or a table of such by the hash's name
--- ("md5", "sha-256", "sha-512-256")
---@field contact? string URI where it is reached; default: its user at a name
--- that is made up (RFC 7118 section 5)
---@field registrar? string URI; default: the aor's domain
---@field route? string[] Route values for requests outside of dialogs
---@field headers? table {{name, value}, ...} for all requests
---@field supported? string[] option tags for Supported; what a Require names
--- beyond these is refused
---@field t1? number seconds, 0.001 to 60; default 0.5: transactions end
--- after 64 of it
---@field patience? number seconds, 0 to 604800; default 5: so long a request
--- that no function is set for waits for receive(), then it is refused

--- A user on a connection. Its functions wait, in tasks.
---@class sipwire.UserAgent
---@field aor string
---@field contact string value of its Contact
---@field connection sipwire.Connection|sipwire.Transport
---@field registered boolean
---@field on_stray fun(message: sipwire.sip.Message|string, why: string)|nil
--- called with what belongs to nothing: late responses, ACKs of nothing, text
--- that is no message
---@field on_unregistered fun(err: string, code: string, info: table)|nil
--- called when a refresh of the registration failed
local UserAgent = {}

local ua = {}

-- ---- Making one -----------------------------------------------------------

local function text(value)
  if type(value) ~= "string" or value:find "[%c]" then
    return nil, "must be a string without control characters"
  end
  return value
end

local function seconds(least, most)
  return function(value)
    if type(value) ~= "number" or not (value >= least and value <= most) then
      return nil, ("must be %g to %d"):format(least, most)
    end
    return value
  end
end

local list = options.is_type "table"

local kinds = {
  aor = text, display_name = text, username = text, password = text,
  ha1 = function(value) return value end, -- digest.lua checks it
  contact = text, registrar = text, route = list, headers = list,
  supported = list, t1 = seconds(0.001, 60), patience = seconds(0, 604800),
}

local function check(given)
  if type(given) ~= "table" then
    raise("the options must be a table, not %s", type(given))
  end
  local checked = options.check(given, kinds, "")
  for _, name in ipairs { "aor", "contact", "registrar" } do
    if checked[name] then
      local parsed, err = sip.uri(checked[name])
      checked[name] = parsed or raise("option '%s': %s", name, err)
    end
  end
  if not checked.aor then
    raise "option 'aor' is required"
  elseif not checked.aor.user and not checked.username and
    (checked.password or checked.ha1) then
    raise "option 'username' is required: the aor names no user"
  end
  return checked
end

local function set_of(names)
  local set = {}
  for _, name in ipairs(names) do
    set[name:lower()] = true
  end
  return set
end

local function credentials(checked)
  if checked.password or checked.ha1 then
    return digest.new(checked.username or checked.aor.user, checked.password,
      checked.ha1)
  end
end

local function address(checked)
  local name = checked.display_name
  return (name and scan.quote(name) .. " " or "") ..
    "<" .. tostring(checked.aor) .. ">"
end

local callbacks = { on_stray = true, on_unregistered = true }

local Meta = { __name = "sipwire.ua" }

function Meta.__index(self, name)
  if callbacks[name] then
    return rawget(self, "_" .. name)
  end
  return UserAgent[name]
end

function Meta.__newindex(self, name, value)
  if not callbacks[name] then
    raise("unknown field '%s'%s", tostring(name),
      options.suggest(name, callbacks))
  end
  rawset(self, "_" .. name, options.callback(value, name))
end

function Meta.__tostring(self)
  return "sipwire.ua: " .. self.aor
end

--- Makes a user agent on a connection, which is then its own: it reads all
--- messages. Several may share a connection.
---@param connection sipwire.Connection|sipwire.Transport
---@param given sipwire.UserAgentOptions
---@return sipwire.UserAgent
function ua.new(connection, given)
  local t = type(connection) == "table" and
    (connection.transport or connection)
  if not t or type(t.send) ~= "function" then
    raise("a user agent needs a connection, not %s", type(connection))
  end
  local checked = check(given)
  local endpoint = endpoints.of(connection)
  local aor, user = tostring(checked.aor), checked.aor.user
  local contact = checked.contact or assert(sip.uri(("sip:%s%s;transport=ws")
    :format(user and aor:match "^%w+:([^@:]*)" .. "@" or "", sip.host())))
  local self = setmetatable({
    aor = aor, contact = "<" .. tostring(contact) .. ">",
    connection = connection, registered = false,
    _endpoint = endpoint, _aor_uri = checked.aor, _contact_uri = contact,
    _address = address(checked), _credentials = credentials(checked),
    _registrar = tostring(checked.registrar or
      aor:gsub("^(%w+:)[^@]*@", "%1"):gsub("[;?].*", "")),
    _route = checked.route or {}, _headers = checked.headers or {},
    _supports = set_of(checked.supported or {}),
    _supported_names = table.concat(checked.supported or {}, ", "),
    _t1 = checked.t1 or 0.5, _patience = checked.patience or 5,
    _inbox = inbox.new(endpoint.loop, checked.patience or 5),
    _register_id = sip.call_id(), _register_tag = sip.tag(),
    _register_cseq = 0, _refresh = false, _withdrawn = 0,
  }, Meta)
  table.insert(endpoint.uas, self)
  return self
end

-- ---- Requests -------------------------------------------------------------

-- Methods that make or refresh a dialog, or a binding.
local tells_contact = { INVITE = true, UPDATE = true, SUBSCRIBE = true,
  NOTIFY = true, REFER = true, OPTIONS = true }

-- A message of sip.request's fields and what the caller adds.
function UserAgent:_request(fields, given)
  local method = fields.method
  fields.via = { transport = self._endpoint:protocol(),
    host = self._endpoint.host, branch = sip.branch() }
  if tells_contact[method] then
    fields.contact = self.contact
  end
  fields.body, fields.headers = given.body, given.headers
  if given.body then
    fields.content_type = given.content_type or
      method == "INVITE" and "application/sdp" or "text/plain"
  end
  local request = sip.request(fields)
  if self._supported_names ~= "" and method ~= "ACK" then
    request:add("Supported", self._supported_names)
  end
  if method == "INVITE" then
    request:add("Allow", self:_allow())
  end
  for _, pair in ipairs(self._headers) do
    request:add(pair[1], pair[2])
  end
  return request
end

-- Builds requests outside of dialogs, each attempt with the next number.
local function builder(self, method, given)
  local from = self._address .. ";tag=" .. sip.tag()
  local call_id, cseq = given.call_id or sip.call_id(), given.cseq or 0
  return function()
    cseq = cseq + 1
    return self:_request({ method = method, uri = given.uri,
      from = from, to = given.to or given.uri,
      call_id = call_id, cseq = cseq, route = self._route }, given)
  end
end

-- Not what was read from a message, which may be what a peer made of it.
local function check_uri(value, what)
  local parsed, err = value, nil
  if type(value) ~= "table" then
    parsed, err = sip.uri(tostring(value))
  end
  if not parsed then
    raise("%s: %s", what, err)
  end
end

--- Sends a request outside of dialogs and waits for the final response,
--- whatever its status; answers challenges.
---@param method string
---@param given table uri (required), to, body, content_type, headers
--- ({{name, value}, ...}), call_id, timeout
---@return sipwire.sip.Message|nil response
---@return string|nil err
---@return string|nil code "timeout", or why the connection ended
---@return table|nil info
function UserAgent:request(method, given)
  if type(method) ~= "string" or type(given) ~= "table" then
    raise "request() wants a method and a table with the field 'uri'"
  elseif method == "INVITE" or method == "ACK" or method == "CANCEL" then
    raise("request(): %s is sent by calls, see invite()", method)
  end
  check_uri(given.uri, "request()")
  return exchange.ask(self, "request", builder(self, method, given),
    given.timeout)
end

--- Sends an INVITE; call:wait() tells what became of it.
---@param target string|table URI
---@param given? table body, content_type, headers, to, call_id
---@return sipwire.ua.Call|nil call
---@return string|nil err
---@return string|nil code
---@return table|nil info
function UserAgent:invite(target, given)
  check_uri(target, "invite()")
  local fields = { uri = target }
  for _, name in ipairs { "body", "content_type", "headers", "to",
    "call_id" } do
    fields[name] = given and given[name]
  end
  local build = builder(self, "INVITE", fields)
  local first = build()
  return calls.outgoing(self, first, function()
    local request = first or build()
    first = nil
    return request
  end)
end

-- ---- Registration ---------------------------------------------------------

local function own_contact(self, response)
  local ours = self._contact_uri
  for _, contact in ipairs(response.contact or {}) do
    local theirs = contact.uri
    if theirs and theirs.user == ours.user and theirs.port == ours.port and
      (theirs.host or ""):lower() == (ours.host or ""):lower() then
      return contact
    end
  end
end

local function send_register(self, expires, given)
  local address_of_record = "<" .. self.aor .. ">"
  return exchange.ask(self, "register", function()
    self._register_cseq = self._register_cseq + 1
    local request = self:_request({ method = "REGISTER",
      uri = self._registrar, call_id = self._register_id,
      cseq = self._register_cseq, to = address_of_record,
      from = self._address .. ";tag=" .. self._register_tag,
      route = self._route }, given)
    request:set("Contact", ("%s;expires=%d"):format(self.contact, expires))
    return request
  end, given.timeout)
end

local function renew_identity(self)
  self._register_id, self._register_cseq = sip.call_id(), 0
  self._register_tag = sip.tag()
end

-- Registers; corrects once what a registrar may want corrected.
local function register(self, expires, given)
  local response, err, code, info = send_register(self, expires, given)
  if response and response.status == 423 and
    (response.min_expires or 0) > expires then
    expires = response.min_expires
    response, err, code, info = send_register(self, expires, given)
  end
  if response and response.status == 200 and not own_contact(self, response)
  then -- a binding of the same Call-ID that died a moment ago is in the way
    renew_identity(self)
    response, err, code, info = send_register(self, expires, given)
  end
  if not response then
    return nil, err, code, info
  elseif response.status ~= 200 then
    return nil, exchange.status_error(response)
  end
  local contact = own_contact(self, response)
  if not contact then
    return nil, "contact: the registrar lists no Contact of ours", "contact",
      { response = response }
  end
  return response, contact.expires or response.expires or expires
end

local stop_refreshing

local function refresh_later(self, expires, given, granted)
  stop_refreshing(self)
  self._refresh = self._endpoint:timer(math.max(granted * 0.8, 0.1), function()
    self._refresh = false
    self._endpoint.loop:spawn(function()
      local withdrawn = self._withdrawn
      local _, err, code, info = self:register(expires, given)
      if code and withdrawn == self._withdrawn then
        self.registered = false
        if self.on_unregistered then
          self.on_unregistered(err, code, info)
        end
      end
    end)
  end)
end

function stop_refreshing(self)
  if self._refresh then
    self._refresh:stop()
    self._refresh = false
  end
end

--- Registers the contact and waits. Succeeds if the registrar lists it.
---@param expires? integer seconds; default 600
---@param given? table refresh (true: keep registered, as long as the
--- connection lasts), headers, timeout
---@return sipwire.sip.Message|nil response the 200
---@return string|integer err or, with a response, the seconds granted
---@return string|nil code "status": see info.response; "contact": it is not
--- listed; "timeout", or why the connection ended
---@return table|nil info
function UserAgent:register(expires, given)
  expires, given = expires or 600, given or {}
  if type(expires) ~= "number" or expires < 1 or expires % 1 ~= 0 then
    raise("register(): expires must be a number of seconds, from 1")
  end
  local withdrawn = self._withdrawn
  local response, granted, code, info = register(self, expires, given)
  if withdrawn == self._withdrawn then -- no unregister() meanwhile
    self.registered = response ~= nil
    if response and given.refresh then
      refresh_later(self, expires, given, granted)
    end
  end
  return response, granted, code, info
end

--- Takes the registration back and waits. Succeeds if the registrar does not
--- list the contact any more.
---@param given? table headers, timeout
---@return sipwire.sip.Message|nil response the 200
---@return string|nil err
---@return string|nil code
---@return table|nil info
function UserAgent:unregister(given)
  stop_refreshing(self)
  self._withdrawn = self._withdrawn + 1
  local response, err, code, info = send_register(self, 0, given or {})
  if not response then
    return nil, err, code, info
  elseif response.status ~= 200 then
    return nil, exchange.status_error(response)
  elseif own_contact(self, response) then
    return nil, "contact: the registrar still lists our Contact", "contact",
      { response = response }
  end
  self.registered = false
  return response
end

-- ---- What comes -----------------------------------------------------------

function UserAgent:_allow()
  local allowed = { "ACK", "BYE", "CANCEL", "INVITE", "OPTIONS" }
  if not self._inbox:takes "INVITE" then
    allowed = { "OPTIONS" }
  end
  for _, method in ipairs { "INFO", "MESSAGE", "NOTIFY", "REFER", "SUBSCRIBE",
    "UPDATE" } do
    if self._inbox:takes(method) then
      allowed[#allowed + 1] = method
    end
  end
  return table.concat(allowed, ", ")
end

function UserAgent:_supported()
  return self._supported_names
end

function UserAgent:_incoming_call(req)
  return calls.incoming(self, req)
end

function UserAgent:_on_request(req)
  if req.message.method == "OPTIONS" and not self._inbox.handlers.OPTIONS then
    return req:_refuse()
  end
  self._inbox:take(req, req._refuse)
end

function UserAgent:_ended(err, code, info)
  stop_refreshing(self)
  self.registered = false
  self._inbox:finish(err, code, info)
end

--- Sets the function that is called, as a task, with each request of a method
--- outside of calls. OPTIONS is answered without one.
---@param method string
---@param fn? fun(req: sipwire.ua.Request) nil: none any more
function UserAgent:on(method, fn)
  self._inbox:on(method, fn)
end

--- Waits for the next request outside of calls that no function was set for.
---@param timeout? number seconds; nil: no limit
---@return sipwire.ua.Request|nil req
---@return string|nil err
---@return string|nil code "timeout", or why the connection ended
---@return table|nil info
function UserAgent:receive(timeout)
  return self._inbox:receive(timeout)
end

--- Iterates over requests until the connection ends. Not on PUC Lua 5.1, which
--- cannot wait in an iterator: use receive() there.
---@return fun(): sipwire.ua.Request|nil
function UserAgent:requests()
  task.current("requests")
  if not task.can_yield_in_iterator then
    raise("requests() cannot wait on this Lua: use receive()")
  end
  return function()
    return (self:receive())
  end
end

-- ---- Flows ----------------------------------------------------------------

--- A task whose failure is its own.
---@class sipwire.ua.Flow
---@field err string|nil what it raised
local Flow = {}
Flow.__index = Flow

--- Runs a function as a task. What it raises is told by wait(), and to nobody
--- else: others go on.
---@param fn fun(...)
---@return sipwire.ua.Flow
function ua.flow(fn, ...)
  options.fn(fn, "flow")
  local loop = task.loop() or loops.default()
  loop:_check()
  local self = setmetatable({ _waiters = waiting.new() }, Flow)
  local arguments, count = { ... }, select("#", ...)
  local function keep(...)
    self._outcome = { n = select("#", ...), ... }
    self._waiters:wake_all_later()
  end
  loop:_spawn(function(err, traceback)
    self.err = loops.describe(err)
    keep(nil, self.err, "raised", { traceback = self.err .. traceback })
  end, function()
    keep(true, fn(unpack(arguments, 1, count)))
  end)
  return self
end

--- Waits, in a task, until it has ended.
---@param timeout? number seconds; nil: no limit
---@return true|nil ok
---@return any err what it raised; or, if it did not, what it returned
---@return any code "raised", "timeout"
---@return any info
function Flow:wait(timeout)
  local outcome = await(self._waiters, "wait", timeout, function()
    return self._outcome
  end)
  if not outcome then
    return nil, ("timeout: not over within %g s"):format(timeout), "timeout", {}
  end
  return unpack(outcome, 1, outcome.n)
end

return setmetatable(ua, { __call = function(_, ...)
  return ua.new(...)
end })
