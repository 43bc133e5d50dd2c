-- SPDX-License-Identifier: MIT
-- What a server must not send: the error told, the close code on the wire,
-- nothing after the close frame, and a transport that works on (C20, C35).

local helper = require "spec.helper"
local pair = require "spec.support.pair"
local rawpeer = require "spec.support.rawpeer"
local frames = rawpeer.frames

local run_until = helper.run_until

helper.watch()

local function frame(opcode, payload, fields)
  local f = { opcode = opcode, payload = payload }
  for name, value in pairs(fields or {}) do f[name] = value end
  return frames.build(f)
end

local errors = { [1002] = "protocol", [1007] = "utf8", [1009] = "too_big" }

-- What a client that obeys would answer or deliver.
local bait = frame("text", "", { fin = false }) .. frame("continuation", "") ..
  frame("ping", "bait") .. frame("text", "bait") ..
  frame("close", frames.close(1000))

-- The peer's end after |bytes|: one close frame with |close_code|, then FIN.
local function expect_close(peer, close_code)
  local answer = peer:read_frame()
  assert.equal("close", answer.name)
  assert.is_true(answer.masked and answer.fin)
  assert.equal(frames.close(close_code), answer.payload)
  assert.equal("eof", peer:wait_end())
  assert.equal("", peer:peek())
  peer:close()
end

local server, t, seen

local function begin(options)
  server = rawpeer.listen()
  options = options or {}
  options.server = server:url()
  t, seen = pair.client(options)
end

