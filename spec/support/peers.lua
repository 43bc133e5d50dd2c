-- SPDX-License-Identifier: MIT
-- Peers that hold back their answers until a spec lets them go on, with one
-- face: a raw one (peers.raw) and sipwire's own listener (peers.sipwire).
--
-- peer.url
-- peer.held = true      nothing is answered, neither upgrade nor close
-- peer.refuse = true    upgrades are answered with 403
-- peer.links            what was accepted, in order: { c = rawpeer connection,
--                       messages = {}, close_code =, close_reason = }
-- peer:poll()           does what is due; to be called at every turn
-- peer:link()           the newest one
-- peer:asked()          whether the newest one's upgrade waits for an answer
-- peer:open()           how many links were upgraded
-- peer:send(message)  peer:hang_up()   on the newest link; hang_up sends a
--                       close frame: 1000, with "bye" by the raw peer
-- peers.ways             name -> function(r, peer) that makes a new recorder's
--                        transport tell certain things, with completions c0,
--                        s0, d0
-- raw only: peer:message_with_answer(text)   sends the held 101 and a message
--           in one segment

local sipwire = require "sipwire"
local run = require "spec.support.run"
local rawpeer = require "spec.support.rawpeer"

local M = {}
local raw, own = {}, {}
raw.__index, own.__index = raw, own

local function last(self) return self.links[#self.links] end

raw.link, own.link = last, last

function raw:asked()
  local link = self:link()
  return link and not link.up and
    link.c:peek():find("\r\n\r\n", 1, true) ~= nil
end

-- ---- the raw one -----------------------------------------------------------

local refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"

function raw:answer(link, after)
  local head = link.c:read_head()
  link.up = not self.refuse
  if self.refuse then
    link.c:write(refusal):fin()
  else
    self.upgraded = self.upgraded + 1
    link.c:write(rawpeer.response(head) .. (after or ""))
  end
end

function raw:message_with_answer(text)
  self:answer(self:link(), rawpeer.frames.build { payload = text })
end

local function read_frames(link)
  while rawpeer.frames.parse(link.c:peek()) do
    local frame = link.c:read_frame()
    assert(frame.masked, "a client's frame was not masked")
    if frame.name == "close" then
      link.close_code, link.close_reason = rawpeer.frames.code(frame.payload)
    elseif frame.opcode < 8 then
      table.insert(link.messages, frame.payload)
      assert(not link.close_code, "a message came behind a close frame")
    end
  end
end

local function poll_link(self, link)
  if link.up then read_frames(link) end
  if self.held then return end
  if not link.up and link.c:peek():find("\r\n\r\n", 1, true) then
    self:answer(link)
  elseif link.close_code and not link.closed then
    link.closed = true
    link.c:send("close", rawpeer.frames.close(link.close_code)):fin()
  end
end

function raw:poll()
  while self.server.waiting[1] do
    table.insert(self.links, { c = self.server:accept(), messages = {} })
  end
  for _, link in ipairs(self.links) do poll_link(self, link) end
end

function raw:open() return self.upgraded end

function raw:send(message) self:link().c:send("text", message) end

function raw:hang_up()
  local link = self:link()
  link.closed = true
  link.c:send("close", rawpeer.frames.close(1000, "bye"))
end

function M.raw(options)
  local server = rawpeer.listen(options)
  return setmetatable({ kind = "raw", server = server, url = server:url(),
    links = {}, upgraded = 0 }, raw)
end

-- ---- sipwire's -------------------------------------------------------------

-- Its loop is not turned while it holds back.
function own:poll()
  if not self.held then self.loop:step(0) end
  self.polls = self.polls + 1
end

-- From outside one cannot see a request that nobody reads.
function own:asked()
  self.asked_at = self.asked_at or self.polls
  if self.polls < self.asked_at + 5 then return false end
  self.asked_at = nil
  return true
end

function own:open() return #self.links end

function own:send(message)
  assert(self:link().t:send(message))
  self.loop:step(0)
end

function own:hang_up()
  assert(self:link().t:disconnect())
  self.loop:step(0)
end

local function adopt(self, t)
  local link = { t = t, messages = {} }
  table.insert(self.links, link)
  t.on_message = function(_, message) table.insert(link.messages, message) end
  t.on_disconnect = function(_, _, _, info)
    link.close_code = info and info.close_code
    link.close_reason = info and info.close_reason
  end
end

function M.sipwire()
  local self = setmetatable({ kind = "sipwire", links = {}, polls = 0 }, own)
  self.loop = run.track(sipwire.loop {
    on_error = function(err) run.report(err) end,
  })
  self.listener = assert(sipwire.listen {
    loop = self.loop,
    on_request = function()
      if self.refuse then return 403 end
    end,
    on_connection = function(t) adopt(self, t) end,
  })
  self.url = self.listener.url
  return self
end

-- ---- ways to callbacks -----------------------------------------------------

M.ways = {
  connecting = function(r) r:connect "c0" end,
  connected = function(r) r:connect "c0" end,
  message = function(r, peer)
    r:up()
    peer:send "hello"
  end,
  sent = function(r)
    r:up()
    r:send("s0", "hello")
  end,
  left = function(r)
    r:up()
    r:disconnect "d0"
  end,
  lost = function(r, peer)
    r:up()
    peer:hang_up()
  end,
  failed = function(r, peer)
    peer.refuse = true
    r:connect "c0"
  end,
}

return M
