-- SPDX-License-Identifier: MIT
-- Ends of open connections: close frames, FIN, RST, and what came before.

local helper = require "spec.helper"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local frames = rawpeer.frames
local scale = require "spec.support.run".scale

local run_until = helper.run_until

helper.watch()

local server, t, seen

local function begin(options)
  server = rawpeer.listen()
  options = options or {}
  options.server = server:url()
  t, seen = pair.client(options)
end

local function open()
  seen.states, seen.messages, seen.downs = {}, {}, 0
  return pair.reopen(t, server)
end

local function down()
  run_until(function() return seen.downs == 1 end, 5, "on_disconnect")
  assert.equal("Disconnected", t.state)
  assert.same({ "Connecting", "Connected", "Disconnected" }, seen.states)
  return seen.info
end

-- The rest of what the client sends is this frame and its FIN.
local function expect_last(peer, payload)
  local frame = peer:read_frame()
  assert.equal("close", frame.name)
  assert.equal(payload, frame.payload)
  assert.is_true(frame.masked)
  peer:fin()
  assert.equal("eof", peer:wait_end())
  assert.equal("", peer:peek())
  peer:close()
end

describe("a server's close frame", function()
  it("is answered with its code, and told with its reason (R28, C37)",
    function()
      begin()
      local reasons = { "", "going away", ("x"):rep(123),
                        ("\195\164"):rep(61), "a\0b" }
      for _, code in ipairs { 1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010,
                              1011, 1012, 1013, 1014, 3000, 3999, 4000,
                              4999 } do
        local reason = reasons[code % #reasons + 1]
        local peer = open()
        peer:send("close", frames.close(code, reason))
        peer:send("ping", "late")
        peer:send("text", "late")
        local info = down()
        assert.equal("closed", seen.code)
        assert.matches("^closed: ", seen.err)
        assert.equal(code, info.close_code)
        assert.equal(reason, info.close_reason)
        assert.is_true(info.was_clean)
        assert.equal("open", info.phase)
        assert.is_nil(info.errno)
        expect_last(peer, frames.close(code))
        assert.equal(0, #seen.messages)
      end
    end)

  it("may be empty: close code 1005 (R28)", function()
    begin()
    local peer = open()
    peer:send("close", "")
    local info = down()
    assert.equal("closed", seen.code)
    assert.equal(1005, info.close_code)
    assert.is_true(info.was_clean)
    expect_last(peer, "")
  end)

  it("may come between fragments, whose message is lost", function()
    begin()
    local peer = open()
    peer:send("text", "a", { fin = false })
    peer:send("close", frames.close(1001))
    down()
    expect_last(peer, frames.close(1001))
    assert.equal(0, #seen.messages)
  end)

  it("comes after the messages sent before it", function()
    begin()
    local peer = open()
    local bytes = {}
    for i = 1, 500 do bytes[i] = frames.build { payload = tostring(i) } end
    bytes[501] = frames.build { opcode = "close", payload = frames.close(1000) }
    peer:write(table.concat(bytes))
    down()
    assert.equal(500, #seen.messages)
    expect_last(peer, frames.close(1000))
  end)

  it("lets what was sent before it go first", function()
    begin()
    local peer = open()
    peer:send("close", frames.close(1000))
    t:send "still"
    assert.equal("still", peer:read_frame().payload)
    down()
    expect_last(peer, frames.close(1000))
  end)

  it("leaves the end of the connection to the server, for a while", function()
    begin { disconnect_timeout = 0.2 * scale }
    local peer = open()
    peer:send("close", frames.close(1000))
    down()
    assert.equal("close", peer:read_frame().name)
    helper.pass(10)
    assert.is_nil(peer:ended())
    peer:wait_end(1) -- we never say FIN
  end)

  it("lets the next connection begin at once (C20)", function()
    begin()
    local old = open()
    old:send("close", frames.close(1000))
    down()
    local peer = open()
    t:send "new"
    assert.equal("new", peer:read_frame().payload)
    assert.equal("close", old:read_frame().name)
    old:send("text", "unseen"):fin()
    old:wait_end()
    pair.part(t, peer)
    assert.equal(0, #seen.messages)
  end)
end)

describe("our close frame", function()
  it("has code 1000 and comes behind all messages (C26)", function()
    begin()
    local peer = open()
    for i = 1, 100 do t:send("m" .. i) end
    local done = helper.counted()
    t:disconnect(done)
    for i = 1, 100 do assert.equal("m" .. i, peer:read_frame().payload) end
    local frame = peer:read_frame()
    assert.equal("close", frame.name)
    assert.equal(frames.close(1000), frame.payload)
    helper.pass(5)
    assert.equal("Disconnecting", t.state)
    peer:send("close", frames.close(1000))
    pair.gone(t)
    helper.pass(5)
    assert.is_nil(peer:ended()) -- the server closes first
    peer:fin()
    peer:wait_end()
    assert.equal("", peer:peek())
  end)

  it("may cross the server's", function()
    begin()
    local peer = open()
    t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
    peer:send("close", frames.close(1001, "crossing"))
    pair.gone(t)
    -- one close frame, ours, and no answer to the server's
    expect_last(peer, frames.close(1000))
  end)

  it("is enough if FIN or RST comes instead of an answer (C35)", function()
    for _, leave in ipairs { "fin", "reset" } do
      begin()
      local peer = open()
      t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
      assert.equal("close", peer:read_frame().name)
      peer[leave](peer)
      pair.gone(t)
      assert.same({ "Connecting", "Connected", "Disconnecting",
        "Disconnected" }, seen.states)
      assert.equal(1, seen.downs)
      assert.is_nil(seen.err)
    end
  end)

  it("is enough if no answer comes within disconnect_timeout (C27)", function()
    begin { disconnect_timeout = 0.1 * scale }
    local peer = open()
    t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
    pair.gone(t, 2)
    peer:wait_end(1)
  end)

  it("is enough if the answer is nonsense", function()
    begin()
    local peer = open()
    t:disconnect(helper.counted(function(err) assert.is_nil(err) end))
    peer:write "\255\255"
    pair.gone(t)
    expect_last(peer, frames.close(1000))
  end)
end)

describe("a lost connection", function()
  local function lost(code, hang_up, before)
    local peer = open()
    if before then peer:write(before) end
    hang_up(peer)
    local info = down()
    assert.equal(code, seen.code)
    assert.equal(code .. ": ", seen.err:sub(1, #code + 2))
    assert.equal(1006, info.close_code)
    assert.is_false(info.was_clean)
    assert.is_nil(info.close_reason)
    assert.equal("open", info.phase)
    return info, peer
  end

  local partial = {
    ["nothing"] = "",
    ["a header byte"] = "\129",
    ["half a message"] = frames.build { payload = "half", length = 100 },
    ["a fragment"] = frames.build { payload = "fragment", fin = false },
    ["half a close frame"] = "\136\2\3",
  }

  it("by FIN is closed, 1006 and not clean (C37)", function()
    begin()
    for _, before in pairs(partial) do
      local info, peer = lost("closed", function(p) p:fin() end, before)
      assert.is_nil(info.errno)
      assert.equal(0, #seen.messages)
      -- nobody is told of 1006 on the wire
      peer:wait_end()
      assert.equal("", peer:peek())
    end
    pair.part(t, open())
  end)

  it("by RST is reset, 1006 and not clean (C37)", function()
    begin()
    for _, before in pairs(partial) do
      local info = lost("reset", function(p) p:flush():reset() end, before)
      assert.equal(104, info.errno)
      assert.equal(0, #seen.messages)
    end
    pair.part(t, open())
  end)

  it("loses no message that came before FIN or RST", function()
    begin()
    local bytes = {}
    for i = 1, 400 do
      bytes[i] = frames.build { payload = i .. (" "):rep(100) }
    end
    bytes = table.concat(bytes)
    for code, leave in pairs { closed = "fin", reset = "reset" } do
      lost(code, function(p) p:flush()[leave](p) end, bytes)
      assert.equal(400, #seen.messages)
      assert.equal(400, tonumber(seen.messages[400]))
    end
  end)

  it("is not even a loss if the close frame came before the RST", function()
    begin()
    local peer = open()
    peer:send("text", "last")
    peer:send("close", frames.close(4001, "bye")):flush():reset()
    local info = down()
    assert.equal("closed", seen.code)
    assert.equal(4001, info.close_code)
    assert.equal("bye", info.close_reason)
    assert.same({ "last" }, seen.messages)
  end)

  it("loses no message that came before it, though a write noticed first",
    function()
      begin()
      local rest = { last = "reset",
                     [frames.close(4001)] = "closed" }
      for payload, code in pairs(rest) do
        local peer = open()
        -- at once, with no turn of our loop in between
        peer.handle:try_write(frames.build { payload = "before" } ..
          frames.build { payload = payload,
                         opcode = code == "closed" and "close" or "text" })
        peer:reset()
        t:send "fails"
        local info = down()
        assert.equal(code, seen.code)
        assert.equal(code == "reset" and 1006 or 4001, info.close_code)
        assert.same({ "before", code == "reset" and payload or nil },
          seen.messages)
      end
    end)

  it("takes with it what was not written, and says so (C31) #slow",
    function()
    begin { send_queue_limit = 64 * 1048576 }
    local peer = open()
    peer:pause()
    local lost_count, sent = 0, 0
    for _ = 1, 40 do
      assert(t:send(("x"):rep(1048576), function(err, code)
        if not err then sent = sent + 1 return end
        assert.matches("^reset: ", err)
        assert.equal("reset", code)
        assert.equal(1, seen.downs)
        lost_count = lost_count + 1
      end))
    end
    helper.pass(5)
    peer:reset()
    down()
    assert.equal("reset", seen.code)
    run_until(function() return lost_count + sent == 40 end)
    assert.is_true(lost_count > 10)
    assert.equal(0, t:stats().queue)
  end)
end)
