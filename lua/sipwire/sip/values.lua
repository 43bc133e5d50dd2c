-- SPDX-License-Identifier: MIT
-- Values of header fields, read: forgiving what can be understood; what is
-- wrong with them is check.lua's business. nil: it makes no sense.

local names = require "sipwire.sip.names"
local scan = require "sipwire.sip.scan"
local uris = require "sipwire.sip.uri"

local byte, find, format, lower, match, sub = string.byte, string.find,
  string.format, string.lower, string.match, string.sub
local number, parameters = scan.number, scan.parameters

local values = {}

local QUOTE, SLASH, COLON, SEMICOLON, BRACKET = 34, 47, 58, 59, 91

-- ---- Via --------------------------------------------------------------------

--- An element of Via (RFC 3261 section 20.42). `tostring()` is its text.
---@class sipwire.sip.Via
---@field protocol string "SIP"
---@field version string "2.0"
---@field transport string "WS", "WSS" ...
---@field host string
---@field port? integer
---@field branch? string
---@field received? string
---@field rport? integer|true true if without a value
---@field params table<string, string> all of them; "" if without a value
local Via = { __name = "sipwire.sip.Via" }

local function text_of(self)
  return self.text
end
Via.__tostring = text_of

-- The parts of "SIP / 2.0 / WS host : port", and the position behind them.
local function sent_by(text)
  local _, stop, protocol, version, transport = find(text,
    "^([^%s/;]+)[ \t]*/[ \t]*([^%s/;]+)[ \t]*/[ \t]*([^%s/;]+)[ \t]+")
  if not stop then
    return nil
  end
  local _, last, host = find(text, "^(%[[^%]%s]*%])[ \t]*", stop + 1)
  if not last then
    _, last, host = find(text, "^([^%s;:,]+)[ \t]*", stop + 1)
  end
  if not last then
    return nil
  end
  local _, colon, port = find(text, "^:[ \t]*(%d*)[ \t]*", last + 1)
  return (colon or last) + 1, protocol, version, transport, host,
    port and number(port)
end

local later = { protocol = true, version = true, host = true, port = true,
  params = true, branch = true, received = true, rport = true }

-- What is not always needed is read when it is asked for, all at once.
function Via:__index(key)
  if not later[key] or rawget(self, "params") then
    return nil
  end
  local params, rport, at
  at, self.protocol, self.version, self.transport, self.host, self.port =
    sent_by(self.text)
  params = parameters(self.text, at)
  rport = params.rport
  self.params, self.branch, self.received = params, params.branch,
    params.received
  self.rport = rport and (number(rport) or rport == "" or nil)
  return rawget(self, key)
end

-- What most begin with.
local plain_via = {}
for transport in ("WS WSS UDP TCP TLS"):gmatch "%S+" do
  plain_via["SIP/2.0/" .. transport .. " "] = transport
end

-- The branch, if it is the first parameter and plain.
local function plain_branch(text, from)
  local semicolon, quote = find(text, ";", from, true),
    find(text, '"', from, true)
  if semicolon and sub(text, semicolon, semicolon + 7) == ";branch=" and
    not (quote and quote < semicolon) then
    return scan.plain_value(text, semicolon + 8)
  end
end

function values.via(text)
  local blank = find(text, " ", 1, true)
  local transport = blank and plain_via[sub(text, 1, blank)]
  local first = transport and byte(text, blank + 1) or 0
  if first > SLASH and first ~= COLON and first ~= SEMICOLON and
    first ~= BRACKET then
    return setmetatable({ text = text, transport = transport,
      branch = plain_branch(text, blank) }, Via)
  end
  local at, _, _, other = sent_by(text)
  return at and setmetatable({ text = text, transport = other }, Via)
end

-- ---- Addresses --------------------------------------------------------------

--- A value of From, To, Contact, Route ... `tostring()` is its text.
---@class sipwire.sip.Address
---@field display? string the name before the URI, unquoted
---@field uri? sipwire.sip.Uri nil only with `star`
---@field params table<string, string> of the header field, by lower-case name;
--- "" if without a value
---@field tag? string
---@field expires? integer
---@field q? number
---@field star? true a Contact of "*"
local Address = { __name = "sipwire.sip.Address", __tostring = text_of }

