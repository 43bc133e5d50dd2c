-- SPDX-License-Identifier: MIT
-- Random sequences of calls and of a peer's actions, compared with a model of
-- the contract: what every call returns and every callback gets, in order and
-- tick by tick, and what the peer gets.  support/model_play.lua says how
-- sequences are written.
--
-- SIPWIRE_MODEL_SEED=n   of the first sequence; the next has n + 1
-- SIPWIRE_MODEL_RUNS=n   how many
-- SIPWIRE_MODEL_PLAY="connect!; server accept"   this one alone

local helper = require "spec.helper"
local play = require "spec.support.model_play"
local run = require "spec.support.run"
local sequences = require "spec.support.model_sequences"

helper.watch()

local only = os.getenv "SIPWIRE_MODEL_PLAY"
local first_seed = tonumber(os.getenv "SIPWIRE_MODEL_SEED") or os.time()

-- As many as take some seconds.  PUC 5.1 spends most of them on SHA-1.  The
-- slow ways to run announce themselves: valgrind and sanitizers by the time
-- scale.
local function default_runs()
  local count = 10000
  if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then count = 500 end
  if _VERSION == "Lua 5.3" then count = 2500 end
  if run.scale > 1 then count = count / (5 * run.scale) end
  if run.gc_stress then count = count / 50 end
  return math.max(50, math.floor(count))
end

local runs = tonumber(os.getenv "SIPWIRE_MODEL_RUNS") or default_runs()
if only then runs = 1 end

-- By what they are about; each begins Disconnected, on a used transport.
local fixed = {
  { "C10 C14 C21 connects and disconnects",
    "connect!; server accept; settle; disconnect!" },
  { "C11 C12 joins a pending connect() and finds itself connected",
    "connect! connect!; tick; connect!; server accept; settle; connect!" },
  { "C13 C25 connects again while disconnecting",
    "connect!; server accept; settle; disconnect! connect!; server accept" },
  { "C13 connects again while the old peer says nothing",
    "mute; connect!; server accept; settle; disconnect!; tick; connect!; " ..
    "server accept text; old text close4000; settle; text!" },
  { "C15 fails: 403", "connect!; server refuse; settle; connect!" },
  { "C15 R2 fails: no subprotocol", "connect!; server unagreed" },
  { "C15 fails: refused", "hide; connect! connect!; settle; show; connect!" },
  { "C15 C35 fails: FIN, RST",
    "connect!; server fin; settle; connect!; server rst" },
  { "C18 gives up in one go", "connect! disconnect!" },
  { "C18 gives up later", "connect!; settle; disconnect!" },
  { "C19 gives up and tries again",
    "connect! disconnect! connect!; server accept" },
  { "C23 joins a pending disconnect()",
    "connect!; server accept; settle; disconnect!; tick; disconnect!" },
  { "C24 disconnects when disconnected", "disconnect!; tick" },
  { "C26 C29 C31 writes all before it closes",
    "connect!; server accept; settle; " ..
    "text! binary! empty! ask! framed! text disconnect!" },
  { "C27 drops a peer that does not answer the close",
    "mute; connect!; server accept; settle; text!; disconnect!; settle" },
  { "C28 closes a link that opens too late",
    "connect!; server accept text; disconnect!; settle; " ..
    "connect!; settle; defer disconnect!; server accept text; settle; " ..
    "connect!; settle; defer disconnect! connect!; server accept text; " ..
    "settle; server accept" },
  { "C30 sends nothing in other states",
    "text!; connect text!; disconnect text!; settle; text!" },
  { "C31 C42 tells what was lost",
    "connect; server accept text close1005; when second text!; tick" },
  { "C35 C37 tells how the network ended it",
    "connect; server accept text close4000; settle; " ..
    "connect; server accept text fin; settle; " ..
    "connect; server accept text rst; settle; " ..
    "connect; server accept text bad" },
  { "C35 succeeds in disconnecting, however it ends",
    "connect; server accept; settle; disconnect!; server text rst; settle; " ..
    "connect; server accept; settle; disconnect!; server close4000 text" },
  { "C38 answers CRLF CRLF, swallows CRLF, drops empty messages",
    "connect; server accept ask bask answer empty bempty text; settle; " ..
    "server bask ask ping split" },
  { "C39 delivers what came with the 101 last",
    "when connect text!; connect! connect!; server accept text binary" },
  { "C40 delivers nothing after disconnect()",
    "connect; server accept; settle; when message disconnect!; " ..
    "server text text ping text" },
  { "C43 carries out what transition callbacks ask for after them",
    "when first disconnect! connect!; when second disconnect!; " ..
    "when connect disconnect! connect! text!; when disconnect connect!; " ..
    "connect!; settle; server accept; settle; server accept; settle" },
  { "C43 acts at once in other callbacks",
    "when done disconnect! connect!; when message disconnect! connect!; " ..
    "connect!; server accept; settle; server accept text text; settle; " ..
    "server accept; settle" },
  { "C45 says nothing after dispose()",
    "connect!; server accept; settle; text! disconnect! dispose; connect!" },
  { "C45 says nothing after dispose() in a callback",
    "when first dispose; connect!; tick; text!" },
}

