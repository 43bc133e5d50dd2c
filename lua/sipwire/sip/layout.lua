-- SPDX-License-Identifier: MIT
-- Where the header fields of a message are.
--
-- Design notes. Nearly every message has lines that end with CRLF and no blanks
-- before colons. In such a plain one a field of a common name is found when it
-- is asked for, by a search for its name in a copy in lower case: searches for
-- plain text are what Lua is fast at. What is not plain, other names, and
-- whoever wants all fields, go by an index of the lines. The first change
-- (change.lua) cuts out all values; from then on the index's arrays of names
-- and values are the message.
--
-- A place is what first() finds, to be used at once: as long as there is no
-- index, the position of the field's colon; then the field's number.

local names = require "sipwire.sip.names"
local scan = require "sipwire.sip.scan"

local byte, find, lower, match, sub = string.byte, string.find, string.lower,
  string.match, string.sub
local known, written = names.known, names.written

local layout = {}

local TAB, CR, SPACE = 9, 13, 32

-- ---- Plain messages ---------------------------------------------------------

-- What the line of a field begins with, by its name: long, short or nil.
local long, short = {}, {}
for _, id in ipairs(names.common) do
  long[id] = "\r\n" .. id .. ":"
end
for code = byte "a", byte "z" do
  local letter = string.char(code)
  if known[letter] then
    short[known[letter]] = "\r\n" .. letter .. ":"
  end
end

-- Takes a plain message; false if it is not plain. Its start line ends before
-- `stop`.
function layout.plain(self, stop)
  local text = self.text
  local last = find(text, "\r\n\r\n", stop, true)
  if not last then
    return false
  end
  local body_at = last + 4
  local head = lower(body_at > #text and text or sub(text, 1, last + 1))
  if find(head, " :", 1, true) or find(head, "\t:", 1, true) then
    return false
  end
  self.head, self.body_at = head, body_at
  return true
end

-- ---- The index --------------------------------------------------------------

-- What to make of a line that does not begin with one of the common names, as
-- the next field. Returns the field's name in lower case, if it is one; or
-- extends the field before, if that goes on here; or makes a note.
local function odd_line(index, text, at, colon, stop, length)
  local first, count = byte(text, at), index.count
  if first == SPACE or first == TAB then
    if index.stops[count] == at - length then
      index.stops[count] = stop
      return nil
    end
  elseif colon < stop then
    local name = match(text, "^([^%s:]+)[ \t]*:", at)
    if name then
      local id = names.canonical(name)
      if name ~= written[id] then
        index.spelled[count + 1] = name
      end
      return id
    end
  end
  index.odd[#index.odd + 1] = at
end

--- The lines of a message. Arrays by a field's number:
---@class sipwire.sip.Index
---@field count integer of fields
---@field ids string[] long names in lower case
---@field spelled table<integer, string> names as they are written, if that is
--- not the usual way; of a changed message all
---@field colons integer[] their positions
---@field stops integer[] where the line ends
---@field odd integer[] positions of lines that are no fields
---@field values? string[] of a changed message only, in place of positions

-- Finds the header fields, beginning at `at`, and the body. Lines end with
-- `line_end`.
local function read_lines(self, at, line_end)
  local text = self.text
  local beyond, length = #text + 1, #line_end
  local ids, spelled, colons, stops = {}, {}, {}, {}
  local index = { count = 0, ids = ids, spelled = spelled, colons = colons,
    stops = stops, odd = {} }
  local colon = at - 1
  self.body_at = beyond
  while at < beyond do
    local stop = find(text, line_end, at, true) or beyond
    if colon < at then
      colon = find(text, ":", at, true) or beyond
    end
    if stop == at or
      length == 1 and stop == at + 1 and byte(text, at) == CR then
      self.body_at = stop + length
      break
    end
    local name = colon < stop and sub(text, at, colon - 1)
    local id = known[name]
    if id and written[id] ~= name then
      spelled[index.count + 1] = name
    end
    id = id or odd_line(index, text, at, colon, stop, length)
    if id then
      local i = index.count + 1
      index.count = i
      ids[i], colons[i], stops[i] = id, colon, stop
    end
    at = stop + length
  end
  self.index, self.head = index, false
  return index
end
layout.read_lines = read_lines

-- The index, which is made if there is none.
---@return sipwire.sip.Index
function layout.index(self)
  return self.index or read_lines(self, self.start_last + 3, "\r\n")
end

-- ---- Finding, reading -------------------------------------------------------

-- The colon behind the next name like that, or nil.
local function colon_after(head, name, at)
  if name then
    local _, colon = find(head, name, at, true)
    return colon
  end
end

-- The place of the first field of that name, or nil.
function layout.first(self, id)
  local index, name = self.index, long[id]
  if name and not index then
    local at = colon_after(self.head, name, 1)
    local other = colon_after(self.head, short[id], 1)
    return other and not (at and at < other) and other or at
  end
  index = index or layout.index(self)
  for i = 1, index.count do
    if index.ids[i] == id then
      return i
    end
  end
end

-- The value of a plain message's field that is not so plain: from its colon on,
-- with the lines that go on with it.
local function folded(text, colon)
  local stop = find(text, "\r\n", colon, true)
  while find(text, "^[ \t]", stop + 2) do
    stop = find(text, "\r\n", stop + 2, true)
  end
  return scan.trim(scan.unfold(sub(text, colon + 1, stop - 1)))
end

-- The value: without blanks around it, in one line. (What is no line end here
-- may be one for others.)
function layout.value(self, place)
  local text, index = self.text, self.index
  if not index then
    local stop = find(text, "\r", place, true)
    if find(text, "\n", place, true) == stop + 1 then
      local first, second = byte(text, place + 1, place + 2)
      local last, _, _, next_line = byte(text, stop - 1, stop + 2)
      if first == SPACE and second > SPACE and last > SPACE and
        next_line ~= SPACE and next_line ~= TAB then
        return sub(text, place + 2, stop - 1)
      end
    end
    return folded(text, place)
  elseif index.values then
    return index.values[place]
  end
  return scan.trim(scan.unfold(sub(text, index.colons[place] + 1,
    index.stops[place] - 1)))
end

-- The values of all fields of that name, in order.
function layout.all(self, id)
  local index, name, found = self.index, long[id], {}
  if name and not index then
    -- two cursors, so that no search is done again
    local head, letter = self.head, short[id]
    local at, other = colon_after(head, name, 1), colon_after(head, letter, 1)
    while at or other do
      if at and not (other and other < at) then
        found[#found + 1] = layout.value(self, at)
        at = colon_after(head, name, at)
      else
        found[#found + 1] = layout.value(self, other)
        other = colon_after(head, letter, other)
      end
    end
    return found
  end
  index = index or layout.index(self)
  for i = 1, index.count do
    if index.ids[i] == id then
      found[#found + 1] = layout.value(self, i)
    end
  end
  return found
end

-- The name of field number `i` as it is written.
function layout.name(self, i)
  local index = self.index
  return index.spelled[i] or written[index.ids[i]]
end

return layout