-- Where the URI and the parameters are: display, URI, position behind it.
local function split_address(text, single)
  local at, display = 1, nil
  if byte(text) == QUOTE then
    local stop = scan.quoted_end(text, 1)
    if not stop then
      return nil
    end
    display = scan.unquote(sub(text, 2, stop - 1))
    at = stop + 1
  end
  local less = find(text, "<", at, true)
  if less and not display and less > 1 then
    -- a "<" may be in a parameter of a URI without brackets
    local other = find(text, single and '[;"<]' or '[;",<]')
    if other < less then
      less = nil
    else
      display = scan.trim(sub(text, 1, less - 1))
      display = display ~= "" and display or nil
    end
  elseif less and display and find(sub(text, at, less - 1), "%S") then
    return nil
  end
  if less then
    local greater = find(text, ">", less, true)
    if greater then
      return display, scan.trim(sub(text, less + 1, greater - 1)), greater + 1
    end
  elseif not display then
    local stop = find(text, ";", 1, true) or #text + 1
    return nil, scan.trim(sub(text, 1, stop - 1)), stop
  end
end

local of_params = { params = true, tag = true, expires = true, q = true }
local of_split = { display = true, uri_text = true }

-- What is not always needed is read when it is asked for.
function Address:__index(key)
  if key == "uri" then
    local uri = not rawget(self, "star") and uris.read(self.uri_text) or nil
    self.uri = uri
    return uri
  elseif of_split[key] and rawget(self, "less") then
    local text, less = self.text, self.less
    self.uri_text = scan.trim(sub(text, less + 1, self.at - 2))
    self.display = less > 1 and sub(text, 2, less - 3) or nil
    self.less = nil
    return rawget(self, key)
  elseif of_params[key] and not rawget(self, "params") then
    local params = parameters(self.text, self.at)
    local expires, q = params.expires, params.q
    self.params, self.tag = params, params.tag
    self.expires = expires and number(expires)
    self.q = q and find(q, "^[01]%.?%d?%d?%d?$") and tonumber(q) or nil
    return rawget(self, key)
  end
end

-- Most are '<sip:...>...' or '"..." <sip:...>...': where the brackets are.
local function plain_brackets(text)
  local less = 1
  if sub(text, 1, 5) ~= "<sip:" then
    local quote = find(text, '"', 2, true)
    if not quote or byte(text) ~= QUOTE or
      sub(text, quote, quote + 6) ~= '" <sip:' or
      find(text, "\\", 1, true) then
      return nil
    end
    less = quote + 2
  end
  return find(text, ">", less, true), less
end

-- `single`: not an element of a list, so that a comma may be in the name.
function values.address(text, single)
  local greater, less = plain_brackets(text)
  if greater then
    return setmetatable({ text = text, at = greater + 1, less = less, tag =
      sub(text, greater, greater + 5) == ">;tag=" and
      scan.plain_value(text, greater + 6) or nil }, Address)
  end
  local display, uri_text, at = split_address(text, single)
  return at and uris.scheme_of(uri_text) and setmetatable({ text = text,
    display = display, uri_text = uri_text, at = at }, Address) or nil
end

function values.is_address(value)
  return getmetatable(value) == Address
end

-- The text with its URI in brackets, which a URI's own parameters need.
function values.in_brackets(address)
  local text = address.text
  if address.star or find(text, "<", 1, true) then
    return text
  end
  return "<" .. address.uri_text .. ">" .. sub(text, address.at)
end

function values.single_address(text)
  return values.address(text, true)
end

function values.contact(text)
  if text == "*" then
    return setmetatable({ text = text, star = true, params = {} }, Address)
  end
  return values.address(text)
end

-- ---- Numbers, words ---------------------------------------------------------

--- A value of CSeq.
---@class sipwire.sip.CSeq
---@field number integer
---@field method string

function values.cseq(text)
  -- most are like this
  local blank = find(text, " ", 1, true)
  local method = blank and names.methods[sub(text, blank + 1)]
  local digits = method and sub(text, 1, blank - 1)
  local value = digits and tonumber(digits)
  if value and value >= 0 and value % 1 == 0 and value < 1e15 and
    format("%d", value) == digits then
    return { number = value, method = method }
  end
  digits, method = match(text, "^(%d+)[ \t]+(%S+)$")
  if digits and #digits <= 15 then
    return { number = tonumber(digits), method = method }
  end
