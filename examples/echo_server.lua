-- SPDX-License-Identifier: MIT
-- Sends every message back as it came.
--   echo_server.lua [PORT [--once]]   PORT: 5066 if absent, 0 is any free one
-- --once: ends with the first connection; else Ctrl-C stops it.

local sipwire = require "sipwire"

local once = arg[2] == "--once"
local listener

local function serve(t, request)
  print(("%s connected to %s"):format(request.peer_address, request.target))
  t.on_message = function(_, message, binary)
    print(("%s sent %d bytes"):format(request.peer_address, #message))
    local ok, err = t:send(message, nil, binary and "binary" or "text")
    if not ok then
      print(("%s does not read: %s"):format(request.peer_address, err))
    end
  end
  t.on_disconnect = function(_, err)
    print(("%s left: %s"):format(request.peer_address, err))
    if once then
      listener:close()
    end
  end
end

io.stdout:setvbuf "line"
listener = assert(sipwire.listen { port = tonumber(arg[1] or 5066),
  keep_alive_interval = 60, on_connection = serve })
print("listening at " .. listener.url)
assert(sipwire.run())