-- |bytes| break a rule with their last byte; |good| messages come before.
local function breaks(close_code, name, bytes, good, write)
  seen.states, seen.messages, seen.downs = {}, {}, 0
  local peer = pair.reopen(t, server)
  if write then write(peer, bytes) else peer:write(bytes) end
  run_until(function() return seen.downs == 1 end, 5, name)
  expect_close(peer, close_code)
  assert.equal(errors[close_code], seen.code, name)
  assert.equal(seen.code .. ": ", seen.err:sub(1, #seen.code + 2))
  assert.equal("open", seen.info.phase)
  assert.equal(close_code, seen.info.close_code)
  assert.is_false(seen.info.was_clean)
  assert.is_nil(seen.info.close_reason)
  assert.equal(good or 0, #seen.messages, name)
  assert.same({ "Connecting", "Connected", "Disconnected" }, seen.states)
end

-- Each alone, with more behind it, behind a message and cut in two.
local function each_breaks(close_code, cases)
  for name, bytes in pairs(cases) do
    breaks(close_code, name, bytes)
    breaks(close_code, name, frame("text", "good") .. bytes .. bait, 1)
    breaks(close_code, name, bytes, 0, function(peer)
      peer:dribble(bytes, { math.floor(#bytes / 2) })
    end)
  end
  pair.part(t, pair.reopen(t, server))
end

local begun = frame("text", "a", { fin = false })

describe("a frame that no server may send", function()
  it("is masked (R26)", function()
    begin()
    each_breaks(1002, {
      text = frame("text", "abc", { mask = "\1\2\3\4" }):sub(1, 2),
      zeros = frame("text", "abc", { mask = "\0\0\0\0" }),
      empty = frame("text", "", { mask = "\1\2\3\4" }),
      ping = frame("ping", "x", { mask = "\1\2\3\4" }),
      close = frame("close", frames.close(1000), { mask = "\1\2\3\4" }),
      long = frame("text", ("x"):rep(70000), { mask = "\1\2\3\4" }):sub(1, 20),
    })
  end)

  it("has reserved bits (R26)", function()
    begin()
    local cases = {}
    for rsv = 1, 7 do
      cases["text " .. rsv] = frame("text", "abc", { rsv = rsv }):sub(1, 2)
    end
    cases.ping = frame("ping", "x", { rsv = 4 })
    cases.close = frame("close", frames.close(1000), { rsv = 1 })
    cases.continuation = begun .. frame("continuation", "", { rsv = 2 })
    each_breaks(1002, cases)
  end)

  it("has an unknown opcode (R26)", function()
    begin()
    for _, opcode in ipairs { 3, 4, 5, 6, 7, 11, 12, 13, 14, 15 } do
      breaks(1002, opcode, frame(opcode, "") .. bait)
    end
    breaks(1002, "inside a message", begun .. frame(3, ""))
    pair.part(t, pair.reopen(t, server))
  end)

  it("has a length that is not minimal, or of 64 bits (R26)", function()
    begin()
    each_breaks(1002, {
      five16 = frame("text", "12345", { length_form = 16 }),
      zero16 = frame("binary", "", { length_form = 16 }),
      most16 = frame("text", ("x"):rep(125), { length_form = 16 }):sub(1, 4),
      five64 = frame("text", "12345", { length_form = 64 }),
      most64 = frame("text", "", { length_form = 64, length = 65535 }),
      top_bit = frame("text", "", { length = "\128\0\0\0\0\0\0\5" }),
      all_bits = frame("binary", "", { length = ("\255"):rep(8) }),
    })
  end)

  it("is a long or fragmented control frame (R26)", function()
    begin()
    local cases = {}
    for _, opcode in ipairs { "ping", "pong", "close" } do
      local code = opcode == "close" and frames.close(1000) or ""
      cases[opcode .. " 126"] = frame(opcode, code .. ("x"):rep(126 - #code))
      cases[opcode .. " 64"] = frame(opcode, "", { length = 65536 })
      cases[opcode .. " 16"] = frame(opcode, code, { length_form = 16 })
      cases[opcode .. " cut"] = frame(opcode, code, { fin = false })
    end
    each_breaks(1002, cases)
  end)

  it("is a fragment out of place (R8)", function()
    begin()
    each_breaks(1002, {
      ["no message"] = frame("continuation", "x"),
      ["no message, more to come"] = frame("continuation", "", { fin = false }),
      ["text in text"] = begun .. frame("text", "x"),
      ["binary in text"] = begun .. frame("binary", "x", { fin = false }),
    })
    breaks(1002, "after the last fragment",
      begun .. frame("continuation", "b") .. frame("continuation", "c"), 1)
    assert.same({ "ab" }, seen.messages)
    pair.part(t, pair.reopen(t, server))
  end)
end)

describe("a close frame", function()
  it("of one byte is an error (R28)", function()
    begin()
    each_breaks(1002, { one = frame("close", "\3") })
  end)

  it("with a code that is never on the wire is an error (R28)", function()
    begin()
    for _, code in ipairs { 0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100,
                            1999, 2000, 2999, 5000, 65535 } do
      breaks(1002, code, frame("close", frames.close(code, "why")) .. bait)
    end
    pair.part(t, pair.reopen(t, server))
  end)

  it("with a reason that is no UTF-8 is an error (R27)", function()
    begin()
    each_breaks(1007, {
      broken = frame("close", frames.close(1000, "\255")),
      cut = frame("close", frames.close(1000, "caf\195")),
      surrogate = frame("close", frames.close(1000, "\237\160\128")),
    })
  end)
end)

describe("text that is no UTF-8", function()
  it("is an error as a whole (R27)", function()
    begin()
    local cases = {}
    for _, text in ipairs { "\255", "\128", "\192\128", "\193\191",
                            "\224\159\191", "\237\160\128", "\237\191\191",
                            "\240\143\191\191", "\244\144\128\128",
                            "\245\128\128\128", "abc\195", "\226\130",
                            "\240\159\152", "\195(" } do
      cases[("%q"):format(text)] = frame("text", text)
    end
    for name, bytes in pairs(cases) do breaks(1007, name, bytes .. bait) end
    breaks(1007, "behind 70000 bytes",
      frame("text", ("x"):rep(70000) .. "\255"))
    pair.part(t, pair.reopen(t, server))
  end)

  it("is an error as soon as it is known (R27)", function()
    begin()
    each_breaks(1007, {
      -- much of the frame is still to come
      ["bad byte"] = frame("text", "ab\255", { length = 1000 }),
      ["bad second byte"] = frame("text", "\237\160", { length = 1000 }),
      ["in a fragment"] = frame("text", "\192", { fin = false, length = 500 }),
      ["no room left"] = frame("text", "a\240", { length = 3 }),
    })
  end)

  it("is an error across fragments (R27)", function()
    begin()
    each_breaks(1007, {
      ["cut off by the next"] = frame("text", "\226\130", { fin = false }) ..
        frame("continuation", "x"),
      ["cut off by the end"] = frame("text", "\226\130", { fin = false }) ..
        frame("continuation", ""),
      ["after a ping"] = frame("text", "\240\159", { fin = false }) ..
        frame("pong", "\255") .. frame("continuation", "\152\255"),
    })
  end)

  it("is fine in a binary message", function()
    begin()
    local peer = pair.reopen(t, server)
    peer:send("binary", "\255", { fin = false }):send("continuation", "\195")
    run_until(function() return #seen.messages == 1 end)
    pair.part(t, peer)
  end)
end)

describe("a message above max_message_size", function()
  it("fails where its length is announced, nothing being kept", function()
    begin { max_message_size = 1000 }
    each_breaks(1009, {
      ["by one"] = frame("text", "", { length = 1001 }),
      ["64 bits"] = frame("binary", "", { length = 65536 }),
      ["all 63 bits"] = frame("text", "", { length = "\127" ..
        ("\255"):rep(7) }),
    })
    breaks(1009, "with its bytes", frame("text", ("x"):rep(1001)) .. bait)
  end)

  it("fails where its fragments exceed it", function()
    begin { max_message_size = 1000 }
    local half = frame("binary", ("x"):rep(600), { fin = false })
    each_breaks(1009, {
      ["by one"] = half .. frame("continuation", "", { length = 401 }),
      ["with more to come"] = half ..
        frame("continuation", "", { length = 500, fin = false }),
      ["in tiny pieces"] = half ..
        frame("continuation", "x", { fin = false }):rep(401),
    })
  end)

  it("is not one of just that size", function()
    begin { max_message_size = 1000 }
    local peer = pair.reopen(t, server)
    peer:send("text", ("x"):rep(1000))
    peer:send("text", ("y"):rep(600), { fin = false })
    peer:send("ping", ("p"):rep(125))
    peer:send("continuation", ("y"):rep(400))
    run_until(function() return #seen.messages == 2 end)
    assert.equal(1000, #seen.messages[2])
    assert.equal("pong", peer:read_frame().name)
    pair.part(t, peer)
  end)

  it("does not stop a limit of one byte from working", function()
    begin { max_message_size = 1 }
    breaks(1009, "two bytes", frame("text", "a") .. frame("text", "bc"), 1)
  end)
end)
