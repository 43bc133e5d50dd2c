-- SPDX-License-Identifier: MIT
-- cqueues as a host, with sipwire.cqueues: see play.lua.

local cqueues = require "cqueues"

local M = { ends_by_itself = true }
local controller = cqueues.new()
local stopped

function M.attach(loop)
  require "sipwire.cqueues".attach(controller, loop)
end

function M.wrap(fn)
  controller:wrap(fn)
end

function M.every(seconds, fn)
  local on = true
  controller:wrap(function()
    local due = cqueues.monotime() + seconds
    while on do
      cqueues.sleep(math.max(0, due - cqueues.monotime()))
      due = due + seconds
      if on then fn() end
    end
  end)
  return function() on = false end
end

function M.run()
  stopped = false
  while not stopped and not controller:empty() do
    assert(controller:step())
  end
end

function M.stop() stopped = true end

return M
