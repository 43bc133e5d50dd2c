-- SPDX-License-Identifier: MIT
-- The transport's rules one by one; transport_matrix_spec.lua has all states
-- and operations together.

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local process = require "spec.support.process"
local rawpeer = require "spec.support.rawpeer"
local recorder = require "spec.support.recorder"
local run = require "spec.support.run"
local sipwire = require "sipwire"
local uv = require "luv"

helper.watch()

-- A client and a raw peer that are Connected.
local function connected(options, listen)
  local peer = peers.raw(listen)
  local r = recorder.client(peer, options)
  r:up()
  return r, peer, peer:link()
end

local function ticks(r, n)
  for _ = 1, n or 5 do
    if r.poll then r.poll() end
    recorder.drain(1, r.t.loop)
  end
end

local function gone(r)
  r.t:disconnect()
  r:await("Disconnected", function() return r.t.state == "Disconnected" end)
end

-- A callback in the next tick, before that tick's news of the network: what is
-- in the socket is read in the tick, what it says is not applied yet.
local function first_in_tick(loop, fn)
  local came = false
  loop:timer(0, recorder.callback(function()
    came = true
    fn()
  end))
  loop:step(0)
  assert.is_true(came)
end

describe("a new transport", function()
  it("is Disconnected and silent (C1, C6)", function()
    local r = recorder.client(peers.raw())
    assert.equal("Disconnected", r.t.state)
    assert.is_false(r.t:is_connected())
    r:expect ""
  end)

  it("needs a server (C2)", function()
    local ok, err = pcall(sipwire.new, { loop = recorder.loop() })
    assert.is_false(ok)
    assert.truthy(err:find("option 'server' is required", 1, true), err)
  end)

  it("says which server and Via transport it has (C4, C5)", function()
    local loop = recorder.loop()
    for url, protocol in pairs { ["ws://a.example/x?y"] = "WS",
                                 ["WSS://b.example:1234/"] = "WSS" } do
      local t = sipwire.new { server = url, loop = loop }
      assert.equal(url, t.server)
      assert.equal(protocol, t.protocol)
      local other = protocol == "WS" and "WSS" or "WS"
      t.protocol = other
      assert.equal(other, t.protocol)
      t.protocol = nil
      assert.equal(protocol, t.protocol)
      assert.is_false((pcall(function() t.protocol = "TCP" end)))
      assert.is_false((pcall(function() t.server = "ws://c.example" end)))
      assert.is_false((pcall(function() t.state = "Connected" end)))
      assert.equal("Disconnected", t.state)
    end
  end)
end)

