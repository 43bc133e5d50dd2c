-- SPDX-License-Identifier: MIT
-- What got past the guards left a loop that said for ever that it was running:
-- an error object that cannot be told, and Ctrl-C.

local sipwire = require "sipwire"
local helper = require "spec.helper"
local process = require "spec.support.process"
local uv = require "luv"

helper.watch()

describe("a loop", function()
  it("tells of error objects that raise when asked for words (C47)", function()
    local loop, told, fired = sipwire.loop(), {}, false
    local bad = setmetatable({}, { __tostring = function() error("boom") end })
    loop.on_error = function(err, _, name)
      told[#told + 1] = name .. ": " .. err:match("^[^\n]*")
    end
    loop:spawn(function() error(bad) end)
    loop:defer(function() error(bad) end)
    loop:timer(0.001, function() fired = true end)
    assert.is_true(loop:run())
    assert.is_true(fired)
    table.sort(told)
    assert.are.same({ "defer: (an error object of type table)",
      "task: (an error object of type table)" }, told)
    assert(loop:close())
  end)

  it("can be run again after Ctrl-C", function()
    local child = process.spawn(process.lua("-e", [[
      local sipwire = require "sipwire"
      local loop = sipwire.loop()
      local timer = loop:timer(600, print)
      io.stdout:write("waiting\n")
      io.stdout:flush()
      local ok, err = pcall(loop.run, loop)
      assert(not ok and tostring(err):find("interrupted!", 1, true), err)
      timer:stop()
      local second
      loop:timer(0, function() second = true end)
      assert(loop:run())
      assert(second)
      print("again")
    ]]))
    assert.are.equal("waiting", child:line(10))
    child:wait_asleep(20) -- in run(): before that Ctrl-C ends the script
    uv.kill(child.pid, "sigint")
    assert.are.equal("again", child:line(20))
    assert.are.equal(0, (child:wait(20)))
  end)
end)
