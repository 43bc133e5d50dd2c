-- SPDX-License-Identifier: MIT
-- What becomes of messages: those that are sent, those that arrive, those that
-- are lost (C26, C29-C31, C34, C39, C40, DESIGN rules 7 and 11).

local helper = require "spec.helper"
local peers = require "spec.support.peers"
local rawpeer = require "spec.support.rawpeer"
local recorder = require "spec.support.recorder"

helper.watch()

local frames = rawpeer.frames

local function connected(options, listen)
  local peer = peers.raw(listen)
  local r = recorder.client(peer, options)
  r:up()
  return r, peer, peer:link()
end

local function gone(r)
  r.t:disconnect()
  r:await("Disconnected", function() return r.t.state == "Disconnected" end)
end

local function texts(...)
  local bytes = {}
  for i, payload in ipairs { ... } do
    bytes[i] = frames.build { payload = payload }
  end
  return table.concat(bytes)
end

-- "1, 2, ... n" with something around the numbers.
local function series(n, what)
  local parts = {}
  for i = 1, n do parts[i] = (what or "%d"):format(i) end
  return table.concat(parts, ", ")
end

local function first_in_tick(loop, fn)
  local came = false
  loop:timer(0, recorder.callback(function()
    came = true
    fn()
  end))
  loop:step(0)
  assert.is_true(came)
end

