-- SPDX-License-Identifier: MIT
-- What the values of header fields are made of (RFC 3261 section 25): tokens,
-- quoted strings, parameters, lists. Every function takes linear time: searches
-- are for single characters, patterns are anchored and their parts disjoint.

local byte, find, gsub, lower, match, sub = string.byte, string.find,
  string.gsub, string.lower, string.match, string.sub

local scan = {}

scan.TOKEN = "[%w%-%.!%%%*_%+`'~]"
local ALL_TOKEN = "^" .. scan.TOKEN .. "+$"

local SPACE, QUOTE, COMMA, SEMICOLON, LESS, EQUALS, BACKSLASH =
  32, 34, 44, 59, 60, 61, 92

function scan.is_token(text)
  return find(text, ALL_TOKEN) ~= nil
end

-- Without blanks at both ends. ("%s*$", and "^%s*" before something that may
-- fail, would try again at each blank.)
function scan.trim(text)
  if (byte(text) or 0) > SPACE and byte(text, -1) > SPACE then
    return text
  end
  local from = find(text, "%S")
  return from and match(text, "^.*%S", from) or ""
end

-- Line ends, with the blanks after them, are one space (section 7.3.1).
function scan.unfold(text)
  return (gsub(text, "[\r\n]+[ \t]*", " "))
end

-- The position of the quote that ends what begins at `at`, or nil.
local function quoted_end(text, at)
  local stop = find(text, '["\\]', at + 1)
  while stop and byte(text, stop) == BACKSLASH do
    stop = find(text, '["\\]', stop + 2)
  end
  return stop
end
scan.quoted_end = quoted_end

-- What stands between quotes, without its backslashes.
local function unquote(text)
  if find(text, "\\", 1, true) then
    return (gsub(text, "\\(.)", "%1"))
  end
  return text
end
scan.unquote = unquote

function scan.quote(text)
  return '"' .. gsub(text, '["\\]', "\\%0") .. '"'
end

-- Names of parameters, so that few have to be lowered.
local common = {}
for _, name in ipairs { "tag", "branch", "received", "rport", "expires", "q",
  "transport", "lr", "ob", "reg-id", "+sip.instance", "alias", "user", "maddr",
  "ttl", "method", "id", "charset", "boundary" } do
  common[name] = name
end

-- Sets a parameter, unless one of that name came before.
local function keep(params, name, value)
  name = common[name] or lower(name)
  if params[name] ~= nil then
    return "parameter '" .. name .. "' is there twice"
  end
  params[name] = value
end

-- ';a=b;c="d"' without blanks and backslashes; nothing if it is not so plain.
local function plain_parameters(text, at)
  local params, size = {}, #text
  while at <= size do
    local name, value, next_at =
      match(text, "^;([%w+._-]+)=?([%w+._-]*)()", at)
    if value == "" and byte(text, next_at) == QUOTE and
      byte(text, next_at - 1) == EQUALS then
      value, next_at = match(text, '^"([^"\\]*)"()', next_at)
    end
    if not value or next_at <= size and byte(text, next_at) ~= SEMICOLON then
      return nil
    end
    name = common[name] or lower(name)
    if params[name] == nil then
      params[name] = value
    end
    at = next_at
  end
  return params
end

-- One parameter behind a semicolon: where it ends, and what is wrong with it.
local function parameter(text, at, params)
  local _, stop, name = find(text, '^([^%s;=",]+)[ \t]*', at)
  if not stop then
    return find(text, '[;"]', at), "a parameter has no name"
  end
  local why = not scan.is_token(name) and "a parameter's name is no token"
  local value = ""
  at = stop + 1
  local _, is = find(text, "^=[ \t]*", at)
  if is then
    at = is + 1
    if byte(text, at) == QUOTE then
      local last = quoted_end(text, at)
      why = why or not last and "a quote is not closed"
      value = unquote(sub(text, at + 1, (last or #text + 1) - 1))
      at = (last or #text) + 1
    else
      value = match(text, '^[^%s;",]*', at)
      at = at + #value
      why = why or value == "" and "a parameter's value is missing" or
        not find(value, "^[%w%-%.!%%%*_%+`'~%[%]:]+$") and
        "a parameter's value is no token"
    end
  end
  return at, keep(params, name, value) or why
end

-- Parameters from `at` to the end: by lower-case name, "" if there is no value;
-- of several with one name the first. Then what is wrong, if anything is.
function scan.parameters(text, at)
  local params = plain_parameters(text, at)
  if params then
    return params
  end
  return scan.any_parameters(text, at)
end

-- The same, and as strict as the RFC.
function scan.any_parameters(text, at)
  local params, why = {}, nil
  while true do
    at = match(text, "^[ \t]*()", at)
    if at > #text then
      return params, why
    end
    local problem
    if byte(text, at) ~= SEMICOLON then
      problem = "something else stands where ';' belongs"
      local next_at = find(text, '[;"]', at + 1)
      if next_at and byte(text, next_at) == QUOTE then
        next_at = quoted_end(text, next_at)
      end
      at = next_at
    else
      at, problem = parameter(text, match(text, "^[ \t]*()", at + 1), params)
    end
    why = why or problem
    if not at then
      return params, why
    end
  end
end

-- The elements of a list, cut at its commas (not at those in quotes and, with
-- `angles`, in angle brackets). Then true if one is empty.
function scan.elements(text, angles)
  if not find(text, ",", 1, true) then
    local only = scan.trim(text)
    return only ~= "" and { only } or {}, false
  end
  local list, empty, from, at = {}, false, 1, 1
  local special = angles and '[,"<]' or '[,"]'
  local function add(last)
    local element = scan.trim(sub(text, from, last))
    if element == "" then
      empty = true
    else
      list[#list + 1] = element
    end
  end
  while at do
    at = find(text, special, at)
    local what = at and byte(text, at)
    if what == COMMA then
      add(at - 1)
      at = at + 1
      from = at
    elseif what == QUOTE then
      at = quoted_end(text, at)
      at = at and at + 1
    elseif what == LESS then
      at = find(text, ">", at, true)
    end
  end
  add(#text)
  return list, empty
end

-- A whole number of at most 15 digits, or nil.
function scan.number(text)
  return #text <= 15 and find(text, "^%d+$") and tonumber(text) or nil
end

-- A parameter's value at `at`, if it is plain and the last thing before a
-- semicolon or the end; else nil.
if rawget(_G, "jit") then
  -- LuaJIT compiles plain searches, but no patterns; nor many calls of one
  -- function in a row
  function scan.plain_value(text, at)
    local value = sub(text, at, (find(text, ";", at, true) or #text + 1) - 1)
    if value ~= "" and not find(value, "=", 1, true) and
      not find(value, '"', 1, true) and not find(value, ",", 1, true) and
      not find(value, " ", 1, true) and not find(value, "\t", 1, true) and
      not find(value, "\v", 1, true) and not find(value, "\f", 1, true) and
      not find(value, "\r", 1, true) and not find(value, "\n", 1, true) then
      return value
    end
  end
else
  function scan.plain_value(text, at)
    local value, stop = match(text, "^(%w+)()", at)
    if value and (stop > #text or byte(text, stop) == SEMICOLON) then
      return value
    end
  end
end

return scan
