-- SPDX-License-Identifier: MIT
-- A model of the transport: what its user and its peer must see.  Written from
-- the contract; it knows no code of sipwire and does no I/O.
--
-- It is told of all that goes in, in order, and judges all that comes out.
-- When something sent by the peer is applied is the transport's affair, and so
-- it waits in the link's |inputs| until the transport shows that it was; all
-- else is fixed, down to the tick.  What judges returns nil, or what is wrong.
--
-- model.new { mute = true }     mute: the peer leaves close frames unanswered
-- m:call("connect"|"disconnect", name)   name: of the completion, or nil
-- m:send(frame, name)           true if it must be accepted; a frame is a text
--                               such as "binary abc", "close 1000"
-- m:dispose()
-- m:defer(name)                 the loop is asked to call a function later
-- m:begin_tick()  m:end_tick()  judges: all that was due came
-- m:observe(text, state)        judges a callback but a send's completion:
--   "first listener: NEW from OLD (code)", likewise second; "on_connect",
--   "on_disconnect (code)", "on_message FRAME", "NAME done (code)"; a code
--   may be followed by a close code and "clean", as in "closed 4000 clean"
-- m:sent(name, code, state)     judges a send's completion
-- m:deferred(name)              judges the call of such a function
-- m:waiting()                   what has to come yet, nil if nothing
-- m:verdict()                   judges all links when nothing is waited for
-- m.links                       see model_link.lua; the peer uses them
-- m.link  m.state               the current ones
-- m.hidden                      assign true: connections are refused
-- m.reached                     how often each "INPUT in STATE" occurred

local links = require "spec.support.model_link"

local M = {}
local model = {}
model.__index = model

function M.new(options)
  return setmetatable({ mute = options.mute, state = "Disconnected", tick = 0,
    due = {}, later = {}, held = {}, defers = {}, connects = {},
    disconnects = {}, links = {}, reached = {} }, model)
end

local function with(code) return code and " (" .. code .. ")" or "" end

