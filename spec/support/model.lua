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
-- m:begin_tick()  m:end_tick()  judges: all that was due came
-- m:observe(text, state)        judges a callback but a send's completion:
--   "first listener: NEW from OLD (code)", likewise second; "on_connect",
--   "on_disconnect (code)", "on_message FRAME", "NAME done (code)"; a code
--   may be followed by a close code and "clean", as in "closed 4000 clean"
-- m:sent(name, code, state)     judges a send's completion
-- m:peer(link, word, n)         the peer does that (model_words.lua), n is unique;
--                               returns the frames to write, nil: not possible
-- m:frame(link, frame)  m:ended(link)    judge what the peer sees
-- m:waiting()                   what has to come yet, nil if nothing
-- m:verdict()                   judges all links when nothing is waited for
-- m.state  m.link (the current one)  m.links  m.reached (a set of pairs
-- "input in state" that occurred)

local words = require "spec.support.model_words"

local M = {}
local model = {}
model.__index = model

function M.new(options)
  return setmetatable({ mute = options and options.mute,
    state = "Disconnected", tick = 0, due = {}, later = {}, held = {},
    connects = {}, disconnects = {}, links = {}, reached = {} }, model)
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
  self.reached[what .. " in " .. self.state] = true
end

-- DESIGN 2.5: listeners, on_connect or on_disconnect, requests made in those.
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

-- codes: those a close frame of the client may bear.  losses: those that lost
-- messages may be given.  broken: how the peer ended the link; closing: the
-- client did.  arrived: the peer has its request.
function model:open()
  local link = { id = #self.links + 1, inputs = {}, sends = {}, seen = 0,
    replies = {}, replied = 0, codes = {}, losses = {},
    refused = self.hidden }
  self.links[link.id] = link
  self.link = link
  if self.hidden then
    link.inputs[1] = { kind = "down", code = "refused" }
    link.broken, link.ended = "refused", true
  end
end

-- An attempt that is given up may have got as far as frames, unknown to us.
function model:close_link()
  local link = self.link
  local established = self.state == "Connected"
  link.closing = true
  link.codes[1000] = true
  if established then
    link.must_close = link.must_close or not link.broken
  else
    link.must_close, link.given_up = false, true
  end
  if self.mute or not established then
    table.insert(link.inputs, { kind = "down", code = "timeout" })
  end
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

-- DESIGN 2.4: in a transition's callback a request is held.
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

-- DESIGN 2.2: no input is applied while an event is undelivered.
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

local function first_waiting(link)
  for _, send in ipairs(link.sends) do
    if send.name and not send.done then return send end
  end
end

local function find_send(self, name)
  for _, link in ipairs(self.links) do
    local send = first_waiting(link)
    if send and send.name == name then return send, link end
  end
end

function model:sent(name, code, state)
  if self.disposed then return "nothing may come after dispose()" end
  if self.running and self.due[1] and not self.due[1].last then
    return "a transition's callbacks are not done: " .. self.due[1].text
  end
  self:finish_transition()
  self.running = false
  local send, link = find_send(self, name)
  if not send then return "it is not the first that waits" end
  send.done, send.code = true, code
  if send.tick == self.tick then return "it was sent in this very tick" end
  if code and not link.losses[code] then
    return "the link did not break so"
  end
  return judge_state(self, state)
end

-- ---- what the peer does ----------------------------------------------------

local function is_possible(link, act)
  if link.ended or link.finished or not link.arrived then return false end
  if act.upgrade then return not link.answered and not link.broken end
  return link.open or not act.frames and not link.broken
end

-- C37: info tells a close frame from a lost connection.
local function describe_end(link, act)
  if not link.open then return act.code end
  return ("%s %d%s"):format(act.code, act.answer or 1006,
    act.broken == "close" and " clean" or "")
end

-- The first end decides; what the peer sends after it is nothing to anybody.
local function break_link(link, act)
  link.broken = act.broken
  link.losses[act.code] = true
  table.insert(link.inputs, { kind = "down", code = describe_end(link, act) })
  if act.answer and not link.given_up then
    link.must_close = true
    link.codes[act.answer] = true
  elseif not link.close_seen then
    link.must_close = false
  end
end

function model:peer(link, word, n)
  local act = words[word](n)
  if not is_possible(link, act) then return nil end
  local alive = not link.broken
  if act.upgrade then link.answered = true end
  if act.upgrade == "up" then
    link.open = true
    table.insert(link.inputs, { kind = "up" })
  end
  if alive and act.reply then table.insert(link.replies, act.reply) end
  if alive and act.message then
    table.insert(link.inputs, { kind = "message", text = act.message })
  end
  if alive and act.broken then break_link(link, act) end
  if word == "rst" then
    link.broken, link.ended, link.finished = "rst", true, true
    link.losses.reset = true
  end
  if word == "fin" then link.finished = true end
  return act.frames or {}
end

-- ---- what the peer sees ----------------------------------------------------

local function close_frame(link, code)
  link.close_seen = true
  if not link.codes[code] then return "nobody closes with this code" end
  if link.seen < #link.sends and not link.broken then
    return "this must come before it: " .. link.sends[link.seen + 1].text
  end
end

function model:frame(link, frame)
  if link.close_seen then return "no frame may follow a close frame" end
  local code = frame:match "^close (%d+)$"
  if code then return close_frame(link, tonumber(code)) end
  local send = link.sends[link.seen + 1]
  if send and send.text == frame then
    link.seen = link.seen + 1
  elseif link.replies[link.replied + 1] == frame then
    link.replied = link.replied + 1
  else
    return "nothing like it was sent"
  end
end

function model:ended(link)
  link.ended = true
  if not (link.closing or link.broken) then return "nobody ended this link" end
end

local function judge_link(link)
  if link.broken == "rst" or not link.arrived then return end
  if link.ended and link.must_close and not link.close_seen then
    return "the close frame is missing"
  end
  for i, send in ipairs(link.sends) do
    local seen = i <= link.seen
    if seen and send.code then return "lost, and it came: " .. send.text end
    if not seen and (not link.broken or send.done and not send.code) then
      return "it did not come: " .. send.text
    end
  end
end

function model:verdict()
  for _, link in ipairs(self.links) do
    local wrong = judge_link(link)
    if wrong then return ("link %d: %s"):format(link.id, wrong) end
  end
end

-- ---- what has to come yet --------------------------------------------------

local function link_waits(self, link)
  local send = first_waiting(link)
  if send then return send.name .. " done" end
  if link.ended then return nil end
  if not link.arrived then
    return link == self.link and "the request" or nil
  end
  if link.closing or link.broken then return "its end" end
  send = link.sends[link.seen + 1]
  return send and send.text or link.replies[link.replied + 1]
end

function model:waiting()
  local event = self.due[1] or self.later[1]
  if event then return event.text or "a transition" end
  for _, link in ipairs(self.links) do
    local what = link_waits(self, link)
    if what then return ("link %d: %s"):format(link.id, what) end
  end
  for _, input in ipairs(self.link and self.link.inputs or {}) do
    if is_visible(self.state, input) then return input.text or input.kind end
  end
  return self.state == "Disconnecting" and "Disconnected" or nil
end

return M
