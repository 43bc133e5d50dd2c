-- SPDX-License-Identifier: MIT
-- Registers many users at a Kamailio, lets some of them call each other all at
-- once, and takes the registrations back: none may be lost, none stuck.
--   calls.lua PORT [USERS [CALLS [CONNECTIONS]]]    (1000, 500, 50)

local sipwire = require "sipwire"
local mass = require "spec.support.ua_mass"

local users = tonumber(arg[2] or 1000)
local calls = tonumber(arg[3] or 500)
local scale = tonumber(os.getenv "SIPWIRE_TIME_SCALE") or 1

local report
assert(sipwire.run(function()
  report = mass.run { url = "ws://127.0.0.1:" .. arg[1], users = users,
    calls = calls, connections = tonumber(arg[4] or 50), limit = 30 * scale }
end))

for i = 1, math.min(10, #report.problems) do
  print(report.problems[i])
end
print(("registered %d of %d, called %d of %d, answered %d, unregistered %d, " ..
  "%d strays, %d problems"):format(report.registered, users, report.called,
  calls, report.answered, report.unregistered, report.strays,
  #report.problems))
os.exit(report.registered == users and report.called == calls and
  report.answered == calls and report.unregistered == users and
  report.strays == 0 and #report.problems == 0 and 0 or 1)