-- What must have been tried: all calls and inputs in all states they can meet.
local function everything()
  local all = {}
  local states = { "Disconnected", "Connecting", "Connected", "Disconnecting" }
  for _, state in ipairs(states) do
    for _, what in ipairs { "connect", "disconnect", "send", "dispose",
                            "held connect", "held disconnect" } do
      all[#all + 1] = what .. " in " .. state
    end
  end
  for _, what in ipairs { "up in Connecting", "up in Disconnecting",
      "message in Connected", "message in Disconnecting",
      "down in Connecting", "down in Connected", "down in Disconnecting",
      "deferred in Connecting", "deferred in Connected" } do
    all[#all + 1] = what
  end
  return all
end

local function play_anew(sequence)
  local bench = play.bench()
  local failure, trace = bench:play(sequence)
  bench:close()
  return failure, trace
end

local function tell(sequence, failure, trace)
  return ("%s\nSIPWIRE_MODEL_PLAY=%q\n%s"):format(failure, sequence, trace)
end

local function explain(seed, sequence, failure, trace)
  local text = ("SIPWIRE_MODEL_SEED=%d SIPWIRE_MODEL_RUNS=1\n%s"):format(seed,
    tell(sequence, failure, trace))
  local shorter = sequences.shrink(sequence, play_anew)
  local again, what = play_anew(shorter)
  if not again then return text .. "\n(played alone it does not fail)" end
  return text .. "\nshorter: " .. tell(shorter, again, what)
end

-- Plays that many; returns what was reached.
local function play_many(count)
  local bench = play.bench()
  for seed = first_seed, first_seed + count - 1 do
    local sequence = only or sequences.generate(seed)
    local failure, trace = bench:play(sequence)
    if failure then
      bench:close()
      error(explain(seed, sequence, failure, trace), 0)
    end
  end
  bench:close()
  return bench.reached
end

describe("transport and model", function()
  it("agree on what the contract names", function()
    local bench = play.bench()
    for _, case in ipairs(fixed) do
      local sequence = case[2] .. "; settle"
      local failure, trace = bench:play(sequence)
      if failure then
        bench:close()
        error(case[1] .. "\n" .. tell(sequence, failure, trace), 0)
      end
    end
    bench:close()
  end)

  it(("agree on C10-C47 in %d random sequences"):format(runs), function()
    local reached = play_many(runs)
    if runs < 2500 then return end
    for _, what in ipairs(everything()) do
      assert(reached[what], "never tried: " .. what)
    end
  end)
end)

-- ---- does the model notice? ------------------------------------------------

local rich = "connect! connect!; server accept text binary ping; settle; " ..
  "text! binary!; settle; disconnect! disconnect! connect!; settle; " ..
  "server accept; settle; server text close4000; settle; connect!; " ..
  "server refuse; settle; disconnect!; tick"

-- Each gets the place of an event and its kind, and what has the model judge
-- it.
local lies = {
  ["left out"] = function() end,
  ["told twice"] = function(tell_it)
    tell_it()
    tell_it()
  end,
}

-- Plays with the |at|-th event distorted by a lie; returns what the model
-- said, and of what kind the event was, nil if there are not so many.
local function play_lie(at, lie)
  local bench = play.bench()
  local count, what = 0, nil
  bench.limit = 0.02
  function bench.distort(kind, tell_it)
    count = count + 1
    if count ~= at then return tell_it() end
    what = kind
    lie(tell_it)
  end
  local failure = bench:play(rich)
  bench:close()
  return failure, what
end

-- Plays with the |at|-th callback told after the next one.
local function play_swapped(at)
  local bench = play.bench()
  local count, kept = 0, nil
  bench.limit = 0.02
  function bench.distort(kind, tell_it)
    if kind ~= "event" then return tell_it() end
    count = count + 1
    if count == at then
      kept = tell_it
      return
    end
    tell_it()
    if kept then kept() end
    kept = nil
  end
  local failure = bench:play(rich)
  bench:close()
  return failure, count >= at
end

describe("the model", function()
  for name, lie in pairs(lies) do
    it("notices a callback or frame that is " .. name, function()
      local at = 1
      repeat
        local failure, what = play_lie(at, lie)
        assert(failure or not what,
          ("not noticed: number %d, %s"):format(at, tostring(what)))
        at = at + 1
      until not what
      assert(at > 36, "too few events to be a test")
    end)
  end

  it("notices callbacks in the wrong order", function()
    local at, more = 1, true
    while more do
      local failure
      failure, more = play_swapped(at)
      assert(failure or not more, ("not noticed: number %d"):format(at))
      at = at + 1
    end
    assert(at > 28, "too few events to be a test")
  end)
end)
