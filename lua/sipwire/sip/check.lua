-- SPDX-License-Identifier: MIT
-- What is wrong with a parsed message: what strict parsing rejects and lenient
-- parsing forgave (RFC 3261 section 25, RFC 4475). The way values are read is
-- not followed here: the grammar is.

local layout = require "sipwire.sip.layout"
local names = require "sipwire.sip.names"
local scan = require "sipwire.sip.scan"
local uris = require "sipwire.sip.uri"
local values = require "sipwire.sip.values"

local byte, find, gsub, match, sub = string.byte, string.find, string.gsub,
  string.match, string.sub

-- ---- Values: each function returns what is wrong, or nil --------------------

local function parameters_problem(text, at)
  local _, why = scan.any_parameters(text, at)
  return why
end

local function token(text)
  return not scan.is_token(text) and "is no token" or nil
end

local function number_to(limit)
  return function(text)
    local number = scan.number(text)
    if not number then
      return "is no number"
    elseif number > limit then
      return "is too large"
    end
  end
end

local seconds = number_to(2 ^ 32 - 1)

local VIA = "^(" .. scan.TOKEN .. "+)[ \t]*/[ \t]*(" .. scan.TOKEN ..
  "+)[ \t]*/[ \t]*(" .. scan.TOKEN .. "+)[ \t]+"

local function via(text)
  local _, stop, protocol, version = find(text, VIA)
  if not stop then
    return "has no protocol and sent-by"
  elseif protocol:upper() ~= "SIP" or version ~= "2.0" then
    return "is not of SIP/2.0"
  end
  local _, last, host = find(text, "^(%[[^%]]*%])[ \t]*", stop + 1)
  if not last then
    _, last, host = find(text, "^([^%s;:]+)[ \t]*", stop + 1)
  end
  if not last or not uris.is_host(host) then
    return "has a malformed host"
  end
  local _, colon, port = find(text, "^:[ \t]*([^%s;]*)[ \t]*", last + 1)
  local number = port and scan.number(port)
  if port and not (number and number <= 65535) then
    return "has a malformed port"
  end
  local params, why = scan.any_parameters(text, (colon or last) + 1)
  if params.branch and params.branch:lower() == "z9hg4bk" then
    why = why or "has a branch that names no transaction"
  end
  return why
end

local function display_problem(text)
  for word in text:gmatch "[^ \t]+" do
    if not scan.is_token(word) then
      return "has a name that must be in quotes"
    end
  end
end

