-- SPDX-License-Identifier: MIT
-- The WebSocket server of node/server.mjs as a fixture; that file says which
-- paths and commands it knows and which events it reports.
--
-- local peer = node_server.start { tls = { cert = , key = , ca = , … },
--                                  ws = { … }, host = }
-- peer.ws  peer.wss  ports       peer:url([path])  peer:secure_url([path])
-- peer:event(name [, fields [, limit]])   the next report of that name, with
--                                these fields ({id = 3}); others stay
-- peer:seen(name [, fields])     how many such reports wait
-- peer:stop()

local run = require "spec.support.run"
local process = require "spec.support.process"

local M = {}
local peer = {}
peer.__index = peer

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

function M.start(options)
  local json = require "dkjson"
  options = options or {}
  local config = json.encode(setmetatable({ host = options.host,
    ws = options.ws, tls = options.tls }, { __jsontype = "object" }))
  local self = setmetatable({ host = options.host or "127.0.0.1",
    events = {} }, peer)
  self.process = process.spawn { "node", here .. "node/server.mjs", config }
  local ready = self.process:json(15)
  self.ws, self.wss = ready.ws, ready.wss
  return self
end

local function url(self, scheme, host, port, path)
  if self.host:find(":", 1, true) then host = "[" .. self.host .. "]" end
  return ("%s://%s:%d%s"):format(scheme, host, port, path or "/")
end

function peer:url(path) return url(self, "ws", self.host, self.ws, path) end

-- By name, which is what certificates are checked against.
function peer:secure_url(path)
  return url(self, "wss", "localhost", self.wss, path)
end

function peer:collect()
  while self.process.lines[1] do
    table.insert(self.events, self.process:json())
  end
end

local function fits(event, name, fields)
  for key, value in pairs(fields or {}) do
    if event[key] ~= value then return false end
  end
  return event.event == name
end

local function find(self, name, fields)
  self:collect()
  for i, event in ipairs(self.events) do
    if fits(event, name, fields) then return i end
  end
end

function peer:event(name, fields, limit)
  local at
  run.wait(function()
    at = find(self, name, fields)
    return at or self.process:ended()
  end, limit, function()
    return "report '" .. name .. "' of the node server; there are " ..
      require "dkjson".encode(self.events) .. self.process.stderr
  end)
  if not at then error("node ended: " .. self.process.stderr, 2) end
  return table.remove(self.events, at)
end

function peer:seen(name, fields)
  self:collect()
  local n = 0
  for _, event in ipairs(self.events) do
    if fits(event, name, fields) then n = n + 1 end
  end
  return n
end

function peer:stop() return self.process:stop() end

return M
