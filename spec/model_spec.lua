-- SPDX-License-Identifier: MIT
-- Random sequences of calls and of a peer's actions, compared with a model of
-- the contract: what every call returns and every callback gets, in order and
-- tick, and what the peer gets.  See support/model_play.lua for the text that
-- sequences are written in.
--
-- SIPWIRE_MODEL_SEED=n   of the first sequence; the next has n + 1
-- SIPWIRE_MODEL_RUNS=n   how many
-- SIPWIRE_MODEL_PLAY="connect!; server accept"   this one alone

local helper = require "spec.helper"
local models = require "spec.support.model"
local play = require "spec.support.model_play"
local run = require "spec.support.run"
local sequences = require "spec.support.model_sequences"

helper.watch()

local only = os.getenv "SIPWIRE_MODEL_PLAY"
local first_seed = tonumber(os.getenv "SIPWIRE_MODEL_SEED") or os.time()

-- All of them where they take some seconds: PUC 5.1 spends most of its time
-- on SHA-1; sanitizers and valgrind announce themselves by the time scale.
local function run_count()
  local count = 10000
  if _VERSION == "Lua 5.1" and not rawget(_G, "jit") then count = 500
  elseif _VERSION == "Lua 5.3" then count = 2500 end
  if run.scale > 1 then count = count / 40 end
  if run.gc_stress then count = count / 40 end
  return math.max(60, math.floor(count))
end

local runs = tonumber(os.getenv "SIPWIRE_MODEL_RUNS") or run_count()

local function play_anew(sequence)
  local bench = play.bench()
  local failure, trace = bench:play(sequence)
  bench:close()
  return failure, trace
end

local function describe(sequence, failure, trace)
  return ("%s\nSIPWIRE_MODEL_PLAY=%q\n%s"):format(failure, sequence, trace)
end

local function explain(seed, sequence, failure, trace)
  local text = ("SIPWIRE_MODEL_SEED=%d SIPWIRE_MODEL_RUNS=1\n%s"):format(seed,
    describe(sequence, failure, trace))
  if not play_anew(sequence) then
    return text .. "\n(alone, after no others, it does not fail)"
  end
  local shorter = sequences.shrink(sequence, play_anew)
  return text .. "\nshorter: " .. describe(shorter, play_anew(shorter))
end

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

describe_ = describe