-- "Alice" <sip:a@b>;tag=c, or sip:a@b;tag=c
local function address(text)
  local at, quoted = 1, false
  if byte(text) == 34 then
    local stop = scan.quoted_end(text, 1)
    if not stop then
      return "has a quote that is not closed"
    end
    quoted = true
    at = match(text, "^[ \t]*()", stop + 1)
  end
  local less = find(text, "<", at, true)
  local semicolon = find(text, ";", at, true)
  if less and not (semicolon and semicolon < less) then
    if quoted and less > at then
      return "has something between name and URI"
    end
    local why = display_problem(sub(text, at, less - 1))
    local greater = find(text, ">", less, true)
    if not greater then
      return "has a '<' that is not closed"
    end
    local wrong = uris.problem(sub(text, less + 1, greater - 1))
    return why or wrong and "has a URI that " .. wrong or
      parameters_problem(text, greater + 1)
  elseif quoted then
    return "has a name and no '<'"
  end
  local uri = scan.trim(sub(text, 1, (semicolon or #text + 1) - 1))
  local wrong = uris.problem(uri)
  if wrong then
    return "has a URI that " .. wrong
  elseif find(uri, "[,?]") then
    return "has a URI that must be in angle brackets"
  end
  return parameters_problem(text, semicolon or #text + 1)
end

local function contact(text)
  if text ~= "*" then
    local why = address(text)
    if why then
      return why
    end
    local params = values.contact(text).params
    local q = params.q
    if params.expires and seconds(params.expires) then
      return "has a parameter 'expires' that " .. seconds(params.expires)
    elseif q and not find(q, "^0%.?%d?%d?%d?$") and
      not find(q, "^1%.?0?0?0?$") then
      return "has a parameter 'q' that is not 0 to 1"
    end
  end
end

-- Where there have to be brackets (section 20.30, 20.34).
local function bracketed(text)
  local params = find(text, ";", 1, true)
  local less = find(text, "<", 1, true)
  if not less or params and byte(text) ~= 34 and params < less then
    return "has a URI that must be in angle brackets"
  end
  return address(text)
end

local function cseq(text)
  local digits, method = match(text, "^(%d+)[ \t]+([^%s]+)$")
  if not digits or not scan.is_token(method) then
    return "is not a number and a method"
  elseif #gsub(digits, "^0+", "") > 10 or tonumber(digits) >= 2 ^ 31 then
    return "has too large a number"
  end
end

local WORD = "[%w%-%.!%%%*_%+`'~%(%)<>:\\\"/%[%]%?{}]+"

local function call_id(text)
  if not find(text, "^" .. WORD .. "$") and
    not find(text, "^" .. WORD .. "@" .. WORD .. "$") then
    return "is not one word, or two around '@'"
  end
end

local function media_type(text)
  local _, stop, kind, subtype =
    find(text, "^([^%s/;]+)[ \t]*/[ \t]*([^%s/;]+)")
  if not stop or token(kind) or token(subtype) then
    return "is no media type"
  end
  return parameters_problem(text, stop + 1)
end

local function event(text)
  local kind, at = match(text, "^([^%s;]+)()")
  if not kind or token(kind) then
    return "is no event type"
  end
  return parameters_problem(text, at)
end

local function auth(text)
  local scheme, at = match(text, "^([^%s]+)[ \t]+()")
  if not scheme or token(scheme) then
    return "has no scheme and parameters"
  end
  -- of other schemes it may be one token68 (RFC 7235 section 2.1)
  if find(text, "^[%w%-%._~%+/]+=*$", at) and scheme:lower() ~= "digest" then
    return nil
  end
  local params, why = values.auth_parameters(text, at)
  if not why and next(params) == nil then
    why = "has no parameters"
  end
  return why
end

-- "120 (in a meeting);duration=60"
local function retry_after(text)
  local digits, at = match(text, "^(%d+)[ \t]*()")
  if not digits then
    return "is no number"
  end
  if byte(text, at) == 40 then
    at = match(text, "^%([^%(%)]*%)[ \t]*()", at)
    if not at then
      return "has a malformed comment"
    end
  end
  return seconds(digits) or parameters_problem(text, at)
end

local days = "Mon Tue Wed Thu Fri Sat Sun"
local months = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec"

local function date(text)
  local day, month = match(text,
    "^(%u%l%l), %d%d (%u%l%l) %d%d%d%d %d%d:%d%d:%d%d GMT$")
  if not day or not find(days, day, 1, true) or
    not find(months, month, 1, true) then
    return "is no date in GMT"
  end
end

local function warning(text)
  if not find(text, '^%d%d%d [^%s"]+ "') or
    scan.quoted_end(text, find(text, '"', 1, true)) ~= #text then
    return "is not a code of three digits, an agent and a text in quotes"
  end
end

-- "54.1 0.7": seconds, and how long the server took
local function timestamp(text)
  local at = match(text, "^%d+()")
  at = at and (match(text, "^%.%d*()", at) or at)
  if not at or not find(text, "^[ \t]*$", at) and
    not find(text, "^[ \t]+%d*$", at) and
    not find(text, "^[ \t]+%d*%.%d*$", at) then
    return "is no time"
  end
end

local function version(text)
  return not find(text, "^%d+%.%d+$") and "is no version" or nil
end

-- A list of what `kind` judges. angles: a comma may be in "<...>"; some: it may
-- not be empty.
local function elements_of(kind, angles, some)
  return function(text)
    local elements, empty = scan.elements(text, angles)
    if empty then
      return "has an empty element"
    elseif some and not elements[1] then
      return "is empty"
    end
    for _, element in ipairs(elements) do
      local why = kind(element)
      if why then
        return why
      end
    end
  end
end

local tokens, some_tokens = elements_of(token), elements_of(token, false, true)
local routes = elements_of(bracketed, true, true)

local kinds = {
  via = elements_of(via, true, true), from = address, to = address,
  contact = elements_of(contact, true, true), route = routes,
  ["record-route"] = routes, path = routes, ["service-route"] = routes,
  ["p-asserted-identity"] = elements_of(address, true, true),
  ["refer-to"] = address, ["reply-to"] = address, ["referred-by"] = address,
  cseq = cseq, ["call-id"] = call_id, ["max-forwards"] = number_to(255),
  ["content-length"] = number_to(2 ^ 53), expires = seconds,
  ["min-expires"] = seconds, ["retry-after"] = retry_after,
  ["content-type"] = media_type, event = event,
  ["www-authenticate"] = auth, ["proxy-authenticate"] = auth,
  authorization = auth, ["proxy-authorization"] = auth,
  allow = tokens, supported = tokens, require = some_tokens,
  unsupported = some_tokens, ["proxy-require"] = some_tokens,
  ["allow-events"] = some_tokens, ["content-encoding"] = some_tokens,
  date = date, warning = elements_of(warning, false, true),
  timestamp = timestamp, ["mime-version"] = version,
}

local only_once = {}
for _, id in ipairs { "from", "to", "call-id", "cseq", "max-forwards",
  "content-length", "content-type", "expires", "min-expires", "event", "date",
  "retry-after", "refer-to", "timestamp", "mime-version" } do
  only_once[id] = true
end

-- ---- The message ------------------------------------------------------------

local Report = {}
Report.__index = Report

-- note: this is told, and not an error.
function Report:add(code, position, note, format, ...)
  self[#self + 1] = { code = code, position = position, note = note,
    text = format:format(...) }
end

-- What a peer sent, fit to be shown.
local function shown(text)
  text = gsub(text, "[%c\127]", "?")
  return #text > 40 and sub(text, 1, 40) .. "..." or text
end

local function start_line(self, report)
  local at, start = self.start_at, self.fields
  local line = sub(self.text, at, self.start_last)
  if start.version ~= "SIP/2.0" then
    report:add("version", at, nil, "version is %s", start.version)
  end
  if start.is_request then
    local wrong = uris.problem(self.uri_text)
    if line:upper() ~= (start.method .. " " .. self.uri_text .. " " ..
      start.version):upper() then
      report:add("start_line", at, nil, "start line has stray blanks")
    end
    if wrong then
      report:add("start_line", at, nil, "request URI %s", wrong)
    elseif next(uris.read(self.uri_text).headers or {}) ~= nil then
      report:add("start_line", at, nil, "request URI has headers")
    end
  else
    if not find(line, "^[Ss][Ii][Pp]/%d+%.%d+ %d%d%d ") then
      report:add("start_line", at, nil, "start line has stray blanks")
    end
    if start.status > 699 then
      report:add("start_line", at, nil, "status %d is of no class",
        start.status)
    end
  end
end

-- What concerns lines and characters, not what they say.
local function lines(self, index, report)
  local head = sub(self.text, 1, self.body_at - 1)
  if not find(head, "\n\r?\n$") then
    report:add("header", #head, nil, "no blank line ends the header fields")
  end
  local at = find(head, "^\n") or find(head, "[^\r]\n")
  if at then
    report:add("header", at, nil, "a line ends with LF only")
  end
  at = find(head, "\r[^\n]") or find(head, "\r$")
  if at then
    report:add("header", at, nil, "there is a CR without LF")
  end
  at = find(gsub(head, "\\[^\r\n]", "__"), "[%z\1-\8\11\12\14-\31\127]")
  if at then
    report:add("header", at, nil, "there is a control character")
  end
  if self.start_at > 1 then
    report:add("header", 1, true, "empty lines stand before the start line")
  end
  for _, position in ipairs(index.odd) do
    report:add("header", position, nil, "line '%s' is no header field",
      shown(match(self.text, "^[^\r\n]*", position)))
  end
end

-- Values are looked at unfolded, without blanks around.
local function header_fields(self, index, report)
  local seen = {}
  for i = 1, index.count do
    local id, position = index.ids[i], index.colons[i] + 1
    local name, spelled = names.written[id] or shown(id), index.spelled[i]
    local value, kind = layout.value(self, i), kinds[id]
    local why = kind and kind(value)
    if spelled and not scan.is_token(spelled) then
      report:add("header", position, nil, "'%s' is no name of a header field",
        shown(spelled))
    elseif why then
      report:add("value", position, nil, "%s %s: %s", name, why, shown(value))
    end
    if only_once[id] and seen[id] then
      report:add("repeated", position, nil, "%s is there twice", name)
    end
    seen[id] = seen[id] or position
  end
  return seen
end

local required = { "via", "from", "to", "call-id", "cseq" }

local function relations(self, report, seen)
  for _, id in ipairs(required) do
    if not seen[id] then
      report:add("missing", self.start_at, nil, "%s is missing",
        names.written[id])
    end
  end
  if self.is_request and not seen["max-forwards"] then
    report:add("missing", self.start_at, true, "Max-Forwards is missing")
  end
  for _, contact_ in ipairs(self.contact or {}) do
    if contact_.star and self.contact[2] then
      report:add("value", seen.contact, nil, "Contact has '*' and others")
      break
    end
  end
  local number = self.cseq
  if self.is_request and number and number.method ~= self.method then
    report:add("mismatch", seen.cseq, nil, "CSeq is of %s, not of %s",
      shown(number.method), self.method)
  end
  local length = self.content_length
  local size = #self.text - self.body_at + 1
  if length and length ~= size then
    report:add("body", seen["content-length"], length < size,
      "Content-Length is %d, the body has %d bytes", length, size)
  end
end

local check = { address = contact }

-- A list of { code, text, position, note = true if it is no error }.
function check.message(self)
  local report, index = setmetatable({}, Report), layout.index(self)
  start_line(self, report)
  lines(self, index, report)
  relations(self, report, header_fields(self, index, report))
  return report
end

return check
