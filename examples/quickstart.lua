-- SPDX-License-Identifier: MIT
-- A client and a server in one process: OPTIONS and MESSAGE in both
-- directions, drawn as a ladder.
-- test: $LUA examples/quickstart.lua

local sipwire = require "sipwire"
local sip = require "examples.sip"

-- ---- The ladder: 80 columns, two of them vertical lines --------------------

local INNER = 74

local function rung(text)
  print(("  |%s|"):format(text .. (" "):rep(INNER - #text)))
end

local function arrow(direction, text)
  local line = ("-"):rep(INNER - 5 - #text)
  rung(direction == "out" and ("-- %s %s>"):format(text, line)
    or ("<%s %s --"):format(line, text))
end

local function draw(direction, message)
  local start, fields, body = message:match "^(.-)\r\n(.-\r\n)\r\n(.*)$"
  rung ""
  arrow(direction, start)
  for line in fields:gmatch "(.-)\r\n" do
    rung("   " .. line)
  end
  if body ~= "" then
    rung ""
    rung("   " .. body)
  end
end

-- ---- Who answers -----------------------------------------------------------

local function answer(request)
  local method = sip.method(request)
  if method == "OPTIONS" then
    return sip.response(request, 200, "OK", sip.abilities)
  elseif method == "MESSAGE" then
    return sip.response(request, 200, "OK")
  end
  return sip.response(request, 405, "Method Not Allowed",
    { "Allow: OPTIONS, MESSAGE" })
end

local function text_message(agent, uri, text)
  return agent:request("MESSAGE", uri, { "Content-Type: text/plain" }, text)
end

-- ---- The server: answers, and asks back after the client's MESSAGE ---------

local server

local function serve(t)
  local bob = sip.agent("sip:bob@example.invalid", t,
    server.address .. ":" .. server.port)
  t.on_message = function(_, message)
    local method = sip.method(message)
    if method then
      t:send(answer(message))
    end
    if method == "MESSAGE" then
      t:send(bob:request("OPTIONS", "sip:alice@example.invalid",
        { "Accept: text/plain" }))
      t:send(text_message(bob, "sip:alice@example.invalid", "Hello, Alice."))
    end
  end
  t.on_disconnect = function(_, _, _, info)
    rung ""
    arrow("out", "close " .. info.close_code)
    server:close()
  end
end

server = assert(sipwire.listen { on_connection = serve })

-- ---- The client ------------------------------------------------------------

local function ask(c, request)
  assert(c:send(request))
  local status = sip.status(assert(c:receive(5)))
  assert(status == 200, "the answer is not 200")
end

local function main()
  local c = assert(sipwire.open { server = server.url, trace = draw })
  print(("  client %s server"):format((" "):rep(INNER - 12)))
  rung ""
  arrow("out", ("connected to %s, subprotocol sip"):format(server.url))
  local alice = sip.agent("sip:alice@example.invalid", c.transport)
  ask(c, alice:request("OPTIONS", "sip:bob@example.invalid",
    { "Contact: " .. alice.contact, "Accept: text/plain" }))
  ask(c, text_message(alice, "sip:bob@example.invalid", "Hello, Bob."))
  for _ = 1, 2 do
    local request = assert(c:receive(5))
    assert(c:send(answer(request)))
  end
  assert(c:close())
end

assert(sipwire.run(main))
