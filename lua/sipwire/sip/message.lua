-- SPDX-License-Identifier: MIT
-- Messages: where their header fields are and what these say.
--
-- Design notes. Where the header fields are is layout.lua's business. What one
-- says is read when it is first asked for, and kept in `fields`.

local check = require "sipwire.sip.check"
local layout = require "sipwire.sip.layout"
local names = require "sipwire.sip.names"
local raise = require "sipwire.raise"
local scan = require "sipwire.sip.scan"
local uris = require "sipwire.sip.uri"
local values = require "sipwire.sip.values"

local byte, find, match, sub = string.byte, string.find, string.match,
  string.sub
local first, all_values, value_of = layout.first, layout.all, layout.value
local setmetatable = setmetatable

local messages = {}

local CR, SPACE = 13, 32

--- A request or a response. Its fields can only be read; each is read from the
--- text when it is first asked for. A header field that is not there, or makes
--- no sense, is nil; of those that stand for themselves the first one counts.
--- `tostring(m)` is the very text that was parsed, until something is changed.
---@class sipwire.sip.Message
---@field is_request boolean
---@field method? string of a request
---@field uri? sipwire.sip.Uri of a request
---@field status? integer of a response
---@field reason? string of a response
---@field version string "SIP/2.0"
---@field body string "" if there is none
---@field warnings string[] what strict parsing rejects, and what was put right
---@field via? sipwire.sip.Via[]
---@field from? sipwire.sip.Address
---@field to? sipwire.sip.Address
---@field contact? sipwire.sip.Address[]
---@field route? sipwire.sip.Address[]
---@field record_route? sipwire.sip.Address[]
---@field path? sipwire.sip.Address[]
---@field service_route? sipwire.sip.Address[]
---@field p_asserted_identity? sipwire.sip.Address[]
---@field refer_to? sipwire.sip.Address
---@field cseq? sipwire.sip.CSeq
---@field call_id? string
---@field www_authenticate? sipwire.sip.Auth[]
---@field proxy_authenticate? sipwire.sip.Auth[]
---@field authorization? sipwire.sip.Auth[]
---@field proxy_authorization? sipwire.sip.Auth[]
---@field max_forwards? integer
---@field content_length? integer
---@field expires? integer
---@field min_expires? integer
---@field retry_after? integer seconds
---@field content_type? sipwire.sip.MediaType
---@field event? sipwire.sip.Event
---@field allow? string[]
---@field supported? string[]
---@field require? string[]
---@field unsupported? string[]
---@field proxy_require? string[]
---@field accept? string[]
local Message = {}

-- ---- What they say ----------------------------------------------------------

-- The first field of a name.
local function single(id, read)
  return function(self)
    local place = first(self, id)
    return place and read(value_of(self, place))
  end
end

