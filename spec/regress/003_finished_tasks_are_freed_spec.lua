-- SPDX-License-Identifier: MIT
-- On Lua 5.1 and LuaJIT, which know no ephemerons, every task was kept for
-- ever by the table that knows the running one.

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

describe("a task that has ended", function()
  it("can be collected, and so can its loop", function()
    local kept = setmetatable({}, { __mode = "k" })
    do
      local loop = sipwire.loop()
      kept[loop] = true
      for _ = 1, 100 do
        loop:spawn(function()
          kept[coroutine.running()] = true
          sipwire.sleep(0)
        end)
      end
      assert.is_true(loop:run())
      assert(loop:close())
    end
    collectgarbage()
    collectgarbage()
    assert.is_nil(next(kept))
  end)
end)
