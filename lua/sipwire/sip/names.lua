-- SPDX-License-Identifier: MIT
-- Names of header fields, as they are compared and as they are written; common
-- methods.

local lower = string.lower

local names = {}

-- One letter for a name (RFC 3261 section 7.3.3 and the IANA registry).
local compact = {
  a = "Accept-Contact", b = "Referred-By", c = "Content-Type",
  d = "Request-Disposition", e = "Content-Encoding", f = "From",
  i = "Call-ID", j = "Reject-Contact", k = "Supported", l = "Content-Length",
  m = "Contact", n = "Identity-Info", o = "Event", r = "Refer-To",
  s = "Subject", t = "To", u = "Allow-Events", v = "Via",
  x = "Session-Expires", y = "Identity",
}

local written = {
  "Accept", "Accept-Encoding", "Accept-Language", "Alert-Info", "Allow",
  "Authentication-Info", "Authorization", "CSeq", "Call-Info",
  "Content-Disposition", "Content-Language", "Date", "Error-Info", "Expires",
  "Flow-Timer", "History-Info", "In-Reply-To", "MIME-Version", "Max-Forwards",
  "Min-Expires", "Min-SE", "Organization", "P-Asserted-Identity",
  "P-Associated-URI", "P-Preferred-Identity", "Path", "Priority", "Privacy",
  "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Require", "RAck", "RSeq",
  "Reason", "Record-Route", "Replaces", "Reply-To", "Require", "Retry-After",
  "Route", "SIP-ETag", "SIP-If-Match", "Server", "Service-Route",
  "Subscription-State", "Timestamp", "Unsupported", "User-Agent",
  "WWW-Authenticate", "Warning",
}

-- Common spellings: what is found here need not be lowered.
local known = {}
-- By lower-case name: the usual spelling; and a list of these names.
names.written, names.common = {}, {}

local function add(name)
  local id = lower(name)
  names.written[id] = name
  names.common[#names.common + 1] = id
  known[name], known[id] = id, id
end

for _, name in ipairs(written) do
  add(name)
end
for letter = ("a"):byte(), ("z"):byte() do
  local short = string.char(letter)
  local name = compact[short]
  if name then
    add(name)
    known[short], known[short:upper()] = lower(name), lower(name)
  end
end

names.known = known

-- The name by which a field is known: long, in lower case.
function names.canonical(name)
  local id = known[name]
  if not id then
    id = lower(name)
    id = known[id] or id
  end
  return id
end

-- Common methods, by themselves.
names.methods = {}
for _, method in ipairs { "INVITE", "ACK", "BYE", "CANCEL", "OPTIONS",
  "REGISTER", "MESSAGE", "SUBSCRIBE", "NOTIFY", "INFO", "UPDATE", "PRACK",
  "REFER", "PUBLISH" } do
  names.methods[method] = method
end

return names
