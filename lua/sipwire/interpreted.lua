-- SPDX-License-Identifier: MIT
-- Keeps functions with pairs() loops from being compiled: LuaJIT 2.1 of 2022
-- (Debian 12) loses keys there at times, in one of some hundred runs of a
-- script that made transports.

local jit = rawget(_G, "jit")

-- Returns the function.
return function(fn)
  if jit then
    jit.off(fn, true)
  end
  return fn
end
