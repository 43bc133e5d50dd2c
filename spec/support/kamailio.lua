-- SPDX-License-Identifier: MIT
-- A private Kamailio as a fixture; kamailio/kamailio.cfg says which defines,
-- users and paths there are.
--
-- local k = kamailio.start { defines = { "NO_AUTH", "IDLE_PING=3" }, dir = }
-- k.ws k.wss k.mtls k.expired k.wrong_host k.sip   ports
-- k.certs                     directory of its certificates (see certs.sh)
-- k:url([path])  k:secure_url([path [, port]])
-- k:rpc(method, ...)          kamcmd's output; raises if it failed
-- k:log()                     what Kamailio wrote
-- k:stop()                    returns when all its processes are gone

local process = require "spec.support.process"

local M = {}
local kamailio = {}
kamailio.__index = kamailio

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"
local script = here .. "kamailio/kamailio.sh"

-- |options.dir| is an existing directory with a short name.  |options.port| is
-- the first of its six ports (an earlier one's k.ws); default: free ones.
function M.start(options)
  local self = setmetatable({ dir = options.dir }, kamailio)
  local command = { script, "run", self.dir, env = {
    KAMAILIO_CERTS = options.certs or self.dir .. "/certs",
    KAMAILIO_PORT = options.port } }
  for _, define in ipairs(options.defines or {}) do
    command[#command + 1] = define
  end
  self.process = process.spawn(command)
  for name, value in self.process:line(30):gmatch "([%w_]+)=(%S+)" do
    self[name] = tonumber(value) or value
  end
  return self
end

function kamailio:url(path)
  return ("ws://127.0.0.1:%d%s"):format(self.ws, path or "/")
end

function kamailio:secure_url(path, port)
  return ("wss://localhost:%d%s"):format(port or self.wss, path or "/")
end

function kamailio:rpc(...)
  local code, out, err = process.run { script, "rpc", self.dir, ... }
  if code ~= 0 or out:match "^error:" then error(out .. err, 2) end
  return out
end

function kamailio:log()
  local file = assert(io.open(self.dir .. "/log"))
  local text = file:read "*a"
  file:close()
  return text
end

function kamailio:stop() return self.process:stop(15) end

return M
