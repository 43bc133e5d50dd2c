-- SPDX-License-Identifier: MIT
-- What goes wrong, and how it is told: by response, code and time limit.
--   failures.lua [URL [DOMAIN]]
-- The users busy, fail (503) and black-hole are those of a server made for
-- tests: spec/support/kamailio/kamailio.cfg.

local sipwire = require "sipwire"

local url = arg[1] or os.getenv "SIP_SERVER" or "ws://127.0.0.1:8080"
local domain = arg[2] or os.getenv "SIP_DOMAIN" or "localhost"

local function tell(what, result, err, code, info)
  if result then
    print(("%-15s %d %s"):format(what, result.status, result.reason))
  else
    local response = info.response
    print(("%-15s %s (code %s%s)"):format(what, err, code, response and
      response.retry_after and ", retry after " .. response.retry_after or ""))
  end
end

assert(sipwire.run(function()
  local c = assert(sipwire.open { server = url })
  local function user(name, password)
    return sipwire.ua(c, { aor = ("sip:%s@%s"):format(name, domain),
      password = password })
  end
  local alice = user("alice", "secret-alice")
  local function uri(name) return ("sip:%s@%s"):format(name, domain) end

  local function call(name)
    local made = assert(alice:invite(uri(name)))
    return made:wait(200, 5)
  end

  tell("wrong password", user("alice", "wrong"):register())
  tell("not her name", sipwire.ua(c, { aor = uri "bob", username = "alice",
    password = "secret-alice" }):register())
  tell("proxy says no", user("alice", "wrong"):request("MESSAGE",
    { uri = uri "nobody", body = "hello?" }))
  tell("nobody there", alice:request("MESSAGE",
    { uri = uri "nobody", body = "hello?" }))
  tell("busy", call "busy")
  tell("overloaded", call "fail")
  tell("no answer", alice:request("OPTIONS",
    { uri = uri "black-hole", timeout = 0.3 }))
  c:close()
end))
