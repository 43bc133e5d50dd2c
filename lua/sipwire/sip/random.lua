-- SPDX-License-Identifier: MIT
-- Text that nobody can guess.

local raise = require "sipwire.raise"

local random = {}

local digits = {}
for value = 0, 255 do
  digits[string.char(value)] = ("%02x"):format(value)
end

--- Random bytes in hexadecimal, from OpenSSL's generator.
---@param bytes? integer default 8
---@return string text of two digits for each byte
function random.token(bytes)
  bytes = bytes or 8
  if type(bytes) ~= "number" or bytes % 1 ~= 0 or bytes < 1 or
    bytes > 1024 then
    raise("token needs a whole number of bytes from 1 to 1024")
  end
  -- Reading messages needs no C.
  return (require "sipwire.core".random(bytes):gsub(".", digits))
end

--- A tag for From and To.
---@return string
function random.tag()
  return random.token(8)
end

--- A branch for Via, with the cookie of RFC 3261.
---@return string
function random.branch()
  return "z9hG4bK" .. random.token(8)
end

--- A Call-ID.
---@return string
function random.call_id()
  return random.token(16)
end

--- A host that does not exist, for Via and Contact of a client that cannot be
--- reached but through its connection (RFC 7118 appendix B.1).
---@return string such as "a3b4c5d6e7f8.invalid"
function random.host()
  return random.token(6) .. ".invalid"
end

return random
