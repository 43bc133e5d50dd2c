-- SPDX-License-Identifier: MIT
-- Puts asterisks over the secrets in a SIP message, so that it can be logged.
-- Lengths stay. Takes linear time, whatever a peer sends.

local function stars(text)
  return (text:gsub("%S", "*"))
end

-- name = "value", name = value, up to the end if a quote is missing. First by
-- the quotes as they pair up; then wherever the name is, should one be missing.
local function mask_parameter(value, name)
  value = value:gsub('%f[%w]([%w]+)(%s*=%s*")([^"]*)', function(word, is, text)
    return word:lower() == name and word .. is .. stars(text) or nil
  end)
  local pattern = "%f[%w]" .. name:gsub("%a", function(letter)
    return "[" .. letter:upper() .. letter .. "]"
  end) .. "%s*=%s*()"
  local at, pieces = 1, {}
  while true do
    local start, _, from = value:find(pattern, at)
    if not start then
      break
    end
    local stop
    if value:sub(from, from) == '"' then
      from = from + 1
      stop = value:find('"', from, true) or #value + 1
    else
      stop = value:find("[,%s]", from) or #value + 1
    end
    pieces[#pieces + 1] = value:sub(at, from - 1)
    pieces[#pieces + 1] = stars(value:sub(from, stop - 1))
    at = stop
  end
  pieces[#pieces + 1] = value:sub(at)
  return table.concat(pieces)
end

-- Of other schemes than Digest all is secret (RFC 7617, 6750).
local function mask_credentials(value)
  local scheme, rest = value:match "^(%s*[%w%-]+)(.*)$"
  if scheme and scheme:lower():find "^%s*digest$" then
    return mask_parameter(value, "response")
  end
  return scheme and scheme .. stars(rest) or stars(value)
end

local function mask_info(value)
  return mask_parameter(value, "rspauth")
end

local headers = {
  ["authorization"] = mask_credentials,
  ["proxy-authorization"] = mask_credentials,
  ["authentication-info"] = mask_info,
  ["proxy-authentication-info"] = mask_info,
}

-- SDP: SDES (RFC 4568), ICE (RFC 8839), MIKEY (RFC 4567), RFC 4566's k=.
local attributes = {
  { "^a=crypto:", function(line)
    return (line:gsub("([Ii][Nn][Ll][Ii][Nn][Ee]:)([^|%s;]+)", function(word, key)
      return word .. stars(key)
    end))
  end },
  { "^a=ice%-pwd:()", stars },
  { "^a=key%-mgmt:%S*()", stars },
  { "^k=%w*:?()", stars },
}

local function mask_attribute(line)
  for _, attribute in ipairs(attributes) do
    local start, _, from = line:find(attribute[1])
    if start then
      from = from or 1
      return line:sub(1, from - 1) .. attribute[2](line:sub(from))
    end
  end
  return line
end

-- "sip:user:password@host" (RFC 3261 section 19.1.1).
local function mask_uris(line)
  return (line:gsub("([Ss][Ii][Pp][Ss]?:[^@:<>%s]+:)([^@:<>%s]+)@",
    function(before, password)
      return before .. stars(password) .. "@"
    end))
end

local function mask_header(line)
  local name, value = line:match "^([%w%-]+%s*:)(.*)$"
  local mask = name and headers[name:lower():match "^[%w%-]+"]
  return mask_uris(mask and name .. mask(value) or line)
end

-- Calls fn for each line with its line end; with `folds`, a header's lines that
-- begin with a blank belong to the one before.
local function map_lines(text, folds, fn)
  local pieces, at = {}, 1
  while at <= #text do
    local stop = text:find("\n", at, true) or #text
    while folds and text:find("^[ \t]", stop + 1) do
      stop = text:find("\n", stop + 1, true) or #text
    end
    pieces[#pieces + 1] = fn(text:sub(at, stop))
    at = stop + 1
  end
  return table.concat(pieces)
end

--- Masks digest responses, other credentials, passwords in SIP URIs, and keys
--- and ICE passwords in SDP.
---@param message string
---@return string masked of the same length
return function(message)
  local start = message:find "[^\r\n]" or 1 -- RFC 3261 section 7.5
  local head_end = message:find("\r?\n\r?\n", start) or #message
  return map_lines(message:sub(1, head_end), true, mask_header) ..
    map_lines(message:sub(head_end + 1), false, mask_attribute)
end
