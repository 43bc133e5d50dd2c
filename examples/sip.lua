-- SPDX-License-Identifier: MIT
-- Just enough SIP for the examples (RFC 3261, RFC 7118 section 5): sipwire
-- carries messages and neither builds nor reads them.

local sip = {}

local urandom = assert(io.open("/dev/urandom", "rb"))

--- Text that nobody can guess, for tags, branches and Call-IDs.
function sip.token(bytes)
  return (urandom:read(bytes or 8):gsub(".", function(byte)
    return ("%02x"):format(byte:byte())
  end))
end

local Agent = {}
Agent.__index = Agent

--- Somebody who sends requests over a transport. A client cannot be reached at
--- any address but through its connection, so its `host` is made up (RFC 7118
--- appendix B.1); a server names its own.
function sip.agent(uri, transport, host)
  host = host or sip.token() .. ".invalid"
  return setmetatable({ uri = uri, transport = transport, host = host,
    contact = ("<sip:%s@%s;transport=ws>"):format(uri:match ":(.-)@", host),
  }, Agent)
end

local function join(lines, headers, body)
  for _, header in ipairs(headers or {}) do
    lines[#lines + 1] = header
  end
  lines[#lines + 1] = "Content-Length: " .. #(body or "")
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (body or "")
end

--- A request outside of dialogs; `headers` is a list of whole lines, `to` is
--- the request's URI if absent.
function Agent:request(method, uri, headers, body, to)
  return join({
    ("%s %s SIP/2.0"):format(method, uri),
    ("Via: SIP/2.0/%s %s;branch=z9hG4bK%s"):format(self.transport.protocol,
      self.host, sip.token()),
    "Max-Forwards: 70",
    ("From: <%s>;tag=%s"):format(self.uri, sip.token()),
    ("To: <%s>"):format(to or uri),
    "Call-ID: " .. sip.token(16),
    "CSeq: 1 " .. method,
  }, headers, body)
end

local compact = { v = "via", f = "from", t = "to", i = "call-id",
  m = "contact" }

--- Iterates over the header fields: long name in lower case, value, line.
function sip.fields(message)
  local head = message:match "^.-\r\n\r\n" or message
  local unfolded = head:gsub("\r\n[ \t]+", " ")
  local each = unfolded:gmatch "\r\n(([^\r\n:]+):([^\r\n]*))"
  return function()
    local line, name, value = each()
    if line then
      name = name:match "^(.-)%s*$":lower()
      return compact[name] or name, value:match "^%s*(.-)%s*$", line
    end
  end
end

--- The value of the first header field of that name, or nil.
function sip.header(message, wanted)
  for name, value in sip.fields(message) do
    if name == wanted then
      return value
    end
  end
end

--- The method and URI of a request; nothing if it is a response.
function sip.method(message)
  return message:match "^(%u+) (%S+) SIP/2%.0\r\n"
end

--- The status and reason of a response; nothing if it is a request.
function sip.status(message)
  local status, reason = message:match "^SIP/2%.0 (%d%d%d) ([^\r\n]*)"
  return tonumber(status), reason
end

local copied = { via = true, from = true, to = true, ["call-id"] = true,
  cseq = true }

--- The answer to a request.
function sip.response(request, status, reason, headers, body)
  local lines = { ("SIP/2.0 %d %s"):format(status, reason) }
  for name, _, line in sip.fields(request) do
    local outside = line:gsub("<.->", ""):lower()
    if name == "to" and not outside:find ";%s*tag%s*=" then
      line = line .. ";tag=" .. sip.token()
    end
    if copied[name] then
      lines[#lines + 1] = line
    end
  end
  return join(lines, headers, body)
end

--- What a 200 to OPTIONS should tell (RFC 3261 section 11.2).
sip.abilities = { "Allow: OPTIONS, MESSAGE", "Accept: text/plain",
  "Accept-Encoding: identity", "Accept-Language: en", "Supported:" }

return sip
