-- SPDX-License-Identifier: MIT
-- Requests that came: for the function that was set for their method, or for
-- whoever asks for the next one.

local await = require "sipwire.ua.await"
local loops = require "sipwire.loop"
local options = require "sipwire.options"
local raise = require "sipwire.raise"
local waiting = require "sipwire.waiting"

local Inbox = {}
Inbox.__index = Inbox

--- |patience|: seconds that a request is kept for somebody to ask for it.
local function new(loop, patience)
  return setmetatable({ loop = loop, patience = patience, handlers = {},
    queue = {}, waiters = waiting.new() }, Inbox)
end

--- Sets or, with nil, takes away the function for a method.
function Inbox:on(method, fn)
  if type(method) ~= "string" or not method:find "^[%w%-%.!%%%*_%+`'~]+$" then
    raise("on(): the method must be a name, not %s", tostring(method))
  end
  self.handlers[method:upper()] = options.callback(fn, "fn")
end

-- What it raises is told to the loop; nobody else is to wait for an answer.
local function run(self, fn, req)
  self.loop:_spawn(function(err, traceback)
    req:_fail()
    self.loop:_report(loops.describe(err) .. traceback, nil,
      req.method .. " handler")
  end, fn, req)
end

local function remove(self, entry)
  for i, each in ipairs(self.queue) do
    if each == entry then
      table.remove(self.queue, i)
      return true
    end
  end
end

local function keep(self, req, refuse)
  local entry, seconds = { req = req }, self.patience
  if #self.waiters > 0 then -- woken in the next tick, they come for it
    seconds = math.max(seconds, 1)
  end
  entry.timer = self.loop:_timer(math.ceil(seconds * 1000), function()
    if remove(self, entry) then
      self.loop:_call(nil, "refusal", refuse, req)
    end
  end)
  self.queue[#self.queue + 1] = entry
  self.waiters:wake_all_later()
end

--- Whether anybody takes requests of this method.
function Inbox:takes(method)
  return self.handlers[method] ~= nil or self.asked or false
end

--- Hands a request to whom it belongs; refuse(req) is called when nobody asked
--- for it in time.
function Inbox:take(req, refuse)
  local fn = self.handlers[req.method]
  if fn then
    run(self, fn, req)
  elseif self.ended or self.patience == 0 and #self.waiters == 0 then
    refuse(req)
  else
    keep(self, req, refuse)
  end
end

--- Waits for the next request.
---@return table|nil req
---@return string|nil err
---@return string|nil code
---@return table|nil info
function Inbox:receive(timeout)
  self.asked = true
  local result = await(self.waiters, "receive", timeout, function()
    local entry = table.remove(self.queue, 1)
    if entry then
      entry.timer:stop()
      return { entry.req }
    end
    return self.ended
  end)
  if not result then
    return nil, ("timeout: no request within %g s"):format(timeout), "timeout",
      {}
  end
  return result[1], result[2], result[3], result[4]
end

--- From now on receive() says this, when it has given what came before.
function Inbox:finish(err, code, info)
  if not self.ended then
    self.ended = { nil, err, code, info or {} }
    self.waiters:wake_all_later()
  end
end

--- Takes that back.
function Inbox:reopen()
  self.ended = nil
end

return { new = new }
