-- SPDX-License-Identifier: MIT
-- The fault matrix, first part: servers that cannot be reached, say nothing or
-- the wrong thing, or leave, before a connection is open (C15, C16, C20, R2,
-- R25, R26).  Columns: what the server does (hostile.py), code and phase told,
-- close code sent; see support/fault.lua.

local fault = require "spec.support.fault"

fault.suite(function()

-- ---- in time ---------------------------------------------------------------

-- Less than a second, after which SYNs are sent again.
local soon = { connection_timeout = 0.8 }

local function patient(words, phase, more)
  local row = { words, "timeout", phase, nil, limit = 0.8, options = soon }
  for name, value in pairs(more or {}) do row[name] = value end
  return row
end

fault.matrix("servers that keep one waiting", {
  patient("full", "tcp"),
  patient("silent accept", "upgrade", { wss = { nil, nil, "tls" } }),
  patient("silent hello", "tls", { ws = false }),
  patient("silent tls", "upgrade", { ws = false }),
  patient("silent request", "upgrade"),
  patient("dripping 0.1", "upgrade"),
  patient("plain silent", "tls", { ws = false }),
}, { width = 20 })

fault.matrix("a server that drips", {
  { "dripping 1", "timeout", "upgrade", limit = 1.2,
    options = { connection_timeout = 1.2 } },
}, { tag = "#slow" })

-- ---- out of reach ----------------------------------------------------------

fault.matrix("servers out of reach", {
  { "refusing", "refused", "tcp", info = { errno = 111 } },
  -- TCP knows no groups: the kernel says so without a packet
  { "multicast", "unreachable", "tcp", url = "ws://224.0.0.1:9/",
    wss = { url = "wss://224.0.0.1:9/" } },
  { "multicast6", "unreachable", "tcp", url = "ws://[ff02::1]:9/",
    wss = { url = "wss://[ff02::1]:9/" } },
  { "broadcast", "unreachable", "tcp", url = "ws://127.255.255.255:9/",
    wss = { url = "wss://127.255.255.255:9/" } },
  { "from the other family", "unreachable", "tcp", url = "ws://[::1]:9/",
    options = { local_address = "127.0.0.1" }, info = { errno = 97 },
    wss = { url = "wss://[::1]:9/" } },
})

-- ---- something else --------------------------------------------------------

local garbage = {}
for _, what in ipairs { "zeros", "ssh", "smtp", "html", "frame", "spaces",
                        "random", "lines", "sip", "http2" } do
  table.insert(garbage, { "garbage " .. what, "http", "upgrade" })
end

fault.matrix("servers of something else", {
  { "plain answer", "tls", "tls", ws = false },
  { "plain garbage", "tls", "tls", ws = false },
  { "plain alert", "tls", "tls", ws = false },
  { "secure", "http", "upgrade", wss = false },
})

fault.matrix("garbage", garbage)

-- ---- refusals --------------------------------------------------------------

local function refusal(words, status)
  return { words, "http", "upgrade", info = { http_status = status },
    check = function(play)
      local headers = play.info.http_headers
      assert.equal(tostring(status), headers["x-seen"])
      assert.equal("http://127.0.0.1:1/" .. status, headers.location)
      assert.equal('Basic realm="here"', headers["www-authenticate"])
      assert.equal("1", headers["retry-after"])
      assert.matches(tostring(status), play.err, 1, true)
    end }
end

local refusals = {}
for _, status in ipairs { 200, 302, 401, 403, 404, 426, 503 } do
  table.insert(refusals, refusal("status " .. status, status))
end
-- hanging up behind the answer does not hide it
table.insert(refusals, refusal("status 403 fin", 403))
table.insert(refusals, refusal("status 404 rst", 404))

fault.matrix("refusals", refusals)

-- ---- wrong answers ---------------------------------------------------------

-- "+" stands for a space, "%s" for the right Accept.
local function wrong(words, code)
  return { words, code or "http", "upgrade", info = { http_status = 101 } }
end

fault.matrix("wrong answers", {
  wrong "answering accept",
  wrong "answering accept x",
  wrong "answering accept %s=",
  wrong "answering accept s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
  wrong "answering accept %s %s",
  wrong "answering accept %s x",
  wrong "answering accept x %s",
  wrong "answering accept %s,+%s",
  wrong "answering upgrade",
  wrong "answering upgrade h2c",
  wrong "answering upgrade websockets",
  wrong "answering upgrade websocket h2c",
  wrong "answering connection",
  wrong "answering connection keep-alive",
  wrong "answering connection close",
  wrong("answering protocol", "subprotocol"),
  wrong("answering protocol chat", "subprotocol"),
  wrong("answering protocol SIP", "subprotocol"),
  wrong("answering protocol sip,+chat", "subprotocol"),
  wrong("answering protocol sip sip", "subprotocol"),
  wrong("answering protocol sip chat", "subprotocol"),
  wrong("answering protocol chat sip", "subprotocol"),
  wrong "extension permessage-deflate",
  wrong "extension x-unheard-of",
})

fault.matrix("right answers", {
  { "extras length" },
  { "extras folding" },
  { "extras many" },
  { "extras kamailio" },
  { "extras chunked" },
  { "interim" },
  { "answering connection keep-alive,+upGRADE" },
  { "answering connection keep-alive Upgrade" },
  { "answering upgrade WebSocket" },
})

local function pong(_, report)
  assert.same({ "early" }, report.pongs)
end

fault.matrix("frames in the segment of the answer", {
  { "bundled message", messages = { "INVITE" } },
  { "bundled ping message", messages = { "INVITE" }, check = pong },
  { "bundled close", "closed", "open", 1001,
    info = { close_reason = "" } },
  { "bundled message message close", "closed", "open", 1001,
    messages = { "INVITE", "INVITE" }, info = { close_reason = "" } },
  { "bundled message masked", "protocol", "open", 1002,
    messages = { "INVITE" } },
})

-- ---- leaving ---------------------------------------------------------------

local leavings = {}

-- An RST may come before we have seen that we are connected.
local function leaving(stage, phase, more)
  for how, code in pairs { fin = "closed", rst = "reset" } do
    local row = { ("leaving %s %s"):format(stage, how), code, phase,
                  or_phase = stage == "accept" and "tcp" or nil }
    for name, value in pairs(more or {}) do row[name] = value end
    table.insert(leavings, row)
  end
end

leaving("accept", "upgrade", { wss = { nil, nil, "tls" } })
leaving("hello", "upgrade", { wss = { nil, nil, "tls" } })
leaving("half-hello", "tls", { ws = false })
leaving("tls", "upgrade", { ws = false })
leaving("request", "upgrade")
leaving("status", "upgrade")
leaving("headers", "upgrade")
leaving("last", "upgrade")
leaving("interim", "upgrade")

fault.matrix("servers that leave", leavings)

end)
