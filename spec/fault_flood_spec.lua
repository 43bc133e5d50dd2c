-- SPDX-License-Identifier: MIT
-- The fault matrix, last part: too much of everything, and nobody who reads
-- (C20, C27, C31, C46, R26, DESIGN rule 10).  Each row is played alone, and
-- its memory is watched.

local sipwire = require "sipwire"
local uv = require "luv"
local helper = require "spec.helper"
local fault = require "spec.support.fault"
local run = require "spec.support.run"

local scale = run.scale

fault.suite(function()

fault.matrix("answers without end", {
  { "endless headers", "http", "upgrade", limit = 0.3, at_most = true },
  { "endless line", "http", "upgrade", limit = 0.3, at_most = true },
  { "hints", "timeout", "upgrade", limit = 0.6,
    options = { connection_timeout = 0.6 } },
}, { width = 1, tag = "#slow" })

-- ---- control frames and fragments ------------------------------------------

local pings = 50000

fault.matrix("floods of small frames", {
  { "pinging " .. pings, limit = 6, at_most = true, messages = { "last" },
    check = function(_, report)
      assert.equal(pings, report.count.pong)
      for _, payload in ipairs(report.pongs) do
        assert.equal(("p"):rep(20), payload)
      end
    end },
  { "pinging_deaf", limit = 0.3, from = "act", unreported = true,
    options = { disconnect_timeout = 0.3 },
    act = function(play)
      sipwire.timer(0.2 * scale, function() play:disconnect() end)
    end },
  { "fragmenting 1000000", limit = 3, at_most = true, messages = { "ab" } },
}, { width = 1, tag = "#slow" })

-- ---- large messages --------------------------------------------------------

fault.matrix("messages that are announced only", {
  { "announcing 549755813888 fin", "closed", "open",
    options = { max_message_size = 2 ^ 40 } },
  { "announcing 549755813888 rst", "reset", "open",
    options = { max_message_size = 2 ^ 40 } },
  { "announcing 100000000000000 fin", "too_big", "open", 1009 },
}, { width = 1, memory = 2 * 1048576 })

-- More than the kernel keeps for us (tcp_rmem).
local count, size = 384, 65536
local most = count * size / 2

local numbers = {}
for i = 1, count do numbers[i] = ("%08d %d"):format(i - 1, size) end

local function sent_until(report, time)
  local last = 0
  for _, entry in ipairs(report.progress) do
    if entry[1] <= time then last = entry[2] end
  end
  return last
end

fault.matrix("a flood of messages, and a script that hangs", {
  { ("flooding %d %d"):format(count, size), limit = 6, at_most = true,
    messages = numbers,
    on_message = function(play, message)
      if #play.messages == 10 then
        uv.sleep(math.floor(200 * scale))
        play.awake = run.now()
      end
      if #play.messages % 16 == 0 then collectgarbage() end
      return message:sub(1, 8) .. " " .. #message
    end,
    check = function(play, report)
      local sent = sent_until(report, play.awake)
      assert.is_true(sent < most, sent)
    end },
}, { width = 1, tag = "#slow" })

-- ---- peers that stop reading -----------------------------------------------

-- Sends until the queue is full; later every message is done, once.
local function fill(play)
  play.accepted, play.done, play.lost = 0, 0, 0
  local message = ("m"):rep(size)
  local ok, err, code
  repeat
    ok, err, code = play.t:send(message, function(lost, why)
      play.done = play.done + 1
      if not lost then return end
      play.lost = play.lost + 1
      assert(why == "timeout", lost)
    end)
    if ok then play.accepted = play.accepted + 1 end
  until not ok or play.accepted == 1000
  assert(code == "queue_full", err)
end

local function told_all(play)
  assert.is_true(play.accepted > 16, play.accepted)
  assert.equal(play.accepted, play.done)
  -- the queue was full and nobody read
  assert.is_true(play.lost >= 12, play.lost)
end

fault.matrix("a peer that stops reading", {
  { "deaf", limit = 0.3, from = "act", unreported = true, check = told_all,
    options = { disconnect_timeout = 0.3 },
    act = function(play)
      fill(play)
      play:disconnect()
    end },
  { "deaf", "timeout", "open", limit = 0.3, from = "act", at_most = true,
    unreported = true, check = told_all, act = fill,
    options = { keep_alive_interval = 0.1, keep_alive_timeout = 0.2 } },
}, { width = 1, tag = "#slow" })

-- ---- tasks -----------------------------------------------------------------

-- What the server could send while we waited, and what came then.
local function receive_late(listener, got)
  local c = assert(sipwire.open { server = listener.url,
    connection_timeout = 5 * scale,
    tls = listener.scheme == "wss" and
      { ca_file = helper.certs() .. "/ca.pem" } or nil })
  sipwire.sleep(0.2 * scale)
  got.awake = run.now()
  got.early = c.transport:stats().bytes_in
  repeat
    local message = c:receive(5 * scale)
    if message then
      table.insert(got, message:sub(1, 8) .. " " .. #message)
      if #got % 16 == 0 then collectgarbage() end
    end
  until not message or #got == count
  assert(c:close())
  got.over = true
end

describe("a flood of messages, and a task that sleeps #slow", function()
  for _, scheme in ipairs { "ws", "wss" } do
    it("stops reading over " .. scheme .. ", and loses nothing", function()
      local server, got = fault.server(), {}
      local listener = server:listen(scheme,
        ("flooding %d %d"):format(count, size))
      server:await(function() return listener.url end)
      local grown = fault.growth(function()
        sipwire.spawn(receive_late, listener, got)
        server:await(function() return got.over end, 10, "all messages")
      end)
      assert.same({ numbers[1], numbers[count], count },
        { got[1], got[count], #got })
      for i = 1, count do assert.equal(numbers[i], got[i]) end
      -- 256 kB and what was read with that
      assert.is_true(got.early < 1048576, got.early)
      server:await(function() return listener.reports[1] end, 5, "report")
      local report = listener.reports[1]
      assert.is_true(sent_until(report, got.awake) < most)
      assert.equal(1000, report.close)
      if scale == 1 then assert.is_true(grown < 8 * 1048576, grown) end
    end)
  end
end)

end)
