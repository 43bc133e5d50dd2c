-- SPDX-License-Identifier: MIT
-- Errors about what a user gave, told of where the user gave it.

-- ".../lua/sipwire/" and ".../lua/sipwire.lua" are the library.
local own = debug.getinfo(1, "S").source:match("^(.*[/\\])[^/\\]*$") or
  "@sipwire/"
local facade = own:sub(1, -2) .. ".lua"

local function is_ours(info)
  return info.what == "C" or info.what == "tail" or
    info.source:sub(1, #own) == own or info.source == facade
end

-- Raises an error with the position of the innermost function that is not the
-- library's. (A fixed level would count tail calls, which every Lua does in
-- its own way.)
local function raise(format, ...)
  local level = 2
  local info = debug.getinfo(level, "S")
  while info and is_ours(info) do
    level = level + 1
    info = debug.getinfo(level, "S")
  end
  error(select("#", ...) > 0 and format:format(...) or format,
    info and level or 0)
end

return raise
