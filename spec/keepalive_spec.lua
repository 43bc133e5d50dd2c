-- SPDX-License-Identifier: MIT
-- Keep-alives of an open connection: when they come, what answers them, and
-- what happens if nothing does (C46, R31, R32, R34).

local helper = require "spec.helper"
local sipwire = require "sipwire"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local frames = rawpeer.frames

local run_until = helper.run_until
local scale = run.scale

helper.watch()

local interval = 0.05

-- An open connection, and when it began at the earliest.
local function open(options)
  local given = { keep_alive_interval = interval }
  for name, value in pairs(options) do given[name] = value end
  local began = run.now()
  local t, peer, seen = pair.open(given)
  return t, peer, seen, began
end

local function read(peer, opcode)
  local frame = peer:read_frame()
  assert.equal(opcode, frame.name)
  assert.is_true(frame.masked and frame.fin)
  return frame
end

-- No frame may come until |seconds| have passed.
local function silent(peer, seconds)
  local stop = run.now() + seconds
  run_until(function() return run.now() > stop end, seconds + 5)
  assert.equal("", peer:peek())
  assert.is_nil(peer:ended())
end

local function expect_timeout(t, peer, seen)
  pair.gone(t)
  assert.equal("timeout", seen.code)
  assert.matches("^timeout: ", seen.err)
  assert.equal("open", seen.info.phase)
  assert.equal(1006, seen.info.close_code)
  assert.is_false(seen.info.was_clean)
  assert.same({ "Connecting", "Connected", "Disconnected" }, seen.states)
  assert.equal(1, seen.downs)
  peer:wait_end()
end

