-- SPDX-License-Identifier: MIT
-- Many users at a registrar and proxy at once, some of whom call each other.
--
-- ua_mass.run { url =, users =, calls =, connections =, limit = } -> report
--   in a task.  users: how many; calls: how many of the first half call one of
--   the second half each; limit: seconds for each step (30)
--   report.registered  report.called  report.answered   how many did
--   report.unregistered
--   report.problems    what went wrong, a text each
--   report.strays      messages that nobody waited for
--   Users' passwords are "secret-NAME", their names "m1", "m2" ...

local sipwire = require "sipwire"

local M = {}

local function add_users(report, options)
  local connections, users = {}, {}
  for i = 1, options.connections do
    connections[i] = assert(sipwire.open { server = options.url })
  end
  for i = 1, options.users do
    local c = connections[(i - 1) % #connections + 1]
    local ua = sipwire.ua(c, { aor = ("sip:m%d@localhost"):format(i),
      password = "secret-m" .. i })
    ua.on_stray = function(message)
      report.strays = report.strays + 1
      report.stray = tostring(message)
    end
    users[i] = ua
  end
  return connections, users
end

-- Runs fn(i) for each i as a flow; counts those that end well.
local function all(report, name, from, to, limit, fn)
  local flows = {}
  for i = from, to do
    flows[i] = sipwire.ua.flow(fn, i)
  end
  for i = from, to do
    local ok, err = flows[i]:wait(limit)
    if ok then
      report[name] = report[name] + 1
    else
      table.insert(report.problems, ("%s %d: %s"):format(name, i, err))
    end
  end
end

local sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n"

-- What each called one does; counts those that were hung up on.
local function answer(report, ua, limit)
  ua:on("INVITE", function(req)
    assert(req:reply(180))
    local call = assert(req:reply(200, { body = sdp }))
    assert(call:wait("ACK", limit))
    assert(call:wait("BYE", limit))
    report.answered = report.answered + 1
  end)
end

local function dial(ua, target, limit)
  local call = assert(ua:invite(target, { body = sdp }))
  assert(call:wait(180, limit))
  assert(call:wait(200, limit))
  assert(call:ack())
  local response = assert(call:bye { timeout = limit })
  assert(response.status == 200, response.status)
end

function M.run(options)
  local limit = options.limit or 30
  local report = { registered = 0, called = 0, answered = 0, unregistered = 0,
    strays = 0, problems = {} }
  local connections, users = add_users(report, options)
  local half = math.floor(options.users / 2)
  all(report, "registered", 1, options.users, limit, function(i)
    assert(users[i]:register(600, { timeout = limit }))
  end)
  for i = half + 1, options.users do
    answer(report, users[i], limit)
  end
  all(report, "called", 1, options.calls, limit, function(i)
    dial(users[(i - 1) % half + 1], users[(i - 1) % half + 1 + half].aor,
      limit)
  end)
  all(report, "unregistered", 1, options.users, limit, function(i)
    assert(users[i]:unregister { timeout = limit })
  end)
  for _, c in ipairs(connections) do
    assert(c:close())
  end
  return report
end

return M
