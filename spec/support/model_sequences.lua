-- SPDX-License-Identifier: MIT
-- Random sequences for model_play.lua.
--
-- sequences.generate(seed)          the same text for the same seed on all Luas
-- sequences.shrink(sequence, fails) a shorter one for which fails(text) holds

local M = {}

-- Park and Miller's generator: exact in doubles.
local function new_random(seed)
  local x = (seed * 69621 + 12345) % 2147483646 + 1
  local function random(n)
    x = x * 16807 % 2147483647
    return math.floor(x / 2147483647 * n) + 1
  end
  for _ = 1, 3 do random(1) end
  return random
end

-- A table of weights, as "word 3 word 1 ...": each word so many times.
local function weigh(text)
  local list = {}
  for word, weight in text:gmatch "(%w+) (%d+)" do
    for _ = 1, tonumber(weight) do list[#list + 1] = word end
  end
  return list
end

local function pick(random, list) return list[random(#list)] end

-- What may come next, by the state that the transport is probably in.
local steps = {
  Disconnected = weigh [[connect 12 call 4 when 5 tick 2 hide 1 settle 1
    defer 1]],
  Connecting = weigh [[accept 16 refuse 2 lost 2 call 4 when 4 tick 2 settle 2
    old 2 show 1 defer 2]],
  Connected = weigh [[server 10 lost 5 call 12 when 8 tick 3 settle 3 old 1
    defer 4]],
  Disconnecting = weigh [[call 8 connect 3 server 3 lost 1 tick 3 settle 3
    old 1 when 2 defer 2]],
}

local calls = {
  Disconnected = weigh "connect 3 disconnect 4 text 2",
  Connecting = weigh "connect 4 disconnect 6 text 2",
  Connected = weigh [[connect 2 disconnect 4 text 8 binary 3 empty 2 ask 2
    framed 2]],
  Disconnecting = weigh "connect 6 disconnect 3 text 2",
}
local in_callback = weigh [[connect 6 disconnect 8 text 4 binary 1 dispose 1]]
local callbacks =
  weigh "first 3 second 3 connect 4 disconnect 4 message 4 done 4 sent 2"
local sent = weigh [[text 8 binary 3 split 2 empty 1 bempty 1 ask 2 bask 2
  answer 2 ping 3 pong 1]]
local lost = weigh [[close1000 3 close1001 1 close4000 3 close1005 2 bad 2
  fin 4 rst 4]]

local function some_calls(random, list)
  local words = {}
  for i = 1, pick(random, { 1, 1, 1, 2, 3 }) do
    words[i] = pick(random, list) .. pick(random, { "", "!", "!" })
  end
  return table.concat(words, " "):gsub("dispose!", "dispose")
end

local function some_frames(random, least)
  local words = {}
  for i = 1, least + random(3) - 1 do words[i] = pick(random, sent) end
  return table.concat(words, " ")
end

-- What a peer that ends the connection may have sent in the same write.
local function some_end(random)
  local before = some_frames(random, pick(random, { 0, 0, 1 }))
  local after = random(8) == 1 and " " .. some_frames(random, 1) or ""
  return (before .. " " .. pick(random, lost) .. after):gsub("^ ", "")
end

-- Each returns a step and the state that it leads to, nil: the same.
local make = {}

function make.tick() return "tick" end

function make.hide() return "hide" end

function make.show() return "show" end

function make.settle(_, state)
  return "settle", state == "Disconnecting" and "Disconnected"
end

local after_call = {
  connect = { Disconnected = "Connecting", Disconnecting = "Connecting" },
  disconnect = { Connecting = "Disconnecting", Connected = "Disconnecting" },
}

local function follow(state, words)
  for word in words:gmatch "%a+" do
    state = after_call[word] and after_call[word][state] or state
  end
  return state
end

function make.call(random, state)
  local words = some_calls(random, calls[state])
  return words, follow(state, words)
end

function make.connect(random)
  return pick(random, { "connect", "connect!", "connect!" }), "Connecting"
end

function make.when(random)
  return ("when %s %s"):format(pick(random, callbacks),
    (some_calls(random, in_callback)))
end

-- Nobody knows whether it comes before or after what follows.
function make.defer(random)
  return "defer " .. some_calls(random, in_callback)
end

function make.accept(random)
  local what = "server accept"
  local kind = random(6)
  if kind == 1 then
    return what .. " " .. some_end(random), "Disconnected"
  elseif kind == 2 then
    what = what .. " " .. some_frames(random, 1)
  end
  return what .. pick(random, { "", "; settle" }), "Connected"
end

function make.refuse(random)
  return "server " .. pick(random, { "refuse", "unagreed" }), "Disconnected"
end

function make.server(random) return "server " .. some_frames(random, 1) end

function make.lost(random)
  return "server " .. some_end(random), "Disconnected"
end

function make.old(random)
  return "old " .. pick(random, { some_end(random), some_frames(random, 1) })
end

function M.generate(seed)
  local random = new_random(seed)
  local list, state = {}, "Disconnected"
  if random(100) == 1 then list[1] = "mute" end
  for _ = 1, 2 + random(10) do
    local step, after = make[pick(random, steps[state])](random, state)
    list[#list + 1] = step
    state = after or state
  end
  if random(25) == 1 then list[#list + 1] = "dispose" end
  return table.concat(list, "; ")
end

local function copy_without(list, i)
  local rest = {}
  for j, step in ipairs(list) do
    if j ~= i then rest[#rest + 1] = step end
  end
  return rest
end

-- Leaves out steps one by one as long as it fails without them.
function M.shrink(sequence, fails)
  local list, i = {}, 1
  for step in sequence:gmatch "[^;]+" do
    list[#list + 1] = step:match "^%s*(.*)$"
  end
  while i <= #list do
    local shorter = copy_without(list, i)
    if fails(table.concat(shorter, "; ")) then
      list, i = shorter, 1
    else
      i = i + 1
    end
  end
  return table.concat(list, "; ")
end

return M
