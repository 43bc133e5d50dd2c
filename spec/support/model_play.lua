-- SPDX-License-Identifier: MIT
-- Plays sequences of calls and of a peer's actions with a real transport and a
-- real peer, and compares all that happens with the model (model.lua).
--
-- play.bench() -> bench         a loop, transports and a peer to play with,
--                               used again and again;  bench:close()
-- bench.limit                   seconds that anything may take (5)
-- bench.distort                 nil, or function(kind, tell): kind is "event",
--                               "sent" or "frame", and tell() has the model
--                               judge it; for lies
-- bench:play(sequence) -> nil, or what is wrong and all that happened
-- bench.reached                 see model.lua, of all that was played
--
-- A sequence is a text, its steps are separated by "; ":
--   CALL CALL ...       calls in one go (see |payloads| for what can be sent):
--                       connect disconnect dispose text binary ...; with a "!"
--                       behind it a call has a completion
--   when WHAT CALL ...  in the next WHAT: first second (state_change
--                       listeners) connect disconnect message done sent
--   defer CALL ...      by a function that the loop is asked to call
--   server DOES ...     the peer does that in one write; see model_words.lua.
--                       It waits for the request first
--   old DOES ...        the same with the link before the current one
--   tick                one tick, without the peer's doing anything
--   settle              turns until nothing is left to come, and some more
--   hide, show          the server's port refuses from now on, or no longer
--   mute                at the start: the peer answers no close frame
-- At the end the transport disconnects, and everything must come to rest.

local uv = require "luv"
local sipwire = require "sipwire"
local peer = require "spec.support.model_peer"
local rawpeer = require "spec.support.rawpeer"
local run = require "spec.support.run"
local models = require "spec.support.model"

local M = {}
local bench, play = {}, {}
bench.__index, play.__index = bench, play
for name, fn in pairs(peer) do play[name] = fn end

local patience, haste = 600, 0.01

-- The peer may write to what the transport has reset; luv would have a signal
-- end the process.
local ignored = uv.new_signal() -- a handle without owner would be collected
ignored:start("sigpipe", function() end)
M.ignored = ignored

-- What is sent: payload, the frame it must come in, the frame to ask for.
local payloads = {
  text = function(n) return "t" .. n, "text" end,
  binary = function(n) return "\255t" .. n .. "\0", "binary" end,
  framed = function(n) return "f" .. n, "binary", "binary" end,
  empty = function() return "", "text" end,
  ask = function() return "\r\n\r\n", "text" end,
}

local function show(text)
  return (text:gsub("[%c\127-\255]", function(c)
    return ("\\%03d"):format(c:byte())
  end))
end

-- ---- what happens ----------------------------------------------------------

