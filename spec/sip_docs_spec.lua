-- SPDX-License-Identifier: MIT
-- docs/sip.md: its programs run, what it lists is there; annotations.

local build = require "sipwire.sip.build"
local helper = require "spec.helper"
local sip = require "sipwire.sip"

local file = assert(io.open(helper.root .. "/docs/sip.md"))
local page = file:read "*a"
file:close()

local printed = {
  { "REGISTER sip:example.com SIP/2.0", "\n200\nREGISTER\nz9hG4bK", "alice" },
  { "200\nz9hG4bK1\n5\na line ends with LF only", "nil\nheader: a line" },
  { "alice\nexample.com\n5060\nws\ntrue" },
  { "Subject: greeting", "Content%-Length: 13", "false\n.*line end or a NUL" },
}

describe("docs/sip.md #text", function()
  it("has programs that run", function()
    local count = 0
    for program in page:gmatch "```lua\n(.-)```" do
      local out = {}
      local environment = setmetatable({ print = function(...)
        for i = 1, select("#", ...) do
          out[#out + 1] = tostring((select(i, ...)))
        end
      end }, { __index = _G })
      local fn = assert((loadstring or load)(program, "docs/sip.md"))
      if setfenv then
        setfenv(fn, environment)
      else
        debug.setupvalue(fn, 1, environment)
      end
      fn()
      count = count + 1
      for _, text in ipairs(printed[count]) do
        assert.is_truthy(table.concat(out, "\n"):find(text), text)
      end
    end
    assert.equal(#printed, count)
  end)

  it("names every option", function()
    for class, spec in pairs(build.known) do
      for name in pairs(spec) do
        assert.is_truthy(page:find("`" .. name .. "`", 1, true) or
          page:find(name .. " = ", 1, true), class .. ": " .. name)
      end
    end
    for name in pairs(sip) do
      assert.is_truthy(page:find("sip." .. name, 1, true), name)
    end
  end)

  it("names every field", function()
    for line in io.lines(helper.root .. "/lua/sipwire/sip/message.lua") do
      local name = line:match "^%-%-%-@field ([%w_]+)"
      if name then
        assert.is_truthy(page:find("`m." .. name, 1, true), name)
      end
    end
    for name in pairs(require "sipwire.sip.message".Message) do
      assert.is_truthy(name:find "^__" or page:find("m:" .. name, 1, true),
        name)
    end
  end)
end)
