-- SPDX-License-Identifier: MIT
-- Bitwise operations on unsigned 32-bit numbers, the same on 5.1, LuaJIT, 5.3
-- and 5.4: band, bor, bxor, bnot, rol.  Slow on 5.1; for handshakes and masks.

local M = {}

local native = [[
  local M = ...
  function M.band(a, b) return a & b end
  function M.bor(a, b) return a | b end
  function M.bxor(a, b) return a ~ b end
  function M.bnot(a) return ~a & 0xffffffff end
  function M.rol(a, n)
    return (a << n | a >> (32 - n)) & 0xffffffff
  end
]]

local function use_luajit(bit)
  local function unsigned(n)
    return n < 0 and n + 4294967296 or n
  end
  for name, from in pairs { band = "band", bor = "bor", bxor = "bxor",
                            bnot = "bnot", rol = "rol" } do
    local f = bit[from]
    M[name] = function(a, b) return unsigned(f(a, b)) end
  end
end

local function use_arithmetic()
  local function by_digit(rule)
    return function(a, b)
      local result, place = 0, 1
      for _ = 1, 32 do
        local x, y = a % 2, b % 2
        if rule(x + y) then result = result + place end
        a, b, place = (a - x) / 2, (b - y) / 2, place * 2
      end
      return result
    end
  end
  M.band = by_digit(function(sum) return sum == 2 end)
  M.bor = by_digit(function(sum) return sum > 0 end)
  M.bxor = by_digit(function(sum) return sum == 1 end)
  function M.bnot(a) return 4294967295 - a end
  function M.rol(a, n)
    local top = math.floor(a / 2 ^ (32 - n))
    return (a * 2 ^ n) % 4294967296 + top
  end
end

local chunk = (loadstring or load)(native)
local has_bit, bit = pcall(require, "bit")
if chunk then
  chunk(M)
elseif has_bit then
  use_luajit(bit)
else
  use_arithmetic()
end

return M
