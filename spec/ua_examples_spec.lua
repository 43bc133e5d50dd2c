-- SPDX-License-Identifier: MIT
-- The examples of the user agent, as users run them: against Kamailio, and
-- through it against SIPp over UDP.

local helper = require "spec.helper"
local process = require "spec.support.process"
local sipp = require "spec.support.sipp"

helper.watch()

local LIMIT = 20

local function start(path, ...)
  local command = process.lua("-e", "io.stdout:setvbuf 'line'", path, ...)
  command.cwd, command.as_is = helper.root, true
  command.env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }
  local p = process.spawn(command)
  p:close_stdin()
  return p
end

local function spawn(name, ...) return start("examples/ua/" .. name, ...) end

-- Waits for its end, which must be a good one; returns what it printed.
local function finish(p)
  local out = p:output(LIMIT)
  p:wait(LIMIT)
  assert.same({ 0, "" }, { p.code, p.stderr }, out)
  return out
end

local function run(...) return finish(spawn(...)) end

describe("with Kamailio, examples/ua/ #slow", function()
  local k
  setup(function() k = helper.kamailio "PROXY_AUTH" end)

  it("register.lua registers, in no more than 15 lines", function()
    assert.equal("sip:alice@localhost is registered for 600 s\n",
      run("register.lua", k:url()))
    assert.equal("sip:carol@localhost is registered for 600 s\n",
      run("register.lua", k:url(), "sip:carol@localhost", 'p\195\164ss: "q"'))
    local lines = 0
    for _ in io.lines(helper.root .. "/examples/ua/register.lua") do
      lines = lines + 1
    end
    assert.is_true(lines <= 15, lines)
    local p = spawn("register.lua", k:url(), "sip:alice@localhost", "wrong")
    p:wait(LIMIT)
    assert.equal(1, p.code)
    assert.matches("status: 401 Unauthorized", p.stderr)
  end)

  it("message.lua carries messages both ways", function()
    local out = run("message.lua", k:url())
    for _, line in ipairs { "bob hears alice say: Watson, come here.\n",
      "alice's message: 200\n", "alice hears: Coming.\n",
      "bob's answer: 200\n" } do
      assert.matches(line, out, 1, true)
    end
  end)

  it("call.lua calls SIPp, over UDP", function()
    local s = sipp.called(k)
    assert.matches("^it rings\nanswered, %d+ bytes of SDP\nhung up: 200\n$",
      run("call.lua", k:url(), s.uri))
    s:finish()
  end)

  it("answer.lua is called by SIPp, over UDP", function()
    local p = spawn("answer.lua", k:url())
    assert.equal("waiting", p:line(LIMIT))
    sipp.caller(k, "bob"):finish()
    assert.equal("sipp calls\nthe caller hung up\n", finish(p))
  end)

  it("call.lua and answer.lua talk to each other", function()
    local p = spawn("answer.lua", k:url())
    assert.equal("waiting", p:line(LIMIT))
    assert.matches("hung up: 200\n$", run("call.lua", k:url()))
    assert.equal("alice calls\nthe caller hung up\n", finish(p))
  end)

  it("two_users.lua has two flows", function()
    assert.equal("alice\ttrue\tSignal=5\nbob\ttrue\tdone\n",
      (run("two_users.lua", k:url())))
  end)

  it("failures.lua tells each failure", function()
    assert.equal(table.concat({
      "wrong password  status: 401 Unauthorized (code status)",
      "not her name    status: 403 Not Yours (code status)",
      "proxy says no   407 Proxy Authentication Required",
      "nobody there    404 Not Found",
      "busy            status: 486 Busy Here (code status)",
      "overloaded      status: 503 As Asked (code status, retry after 5)",
      "no answer       timeout: no final response within 0.3 s (code timeout)",
      "" }, "\n"), run("failures.lua", k:url()))
  end)
end)

describe("docs/ua.md has programs that #slow", function()
  local k
  local programs = {}
  setup(function()
    k = helper.kamailio "PROXY_AUTH"
    local dir = helper.tmpdir()
    local file = assert(io.open(helper.root .. "/docs/ua.md"))
    local page = file:read "*a"
    file:close()
    for text in page:gmatch "\n```lua\n(.-)```" do
      local path = ("%s/%d.lua"):format(dir, #programs + 1)
      file = assert(io.open(path, "w"))
      file:write(text)
      file:close()
      programs[#programs + 1] = path
    end
  end)

  it("register and send a message", function()
    assert.equal("registered for\t600\n404\tNot Found\n",
      finish(start(programs[1], k:url())))
  end)

  it("call each other", function()
    local p = start(programs[3], k:url())
    assert.equal("waiting", p:line(LIMIT))
    assert.equal("200\n", finish(start(programs[2], k:url(),
      "sip:bob@localhost")))
    assert.equal("", finish(p))
  end)

  it("fail alone", function()
    local out = finish(start(programs[4]))
    assert.matches("^%S+:4: gone wrong\ntrue\tfine\n$", out)
    assert.equal(4, #programs)
  end)
end)
