-- SPDX-License-Identifier: MIT
-- Chance that is the same on each Lua, from a seed.
--
-- local random = M.new(seed)
-- random(n)            1 to n
-- random:of(list)      one of them
-- random:chance(n)     true once in n times

local M = {}
local random = {}
random.__index = random

-- Park and Miller's; all products are exact in a double.
function random:__call(n)
  self.state = self.state * 16807 % 2147483647
  return self.state % n + 1
end

function random:of(list) return list[self(#list)] end

function random:chance(n) return self(n) == 1 end

function M.new(seed)
  local self = setmetatable({ state = seed * 7919 % 2147483646 + 1 }, random)
  for _ = 1, 10 do self(2) end
  return self
end

return M
