-- SPDX-License-Identifier: MIT
-- Lua programs that specs give as text, each run by a process of its own, with
-- this Lua and these modules.
--
-- program.run(text)              exit code, output, what it wrote to stderr
-- program.prints(expected, text) a body for it(): the program prints that,
--                                nothing to stderr, and ends well by itself
-- program.start(text, ...)       the running process; it has arguments
-- program.head                   text that both put before it

local process = require "spec.support.process"

local M = { head = "" }

local function command(...)
  local words = process.lua(...)
  words.as_is = true -- for sanitized modules
  words.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  return words
end

function M.run(text)
  local words = command "-"
  words.input, words.limit = M.head .. text, 20
  return process.run(words)
end

function M.prints(expected, text)
  local head = M.head
  return function()
    M.head = head
    local code, out, err = M.run(text)
    assert(code == 0 and err == "" and out == expected,
      ("exit code %s, stderr: %s\nprinted: %s\ninstead of: %s"):format(
        tostring(code), err, out, expected))
  end
end

function M.start(text, ...)
  local p = process.spawn(command("-", ...))
  p:write(M.head .. text)
  p:close_stdin()
  return p
end

return M
