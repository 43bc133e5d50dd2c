-- SPDX-License-Identifier: MIT
-- client.lua's "echo" and "burst" on one connection with lua-http's client.
--   client_luahttp.lua MODE PORT COUNT SIZE 1 WINDOW

local monotime = require "cqueues".monotime
local websocket = require "http.websocket"

local mode, port, count, size, window = arg[1], arg[2], tonumber(arg[3]),
  tonumber(arg[4]), tonumber(arg[6])
local uri = ("ws://127.0.0.1:%s/"):format(port)
local ws = websocket.new_from_uri(uri, { "sip" })
local message, times = ("x"):rep(size), {}
assert(ws:connect(60))

local cpu_start, wall_start, sent = os.clock(), monotime(), 0
if mode == "burst" then
  assert(ws:send(("BURST %d %d"):format(count, size), "text"))
else
  for _ = 1, math.min(window, count) do
    assert(ws:send(message, "text"))
    sent = sent + 1
  end
end
for i = 1, count do
  local asked = monotime()
  assert(ws:receive())
  if window == 1 then times[i] = (monotime() - asked) * 1e6 end
  if mode == "echo" and sent < count then
    assert(ws:send(message, "text"))
    sent = sent + 1
  end
end

local cpu, wall = os.clock() - cpu_start, monotime() - wall_start
table.sort(times)
print(('{"cpu_us":%.3f,"per_second":%.3f,"p50_us":%.3f,"p99_us":%.3f}'):format(
  cpu * 1e6 / count, count / wall,
  times[math.max(1, math.ceil(#times * 0.5))] or 0,
  times[math.max(1, math.ceil(#times * 0.99))] or 0))
os.exit(0)