function play:note(line) self.trace[#self.trace + 1] = show(line) end

function play:judge(line, wrong)
  if self.failure then return end
  if line then self:note(line) end
  if wrong then self.failure = show((line or "") .. ": " .. wrong) end
end

local function outcome(err, code, info)
  if err == nil and code == nil and info == nil then return "" end
  if type(err) ~= "string" or type(code) ~= "string" or
     type(info) ~= "table" or err:sub(1, #code + 2) ~= code .. ": " then
    return (" (malformed: %s, %s, %s)"):format(tostring(err), tostring(code),
      tostring(info))
  end
  local close = info.close_code and (" %d"):format(info.close_code) or ""
  return (" (%s%s%s)"):format(code, close, info.was_clean and " clean" or "")
end

local function judge_connected(self, state)
  if self.t:is_connected() ~= (state == "Connected") then
    return "is_connected() is wrong" -- C6
  end
end

function play:react(kind)
  local calls = table.remove(self.reactions[kind] or {}, 1)
  if calls and not self.failure then self:calls(calls) end
end

-- Garbage, in turns and callbacks, when the collector is to be stressed.
function play:collect()
  if run.gc_stress and not self.bench.distort then collectgarbage() end
end

function play:tell(kind, judge)
  local distort = self.bench.distort
  self:collect()
  if distort then return distort(kind, judge) end
  judge()
end

function play:saw(kind, text)
  if self.failure then return end
  self:tell("event", function()
    local state = self.t.state
    self:judge("  " .. text .. ", state " .. state,
      self.model:observe(text, state) or judge_connected(self, state))
  end)
  self:react(kind)
end

function play:saw_sent(name, err, code)
  if self.failure then return end
  local text = name .. " done" .. (code and (" (%s)"):format(code) or "")
  local malformed = code and tostring(err):sub(1, #code + 2) ~= code .. ": "
  self:tell("sent", function()
    local state = self.t.state
    self:judge(("  %s, state %s"):format(text, state),
      malformed and "malformed error: " .. tostring(err) or
      self.model:sent(name, code, state))
  end)
  self:react "sent"
end

function play:saw_deferred(name, calls)
  if self.failure then return end
  self:tell("deferred", function()
    self:judge("  " .. name, self.model:deferred(name))
  end)
  if not self.failure then self:calls(calls) end
end

-- ---- calls -----------------------------------------------------------------

function play:number()
  self.bench.count = self.bench.count + 1
  return self.bench.count
end

-- Completions look the current play up: one that comes late is its failure.
function play:completion(word, bang)
  if bang == "" then return nil end
  local name = ("%s %d"):format(word, self:number())
  local here = self.bench
  if payloads[word] then
    return name, function(err, code)
      here.current:saw_sent(name, err, code)
    end
  end
  return name, function(err, code, info)
    here.current:saw("done", name .. " done" .. outcome(err, code, info))
  end
end

function play:send(word, name, done)
  local payload, opcode, frame = payloads[word](self:number())
  local ok, err, code = self.t:send(payload, done, frame)
  if self.model:send(opcode .. " " .. payload, name) then
    return ok ~= true and "it must be accepted: " .. tostring(err)
  end
  local refused = ok == nil and code == "state" and
    tostring(err):find "^state: "
  return not refused and "it must be refused"
end

function play:request(word, name, done)
  local ok, err = self.t[word](self.t, done)
  self.model:call(word, name)
  return ok ~= true and "it must be accepted: " .. tostring(err)
end

function play:dispose()
  self.t:dispose()
  self.model:dispose()
end

-- Everything else raises after dispose().
function play:call_disposed(word)
  local method = payloads[word] and "send" or word
  if pcall(self.t[method], self.t, payloads[word] and "x" or nil) ~=
     (word == "dispose") then
    return word .. "() on a disposed transport"
  end
end

function play:call(word, bang)
  if self.model.disposed then return self:call_disposed(word) end
  if word == "dispose" then return self:dispose() end
  local name, done = self:completion(word, bang)
  local act = payloads[word] and self.send or self.request
  return act(self, word, name, done)
end

function play:calls(words)
  for word, bang in words:gmatch "(%a+)(!?)" do
    local wrong = self:call(word, bang)
    local state = self.t.state
    if not wrong and state ~= self.model.state then
      wrong = "the state must be " .. self.model.state
    end
    self:judge(("  %s%s() -> state %s"):format(word, bang, state),
      wrong or judge_connected(self, state))
    if self.failure then return end
  end
end

-- ---- time ------------------------------------------------------------------

function play:tick(idle)
  if self.failure then return end
  self.model:begin_tick()
  self.bench.loop:step(idle or 0)
  local wrong = self.model:end_tick()
  if not wrong and self.opened ~= #self.model.links then
    wrong = ("%d attempts instead of %d"):format(self.opened,
      #self.model.links)
  end
  if wrong then self:judge("  end of the tick", wrong) end
end

function play:turn(idle)
  self:collect()
  self:tick(idle)
  uv.run "nowait"
  self:serve()
end

-- Waits for I/O only when nothing happened for a while.
function play:turn_until(waiting)
  local deadline = run.now() + self.bench.limit * run.scale
  local quiet, length = 0, 0
  while not self.failure do
    local what = waiting()
    if not what then return end
    quiet = #self.trace == length and quiet + 1 or 0
    length = #self.trace
    self:turn(quiet > 20 and 0.001 or 0)
    if quiet > 20 and run.now() > deadline then
      self:judge("  time limit", "this must come: " .. what)
    end
  end
end

function play:settle()
  self:turn_until(function() return self.model:waiting() end)
  self:turn()
  self:turn()
  self:judge(nil, self.model:verdict())
end

-- ---- steps -----------------------------------------------------------------

local steps = {}

function steps.mute() end

function steps.tick(self) self:tick() end

function steps.settle(self) self:settle() end

function steps.hide(self) self.model.hidden = true end

function steps.show(self) self.model.hidden = false end

function steps.when(self, rest)
  local kind, calls = rest:match "^(%a+) (.*)$"
  self.reactions[kind] = self.reactions[kind] or {}
  table.insert(self.reactions[kind], calls)
end

function steps.defer(self, calls)
  local here, name = self.bench, "deferred " .. self:number()
  self.model:defer(name)
  here.loop:defer(function() here.current:saw_deferred(name, calls) end)
end

function steps.server(self, rest)
  local link = self.model.link
  self:turn_until(function()
    return link and link == self.model.link and not link.arrived and
      not link.refused and "the request"
  end)
  self:peer(link, rest)
end

function steps.old(self, rest)
  self:peer(self.model.links[#self.model.links - 1], rest)
end

function play:step(step)
  local word, rest = step:match "^(%a+) ?(.*)$"
  self:note(step)
  if steps[word] then return steps[word](self, rest) end
  return self:calls(step)
end

function play:steps(sequence)
  for step in sequence:gmatch "[^;]+" do
    if not self.failure then self:step(step:match "^%s*(.*)$") end
  end
  self:finish()
end

function play:finish()
  self.reactions = {}
  self:note "(end)"
  self:turn_until(function()
    return self.model.defers[1] and self.model.defers[1].name
  end)
  if not self.model.disposed then self:calls "disconnect!" end
  self:settle()
  if self.t.state ~= "Disconnected" then
    self:judge("the end", "the state must be Disconnected")
  end
end

-- ---- the bench -------------------------------------------------------------

function bench:next_url()
  local p = self.current
  p.opened = p.opened + 1
  local server = p.model.hidden and self.dead or self.server
  return server:url(("/%d/%d"):format(p.serial, p.opened))
end

local function add_callbacks(self, t)
  local function saw(which, told, text)
    if told ~= t then text = text .. ", of " .. tostring(told) end
    self.current:saw(which, text)
  end
  for _, which in ipairs { "first", "second" } do
    t.state_change:add_listener(function(state, previous, told, ...)
      saw(which, told, ("%s listener: %s from %s%s"):format(which, state,
        previous, outcome(...)))
    end)
  end
  function t.on_connect(told) saw("connect", told, "on_connect") end
  function t.on_disconnect(told, ...)
    saw("disconnect", told, "on_disconnect" .. outcome(...))
  end
  function t.on_message(told, message, binary)
    local kind = binary and "binary " or "text "
    saw("message", told, "on_message " .. kind .. message)
  end
end

function bench:transport(disconnect_timeout)
  local t = sipwire.new { loop = self.loop, connection_timeout = patience,
    disconnect_timeout = disconnect_timeout,
    server = function() return self:next_url() end }
  add_callbacks(self, t)
  return t
end

-- Two kinds of transports; one that was disposed is replaced.
function bench:get_transport(kind)
  local wait = kind == "hasty" and haste or patience
  self[kind] = self[kind] or self:transport(wait)
  return self[kind]
end

function M.bench()
  local self = setmetatable({ serial = 0, count = 0, fresh = {}, reached = {},
    limit = 5,
    server = rawpeer.listen(), dead = rawpeer.refusing() }, bench)
  -- it is collected explicitly; a pause of 0 costs 5.3 a second per sequence
  if run.gc_stress then self.pause = collectgarbage("setpause", 200) end
  self.loop = sipwire.loop { on_error = function(err)
    self.current:judge("  a callback raised", err)
  end }
  return self
end

function bench:close()
  if self.pause then collectgarbage("setpause", self.pause) end
  self.server:close()
  self.dead:close()
  for _, connection in ipairs(self.fresh) do connection:close() end
  for _, connection in pairs(self.current and self.current.connections or {})
  do
    connection:close()
  end
  assert(self.loop:close())
end

function bench:play(sequence)
  self.serial = self.serial + 1
  local kind = sequence:find "^mute" and "hasty" or "patient"
  local p = setmetatable({ bench = self, serial = self.serial,
    model = models.new { mute = kind == "hasty" }, opened = 0, trace = {},
    reactions = {}, connections = {}, t = self:get_transport(kind) }, play)
  p.model.reached = self.reached
  self.current = p
  local ok, err = xpcall(function() p:steps(sequence) end, debug.traceback)
  if not ok then p:judge("raised", err) end
  if p.model.disposed then self[kind] = nil end
  if p.failure then return p.failure, table.concat(p.trace, "\n") end
end

return M