describe("send()", function()
  local odd = { "", "\0", "a\0b\0", "\r\n", "\195\164", "\255\254",
                ("z"):rep(125), ("z"):rep(126), ("z"):rep(65535),
                ("z"):rep(65536) }

  for _, kind in ipairs { "raw", "sipwire" } do
    it("takes any string as one message, " .. kind .. " peer (C29)", function()
      local peer = peers[kind]()
      local r = recorder.client(peer)
      r:up()
      for i, message in ipairs(odd) do
        assert.is_true(r:send("s" .. i, message))
        assert.equal("Connected", r.t.state)
      end
      r:expect(series(#odd, "s%d"))
      local link = peer:link()
      -- a SIP peer does not tell empty messages and keep-alives (C38)
      local told = {}
      for _, message in ipairs(odd) do
        local hidden = message == "" or message == "\r\n"
        if kind == "raw" or not hidden then table.insert(told, message) end
      end
      r:await("messages", function() return #link.messages >= #told end)
      assert.same(told, link.messages)
      gone(r)
    end)
  end

  it("is done once the kernel has the bytes, not when called (C29)", function()
    local r = connected()
    assert.is_true(r:send("s1", "x"))
    assert.equal("", r:take())
    r:expect "s1"
    gone(r)
  end)

  it("is not done before the kernel takes the bytes #slow (C29)", function()
    local r, _, link = connected({ send_queue_limit = 2 ^ 26 },
      { recv_buffer = 4096 })
    link.c:pause()
    for i = 1, 12 do
      assert.is_true(r:send("s" .. i, ("x"):rep(2 ^ 20)))
    end
    r:await("a full pipe", function()
      local queue = r.t:stats().queue
      recorder.drain(3, r.t.loop)
      return queue == r.t:stats().queue
    end)
    assert.is_true(r.t:stats().queue > 2 ^ 20)
    assert.is_true(#r.log < 12)
    r.poll = nil -- to take twelve megabytes apart takes long
    link.c:resume()
    r:expect(series(12, "s%d"), 20)
    assert.equal(0, r.t:stats().queue)
    link.c:reset()
    r:expect "Disconnected reset, down reset"
  end)

  it("refuses what is no string or function, at the caller's line", function()
    local r = connected()
    for _, bad in ipairs { {}, true, 12, function() end } do
      local ok, err = pcall(function() r.t:send(bad) end)
      assert.is_false(ok)
      assert.truthy(err:find("delivery_spec.lua", 1, true), err)
    end
    assert.is_false((pcall(r.t.send, r.t, "x", "no function")))
    assert.is_false((pcall(r.t.send, r.t, "x", nil, "no frame kind")))
    r:expect ""
    gone(r)
  end)

  it("keeps nothing for later in any other state (C30)", function()
    local peer = peers.raw()
    local r = recorder.client(peer)
    local function refused()
      local ok, err, code = r:send("never", "early or late")
      assert.is_nil(ok)
      assert.equal("state: cannot send while " .. r.t.state, err)
      assert.equal("state", code)
    end
    refused()
    r:connect()
    refused()
    r:expect "Connecting, Connected, up"
    r:disconnect()
    refused()
    r:expect "Disconnecting, down, Disconnected"
    refused()
    r:up()
    r:down()
    for _, link in ipairs(peer.links) do assert.same({}, link.messages) end
    assert.equal(0, r.t:stats().messages_out)
  end)
end)

describe("disconnect() after many send()s", function()
  -- Sends, disconnects, and returns what has to be on the wire.
  local function flood(r, n, size)
    local sent = {}
    for i = 1, n do
      sent[i] = ("%d "):format(i) .. ("x"):rep(size)
      assert.is_true(r:send(nil, sent[i]))
    end
    assert.is_true(r:disconnect "d1")
    assert.is_nil((r:send("never", "too late")))
    return sent
  end

  local function check(link, sent)
    assert.equal(#sent, #link.messages)
    assert.same(sent, link.messages)
    assert.equal(1000, link.close_code)
    assert.equal("", link.close_reason)
    assert.equal(0, link.c.size) -- nothing behind the close frame
  end

  it("delivers all, then 1000, in order (C26, rule 11)", function()
    local r, _, link = connected()
    local sent = flood(r, 500, 20)
    r:expect "Disconnecting, down, Disconnected, d1"
    check(link, sent)
  end)

  -- More than the kernel takes (its share is some megabytes).
  local function late(then_what)
    local peer = peers.sipwire()
    local r = recorder.client(peer, { send_queue_limit = 2 ^ 26 })
    r:up()
    peer.held = true
    local sent = flood(r, 100, 100000)
    then_what(r, peer, sent)
    return r, peer
  end

  it("delivers all to sipwire that reads late #slow (C26, rule 11)", function()
    late(function(r, peer, sent)
      r:expect "Disconnecting, down"
      assert.is_true(r.t:stats().queue > 2 ^ 20)
      peer.held = false
      r:expect("Disconnected, d1", 20)
      assert.same(sent, peer:link().messages)
      assert.equal(1000, peer:link().close_code)
    end)
  end)

  it("delivers all even if connect() follows #slow (C13, C26)", function()
    local r, peer = late(function(r, peer, sent)
      r:connect "c1"
      r:expect "Disconnecting, down, Connecting, d1 aborted"
      peer.held = false
      r:expect("Connected, up, c1", 20)
      local old = peer.links[1]
      r:await("all of it", function() return old.close_code end, 20)
      assert.same(sent, old.messages)
      assert.equal(1000, old.close_code)
    end)
    assert.same({}, peer:link().messages)
    gone(r)
  end)
end)

describe("a message that is lost", function()
  -- Fills the pipe to a peer that does not read, then |act|s; all sends are
  -- done exactly once (the recorder checks it), each told after the end.
  local function lost(act, code, options)
    options = options or {}
    options.send_queue_limit = 2 ^ 26
    local r, _, link = connected(options, { recv_buffer = 4096 })
    local n = 12
    link.c:pause()
    for i = 1, n do
      assert.is_true(r:send("s" .. i, ("x"):rep(2 ^ 20)))
    end
    recorder.drain(5, r.t.loop)
    local before = #r.log
    assert.is_true(before < n)
    local told = act(r, link)
    r:await("all completions", function() return #r.log >= n + told end)
    recorder.drain(5, r.t.loop)
    assert.equal(n + told, #r.log)
    for i = 1, before do assert.equal("s" .. i, r.log[i]) end
    for i = before + 1, n do
      assert.equal(("s%d %s"):format(i, code), r.log[i + told])
    end
    return r
  end

  it("is told when the link is reset #slow (C31, R44)", function()
    local r = lost(function(_, link)
      link.c:reset()
      return 2
    end, "reset")
    assert.equal("Disconnected", r.t.state)
  end)

  it("is told when a keep-alive is not answered #slow (C31)", function()
    lost(function() return 2 end, "timeout", { keep_alive_interval = 0.05,
                                               keep_alive_timeout = 0.05 })
  end)

  it("is told when the closing takes too long #slow (C27, C31)", function()
    lost(function(r)
      r:disconnect "d1"
      return 4
    end, "timeout", { disconnect_timeout = 0.1 })
  end)

  it("is told when its link was let go #slow (C13, C31)", function()
    local r, _, link = connected({ send_queue_limit = 2 ^ 26 },
      { recv_buffer = 4096 })
    link.c:pause()
    for _ = 1, 12 do r:send(nil, ("x"):rep(2 ^ 20)) end
    r:send("s1", "last")
    r:disconnect "d1"
    r:connect "c1"
    r:expect "Disconnecting, down, Connecting, d1 aborted, Connected, up, c1"
    link.c:reset()
    r:expect "s1 reset"
    assert.equal("Connected", r.t.state)
    gone(r)
  end)

  it("is told when it was accepted in the tick of the end (C31)", function()
    local r, peer, link = connected()
    link.c:reset()
    first_in_tick(r.t.loop, function()
      assert.equal("Connected", r.t.state)
      assert.is_true(r.t:send("x", r:done "s1"))
    end)
    r:expect "Disconnected reset, down reset, s1 reset"
    assert.equal(1, #peer.links)
  end)
end)

describe("a message that arrives", function()
  it("is told byte for byte, with its kind (C34)", function()
    local r, _, link = connected()
    link.c:send("text", "a\0\195\164")
    link.c:send("binary", "\255\0\r\n")
    r:expect "message a\0\195\164, binary \255\0\r\n"
    gone(r)
  end)

  it("comes after the connect() it came with (C39)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:connect "c2"
    r:await("a request", function() return peer:asked() end)
    peer:answer(peer:link(), texts("m1", "m2"))
    r:expect "Connecting, Connected, up, c1, c2, message m1, message m2"
    peer.held = false
    gone(r)
  end)

  it("comes before the end it came with (C35, C39)", function()
    local peer = peers.raw()
    peer.held = true
    local r = recorder.client(peer)
    r:connect "c1"
    r:await("a request", function() return peer:asked() end)
    peer:answer(peer:link(), texts("m1", "m2") ..
      frames.build { opcode = "close", payload = frames.close(1000) })
    r:expect("Connecting, Connected, up, c1, message m1, message m2, " ..
      "Disconnected closed, down closed")
  end)

  it("is not told after disconnect(), even if read (C40, rule 7)", function()
    local r, _, link = connected()
    r:within("message m2", function(t) t:disconnect(r:done "d1") end)
    link.c:write(texts("m1", "m2", "m3", "m4"))
    r:expect "message m1, message m2, Disconnecting, down, Disconnected, d1"
    assert.equal(2, r.t:stats().messages_in)
    assert.equal(2, r.t:stats().dropped)
  end)

  it("is not told after a disconnect() of its own tick (C40)", function()
    local r, _, link = connected()
    link.c:write(texts("m1", "m2"))
    first_in_tick(r.t.loop, function() r.t:disconnect(r:done "d1") end)
    r:expect "Disconnecting, down, Disconnected, d1"
    assert.equal(2, r.t:stats().dropped)
  end)

  it("is not told when its link was let go (C13, C40)", function()
    local r, peer, link = connected()
    r:within("message m1", function(t)
      t:disconnect(r:done "d1")
      t:connect(r:done "c1")
    end)
    link.c:write(texts("m1", "m2", "m3"))
    r:expect("message m1, Disconnecting, down, Connecting, d1 aborted, " ..
      "Connected, up, c1")
    peer:send "n1"
    r:expect "message n1"
    assert.equal(2, r.t:stats().dropped)
    gone(r)
  end)

  it("is dropped and counted while Disconnecting (C34, rule 7)", function()
    local r, peer, link = connected()
    peer.held = true
    r:disconnect "d1"
    r:expect "Disconnecting, down"
    link.c:write(texts("m1", "m2"))
    r:expect ""
    assert.equal(2, r.t:stats().dropped)
    peer.held = false
    r:expect "Disconnected, d1"
    assert.equal(0, r.t:stats().messages_in)
  end)
end)
