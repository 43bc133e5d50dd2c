-- SPDX-License-Identifier: MIT
-- Which proxy is asked: the option's, the environment's, or none.

local helper = require "spec.helper"
local uv = require "luv"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"

local names = { "http_proxy", "https_proxy", "all_proxy", "no_proxy",
                "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY" }
local found = {}

local function clear()
  for _, name in ipairs(names) do uv.os_unsetenv(name) end
end

setup(function()
  for _, name in ipairs(names) do found[name] = uv.os_getenv(name) end
  clear()
end)
teardown(function()
  for name, value in pairs(found) do uv.os_setenv(name, value) end
end)
after_each(clear)

helper.watch()

local function set(values)
  clear()
  for name, value in pairs(values) do uv.os_setenv(name, value) end
end

-- Whom a client of |server| turns to: "proxy", "server" (the one at |direct|)
-- or an error's code.
local function asked(server, proxy, direct, option)
  local before, there = proxy.accepted, direct and direct.accepted
  local t = pair.client { server = server, proxy = option,
                          tls = { verify = false } }
  local outcome = pair.connect(t)
  helper.run_until(function()
    return outcome.done or proxy.accepted > before or
      direct and direct.accepted > there
  end)
  if outcome.done then return outcome.code end
  local c = (proxy.accepted > before and proxy or direct):accept()
  local who = proxy.accepted > before and c:read_head().target or "server"
  t:disconnect()
  pair.gone(t)
  c:close()
  return who
end

describe("the environment's proxy", function()
  local proxy, server, secure, url, loop

  before_each(function()
    loop = helper.default_loop()
    loop.on_log = function() end -- that verify is false
    proxy, server = rawpeer.listen(), rawpeer.listen()
    url = "http://127.0.0.1:" .. proxy.port
    secure = "wss://127.0.0.1:" .. server.port
  end)
  after_each(function() loop.on_log = nil end)

  it("is not looked at, if nobody asked for it", function()
    set { http_proxy = url, https_proxy = url, all_proxy = url,
          HTTPS_PROXY = url, ALL_PROXY = url }
    assert.equal("server", asked(server:url(), proxy, server))
    assert.equal("server", asked(secure, proxy, server))
    set { http_proxy = "nonsense://" }
    assert.equal("server", asked(server:url(), proxy, server))
  end)

  it("is found by the scheme of the server", function()
    local at = "127.0.0.1:" .. server.port
    for variable, who in pairs {
      http_proxy = { at, "server" }, https_proxy = { "server", at },
      HTTPS_PROXY = { "server", at }, all_proxy = { at, at },
      ALL_PROXY = { at, at }, HTTP_PROXY = { "server", "server" },
    } do
      set { [variable] = url }
      assert.equal(who[1], asked(server:url(), proxy, server, "environment"),
        variable)
      assert.equal(who[2], asked(secure, proxy, server, "environment"),
        variable)
      set { [variable] = "" }
      assert.equal("server", asked(server:url(), proxy, server, "environment"))
    end
    assert.equal("server", asked(server:url(), proxy, server, "environment"))
  end)

  it("is the more special, the lower case one", function()
    local at, wrong = "127.0.0.1:" .. server.port, "http://127.0.0.1:1"
    set { https_proxy = url, HTTPS_PROXY = wrong, all_proxy = wrong }
    assert.equal(at, asked(secure, proxy, server, "environment"))
    set { all_proxy = url, ALL_PROXY = wrong, http_proxy = "" }
    assert.equal(at, asked(server:url(), proxy, server, "environment"))
    set { https_proxy = "", HTTPS_PROXY = url, all_proxy = wrong }
    assert.equal(at, asked(secure, proxy, server, "environment"))
  end)

  it("may lack its scheme", function()
    local at = "127.0.0.1:" .. server.port
    set { http_proxy = "127.0.0.1:" .. proxy.port }
    assert.equal(at, asked(server:url(), proxy, server, "environment"))
    set { http_proxy = "u:p@127.0.0.1:" .. proxy.port .. "/" }
    assert.equal(at, asked(server:url(), proxy, server, "environment"))
  end)

  it("is not for hosts in no_proxy", function()
    local port = ":" .. server.port
    local function is_exempt(list, host, variable)
      set { http_proxy = url, [variable or "no_proxy"] = list }
      local who = asked("ws://" .. host .. port, proxy, server, "environment")
      if who == host .. port then return false end
      assert.is_truthy(who == "server" or who == "dns", who)
      return true
    end
    for list, exempt in pairs {
      ["*"] = true, ["localhost"] = true, ["LOCALHOST"] = true,
      [".localhost"] = true, ["a,localhost"] = true, [" a , localhost "] = true,
      ["a localhost\tb"] = true, ["*,b"] = true, ["a, *"] = true,
      [""] = false, ["local"] = false, ["host"] = false, ["ocalhost"] = false,
      ["xlocalhost"] = false, ["a.localhost"] = false, [","] = false,
      ["."] = false, ["*localhost"] = false, ["127.0.0.1"] = false,
    } do
      assert.equal(exempt, is_exempt(list, "localhost"), list)
    end
    assert.is_true(is_exempt("localhost", "localhost", "NO_PROXY"))
    assert.is_true(is_exempt("127.0.0.1", "127.0.0.1"))
    assert.is_false(is_exempt("localhost", "127.0.0.1"))
    for list, exempt in pairs {
      ["b.invalid"] = true, [".b.invalid"] = true, ["B.Invalid"] = true,
      ["a.b.invalid"] = true, ["invalid"] = true, [".a.b.invalid"] = true,
      ["x.a.b.invalid"] = false, [".b.invalid."] = false, ["nvalid"] = false,
      ["a.b"] = false,
    } do
      assert.equal(exempt, is_exempt(list, "a.b.invalid"), list)
    end
    set { http_proxy = url, no_proxy = "", NO_PROXY = "127.0.0.1" }
    assert.equal("server", asked(server:url(), proxy, server, "environment"))
    set { http_proxy = url, no_proxy = "x", NO_PROXY = "127.0.0.1" }
    assert.equal("127.0.0.1" .. port,
      asked(server:url(), proxy, server, "environment"))
  end)

  it("is not in the way of one that was given", function()
    set { http_proxy = "http://127.0.0.1:1", no_proxy = "*" }
    assert.equal("127.0.0.1:" .. server.port,
      asked(server:url(), proxy, server, url))
  end)

  it("is asked for with each URL of a server function", function()
    local t = pair.client { server = function() return server:url() end,
                            proxy = "environment" }
    set { http_proxy = url }
    local outcome = pair.connect(t)
    assert.equal("CONNECT", proxy:accept():read_head().method)
    t:disconnect()
    assert.equal("aborted", pair.finish(outcome).code)
    pair.gone(t)
    clear()
    local peer = pair.reopen(t, server)
    pair.part(t, peer)
  end)

  it("is what a process was started with", function()
    local script = [[
      local sipwire = require "sipwire"
      sipwire.run(function()
        local _, _, code = sipwire.open { server = "ws://a.invalid",
          proxy = arg[1], connection_timeout = 60 }
        print(code)
      end)]]
    local path = helper.tmpdir() .. "/child.lua"
    local out = assert(io.open(path, "w"))
    out:write(script)
    out:close()
    local command = process.lua(path, "environment")
    command.env = { http_proxy = url, https_proxy = "nonsense" }
    command.as_is = true
    local child = process.spawn(command)
    local c = proxy:accept(20)
    assert.equal("a.invalid:80", c:read_head().target)
    c:write "HTTP/1.1 403 No\r\n\r\n"
    assert.equal("http", child:line(20))
    assert.equal(0, child:wait(20))
  end)
end)

