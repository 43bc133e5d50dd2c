-- SPDX-License-Identifier: MIT
-- Programs that a page of docs/ prints, so that specs run what users read.
--
-- page.blocks(path, language)    contents of its fenced blocks, in order
-- page.load(path, n, ...)        runs its n-th Lua block with these arguments

local helper_root = debug.getinfo(1, "S").source
  :match "^@(.*)/spec/support/[^/]*$" or "."

local M = {}

local function read(path)
  local file = assert(io.open(helper_root .. "/" .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

function M.blocks(path, language)
  local found = {}
  for text in ("\n" .. read(path)):gmatch("\n```" .. language .. "\n(.-\n)```")
  do
    found[#found + 1] = text
  end
  return found
end

function M.load(path, n, ...)
  local block = assert(M.blocks(path, "lua")[n], path .. " has no such block")
  return assert((loadstring or load)(block, "=" .. path))(...)
end

return M
