-- SPDX-License-Identifier: MIT
-- The hostile server (hostile.py, which says what it can do) as a child.
--
-- hostile.start() -> server, to be stopped by server:stop()
-- server:listen(scheme, words) -> listener
--   |words|: a behaviour and its arguments, separated by spaces
--   listener.url       nil until the server has told the port
--   listener.reports   what it told of its clients so far, by number
--   listener:open()    asks to let clients in from now on (refusing, full)
--   listener.opened    whether that was done
-- server:poll()        takes what it told; raises if it failed
-- server:await(condition [, limit [, what]])   polls meanwhile

local helper = require "spec.helper"
local process = require "spec.support.process"
local run = require "spec.support.run"

local M = {}
local server, listener = {}, {}
server.__index, listener.__index = server, listener

function M.start()
  local certs = helper.certs()
  local self = setmetatable({ listeners = {}, count = 0 }, server)
  self.process = process.spawn { "python3",
    helper.root .. "/spec/support/hostile.py",
    certs .. "/server.pem", certs .. "/server.key" }
  return self
end

function server:stop() return self.process:stop() end

local function take(self, told)
  local one = self.listeners[told.listening or told.opened or told.id]
  if told.error then error(one.words .. ": " .. told.error, 0) end
  if told.listening then
    one.url = ("%s://127.0.0.1:%d/sip"):format(one.scheme, told.port)
  end
  if told.opened then one.opened = true end
  if told.id then one.reports[told.n] = told end
end

function server:poll()
  local p = self.process
  while p.lines[1] do take(self, p:json()) end
  if p.code then error("hostile.py ended\n" .. p.stderr, 0) end
end

-- Waits for condition(), and for what the server tells meanwhile.
function server:await(condition, limit, what)
  return run.wait(function()
    self:poll()
    return condition()
  end, limit, what)
end

function server:listen(scheme, words)
  self.count = self.count + 1
  local one = setmetatable({ server = self, id = tostring(self.count),
    scheme = scheme, words = words, reports = {} }, listener)
  self.listeners[one.id] = one
  self.process:write(("listen %s %s %s\n"):format(one.id, scheme, words))
  return one
end

function listener:open()
  self.server.process:write(("open %s\n"):format(self.id))
end

return M
