-- SPDX-License-Identifier: MIT
-- URIs: SIP (RFC 3261 section 19.1), tel (RFC 3966), others as they are.

local interpreted = require "sipwire.interpreted"
local scan = require "sipwire.sip.scan"

local byte, find, gsub, lower, match, sub = string.byte, string.find,
  string.gsub, string.lower, string.match, string.sub

local uris = {}

--- What a URI consists of. `tostring(uri)` is its text, `==` compares as
--- sip.uri_equal does. Escapes (%40) are left as they are.
---@class sipwire.sip.Uri
---@field scheme string in lower case
---@field user? string of sip and sips
---@field password? string
---@field host? string as written; IPv6 in brackets
---@field port? integer
---@field params table<string, string> by lower-case name; "" if without a value
---@field headers table<string, string> of sip and sips, by lower-case name
---@field number? string of tel, as written
local Uri = { __name = "sipwire.sip.Uri" }

function Uri:__tostring()
  return self.text
end

local sip_schemes = { sip = true, sips = true }
local schemes = { ["sip:"] = "sip", ["sips:"] = "sips", ["tel:"] = "tel" }

-- The scheme in lower case and the position of its colon, or nil.
local function scheme_of(text)
  local colon = find(text, ":", 1, true)
  if not colon then
    return nil
  end
  local scheme = schemes[sub(text, 1, colon)]
  if not scheme then
    scheme = match(text, "^%a[%w%+%-%.]*:")
    if not scheme then
      return nil
    end
    scheme = lower(sub(scheme, 1, -2))
  end
  return scheme, colon
end
uris.scheme_of = scheme_of

local function pairs_between(text, at, separator, list)
  while at <= #text do
    local stop = find(text, separator, at, true) or #text + 1
    local name, value = match(sub(text, at, stop - 1), "^([^=]*)=?(.*)$")
    name = lower(name)
    if name ~= "" and list[name] == nil then
      list[name] = value
    end
    at = stop + 1
  end
  return list
end

-- "host:port", "[2001:db8::1]:5060"
local function read_host(self, text)
  local colon
  if byte(text) == 91 then
    local bracket = find(text, "]", 1, true) or #text
    colon = byte(text, bracket + 1) == 58 and bracket + 1
  else
    colon = find(text, ":", 1, true)
  end
  if colon then
    self.host = sub(text, 1, colon - 1)
    self.port = scan.number(sub(text, colon + 1))
  else
    self.host = text
  end
end

