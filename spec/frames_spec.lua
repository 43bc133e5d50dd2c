-- SPDX-License-Identifier: MIT
-- Messages and control frames of an open connection, as bytes on the wire.

local helper = require "spec.helper"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local frames = rawpeer.frames

local run_until = helper.run_until

helper.watch()

-- The next frame of a client; whatever it is, these hold.
local function client_frame(peer)
  local frame = peer:read_frame()
  assert.is_true(frame.masked)
  assert.is_true(frame.fin)
  assert.equal(0, frame.rsv)
  return frame
end

local function expect(peer, opcode, payload)
  local frame = client_frame(peer)
  assert.equal(opcode, frame.name)
  assert.is_true(payload == frame.payload,
    ("%d bytes: %q"):format(#frame.payload, frame.payload:sub(1, 50)))
  return frame
end

local function arrived(seen, n)
  run_until(function() return #seen.messages >= n end, 5,
    function() return n .. " messages, got " .. #seen.messages end)
  helper.pass(2)
  assert.equal(n, #seen.messages)
end

local broken = "INVITE \255"
local umlaut = "INVITE \195\164\240\159\152\128"

describe("a sent message", function()
  it("is text if it is UTF-8, else binary (R6)", function()
    local t, peer = pair.open()
    for _, text in ipairs { "INVITE", umlaut, "", "\0", "\127\r\n" } do
      t:send(text)
      expect(peer, "text", text)
    end
    for _, bytes in ipairs { broken, "\128", "\195", "\237\160\128",
                             "\192\128", "\244\144\128\128",
                             "a\240\159\152" } do
      t:send(bytes)
      expect(peer, "binary", bytes)
    end
    pair.part(t, peer)
  end)

  it("is as option and call say", function()
    local t, peer = pair.open { frame = "binary" }
    t:send "a"
    expect(peer, "binary", "a")
    t:send("b", nil, "text")
    expect(peer, "text", "b")
    t:send("c", nil, "binary")
    expect(peer, "binary", "c")
    pair.part(t, peer)
    t, peer = pair.open { frame = "text" }
    t:send "d"
    expect(peer, "text", "d")
    t:send(broken, nil, "binary")
    expect(peer, "binary", broken)
    pair.part(t, peer)
    t, peer = pair.open { frame = "auto" }
    t:send("e", nil, "binary")
    expect(peer, "binary", "e")
    pair.part(t, peer)
  end)

  it("that is no UTF-8 is refused as text, and nothing is sent", function()
    local t, peer = pair.open { frame = "text" }
    local never = helper.never "done"
    for _, frame in ipairs { "text", false } do
      local ok, err, code = t:send(broken, never, frame or nil)
      assert.is_nil(ok)
      assert.equal("utf8", code)
      assert.matches("^utf8: ", err)
    end
    local stats = t:stats()
    assert.equal(0, stats.messages_out + stats.bytes_out + stats.queue)
    t:send "next"
    expect(peer, "text", "next")
    pair.part(t, peer)
  end)

  it("has the shortest length form, at every length (R38)", function()
    local t, peer = pair.open()
    local forms = { [0] = 7, [1] = 7, [125] = 7, [126] = 16, [127] = 16,
                    [65535] = 16, [65536] = 64, [1048576] = 64 }
    for length, form in pairs(forms) do
      local done, counter = helper.counted()
      local message = ("0123456789abcde"):rep(math.ceil(length / 15))
      message = message:sub(1, length)
      assert(t:send(message, done))
      local frame = expect(peer, "text", message)
      assert.equal(form, frame.length_form)
      run_until(function() return counter.count == 1 end)
      assert.is_nil(counter.last[1])
    end
    pair.part(t, peer)
  end)

  it("keeps every byte value at every offset of the mask", function()
    local t, peer = pair.open()
    local all = {}
    for i = 0, 255 do all[#all + 1] = string.char(i) end
    all = table.concat(all)
    for cut = 1, 9 do
      t:send(all:sub(cut))
      expect(peer, "binary", all:sub(cut))
    end
    pair.part(t, peer)
  end)

  it("is one frame each, in the order of sending (R8)", function()
    local t, peer = pair.open()
    for i = 1, 300 do t:send("message " .. i) end
    for i = 1, 300 do expect(peer, "text", "message " .. i) end
    pair.part(t, peer)
  end)
end)

describe("the mask", function()
  -- How many values each of the four bytes takes.
  local function variety(masks)
    local least = math.huge
    for i = 1, 4 do
      local values, count = {}, 0
      for mask in pairs(masks) do values[mask:byte(i)] = true end
      for _ in pairs(values) do count = count + 1 end
      least = math.min(least, count)
    end
    return least
  end

  it("is drawn anew for every frame, control frames too (R26)", function()
    local t, peer = pair.open()
    local masks, count = {}, 0
    local function note(frame)
      assert.is_nil(masks[frame.mask])
      masks[frame.mask] = true
      count = count + 1
    end
    for i = 1, 200 do
      if i % 2 == 0 then t:send "same" else peer:send("ping", "same") end
      note(client_frame(peer))
    end
    -- 200 draws of 256 values: 139 different ones expected
    assert.is_true(variety(masks) > 100)
    t:disconnect()
    note(client_frame(peer))
    assert.equal(201, count)
    peer:send("close", frames.close(1000)):fin()
    pair.gone(t)
  end)

  it("does not begin alike in two connections (R26)", function()
    local masks = {}
    for _ = 1, 8 do
      local t, peer = pair.open()
      t:send "x"
      local mask = client_frame(peer).mask
      assert.is_nil(masks[mask])
      masks[mask] = true
      pair.part(t, peer)
    end
  end)
end)

describe("a received message", function()
  it("arrives byte for byte, text and binary, in all lengths (C38, R5)",
    function()
      local t, peer, seen = pair.open()
      local sent = { umlaut, "\0", "a\0b", ("x"):rep(125), ("x"):rep(126),
                     ("y"):rep(65535), ("y"):rep(65536), ("z"):rep(1048576) }
      for _, payload in ipairs(sent) do peer:send("text", payload) end
      for _, payload in ipairs(sent) do peer:send("binary", payload) end
      peer:send("binary", broken)
      arrived(seen, 17)
      for i = 1, 17 do
        local wanted = sent[(i - 1) % 8 + 1]
        assert.is_true(seen.messages[i] == (i < 17 and wanted or broken), i)
        assert.equal(i > 8, seen.binary[i])
      end
      pair.part(t, peer)
    end)

  it("is joined from fragments, control frames between (R8, R26)", function()
    local t, peer, seen = pair.open()
    local pieces = { "INV", "", "ITE \240\159", "\152", "\128!", "" }
    for i, piece in ipairs(pieces) do
      peer:send(i == 1 and "text" or "continuation", piece,
        { fin = i == #pieces })
      if i < #pieces then
        peer:send("ping", "p" .. i)
        peer:send("pong", "unasked")
        -- answered though the message is not complete
        expect(peer, "pong", "p" .. i)
        assert.equal(0, #seen.messages)
      end
    end
    peer:send("binary", "\255", { fin = false })
    peer:send("continuation", "\254")
    arrived(seen, 2)
    assert.same({ "INVITE \240\159\152\128!", "\255\254" }, seen.messages)
    assert.same({ false, true }, seen.binary)
    pair.part(t, peer)
  end)

  it("does not depend on how the network cuts it", function()
    local t, peer, seen = pair.open()
    local bytes = frames.build { payload = umlaut } ..
      frames.build { payload = "a", opcode = "binary", fin = false } ..
      frames.build { opcode = "ping", payload = "now" } ..
      frames.build { payload = ("b"):rep(126), opcode = "continuation" } ..
      frames.build { payload = "last" }
    local wanted = { umlaut, "a" .. ("b"):rep(126), "last" }
    peer:dribble(bytes)
    local times = 1
    for cut = 1, #bytes - 1, 7 do
      peer:dribble(bytes, { cut })
      times = times + 1
    end
    arrived(seen, 3 * times)
    for i, message in ipairs(seen.messages) do
      assert.equal(wanted[(i - 1) % 3 + 1], message)
    end
    for _ = 1, times do expect(peer, "pong", "now") end
    pair.part(t, peer)
  end)

  it("arrives after on_connect and connect()'s completion, though it came " ..
    "with the 101 (C39)", function()
    local after = frames.build { payload = "first" } ..
      frames.build { opcode = "ping", payload = "p" } ..
      frames.build { payload = "second" }
    local t, peer, seen = pair.open({}, { after = after })
    arrived(seen, 2)
    assert.same({ "up", "connected", "first", "second" }, seen.order)
    expect(peer, "pong", "p")
    pair.part(t, peer)
  end)

  it("arrives though the close frame came with the 101, too", function()
    local server = rawpeer.listen()
    local t, seen = pair.client { server = server:url() }
    pair.connect(t, seen)
    local peer = server:accept()
    peer:answer_upgrade { after = frames.build { payload = "first" } ..
      frames.build { opcode = "close", payload = frames.close(1001) } }
    expect(peer, "close", frames.close(1001))
    peer:fin()
    run_until(function() return seen.downs == 1 end)
    assert.same({ "up", "connected", "first", "down" }, seen.order)
    assert.equal(1001, seen.info.close_code)
  end)

  it("is one of thousands that came at once #slow", function()
    local t, peer, seen = pair.open()
    local bytes, n = {}, 5000
    for i = 1, n do bytes[i] = frames.build { payload = "message " .. i } end
    peer:write(table.concat(bytes))
    arrived(seen, n)
    for i = 1, n do assert.equal("message " .. i, seen.messages[i]) end
    assert.equal(n, t:stats().messages_in)
    assert.equal(0, t:stats().dropped)
    pair.part(t, peer)
  end)

  it("is dropped and counted after disconnect() (C34, C40)", function()
    local t, peer, seen = pair.open()
    t:disconnect()
    peer:send("text", "late")
    expect(peer, "close", frames.close(1000))
    peer:send("text", "later")
    peer:send("close", frames.close(1000)):fin()
    pair.gone(t)
    assert.equal(0, #seen.messages)
    assert.equal(2, t:stats().dropped)
  end)
end)

describe("a ping", function()
  it("is answered at once with the same bytes, in order (R26)", function()
    local t, peer, seen = pair.open()
    for _, payload in ipairs { "", "x", "\0\255", ("p"):rep(125) } do
      peer:send("ping", payload)
      expect(peer, "pong", payload)
    end
    for i = 1, 500 do peer:send("ping", tostring(i)) end
    for i = 1, 500 do expect(peer, "pong", tostring(i)) end
    assert.equal(0, #seen.messages)
    pair.part(t, peer)
  end)

  it("goes unanswered once we said goodbye (R28)", function()
    local t, peer = pair.open()
    t:disconnect()
    expect(peer, "close", frames.close(1000))
    peer:send("ping", "late")
    peer:send("close", frames.close(1000)):fin()
    pair.gone(t)
    assert.equal("eof", peer:wait_end())
    assert.equal("", peer:peek())
  end)
end)

describe("CRLF", function()
  it("CRLF is answered with CRLF in a frame of its kind (C38)", function()
    local t, peer, seen = pair.open()
    peer:send("text", "\r\n\r\n")
    expect(peer, "text", "\r\n")
    peer:send("binary", "\r\n\r\n")
    expect(peer, "binary", "\r\n")
    peer:send("text", "\r\n", { fin = false })
    peer:send("continuation", "\r\n")
    expect(peer, "text", "\r\n")
    -- neither are these for anybody
    for _, opcode in ipairs { "text", "binary" } do
      peer:send(opcode, "\r\n")
      peer:send(opcode, "")
    end
    -- but these are messages
    local messages = { "\r\n\r\n\r\n", "\r\n\r\nINVITE", "\r", "\n\r", " \r\n" }
    for _, payload in ipairs(messages) do peer:send("text", payload) end
    arrived(seen, 5)
    assert.same(messages, seen.messages)
    assert.equal(5, t:stats().messages_in)
    pair.part(t, peer) -- the next frame is the close frame
  end)

  it("is an ordinary message when raw (C38)", function()
    local t, peer, seen = pair.open { raw = true }
    local messages = { "\r\n\r\n", "\r\n", "", "x" }
    for _, opcode in ipairs { "text", "binary" } do
      for _, payload in ipairs(messages) do peer:send(opcode, payload) end
    end
    arrived(seen, 8)
    assert.same({ "\r\n\r\n", "\r\n", "", "x", "\r\n\r\n", "\r\n", "", "x" },
      seen.messages)
    assert.same({ false, false, false, false, true, true, true, true },
      seen.binary)
    t:disconnect()
    expect(peer, "close", frames.close(1000))
    peer:send("close", frames.close(1000)):fin()
    pair.gone(t)
  end)

  it("can be sent as a message", function()
    local t, peer = pair.open()
    t:send "\r\n\r\n"
    expect(peer, "text", "\r\n\r\n")
    pair.part(t, peer)
  end)
end)
