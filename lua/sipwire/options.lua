-- SPDX-License-Identifier: MIT
-- Checks what users configure and turns it into what the core takes.

--- Options of a transport, for new() and open().
---@class sipwire.Options: sipwire.ConnectionOptions
---@field server string|fun(): string, table<string, string|string[]>|nil
--- required: a ws:// or wss:// URL (RFC 6455 section 3), or a function that
--- returns one, and headers instead of the option's, at every connect()
---@field headers? table<string, string|string[]> extra ones for the upgrade
---@field local_address? string numeric address to connect from
---@field username? string for a 401 in answer to the upgrade: Basic or Digest
--- (RFC 7617, 7616), one retry within the same connect()
---@field password? string default ""
---@field proxy? string "http://[user[:password]@]host[:port]" to go through
--- (CONNECT), or "environment": what http_proxy (for ws), https_proxy (for wss),
--- all_proxy and no_proxy say. Default: none, whatever they say

--- Options of a listener, for listen().
---@class sipwire.ListenerOptions: sipwire.ConnectionOptions
---@field address? string numeric address; default "127.0.0.1"
---@field port? integer 0 to 65535; default 0: any that is free
---@field on_connection fun(t: sipwire.Transport, request: sipwire.Request)
--- required: called with each accepted transport, Connected already
---@field on_request? fun(request: sipwire.Request): boolean|integer|nil, string|nil, table|nil
--- nil or true accepts; false or a status (300 to 599), reason and headers
--- refuse

--- What both ends of a connection have in common.
---@class sipwire.ConnectionOptions
---@field connection_timeout? number seconds, 0 to 604800; default 5; 0: none.
--- For dns, tcp, tls and upgrade together; for a listener, the client's
--- handshake
---@field disconnect_timeout? number seconds, 0.001 to 604800; default 5: for the
--- closing handshake, then the connection is dropped
---@field keep_alive_interval? number seconds, 0 to 604800; default 0: off. Gaps
--- are drawn anew from 80 to 100 % of it (RFC 5626 section 4.4.1)
---@field keep_alive_timeout? number seconds, 0 to 604800; default 10; without an
--- answer in this time the connection ends with code "timeout"; 0: expect none
---@field keep_alive_method? "ping"|"crlf" default "ping" (WebSocket), or CRLF
--- (RFC 5626 section 3.5.1)
---@field frame? "auto"|"text"|"binary" default "auto": text if the message is
--- valid UTF-8, else binary (RFC 7118 section 5)
---@field raw? boolean default false; true: empty messages and CRLF keep-alives
--- are delivered too, and not answered
---@field max_message_size? integer bytes, 1 to 2^40; default 1048576; a larger
--- message, joined, ends the connection with code "too_big", close code 1009
---@field send_queue_limit? integer bytes, 1 to 2^40; default 1048576: what
--- send() accepts beyond what the kernel took
---@field tls? sipwire.TlsOptions for wss; a listener with it speaks wss
---@field trace? fun(direction: "in"|"out", message: string, t: sipwire.Transport)
--- called with every message, in a tick; asterisks stand for the secrets in it
--- (see sipwire.mask)
---@field trace_secrets? boolean default false; true: messages are traced as
--- they are
---@field loop? sipwire.Loop default: the running task's, or else the default one

--- Files are PEM.
---@class sipwire.TlsOptions
---@field ca_file? string trusted certificates; default: the system's
---@field ca_path? string a directory of them with hashed names
---@field cert_file? string own certificate and chain; a listener needs one
---@field key_file? string its key; default: cert_file
---@field key_password? string of an encrypted key
---@field server_name? string for SNI and the check, instead of the URL's host
---@field verify? boolean default true: check the server's certificate against
--- the URL's host. For a listener, default false: demand a client certificate
---@field min_version? "1.2"|"1.3" default "1.2"
---@field ciphers? string OpenSSL cipher list for TLS 1.2
---@field keylog_file? string session secrets are appended (NSS format): whoever
--- reads it reads the traffic

--- Options of a loop.
---@class sipwire.LoopOptions
---@field on_error? fun(err: string, t: sipwire.Transport|nil, name: string)
--- see sipwire.Loop
---@field on_log? fun(line: string, level: "error"|"warn"|"info") see
--- sipwire.Loop

local interpreted = require "sipwire.interpreted"
local mask = require "sipwire.mask"
local raise = require "sipwire.raise"

local options = {}

local MAX_SECONDS = 7 * 24 * 3600
local MAX_BYTES = 2 ^ 40