-- What follows "sip:", up to the parameters. The user part may have ";", "?"
-- and "/", so the "@" is looked for first.
local function read_sip(self, text, at)
  local sign, colon = find(text, "@", at, true), find(text, ":", at, true)
  if sign then
    if colon and colon < sign then
      self.user = sub(text, at, colon - 1)
      self.password = sub(text, colon + 1, sign - 1)
      colon = find(text, ":", sign, true)
    else
      self.user = sub(text, at, sign - 1)
    end
    at = sign + 1
  end
  local query = find(text, "?", at, true)
  local last = (query or #text + 1) - 1
  local semicolon = find(text, ";", at, true)
  if semicolon and semicolon > last then
    semicolon = nil
  end
  local host = sub(text, at, (semicolon or last + 1) - 1)
  if colon then
    read_host(self, host)
  else
    self.host = host
  end
  self.params_at, self.query_at = semicolon, query
end

-- What is not always needed is read when it is asked for.
function Uri:__index(key)
  local at, query = rawget(self, "params_at"), rawget(self, "query_at")
  if key == "params" then
    self.params = at and
      scan.parameters(sub(self.text, 1, (query or 0) - 1), at) or {}
    return self.params
  elseif key == "headers" and sip_schemes[self.scheme] then
    self.headers = query and
      pairs_between(self.text, query + 1, "&", {}) or {}
    return self.headers
  end
end

-- A URI that may be wrong in anything but its scheme; nil if it has none.
function uris.read(text)
  local scheme, colon = "sip", 4
  if sub(text, 1, 4) ~= "sip:" then
    scheme, colon = scheme_of(text)
    if not scheme then
      return nil
    end
  end
  local self = { text = text, scheme = scheme, user = nil, host = nil,
    params_at = nil, params = nil }
  if sip_schemes[scheme] then
    read_sip(self, text, colon + 1)
  elseif scheme == "tel" then
    local semicolon = find(text, ";", 1, true) or #text + 1
    self.number = sub(text, colon + 1, semicolon - 1)
    self.params = pairs_between(text, semicolon + 1, ";", {})
  end
  return setmetatable(self, Uri)
end

-- ---- What is wrong ----------------------------------------------------------

local function is_host(host)
  if byte(host) == 91 then
    return find(host, "^%[[%x:%.]+%]$") ~= nil and
      find(host, ":", 1, true) ~= nil
  end
  -- Labels do not begin or end with "-"; none but the last is empty.
  return host ~= "" and not find(host, "[^%w%-%.]") and
    not find("." .. host .. ".", ".-", 1, true) and
    not find("." .. host .. ".", "-.", 1, true) and
    not find("." .. host, "..", 1, true)
end
uris.is_host = is_host

local function has_only(text, class)
  return not find(text, "[^%w%-_%.!~%*'%(%)%%" .. class .. "]") and
    not find(gsub(text, "%%%x%x", ""), "%", 1, true)
end

local function parameters_problem(text)
  local names = {}
  for piece in text:gmatch "[^;]*" do
    local name, is, value = match(piece, "^([^=]*)(=?)(.*)$")
    if not has_only(piece, "%[%]/:&%+%$=") or find(value, "=", 1, true) or
      is ~= "" and value == "" then
      return "has a malformed parameter"
    elseif name ~= "" and names[lower(name)] then
      return "has parameter '" .. lower(name) .. "' twice"
    end
    names[lower(name)] = true
  end
  if find(text .. ";", ";;", 1, true) or find(text, ";=", 1, true) then
    return "has a parameter without a name"
  end
end

local function port_problem(port)
  local number = scan.number(port)
  if not number or number > 65535 then
    return "has a malformed port"
  end
end

local function sip_problem(text, at)
  local sign = find(text, "@", at, true)
  if sign then
    local user, password = match(sub(text, at, sign - 1), "^([^:]*):?(.*)$")
    if user == "" or not has_only(user, "&=%+%$,;%?/") then
      return "has a malformed user"
    elseif not has_only(password, "&=%+%$,") then
      return "has a malformed password"
    end
    at = sign + 1
  end
  local before, params, query = match(text, "^([^;?]*)([^?]*)(.*)$", at)
  local host, port = match(before, "^(%[[^%]]*%])(.*)$")
  if not host then
    host, port = match(before, "^([^:]*)(.*)$")
  end
  if not is_host(host) then
    return "has a malformed host"
  end
  local why = port ~= "" and port_problem(sub(port, 2)) or
    parameters_problem(params)
  if why then
    return why
  end
  for field in sub(query, 2):gmatch "[^&]+" do
    if not find(field, "^[^=]+=[^=]*$") or
      not has_only(field, "%[%]/%?:%+%$=") then
      return "has a malformed header"
    end
  end
  if query == "?" then
    return "has a malformed header"
  end
end

-- What is wrong with the text of a URI, or nil.
function uris.problem(text)
  local scheme, colon = scheme_of(text)
  if not scheme then
    return "has no scheme"
  elseif colon == #text then
    return "has nothing behind its scheme"
  elseif sip_schemes[scheme] then
    return sip_problem(text, colon + 1)
  elseif scheme == "tel" then
    local number, rest = match(text, "^([^;]*)(.*)$", colon + 1)
    if not find(number, "^%+?[%x%*#%-%.%(%)]*[%x%*#][%-%.%(%)]*$") then
      return "has a malformed number"
    end
    return parameters_problem(rest)
  elseif find(text, "[^%w;/%?:@&=%+%$,%-_%.!~%*'%(%)%%#%[%]]") then
    return "has a character that no URI has"
  end
end

--- Reads a URI: sip, sips, tel; of others only the scheme.
---@param text string
---@return sipwire.sip.Uri|nil uri
---@return string|nil err
---@return string|nil code "uri"
function uris.parse(text)
  local why = uris.problem(text)
  if why then
    return nil, "uri: it " .. why, "uri"
  end
  return uris.read(text)
end

-- ---- Comparison (RFC 3261 section 19.1.4, RFC 3966 section 4) ---------------

local reserved = ";/?:@&=+$,"

-- Escapes of what need not be escaped are undone, others upper case.
local function plain(text)
  if not find(text, "%", 1, true) then
    return text
  end
  return (gsub(text, "%%(%x%x)", function(digits)
    local char = string.char(tonumber(digits, 16))
    if find(reserved, char, 1, true) or find(char, "[%c%z]") then
      return "%" .. digits:upper()
    end
    return char
  end))
end

local function same(a, b)
  return a == b or a and b and plain(a) == plain(b) or false
end

local function same_lower(a, b)
  return a == b or a and b and lower(plain(a)) == lower(plain(b)) or false
end

-- These count also if only one of both has them.
local decisive = { user = true, ttl = true, method = true, maddr = true,
  transport = true }

-- Names may be escaped, too.
local function unescaped(params)
  local list = {}
  for name, value in pairs(params) do
    list[lower(plain(name))] = value
  end
  return list
end
interpreted(unescaped)

local function params_match(a, b, all)
  for name, value in pairs(a) do
    if b[name] == nil then
      if all or decisive[name] then
        return false
      end
    elseif not same_lower(value, b[name]) then
      return false
    end
  end
  return true
end
interpreted(params_match)

local function headers_match(a, b)
  for name, value in pairs(a) do
    if b[name] == nil or not same(value, b[name]) then
      return false
    end
  end
  return true
end
interpreted(headers_match)

local function both(compare, a, b, ...)
  a, b = unescaped(a), unescaped(b)
  return compare(a, b, ...) and compare(b, a, ...)
end

local function digits(number)
  return lower((gsub(number, "[%-%.%(%)]", "")))
end

local function equal(a, b)
  if a.scheme ~= b.scheme then
    return false
  elseif sip_schemes[a.scheme] then
    return same(a.user, b.user) and same(a.password, b.password) and
      same_lower(a.host, b.host) and a.port == b.port and
      both(params_match, a.params, b.params) and
      both(headers_match, a.headers, b.headers)
  elseif a.scheme == "tel" then
    return digits(a.number) == digits(b.number) and
      both(params_match, a.params, b.params, true)
  end
  return sub(a.text, #a.scheme + 1) == sub(b.text, #b.scheme + 1)
end
Uri.__eq = equal

function uris.is(value)
  return getmetatable(value) == Uri
end

--- Whether two URIs are equal (RFC 3261 section 19.1.4; tel: RFC 3966 section
--- 4): texts or what sip.uri returns. False if a text is no URI.
---@param a string|sipwire.sip.Uri
---@param b string|sipwire.sip.Uri
---@return boolean
function uris.equal(a, b)
  a = type(a) == "string" and uris.read(a) or a
  b = type(b) == "string" and uris.read(b) or b
  return uris.is(a) and uris.is(b) and equal(a, b)
end

return uris
