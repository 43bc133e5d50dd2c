-- SPDX-License-Identifier: MIT
-- Valid SIP messages in many spellings, and what they say.
--
-- M.written(seed) -> text, fields    written by hand as others might
-- M.built(seed) -> message           made by sip.request and m:response
-- M.answer(seed, request, status, headers) -> response    made by m:response

local random = require "spec.support.random"
local sip = require "sipwire.sip"

local M = {}

local users = { "alice", "bob", "+4930123456", "a.b-c_d", "x%20y", "u&=+$,;?/" }
local hosts = { "example.com", "a1b2c3.invalid", "192.0.2.7", "[2001:db8::9]",
  "sub.domain.example.org" }
local displays = { "Alice", "Bob B.", '"Al, ice"', '"A \\"q\\" <b>; c"', '""',
  '"Jos\195\169"' }
local methods = { "REGISTER", "INVITE", "MESSAGE", "OPTIONS", "BYE", "NOTIFY",
  "SUBSCRIBE", "X-OWN" }
local bodies = { "", "hello", "a: b\r\n\r\nc\r\n", "\195\164\195\182",
  ("x"):rep(500), "--b\r\nContent-Length: 7\r\n\r\nx\r\n--b--" }

local function uri(r)
  local text = "sip:" .. (r:chance(6) and "" or r:of(users) .. "@") ..
    r:of(hosts)
  if r:chance(3) then text = text .. ":" .. (1024 + r(60000)) end
  if r:chance(3) then text = text .. ";transport=" .. r:of { "ws", "TCP" } end
  if r:chance(4) then text = text .. ";lr" end
  return text
end

local function address(r, tag)
  local display = r:chance(2) and r:of(displays) or nil
  local text = (display and display .. " " or "") .. "<" .. uri(r) .. ">"
  return text .. (tag and ";tag=" .. tag or "")
end

local function via(r)
  local text = "SIP/2.0/" .. r:of { "WS", "WSS", "TCP", "UDP" } .. " " ..
    r:of(hosts)
  if r:chance(3) then text = text .. ":5062" end
  local rport = r:of { "", ";rport", ";received=192.0.2.99;rport=4711" }
  local branch = ";branch=z9hG4bK" .. r(1000000)
  return text .. (r:chance(3) and rport .. branch or branch .. rport)
end

-- ---- By hand ----------------------------------------------------------------

local short = { Via = "v", From = "f", To = "t", ["Call-ID"] = "i",
  Contact = "m", ["Content-Length"] = "l", ["Content-Type"] = "c" }

local function spelled(r, name)
  local how = r(5)
  if how == 1 then return name:lower() end
  if how == 2 then return name:upper() end
  if how == 3 then return short[name] or name end
  return name
end

-- Where there may be blanks there may be a fold.
local function line(r, name, value)
  local colon = r:of { ": ", ": ", ":", " : ", ":\t ", ":\r\n " }
  if r:chance(6) and not value:find '"' then
    local before = value:find("<", 1, true) and ">" or ""
    value = value:gsub(before .. ";", before .. " ;\r\n ", 1)
  end
  return spelled(r, name) .. colon .. value .. r:of { "", "", " ", "\t" }
end

local function shuffle(r, list)
  for i = #list, 2, -1 do
    local j = r(i)
    list[i], list[j] = list[j], list[i]
  end
end

function M.written(seed)
  local r = random.new(seed)
  local method, body = r:of(methods), r:of(bodies)
  local is_request = r(3) > 1
  local lines = {}
  local function add(name, value) lines[#lines + 1] = line(r, name, value) end
  local first = via(r)
  add("From", address(r, "f" .. r(1000)))
  add("To", address(r, r:chance(2) and "t" .. r(1000)))
  add("Call-ID", "id-" .. r(100000) .. r:of { "", "@host.example" })
  add("CSeq", r(100000) .. " " .. method)
  add("Max-Forwards", tostring(r(71) - 1))
  for _ = 1, r(3) - 1 do
    local value = address(r) .. r:of { "", ";expires=300", ";q=0.5;x=\"a,b\"" }
    if r:chance(2) then value = value .. ", " .. address(r) end
    add("Contact", value)
  end
  if r:chance(2) then add("Expires", tostring(r(7200))) end
  if r:chance(3) then add("X-Other", "a, \"b\", <c>; d") end
  if body ~= "" or r:chance(2) then
    add("Content-Length", tostring(#body))
  end
  if body ~= "" then add("Content-Type", "text/plain") end
  if not is_request and r:chance(2) then
    add("WWW-Authenticate", ('Digest realm="r %d", nonce="n=%d,", ' ..
      'algorithm=%s, qop="auth,auth-int"'):format(r(9), r(999),
      r:of { "MD5", "SHA-256" }))
  end
  shuffle(r, lines)
  table.insert(lines, 1, line(r, "Via", first))
  if r:chance(2) then table.insert(lines, 2, line(r, "Via", via(r))) end
  local start = is_request and method .. " " .. uri(r) .. " SIP/2.0" or
    "SIP/2.0 " .. (100 + r(550)) .. " " .. r:of { "OK", "Not (quite) = fine" }
  return start .. "\r\n" .. table.concat(lines, "\r\n") .. "\r\n\r\n" .. body
end

-- ---- By the builder ---------------------------------------------------------

local function maybe(r, value)
  if r:chance(2) then return value end
end

local function request(r)
  local method = r:of(methods)
  local body = r:of(bodies)
  local instance = maybe(r, "urn:uuid:00000000-0000-1000-8000-000A95A0E128")
  local options = { method = method, uri = uri(r), from = address(r),
    to = maybe(r, address(r, "t1")), call_id = maybe(r, "own-id@host"),
    cseq = maybe(r, r(2 ^ 31) - 1), max_forwards = maybe(r, r(256) - 1),
    contact = r:of { true, false, "<sip:me@host.invalid;transport=ws>" },
    headers = r:of { {}, { Subject = "a b", Allow = { "INVITE", "BYE" } },
      { { "X-A", "1" }, { "X-A", "2" } } },
    route = maybe(r, { "<sip:p1.example.com;lr>", "sip:p2.example.com;lr" }),
    via = maybe(r, { transport = r:of { "WS", "WSS" } }),
    body = body, content_type = body ~= "" and "text/plain" or nil }
  if instance and options.contact then
    options.instance, options.reg_id = instance, maybe(r, r(9))
  end
  return sip.request(options)
end

local function answer(r, m, status, headers)
  return m:response(status, maybe(r, "As \195\164sked (really)"),
    { contact = maybe(r, "sip:me@host.invalid"), headers = headers })
end

function M.answer(seed, m, status, headers)
  local r = random.new(seed)
  local made = answer(r, m, status, headers)
  if r:chance(2) then made:set_body(r:of(bodies), "text/other") end
  return made
end

function M.built(seed)
  local r = random.new(seed)
  local m = request(r)
  if r:chance(2) then
    m = answer(r, m, 100 + r(550), { ["WWW-Authenticate"] =
      'Digest realm="a \\"b\\"", nonce="x", qop="auth"' })
  end
  if r:chance(3) then m:add("X-Late", "1"):prepend("Via", via(r)) end
  if r:chance(4) then m:set_body("other", "text/other") end
  if r:chance(5) then m:remove "Content-Length" end
  return m
end

return M
