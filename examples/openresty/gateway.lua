-- SPDX-License-Identifier: MIT
-- An HTTP to SIP gateway in nginx; nginx.conf says how to run it. Each worker
-- has one transport with a user agent, which its requests share.

local sip = require "sipwire.sip"
local sipwire = require "sipwire"
require "sipwire.nginx"

local SERVER = os.getenv "SIP_SERVER" or "ws://127.0.0.1:5066/"
local USER = os.getenv "SIP_USER" or "sip:gateway@localhost"
local TIMEOUT = tonumber(os.getenv "SIP_TIMEOUT") or 5
local FIRST, LONGEST = 0.2, 30 -- seconds between attempts to connect

local gateway = {}
local t, ua

-- ---- The connection -------------------------------------------------------

local failures = 0

local function connect_later()
  local longest = math.min(LONGEST, FIRST * 2 ^ failures)
  failures = failures + 1
  sipwire.timer(longest * (0.5 + math.random() / 2), function()
    t:connect()
  end)
end

local function on_state(state, _, _, err, code)
  if state == "Connected" then
    failures = 0
  elseif state == "Disconnected" and err and code ~= "aborted" then
    ngx.log(ngx.WARN, "not connected: ", err) -- no err: the worker leaves
    connect_later()
  end
end

--- To be called when a worker begins.
function gateway.start()
  math.randomseed(ngx.worker.pid() + ngx.now() * 1000)
  t = sipwire.new { server = SERVER, keep_alive_interval = 30,
    tls = { ca_file = os.getenv "SIP_CA_FILE" } }
  ua = sipwire.ua(t, { aor = USER, password = os.getenv "SIP_PASSWORD",
    patience = 0 }) -- what others ask of us, but OPTIONS, is refused at once
  t.state_change:add_listener(on_state)
  t:connect()
end

-- ---- Answers in JSON ------------------------------------------------------

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function json(value)
  if type(value) == "table" then
    local fields = {}
    for name, field in pairs(value) do
      fields[#fields + 1] = json(tostring(name)) .. ":" .. json(field)
    end
    table.sort(fields)
    return "{" .. table.concat(fields, ",") .. "}"
  elseif type(value) == "string" then
    return '"' .. value:gsub('[%c"\\]', function(c)
      return escapes[c] or ("\\u%04x"):format(c:byte())
    end) .. '"'
  elseif type(value) == "number" then
    return ("%.14g"):format(value)
  end
  return tostring(value)
end

local function answer(status, value)
  ngx.status = status
  ngx.header["Content-Type"] = "application/json"
  ngx.say(json(value))
end

local function fail(status, reason)
  answer(status, { error = reason })
end

-- ---- Requests -------------------------------------------------------------

--- POST /message?to=URI
function gateway.message()
  if ngx.req.get_method() ~= "POST" then
    ngx.header.Allow = "POST"
    return fail(405, "POST only")
  end
  local to = ngx.req.get_uri_args().to
  local uri = type(to) == "string" and sip.uri(to)
  if not uri or uri.scheme ~= "sip" and uri.scheme ~= "sips" then
    return fail(400, "the argument 'to' must be a SIP URI")
  end
  ngx.req.read_body()
  local response, err, code = ua:request("MESSAGE", { uri = to,
    content_type = ngx.var.content_type or "text/plain",
    body = ngx.req.get_body_data() or "", timeout = TIMEOUT })
  if not response then
    return fail(code == "timeout" and 504 or 503, err)
  end
  local status = response.status -- HTTP has no 6xx, and other 3xx
  local fits = status < 600 and (status < 300 or status >= 400)
  answer(fits and status or 502, { status = status, reason = response.reason })
end

--- GET /status: of the worker that answers.
function gateway.status()
  answer(200, { worker = ngx.worker.id(), state = t.state, server = t.server,
    local_address = t.local_address, stats = t:stats() })
end

return gateway
