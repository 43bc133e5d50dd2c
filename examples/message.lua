-- SPDX-License-Identifier: MIT
-- Alice and Bob register at a server, each over a connection of their own;
-- Alice sends Bob a MESSAGE, Bob answers.
--   message.lua [URL [DOMAIN]]   DOMAIN: theirs, the URL's host if absent
-- Without a URL the server is the small one below.
-- test: $LUA examples/message.lua

local sipwire = require "sipwire"
local sip = require "examples.sip"

-- ---- A registrar and proxy for one process (RFC 3261 sections 10 and 16) ---

local function small_server()
  local contacts = {} -- address of record -> { transport, URI }
  local pending = {}  -- branch -> transport that sent the request
  local listener, clients = nil, 0

  local function register(t, request)
    local contact = sip.header(request, "contact")
    local user = sip.header(request, "to"):match "<(.-)>"
    contacts[user] = { transport = t, uri = contact:match "<(.-)>" }
    t:send(sip.response(request, 200, "OK", { "Contact: " .. contact }))
  end

  local function forward(t, request)
    local method, uri = sip.method(request)
    local target = contacts[uri]
    local hops = tonumber(sip.header(request, "max-forwards") or 70)
    if not target then
      return t:send(sip.response(request, 404, "Not Found"))
    elseif hops == 0 then
      return t:send(sip.response(request, 483, "Too Many Hops"))
    end
    local branch = "z9hG4bK" .. sip.token()
    pending[branch] = t
    request = request:gsub("^[^\r\n]*", ("%s %s SIP/2.0\r\n"):format(method,
      target.uri) .. ("Via: SIP/2.0/%s %s:%d;branch=%s"):format(
      target.transport.protocol, listener.address, listener.port, branch))
    request = request:gsub("(\r\nMax%-Forwards:%s*)%d+", "%1" .. hops - 1, 1)
    target.transport:send(request)
  end

  local function send_back(response)
    local branch = sip.header(response, "via"):match ";branch=([^;,%s]+)"
    local t = pending[branch]
    if t then
      pending[branch] = nil
      t:send((response:gsub("\r\nVia:[^\r\n]*", "", 1)))
    end
  end

  local function serve(t)
    clients = clients + 1
    t.on_message = function(_, message)
      local method = sip.method(message)
      if method == "REGISTER" then
        register(t, message)
      elseif method then
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
  return (assert(c:receive(5)))
end

-- Opens a connection and registers; returns both ends of a user.
local function register(name)
  local c = assert(sipwire.open { server = url, keep_alive_interval = 30 })
  local user = sip.agent(("sip:%s@%s"):format(name, domain), c.transport)
  assert(c:send(user:request("REGISTER", "sip:" .. domain,
    { "Contact: " .. user.contact .. ";expires=600" }, nil, user.uri)))
  local status, reason = sip.status(receive(c))
  print(("%-5s  registers:  %d %s"):format(name, status, reason))
  assert(status == 200, "not registered")
  return c, user
end

local function main()
  local bob_c, bob = register "bob"
  sipwire.spawn(function()
    local request = receive(bob_c)
    print(("bob    receives:  %s"):format(request:match "\r\n\r\n(.*)$"))
    assert(bob_c:send(sip.response(request, 200, "OK")))
  end)

  local c, alice = register "alice"
  assert(c:send(alice:request("MESSAGE", bob.uri,
    { "Content-Type: text/plain" }, "Watson, come here.")))
  local status, reason
  repeat -- 1xx: on its way
    status, reason = sip.status(receive(c))
  until status and status >= 200
  print(("alice  is told:   %d %s"):format(status, reason))
  assert(c:close() and bob_c:close())
  assert(status == 200, "not delivered")
end

assert(sipwire.run(main))
