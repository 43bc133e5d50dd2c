-- SPDX-License-Identifier: MIT
-- SHA-1 (FIPS 180-4) and base64 (RFC 4648) in plain Lua, for the accept key of
-- the WebSocket handshake: sha1.digest(s), sha1.hex(s), sha1.base64(s),
-- sha1.accept(key).

local bits = require "spec.support.bits"

local M = {}
local band, bor, bxor, bnot, rol =
  bits.band, bits.bor, bits.bxor, bits.bnot, bits.rol

local function word(n)
  return string.char(math.floor(n / 16777216) % 256,
    math.floor(n / 65536) % 256, math.floor(n / 256) % 256, n % 256)
end

local function pad(message)
  local zeros = (55 - #message) % 64
  local length = #message * 8
  return message .. "\128" .. string.rep("\0", zeros) ..
    word(math.floor(length / 4294967296)) .. word(length % 4294967296)
end

local function schedule(block)
  local w = {}
  for i = 0, 15 do
    local a, b, c, d = block:byte(4 * i + 1, 4 * i + 4)
    w[i] = ((a * 256 + b) * 256 + c) * 256 + d
  end
  for i = 16, 79 do
    w[i] = rol(bxor(bxor(w[i - 3], w[i - 8]), bxor(w[i - 14], w[i - 16])), 1)
  end
  return w
end

local function choose(b, c, d) return bor(band(b, c), band(bnot(b), d)) end
local function parity(b, c, d) return bxor(bxor(b, c), d) end
local function majority(b, c, d)
  return bor(bor(band(b, c), band(b, d)), band(c, d))
end

local rounds = {
  [0] = { choose, 0x5a827999 }, { parity, 0x6ed9eba1 },
  { majority, 0x8f1bbcdc }, { parity, 0xca62c1d6 },
}

local function compress(state, block)
  local w = schedule(block)
  local a, b, c, d, e = state[1], state[2], state[3], state[4], state[5]
  for i = 0, 79 do
    local round = rounds[math.floor(i / 20)]
    local sum = rol(a, 5) + round[1](b, c, d) + e + round[2] + w[i]
    a, b, c, d, e = sum % 4294967296, a, rol(b, 30), c, d
  end
  for i, value in ipairs { a, b, c, d, e } do
    state[i] = (state[i] + value) % 4294967296
  end
end

function M.digest(message)
  local state =
    { 0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0 }
  local padded = pad(message)
  for at = 1, #padded, 64 do compress(state, padded:sub(at, at + 63)) end
  for i = 1, 5 do state[i] = word(state[i]) end
  return table.concat(state)
end

function M.hex(message)
  return (M.digest(message):gsub(".", function(c)
    return string.format("%02x", c:byte())
  end))
end

local alphabet =
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

function M.base64(s)
  local out = {}
  for at = 1, #s, 3 do
    local a, b, c = s:byte(at, at + 2)
    local n = (a * 256 + (b or 0)) * 256 + (c or 0)
    for place = 3, 0, -1 do
      local digit = math.floor(n / 64 ^ place) % 64 + 1
      out[#out + 1] = alphabet:sub(digit, digit)
    end
    if not c then out[#out] = "=" end
    if not b then out[#out - 1] = "=" end
  end
  return table.concat(out)
end

-- RFC 6455 section 4.2.2
function M.accept(key)
  return M.base64(M.digest(key .. "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
end

return M