describe("keep-alive by ping #timing", function()
  it("comes after 80 to 100 % of the interval, each time (R34)", function()
    local t, peer, _, began = open {}
    local smallest, last = math.huge, nil
    for i = 1, 10 do
      local frame = read(peer, "ping")
      local now = run.now()
      -- whole milliseconds are what timers have
      assert.is_true(now - began >= i * (0.8 * interval - 0.001), i)
      if last then smallest = math.min(smallest, now - last) end
      last = now
      peer:send("pong", frame.payload)
    end
    -- one of them at least was not held up by anything else
    assert.is_true(smallest < interval * 1.3 * scale, smallest)
    pair.part(t, peer)
  end)

  it("is a different ping each time, once the last was answered", function()
    local t, peer = open {}
    local payloads, last = {}, nil
    for _ = 1, 5 do
      local payload
      repeat payload = read(peer, "ping").payload until payload ~= last
      assert.is_true(#payload >= 4 and #payload <= 125)
      assert.is_nil(payloads[payload])
      payloads[payload], last = true, payload
      peer:send("pong", payload)
    end
    pair.part(t, peer)
  end)

  it("counts, and tells the round trip's time", function()
    local t, peer = open {}
    assert.equal(0, t:stats().pings_sent + t:stats().pongs_received)
    assert.is_nil(t:stats().rtt)
    local payload = read(peer, "ping").payload
    assert.equal(1, t:stats().pings_sent)
    local answer_at = run.now() + 0.02
    run_until(function() return run.now() > answer_at end)
    peer:send("pong", payload)
    run_until(function() return t:stats().rtt end)
    local stats = t:stats()
    assert.equal(1, stats.pongs_received)
    assert.is_true(stats.rtt >= 0.019 and stats.rtt < 2 * scale, stats.rtt)
    pair.part(t, peer)
    -- the last connection's numbers stay
    assert.equal(stats.rtt, t:stats().rtt)
  end)

  it("does not reach on_message, and the peer's pings are answered", function()
    local t, peer, seen = open {}
    for i = 1, 3 do
      peer:send("ping", "mine " .. i)
      local answered, asked
      repeat
        local frame = peer:read_frame()
        if frame.name == "pong" then
          assert.equal("mine " .. i, frame.payload)
          answered = true
        else
          assert.equal("ping", frame.name)
          peer:send("pong", frame.payload)
          asked = true
        end
      until answered and asked
    end
    assert.equal(0, #seen.messages)
    pair.part(t, peer)
  end)

  it("that goes unanswered ends the connection with timeout (C46, R32)",
    function()
      local t, peer, seen = open { keep_alive_timeout = 0.1 }
      read(peer, "ping")
      local asked = run.now()
      expect_timeout(t, peer, seen)
      local took = run.now() - asked
      assert.is_true(took > 0.09 - 0.005, took)
      assert.is_true(took < 0.1 + 1 * scale, took)
      -- and the object is as good as new (C20)
      peer = pair.reopen(t, peer.server)
      read(peer, "ping")
      pair.part(t, peer)
    end)

  it("is not answered by anything but its pong", function()
    local t, peer, seen = open { keep_alive_timeout = 0.15 }
    local payload = read(peer, "ping").payload
    run_until(function()
      peer:send("pong", "")
      peer:send("pong", payload .. "x")
      peer:send("pong", payload:sub(1, -2))
      peer:send("ping", payload)
      peer:send("text", (payload:gsub("[\128-\255]", "x")))
      peer:send("text", "\r\n")
      return t.state == "Disconnected"
    end)
    assert.equal("timeout", seen.code)
    assert.equal(0, t:stats().pongs_received)
    assert.is_nil(t:stats().rtt)
    peer:close()
  end)

  it("may be answered later than the next one comes", function()
    local t, peer, seen = open { keep_alive_timeout = 0.3 * scale }
    local unanswered = {}
    -- always two behind
    for _ = 1, 12 do
      table.insert(unanswered, read(peer, "ping").payload)
      if #unanswered > 2 then
        peer:send("pong", table.remove(unanswered, 1))
      end
    end
    assert.equal("Connected", t.state)
    assert.equal(0, seen.downs)
    t:disconnect()
    repeat until peer:read_frame().name == "close"
    peer:send("close", frames.close(1000)):fin()
    pair.gone(t)
  end)

  it("expects no answer with keep_alive_timeout = 0", function()
    local t, peer, seen = open { keep_alive_timeout = 0 }
    for _ = 1, 4 do read(peer, "ping") end
    assert.equal("Connected", t.state)
    assert.equal(0, seen.downs)
    assert.is_true(t:stats().pings_sent >= 4)
    pair.part(t, peer)
  end)

  it("finds out that the network swallows everything (C37)", function()
    local t, peer, seen = open { keep_alive_timeout = 0.1 }
    peer:pause()
    run_until(function() return t.state == "Disconnected" end)
    assert.equal("timeout", seen.code)
    peer:close()
  end)

  it("ends with the connection", function()
    local t, peer = open {}
    read(peer, "ping")
    t:disconnect()
    local frame = peer:read_frame()
    if frame.name == "ping" then frame = peer:read_frame() end
    assert.equal("close", frame.name)
    silent(peer, 3 * interval)
    peer:send("close", frame.payload):fin()
    pair.gone(t)
    peer:wait_end()
    assert.equal("", peer:peek())
  end)

  it("is off by default", function()
    local t, peer = pair.open { keep_alive_interval = 0 }
    local other, other_peer = pair.open()
    silent(peer, 3 * interval)
    silent(other_peer, interval)
    assert.equal(0, t:stats().pings_sent)
    pair.part(t, peer)
    pair.part(other, other_peer)
  end)

  it("is done by accepted transports, too", function()
    local accepted, code
    local listener = assert(sipwire.listen {
      keep_alive_interval = interval, keep_alive_timeout = 0.1,
      on_connection = function(t)
        accepted = t
        t.on_disconnect = function(_, _, c) code = c end
      end })
    run.track { close = function() listener:close() end }
    local peer = assert(rawpeer.connect { port = listener.port })
    peer:upgrade()
    for _ = 1, 3 do
      local frame = peer:read_frame()
      assert.equal("ping", frame.name)
      assert.is_false(frame.masked)
      peer:send("pong", frame.payload)
    end
    run_until(function() return code end)
    assert.equal("timeout", code)
    assert.equal("Disconnected", accepted.state)
    assert.equal(3, accepted:stats().pongs_received)
  end)
end)

describe("keep-alive by CRLF #timing", function()
  local function open_crlf(options)
    options = options or {}
    options.keep_alive_method = "crlf"
    return open(options)
  end

  it("is CRLF CRLF as text, answered by CRLF of either kind (R31)", function()
    local t, peer, seen, began = open_crlf { keep_alive_timeout = 1 * scale }
    for i = 1, 6 do
      assert.equal("\r\n\r\n", read(peer, "text").payload)
      assert.is_true(run.now() - began >= i * (0.8 * interval - 0.001), i)
      peer:send(i % 2 == 0 and "binary" or "text", "\r\n")
      run_until(function() return t:stats().pongs_received == i end)
    end
    assert.equal(6, t:stats().pings_sent)
    assert.is_true(t:stats().rtt >= 0)
    assert.equal(0, #seen.messages)
    assert.equal(0, t:stats().messages_in)
    assert.equal(0, t:stats().messages_out)
    pair.part(t, peer)
  end)

  it("that goes unanswered ends the connection with timeout (R32)", function()
    local t, peer, seen = open_crlf { keep_alive_timeout = 0.1 }
    assert.equal("\r\n\r\n", read(peer, "text").payload)
    expect_timeout(t, peer, seen)
    assert.is_nil(t:stats().rtt)
  end)

  it("is not answered by pongs, messages or the peer's own CRLF CRLF",
    function()
      local t, peer, seen = open_crlf { keep_alive_timeout = 0.15 }
      read(peer, "text")
      run_until(function()
        peer:send("pong", "")
        peer:send("text", "\r\n\r\n")
        peer:send("text", "\r\n\r\n\r\n")
        peer:send("text", "")
        peer:send("text", "\n")
        return t.state == "Disconnected"
      end)
      assert.equal("timeout", seen.code)
      assert.equal(0, t:stats().pongs_received)
      peer:close()
    end)

  it("is counted and delivered when raw", function()
    local t, peer, seen = open_crlf { raw = true, keep_alive_timeout = 0.2 *
      scale }
    for i = 1, 5 do
      read(peer, "text")
      peer:send("text", "\r\n")
      run_until(function() return #seen.messages == i end)
    end
    assert.equal("Connected", t.state)
    assert.equal(5, t:stats().pongs_received)
    pair.part(t, peer)
  end)

  it("expects no answer with keep_alive_timeout = 0", function()
    local t, peer, seen = open_crlf { keep_alive_timeout = 0 }
    for _ = 1, 4 do read(peer, "text") end
    assert.equal("Connected", t.state)
    assert.equal(0, seen.downs)
    pair.part(t, peer)
  end)
end)