describe("connect()", function()
  it("opens one link however often it is called (C10, C11)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:connect "c2"
    r:await("a request", function() return peer:asked() end)
    r:connect "c3"
    r:expect "Connecting"
    peer.held = false
    r:expect "Connected, up, c1, c2, c3"
    assert.equal(1, #peer.links)
    gone(r)
  end)

  it("leaves the server alone when Connected (C12)", function()
    local r, peer, link = connected()
    local received = link.c.received
    r:connect "c1"
    r:expect "c1"
    assert.equal(1, #peer.links)
    assert.equal(received, link.c.received)
    gone(r)
  end)

  it("opens a new link beside one that closes unseen (C13)", function()
    local r, peer, old = connected { disconnect_timeout = 0.2 * run.scale }
    peer.held = true
    r:send("s1", "last words")
    r:disconnect "d1"
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    r:expect "Disconnecting, down, Connecting, d1 aborted, s1"
    assert.equal(2, #peer.links)
    assert.equal("last words", old.messages[1])
    assert.equal(1000, old.close_code)
    peer:answer(peer:link())
    r:expect "Connected, up, c1"
    -- what the old one still says is nobody's business
    old.c:send("text", "late")
    r:expect ""
    -- nor is its end, which comes by itself
    r:await("end of the old link", function() return old.c:ended() end)
    r:expect ""
    assert.equal("Connected", r.t.state)
    peer:send "new"
    r:expect "message new"
    peer.held = false
    gone(r)
  end)
end)

describe("a failed connect()", function()
  -- Fails once with |url|, then connects to a good peer with the same object.
  local function fails(url, code, phase, options)
    local good = peers.raw()
    local given = { server = function() return url end }
    for name, value in pairs(options or {}) do given[name] = value end
    local r = recorder.client(good, given)
    for _ = 1, 2 do
      assert.is_true(r:connect "c1")
      r:expect(("Connecting, Disconnected %s, c1 %s"):format(code, code))
      local told = r.ends.c1
      assert.equal(phase, told.info.phase)
      assert.equal(told.err, r.ends.Disconnected.err)
      assert.equal(phase, r.ends.Disconnected.info.phase)
      assert.is_nil(told.info.close_code)
    end
    url = good.url
    r:up()
    r:down()
    return r.ends.c1
  end

  -- A peer that sends |bytes| as soon as it has the request, and hangs up.
  local function answering(bytes)
    local server = rawpeer.listen()
    server:each(function(c)
      c:take_until "\r\n"
      c:write(bytes):fin()
    end)
    return server
  end

  it("is refused where nobody listens (C15, C20)", function()
    local told = fails(rawpeer.refusing():url(), "refused", "tcp")
    assert.equal(uv.constants.ECONNREFUSED or 111, told.info.errno)
  end)

  it("does not take any answer for a WebSocket (C15, C20)", function()
    fails(answering("220 mail.example\r\n\r\n"):url(), "http", "upgrade")
  end)

  it("tells how HTTP refused it (C15, C20)", function()
    local answer = "HTTP/1.1 302 Found\r\nLocation: ws://x/\r\n" ..
      "Content-Length: 0\r\n\r\n"
    local told = fails(answering(answer):url(), "http", "upgrade")
    assert.equal(302, told.info.http_status)
    assert.equal("ws://x/", told.info.http_headers.location)
  end)

  it("does not take another subprotocol (C15, C20)", function()
    local server = rawpeer.listen():each(function(c)
      c:answer_upgrade { protocol = "chat" }
    end)
    fails(server:url(), "subprotocol", "upgrade")
  end)

  it("does not take anything for TLS (C15, C20)", function()
    local server = rawpeer.listen():each(function(c)
      c:take(5)
      c:write "HTTP/1.1 400 Bad Request\r\n\r\n"
      c:fin()
    end)
    local told = fails(server:url():gsub("^ws", "wss"), "tls", "tls")
    assert.truthy(told.info.tls_error)
  end)

  it("is closed by a peer that goes before it answers (C15, C20)", function()
    local server = rawpeer.listen():each(function(c)
      c:take_until "\r\n\r\n"
      c:fin()
    end)
    fails(server:url(), "closed", "upgrade")
  end)
end)

describe("connection_timeout", function()
  local limit = 0.15

  local function times_out(url, phase)
    local r = recorder.client({ url = url, poll = function() end },
      { connection_timeout = limit })
    local began = run.now()
    r:connect "c1"
    r:expect "Connecting, Disconnected timeout, c1 timeout"
    local took = run.now() - began
    assert.is_true(took > limit - 0.01, "too early: " .. took)
    assert.equal(phase, r.ends.c1.info.phase)
    assert.equal(phase, r.ends.Disconnected.info.phase)
  end

  it("covers TCP (C16)", function()
    times_out(rawpeer.black_hole():url(), "tcp")
  end)

  it("covers TLS (C16)", function()
    local server = rawpeer.listen()
    times_out(server:url():gsub("^ws", "wss"), "tls")
    assert.equal("\22\3", server:accept():take(2))
  end)

  it("covers the upgrade (C16)", function()
    local server = rawpeer.listen()
    times_out(server:url(), "upgrade")
    server:accept():read_head()
  end)

  it("is one limit for all of it, however busy the peer (C16)", function()
    local server = rawpeer.listen():each(function(c)
      c:take_until "\r\n\r\n"
      c:write "HTTP/1.1 101 Switching Protocols\r\nServer: "
      repeat
        c:write "a"
        helper.pass()
      until c:ended()
    end)
    times_out(server:url(), "upgrade")
  end)

  it("covers the look-up of a name (C16)", function()
    -- a look-up that does not end: the file it begins with is a pipe
    local fifo = helper.tmpdir() .. "/hosts"
    assert.equal(0, (process.run { "mkfifo", fifo }))
    local mount = "mount --bind '" .. fifo .. "' /etc/hosts && exec \"$@\""
    local test = { "unshare", "-m", "sh", "-c", mount, "sh", "true" }
    if process.run(test) ~= 0 then
      return pending "needs the right to mount"
    end
    local command = { "unshare", "-m", "sh", "-c", mount, "sh", as_is = true,
      env = { LUA_PATH = package.path, LUA_CPATH = package.cpath }, limit = 20 }
    for _, word in ipairs(process.lua("-e", [[
        local sipwire = require "sipwire"
        local t = sipwire.new { server = "ws://slow.example/",
                                connection_timeout = 0.05 }
        t:connect(function(err, code, info) print(code, info.phase) end)
        assert(sipwire.run())
        print(t.state)
      ]])) do
      table.insert(command, word)
    end
    local code, out, err = process.run(command)
    assert.equal("", err)
    assert.equal("timeout\tdns\nDisconnected\n", out)
    assert.equal(0, code)
  end)

  it("of 0 is none (C16)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer, { connection_timeout = 0 })
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    ticks(r)
    -- what is left are the periods of the loop's own housekeeping
    assert.is_true((r.t.loop:timeout() or 1000) > 5)
    peer.held = false
    r:expect "Connecting, Connected, up, c1"
    gone(r)
  end)
end)

describe("disconnect()", function()
  it("succeeds at Disconnected, for all who wait (C21, C23, C24)", function()
    local r, peer, link = connected()
    peer.held = true
    r:disconnect "d1"
    r:disconnect "d2"
    r:expect "Disconnecting, down"
    assert.is_nil(r.ends.down)
    r:disconnect "d3"
    r:expect ""
    peer.held = false
    r:expect "Disconnected, d1, d2, d3"
    r:disconnect "d4"
    r:expect "d4"
    assert.equal(1000, link.close_code)
    assert.equal("", link.close_reason)
    assert.equal(1, #peer.links)
  end)

  it("waits for the peer's close no longer than its limit (C27)", function()
    local limit = 0.15
    local r, peer, link = connected { disconnect_timeout = limit }
    peer.held = true
    local began = run.now()
    r:disconnect "d1"
    r:expect "Disconnecting, down, Disconnected, d1"
    assert.is_true(run.now() - began > limit - 0.01)
    r:await("end of the link", function() return link.c:ended() end)
    peer.held = false
    r:up() -- C20
    r:down()
  end)

  it("ends a connection whose peer does not even read (C27)", function()
    local r, peer, link = connected({ disconnect_timeout = 0.15,
      send_queue_limit = 2 ^ 26 }, { recv_buffer = 4096 })
    link.c:pause()
    peer.held = true
    for i = 1, 12 do r:send(i == 12 and "last" or nil, ("x"):rep(2 ^ 20)) end
    r:disconnect "d1"
    r:expect "Disconnecting, down, Disconnected, d1, last timeout"
  end)

  it("closes a link that opens meanwhile and does not use it (C28)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    r:expect "Connecting"
    peer:message_with_answer "too late"
    first_in_tick(r.t.loop, function()
      assert.equal("Connecting", r.t.state)
      r.t:disconnect(r:done "d1")
      assert.equal("Disconnecting", r.t.state)
    end)
    peer.held = false
    r:expect "Disconnecting, c1 aborted, Disconnected, d1"
    r:await("end of the link", function() return peer:link().c:ended() end)
    assert.equal(1000, peer:link().close_code)
    r:up()
    r:down()
  end)

  it("lets go of a link that opened in the same tick (C13, C28)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    r:expect "Connecting"
    peer:message_with_answer "from the old link"
    first_in_tick(r.t.loop, function()
      r.t:disconnect(r:done "d1")
      r.t:connect(r:done "c2")
      assert.equal("Connecting", r.t.state)
    end)
    peer.held = false
    r:expect("Disconnecting, c1 aborted, Connecting, d1 aborted, " ..
      "Connected, up, c2")
    assert.equal(2, #peer.links)
    assert.equal(1000, peer.links[1].close_code)
    gone(r)
  end)
end)
