-- SPDX-License-Identifier: MIT
-- SIP messages of specs, for a registrar and proxy whose domain is localhost.
--
-- sip.user(name [, via])     somebody new; via: "WS" (default) or "WSS"
-- user.uri  user.contact     "sip:…"
-- user:request(method, uri [, lines]) -> message, call_id
--   lines: more header lines; lines.body
-- user:register([seconds]) -> message, call_id
-- sip.response(request, status, reason) -> message
-- sip.parse(message)         raises if it is not well-formed
--   .status .reason | .method .uri   .body   .call_id
--   .branch                          of the first Via
--   .headers[lower-case name]        list of values

local M = {}
local user = {}
user.__index = user

local count = 0
local function unique()
  count = count + 1
  return ("%x-%d"):format(os.time(), count)
end

function M.user(name, via)
  local self = setmetatable({ name = name .. unique(), via = via or "WS" },
    user)
  self.uri = "sip:" .. self.name .. "@localhost"
  self.contact = "sip:" .. self.name .. "@spec.invalid;transport=ws"
  return self
end

local function join(lines, body)
  lines[#lines + 1] = "Content-Length: " .. #body
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

function user:request(method, uri, more)
  local call_id = unique()
  local to = method == "REGISTER" and self.uri or uri
  local lines = {
    ("%s %s SIP/2.0"):format(method, uri),
    ("Via: SIP/2.0/%s spec.invalid;branch=z9hG4bK%s"):format(self.via, call_id),
    "Max-Forwards: 70",
    ("From: <%s>;tag=f%s"):format(self.uri, call_id),
    ("To: <%s>"):format(to),
    "Call-ID: " .. call_id,
    "CSeq: 1 " .. method,
  }
  for _, line in ipairs(more or {}) do lines[#lines + 1] = line end
  return join(lines, more and more.body or ""), call_id
end

function user:register(seconds)
  return self:request("REGISTER", "sip:localhost", {
    ("Contact: <%s>;expires=%d"):format(self.contact, seconds or 60) })
end

local function read_fields(head)
  local headers = {}
  for line in head:gmatch "([^\r\n]+)\r\n" do
    local name, value = line:match "^([%w-]+)%s*:%s*(.-)%s*$"
    if not name then error("no header line: " .. line, 3) end
    name = name:lower()
    headers[name] = headers[name] or {}
    table.insert(headers[name], value)
  end
  return headers
end

function M.parse(message)
  local start, head, body = message:match "^([^\r\n]+)\r\n(.-\r\n)\r\n(.*)$"
  if not start then error("no SIP message: " .. message, 2) end
  local self = { headers = read_fields(head), body = body }
  local status, reason = start:match "^SIP/2%.0 (%d%d%d) (.*)$"
  self.status, self.reason = tonumber(status), reason
  self.method, self.uri = start:match "^(%u+) (%S+) SIP/2%.0$"
  if not (self.status or self.method) then
    error("no start line: " .. start, 2)
  end
  if self.headers["content-length"][1] ~= tostring(#body) then
    error("the body is not as long as Content-Length says: " .. message, 2)
  end
  self.call_id = self.headers["call-id"][1]
  self.branch = self.headers.via[1]:match ";branch=([^;,%s]+)"
  return self
end

function M.response(request, status, reason)
  local lines = { ("SIP/2.0 %d %s"):format(status, reason) }
  for line in request:match "^.-\r\n(.-\r\n)\r\n":gmatch "([^\r\n]+)\r\n" do
    local name = line:match "^[^:%s]+":lower()
    if name == "to" then
      lines[#lines + 1] = line .. ";tag=" .. unique()
    elseif name == "via" or name == "from" or name == "call-id" or
      name == "cseq" then
      lines[#lines + 1] = line
    end
  end
  return join(lines, "")
end

return M
