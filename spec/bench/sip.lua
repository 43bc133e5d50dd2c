-- SPDX-License-Identifier: MIT
-- Time of one message with sipwire.sip: "all" parses and reads what a client
-- that registers looks at, "flow" what a transaction needs.
--   LUA sip.lua ROUNDS  writes lines "all REGISTER MICROSECONDS"
local sip = require "sipwire.sip"
local messages = require "spec.bench.sip_messages"

local rounds = tonumber(arg[1]) or 20000
local parse = sip.parse

local function all(text)
  local m = parse(text)
  return m.status, m.method, m.cseq.number, m.cseq.method, m.call_id,
    m.via[1].branch, m.from.tag, m.to.tag, m.from.uri.user,
    m.contact[1].uri.host, m.contact[1].uri.params.transport
end

local function flow(text)
  local m = parse(text)
  return m.status, m.cseq.number, m.cseq.method, m.call_id, m.via[1].branch,
    m.from.tag, m.to.tag
end

local function build()
  return tostring(sip.request { method = "REGISTER", uri = "sip:example.com",
    from = "sip:alice@example.com", contact = true })
end

-- The best of many short runs: others use the machine, too.
local function measure(fn, text)
  local best, count = math.huge, math.max(1, math.floor(rounds / 40))
  for _ = 1, 40 do
    local begin = os.clock()
    for _ = 1, count do fn(text) end
    best = math.min(best, (os.clock() - begin) / count)
  end
  return best * 1e6
end

for _, name in ipairs { "REGISTER", "200" } do
  print(("all %s %.2f"):format(name, measure(all, messages[name])))
  print(("flow %s %.2f"):format(name, measure(flow, messages[name])))
end
print(("build REGISTER %.2f"):format(measure(build)))
