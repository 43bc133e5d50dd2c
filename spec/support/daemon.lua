-- SPDX-License-Identifier: MIT
-- Servers of others as private instances: on a port of 127.0.0.1 that was
-- free, with files in a directory of their own.
--
-- daemon.nginx(config [, files]) -> d       config: what stands in http { };
--   PORT and SECURE_PORT in it become ports, DIR the directory
-- daemon.openresty(config [, options]) -> d
--   nginx with lua-nginx-module and sipwire for it; options: workers = n (1),
--   main = what stands outside of http { }, env = variables of the master,
--   lua_path = more of it, files as above; workers run as nobody if the spec
--   runs as root
--   d:get(path [, limit]) -> body, head   d:ask(path) -> request, whose :answer
--   does the rest of it   d:workers() -> pids of those that are not leaving
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

-- ---- nginx with Lua ---------------------------------------------------------

local openresty = [[
daemon off;
%s
load_module FOLDER/lib/nginx/modules/ndk_http_module.so;
load_module FOLDER/lib/nginx/modules/ngx_http_lua_module.so;
pid DIR/pid;
error_log stderr notice;
worker_processes %d;
events { worker_connections 4096; }
%s
http {
  access_log off;
  client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR;
  uwsgi_temp_path DIR; scgi_temp_path DIR;
  lua_package_path "ROOT/lua/?.lua;%s;ROOT/share/lua/5.1/?.lua;;";
  lua_package_cpath "ROOT/lua5.1/?.so;;";
  %s
}
]]

-- Unpacked there by install.sh, as Debian's package conflicts with luajit.
function M.openresty_folder()
  return os.getenv "SIPWIRE_NGINX_LUA" or helper.root .. "/build/nginx-lua/usr"
end

-- Workers are nobody, and this folder may be in that of root: they get a copy
-- of what they load.
local copy

local function readable_by_all()
  if copy then return copy end
  copy = helper.tmpdir()
  assert(require "luv".fs_chmod(copy, 493)) -- 755
  local build = os.getenv "SIPWIRE_BUILD" or helper.root .. "/build/dev"
  local code, _, err = process.run { "cp", "-r", helper.root .. "/lua",
    helper.root .. "/examples", build .. "/lua/lua5.1",
    M.openresty_folder() .. "/share", copy, limit = 20 }
  assert(code == 0, err)
  return copy
end

local started = {}

-- A request that was sent.
local request = {}
request.__index = request

function request:answer(limit)
  local c = self.connection
  run.wait(function() return c:ended() end, limit or 5,
    "an answer to " .. self.path .. "\n" .. self.log())
  local head, body = c:peek():match "^(.-\r\n)\r\n(.*)$"
  c:close()
  return body, head
end

function started:ask(path, method, body)
  local c = assert(rawpeer.connect { port = self.port })
  c:write(("%s %s HTTP/1.0\r\nContent-Length: %d\r\n\r\n%s"):format(
    method or "GET", path, #(body or ""), body or ""))
  return setmetatable({ connection = c, path = path,
    log = function() return self.process.stderr end }, request)
end

function started:get(path, limit)
  return self:ask(path):answer(limit)
end

-- Of all children of the master; those that are leaving too.
local function children(pid)
  local path = ("/proc/%d/task/%d/children"):format(pid, pid)
  local file, pids = io.open(path), {}
  for word in (file and file:read "*a" or ""):gmatch "%d+" do
    pids[#pids + 1] = tonumber(word)
  end
  if file then file:close() end
  return pids
end

function started:workers() return children(self.process.pid) end

function M.openresty(config, options)
  options = options or {}
  local d = setmetatable(new(), { __index = started })
  local folder, uv = M.openresty_folder(), require "luv"
  local root = uv.getuid() == 0
  assert(uv.fs_chmod(d.dir, 493)) -- 755: the workers read files there
  local text = openresty:format(root and "user nobody nogroup;" or "",
    options.workers or 1, options.main or "", options.lua_path or "", config)
  text = text:gsub("FOLDER", folder):gsub("ROOT", readable_by_all())
  write(d, options.files or {})
  write(d, { ["nginx.conf"] = text })
  local variables = { LD_LIBRARY_PATH = folder .. "/lib/x86_64-linux-gnu" }
  for name, value in pairs(options.env or {}) do variables[name] = value end
  return start(d, { "/usr/sbin/nginx", "-e", "stderr", "-p", d.dir, "-c",
    d.dir .. "/nginx.conf", env = variables }, d.port)
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
