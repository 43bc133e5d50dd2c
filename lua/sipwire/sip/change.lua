-- SPDX-License-Identifier: MIT
-- Changes of messages, and their text afterwards.

local layout = require "sipwire.sip.layout"
local messages = require "sipwire.sip.message"
local names = require "sipwire.sip.names"
local raise = require "sipwire.raise"
local scan = require "sipwire.sip.scan"

local find = string.find
local canonical, forget = messages.canonical, messages.forget
local first = layout.first
local Message = messages.Message

local change = {}

-- Text for the wire from what a user gave.
local function value_text(value, what)
  local meta = type(value) == "table" and getmetatable(value)
  if meta and meta.__tostring then
    value = tostring(value)
  elseif type(value) == "number" and value % 1 == 0 then
    value = ("%.0f"):format(value)
  elseif type(value) ~= "string" then
    raise("%s must be a string, not %s", what,
      type(value) == "number" and "a fraction" or type(value))
  end
  if find(value, "[\r\n%z]") then
    raise("%s has a line end or a NUL byte", what)
  end
  return value
end
change.value_text = value_text

local function checked(name, value)
  local id = canonical(name)
  if not scan.is_token(name) then
    raise("'%s' is no name of a header field", name)
  end
  return id, scan.trim(value_text(value, "the value of '" .. name .. "'"))
end

local function insert(self, i, id, name, value)
  local index = self.index
  table.insert(index.ids, i, id)
  table.insert(index.spelled, i, name)
  table.insert(index.values, i, value)
  index.count = index.count + 1
  forget(self, id)
end

-- Removes the fields of that name, from number `from` on.
local function drop(self, id, from)
  local index = self.index
  local ids, spelled, values = index.ids, index.spelled, index.values
  local kept = from - 1
  for i = from, index.count do
    if ids[i] ~= id then
      kept = kept + 1
      ids[kept], spelled[kept], values[kept] = ids[i], spelled[i], values[i]
    end
  end
  for i = index.count, kept + 1, -1 do
    ids[i], spelled[i], values[i] = nil, nil, nil
  end
  index.count = kept
  forget(self, id)
end

local function replace(self, id, name, value)
  local i = first(self, id)
  if i then
    drop(self, id, i + 1)
    self.index.values[i] = value
  else
    insert(self, self.index.count + 1, id, name, value)
  end
end

local function put_length(self)
  replace(self, "content-length", "Content-Length",
    ("%d"):format(#self.body))
end

-- Before a change: all is cut out, the text counts no more.
local function loosen(self)
  if self.text then
    local index = layout.index(self)
    local spelled, values = {}, {}
    for i = 1, index.count do
      spelled[i], values[i] = layout.name(self, i), layout.value(self, i)
    end
    local _ = self.body -- is in `fields` from now on
    self.index = { count = index.count, ids = index.ids, spelled = spelled,
      values = values }
    self.text = false
    if first(self, "content-length") then
      put_length(self)
    end
  end
end

local function not_length(id, what)
  if id == "content-length" then
    raise("Content-Length cannot be %s: set_body() does it", what)
  end
end

--- Puts a header field in the place of all those of that name, or at the end.
---@param name string
---@param value string|number|table what tostring() makes text of; a CR, LF or
--- NUL in it raises
---@return sipwire.sip.Message self
function Message:set(name, value)
  local id, text = checked(name, value)
  not_length(id, "set")
  loosen(self)
  replace(self, id, name, text)
  return self
end

--- Adds a header field behind the last one of that name, or at the end.
---@param name string
---@param value string|number|table as for set
---@return sipwire.sip.Message self
function Message:add(name, value)
  local id, text = checked(name, value)
  not_length(id, "added")
  loosen(self)
  local ids, at = self.index.ids, self.index.count + 1
  for i = at - 1, 1, -1 do
    if ids[i] == id then
      at = i + 1
      break
    end
  end
  insert(self, at, id, name, text)
  return self
end

--- Puts a header field before all others.
---@param name string
---@param value string|number|table as for set
---@return sipwire.sip.Message self
function Message:prepend(name, value)
  local id, text = checked(name, value)
  not_length(id, "added")
  loosen(self)
  insert(self, 1, id, name, text)
  return self
end

--- Removes all header fields of that name.
---@param name string
---@return sipwire.sip.Message self
function Message:remove(name)
  local id = canonical(name)
  if first(self, id) then
    loosen(self)
    drop(self, id, 1)
  end
  return self
end

--- Sets the body and Content-Length, and Content-Type if given. An empty body
--- has no Content-Type.
---@param text string
---@param content_type? string
---@return sipwire.sip.Message self
function Message:set_body(text, content_type)
  if type(text) ~= "string" then
    raise("a body must be a string, not %s", type(text))
  end
  if content_type ~= nil then
    content_type = value_text(content_type, "the content type")
  end
  loosen(self)
  if text == "" then
    drop(self, "content-type", 1)
  elseif content_type then
    replace(self, "content-type", "Content-Type", content_type)
  end
  self.fields.body = text
  put_length(self)
  return self
end

local function start_of(self)
  local start = self.fields
  if start.is_request then
    return ("%s %s %s"):format(start.method, self.uri_text, start.version)
  end
  return ("%s %d %s"):format(start.version, start.status, start.reason)
end

function Message:__tostring()
  if self.text then
    return self.text
  end
  local lines, index = { start_of(self) }, self.index
  for i = 1, index.count do
    lines[i + 1] = index.spelled[i] .. ": " .. index.values[i]
  end
  lines[#lines + 1] = "\r\n" .. self.body
  return table.concat(lines, "\r\n")
end

-- A message from its start line's fields, header fields { name, value } and a
-- body; all of it checked before.
function change.make(start, uri_text, headers, body)
  local ids, spelled, values = {}, {}, {}
  for i, field in ipairs(headers) do
    ids[i], spelled[i], values[i] = names.canonical(field[1]), field[1],
      field[2]
  end
  start.body = body
  return setmetatable({ text = false, fields = start, uri_text = uri_text,
    index = { count = #headers, ids = ids, spelled = spelled,
    values = values } }, Message)
end

return change
