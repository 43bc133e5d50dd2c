-- SPDX-License-Identifier: MIT
-- An HTTP to SIP gateway in nginx; nginx.conf says how to run it. Each worker
-- has one transport, which its requests share: answers find the request that
-- waits for them by the branch of their Via (RFC 3261 section 17.1.3).

local semaphore = require "ngx.semaphore"
local sip = require "examples.sip"
local sipwire = require "sipwire"
require "sipwire.nginx"

local SERVER = os.getenv "SIP_SERVER" or "ws://127.0.0.1:5066/"
local USER = os.getenv "SIP_USER" or "sip:gateway@localhost"
local TIMEOUT = tonumber(os.getenv "SIP_TIMEOUT") or 5
local FIRST, LONGEST = 0.2, 30 -- seconds between attempts to connect

local gateway = {}
local t, user
local waiting = {} -- by branch

-- ---- The connection -------------------------------------------------------

local failures = 0
local connect

local function connect_later()
  local longest = math.min(LONGEST, FIRST * 2 ^ failures)
  failures = failures + 1
  sipwire.timer(longest * (0.5 + math.random() / 2), connect)
end

function connect()
  t:connect(function(err, code)
    if not err then
      failures = 0
    elseif code ~= "aborted" then -- as it is when the worker leaves
      ngx.log(ngx.WARN, "not connected: ", err)
      connect_later()
    end
  end)
end

local function on_disconnect(_, err)
  for branch, request in pairs(waiting) do
    waiting[branch] = nil
    request.answered:post(1)
  end
  if err then -- not when the worker leaves
    ngx.log(ngx.WARN, "connection lost: ", err)
    connect_later()
  end
end

local function on_message(_, message)
  local method = sip.method(message)
  if method == "OPTIONS" then
    t:send(sip.response(message, 200, "OK", sip.abilities))
  elseif method then
    if method ~= "ACK" then
      t:send(sip.response(message, 405, "Method Not Allowed",
        { "Allow: OPTIONS" }))
    end
    return
  end
  local status, reason = sip.status(message)
  local via = sip.header(message, "via") or ""
  local branch = via:match ";%s*branch%s*=%s*([^;,%s]+)"
  local request = branch and waiting[branch]
  if request and status and status >= 200 then -- 1xx: on its way
    waiting[branch] = nil
    request.status, request.reason = status, reason
    request.answered:post(1)
  end
end

--- To be called when a worker begins.
function gateway.start()
  math.randomseed(ngx.worker.pid() + ngx.now() * 1000)
  t = sipwire.new { server = SERVER, keep_alive_interval = 30,
    tls = { ca_file = os.getenv "SIP_CA_FILE" } }
  user = sip.agent(USER, t)
  t.on_message, t.on_disconnect = on_message, on_disconnect
  connect()
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

-- Sends a MESSAGE and waits for its answer: status, reason, or nil, HTTP's
-- status, why.
local function send(to, content_type, text)
  local message = user:request("MESSAGE", to,
    { "Content-Type: " .. content_type }, text)
  local branch = message:match ";branch=([^;,%s]+)"
  local request = { answered = assert(semaphore.new()) }
  waiting[branch] = request
  local ok, why = t:send(message)
  if not ok then
    waiting[branch] = nil
    return nil, 503, why
  end
  local answered = request.answered:wait(TIMEOUT)
  waiting[branch] = nil
  if request.status then
    return request.status, request.reason
  elseif answered then
    return nil, 503, "the connection was lost"
  end
  return nil, 504, "no answer"
end

--- POST /message?to=URI
function gateway.message()
  if ngx.req.get_method() ~= "POST" then
    ngx.header.Allow = "POST"
    return fail(405, "POST only")
  end
  local to = ngx.req.get_uri_args().to
  if type(to) ~= "string" or not to:find '^sips?:[^%s<>"%c]+$' then
    return fail(400, "the argument 'to' must be a SIP URI")
  end
  ngx.req.read_body()
  local status, reason, why = send(to, ngx.var.content_type or "text/plain",
    ngx.req.get_body_data() or "")
  if not status then
    return fail(reason, why)
  end -- HTTP has no 6xx, and its 3xx mean something else
  local fits = status < 600 and (status < 300 or status >= 400)
  answer(fits and status or 502, { status = status, reason = reason })
end

--- GET /status: of the worker that answers.
function gateway.status()
  answer(200, { worker = ngx.worker.id(), state = t.state, server = t.server,
    local_address = t.local_address, stats = t:stats() })
end

return gateway
