-- SPDX-License-Identifier: MIT
-- Answers to SIP's challenges: Digest (RFC 7616, RFC 8760) with what RFC 3261
-- section 22 says of 401 and 407. Must not send anything, nor keep a password
-- where it can be printed.

local core = require "sipwire.core"
local interpreted = require "sipwire.interpreted"
local raise = require "sipwire.raise"
local random = require "sipwire.sip.random"
local quoted = require "sipwire.sip.scan".quote

local digest = {}

-- The hash that each algorithm uses, by its name in lower case.
local hashes = {
  ["md5"] = "md5", ["md5-sess"] = "md5",
  ["sha-256"] = "sha-256", ["sha-256-sess"] = "sha-256",
  ["sha-512-256"] = "sha-512-256", ["sha-512-256-sess"] = "sha-512-256",
}

-- How often a realm's nonce may turn out to be stale within one request; how
-- many challenges one request answers, and how many realms are remembered, as a
-- peer may think of a new realm each time.
local MAX_ANSWERS, MAX_TOTAL, MAX_SPACES = 3, 20, 50

local function hash_of(name, ...)
  return assert(core.hash(name, table.concat({ ... }, ":")))
end

-- "auth" or "auth-int" of what the server offers, "" if it offers nothing (as
-- RFC 2069 did), nil if there is none we know.
local function choose_qop(offer)
  if not offer then
    return ""
  end
  local offered = {}
  for word in offer:lower():gmatch "[^%s,]+" do
    offered[word] = true
  end
  return offered["auth"] and "auth" or offered["auth-int"] and "auth-int" or nil
end

--- Computes the response of RFC 7616 section 3.4.1, in hex.
---@param a table algorithm, username, realm, nonce, method, uri; password or
--- ha1; with a qop ("auth", "auth-int") nc, cnonce, and body
---@return string
function digest.response(a)
  local algorithm = (a.algorithm or "MD5"):lower()
  local name = hashes[algorithm]
  local ha1 = a.ha1 or hash_of(name, a.username, a.realm, a.password)
  if algorithm:find "%-sess$" then
    ha1 = hash_of(name, ha1, a.nonce, a.cnonce)
  end
  local ha2
  if a.qop == "auth-int" then
    ha2 = hash_of(name, a.method, a.uri, hash_of(name, a.body or ""))
  else
    ha2 = hash_of(name, a.method, a.uri)
  end
  if a.qop and a.qop ~= "" then
    return hash_of(name, ha1, a.nonce, a.nc, a.cnonce, a.qop, ha2)
  end
  return hash_of(name, ha1, a.nonce, ha2)
end

-- ---- Who we are -----------------------------------------------------------

local Credentials = {}
Credentials.__index = Credentials