describe("a proxy that cannot be", function()
  local bad = {
    "https://u:hunter2@a", "socks5://u:hunter2@a", "ws://u:hunter2@a",
    "http://u:hunter2@a/path", "http://u:hunter2@a?query", "http://u:hunter2@",
    "http://u:hunter2@a#f", "http://u:hunter2%0d%0a@a", "http://u:hunter2%00@a",
    "http://u:hunter2\r\n@a", "http://u:hunter2@a:0",
    "http://u:hunter2@a:99999", "http://u:hunter2@1.2.3", "http://hunter2%0a:p@a", "http://u:hunter2%@a",
    "http://u@hunter2@a", "http://u:hunter2/@a", "u:hunter2@a:3128",
    "http://u:hunter2@" .. ("a"):rep(9000), "Environment",
  }

  it("raises at new(), without its password", function()
    for _, proxy in ipairs(bad) do
      local ok, err = pcall(function()
        sipwire.new { server = "ws://127.0.0.1:1/", proxy = proxy }
      end)
      assert.is_false(ok, proxy)
      assert.matches("^[^\n]*proxy_options_spec.lua:%d+: [^\n]*proxy: %w", err)
      assert.is_nil(err:find("hunter2", 1, true), err)
    end
    for proxy, words in pairs { [""] = "empty", [1] = "string",
                                ["http://a\0b"] = "NUL" } do
      local ok, err = pcall(sipwire.new, { server = "ws://a", proxy = proxy })
      assert.is_false(ok)
      assert.matches("option 'proxy' .*" .. words, err)
    end
    assert.is_false((pcall(sipwire.listen, { proxy = "http://a",
      on_connection = function() end })))
  end)

  it("is named by its variable, if it is the environment's", function()
    local server = "ws://127.0.0.1:1/"
    for _, variable in ipairs { "http_proxy", "all_proxy", "ALL_PROXY" } do
      for _, value in ipairs(bad) do
        if value:find "://" and not value:find "^http://" then
          set { [variable] = value }
          local ok, err = pcall(function()
            local t = sipwire.new { server = server, proxy = "environment" }
            t:connect()
          end)
          assert.is_false(ok, value)
          assert.matches("proxy_options_spec.lua:%d+: .*$" .. variable, err)
          assert.is_nil(err:find("hunter2", 1, true), err)
        end
      end
    end
    set { HTTPS_PROXY = "http://u:hunter2%0a@a" }
    local ok, err = pcall(function()
      local t = sipwire.new { server = "wss://a", proxy = "environment" }
      t:connect()
    end)
    assert.is_false(ok)
    assert.matches("proxy from $HTTPS_PROXY: userinfo", err, 1, true)
  end)
end)
