-- SPDX-License-Identifier: MIT
-- Checks what users configure and turns it into what the core takes.

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
  for candidate in pairs(known) do
    local d = distance(tostring(name), candidate, 3)
    if d < best or d == best and nearest and candidate < nearest then
      best, nearest = d, candidate
    end
  end
  return nearest and (", did you mean '" .. nearest .. "'?") or ""
end

local function fail(level, ...)
  error(string.format(...), level + 1)
end

-- ---- Kinds of values: each returns what the core takes, or nil and why not.

local function is_type(wanted)
  return function(value)
    if type(value) ~= wanted then
      return nil, "must be a " .. wanted .. ", not " .. type(value)
    end
    return value
  end
end

local function text(value)
  if type(value) ~= "string" then
    return nil, "must be a string, not " .. type(value)
  elseif value == "" then
    return nil, "is empty"
  elseif value:find("%z") then
    return nil, "has a NUL byte"
  end
  return value
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
    for _, single in ipairs(values) do
      local ok, why = add_header(list, name, single)
      if not ok then
        return nil, why
      end
    end
  end
  return list
end

local function not_yet()
  return nil, "is not supported yet"
end

local function check(given, spec, prefix, level)
  local checked = {}
  for name, value in pairs(given) do
    local kind = spec[name]
    if not kind then
      fail(level + 1, "unknown option '%s%s'%s", prefix, tostring(name),
        options.suggest(name, spec))
    end
    local result, why = kind(value)
    if why then
      fail(level + 1, "option '%s%s' %s", prefix, name, why)
    end
    checked[name] = result
  end
  return checked
end

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
  username = not_yet, password = not_yet, proxy = not_yet,
})

local function port(value)
  if type(value) ~= "number" or value % 1 ~= 0 or value < 0 or value > 65535 then
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

local loop_spec = { on_error = is_type("function") }

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
}

local function check_all(given, spec, what, level)
  if type(given) ~= "table" then
    fail(level + 1, "%s must be a table, not %s", what, type(given))
  end
  local checked = check(given, spec, "", level + 1)
  local config = {}
  for name, core_name in pairs(core_names) do
    config[core_name] = checked[name]
  end
  config.tls = checked.tls and check(checked.tls, tls_spec, "tls.", level + 1)
  return checked, config
end

-- All return the checked options and a table for the core; `level` is that of
-- error(), seen from the caller.
function options.transport(given, level)
  local checked, config = check_all(given, transport_spec, "options", level + 1)
  if checked.server == nil then
    fail(level + 1, "option 'server' is required")
  end
  return checked, config
end

function options.listener(given, level)
  local checked, config = check_all(given, listener_spec, "options", level + 1)
  if not checked.on_connection then
    fail(level + 1, "option 'on_connection' is required")
  end
  config.tls = config.tls or {}
  if config.tls.verify == nil then
    config.tls.verify = false
  end
  return checked, config
end

function options.loop(given, level)
  if given ~= nil and type(given) ~= "table" then
    fail(level + 1, "options must be a table, not %s", type(given))
  end
  return check(given or {}, loop_spec, "", level + 1)
end

-- The headers that a server function returned.
function options.headers(value, level)
  local list, why = headers(value)
  if not list then
    fail(level + 1, "headers %s", why)
  end
  return list
end

function options.frame(value, level)
  local number, why = frame_kind(value)
  if why then
    fail(level + 1, "frame %s", why)
  end
  return number
end

-- A duration in seconds; returns milliseconds.
function options.seconds(value, what, level)
  local ms, why = seconds(0)(value)
  if why then
    fail(level + 1, "%s %s", what, why)
  end
  return ms
end

function options.callback(value, what, level)
  if value ~= nil and type(value) ~= "function" then
    fail(level + 1, "%s must be a function or nil, not %s", what, type(value))
  end
  return value
end

return options
