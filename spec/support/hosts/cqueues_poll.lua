-- SPDX-License-Identifier: MIT
-- cqueues as a host that polls the loop object as it is: see play.lua.

local cqueues = require "cqueues"
local base = require "spec.support.hosts.cqueues"

local M = setmetatable({ ends_by_itself = false }, { __index = base })
local closed = {}

function M.attach(loop)
  base.wrap(function()
    while not closed[loop] do
      cqueues.poll(loop)
      if not closed[loop] then loop:step(0) end
    end
  end)
end

function M.before_close(loop)
  closed[loop] = true
  cqueues.cancel(loop:pollfd())
end

return M
