-- SPDX-License-Identifier: MIT
-- Messages and keep-alives with node's ws as the peer, over ws and wss: what
-- each side sent, as the other saw it.

local helper = require "spec.helper"
local node_pair = require "spec.support.node_pair"
local pair = require "spec.support.pair"
local process = require "spec.support.process"
local scale = require "spec.support.run".scale

local messages = node_pair.messages
local run_until = helper.run_until

helper.watch()

local peer

setup(function() peer = node_pair.start() end)
teardown(function() peer:stop() end)

local function leave(t, id) node_pair.leave(peer, t, id) end

-- What the peer's TEXT and BINARY n are.
local letters, bytes = {}, {}
for i = 97, 122 do letters[#letters + 1] = string.char(i) end
for i = 0, 255 do bytes[#bytes + 1] = string.char(i) end
letters, bytes = table.concat(letters), table.concat(bytes)

local function cycle(pattern, size)
  return pattern:rep(math.ceil(size / #pattern)):sub(1, size)
end

local sizes = { 0, 1, 125, 126, 127, 65535, 65536, 1048576 }

for _, scheme in ipairs { "ws", "wss" } do
  local function open(path, more)
    return node_pair.open(peer, scheme, path, more)
  end

  describe("over " .. scheme .. ", node", function()
    it("is asked as RFC 7118 says (R1, R14, R16, R18, R21)", function()
      local dir = helper.certs()
      local tls = scheme == "wss" and { ca_file = dir .. "/ca.pem",
        cert_file = dir .. "/client.pem", key_file = dir .. "/client.key" }
      local t, _, asked = open("/a/b?c=%20d", { tls = tls or nil, headers = {
        Origin = "https://here.test", Cookie = "a=b; c=d",
        ["X-More"] = { "one", "two" } } })
      assert.equal("/a/b?c=%20d", asked.path)
      local headers = asked.headers
      assert.equal("sip", headers["sec-websocket-protocol"])
      assert.equal("13", headers["sec-websocket-version"])
      assert.matches("^[%w+/]+==$", headers["sec-websocket-key"])
      assert.equal(24, #headers["sec-websocket-key"])
      assert.is_nil(headers["sec-websocket-extensions"])
      assert.equal("websocket", headers.upgrade:lower())
      assert.equal("upgrade", headers.connection:lower())
      assert.equal("https://here.test", headers.origin)
      assert.equal("a=b; c=d", headers.cookie)
      assert.equal("one, two", headers["x-more"])
      assert.equal(t.server:match "://(.-)/", headers.host)
      assert.equal(scheme == "wss", asked.secure)
      if scheme == "wss" then
        assert.equal("TLSv1.3", asked.tls)
        assert.equal("localhost", asked.server_name)
        assert.equal("alice", asked.client_cert)
      end
      leave(t, asked.id)
    end)

    -- Each message goes there and comes back.
    for _, kind in ipairs { "text", "binary" } do
      it("sees every byte of our " .. kind .. ", and we of its (R5, R8, C38)",
        function()
          local t, seen, asked = open()
          local pattern = kind == "text" and "\195\164\0\r\n" .. letters or
            bytes
          for i, size in ipairs(sizes) do
            local payload = cycle(pattern, size)
            if kind == "text" and size % 31 == 1 then
              payload = payload:sub(1, -2) .. "." -- no half of a character
            end
            local sent
            assert(t:send(payload, function(err) sent = err or true end, kind))
            local message = peer:event("message", { id = asked.id }, 20)
            assert.is_true(sent)
            assert.equal(kind == "binary", message.binary)
            assert.equal(size, message.size)
            assert.equal(process.sha256(payload), message.sha256)
            if size > 0 then -- an empty one is dropped when it comes back
              messages(seen, i - 1)
              assert.equal(kind == "binary", seen.binary[i - 1])
              assert.is_true(seen.messages[i - 1] == payload)
            end
          end
          leave(t, asked.id)
          assert.equal(#sizes - 1, #seen.messages)
        end)
    end

    it("gets text where that is possible, else binary (R6)", function()
      local t, _, asked = open "/sink"
      for _, case in ipairs {
        { "a", false }, { "\0\r\n", false }, { "\240\159\147\158", false },
        { "\255", true }, { "a\195", true }, { "\237\160\128", true },
        { "a", true, "binary" }, { "\195\164", false, "text" },
      } do
        assert(t:send(case[1], nil, case[3]))
        local message = peer:event("message", { id = asked.id })
        assert.equal(#case[1], message.size)
        assert.equal(case[2], message.binary)
      end
      assert.equal("utf8", select(3, t:send("\255", nil, "text")))
      leave(t, asked.id)
      assert.equal(0, peer:seen("message", { id = asked.id }))
    end)

    it("is understood whatever it makes itself (R5, C38)", function()
      local t, seen, asked = open "/sink"
      local wanted, binary = {}, {}
      for _, size in ipairs(sizes) do
        t:send("TEXT " .. size)
        t:send("BINARY " .. size)
        if size > 0 then -- the empty ones are dropped
          wanted[#wanted + 1] = cycle(letters, size)
          wanted[#wanted + 1] = cycle(bytes, size)
          binary[#wanted - 1], binary[#wanted] = false, true
        end
      end
      messages(seen, #wanted)
      assert.same(binary, seen.binary)
      for i, text in ipairs(wanted) do
        assert.is_true(seen.messages[i] == text, i)
      end
      leave(t, asked.id)
      assert.equal(#wanted, #seen.messages)
    end)

    it("may cut its messages into fragments (R8)", function()
      local t, seen, asked = open()
      local cuts = { { 10, 1 }, { 10, 3 }, { 3, 7 }, { 200, 200 },
                     { 65537, 2 }, { 100000, 1000 }, { 1048576, 5 } }
      for i, cut in ipairs(cuts) do
        t:send(("FRAGMENT %d %d"):format(cut[1], cut[2]))
        messages(seen, i)
        assert.is_true(seen.messages[i] == cycle(letters, cut[1]), i)
        assert.is_false(seen.binary[i])
      end
      leave(t, asked.id)
      assert.equal(#cuts, #seen.messages)
    end)

    it("takes 1000 messages in a burst and sends as many (R8) #slow",
      function()
        local t, seen, asked = open()
        for i = 1, 1000 do
          -- the sizes tell their order there, the texts here
          assert(t:send(("%04d"):format(i):rep(i % 300 + 1)))
        end
        messages(seen, 1000)
        for i = 1, 1000 do
          local message = peer:event("message", { id = asked.id })
          assert.equal(4 * (i % 300 + 1), message.size)
          assert.equal(("%04d"):format(i):rep(i % 300 + 1), seen.messages[i])
        end
        t:send "MANY 1000 100"
        messages(seen, 2000)
        for i = 1001, 2000 do
          assert.equal(cycle(letters, 100), seen.messages[i])
        end
        leave(t, asked.id)
        assert.equal(2000, #seen.messages)
      end)

    it("reads all that was sent before we left (C26)", function()
      local t, _, asked = open "/sink"
      for i = 1, 200 do assert(t:send(("x"):rep(10 * i))) end
      leave(t, asked.id)
      for i = 1, 200 do
        assert.equal(10 * i, peer:event("message", { id = asked.id }).size)
      end
      assert.equal(0, peer:seen("message", { id = asked.id }))
    end)

    it("may begin at once: its messages follow on_connect (C39)", function()
      local t, seen, asked = open "/greet?n=1000"
      messages(seen, 1000)
      local wanted = { "up", "connected" }
      for i = 1, 1000 do wanted[i + 2] = "hello " .. i end
      assert.same(wanted, seen.order)
      leave(t, asked.id)
    end)

    it("gets an answer to its pings (R26)", function()
      local t, seen, asked = open()
      for _, data in ipairs { "p", "two words", ("x"):rep(125) } do
        t:send("PING " .. data)
        assert.equal(data, peer:event("pong", { id = asked.id }).data)
      end
      t:send "PING"
      assert.equal("", peer:event("pong", { id = asked.id }).data)
      t:send "PONG unasked" -- is nothing to us
      t:send "still here"
      messages(seen, 1)
      assert.same({ "still here" }, seen.messages)
      assert.equal(0, t:stats().pongs_received)
      leave(t, asked.id)
      assert.equal(0, peer:seen("pong", { id = asked.id }))
    end)

    it("answers our pings (C46, R31)", function()
      local t, _, asked = open("/", { keep_alive_interval = 0.02,
                                      keep_alive_timeout = 5 * scale })
      run_until(function() return t:stats().pongs_received >= 5 end)
      local stats = t:stats()
      assert.is_true(stats.rtt >= 0 and stats.rtt < 5 * scale, stats.rtt)
      for _ = 1, 5 do peer:event("ping", { id = asked.id }) end
      t:disconnect()
      pair.gone(t)
      peer:event("close", { id = asked.id, code = 1000 })
    end)

    it("is given up if it does not answer them (C46, R32)", function()
      local t, seen, asked = open("/mute", { keep_alive_interval = 0.02,
                                             keep_alive_timeout = 0.1 })
      pair.gone(t)
      assert.equal("timeout", seen.code)
      assert.equal("open", seen.info.phase)
      assert.equal(1006, seen.info.close_code)
      assert.is_false(seen.info.was_clean)
      assert.equal(0, t:stats().pongs_received)
      peer:event("ping", { id = asked.id })
      peer:event("close", { id = asked.id })
    end)
  end)
end