-- A1 is told as hex of user:realm:password, by the name of its hash, or as one
-- string: of MD5 if it has 32 digits, else of SHA-256.
local function check_ha1(ha1)
  if type(ha1) == "string" then
    ha1 = { [#ha1 == 32 and "md5" or "sha-256"] = ha1 }
  end
  local checked = {}
  for name, hex in pairs(ha1) do
    local known = type(name) == "string" and
      hashes[name:lower()] == name:lower()
    if not known or type(hex) ~= "string" or not hex:find "^%x+$" then
      raise "option 'ha1' must be hex, or a table of hex by the hash's name"
    end
    checked[name:lower()] = hex:lower()
  end
  return checked
end
interpreted(check_ha1)

--- Who answers challenges, and what it was asked for so far.
---@param username string
---@param password? string
---@param ha1? string|table instead of a password
function digest.new(username, password, ha1)
  return setmetatable({
    username = username, password = password,
    ha1 = ha1 ~= nil and check_ha1(ha1) or nil,
    spaces = {}, -- what challenged us, in that order
  }, Credentials)
end

function Credentials:__tostring()
  return "sipwire.ua.digest: " .. self.username
end

local function is_clean(text)
  return text == nil or not text:find "%c"
end

-- Whether there is something to answer this challenge with.
local function can_answer(self, challenge)
  local name = hashes[(challenge.algorithm or "MD5"):lower()]
  return (challenge.scheme or ""):lower() == "digest" and name ~= nil
    and challenge.realm ~= nil and challenge.nonce ~= nil
    and is_clean(challenge.realm) and is_clean(challenge.nonce)
    and is_clean(challenge.opaque)
    and choose_qop(challenge.qop) ~= nil
    and (self.ha1 and self.ha1[name] or self.password) ~= nil
end

local function find_space(self, field, target, realm)
  for i, space in ipairs(self.spaces) do
    if space.field == field and space.target == target and
      space.realm == realm then
      return space, i
    end
  end
end

local function set_challenge(space, challenge)
  space.algorithm, space.opaque = challenge.algorithm, challenge.opaque
  space.qop = choose_qop(challenge.qop)
  space.nonce, space.nc = challenge.nonce, 0
  space.cnonce = random.token(16) -- kept, as -sess hashes the first one
end

-- The first challenge of each realm that we can answer: a server lists the
-- same one by preference, several proxies add one each (RFC 3261 section 22.3).
local function first_of_each_realm(self, challenges)
  local chosen, seen = {}, {}
  for _, challenge in ipairs(challenges or {}) do
    if can_answer(self, challenge) and not seen[challenge.realm] then
      seen[challenge.realm] = true
      chosen[#chosen + 1] = challenge
    end
  end
  return chosen
end

-- Takes one challenge; false if what we answered to it before was refused.
local function take(self, field, target, challenge, answered)
  local space, at = find_space(self, field, target, challenge.realm)
  local key = field .. " " .. challenge.realm
  local count, total = answered[key] or 0, (answered.total or 0) + 1
  local stale = (challenge.stale or ""):lower() == "true"
  if total > MAX_TOTAL or count > 0 and (count >= MAX_ANSWERS or not stale or
    space and challenge.nonce == space.nonce) then
    if space then -- another request may have been refused meanwhile
      table.remove(self.spaces, at)
    end
    return false
  end
  if not space then
    space = { field = field, target = target, realm = challenge.realm }
    self.spaces[#self.spaces + 1] = space
  end
  if #self.spaces > MAX_SPACES then
    table.remove(self.spaces, 1)
  end
  set_challenge(space, challenge)
  answered[key], answered.total = count + 1, total
  return true
end

--- Looks at a 401 or 407.
---@param response table
---@param target string the request's URI
---@param answered table what this request answered so far; {} for the first
---@return boolean again whether to send the request again, with authorize()
function Credentials:challenged(response, target, answered)
  local again = false
  local function take_all(field, of, challenges)
    for _, challenge in ipairs(first_of_each_realm(self, challenges)) do
      if not take(self, field, of, challenge, answered) then
        return false
      end
      again = true
    end
    return true
  end
  if response.status == 407 then
    return take_all("Proxy-Authorization", "", response.proxy_authenticate)
      and again
  end
  return take_all("Authorization", target, response.www_authenticate)
    and again
end

local function header(self, space, method, uri, body)
  local name = hashes[(space.algorithm or "MD5"):lower()]
  space.nc = space.nc + 1
  local nc = ("%08x"):format(space.nc)
  local response = digest.response {
    algorithm = space.algorithm, qop = space.qop, nonce = space.nonce,
    username = self.username, password = self.password,
    ha1 = self.ha1 and self.ha1[name], realm = space.realm,
    method = method, uri = uri, body = body, nc = nc, cnonce = space.cnonce,
  }
  local parts = {
    "username=" .. quoted(self.username), "realm=" .. quoted(space.realm),
    "nonce=" .. quoted(space.nonce), "uri=" .. quoted(uri),
    'response="' .. response .. '"',
  }
  local function add(text, ...)
    parts[#parts + 1] = text:format(...)
  end
  if space.algorithm then
    add("algorithm=%s", space.algorithm)
  end
  if space.qop ~= "" then
    add('qop=%s, nc=%s, cnonce="%s"', space.qop, nc, space.cnonce)
  elseif (space.algorithm or ""):lower():find "%-sess$" then
    add('cnonce="%s"', space.cnonce)
  end
  if space.opaque then
    add("opaque=%s", quoted(space.opaque))
  end
  return "Digest " .. table.concat(parts, ", ")
end

--- Adds to a request what those who challenged us before want to see.
---@param request table
function Credentials:authorize(request)
  local uri = tostring(request.uri)
  for _, space in ipairs(self.spaces) do
    if space.target == "" or space.target == uri then
      request:add(space.field,
        header(self, space, request.method, uri, request.body))
    end
  end
end

--- Goes on with the nonce that a server wants to see next (RFC 7616 section
--- 3.5), if it says so.
---@param response table
---@param target string the request's URI
function Credentials:answered(response, target)
  for _, space in ipairs(self.spaces) do
    local is_proxy = space.target == ""
    local value = (is_proxy or space.target == target) and response:get(
      is_proxy and "Proxy-Authentication-Info" or "Authentication-Info")
    local nonce = value and value:match 'nextnonce%s*=%s*"([^"%c]+)"'
    if nonce then
      space.nonce, space.nc = nonce, 0
    end
  end
end

return digest
