-- SPDX-License-Identifier: MIT
-- Changes of messages, and their text afterwards.

local messages = require "sipwire.sip.message"
local names = require "sipwire.sip.names"
local raise = require "sipwire.raise"
local scan = require "sipwire.sip.scan"

local find = string.find
local canonical, forget, seek = messages.canonical, messages.forget,
  messages.seek
local name_of, value_of = messages.name_of, messages.value_of
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
  table.insert(self.ids, i, id)
  table.insert(self.spelled, i, name)
  table.insert(self.values, i, value)
  self.count = self.count + 1
  forget(self, id)
end

-- Removes the fields of that name, from number `from` on.
local function drop(self, id, from)
  local kept = from - 1
  for i = from, self.count do
    local keep = self.ids[i] ~= id
    if keep then
      kept = kept + 1
      self.ids[kept], self.spelled[kept], self.values[kept] =
        self.ids[i], self.spelled[i], self.values[i]
    end
  end
  for i = self.count, kept + 1, -1 do
    self.ids[i], self.spelled[i], self.values[i] = nil, nil, nil
  end
  self.count = kept
  forget(self, id)
end

local function replace(self, id, name, value)
  local i = seek(self, id, 1)
  if i then
    drop(self, id, i + 1)
    self.values[i] = value
  else
    insert(self, self.count + 1, id, name, value)
  end
end

local function put_length(self)
  replace(self, "content-length", "Content-Length",
    ("%d"):format(#self.content))
end

-- Before a change: all is cut out, the text counts no more.
local function loosen(self)
  if self.text then
    self.content = self.body
    local spelled, cut = {}, {}
    for i = 1, self.count do
      spelled[i], cut[i] = name_of(self, i), value_of(self, i)
    end
    self.spelled, self.values = spelled, cut
    for i = #self.ids, self.count + 1, -1 do
      self.ids[i] = nil
    end
    self.text = nil
    if seek(self, "content-length", 1) then
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
  local at = self.count + 1
  for i = self.count, 1, -1 do
    if self.ids[i] == id then
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
  if seek(self, id, 1) then
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
  self.content = text
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
  local lines = { start_of(self) }
  for i = 1, self.count do
    lines[i + 1] = self.spelled[i] .. ": " .. self.values[i]
  end
  lines[#lines + 1] = "\r\n" .. self.content
  return table.concat(lines, "\r\n")
end

-- A message from its start line's fields, header fields { name, value } and a
-- body; all of it checked before.
function change.make(start, uri_text, headers, body)
  local self = { fields = start, uri_text = uri_text, content = body,
    count = #headers, ids = {}, spelled = {}, values = {}, text = nil }
  for i, field in ipairs(headers) do
    self.ids[i] = names.canonical(field[1])
    self.spelled[i], self.values[i] = field[1], field[2]
  end
  return setmetatable(self, Message)
end

return change
