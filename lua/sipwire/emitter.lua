-- SPDX-License-Identifier: MIT
-- Many listeners for one kind of news.

local interpreted = require "sipwire.interpreted"
local raise = require "sipwire.raise"

--- Listeners of one kind of event, called in the order they were added.
---@class sipwire.Emitter
local Emitter = {}
Emitter.__index = Emitter

local function new()
  return setmetatable({}, Emitter)
end

--- Adds a listener. Adding it twice has it called twice. A listener added
--- while an event is being told waits for the next event.
---@param listener fun(...): any
---@param options? { once: boolean } once: it is removed before its first call
function Emitter:add_listener(listener, options)
  if type(listener) ~= "function" then
    raise("listener must be a function, not " .. type(listener))
  end
  if options ~= nil and type(options) ~= "table" then
    raise("options must be a table, not " .. type(options))
  end
  for name, value in pairs(options or {}) do
    if name ~= "once" then
      raise("unknown option '" .. tostring(name) .. "'")
    elseif type(value) ~= "boolean" then
      raise("option 'once' must be a boolean, not " .. type(value))
    end
  end
  self[#self + 1] = { fn = listener, once = options and options.once }
end
interpreted(Emitter.add_listener)

--- Removes the first entry of a listener; unknown ones are ignored. One that
--- is removed while an event is being told is not called any more.
---@param listener fun(...): any
function Emitter:remove_listener(listener)
  if type(listener) ~= "function" then
    raise("listener must be a function, not " .. type(listener))
  end
  for i, entry in ipairs(self) do
    if entry.fn == listener then
      entry.removed = true
      table.remove(self, i)
      return
    end
  end
end

local function remove_entry(self, entry)
  for i, other in ipairs(self) do
    if other == entry then
      table.remove(self, i)
      return
    end
  end
end

-- Calls `call(fn)` for every listener there is now and still is when its turn
-- comes. Internal.
function Emitter:_each(call)
  local entries = {}
  for i = 1, #self do
    entries[i] = self[i]
  end
  for _, entry in ipairs(entries) do
    if not entry.removed then
      if entry.once then
        entry.removed = true
        remove_entry(self, entry)
      end
      call(entry.fn)
    end
  end
end

return new
