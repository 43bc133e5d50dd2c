-- SPDX-License-Identifier: MIT
-- The server of faulty.lua: does to each connection what the path of its
-- request asks for. Tells its port on stdout; ends with its stdin.

local uv = require "luv"
local frames = require "spec.support.frames"
local sha1 = require "spec.support.sha1"

local function close(handle)
  if not handle:is_closing() then
    handle:close()
  end
end

local function reset(handle)
  if not handle:is_closing() then
    handle:close_reset()
  end
end

local function finish(handle, bytes)
  if not handle:is_closing() then
    handle:write(bytes, function() close(handle) end)
  end
end

local function accept_of(request)
  local key = request:match "[Kk]ey: *(%S+)\r\n" or ""
  return sha1.accept(key)
end

local function agreed(request, more, protocol)
  return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" ..
    "Connection: Upgrade\r\nSec-WebSocket-Accept: " .. accept_of(request) ..
    "\r\n" .. (protocol or "Sec-WebSocket-Protocol: sip\r\n") .. "\r\n" ..
    (more or "")
end

local deeds = {}

function deeds.refuse(handle)
  finish(handle, "HTTP/1.1 403 Forbidden\r\nX-Reason: " .. ("x"):rep(200) ..
    "\r\nContent-Length: 5\r\n\r\nsorry")
end

function deeds.reset(handle) reset(handle) end

function deeds.fin(handle) close(handle) end

function deeds.half(handle)
  finish(handle, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: webs")
end

function deeds.garbage(handle)
  finish(handle, ("\0\1\2\r\n"):rep(20))
end

function deeds.endless(handle)
  finish(handle, "HTTP/1.1 101 Switching Protocols\r\n" ..
    ("X-More: aaaaaaaaaaaaaaaaaaaaaaaa\r\n"):rep(2000))
end

function deeds.subprotocol(handle, request)
  finish(handle, agreed(request, nil, "Sec-WebSocket-Protocol: chat\r\n"))
end

function deeds.accept(handle)
  finish(handle, agreed "Key: x\r\n")
end

function deeds.silent() end

-- After the upgrade.
function deeds.masked(handle, request)
  handle:write(agreed(request, frames.build { opcode = "text", payload = "hi",
    mask = "abcd" }))
end

function deeds.rsv(handle, request)
  handle:write(agreed(request, "\199\2hi"))
end

function deeds.utf8(handle, request)
  handle:write(agreed(request, "\129\3a\192\128"))
end

function deeds.announce(handle, request)
  handle:write(agreed(request, "\130\127\0\0\90\0\0\0\0\0"))
end

function deeds.cut(handle, request)
  finish(handle, agreed(request, "\130\126\20\0" .. ("x"):rep(3000)))
end

function deeds.broken(handle, request)
  handle:write(agreed(request, "\129\5hello\130\126\20\0xxx"), function()
    reset(handle)
  end)
end

function deeds.close(handle, request, code)
  local payload = string.char(math.floor(code / 256), code % 256) .. "bye"
  finish(handle, agreed(request, "\136" .. string.char(#payload) .. payload))
end

-- ----------------------------------------------------------------------------

local function serve(handle)
  local read = ""
  handle:read_start(function(_, bytes)
    if not bytes then
      return close(handle)
    elseif not read then
      return
    end
    read = read .. bytes
    if read:byte() == 22 then -- a ClientHello
      read = nil
      return finish(handle, "HTTP/1.1 400 Bad Request\r\n\r\n")
    end
    if read:sub(-4) == "\r\n\r\n" then
      local deed, code = read:match "^GET /(%a%w*)/?(%d*)"
      local request = read
      read = nil
      deeds[deed](handle, request, tonumber(code))
    end
  end)
end

local listening = uv.new_tcp()
assert(listening:bind("0.0.0.0", 0))
assert(listening:listen(512, function(err)
  assert(not err, err)
  local handle = uv.new_tcp()
  assert(listening:accept(handle))
  serve(handle)
end))
local stdin = uv.new_pipe(false)
stdin:open(0)
stdin:read_start(function(_, bytes)
  if not bytes then
    os.exit(0)
  end
end)
local broken_pipe = uv.new_signal()
broken_pipe:start("sigpipe", function() end)
print(listening:getsockname().port)
io.stdout:flush()
uv.run()
