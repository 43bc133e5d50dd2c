-- SPDX-License-Identifier: MIT
-- The fixtures themselves: a fixture that is wrong makes every spec worthless.

local helper = require "spec.helper"
local uv = require "luv"
local bits = require "spec.support.bits"
local sha1 = require "spec.support.sha1"
local run = require "spec.support.run"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local node_server = require "spec.support.node_server"

local frames = rawpeer.frames
local run_until = helper.run_until

helper.watch()

-- A limit that is meant to pass: a slow machine needs no more of it.
local function brief(seconds) return seconds / run.scale end

describe("bits", function()
  it("works on unsigned 32-bit numbers", function()
    assert.equal(0x80000001, bits.band(0xf0f0f0f1, 0x8f0f0f0f))
    assert.equal(0xffffffff, bits.bor(0xf0f0f0f0, 0x0f0f0f0f))
    assert.equal(0xff00ff00, bits.bxor(0xf0f0f0f0, 0x0ff00ff0))
    assert.equal(0xfffffffe, bits.bnot(1))
    assert.equal(0x00000003, bits.rol(0x80000001, 1))
    assert.equal(0x2468acf1, bits.rol(0x92345678, 1))
  end)
end)

describe("sha1", function()
  it("gives the digests of FIPS 180", function()
    assert.equal("da39a3ee5e6b4b0d3255bfef95601890afd80709", sha1.hex(""))
    assert.equal("a9993e364706816aba3e25717850c26c9cd0d89d", sha1.hex("abc"))
    assert.equal("84983e441c3bd26ebaae4aa1f95129e5e54670f1",
      sha1.hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"))
  end)

  it("pads every length like sha1sum", function()
    for _, n in ipairs { 1, 55, 56, 63, 64, 65, 119, 120, 128 } do
      local text = string.rep("\255", n)
      local _, out = process.run { "sha1sum", input = text }
      assert.equal(out:match "^%x+", sha1.hex(text), n)
    end
  end)

  it("encodes the base64 vectors of RFC 4648", function()
    local vectors = { [""] = "", f = "Zg==", fo = "Zm8=", foo = "Zm9v",
                      foob = "Zm9vYg==", fooba = "Zm9vYmE=",
                      foobar = "Zm9vYmFy", ["\255\254\0"] = "//4A" }
    for plain, encoded in pairs(vectors) do
      assert.equal(encoded, sha1.base64(plain))
    end
  end)

  it("gives the accept key of RFC 6455 section 1.3", function()
    assert.equal("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
      sha1.accept("dGhlIHNhbXBsZSBub25jZQ=="))
  end)
end)

describe("frames", function()
  it("builds the examples of RFC 6455 section 5.7", function()
    assert.equal("\129\5Hello", frames.build { payload = "Hello" })
    assert.equal("\129\133\55\250\33\61\127\159\77\81\88",
      frames.build { payload = "Hello", mask = "\55\250\33\61" })
    assert.equal("\1\3Hel", frames.build { payload = "Hel", fin = false })
    assert.equal("\128\2lo",
      frames.build { opcode = "continuation", payload = "lo" })
    assert.equal("\130\126\1\0",
      frames.build { opcode = "binary", payload = ("x"):rep(256) }:sub(1, 4))
    assert.equal("\130\127\0\0\0\0\0\1\0\0",
      frames.build { opcode = 2, payload = ("x"):rep(65536) }:sub(1, 10))
  end)

  it("builds wrong ones on request", function()
    assert.equal("\129\126\0\1x",
      frames.build { payload = "x", length_form = 16 })
    assert.equal("\129\127\0\0\0\0\0\0\0\1x",
      frames.build { payload = "x", length_form = 64 })
    assert.equal("\241\0", frames.build { rsv = 7 })
    assert.equal("\131\0", frames.build { opcode = 3 })
    assert.equal("\129\127\255\255\255\255\255\255\255\255",
      frames.build { length = string.rep("\255", 8) })
    assert.equal("\129\127\128\0\0\0\0\0\0\0", frames.build { length = 2 ^ 63 })
  end)

  it("parses what it builds, and nothing before it is whole", function()
    for _, size in ipairs { 0, 1, 125, 126, 127, 65535, 65536, 70001 } do
      for _, mask in ipairs { false, "\1\2\3\255" } do
        local payload = string.rep("\0\127\128\255abc", size):sub(1, size)
        local bytes = frames.build { opcode = "binary", payload = payload,
          fin = false, rsv = 5, mask = mask or nil }
        assert.is_nil(frames.parse(bytes:sub(1, -2)))
        local frame, after = frames.parse("#" .. bytes .. "rest", 2)
        assert.equal(#bytes + 2, after)
        assert.is_true(frame.payload == payload)
        assert.same({ false, 5, 2, "binary", mask ~= false, size },
          { frame.fin, frame.rsv, frame.opcode, frame.name, frame.masked,
            frame.length })
        assert.equal(size < 126 and 7 or size < 65536 and 16 or 64,
          frame.length_form)
      end
    end
  end)

  it("tells the form of a length", function()
    local frame = frames.parse(frames.build { payload = "x",
                                              length_form = 64 })
    assert.equal(64, frame.length_form)
    assert.equal(1, frame.length)
  end)

  it("makes and reads close payloads", function()
    assert.equal("\3\232bye", frames.close(1000, "bye"))
    assert.same({ 1001, "x" }, { frames.code(frames.close(1001, "x")) })
    assert.same({ nil, "" }, { frames.code("") })
  end)
end)

describe("run_until", function()
  it("returns what the condition returned", function()
    assert.equal("yes", run_until(function() return "yes" end, 1, "it"))
  end)

  it("names what did not happen", function()
    local began = run.now()
    local ok, err = pcall(run_until, function() end, brief(0.05), "the moon")
    assert.is_false(ok)
    assert.matches("not within .* s: the moon", err)
    assert.is_true(run.now() - began >= 0.05)
  end)

  it("does not burn the processor while nothing happens", function()
    local before = os.clock()
    pcall(run_until, function() end, brief(0.5), "nothing")
    if run.scale == 1 and not run.gc_stress then
      assert.is_true(os.clock() - before < 0.25)
    end
  end)

  it("raises what a fixture's callback raised", function()
    local timer = uv.new_timer()
    timer:start(1, 0, run.guard(function()
      timer:close()
      error "in a callback"
    end))
    local ok, err = pcall(run_until, function() end, 5, "never")
    assert.is_false(ok)
    assert.matches("in a callback", err)
  end)

  it("refuses to be called by a callback that it called", function()
    local timer, ok, err = uv.new_timer()
    timer:start(1, 0, run.guard(function()
      timer:close()
      ok, err = pcall(run_until, function() end, 1, "inner")
    end))
    run_until(function() return err end, 5, "the callback")
    assert.is_false(ok)
    assert.matches("called by a callback", err)
  end)

  it("runs scripts beside the spec and raises their errors", function()
    local steps = {}
    helper.script(function(name)
      run.wait(function() return steps[1] end, 5, "the spec's step")
      steps[2] = name
      run.wait(function() return steps[3] end, 5, "the second step")
      error "script broke"
    end, "script")
    assert.is_nil(steps[2])
    steps[1] = "spec"
    run_until(function() return steps[2] == "script" end, 5, "the script")
    steps[3] = true
    local ok, err = pcall(helper.pass, 10)
    assert.is_false(ok)
    assert.matches("script broke", err)
  end)

  it("gives scripts limits of their own", function()
    helper.script(function()
      run.wait(function() end, brief(0.02), "what never comes")
    end)
    local ok, err = pcall(run_until, function() end, 5, "the spec's own")
    assert.is_false(ok)
    assert.matches("what never comes", err)
  end)
end)

describe("process", function()
  it("reads lines, writes, and learns the exit code", function()
    local p = process.spawn { "sh", "-c", "read x; echo got $x; exit 7" }
    p:write("this\n")
    assert.equal("got this", p:line())
    assert.equal(7, (p:wait()))
    assert.matches("ended %(7", select(2, pcall(p.line, p, 1)))
  end)

  it("collects output and standard error to the last byte", function()
    local code, out, err = process.run { "sh", "-c",
      "printf 'a\\n\\nb'; echo wrong >&2" }
    assert.same({ 0, "a\n\nb", "wrong\n" }, { code, out, err })
    local big = string.rep("0123456789abcdef", 65536)
    code, out = process.run { "cat", input = big }
    assert.equal(0, code)
    assert.is_true(out == big)
  end)

  it("sets variables and takes away the sanitizers'", function()
    uv.os_setenv("ASAN_OPTIONS", "x")
    uv.os_setenv("SIPWIRE_SPEC", "kept")
    local script = { "sh", "-c", "echo $ASAN_OPTIONS-$SIPWIRE_SPEC-$ADDED",
                     env = { ADDED = 1 } }
    local _, out = process.run(script)
    script.as_is = true
    local _, all = process.run(script)
    uv.os_unsetenv("ASAN_OPTIONS")
    uv.os_unsetenv("SIPWIRE_SPEC")
    assert.equal("-kept-1\n", out)
    assert.equal("x-kept-1\n", all)
  end)

  it("stops a child, by force if it must", function()
    local meek = process.spawn { "sleep", 100 }
    meek:stop()
    assert.equal(15, meek.signal)
    local stubborn = process.spawn { "sh", "-c",
      "trap '' TERM; echo on; while :; do sleep 0.05; done" }
    stubborn:line()
    stubborn:stop(brief(0.2))
    assert.equal(9, stubborn.signal)
    assert.is_nil(uv.kill(stubborn.pid, 0))
  end)

  it("takes the children along when the runner is killed", function()
    local p = process.spawn(process.lua("-e", ([[
      package.path = %q
      local process = require "spec.support.process"
      local child = process.spawn { "sh", "-c", "echo up; exec sleep 100" }
      child:line()
      print(child.pid)
      io.stdout:flush()
      require "luv".run()
    ]]):format(package.path)))
    local pid = tonumber(p:line())
    assert.equal(0, uv.kill(pid, 0))
    uv.kill(p.pid, "sigkill")
    run_until(function()
      local stat = io.open("/proc/" .. pid .. "/stat")
      if not stat then return true end
      local state = stat:read("*a"):match "%) (%a)"
      stat:close()
      return state == "Z"
    end, 5, "the end of the grandchild")
  end)

  it("computes SHA-256", function()
    assert.equal(
      "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
      process.sha256("abc"))
  end)
end)

describe("raw peers", function()
  local function pair(options)
    options = options or {}
    local server = rawpeer.listen(options)
    local client = rawpeer.connect { host = options.host, port = server.port }
    return client, server:accept(), server
  end

  for _, host in ipairs { "127.0.0.1", "::1" } do
    it("talk over " .. host, function()
      local client, there, server = pair { host = host }
      assert.equal(1, server.accepted)
      client:write("hello"):write(" you\r\nrest")
      assert.equal("hello you\r\n", there:take_until("\r\n"))
      assert.equal("re", there:take(2))
      assert.equal("st", there:peek())
      there:write("back")
      assert.equal("back", client:take(4))
      assert.equal(4, there.written)
      assert.matches(host == "::1" and "^ws://%[::1%]:%d+/x$" or
        "^ws://127.0.0.1:%d+/x$", server:url("/x"))
    end)
  end

  it("say what is missing", function()
    local client, there = pair()
    client:write("half")
    there:take(1)
    local ok, err = pcall(there.take, there, 9, brief(0.05))
    assert.is_false(ok)
    assert.matches("9 bytes; connection open, 3 bytes there: \"alf\"", err)
    client:close()
    ok, err = pcall(there.take, there, 9)
    assert.is_false(ok)
    assert.matches("no 9 bytes; connection eof", err)
  end)

  it("half close: the other way stays open", function()
    local client, there = pair()
    client:write("last"):fin()
    assert.equal("eof", there:wait_end())
    assert.equal("last", there:take(4))
    there:write("still here")
    assert.equal("still here", client:take(10))
    assert.is_nil(client:ended())
    there:fin()
    assert.equal("eof", client:wait_end())
  end)

  it("reset", function()
    local client, there = pair()
    there:write("x"):flush()
    client:take(1)
    there:reset()
    assert.equal("ECONNRESET", client:wait_end())
  end)

  it("learn that a write failed", function()
    local client, there = pair()
    there:reset()
    client:pause()
    run_until(function()
      client:write("x")
      helper.pass()
      return client.write_error
    end, 5, "the error of a write")
    assert.is_true(client.write_error == "ECONNRESET" or
      client.write_error == "EPIPE")
  end)

  it("dribble so that each piece is seen by itself", function()
    local client, there = pair()
    local sizes, read = {}, there.on_read
    function there:on_read(err, data)
      if data then sizes[#sizes + 1] = #data end
      return read(self, err, data)
    end
    client:dribble("abcdef", 2)
    assert.equal("abcdef", there:take(6))
    client:dribble("abcdef", { 1, 5 })
    assert.equal("abcdef", there:take(6))
    assert.same({ 2, 2, 2, 1, 4, 1 }, sizes)
  end)

  it("pause reading, so that a small window fills", function()
    local client, there = pair { recv_buffer = 4096 }
    there:pause()
    local size = 8 * 1024 * 1024
    client:write(string.rep("x", size))
    helper.pass(50)
    assert.equal(0, there.received)
    assert.equal(size, client.unwritten)
    there:resume()
    client:flush(30)
    there:take(size, 30)
    assert.equal(size, there.received)
  end)

  it("refuse", function()
    local nobody = rawpeer.refusing()
    local client, err = rawpeer.connect { port = nobody.port }
    assert.is_nil(client)
    assert.equal("ECONNREFUSED", err)
  end)

  it("swallow a SYN", function()
    local hole = rawpeer.black_hole()
    local outcome
    local handle = uv.new_tcp()
    handle:connect(hole.host, hole.port, run.guard(function(err)
      outcome = err or "connected"
    end))
    pcall(run_until, function() return outcome end, brief(0.5), "a connection")
    handle:close()
    assert.is_nil(outcome)
  end)

  it("run a script for each connection", function()
    local server = rawpeer.listen():each(function(c)
      c:write(c:take_until("\n"):upper())
      c:fin()
    end)
    for _, word in ipairs { "one", "two" } do
      local client = rawpeer.connect { port = server.port }
      client:write(word .. "\n")
      assert.equal("eof", client:wait_end())
      assert.equal(word:upper() .. "\n", client:peek())
    end
    assert.equal(2, server.accepted)
  end)

  it("do the upgrade and exchange frames", function()
    local client, there = pair()
    local request
    helper.script(function()
      request = there:answer_upgrade { after = frames.build { payload = "hi" },
                                       headers = { "X-More: 1", "x-more: 2" } }
      local message = there:read_message()
      there:send("text", message.payload, { fin = false })
      there:send("ping", "p")
      there:send("continuation", message.opcode)
    end)
    local answer = client:upgrade { path = "/ws?x=1",
                                    headers = { "Cookie: a=b" } }
    assert.is_true(answer.accepted)
    assert.equal("sip", answer:get "sec-websocket-protocol")
    assert.equal("1, 2", answer:get "X-More")
    assert.same({ "GET", "/ws?x=1", "a=b", "13" },
      { request.method, request.target, request:get "cookie",
        request:get "Sec-WebSocket-Version" })
    assert.equal("hi", client:read_message().payload)
    client:send("binary", "a", { fin = false })
    client:send("continuation", "b", { mask = "\0\0\0\0" })
    local message = client:read_message()
    assert.equal("abbinary", message.payload)
    assert.equal("text", message.opcode)
    assert.equal("p", message.control[1].payload)
    local pong = there:read_frame()
    assert.same({ "pong", true, "p" }, { pong.name, pong.masked, pong.payload })
    client:send("close", frames.close(1000, "done"))
    assert.same({ 1000, "done" }, { there:answer_close() })
    assert.equal("close", client:read_frame().name)
    assert.equal("eof", client:wait_end())
  end)

  it("answer an upgrade wrongly on request", function()
    for _, options in ipairs {
      { accept = sha1.accept "another key" }, { status = "200 OK" },
      { without = "Sec-WebSocket-Accept" },
    } do
      local client, there = pair()
      helper.script(function() there:answer_upgrade(options) end)
      assert.is_false(client:upgrade().accepted)
    end
    local client, there = pair()
    helper.script(function() there:answer_upgrade { protocol = false } end)
    assert.is_nil(client:upgrade():get "Sec-WebSocket-Protocol")
  end)
end)

describe("certificates #slow", function()
  -- What OpenSSL says about one, beside what |...| (options) asks.
  local function outcome(name, ...)
    local dir = helper.certs()
    local command = { "openssl", "verify", "-x509_strict", "-CAfile",
                      dir .. "/ca.pem", "-purpose", "sslserver", ... }
    command[#command + 1] = dir .. "/" .. name .. ".pem"
    local code, out, err = process.run(command)
    return code == 0 and "good" or out .. err
  end

  it("are right or wrong in exactly one way", function()
    local named = { "-verify_hostname", "localhost" }
    local numbered = { "-verify_ip", "127.0.0.1" }
    for _, case in ipairs {
      { "server", "^good", named },
      { "server", "^good", numbered },
      { "server", "^good", { "-verify_ip", "::1" } },
      { "inter", "^good", { "-untrusted",
                            helper.certs() .. "/intermediate.pem" } },
      { "wildcard", "^good", { "-verify_hostname", "a.example.test" } },
      { "expired", "certificate has expired", named },
      { "expired", "^good", { "-attime", "1590000000" } },
      { "future", "certificate is not yet valid", named },
      { "wrong-host", "hostname mismatch", named },
      { "wrong-host", "^good", {} },
      { "wrong-ip", "IP address mismatch", numbered },
      { "wrong-ip", "^good", named },
      { "wrong-usage", "unsuitable certificate purpose", named },
      { "other", "unable to get local issuer certificate", named },
      { "inter", "unable to get local issuer certificate", named },
      { "self-signed", "self%-signed certificate", named },
    } do
      local text = outcome(case[1], (table.unpack or unpack)(case[3]))
      assert.matches(case[2], text, case[1])
    end
  end)

  it("are made once", function()
    local dir = helper.certs()
    local before = assert(uv.fs_stat(dir .. "/server.pem")).ino
    local code = process.run { helper.root .. "/spec/support/certs.sh", dir }
    assert.equal(0, code)
    assert.equal(before, uv.fs_stat(dir .. "/server.pem").ino)
  end)

  it("have a client key that needs its password", function()
    local key = helper.certs() .. "/client-encrypted.key"
    local function open(password)
      return (process.run { "openssl", "pkey", "-in", key, "-noout",
                            "-passin", "pass:" .. password })
    end
    assert.equal(0, open "secret")
    assert.not_equal(0, open "wrong")
  end)
end)

describe("the node server #slow", function()
  local peer

  setup(function()
    local dir = helper.certs()
    peer = node_server.start { tls = { cert = dir .. "/server.pem",
                                       key = dir .. "/server.key" } }
  end)
  teardown(function() peer:stop() end)

  local function connect(options)
    local client = rawpeer.connect { port = peer.ws }
    local answer = client:upgrade(options)
    if answer.status == 101 then client.id = peer:event("open").id end
    return client, answer
  end

  it("agrees on sip and tells what it was asked", function()
    local client = rawpeer.connect { port = peer.ws }
    local answer = client:upgrade { path = "/a?b=c",
                                    headers = { "Origin: http://here" } }
    assert.is_true(answer.accepted)
    assert.equal("sip", answer:get "Sec-WebSocket-Protocol")
    local open = peer:event "open"
    assert.equal("/a?b=c", open.path)
    assert.equal("http://here", open.headers.origin)
    assert.is_false(open.secure)
  end)

  it("echoes text and binary and reports size and hash", function()
    local client = connect()
    for _, opcode in ipairs { "text", "binary" } do
      for _, size in ipairs { 0, 1, 65536, 1048576 } do
        local payload = string.rep("0123456789abcdef", 65536):sub(1, size)
        client:send(opcode, payload)
        local message = client:read_message(20)
        assert.equal(opcode, message.opcode)
        assert.is_true(message.payload == payload)
        local seen = peer:event("message", { id = client.id })
        assert.equal(size, seen.size)
        assert.equal(process.sha256(payload), seen.sha256)
        assert.equal(opcode == "binary", seen.binary)
      end
    end
  end)

  it("sends what it is told to", function()
    local client = connect()
    client:send("text", "TEXT 28")
    assert.equal("abcdefghijklmnopqrstuvwxyzab", client:read_message().payload)
    client:send("text", "BINARY 257")
    local message = client:read_message()
    assert.equal("binary", message.opcode)
    assert.equal("\255\0", message.payload:sub(256))
    client:send("text", "FRAGMENT 10 3")
    message = client:read_message()
    assert.equal("abcdefghij", message.payload)
    assert.equal(3, #message.frames)
    client:send("text", "MANY 3 2")
    for _ = 1, 3 do assert.equal("ab", client:read_message().payload) end
    client:send("text", "PING data")
    local ping = client:read_frame()
    assert.same({ "ping", "data" }, { ping.name, ping.payload })
    client:send("pong", ping.payload)
    assert.equal("data", peer:event("pong", { id = client.id }).data)
    client:send("ping", "q")
    assert.equal("pong", client:read_frame().name)
    assert.equal("q", peer:event("ping", { id = client.id }).data)
  end)

  it("closes as it is told, and tells how it was closed", function()
    local client = connect()
    assert.equal(0, peer:seen("close", { id = client.id }))
    client:send("text", "CLOSE 4001 some reason")
    assert.same({ 4001, "some reason" }, { client:answer_close() })
    local close = peer:event("close", { id = client.id })
    assert.same({ 4001, "some reason" }, { close.code, close.reason })
    assert.equal("eof", client:wait_end())
    client = connect()
    client:send("close", frames.close(1000, "mine"))
    assert.equal("close", client:read_frame().name)
    client:fin()
    close = peer:event("close", { id = client.id })
    assert.same({ 1000, "mine" }, { close.code, close.reason })
    client = connect()
    client:send("text", "TERMINATE")
    assert.equal("ECONNRESET", client:wait_end())
    assert.equal(1006, peer:event("close", { id = client.id }).code)
    client = connect()
    client:send("text", "FIN")
    assert.equal("eof", client:wait_end())
    assert.equal("", client:peek())
    client:close()
    assert.equal(1006, peer:event("close", { id = client.id }).code)
  end)

  it("answers upgrades as the path says", function()
    local _, answer = connect { path = "/refuse?status=503" }
    assert.equal(503, answer.status)
    assert.equal(503, peer:event("refused").status)
    _, answer = connect { path = "/redirect" }
    assert.equal(302, answer.status)
    assert.equal("ws://localhost/elsewhere", answer:get "Location")
    _, answer = connect { path = "/noproto" }
    assert.is_true(answer.accepted)
    assert.is_nil(answer:get "Sec-WebSocket-Protocol")
    _, answer = connect { path = "/proto?name=xmpp" }
    assert.equal("xmpp", answer:get "Sec-WebSocket-Protocol")
    local client = rawpeer.connect { port = peer.ws }
    assert.is_false(pcall(client.upgrade, client,
      { path = "/hang", limit = brief(0.2) }))
    client = connect { path = "/greet?n=2" }
    assert.equal("hello 1", client:read_message().payload)
    assert.equal("hello 2", client:read_message().payload)
  end)

  it("stays silent on /sink and /mute", function()
    local client = connect { path = "/sink" }
    client:send("text", "x")
    assert.equal(1, peer:event("message", { id = client.id }).size)
    client:send("ping", "end")
    assert.equal("pong", client:read_frame().name)
    client = connect { path = "/mute" }
    client:send("ping", "x")
    assert.equal("x", peer:event("ping", { id = client.id }).data)
    client:send("text", "y")
    assert.equal("y", client:read_message().payload)
  end)

  it("asks for Basic authentication", function()
    local _, answer = connect { path = "/basic" }
    assert.equal(401, answer.status)
    assert.matches("^Basic realm=", answer:get "WWW-Authenticate")
    _, answer = connect { path = "/basic", headers = {
      "Authorization: Basic " .. sha1.base64("alice:secret") } }
    assert.is_true(answer.accepted)
    _, answer = connect { path = "/basic", headers = {
      "Authorization: Basic " .. sha1.base64("alice:wrong") } }
    assert.equal(401, answer.status)
  end)

  local function digest(command, text)
    local _, out = process.run { command, input = text }
    return out:match "^%x+"
  end

  for _, case in ipairs {
    { "MD5", "md5sum" }, { "SHA-256", "sha256sum", "auth" },
  } do
    it("asks for Digest authentication with " .. case[1], function()
      local algorithm, command, qop = case[1], case[2], case[3]
      local path = "/digest?algorithm=" .. algorithm ..
        (qop and "&qop=" .. qop or "")
      local function try(password)
        local _, answer = connect { path = path }
        assert.equal(401, answer.status)
        local nonce = answer:get("WWW-Authenticate"):match 'nonce="(.-)"'
        local a1 = digest(command, 'alice:spec, "quoted":' .. password)
        local a2 = digest(command, "GET:" .. path)
        local middle = qop and nonce .. ":00000001:abc:auth" or nonce
        local fields = {
          'username="alice"', [[realm="spec, \"quoted\""]],
          'nonce="' .. nonce .. '"', 'uri="' .. path .. '"',
          'opaque="opaque"', "algorithm=" .. algorithm,
          'response="' .. digest(command,
            a1 .. ":" .. middle .. ":" .. a2) .. '"',
        }
        if qop then
          fields[#fields + 1] = 'qop=auth, nc=00000001, cnonce="abc"'
        end
        _, answer = connect { path = path, headers = {
          "Authorization: Digest " .. table.concat(fields, ", ") } }
        return answer.status
      end
      assert.equal(101, try "secret")
      assert.equal(401, try "wrong")
    end)
  end

  it("speaks TLS with the certificate it was given", function()
    local client = process.spawn { "openssl", "s_client", "-connect",
      "127.0.0.1:" .. peer.wss, "-servername", "localhost", "-CAfile",
      helper.certs() .. "/ca.pem", "-verify_return_error", "-verify_hostname",
      "localhost", "-quiet", "-no_ign_eof" }
    client:write(table.concat({ "GET / HTTP/1.1", "Host: localhost",
      "Upgrade: websocket", "Connection: Upgrade",
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
      "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: sip", "", "" },
      "\r\n"))
    assert.equal("HTTP/1.1 101 Switching Protocols\r", client:line(10))
    local open = peer:event "open"
    assert.is_true(open.secure)
    assert.equal("localhost", open.server_name)
  end)

  it("ends when its stdin does", function()
    local other = node_server.start()
    assert.is_nil(other.wss)
    other.process:close_stdin()
    assert.equal(0, (other.process:wait()))
  end)
end)

describe("Kamailio #slow", function()
  local next_call = 0

  local function request(method, uri, fields)
    next_call = next_call + 1
    local lines = {
      method .. " " .. uri .. " SIP/2.0",
      "Via: SIP/2.0/WS raw.invalid;branch=z9hG4bK" .. next_call,
      "Max-Forwards: 70",
      "From: <sip:" .. fields.from .. "@localhost>;tag=t" .. next_call,
      "To: <sip:" .. (fields.to or fields.from) .. "@localhost>",
      "Call-ID: support-" .. next_call .. "@raw.invalid",
      "CSeq: 1 " .. method,
    }
    for _, line in ipairs(fields) do lines[#lines + 1] = line end
    lines[#lines + 1] = "Content-Length: " .. #(fields.body or "")
    return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (fields.body or "")
  end

  local function connect(k, path)
    local client = rawpeer.connect { port = k.ws }
    local answer = client:upgrade { path = path }
    return client, answer
  end

  local function ask(client, ...)
    client:send("text", request(...))
    return client:read_message().payload
  end

  local function register(client, user)
    return ask(client, "REGISTER", "sip:localhost", { from = user,
      "Contact: <sip:" .. user .. "@raw.invalid;transport=ws>;expires=60" })
  end

  it("starts and answers OPTIONS", function()
    local client, answer = connect(helper.kamailio "NO_AUTH")
    assert.is_true(answer.accepted)
    assert.equal("sip", answer:get "Sec-WebSocket-Protocol")
    assert.matches("^SIP/2.0 200 ",
      ask(client, "OPTIONS", "sip:localhost", { from = "a" }))
  end)

  it("relays a MESSAGE between two registered users", function()
    local k = helper.kamailio "NO_AUTH"
    local alice, bob = connect(k), (connect(k))
    assert.matches("^SIP/2.0 200 .*Contact:", register(alice, "alice"))
    assert.matches("^SIP/2.0 200 .*Contact:", register(bob, "bob"))
    alice:send("text", request("MESSAGE", "sip:bob@localhost",
      { from = "alice", to = "bob", "Content-Type: text/plain",
        body = "hello bob" }))
    local message = bob:read_message().payload
    assert.matches("^MESSAGE sip:bob@", message)
    assert.matches("\r\n\r\nhello bob$", message)
    local via = {}
    for line in message:gmatch "(Via:[^\r]*)" do via[#via + 1] = line end
    bob:send("text", table.concat({ "SIP/2.0 200 Heard",
      table.concat(via, "\r\n"), message:match "(From:[^\r]*)",
      message:match "(To:[^\r]*)" .. ";tag=b",
      message:match "(Call%-ID:[^\r]*)", message:match "(CSeq:[^\r]*)",
      "Content-Length: 0", "", "" }, "\r\n"))
    assert.matches("^SIP/2.0 200 Heard", alice:read_message().payload)
  end)

  it("forgets a user whose connection is gone", function()
    local k = helper.kamailio "NO_AUTH"
    local alice, bob = connect(k), (connect(k))
    assert.matches("^SIP/2.0 200 ", register(bob, "bob7"))
    bob:reset()
    run_until(function()
      return ask(alice, "MESSAGE", "sip:bob7@localhost",
        { from = "alice", to = "bob7" }):match "^SIP/2.0 404"
    end, 10, "404 for bob7")
  end)

  local function answer_challenge(k, user, password)
    local client = connect(k)
    local challenge = register(client, user)
    assert.matches("^SIP/2.0 401 ", challenge)
    local realm, nonce =
      challenge:match 'realm="(.-)"', challenge:match 'nonce="(.-)"'
    local function md5(text)
      local _, out = process.run { "md5sum", input = text }
      return out:match "^%x+"
    end
    local response = md5(md5(user .. ":" .. realm .. ":" .. password) .. ":" ..
      nonce .. ":00000001:c:auth:" .. md5 "REGISTER:sip:localhost")
    return ask(client, "REGISTER", "sip:localhost", { from = user,
      ('Authorization: Digest username="%s", realm="%s", nonce="%s", ' ..
       'uri="sip:localhost", qop=auth, nc=00000001, cnonce="c", ' ..
       'response="%s", algorithm=MD5'):format(user, realm, nonce, response),
      "Contact: <sip:" .. user .. "@raw.invalid;transport=ws>;expires=60" })
  end

  it("authenticates its users", function()
    local k = helper.kamailio()
    assert.matches("^SIP/2.0 200 ", answer_challenge(k, "u17", "secret-u17"))
    assert.matches("^SIP/2.0 401 ", answer_challenge(k, "u17", "secret-u18"))
    assert.matches("^SIP/2.0 200 ", answer_challenge(k, "carol", 'päss: "q"'))
  end)

  it("misbehaves for magic users", function()
    local k = helper.kamailio()
    local client = connect(k)
    assert.matches("^SIP/2.0 486 ",
      ask(client, "OPTIONS", "sip:busy@localhost", { from = "a" }))
    assert.matches("^SIP/2.0 599 ", ask(client, "OPTIONS",
      "sip:fail@localhost", { from = "a", "X-Code: 599" }))
    client:send("text", request("OPTIONS", "sip:black-hole@localhost",
      { from = "a" }))
    assert.matches("^SIP/2.0 200 ",
      ask(client, "OPTIONS", "sip:ok@localhost", { from = "a" }))
    client:send("text", request("OPTIONS", "sip:ws-close@localhost",
      { from = "a", "X-Code: 1008", "X-Reason: go" }))
    assert.same({ 1008, "go" }, { client:answer_close() })
    client = connect(k)
    client:send("text", request("OPTIONS", "sip:ws-reply-close@localhost",
      { from = "a" }))
    assert.matches("^SIP/2.0 200 ", client:read_message().payload)
    assert.equal(1001, (client:answer_close()))
    client = connect(k)
    client:send("text", request("OPTIONS", "sip:tcp-drop@localhost",
      { from = "a" }))
    client:wait_end()
    assert.equal("", client:peek())
  end)

  it("answers upgrades as the path says", function()
    local k = helper.kamailio()
    assert.equal(403, select(2, connect(k, "/deny")).status)
    local _, answer = connect(k, "/redirect")
    assert.equal(302, answer.status)
    assert.equal("ws://localhost/elsewhere", answer:get "Location")
    local client = rawpeer.connect { port = k.ws }
    assert.is_false(pcall(client.upgrade, client,
      { path = "/hang", limit = brief(0.2) }))
    client = rawpeer.connect { port = k.ws }
    assert.equal(400, client:upgrade({ protocol = "sipfoo" }).status)
    assert.matches("ws_connections", k:rpc("ws.dump"):lower() ..
      " ws_connections")
  end)

  it("has a TLS port for each kind of certificate", function()
    local k = helper.kamailio()
    local function verify(port, ...)
      local _, out, err = process.run { "openssl", "s_client", "-connect",
        "127.0.0.1:" .. port, "-CAfile", k.certs .. "/ca.pem",
        "-verify_hostname", "localhost", "-tls1_2", input = "Q\n", ... }
      return (out .. err):match "Verify return code: (%d+)", out .. err
    end
    assert.equal("0", (verify(k.wss)))
    assert.equal("10", (verify(k.expired)))
    assert.equal("62", (verify(k.wrong_host)))
    assert.matches("handshake failure", select(2, verify(k.mtls)))
    local code, text = verify(k.mtls, "-cert", k.certs .. "/client.pem",
      "-key", k.certs .. "/client.key")
    assert.equal("0", code, text)
    assert.not_matches("handshake failure", text)
  end)
end)

describe("helper.watch #slow", function()
  local function run_spec(body)
    local path = helper.tmpdir() .. "/inner_spec.lua"
    local file = assert(io.open(path, "w"))
    file:write('local helper = require "spec.helper"\n',
      'local rawpeer = require "spec.support.rawpeer"\n',
      'local uv = require "luv"\nhelper.watch()\n', body)
    file:close()
    local command = process.lua("/usr/bin/busted",
      "--helper=" .. helper.root .. "/spec/helper.lua", path)
    command.as_is, command.limit = true, 60
    local code, out, err = process.run(command)
    return code, out .. err
  end

  it("lets a clean spec pass, whatever its fixtures left open", function()
    local code, out = run_spec [[
      it("is clean", function()
        local server = rawpeer.listen()
        rawpeer.connect { port = server.port }
        local f, seen = helper.counted(function(a, b) return a + b end, 2)
        assert.equal(3, f(1, 2))
        f(4, 5)
        assert.equal(5, seen.last[2])
        assert.equal(2, seen.all[1][2])
        helper.never()
      end)
    ]]
    assert.equal(0, code, out)
  end)

  local fake_loop = [[
    loop = { step = function() end, _transports = {}, _core = {} }
    function loop._core:alive() return self.busy end
    transport = setmetatable({ state = "Connected", dispose = print },
      { __tostring = function() return "sipwire.transport: fake" end })
    package.loaded["sipwire.loop"] = { default = function() return loop end }
  ]]

  for name, case in pairs {
    ["a callback too few"] = { [[helper.counted(nil, 1, "on_x")]],
      "on_x of .-inner_spec.lua:%d+: 0 calls instead of 1" },
    ["a callback too many"] = { [[helper.never("on_y")()]],
      "on_y of .-: 1 calls instead of 0" },
    ["a descriptor left open"] = {
      [[leak = uv.new_tcp() leak:bind("127.0.0.1", 0)]],
      "descriptors left open: socket:%[%] %d+ %-> %d+" },
    ["an error in a callback"] = {
      [[require "spec.support.run".report "lost error"]],
      "errors in callbacks: lost error" },
    ["a transport that is not Disconnected"] = {
      "loop._transports[1] = transport", "left over: sipwire.transport: fake",
      fake_loop },
    ["a loop that still waits for something"] = {
      "loop._core.busy = true", "default loop still has something", fake_loop },
    ["an error that went to the loop's handler"] = {
      "loop.on_error('from on_message')", "from on_message", fake_loop },
  } do
    it("reports " .. name, function()
      local code, out = run_spec((case[3] or "") ..
        "\nit('is dirty', function() " .. case[1] .. " end)")
      assert.not_equal(0, code, out)
      assert.matches(case[2], out)
    end)
  end

  it("reports a call that comes after its spec", function()
    local code, out = run_spec [[
      local f
      it("ends early", function() f = helper.counted(nil, 0, "late one") end)
      it("pays for it", function() f() end)
    ]]
    assert.not_equal(0, code, out)
    assert.matches("late one of .- was called after its spec", out)
  end)

  it("checks after the spec's own after_each", function()
    local code, out = run_spec [[
      describe("block", function()
        local tcp
        after_each(function() tcp:close() end)
        it("cleans up late", function()
          tcp = uv.new_tcp()
          tcp:bind("127.0.0.1", 0)
        end)
      end)
    ]]
    assert.equal(0, code, out)
  end)
end)
