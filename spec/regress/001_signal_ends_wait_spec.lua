-- SPDX-License-Identifier: MIT
-- libuv takes up its wait again when a signal interrupts it, so that Ctrl-C
-- did not reach a script that waited in run().

local helper = require "spec.helper"
local process = require "spec.support.process"
local uv = require "luv"

helper.watch()

local script = [[
  local sipwire = require "sipwire"
  assert(sipwire.listen { on_connection = function() end })
  io.stdout:write("waiting\n")
  io.stdout:flush()
  sipwire.run()
]]

describe("a script that waits in run()", function()
  it("is ended by one SIGINT, however long it has waited", function()
    local child = process.spawn(process.lua("-e", script))
    assert.are.equal("waiting", child:line(10))
    -- the first may come before the interpreter waits: it counts then too
    uv.kill(child.pid, "sigint")
    local code = child:wait(20)
    assert.are.equal(1, code)
    assert.is_truthy(child.stderr:find("interrupted!", 1, true), child.stderr)
  end)
end)