local function put(queue, text, in_transition)
  queue[#queue + 1] = { text = text, in_transition = in_transition }
end

local function complete(queue, names, code)
  while names[1] do
    put(queue, table.remove(names, 1) .. " done" .. with(code))
  end
end

function model:reach(what)
  local pair = what .. " in " .. self.state
  self.reached[pair] = (self.reached[pair] or 0) + 1
end

-- Listeners, on_connect or on_disconnect, then requests made in those.
function model:enter(queue, state, code)
  local previous = self.state
  local change = state .. " from " .. previous .. with(code)
  self.state = state
  put(queue, "first listener: " .. change, true)
  put(queue, "second listener: " .. change, true)
  if state == "Connected" then put(queue, "on_connect", true) end
  if previous == "Connected" then
    put(queue, "on_disconnect" .. with(code), true)
  end
  queue[#queue + 1] = { last = true }
end

-- ---- links -----------------------------------------------------------------

function model:open()
  self.link = links.new(#self.links + 1, self.hidden)
  self.links[self.link.id] = self.link
end

function model:close_link()
  self.link:close(self.state == "Connected", self.mute)
end

-- ---- calls -----------------------------------------------------------------

local calls = { connect = {}, disconnect = {} }
local connect, disconnect = calls.connect, calls.disconnect

function connect.Disconnected(m) -- C10
  m:enter(m.later, "Connecting")
  m:open()
end

function connect.Connecting() end -- C11

function connect.Connected(m) complete(m.later, m.connects) end -- C12

function connect.Disconnecting(m) -- C13
  m:enter(m.later, "Connecting")
  complete(m.later, m.disconnects, "aborted")
  m:open()
end

function disconnect.Connected(m) -- C21
  m:close_link()
  m:enter(m.later, "Disconnecting")
end

function disconnect.Connecting(m) -- C22
  m:close_link()
  m:enter(m.later, "Disconnecting")
  complete(m.later, m.connects, "aborted")
end

function disconnect.Disconnecting() end -- C23

function disconnect.Disconnected(m) -- C24
  complete(m.later, m.disconnects)
end

function model:carry_out(what, name)
  self:reach(what)
  table.insert(self[what .. "s"], name)
  calls[what][self.state](self)
end

-- In a transition's callback a request is held.
function model:call(what, name)
  if not self.running then return self:carry_out(what, name) end
  self:reach("held " .. what)
  table.insert(self.held, function() self:carry_out(what, name) end)
end

function model:send(frame, name)
  self:reach "send"
  if self.state ~= "Connected" then return false end
  table.insert(self.link.sends, { text = frame, name = name,
                                  tick = self.tick })
  return true
end

function model:defer(name)
  table.insert(self.defers, { name = name, tick = self.tick })
end

function model:dispose()
  self:reach "dispose"
  if self.state == "Connected" or self.state == "Connecting" then
    self:close_link()
  end
  for _, link in ipairs(self.links) do
    for _, send in ipairs(link.sends) do send.name = nil end
  end
  self.disposed, self.state, self.link = true, "Disconnected", nil
  self.due, self.later, self.held = {}, {}, {}
end

-- ---- inputs ----------------------------------------------------------------

local apply = {}

function apply.up(m) -- C14, C28
  if m.state ~= "Connecting" then return end
  m:enter(m.due, "Connected")
  complete(m.due, m.connects)
end

function apply.message(m, input) -- C34, C40
  if m.state == "Connected" then put(m.due, "on_message " .. input.text) end
end

function apply.down(m, input) -- C15, C35
  local code = m.state ~= "Disconnecting" and input.code or nil
  m.link = nil
  m:enter(m.due, "Disconnected", code)
  complete(m.due, m.connects, code)
  complete(m.due, m.disconnects)
end

-- Applies inputs until one can be seen.
function model:pull()
  while #self.due == 0 and self.link and self.link.inputs[1] do
    local input = table.remove(self.link.inputs, 1)
    self:reach(input.kind)
    apply[input.kind](self, input)
  end
end

local function is_visible(state, input)
  return input.kind == "down" or
    input.kind == "up" and state == "Connecting" or
    input.kind == "message" and state == "Connected"
end

-- ---- what the user sees ----------------------------------------------------

function model:finish_transition()
  while self.due[1] and self.due[1].last do
    table.remove(self.due, 1)
    self.running = false
    local held = self.held
    self.held = {}
    for _, request in ipairs(held) do request() end
  end
end

function model:begin_tick()
  self.tick = self.tick + 1
  self.due, self.later = self.later, {}
end

function model:end_tick()
  self:finish_transition()
  self.running = false
  local missing = self.due[1]
  if missing then return "this did not come in its tick: " .. missing.text end
end

local function judge_state(self, state)
  if state ~= self.state then
    return "the state must be " .. self.state .. " there"
  end
end

-- No input is applied while an event is undelivered.
function model:observe(text, state)
  if self.disposed then return "nothing may come after dispose()" end
  self:finish_transition()
  if #self.due == 0 and #self.later == 0 then self:pull() end
  local expected = table.remove(self.due, 1)
  if not expected then return "nothing can come here" end
  if expected.text ~= text then return "this must come: " .. expected.text end
  self.running = expected.in_transition
  return judge_state(self, state)
end

local function find_send(self, name)
  for _, link in ipairs(self.links) do
    local send = link:first_send()
    if send and send.name == name then return send, link end
  end
end

-- What may come at any time, but not between the callbacks of a transition.
function model:interrupt()
  local event = self.running and self.due[1]
  if event and not event.last then
    return "a transition's callbacks are not done: " .. event.text
  end
  self:finish_transition()
  self.running = false
end

function model:deferred(name)
  local wrong = self:interrupt()
  if wrong then return wrong end
  local first = table.remove(self.defers, 1)
  if not first or first.name ~= name then return "it is not the first" end
  if first.tick == self.tick then return "it was asked for in this tick" end
  self:reach "deferred"
end

function model:sent(name, code, state)
  if self.disposed then return "nothing may come after dispose()" end
  local wrong = self:interrupt()
  if wrong then return wrong end
  local send, link = find_send(self, name)
  if not send then return "it is not the first that waits" end
  send.done, send.code = true, code
  if send.tick == self.tick then return "it was sent in this very tick" end
  if code and not link.losses[code] then
    return "the link did not break so"
  end
  return judge_state(self, state)
end

-- ---- at rest ---------------------------------------------------------------

function model:verdict()
  for _, link in ipairs(self.links) do
    local wrong = link:verdict()
    if wrong then return ("link %d: %s"):format(link.id, wrong) end
  end
end

function model:waiting()
  local event = self.due[1] or self.later[1]
  if event then return event.text or "a transition" end
  if self.defers[1] then return self.defers[1].name end
  for _, link in ipairs(self.links) do
    local what = link:waiting(link == self.link)
    if what then return ("link %d: %s"):format(link.id, what) end
  end
  for _, input in ipairs(self.link and self.link.inputs or {}) do
    if is_visible(self.state, input) then return input.text or input.kind end
  end
  return self.state == "Disconnecting" and "Disconnected" or nil
end

return M
