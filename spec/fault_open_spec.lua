-- SPDX-License-Identifier: MIT
-- The fault matrix, second part: what servers do wrong on an open connection
-- (C20, C27, C35, C37, C46, R8, R26, R27, R28).  Columns: what the server does
-- (hostile.py), code and phase told, close code sent; see support/fault.lua.

local fault = require "spec.support.fault"

fault.suite(function()

-- ---- leaving ---------------------------------------------------------------

local cuts = {}
for _, where in ipairs { "open", "header", "length", "payload", "fragment",
                         "close", "ping", "message" } do
  local messages = where == "message" and { "whole" } or nil
  local function add(how, code, more)
    local row = { ("cut %s %s"):format(where, how), code, "open",
                  messages = messages }
    for name, value in pairs(more or {}) do row[name] = value end
    table.insert(cuts, row)
  end
  add("fin", "closed")
  add("rst", "reset")
  add("bare", "closed", { ws = false }) -- no close_notify
end

fault.matrix("servers that leave an open connection", cuts)

-- ---- close frames ----------------------------------------------------------

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local closes = {}
for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011,
                        1012, 1013, 1014, 3000, 3999, 4000, 4999 } do
  table.insert(closes, { "closing " .. code, "closed", "open", code,
                         info = { close_reason = "" } })
end
for _, reason in ipairs { "bye", ("x"):rep(123), "\195\164\0" } do
  table.insert(closes, { "closing 4321 " .. hex(reason), "closed", "open", 4321,
                         info = { close_reason = reason } })
end
table.insert(closes, { "closing_with", "closed", "open", 1005 })

fault.matrix("close frames", closes)

local wrong_closes = { { "closing_with 03", "protocol", "open", 1002 } }
for _, code in ipairs { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000,
                        65535 } do
  table.insert(wrong_closes, { "closing_wrongly " .. code, "protocol", "open",
                               1002 })
end
for _, reason in ipairs { "\255", "caf\195", "\237\160\128",
                          ("x"):rep(122) .. "\128" } do
  table.insert(wrong_closes, { "closing_wrongly 1000 " .. hex(reason), "utf8",
                               "open", 1007 })
end

fault.matrix("wrong close frames", wrong_closes)

-- ---- silence ---------------------------------------------------------------

local function disconnect(play) play:disconnect() end

fault.matrix("servers that fall silent", {
  { "mute", nil, nil, 1000, act = disconnect, limit = 0.3, from = "act",
    options = { disconnect_timeout = 0.3 } },
  { "mute", "timeout", "open", limit = 0.3, from = "up",
    -- the first gap is 80 to 100 % of the interval
    at_most = true,
    options = { keep_alive_interval = 0.1, keep_alive_timeout = 0.2 } },
  { "mute", "timeout", "open", limit = 0.3, from = "up", at_most = true,
    options = { keep_alive_interval = 0.1, keep_alive_timeout = 0.2,
                keep_alive_method = "crlf" } },
  { "deaf", "timeout", "open", limit = 0.3, from = "up", at_most = true,
    unreported = true,
    options = { keep_alive_interval = 0.1, keep_alive_timeout = 0.2 } },
}, { width = 20 })

-- ---- frames ----------------------------------------------------------------

local breaches = {}
local function breach(words, code, sent, more)
  local row = { "breaking " .. words, code or "protocol", "open", sent or 1002 }
  for name, value in pairs(more or {}) do row[name] = value end
  table.insert(breaches, row)
end

for _, opcode in ipairs { "text", "binary", "ping", "pong", "close" } do
  breach("masked " .. opcode)
end
breach "zero-masked text"
for bits = 1, 7 do breach("rsv text " .. bits) end
for _, opcode in ipairs { "binary", "ping", "pong", "close" } do
  breach(("rsv %s 4"):format(opcode))
end
breach "rsv-continued 4"
for _, opcode in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
  breach("opcode " .. opcode)
end
breach "opcode-inside 3"
breach "opcode-inside 11"
breach "length 16 0"
breach "length 16 125"
breach "length 64 0"
breach "length 64 125"
breach "length 64 126"
breach "length 64 65535"
breach("announced " .. "9223372036854775808") -- 2^63
breach("announced " .. "18446744073709551615")
breach("announced " .. "9223372036854775807", "too_big", 1009)
breach("announced " .. "100000000000000", "too_big", 1009) -- 100 TB
breach("announced-later " .. "100000000000000", "too_big", 1009)
breach("announced 1048577", "too_big", 1009)
breach("announced-later 1048576", "too_big", 1009)
for _, opcode in ipairs { "ping", "pong", "close" } do
  breach("long " .. opcode)
  breach(("long-announced %s 16"):format(opcode))
  breach(("long-announced %s 64"):format(opcode))
  breach("control-form " .. opcode)
  breach("control-cut " .. opcode)
end
breach "continued-nothing"
breach("continued-after", nil, nil, { messages = { "ab" } })
breach "begun-twice text"
breach "begun-twice binary"

fault.matrix("broken frames", breaches)

fault.matrix("fragments, pings and pongs in between", {
  { "interleaving", messages = { "INVITE \195\164\240\159\152\128!" },
    check = function(_, report)
      local pongs = {}
      for i = 0, 13 do pongs[i + 1] = tostring(i) end
      assert.same(pongs, report.pongs)
    end },
})

end)
