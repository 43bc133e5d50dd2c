-- SPDX-License-Identifier: MIT
-- A user agent at one end of a connection; at the other a peer that does
-- nothing by itself. Its messages are made and read by code of the specs' own
-- (see sip.lua).
--
-- sip_peer.open([options]) -> w     options: of sipwire.ua; aor has a default
-- w.ua  w.c  w.peer                 agent, its connection, the peer's transport
-- w:agent(options) -> ua            one more on that connection
-- w:go(fn, ...) -> flow             a task; its errors fail the spec
-- w:finish(flow [, limit]) -> ...   waits for it: what it returned
-- w:call(object, method, a, b) -> flow   such a task: object:method(a, b)
-- w:receive() -> req  w:reply(req, status [, given]) -> ...   of w.ua, in a task
-- w:strays() -> list                reasons that w.ua.on_stray is told; list.last
-- w:take(what) -> message           the next that came to the peer has to be
--   this method or status; .raw
-- w:nothing()                       nothing has come that was not taken
-- w:send(text)
-- w:answer(message, status [, more])  answers a request; more: tag, body, and a
--   list of header lines
-- w:request(method [, more]) -> id  sends one to the agent; more: uri, branch,
--   call_id, cseq, from_tag, to, to_tag, body, via (more lines above), and a
--   list of header lines
-- sip_peer.describe(what, fn)       busted's, closes all worlds after each spec
-- sip_peer.T1                       an option t1: short, and yet long enough
--                                   for an answer while 64 of it pass
-- sip_peer.no_answer(what)          what is told then

local sipwire = require "sipwire"
local run = require "spec.support.run"
local sip = require "spec.support.sip"

local M = { T1 = run.scale > 1 and 0.008 or 0.002 }
local world = {}
world.__index = world

local unpack = table.unpack or unpack

function world:go(fn, ...)
  local flow = {}
  local n, arguments = select("#", ...), { ... }
  sipwire.spawn(function()
    local function keep(...)
      flow.results, flow.n = { ... }, select("#", ...)
    end
    keep(fn(unpack(arguments, 1, n)))
  end)
  return flow
end

function world:call(object, method, a, b)
  return self:go(function() return object[method](object, a, b) end)
end

function world:finish(flow, limit)
  run.run_until(function() return flow.results end, limit, "the end of a flow")
  return unpack(flow.results, 1, flow.n)
end

function world:receive()
  return self:finish(self:call(self.ua, "receive", 5))
end

function world:reply(req, ...)
  return self:finish(self:call(req, "reply", ...))
end

function world:strays()
  local list = {}
  self.ua.on_stray = function(message, why)
    list[#list + 1], list.last = why, message
  end
  return list
end

local opened = {}

function M.open(options)
  local w = setmetatable({ got = {} }, world)
  opened[#opened + 1] = w
  w.listener = assert(sipwire.listen { on_connection = function(t)
    w.peer = t
    t.on_message = function(_, message)
      local parsed = sip.parse(message)
      parsed.raw = message
      table.insert(w.got, parsed)
    end
  end })
  w.c = w:finish(w:go(function()
    return (assert(sipwire.open { server = w.listener.url }))
  end))
  run.run_until(function() return w.peer end, 5, "the peer")
  w.ua = w:agent(options or {})
  return w
end

function world:agent(options)
  options.aor = options.aor or "sip:alice@example.org"
  return sipwire.ua(self.c, options)
end

function world:take(what)
  run.run_until(function() return self.got[1] end, 5, "the message " .. what)
  local message = table.remove(self.got, 1)
  if message.method ~= what and message.status ~= what then
    error(("not %s but\n%s"):format(what, message.raw), 2)
  end
  return message
end

function world:nothing()
  run.pass(10)
  if self.got[1] then error("came too:\n" .. self.got[1].raw, 2) end
end

function world:send(text) assert(self.peer:send(text)) end

local function join(lines, more)
  for _, line in ipairs(more) do lines[#lines + 1] = line end
  lines[#lines + 1] = "Content-Length: " .. #(more.body or "")
  return table.concat(lines, "\r\n") .. "\r\n\r\n" .. (more.body or "")
end

function world:answer(message, status, more)
  more = more or {}
  local lines = { ("SIP/2.0 %d %s"):format(status, more.reason or "Told") }
  local function copy(name, suffix)
    for _, value in ipairs(message.headers[name:lower()] or {}) do
      lines[#lines + 1] = name .. ": " .. value .. (suffix or "")
    end
  end
  copy "Via"
  copy "From"
  local tagged = message.headers.to[1]:find ";tag="
  copy("To", not tagged and status > 100 and ";tag=" .. (more.tag or "peer")
    or "")
  copy "Call-ID"
  copy "CSeq"
  self:send(join(lines, more))
end

local count = 0

function world:request(method, more)
  more = more or {}
  count = count + 1
  local id = more.call_id or "call-" .. count
  local lines = { ("%s %s SIP/2.0"):format(method,
    more.uri or self.ua.contact:match "<(.-)>") }
  for _, line in ipairs(more.via or {}) do lines[#lines + 1] = line end
  for _, line in ipairs { "Via: SIP/2.0/WS peer.invalid;branch=" ..
      (more.branch or "z9hG4bKp" .. count),
    "Max-Forwards: 70",
    "From: <sip:bob@example.org>;tag=" .. (more.from_tag or "peer"),
    "To: " .. (more.to or "<sip:alice@example.org>") ..
      (more.to_tag and ";tag=" .. more.to_tag or ""),
    "Call-ID: " .. id,
    ("CSeq: %d %s"):format(more.cseq or 1, more.cseq_method or method) } do
    lines[#lines + 1] = line
  end
  if method == "INVITE" and not more.no_contact then
    lines[#lines + 1] = "Contact: <sip:bob@peer.invalid;transport=ws>"
  end
  self:send(join(lines, more))
  return id
end

local function close(w)
  w.listener:close()
  if w.c.transport.state ~= "Disconnected" then
    w:finish(w:call(w.c, "close"))
  end
end

function M.describe(what, fn)
  local busted = require "busted"
  busted.describe(what, function()
    busted.after_each(function()
      for i = #opened, 1, -1 do close(table.remove(opened, i)) end
    end)
    fn()
  end)
end

function M.no_answer(what)
  return ("timeout: no %s within %g s"):format(what, 64 * M.T1)
end

return M
