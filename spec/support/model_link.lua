-- SPDX-License-Identifier: MIT
-- A model of one connection, for model.lua: what the peer did on it, what is
-- on its way, and what the peer must see.  Frames are texts: "binary abc",
-- "pong x", "close 1000".
--
-- links.new(id, hidden)       hidden: its connection will be refused
-- link:close(established, silent)   the client closes it, or gives it up;
--                             silent: the peer will not answer
-- link:act(word, n)           the peer does that, see model_words.lua; returns
--                             the frames to write, nil: not possible
-- link:frame(frame)  link:end_seen()   the peer sees it; nil, or what is wrong
-- link:first_send()           of those that wait for a completion
-- link:waiting(is_current)    what has to come yet, or nil
-- link:verdict()              when nothing is waited for: nil, or what is wrong
--
-- |inputs|: on their way, until the transport shows that it applied them.
-- |sends|: accepted messages; |seen|: how many arrived; |replies|, |replied|:
-- likewise, of answers to the peer.
-- |codes|: what a close frame of the client may bear; |must_close|: one must
-- come.  |losses|: codes that lost messages may be given.
-- |broken|: how the peer ended it; |closing|: the client did.

local words = require "spec.support.model_words"

local M = {}
local link = {}
link.__index = link

function M.new(id, hidden)
  local self = setmetatable({ id = id, inputs = {}, sends = {}, seen = 0,
    replies = {}, replied = 0, codes = {}, losses = {}, refused = hidden },
    link)
  if hidden then
    self.inputs[1] = { kind = "down", code = "refused" }
    self.broken, self.ended = "refused", true
  end
  return self
end

local function input(self, kind, fields)
  fields = fields or {}
  fields.kind = kind
  table.insert(self.inputs, fields)
end

-- An attempt that is given up may have got as far as frames, unknown to us.
function link:close(established, silent)
  self.closing = true
  self.codes[1000] = true
  if established then
    self.must_close = self.must_close or not self.broken
  else
    self.must_close, self.given_up = false, true
  end
  if silent or not established then input(self, "down") end
end

-- ---- what the peer does ----------------------------------------------------

local function is_possible(self, act)
  if self.ended or self.finished or not self.arrived then return false end
  if act.upgrade then return not self.answered and not self.broken end
  return self.open or not act.frames and not self.broken
end

-- C37: info tells a close frame from a lost connection.
local function describe_end(self, act)
  if not self.open then return act.code end
  return ("%s %d%s"):format(act.code, act.answer or 1006,
    act.broken == "close" and " clean" or "")
end

-- The first end decides; what the peer sends after it is nothing to anybody.
local function break_off(self, act)
  self.broken = act.broken
  self.losses[act.code] = true
  input(self, "down", { code = describe_end(self, act) })
  if act.answer and not self.given_up then
    self.must_close = true
    self.codes[act.answer] = true
  elseif not self.close_seen then
    self.must_close = false
  end
end

local function reach_client(self, act)
  if act.upgrade == "up" then input(self, "up") end
  if act.reply then table.insert(self.replies, act.reply) end
  if act.message then input(self, "message", { text = act.message }) end
  if act.broken then break_off(self, act) end
end

function link:act(word, n)
  local act = words[word](n)
  if not is_possible(self, act) then return nil end
  self.answered = self.answered or act.upgrade ~= nil
  self.open = self.open or act.upgrade == "up"
  if not self.broken then reach_client(self, act) end
  if word == "fin" then self.finished = true end
  if word == "rst" then
    self.broken, self.ended, self.finished = "rst", true, true
    self.losses.reset = true
  end
  return act.frames or {}
end

-- ---- what the peer sees ----------------------------------------------------

local function close_frame(self, code)
  self.close_seen = true
  if not self.codes[code] then return "nobody closes with this code" end
  if self.seen < #self.sends and not self.broken then
    return "this must come before it: " .. self.sends[self.seen + 1].text
  end
end

function link:frame(frame)
  if self.close_seen then return "no frame may follow a close frame" end
  local code = frame:match "^close (%d+)$"
  if code then return close_frame(self, tonumber(code)) end
  local send = self.sends[self.seen + 1]
  if send and send.text == frame then
    self.seen = self.seen + 1
  elseif self.replies[self.replied + 1] == frame then
    self.replied = self.replied + 1
  else
    return "nothing like it was sent"
  end
end

function link:end_seen()
  self.ended = true
  if not (self.closing or self.broken) then
    return "nobody ended this link"
  end
end

-- What was reported as sent arrives, what was reported as lost does not.
local function judge_send(self, send, seen)
  if seen and send.code then return "lost, and it came: " .. send.text end
  if not seen and (not self.broken or send.done and not send.code) then
    return "it did not come: " .. send.text
  end
end

function link:verdict()
  if self.broken == "rst" or not self.arrived then return nil end
  if self.ended and self.must_close and not self.close_seen then
    return "the close frame is missing"
  end
  for i, send in ipairs(self.sends) do
    local wrong = judge_send(self, send, i <= self.seen)
    if wrong then return wrong end
  end
end

-- ---- what has to come yet --------------------------------------------------

function link:first_send()
  for _, send in ipairs(self.sends) do
    if send.name and not send.done then return send end
  end
end

function link:waiting(is_current)
  local send = self:first_send()
  if send then return send.name .. " done" end
  if self.ended then return nil end
  if not self.arrived then return is_current and "the request" or nil end
  if self.closing or self.broken then return "its end" end
  send = self.sends[self.seen + 1]
  return send and send.text or self.replies[self.replied + 1]
end

return M
