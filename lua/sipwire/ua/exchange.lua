-- SPDX-License-Identifier: MIT
-- A request with all that it takes to get it answered: the transaction, and
-- more of them as long as challenges can be answered.

local await = require "sipwire.ua.await"
local task = require "sipwire.task"
local transaction = require "sipwire.ua.transaction"
local waiting = require "sipwire.waiting"

local exchange = {}

local Exchange = {}
Exchange.__index = Exchange

local function send(self)
  local request = self.build()
  if self.credentials then
    self.credentials:authorize(request)
  end
  self.request = request
  self.transaction = transaction.client(self.endpoint, request, self)
  return self.transaction:start()
end

--- Sends what build() returns, anew for each attempt.
---@param ua table
---@param build fun(): table
---@param user table _on_response(user, response, request) with all but the
--- challenges that were answered, _on_failure(user, err, code, info)
---@return table|nil exchange
---@return string|nil err
---@return string|nil code
---@return table|nil info
function exchange.start(ua, build, user)
  local self = setmetatable({
    endpoint = ua._endpoint, t1 = ua._t1, credentials = ua._credentials,
    build = build, user = user, answered = {},
  }, Exchange)
  local ok, err, code, info = send(self)
  if not ok then
    return nil, err, code, info
  end
  return self
end

-- Whether the challenge was, or will be, dealt with here.
local function answer(self, response)
  if not self.credentials or self.given_up or
    not self.credentials:challenged(response, tostring(self.request.uri),
      self.answered) then
    return false
  end
  local ok, err, code, info = send(self)
  if not ok then
    self.user:_on_failure(err, code, info)
  end
  return true
end

function Exchange:_on_response(response)
  local status = response.status
  if (status == 401 or status == 407) and answer(self, response) then
    return
  end
  if self.credentials and status >= 200 and status < 300 then
    self.credentials:answered(response, tostring(self.request.uri))
  end
  self.user:_on_response(response, self.request)
end

function Exchange:_on_failure(err, code, info)
  self.user:_on_failure(err, code, info)
end

--- Cancels an INVITE; challenges are not answered any more.
function Exchange:cancel()
  self.given_up = true
  return self.transaction:cancel()
end

--- Forgets it: what still comes is stray. An INVITE is cancelled, as somebody
--- may still answer it.
function Exchange:drop()
  self.given_up = true
  if self.request.method == "INVITE" then
    return self.transaction:cancel()
  end
  self.transaction:terminate()
end

--- Another final response than was wanted, as an error.
---@return string err
---@return string code
---@return table info
function exchange.status_error(response)
  return ("status: %d %s"):format(response.status, response.reason), "status",
    { response = response }
end

--- The user of an exchange whose outcome nobody waits for.
exchange.nobody = {
  _on_response = function() end,
  _on_failure = function() end,
}

--- Sends a request and waits for the final response.
---@param ua table
---@param what string the waiting function's name, for errors
---@param build fun(): table
---@param timeout? number seconds; nil: the transaction's own limit alone
---@param each? fun(response: table, request: table) called with every response
---@return table|nil response
---@return string|nil err
---@return string|nil code
---@return table|nil info
function exchange.ask(ua, what, build, timeout, each)
  task.current(what) -- before anything is sent
  local outcome
  local waiters = waiting.new()
  local function finish(...)
    outcome = outcome or { ... }
    waiters:wake_all_later()
  end
  local user = {
    _on_response = function(_, response, request)
      if each then
        each(response, request)
      end
      if response.status >= 200 then
        finish(response)
      end
    end,
    _on_failure = function(_, ...)
      finish(nil, ...)
    end,
  }
  local started, err, code, info = exchange.start(ua, build, user)
  if not started then
    return nil, err, code, info
  end
  local result = await(waiters, what, timeout, function()
    return outcome
  end)
  if result then
    return result[1], result[2], result[3], result[4]
  end
  started:drop()
  return nil, ("timeout: no final response within %g s"):format(timeout),
    "timeout", {}
end

return exchange
