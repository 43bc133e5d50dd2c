-- SPDX-License-Identifier: MIT
-- luv as a host: see play.lua.

local uv = require "luv"

local M = {}

function M.attach(loop)
  require "sipwire.luv".attach(loop)
end

function M.every(seconds, fn)
  local timer = uv.new_timer()
  local ms = math.floor(seconds * 1000)
  timer:start(ms, ms, fn)
  return function() timer:stop() end
end

M.run, M.stop, M.ends_by_itself = uv.run, uv.stop, true

return M
