-- SPDX-License-Identifier: MIT
-- The README and its examples: what is printed there runs as it is printed,
-- with the modules and the Lua of this run, and names only what exists.

local helper = require "spec.helper"
local process = require "spec.support.process"
local sipwire = require "sipwire"
local uv = require "luv"

helper.watch()

local LIMIT = 20

local function read(path)
  local file = assert(io.open(helper.root .. "/" .. path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local readme = read "README.md"

-- The contents of the README's fenced blocks of one language, in order.
local function blocks(language)
  local found = {}
  for text in ("\n" .. readme):gmatch("\n```" .. language .. "\n(.-\n)```") do
    found[#found + 1] = text
  end
  return found
end

-- Where this run's modules were built, and what runs Lua with them.
local core = package.cpath:match "([^;]*)/lua/[^/;]+/%?%.so"
local build = os.getenv "SIPWIRE_BUILD" or core
local lua = os.getenv "LUA" or process.lua()

-- A relative path's meaning must not depend on where the spec runs.
local function absolute(list)
  return (list:gsub("[^;]+", function(part)
    return part:sub(1, 1) == "/" and part or helper.root .. "/" .. part
  end))
end

-- Starts a command as a shell in the root folder would; sanitized modules need
-- the environment as it is.
local function spawn(command, as_is)
  return process.spawn { "sh", "-c", "exec " .. command, cwd = helper.root,
    as_is = as_is, env = { LUA_PATH = absolute(package.path),
      LUA_CPATH = absolute(package.cpath) } }
end

local function run(command, as_is)
  local p = spawn(command, as_is)
  p:close_stdin()
  local out = p:output(LIMIT)
  p:wait(LIMIT)
  return p.code, out, p.stderr
end

local function run_example(name, ...)
  local words = { lua, "examples/" .. name, ... }
  return run(table.concat(words, " "), true)
end

-- Runs one that must succeed in silence; returns what it printed.
local function succeed(...)
  local code, out, err = run_example(...)
  assert.same({ 0, "" }, { code, err }, out)
  return out
end

-- That the patterns occur in this order.
local function expect_in_order(text, patterns)
  local from = 1
  for i, pattern in ipairs(patterns) do
    local start, stop = text:find(pattern, from)
    assert(start, ("no %d: '%s' in\n%s"):format(i, pattern, text:sub(from)))
    from = stop + 1
  end
end

-- ---- What the README prints ------------------------------------------------

-- What each example that the README runs must print.
local expected = {
  ["hello.lua"] = { "^SIP/2%.0 200 OK\r\n", "\r\nCSeq: 1 OPTIONS\r\n",
    "\nbye\n$" },
  ["options_ping.lua"] = { "^connected to ws://127%.0%.0%.1:%d+ .*upgrade",
    "\n200 OK, rtt %d+%.%d ms\n$" },
  ["message.lua"] = { "^bob +registers: +200 OK\n",
    "alice +registers: +200 OK\n", "bob +receives: +Watson, come here%.\n",
    "alice +is told: +200 OK\n$" },
  ["reconnect.lua"] = { "^connected %(1%)\nlost: closed",
    "next attempt in 0%.%d+ s\nconnected %(2%)\nlost: closed",
    "failed: refused: ", "next attempt in", "connected %(3%)\nlost: closed",
    "connected %(4%)\ndone after 3 reconnects\n$" },
}

-- The commands of the README's second sh block: "lua5.4 examples/NAME".
local function printed_commands()
  local names = {}
  for name in blocks "sh"[2]:gmatch "\nlua5%.4 examples/(%S+)" do
    names[#names + 1] = name
  end
  return names
end

describe("the README", function()
  it("shows hello.lua byte for byte, below its comments", function()
    local code = read "examples/hello.lua":gsub("^%-%-[^\n]*\n", "")
    while code:find "^%-%-" do code = code:gsub("^[^\n]*\n", "", 1) end
    assert.equal(code, blocks "lua"[1])
  end)

  it("shows Lua that compiles", function()
    assert.is_true(#blocks "lua" >= 3)
    for _, text in ipairs(blocks "lua") do
      assert((loadstring or load)(text))
    end
  end)

  it("names only files that exist", function()
    local count = 0
    local function check(path)
      count = count + 1
      assert(uv.fs_stat(helper.root .. "/" .. path), path .. " does not exist")
    end
    for target in readme:gmatch "%]%(([^)#]+)%)" do check(target) end
    for path in readme:gmatch "[%w_./]*examples/[%w_]+%.%a+" do check(path) end
    for path in readme:gmatch "spec/[%w_/]+%.%a+" do check(path) end
    assert.is_true(count > 20)
  end)

  it("names both of the two commands, which can be executed", function()
    local commands = {}
    for path in blocks "sh"[1]:gmatch "([^\n#]-) *#[^\n]*\n" do
      commands[#commands + 1] = path
      assert.is_true(uv.fs_access(helper.root .. "/" .. path, "X"), path)
    end
    assert.same({ "examples/quickstart.sh", "spec/run.sh" }, commands)
  end)

  it("runs every example, and this spec knows them all", function()
    local printed, known = printed_commands(),
      { "echo_server.lua", "quickstart.lua" }
    for name in pairs(expected) do known[#known + 1] = name end
    table.sort(printed)
    table.sort(known)
    assert.same(known, printed)
    for name in uv.fs_scandir_next, uv.fs_scandir(helper.root .. "/examples") do
      assert(readme:find("examples/" .. name, 1, true), name .. " is missing")
    end
  end)

  -- Options: what it says and what the module takes.
  it("lists each option, and only those that there are", function()
    local options = require "sipwire.options"
    local listed = {}
    for row in readme:gmatch "\n| (`[^|]+) |" do
      for name in row:gmatch "`([%w_]+)`" do listed[name] = true end
    end
    local function check(class, except)
      for name in pairs(options.known[class]) do
        assert(listed[name] or except[name], "missing: " .. name)
      end
    end
    check("sipwire.Options", {})
    check("sipwire.ListenerOptions", {})
    check("sipwire.TlsOptions", {})
    local transport = { server = "ws://127.0.0.1", unheard_of = 1 }
    assert.has_error(function() sipwire.new(transport) end)
  end)

  it("lists each error code of the C API that users can see", function()
    local header = read "include/sipwire.h"
    for code in header:match "define SIPWIRE_ERRORS(.-)\n\n":gmatch '"([%w_]+)", "'
    do
      if code ~= "invalid" and code ~= "fork" and code ~= "system" then
        assert(readme:find("\n| `" .. code .. "` | ", 1, true), code)
      end
    end
  end)
end)

-- ---- Examples --------------------------------------------------------------

describe("examples", function()
  for name, patterns in pairs(expected) do
    it(name .. " runs as printed", function()
      expect_in_order(succeed(name), patterns)
    end)
  end

  it("quickstart.lua draws OPTIONS and MESSAGE both ways", function()
    local out = succeed "quickstart.lua"
    local to_server, to_client = "\n  |%-%- ", "\n  |<%-+ "
    expect_in_order(out, { "^  client +server\n",
      to_server .. "connected to ws://",
      to_server .. "OPTIONS sip:%S+ SIP/2%.0 %-+>|\n  |   Via: SIP/2%.0/WS ",
      to_client .. "SIP/2%.0 200 OK %-%-|",
      to_server .. "MESSAGE sip:", "Content%-Length: 11 ", "Hello, Bob%.",
      to_client .. "SIP/2%.0 200 OK %-%-|",
      to_client .. "OPTIONS sip:", to_client .. "MESSAGE sip:",
      "Hello, Alice%.", to_server .. "SIP/2%.0 200 OK",
      to_server .. "SIP/2%.0 200 OK", to_server .. "close 1000 %-+>|\n$" })
    local odd = {}
    for line in out:gmatch "[^\n]+" do
      if #line > 80 or not line:find "^  [|c].*[|r]$" then
        odd[#odd + 1] = line
      end
    end
    assert.same({}, odd)
    assert.equal(4, select(2, out:gsub("200 OK", "")))
  end)

  it("options_ping.lua tells code and phase of a failure", function()
    local code, out = run_example("options_ping.lua", "ws://127.0.0.1:1")
    assert.equal(1, code)
    assert.equal("not connected: refused: Connection refused " ..
      "(code refused, phase tcp)\n", out)
    code, out = run_example("options_ping.lua", "ws://nowhere.invalid")
    assert.equal(1, code)
    assert.matches("%(code dns, phase dns%)\n$", out)
  end)

  it("echo_server.lua sends back what comes, and ends with --once", function()
    local server = spawn(lua .. " examples/echo_server.lua 0 --once", true)
    local url = server:line(LIMIT):match "^listening at (ws://127%.0%.0%.1:%d+)$"
    local messages = { "text \195\164", "binary \255\0", ("x"):rep(70000) }
    local got = {}
    local t = sipwire.new { server = url }
    local kinds = {}
    t.on_message = function(_, message, binary)
      got[#got + 1], kinds[#kinds + 1] = message, binary
      if #got == #messages then t:disconnect() end
    end
    t.on_connect = function()
      for _, message in ipairs(messages) do assert(t:send(message)) end
    end
    t:connect()
    assert.same({ true }, { sipwire.run() })
    assert.same({ { messages, { false, true, false } } }, { { got, kinds } })
    expect_in_order(server:output(LIMIT), { "^127%.0%.0%.1:%d+ connected to /\n",
      "sent 70000 bytes\n", "left: closed: [^\n]*\n$" })
    assert.same({ 0, "" }, { server:wait(LIMIT), server.stderr })
  end)

  it("echo_server.lua says when its port is taken", function()
    local taken = sipwire.listen { on_connection = helper.never() }
    local code, out, err = run_example("echo_server.lua", taken.port, "--once")
    taken:close()
    assert.same({ 1, "" }, { code, out })
    assert.matches("refused: .*in use", err)
  end)

  it("embed polls beside its own descriptor", function()
    local code, out, err = run(build .. "/examples/embed")
    assert.same({ 0, "" }, { code, err })
    expect_in_order(out, { "^client: Connecting\nclient: Connected\n",
      "host: timer\nclient: SIP/2%.0 200 OK\n", "client: Disconnecting\n",
      "client: Disconnected\n$" })
  end)

  it("embed.c is short enough to be read", function()
    local _, lines = read "examples/embed.c":gsub("\n", "")
    assert.is_true(lines < 150, lines)
  end)
end)

describe("with Kamailio", function()
  it("options_ping.lua is answered over ws and wss #slow", function()
    local kamailio = helper.kamailio "NO_AUTH"
    expect_in_order(succeed("options_ping.lua", kamailio:url()),
      { "^connected to ws:.*tls %-, upgrade", "\n200 OK, rtt" })
    expect_in_order(succeed("options_ping.lua", kamailio:secure_url(),
      helper.certs() .. "/ca.pem"),
      { "^connected to wss:.*tls [%d.]+ ms, upgrade", "\n200 OK, rtt" })
    local code, out = run_example("options_ping.lua", kamailio:secure_url())
    assert.equal(1, code)
    assert.matches("%(code tls, phase tls%)\n$", out)
  end)

  it("message.lua delivers #slow", function()
    local kamailio = helper.kamailio "NO_AUTH"
    expect_in_order(succeed("message.lua", kamailio:url(), "localhost"),
      expected["message.lua"])
  end)

  it("message.lua fails when it may not register #slow", function()
    local kamailio = helper.kamailio()
    local code, out = run_example("message.lua", kamailio:url(), "localhost")
    assert.equal(1, code)
    assert.matches("^bob +registers: +401 ", out)
  end)
end)
