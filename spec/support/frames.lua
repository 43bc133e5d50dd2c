-- SPDX-License-Identifier: MIT
-- WebSocket frames as bytes (RFC 6455 section 5), right or wrong ones.
--
-- frames.build { opcode = "text", payload = "", fin = true, rsv = 0,
--                mask = nil, length_form = nil, length = nil }
--   opcode       number or name (see frames.opcodes)
--   rsv          0..7: RSV1 is 4, RSV2 is 2, RSV3 is 1
--   mask         4 bytes: masked with them; nil: not masked
--   length_form  7, 16 or 64: that form even if a shorter one would do
--   length       the length to announce instead of #payload; a number, or the
--                8 bytes of the 64-bit form
-- frames.parse(bytes [, at]) returns a frame and the position after it, or nil
-- if it is not complete: { fin, rsv, opcode, name, masked, mask, length_form,
-- length, payload }, payload unmasked.
-- frames.close(code, reason) is the payload of a close frame, frames.code(s)
-- takes one apart: code, reason (nil if empty).

local bits = require "spec.support.bits"

local M = {}

M.opcodes = { continuation = 0, text = 1, binary = 2, close = 8, ping = 9,
              pong = 10 }
local names = {}
for name, opcode in pairs(M.opcodes) do names[opcode] = name end

local function big_endian(n, bytes)
  local out = {}
  for i = bytes, 1, -1 do
    local low = n % 256
    out[i] = string.char(low)
    n = (n - low) / 256
  end
  return table.concat(out)
end

local function number(s)
  local n = 0
  for i = 1, #s do n = n * 256 + s:byte(i) end
  return n
end

-- One table of 256 per byte of the mask, so that the loop only looks up.
local rows = setmetatable({}, { __index = function(self, m)
  local row = {}
  for i = 0, 255 do row[i] = string.char(bits.bxor(i, m)) end
  self[m] = row
  return row
end })

function M.mask(payload, mask)
  local a, b, c, d = mask:byte(1, 4)
  local row = { [0] = rows[a], rows[b], rows[c], rows[d] }
  local chunks, step = {}, 1024
  for at = 1, #payload, step do
    local chunk = { payload:byte(at, at + step - 1) }
    for i = 1, #chunk do chunk[i] = row[(i - 1) % 4][chunk[i]] end
    chunks[#chunks + 1] = table.concat(chunk)
  end
  return table.concat(chunks)
end

local function length_bytes(length, form)
  if type(length) == "string" then return 127, length end
  form = form or (length < 126 and 7 or length < 65536 and 16 or 64)
  if form == 7 then return length, "" end
  if form == 16 then return 126, big_endian(length, 2) end
  return 127, big_endian(length, 8)
end

function M.build(f)
  local opcode = M.opcodes[f.opcode or "text"] or f.opcode
  local payload = f.payload or ""
  local short, long = length_bytes(f.length or #payload, f.length_form)
  local first = (f.fin == false and 0 or 128) + (f.rsv or 0) * 16 + opcode
  local second = (f.mask and 128 or 0) + short
  return string.char(first, second) .. long .. (f.mask or "") ..
    (f.mask and M.mask(payload, f.mask) or payload)
end

local function read_length(bytes, at, short)
  if short < 126 then return short, 7, at end
  local width = short == 126 and 2 or 8
  if #bytes < at + width - 1 then return nil end
  return number(bytes:sub(at, at + width - 1)), width * 8, at + width
end

function M.parse(bytes, at)
  at = at or 1
  local first, second = bytes:byte(at, at + 1)
  if not second then return nil end
  local f = { fin = first >= 128, rsv = math.floor(first / 16) % 8,
              opcode = first % 16, masked = second >= 128 }
  f.name = names[f.opcode]
  f.length, f.length_form, at = read_length(bytes, at + 2, second % 128)
  if not f.length then return nil end
  if f.masked then
    f.mask, at = bytes:sub(at, at + 3), at + 4
  end
  if #bytes < at + f.length - 1 then return nil end
  f.payload = bytes:sub(at, at + f.length - 1)
  if f.masked then f.payload = M.mask(f.payload, f.mask) end
  return f, at + f.length
end

function M.close(code, reason)
  return code and big_endian(code, 2) .. (reason or "") or ""
end

function M.code(payload)
  if #payload < 2 then return nil, "" end
  return number(payload:sub(1, 2)), payload:sub(3)
end

return M
