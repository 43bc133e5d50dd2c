-- SPDX-License-Identifier: MIT
-- SIPp beside a Kamailio (see kamailio.lua), over UDP; its scenarios are in
-- the folder sipp.
--
-- sipp.called(k [, calls]) -> s     is called so often (1): s.uri
-- sipp.caller(k, user [, calls]) -> s   calls that user of |k|
-- s:finish()   waits for its end; raises unless all calls went as they should

local helper = require "spec.helper"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

local M = {}
local sipp = {}
sipp.__index = sipp

local here = debug.getinfo(1, "S").source:match "^@(.*/)" or "./"

local function start(scenario, k, calls, more)
  local s = setmetatable({ dir = helper.tmpdir() }, sipp)
  local free = rawpeer.refusing()
  s.port = free.port
  free:close()
  local command = { "/usr/bin/sipp", "127.0.0.1:" .. k.sip, "-sf",
    here .. "sipp/" .. scenario .. ".xml", "-i", "127.0.0.1", "-p", s.port,
    "-m", calls or 1, "-nostdin", "-trace_err", "-timeout", "30",
    "-timeout_error", cwd = s.dir, env = { TERM = "dumb" } }
  for _, word in ipairs(more or {}) do command[#command + 1] = word end
  s.process = process.spawn(command)
  return s
end

-- Whether anybody has that UDP port.
local function is_bound(port)
  local pattern = (":%04X 00000000:0000 "):format(port)
  local file = assert(io.open "/proc/net/udp")
  local text = file:read "*a"
  file:close()
  return text:find(pattern, 1, true) ~= nil
end

function M.called(k, calls)
  local s = start("uas", k, calls)
  s.uri = "sip:sipp@127.0.0.1:" .. s.port
  run.wait(function() return s.process.code or is_bound(s.port) end, 10,
    "SIPp at its port")
  return s
end

function M.caller(k, user, calls)
  return start("uac", k, calls, { "-s", user, "-r", "50" })
end

function sipp:finish()
  local code = self.process:wait(35)
  if code ~= 0 then
    error(("SIPp ended with %s\n%s%s"):format(code, self.process:output(),
      self.process.stderr), 2)
  end
end

return M
