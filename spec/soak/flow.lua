-- SPDX-License-Identifier: MIT
-- One connection as one of its ends sees it: what it sent, what became of it,
-- what came. When all is known it tells the parent in one line
--
--   flow ID END PORT accepted handed lost pending received dropped outcome
--
-- ID: the same on both ends; PORT: that of the connecting socket, by which the
-- relay knows the connection; handed, lost: completions of accepted messages without and with
-- error; pending: without completion, as their transport was disposed of;
-- dropped: received and not delivered, or "-" if nobody can know. The outcome
-- is "down" (we disconnected), "left" (we disconnected, and connected again
-- before that was over), "disposed", or the code of the failure.
--
-- Whatever must never be is a line "fault ID END words".

local common = require "spec.soak.common"

local flow = {}
flow.__index = flow

-- |role|: "client" or "server".
function flow.new(id, role, port, t)
  return setmetatable({
    id = id, role = role, port = port, t = t,
    sent = 0, handed = 0, lost = 0, received = 0, full = 0,
    dropped_before = t:stats().dropped,
  }, flow)
end

function flow:fault(format, ...)
  common.tell("fault", self.id, self.role, format:format(...))
end

function flow:_completed(seq, err, code)
  local known = self.handed + self.lost
  if seq ~= known + 1 then
    self:fault("completion of %d after %d", seq, known)
  end
  if err then
    self.lost = self.lost + 1
    if code ~= "closed" and code ~= "reset" and code ~= "timeout" and
      code ~= "protocol" and code ~= "aborted" and code ~= "tls" and
      code ~= "utf8" and code ~= "too_big" then
      self:fault("lost with code %s", tostring(code))
    end
  elseif self.lost > 0 then
    self:fault("%d is handed over, and one before it is lost", seq)
  else
    self.handed = self.handed + 1
  end
  self:_tell_if_over()
end

function flow:send(size)
  local seq = self.sent + 1
  local message, frame = common.message(self.id, seq, size)
  local ok, err, code = self.t:send(message, function(...)
    self:_completed(seq, ...)
  end, frame)
  if ok then
    self.sent = seq
  elseif code == "queue_full" then
    self.full = self.full + 1
  else
    self:fault("send() says %s", err)
  end
  return ok
end

-- After the first that is not as it should be, nothing counts any more: the
-- parent knows whether that may be.
function flow:receive(message, binary)
  if self.outcome then
    self:fault("a message after the end")
  elseif self.bad then
    return
  end
  self.bad = common.check(self.id, self.received + 1, message, binary)
  if not self.bad then
    self.received = self.received + 1
    return true
  end
  common.tell("bad", self.id, self.role, self.port, self.bad)
end

-- on_disconnect was called.
function flow:down(code)
  if self.outcome then
    self:fault("a second on_disconnect")
  end
  self.outcome = code or "down"
end

-- The state is Disconnected, or nothing can be learned about it any more.
function flow:over(outcome)
  if not self.outcome and outcome ~= "disposed" then
    self:fault("is over without on_disconnect")
  end
  self.outcome = outcome or self.outcome or "?"
  self.ended = true
  if outcome == "disposed" then
    self.disposed, self.dropped = true, "-"
  elseif outcome == "left" then
    self.dropped = "-"
  else
    self.dropped = self.t:stats().dropped - self.dropped_before
  end
  self:_tell_if_over()
end

function flow:_tell_if_over()
  local pending = self.sent - self.handed - self.lost
  if not self.ended or self.told or pending > 0 and not self.disposed then
    return
  end
  self.told = true
  common.tell("flow", self.id, self.role, self.port, self.sent, self.handed,
    self.lost, pending, self.received, self.dropped, self.outcome)
end

return flow
