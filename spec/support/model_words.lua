-- SPDX-License-Identifier: MIT
-- What the model's peer can do, by the word for it: a function of a number
-- that makes messages differ.  It returns
--   frames    to write, as lists of opcode, payload, other fields (frames.lua)
--   message   what the user gets of them, "text ..." or "binary ..."
--   reply     the frame that they ask for, likewise
--   upgrade   "up" or "down": it answers the upgrade
--   broken    how it ends the link, with |code| for the user
--   answer    the code of the close frame that the client sends then

local function text_message(n)
  local payload = "s" .. n
  return { frames = { { "text", payload } }, message = "text " .. payload }
end

local function binary_message(n)
  local payload = "\254s" .. n .. "\0"
  return { frames = { { "binary", payload } }, message = "binary " .. payload }
end

local function split_message(n)
  local ping = "split" .. n
  return { message = "text s" .. n, reply = "pong " .. ping, frames = {
    { "text", "s", { fin = false } }, { "ping", ping },
    { "continuation", tostring(n) } } }
end

local function plain(opcode, payload, reply)
  return function()
    return { frames = { { opcode, payload } }, reply = reply }
  end
end

local function close(code)
  local payload = code == 1005 and "" or
    string.char(math.floor(code / 256), code % 256)
  return function()
    return { frames = { { "close", payload } }, broken = "close",
             code = "closed", answer = code }
  end
end

-- Answers to the upgrade: accept, refuse (403), unagreed (no subprotocol).
-- Ends: fin, rst, and close frames; bad breaks RFC 6455.
return {
  text = text_message, binary = binary_message, split = split_message,
  ping = function(n)
    return { frames = { { "ping", "p" .. n } }, reply = "pong p" .. n }
  end,
  pong = plain("pong", "unasked"),
  empty = plain("text", ""), bempty = plain("binary", ""),
  ask = plain("text", "\r\n\r\n", "text \r\n"),
  bask = plain("binary", "\r\n\r\n", "binary \r\n"),
  answer = plain("text", "\r\n"),
  close1000 = close(1000), close1001 = close(1001), close4000 = close(4000),
  close1005 = close(1005),
  bad = function()
    return { frames = { { 3, "reserved" } }, broken = "bad",
             code = "protocol", answer = 1002 }
  end,
  accept = function() return { upgrade = "up" } end,
  refuse = function()
    return { upgrade = "down", broken = "refuse", code = "http" }
  end,
  unagreed = function()
    return { upgrade = "down", broken = "unagreed", code = "subprotocol" }
  end,
  fin = function() return { broken = "fin", code = "closed" } end,
  rst = function() return { broken = "rst", code = "reset" } end,
}