-- A list from all fields of a name; each may hold several elements, if `cut`.
local function list(id, read, cut, angles)
  return function(self)
    local texts = all_values(self, id)
    local text, found = texts[1], {}
    if text and not texts[2] and text ~= "" and
      not (cut and find(text, ",", 1, true)) then
      found[1] = read(text)
      return found
    end
    for i = 1, #texts do
      for _, element in ipairs(cut and scan.elements(texts[i], angles) or
        { texts[i] }) do
        found[#found + 1] = read(element)
      end
    end
    return text and found
  end
end

-- By the name of the message's field.
local of_header, of_message = {}, {}

local function key_of(id)
  return (id:gsub("-", "_"))
end

for id, read in pairs(values.single) do
  of_header[key_of(id)] = single(id, read)
end
for id, read in pairs(values.list) do
  of_header[key_of(id)] = list(id, read, true, true)
end
for id, read in pairs(values.words) do
  of_header[key_of(id)] = list(id, read, true)
end
for id, read in pairs(values.whole) do
  of_header[key_of(id)] = list(id, read)
end

function of_message.uri(self)
  local text = self.uri_text
  return text and (uris.read(text) or uris.read(match(text, "^<?([^>]*)")))
end

-- What is more than Content-Length says is not the message's (section 18.3).
function of_message.body(self)
  local text = sub(self.text, self.body_at)
  local length = self.content_length
  return length and sub(text, 1, length) or text
end

function of_message.warnings(self)
  local texts = {}
  local message = self.text and self or messages.parse(tostring(self))
  for i, problem in ipairs(check.message(message)) do
    texts[i] = problem.text
  end
  return texts
end

function Message:__index(key)
  local value = self.fields[key]
  if value == nil then
    local read = of_header[key] or of_message[key]
    if not read then
      return Message[key]
    end
    value = read(self)
    self.fields[key] = value
  end
  return value
end

function Message:__newindex(key)
  raise("a message's '%s' cannot be assigned; set(), add(), remove() and " ..
    "set_body() change it", tostring(key))
end

-- ---- Parsing ----------------------------------------------------------------

-- A start line that is not quite right; nil if it is none. Returns the fields,
-- and a request's URI as it is written.
local function odd_start(line)
  line = scan.trim(scan.unfold(line))
  local version, status, at =
    match(line, "^([Ss][Ii][Pp]/%d+%.%d+)[ \t]+([1-9]%d%d)()")
  if version then
    if not find(line, "^[^ \t]", at) then
      return { is_request = false, version = version:upper(),
        status = tonumber(status), reason = scan.trim(sub(line, at)) }
    end
    return nil
  end
  local blank = match(line, "^.*()[ \t]")
  version = blank and match(line, "^[Ss][Ii][Pp]/%d+%.%d+$", blank + 1)
  local method, from = match(line, "^([^ \t]+)[ \t]+()")
  local uri = version and from < blank and scan.trim(sub(line, from, blank))
  if uri and uri ~= "" and scan.is_token(method) then
    return { is_request = true, version = version:upper(), method = method },
      uri
  end
end

-- The first `last` bytes, if they are a start line as it should be. (The nils
-- make room in the table.)
local function start_line(text, last)
  if sub(text, 1, 8) == "SIP/2.0 " then
    local a, b, c, blank = byte(text, 9, 12)
    local reason = sub(text, 13, last)
    if blank == SPACE and a > 48 and a < 58 and b > 47 and b < 58 and
      c > 47 and c < 58 and not find(reason, "\n", 1, true) and
      not find(reason, "\r", 1, true) then
      return { is_request = false, version = "SIP/2.0",
        status = a * 100 + b * 10 + c - 5328, reason = reason, via = nil,
        from = nil, to = nil, cseq = nil, call_id = nil, contact = nil,
        body = nil }
    end
  elseif sub(text, last - 7, last) == " SIP/2.0" then
    local blank = find(text, " ", 1, true)
    local method = sub(text, 1, blank - 1)
    local uri = sub(text, blank + 1, last - 8)
    if names.methods[method] and not find(uri, " ", 1, true) and uri ~= "" and
      not find(uri, "\n", 1, true) then
      return { is_request = true, version = "SIP/2.0", method = method,
        via = nil, from = nil, to = nil, cseq = nil, call_id = nil,
        contact = nil, uri = nil, body = nil }, uri
    end
  end
end

-- A message, however wrong its header fields; nil and where the trouble is if
-- its start line is none.
function messages.parse(text)
  local at, line_end = 1, "\r\n"
  local stop = find(text, line_end, 1, true)
  local start, uri
  if stop then
    start, uri = start_line(text, stop - 1)
  end
  if not start then
    -- empty lines before it (section 7.5), lines that end with LF only
    at = find(text, "[^\r\n]") or #text + 1
    stop = find(text, "\n", at, true)
    if stop and byte(text, stop - 1) == CR then
      stop = stop - 1
    else
      line_end, stop = "\n", stop or #text + 1
    end
    start, uri = odd_start(sub(text, at, stop - 1))
    if not start then
      return nil, at
    end
  end
  local self = { text = text, fields = start, uri_text = uri, start_at = at,
    start_last = stop - 1, head = false, body_at = false, index = false }
  if at ~= 1 or line_end ~= "\r\n" or not layout.plain(self, stop) then
    layout.read_lines(self, stop + #line_end, line_end)
  end
  return setmetatable(self, Message)
end

-- What is wrong: the first error, { code, text, position }, or nil.
function messages.error(self)
  for _, problem in ipairs(check.message(self)) do
    if not problem.note then
      return problem
    end
  end
end

-- ---- Reading header fields --------------------------------------------------

local function canonical(name)
  if type(name) ~= "string" then
    raise("a header field's name must be a string, not %s", type(name))
  end
  return names.canonical(name)
end

--- The value of the first header field of that name, without blanks around it
--- and in one line.
---@param name string in any case, or its one letter
---@return string|nil value
function Message:get(name)
  local place = first(self, canonical(name))
  return place and value_of(self, place)
end

--- The values of all header fields of that name; they are not cut at commas.
---@param name string in any case, or its one letter
---@return string[] values
function Message:all(name)
  return all_values(self, canonical(name))
end

--- Iterates over the header fields in order: the name as it is written, the
--- value, the long name in lower case.
---@return fun(): string|nil, string, string
function Message:each()
  local i = 0
  return function()
    local index = layout.index(self)
    i = i + 1
    if i <= index.count then
      return layout.name(self, i), value_of(self, i), index.ids[i]
    end
  end
end

messages.Message = Message
messages.canonical = canonical

-- Forgets what was read from the fields of that name.
function messages.forget(self, id)
  local key = key_of(id)
  self.fields.warnings = nil
  if of_header[key] then
    self.fields[key] = nil
  end
end

return messages
