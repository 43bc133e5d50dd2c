-- SPDX-License-Identifier: MIT
-- Servers of others as private instances: on a port of 127.0.0.1 that was
-- free, with files in a directory of their own.
--
-- daemon.nginx(config [, files]) -> d       config: what stands in http { };
--   PORT and SECURE_PORT in it become ports, DIR the directory
-- daemon.tinyproxy([config]) -> d           more lines of its configuration
--   d.port  d.secure_port  d.dir  d.process (see process.lua)

local helper = require "spec.helper"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"

local M = {}

local function free_port()
  local s = rawpeer.refusing()
  s:close()
  return s.port
end

local function is_open(port)
  local c = rawpeer.connect { port = port }
  if c then c:close() end
  return c ~= nil
end

local function start(d, command, port)
  d.process = process.spawn(command)
  run.wait(function() return d.process.code or is_open(port) end, 20,
    function() return command[1] .. " at its port\n" .. d.process.stderr end)
  if d.process.code then
    error(("%s ended: %s%s"):format(command[1], d.process:output(),
      d.process.stderr), 3)
  end
  return d
end

local function write(d, files)
  for name, text in pairs(files) do
    local file = assert(io.open(d.dir .. "/" .. name, "w"))
    file:write((text:gsub("SECURE_PORT", d.secure_port)
      :gsub("PORT", d.port):gsub("DIR", d.dir)))
    file:close()
  end
end

local function new()
  return { dir = helper.tmpdir(), port = free_port(),
           secure_port = free_port() }
end

local nginx = [[
daemon off;
master_process off;
pid DIR/pid;
error_log stderr;
events { }
http {
  access_log off;
  client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR;
  uwsgi_temp_path DIR; scgi_temp_path DIR;
  %s
}
]]

function M.nginx(config, files)
  local d = new()
  write(d, files or {})
  write(d, { ["nginx.conf"] = nginx:format(config) })
  return start(d, { "/usr/sbin/nginx", "-e", "stderr", "-p", d.dir, "-c",
                    d.dir .. "/nginx.conf" }, d.port)
end

local tinyproxy = [[
Port PORT
Listen 127.0.0.1
Timeout 60
MaxClients 100
LogLevel Connect
DisableViaHeader Yes
]]

function M.tinyproxy(config)
  local d = new()
  write(d, { ["tinyproxy.conf"] = tinyproxy .. (config or "") .. "\n" })
  return start(d, { "/usr/bin/tinyproxy", "-d", "-c",
                    d.dir .. "/tinyproxy.conf" }, d.port)
end

return M
