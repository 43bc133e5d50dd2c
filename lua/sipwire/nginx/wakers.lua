-- SPDX-License-Identifier: MIT
-- What wakes the light thread that drives a worker's loop in nginx:
--   wait()    until woken, without a limit, as nginx logs those that it
--             reaches; returns false for the last time
--   rearm()   to be woken by the loop again
--   ring()    wakes it now
--   close()   when the light thread's timer ends

local ffi = require "ffi"

local core = require "sipwire.core"
local semaphore = require "ngx.semaphore"

local ngx = ngx

local LONG = 1728000 -- seconds; nginx counts milliseconds in 31 bits

local wakers = { LONG = LONG }

-- ---- By a thread ----------------------------------------------------------

local function connect(bridge, address, token)
  local socket = ngx.socket.tcp()
  socket:settimeouts(1000, 1000, 1000)
  local host, port = address:match "^([%d.]+):(%d+)$"
  if host then
    assert(socket:connect(host, tonumber(port)))
    assert(socket:send(token))
  else
    assert(socket:connect(address))
  end
  for _ = 1, 1000 do
    if bridge:accept() then
      return socket
    end
    ngx.sleep(0.001)
  end
  error "the bridge has not seen its own process"
end

-- A cosocket that waits for a bridge (see sipwire.h). It belongs to the timer.
function wakers.by_bridge(loop)
  local bridge, address, token = core.bridge_new(loop._core)
  local socket = connect(bridge, address, token)
  socket:settimeouts(1000, 1000, LONG * 1000)
  return {
    wait = function()
      local _, err = socket:receiveany(64)
      return not err or err == "timeout" -- or worker_shutdown_timeout ended it
    end,
    rearm = function() bridge:rearm() end,
    ring = function() bridge:ring() end,
    close = function()
      socket:close()
      bridge:close()
    end,
  }
end

-- ---- By nginx's own events ------------------------------------------------

-- The versions whose source was looked at; the watch itself looks whether this
-- nginx is as it knows it.
local OLDEST, NEWEST = 1017005, 1029999

-- Serves all timers of a worker: finish() ends it. Returns nil where it cannot
-- be done.
function wakers.by_nginx(loop)
  local version = ngx.config.nginx_version
  if version < OLDEST or version > NEWEST then
    return nil
  end
  local sema = assert(semaphore.new())
  local watch = core.nginx_watch(loop._core,
    tonumber(ffi.cast("uintptr_t", sema.sem)),
    ("ngx_%s_lua_ffi_sema_post"):format(ngx.config.subsystem))
  if not watch then
    return nil
  end
  return {
    wait = function()
      local ok, err = sema:wait(LONG)
      return ok or err == "timeout"
    end,
    rearm = function() assert(watch:rearm(), "nginx takes no descriptor") end,
    ring = function() -- a post is not seen where nginx ends timers early
      if loop._core then
        loop:_timer(0, function() end)
      end
      sema:post(1)
    end,
    close = function() end,
    finish = function() watch:close() end,
  }
end

return wakers
