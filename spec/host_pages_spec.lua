-- SPDX-License-Identifier: MIT
-- The programs of docs/hosts/ whose hosts Debian has for one Lua only: copas,
-- Prosody itself with the page's module, C.

local helper = require "spec.helper"
local page = require "spec.support.page"
local process = require "spec.support.process"
local program = require "spec.support.program"
local sipwire = require "sipwire"
local uv = require "luv"

helper.watch()

local LIMIT = 30

local function write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  file:close()
end

-- Says "hello" and returns the answer; the connection is closed.
local function say_hello(url)
  local answer
  local t = sipwire.new { server = url }
  t.on_connect = function() t:send "hello" end
  t.on_message = function(_, message)
    answer = message
    t:disconnect()
  end
  t:connect()
  helper.run_until(function()
    return answer and t.state == "Disconnected"
  end, LIMIT, "an answer from " .. url)
  t:dispose()
  return answer
end

local function read_tcp(port)
  local tcp, text, ended = uv.new_tcp(), "", false
  tcp:connect("127.0.0.1", port, function(err)
    assert(not err, err)
    tcp:read_start(function(_, data)
      text, ended = text .. (data or ""), not data
    end)
  end)
  helper.run_until(function() return ended end, LIMIT, "the end of TCP")
  tcp:close()
  return text
end

if _VERSION == "Lua 5.1" then
  describe("the page of copas", function()
    it("has a program that serves TCP beside SIP", function()
      local dir = helper.tmpdir()
      write(dir .. "/sipwire_copas.lua",
        page.blocks("docs/hosts/copas.md", "lua")[1])
      program.head = ('package.path = "%s/?.lua;" .. package.path\n' ..
        'io.stdout:setvbuf "line"\n'):format(dir)
      local p = program.start(page.blocks("docs/hosts/copas.md", "lua")[2])
      local url, port = p:line(LIMIT):match "^(%S+)\t(%d+)$"
      assert.equal("HELLO", say_hello(url), p.stderr)
      assert.equal("HELLO", say_hello(url), p.stderr)
      assert.equal("2 messages\n", read_tcp(tonumber(port)))
      p:stop()
    end)
  end)
end

if _VERSION == "Lua 5.4" then
  describe("the page of Prosody", function()
    local config = [[
      run_as_root = true
      data_path, pidfile = "%s", "%s/pid"
      log = { { levels = { min = "info" }, to = "console" } }
      plugin_paths, modules_enabled = { "%s" }, { "sipwire" }
      modules_disabled = { "c2s", "s2s", "offline", "s2s_auth_certs" }
      c2s_ports, c2s_direct_tls_ports = {}, {}
      s2s_ports, s2s_direct_tls_ports = {}, {}
      sipwire_port = 0
      VirtualHost "localhost" ]]

    it("has a module that Prosody runs", function()
      local dir = helper.tmpdir()
      write(dir .. "/mod_sipwire.lua",
        page.blocks("docs/hosts/prosody.md", "lua")[1])
      write(dir .. "/config.lua", (config:gsub("%%s", dir)))
      local command = process.lua("/usr/bin/prosody", "-F", "--config",
        dir .. "/config.lua")
      command.cwd, command.as_is = dir, true
      command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
      local p = process.spawn(command)
      local url, line
      repeat
        line = p:line(LIMIT)
        url = line:match "listening at (ws://%S+)"
      until url
      assert.equal("HELLO", say_hello(url))
      repeat line = p:line(LIMIT) until line:find "came to"
      assert.matches("info\t127.0.0.1:%d+ came to /$", line)
      assert.equal(0, (p:stop(LIMIT)))
    end)
  end)

  describe("the page of C", function()
    it("has code that compiles", function()
      local code, _, err = process.run { "gcc", "-std=gnu11", "-Wall",
        "-Werror", "-fsyntax-only", "-I" .. helper.root .. "/include", "-xc",
        "-", limit = LIMIT, input = [[
          #include <poll.h>
          #include <sipwire.h>
          void work(int fd);
          void handle(const struct sipwire_event *event);
          void run(struct sipwire_loop *loop, int own);
          void run(struct sipwire_loop *loop, int own) {
        ]] .. page.blocks("docs/hosts/c.md", "c")[1] .. "\n}\n" }
      assert.same({ 0, "" }, { code, err })
    end)
  end)
end

describe("the pages of hosts", function()
  it("print programs of 20 lines at most", function()
    local count = 0
    for _, name in ipairs { "luv", "cqueues", "copas", "prosody", "c" } do
      for _, language in ipairs { "lua", "c" } do
        local path = "docs/hosts/" .. name .. ".md"
        for _, block in ipairs(page.blocks(path, language)) do
          local _, breaks = block:gsub("\n", "")
          assert.is_true(breaks < 20, path)
          count = count + 1
        end
      end
    end
    assert.equal(7, count)
  end)

  it("link to pages that exist", function()
    for _, name in ipairs { "README", "luv", "cqueues", "copas", "prosody", "c" }
    do
      local folder = helper.root .. "/docs/hosts/"
      for line in io.lines(folder .. name .. ".md") do
        for target in line:gmatch "%]%(([^)#:]+)[^)]*%)" do
          assert(uv.fs_stat(folder .. target), name .. ": " .. target)
        end
      end
    end
  end)
end)