end

function values.delay(text)
  return number(match(text, "^%d*"))
end

function values.word(text)
  return text
end

--- A value of Content-Type: "application", "sdp".
---@class sipwire.sip.MediaType
---@field type string in lower case
---@field subtype string in lower case
---@field params table<string, string>

function values.media_type(text)
  local _, stop, kind, subtype =
    find(text, "^([^%s/;]+)[ \t]*/[ \t]*([^%s/;]+)")
  if stop then
    return { type = lower(kind), subtype = lower(subtype),
      params = parameters(text, stop + 1) }
  end
end

--- A value of Event (RFC 6665 section 8.2.1).
---@class sipwire.sip.Event
---@field type string
---@field id? string
---@field params table<string, string>

function values.event(text)
  local _, stop, kind = find(text, "^([^%s;]+)")
  if stop then
    local params = parameters(text, stop + 1)
    return { type = kind, params = params, id = params.id }
  end
end

-- ---- Authentication ---------------------------------------------------------

--- A value of WWW-Authenticate, Proxy-Authenticate, Authorization,
--- Proxy-Authorization. Each parameter is a field, too: `challenge.realm`.
---@class sipwire.sip.Auth
---@field scheme string "Digest" ...
---@field params table<string, string> by lower-case name, unquoted
---@field realm? string
---@field nonce? string
---@field opaque? string
---@field qop? string
---@field algorithm? string
---@field stale? string
local Auth = { __name = "sipwire.sip.Auth", __tostring = text_of }

function Auth:__index(name)
  return rawget(self, "params")[name]
end

-- The parameters behind the scheme; then what is wrong.
function values.auth_parameters(text, at)
  local params, why = {}, nil
  while true do
    local commas
    commas, at = match(text, "^([%s,]*)()", at)
    if find(commas, ",[^,]*,") or commas == "," and at > #text then
      why = why or "there is an empty parameter"
    end
    if at > #text then
      return params, why
    end
    local _, stop, name = find(text, '^([^%s=,"]+)[ \t]*=[ \t]*', at)
    local value
    if not stop then
      why = why or "there is something that is no parameter"
      at = find(text, ",", at + 1, true) or #text + 1
    elseif byte(text, stop + 1) == QUOTE then
      local last = scan.quoted_end(text, stop + 1)
      why = why or not last and "a quote is not closed" or nil
      value = scan.unquote(sub(text, stop + 2, (last or #text + 1) - 1))
      at = (last or #text) + 1
    else
      value = match(text, '^[^%s,"]*', stop + 1)
      why = why or value == "" and "a parameter's value is missing" or nil
      at = stop + 1 + #value
    end
    if value then
      name = lower(name)
      why = why or params[name] and "parameter '" .. name .. "' is there twice"
        or nil
      params[name] = params[name] or value
      if at <= #text and not find(text, "^[ \t]*,", at) then
        why = why or "something else stands where ',' belongs"
      end
    end
  end
end

function values.auth(text)
  local scheme, at = match(text, "^([^%s,=\"]+)()")
  if scheme then
    return setmetatable({ text = text, scheme = scheme,
      params = values.auth_parameters(text, at) }, Auth)
  end
end

-- ---- Which header field has which -------------------------------------------

local address, word = values.address, values.word

values.single = {
  from = values.single_address, to = values.single_address,
  ["refer-to"] = values.single_address, cseq = values.cseq, ["call-id"] = word,
  ["max-forwards"] = number, ["content-length"] = number, expires = number,
  ["min-expires"] = number, ["retry-after"] = values.delay,
  ["content-type"] = values.media_type, event = values.event,
}
-- Lists, in one field or several: of what may have commas in angle brackets,
values.list = {
  via = values.via, contact = values.contact, route = address,
  ["record-route"] = address, path = address, ["service-route"] = address,
  ["p-asserted-identity"] = address,
}
-- of texts,
values.words = {
  allow = word, supported = word, require = word, unsupported = word,
  ["proxy-require"] = word, accept = word,
}
-- of whole fields.
values.whole = {
  ["www-authenticate"] = values.auth, ["proxy-authenticate"] = values.auth,
  authorization = values.auth, ["proxy-authorization"] = values.auth,
}

return values
