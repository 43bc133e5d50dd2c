-- SPDX-License-Identifier: MIT
-- The fault matrix, third part: text that is not UTF-8, wherever the bad byte
-- is and however the text is cut (C20, R27).  Columns: what the server does
-- (hostile.py), code and phase told, close code sent; see support/fault.lua.

local fault = require "spec.support.fault"

fault.suite(function()

local function hex(text)
  return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

local function bad(text, how, at)
  return { ("text %s %s %s"):format(hex(text), how, at or ""), "utf8", "open",
           1007 }
end

-- Each ends with the byte that makes it wrong.
local sequences = {
  "\128", "\191", "\192\128", "\193\191", "\194A", "\224\159\191",
  "\224\160A", "\237\160\128", "\237\191\191", "\239\191\195",
  "\240\143\191\191", "\240\159\152A", "\244\144\128\128", "\245\128\128\128",
  "\248\136\128\128\128", "\254", "\255",
}

-- Without their end.
local stumps = { "\195", "\226", "\226\130", "\240", "\240\159", "\240\159\152",
                 "\244\143\191" }

fault.matrix("bad sequences", (function()
  local rows = {}
  for _, text in ipairs(sequences) do
    table.insert(rows, bad(text, "frame"))
    table.insert(rows, bad("\195\164" .. text, "early"))
  end
  for _, text in ipairs(stumps) do table.insert(rows, bad(text, "frame")) end
  return rows
end)(), { tag = "#slow" })

fault.matrix("bad sequences that are cut", (function()
  local rows = {}
  local function cut(text, last)
    for at = 1, last do
      table.insert(rows, bad(text, "fragments", at))
      table.insert(rows, bad(text, "bytes", at))
    end
  end
  for _, text in ipairs(sequences) do cut(text, #text - 1) end
  -- the end of the message is what is wrong
  for _, text in ipairs(stumps) do cut(text, #text) end
  return rows
end)(), { tag = "#slow" })

-- Whatever the step of a validator is that looks at many bytes at once.
fault.matrix("a bad byte at every position", (function()
  local rows = {}
  for at = 0, 33 do
    local text = ("a"):rep(at) .. "\255" .. ("b"):rep(33 - at)
    table.insert(rows, bad(text, "frame"))
    table.insert(rows, bad(text, "early"))
    table.insert(rows, bad(text, "fragments", at))
  end
  return rows
end)(), { tag = "#slow" })

end)
