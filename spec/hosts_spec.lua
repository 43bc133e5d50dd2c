-- SPDX-License-Identifier: MIT
-- What every host must be able to do (spec/support/hosts/play.lua), in the real
-- ones: each in a process of its own, all of them at once.

local helper = require "spec.helper"
local json = require "dkjson"
local process = require "spec.support.process"

helper.watch()

local LIMIT = 60

-- Those that Debian has for this Lua.
local hosts = { "luv", "cqueues", "cqueues_poll" }
if _VERSION == "Lua 5.1" then hosts[#hosts + 1] = "copas" end
if _VERSION == "Lua 5.4" then hosts[#hosts + 1] = "prosody" end

-- The names of the scenarios, as play.lua has them.
local function names()
  local found = {}
  local path = helper.root .. "/spec/support/hosts/play.lua"
  for line in io.lines(path) do
    local indent, name = line:match '^( *)scenario%("([^"]+)"'
    if name then
      found[#found + 1] = { name = name, conditional = indent ~= "" }
    end
  end
  return found
end

local function play(host)
  local command = process.lua("spec/support/hosts/play.lua", host)
  command.cwd, command.as_is = helper.root, true
  command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  return process.spawn(command)
end

-- One line for each scenario, in order.
local function results(p)
  local found = {}
  for line in p:output(LIMIT):gmatch "[^\n]+" do
    local result = json.decode(line)
    found[result.name] = result.error or "went well"
  end
  found.code = p:wait(LIMIT)
  return found
end

describe("a loop in", function()
  local outcome

  -- Played by the first spec that asks, and seen by all.
  local function played()
    if not outcome then
      local running = {}
      for _, host in ipairs(hosts) do running[host] = play(host) end
      outcome = {}
      for _, host in ipairs(hosts) do
        outcome[host] = results(running[host])
        outcome[host].stderr = running[host].stderr
      end
    end
    return outcome
  end

  for _, host in ipairs(hosts) do
    describe(host, function()
      for _, each in ipairs(names()) do
        local ends = host == "luv" or host == "cqueues"
        if ends or not each.conditional then
          it(": " .. each.name, function()
            local got = played()[host]
            assert.equal("went well", got[each.name] or "not played",
              got.stderr)
          end)
        end
      end

      it(": its program ends well and prints no errors", function()
        local got = played()[host]
        assert.same({ 0, "" }, { got.code, got.stderr })
      end)
    end)
  end
end)
