-- SPDX-License-Identifier: MIT
-- A client and a server in one process: OPTIONS and MESSAGE in both
-- directions, drawn as a ladder.
-- test: $LUA examples/quickstart.lua

local sipwire = require "sipwire"
local sip = require "sipwire.sip"

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

local ALICE, BOB = "sip:alice@example.invalid", "sip:bob@example.invalid"

local function answer(text)
  local request = assert(sip.parse(text))
  if request.method == "OPTIONS" then -- RFC 3261 section 11.2
    return tostring(request:response(200, "OK", { headers = {
      Allow = "OPTIONS, MESSAGE", Accept = "text/plain",
      ["Accept-Encoding"] = "identity", ["Accept-Language"] = "en" } }))
  elseif request.method == "MESSAGE" then
    return tostring(request:response(200))
  end
  return tostring(request:response(405, nil,
    { headers = { Allow = "OPTIONS, MESSAGE" } }))
end

local function text_message(from, to, text, host)
  return tostring(sip.request { method = "MESSAGE", uri = to, from = from,
    via = { host = host }, body = text, content_type = "text/plain" })
end

local function question(from, to, host)
  return tostring(sip.request { method = "OPTIONS", uri = to, from = from,
    via = { host = host }, contact = not host,
    headers = { Accept = "text/plain" } })
end

-- ---- The server: answers, and asks back after the client's MESSAGE ---------

local server

local function serve(t)
  local host = server.address .. ":" .. server.port
  t.on_message = function(_, text)
    local message = assert(sip.parse(text))
    if message.is_request then
      t:send(answer(text))
    end
    if message.method == "MESSAGE" then
      t:send(question(BOB, ALICE, host))
      t:send(text_message(BOB, ALICE, "Hello, Alice.", host))
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
  local text = assert(c:receive(5))
  assert(sip.parse(text).status == 200, "the answer is not 200")
end

local function main()
  local c = assert(sipwire.open { server = server.url, trace = draw })
  print(("  client %s server"):format((" "):rep(INNER - 12)))
  rung ""
  arrow("out", ("connected to %s, subprotocol sip"):format(server.url))
  ask(c, question(ALICE, BOB))
  ask(c, text_message(ALICE, BOB, "Hello, Bob."))
  for _ = 1, 2 do
    local request = assert(c:receive(5))
    assert(c:send(answer(request)))
  end
  assert(c:close())
end

assert(sipwire.run(main))
