-- SPDX-License-Identifier: MIT
-- Asks a SIP server whether it is there.
--   options_ping.lua [URL [CA]]   URL: ws:// or wss://, CA: a PEM file to trust
-- Without a URL it asks a server of its own. Ends with 0 if any answer came.
-- test: $LUA examples/options_ping.lua

local sipwire = require "sipwire"
local sip = require "sipwire.sip"

-- Lua's own clocks count CPU time or whole seconds.
local has_luv, luv = pcall(require, "luv")
local function clock()
  if has_luv then
    return luv.hrtime() / 1e9
  end
  local file = assert(io.open "/proc/uptime") -- steps of 10 ms
  local seconds = file:read "*n"
  file:close()
  return seconds
end

local function ms(seconds)
  return seconds and ("%.1f ms"):format(seconds * 1000) or "-"
end

local function own_server()
  local listener
  listener = assert(sipwire.listen { on_connection = function(t)
    t.on_message = function(_, request)
      -- what RFC 3261 section 11.2 wants
      t:send(tostring(assert(sip.parse(request)):response(200, "OK",
        { headers = { Allow = "OPTIONS", Accept = "application/sdp",
          ["Accept-Encoding"] = "identity", ["Accept-Language"] = "en",
          Supported = "" } })))
    end
    t.on_disconnect = function() listener:close() end
  end })
  return listener.url
end

local function failed(what, err, code, info)
  print(("%s: %s (code %s, phase %s)"):format(what, err, code,
    info and info.phase or "-"))
  return false
end

local function ping(url, ca)
  local c, err, code, info =
    sipwire.open { server = url, tls = { ca_file = ca } }
  if not c then
    return failed("not connected", err, code, info)
  end
  local times = c.transport:stats()
  print(("connected to %s (%s): tcp %s, tls %s, upgrade %s"):format(url,
    c.transport.peer_address, ms(times.tcp_time), ms(times.tls_time),
    ms(times.upgrade_time)))

  local request = sip.request { method = "OPTIONS",
    uri = "sip:" .. url:match "//([^/?]*)", from = "sip:ping@example.invalid",
    via = { transport = c.transport.protocol }, contact = true,
    headers = { Accept = "application/sdp" } }
  local start, answer, text = clock(), nil, nil
  assert(c:send(tostring(request)))
  repeat -- a server may have questions of its own
    text, err, code, info = c:receive(5)
    if not text then
      return failed("no answer", err, code, info)
    end
    answer = sip.parse(text)
  until answer and (answer.status or 0) >= 200 and
    answer.call_id == request.call_id
  print(("%d %s, rtt %s"):format(answer.status, answer.reason,
    ms(clock() - start)))
  c:close()
  return true
end

local alive
assert(sipwire.run(function()
  alive = ping(arg[1] or own_server(), arg[2])
end))
os.exit(alive and 0 or 1)
