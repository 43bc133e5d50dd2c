-- SPDX-License-Identifier: MIT
-- Alice and Bob register at a server, each over a connection of their own;
-- Alice sends Bob a MESSAGE, Bob answers.
--   message.lua [URL [DOMAIN]]   DOMAIN: theirs, the URL's host if absent
-- Without a URL the server is the small one below.
-- test: $LUA examples/message.lua

local sipwire = require "sipwire"
local sip = require "sipwire.sip"

-- ---- A registrar and proxy for one process (RFC 3261 sections 10 and 16) ---

local function small_server()
  local contacts = {} -- address of record -> { transport, URI }
  local pending = {}  -- branch -> transport that sent the request
  local listener, clients = nil, 0

  local function register(t, request)
    local contact = request.contact[1]
    contacts[tostring(request.to.uri)] = { transport = t, uri = contact.uri }
    t:send(tostring(request:response(200, "OK", { contact = contact })))
  end

  local function forward(t, request)
    local target = contacts[tostring(request.uri)]
    local hops = request.max_forwards or 70
    if not target then
      return t:send(tostring(request:response(404)))
    elseif hops == 0 then
      return t:send(tostring(request:response(483)))
    end
    local branch = sip.branch()
    pending[branch] = t
    request:set("Max-Forwards", hops - 1)
    request:prepend("Via", ("SIP/2.0/%s %s:%d;branch=%s"):format(
      target.transport.protocol, listener.address, listener.port, branch))
    target.transport:send((tostring(request):gsub("^(%S+) %S+", "%1 " ..
      tostring(target.uri):gsub("%%", "%%%%"))))
  end

  local function send_back(response)
    local branch = response.via[1].branch
    local t = pending[branch]
    if t then
      pending[branch] = nil
      local vias = response:all "Via"
      response:set("Via", vias[2])
      for i = 3, #vias do
        response:add("Via", vias[i])
      end
      t:send(tostring(response))
    end
  end

  local function serve(t)
    clients = clients + 1
    t.on_message = function(_, text)
      local message = assert(sip.parse(text, { strict = true }))
      if message.method == "REGISTER" then
        register(t, message)
      elseif message.is_request then
        forward(t, message)
      else
        send_back(message)
      end
    end
    t.on_disconnect = function()
      clients = clients - 1
      if clients == 0 then
        listener:close()
      end
    end
  end

  listener = assert(sipwire.listen { on_connection = serve })
  return listener.url
end

-- ---- The users -------------------------------------------------------------

local url = arg[1] or small_server()
local domain = arg[2] or url:match "//([^/?:]*)"

local function receive(c)
  local text = assert(c:receive(5))
  return assert(sip.parse(text))
end

local function send(c, message)
  return assert(c:send(tostring(message)))
end

-- Opens a connection and registers; returns it and the user's URI.
local function register(name)
  local c = assert(sipwire.open { server = url, keep_alive_interval = 30 })
  local user = ("sip:%s@%s"):format(name, domain)
  send(c, sip.request { method = "REGISTER", uri = "sip:" .. domain,
    from = user, via = { transport = c.transport.protocol }, contact = true,
    headers = { Expires = 600 } })
  local answer = receive(c)
  print(("%-5s  registers:  %d %s"):format(name, answer.status, answer.reason))
  assert(answer.status == 200, "not registered")
  return c, user
end

local function main()
  local bob_c, bob = register "bob"
  sipwire.spawn(function()
    local request = receive(bob_c)
    print(("bob    receives:  %s"):format(request.body))
    send(bob_c, request:response(200))
  end)

  local c, alice = register "alice"
  send(c, sip.request { method = "MESSAGE", uri = bob, from = alice,
    via = { transport = c.transport.protocol }, content_type = "text/plain",
    body = "Watson, come here." })
  local answer
  repeat -- 1xx: on its way
    answer = receive(c)
  until (answer.status or 0) >= 200
  print(("alice  is told:   %d %s"):format(answer.status, answer.reason))
  assert(c:close() and bob_c:close())
  assert(answer.status == 200, "not delivered")
end

assert(sipwire.run(main))