-- The number of single-letter edits from a to b, given up above `limit`.
local function distance(a, b, limit)
  local row = {}
  for j = 0, #b do
    row[j] = j
  end
  for i = 1, #a do
    local diagonal, best = row[0], i
    row[0] = i
    for j = 1, #b do
      local cost = a:byte(i) == b:byte(j) and 0 or 1
      local least = math.min(row[j] + 1, row[j - 1] + 1, diagonal + cost)
      diagonal, row[j] = row[j], least
      best = math.min(best, least)
    end
    if best > limit then
      return best
    end
  end
  return row[#b]
end

-- ", did you mean 'x'?" for the nearest of the known names, or "".
function options.suggest(name, known)
  local best, nearest = 4, nil
  if type(name) ~= "string" or #name < 2 then
    return ""
  end
  for candidate in pairs(known) do
    local d = distance(name, candidate, 3)
    if d < best or d == best and nearest and candidate < nearest then
      best, nearest = d, candidate
    end
  end
  return nearest and (", did you mean '" .. nearest .. "'?") or ""
end
interpreted(options.suggest)

-- ---- Kinds of values: each returns what the core takes, or nil and why not.

local function is_type(wanted)
  return function(value)
    if type(value) ~= wanted then
      return nil, "must be a " .. wanted .. ", not " .. type(value)
    end
    return value
  end
end

local function any_text(value)
  if type(value) ~= "string" then
    return nil, "must be a string, not " .. type(value)
  elseif value:find("%z") then
    return nil, "has a NUL byte"
  end
  return value
end

local function text(value)
  if value == "" then
    return nil, "is empty"
  end
  return any_text(value)
end

local function seconds(minimum)
  return function(value)
    if type(value) ~= "number" then
      return nil, "must be a number of seconds, not " .. type(value)
    elseif not (value >= minimum and value <= MAX_SECONDS) then
      return nil, ("must be %g to %d seconds"):format(minimum, MAX_SECONDS)
    end
    return math.ceil(value * 1000)
  end
end

local function bytes(value)
  if type(value) ~= "number" then
    return nil, "must be a number of bytes, not " .. type(value)
  elseif not (value >= 1 and value <= MAX_BYTES) or value % 1 ~= 0 then
    return nil, "must be a whole number of bytes, at least 1"
  end
  return value
end

local function one_of(values, what)
  return function(value)
    local number = values[value]
    if type(value) ~= "string" or not number then
      return nil, "must be " .. what
    end
    return number
  end
end

local frames = { auto = 0, text = 1, binary = 2 }
local frame_kind = one_of(frames, '"auto", "text" or "binary"')

local function add_header(list, name, value)
  if type(value) ~= "string" then
    return nil, ("header '%s' must be a string, not %s")
      :format(name, type(value))
  elseif value:find("%z") then
    return nil, ("header '%s' has a NUL byte"):format(name)
  end
  list[#list + 1] = { name, value }
  return list
end

-- Names in order, so that the same options make the same request.
local function headers(value)
  if type(value) ~= "table" then
    return nil, "must be a table of names and values, not " .. type(value)
  end
  local names, list = {}, {}
  for name in pairs(value) do
    if type(name) ~= "string" then
      return nil, "must have strings as names, not " .. type(name)
    elseif name:find("%z") then
      return nil, "has a name with a NUL byte"
    end
    names[#names + 1] = name
  end
  table.sort(names)
  for _, name in ipairs(names) do
    local values = value[name]
    if type(values) ~= "table" then
      values = { values }
    end
    local count = 0
    for _ in pairs(values) do
      count = count + 1
    end
    if count == 0 or count ~= #values then
      return nil, ("header '%s' must be a string or a list of strings")
        :format(name)
    end
    for _, single in ipairs(values) do
      local ok, why = add_header(list, name, single)
      if not ok then
        return nil, why
      end
    end
  end
  return list
end
interpreted(headers)

local function check(given, spec, prefix)
  local checked = {}
  for name, value in pairs(given) do
    local kind = spec[name]
    if not kind then
      raise("unknown option '%s%s'%s", prefix, tostring(name),
        options.suggest(name, spec))
    end
    local result, why = kind(value)
    if why then
      raise("option '%s%s' %s", prefix, name, why)
    end
    checked[name] = result
  end
  return checked
end
interpreted(check)

-- Check other tables by other kinds.
options.check, options.is_type = check, is_type

local tls_spec = {
  ca_file = text, ca_path = text, cert_file = text, key_file = text,
  key_password = text, server_name = text, min_version = text,
  ciphers = text, keylog_file = text, verify = is_type("boolean"),
}

local function server(value)
  if type(value) ~= "string" and type(value) ~= "function" then
    return nil, "must be a URL or a function, not " .. type(value)
  elseif type(value) == "string" and value:find("%z") then
    return nil, "has a NUL byte"
  end
  return value
end

-- What clients and accepted connections have in common.
local connection_spec = {
  connection_timeout = seconds(0),
  disconnect_timeout = seconds(0.001),
  keep_alive_interval = seconds(0),
  keep_alive_timeout = seconds(0),
  keep_alive_method = one_of({ ping = 0, crlf = 1 }, '"ping" or "crlf"'),
  frame = frame_kind,
  raw = is_type("boolean"),
  max_message_size = bytes,
  send_queue_limit = bytes,
  tls = is_type("table"),
  trace = is_type("function"),
  trace_secrets = is_type("boolean"),
  loop = is_type("table"),
}

local function with(base, more)
  local spec = {}
  for name, kind in pairs(base) do
    spec[name] = kind
  end
  for name, kind in pairs(more) do
    spec[name] = kind
  end
  return spec
end

local transport_spec = with(connection_spec, {
  server = server,
  headers = headers,
  local_address = text,
  username = text,
  password = any_text,
  proxy = text,
})

local function port(value)
  if type(value) ~= "number" or value % 1 ~= 0 or
    value < 0 or value > 65535 then
    return nil, "must be a whole number from 0 to 65535"
  end
  return value
end

local listener_spec = with(connection_spec, {
  address = text,
  port = port,
  on_connection = is_type("function"),
  on_request = is_type("function"),
})

local loop_spec = {
  on_error = is_type("function"), on_log = is_type("function"),
}

-- The kinds by name, for the spec that compares them with the annotations.
options.known = {
  ["sipwire.ConnectionOptions"] = connection_spec,
  ["sipwire.Options"] = transport_spec,
  ["sipwire.ListenerOptions"] = listener_spec,
  ["sipwire.TlsOptions"] = tls_spec,
  ["sipwire.LoopOptions"] = loop_spec,
}

-- The core's names of what it takes; durations are milliseconds there.
local core_names = {
  connection_timeout = "connection_timeout_ms",
  disconnect_timeout = "disconnect_timeout_ms",
  keep_alive_interval = "keep_alive_interval_ms",
  keep_alive_timeout = "keep_alive_timeout_ms",
  keep_alive_method = "keep_alive_method",
  frame = "frame",
  raw = "raw",
  max_message_size = "max_message_size",
  send_queue_limit = "send_queue_limit",
  local_address = "local_address",
  username = "username",
  password = "password",
  proxy = "proxy",
}

local function check_all(given, spec)
  if type(given) ~= "table" then
    raise("options must be a table, not %s", type(given))
  end
  local checked = check(given, spec, "")
  local config = {}
  for name, core_name in pairs(core_names) do
    config[core_name] = checked[name]
  end
  config.tls = checked.tls and check(checked.tls, tls_spec, "tls.")
  local trace = checked.trace
  if trace and not checked.trace_secrets then
    checked.trace = function(direction, message, t)
      return trace(direction, mask(message), t)
    end
  end
  return checked, config
end
interpreted(check_all)

-- All return the checked options, and a table for the core.
function options.transport(given)
  local checked, config = check_all(given, transport_spec)
  if checked.server == nil then
    raise("option 'server' is required")
  end
  return checked, config
end

function options.listener(given)
  local checked, config = check_all(given, listener_spec)
  if not checked.on_connection then
    raise("option 'on_connection' is required")
  end
  config.tls = config.tls or {}
  if config.tls.verify == nil then
    config.tls.verify = false
  end
  return checked, config
end

function options.loop(given)
  if given ~= nil and type(given) ~= "table" then
    raise("options must be a table, not %s", type(given))
  end
  return check(given or {}, loop_spec, "")
end

-- What a server function returned: a URL and maybe headers.
function options.answer(url, given)
  local list, why
  if type(url) ~= "string" then
    raise("server function must return a URL, not %s", type(url))
  elseif url:find("%z") then
    raise("server function's URL has a NUL byte")
  elseif given ~= nil then
    list, why = headers(given)
    if not list then
      raise("server function's headers %s", why)
    end
  end
  return url, list
end

-- What on_request refuses with: a status, and maybe reason and headers. What is
-- wrong is told without a place: the function has returned.
function options.refusal(status, reason, given)
  local list, why
  if status ~= false and (type(status) ~= "number" or status % 1 ~= 0 or
    status < 300 or status > 599) then
    why = "must return nil, true, false or a status from 300 to 599, not " ..
      tostring(status)
  elseif reason ~= nil and (type(reason) ~= "string" or reason:find("%z")) then
    why = "must return a reason that is a string without NUL bytes"
  elseif given ~= nil then
    list, why = headers(given)
    why = why and "must return headers that are right: headers " .. why
  end
  if why then
    error("on_request " .. why, 0)
  end
  return status or nil, reason, list
end

function options.frame(value)
  local number, why = frame_kind(value)
  if why then
    raise("frame %s", why)
  end
  return number
end

-- A duration in seconds; returns milliseconds.
function options.seconds(value, what)
  local ms, why = seconds(0)(value)
  if why then
    raise("%s %s", what, why)
  end
  return ms
end

function options.callback(value, what)
  if value ~= nil and type(value) ~= "function" then
    raise("%s must be a function or nil, not %s", what, type(value))
  end
  return value
end

-- A function that cannot be left out.
function options.fn(value, what)
  if type(value) ~= "function" then
    raise("%s needs a function, not %s", what, type(value))
  end
  return value
end

return options
