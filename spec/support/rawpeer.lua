-- SPDX-License-Identifier: MIT
-- TCP peers that do exactly what a spec says, byte by byte, in the spec's own
-- process.  Functions that wait take a limit in seconds (5) and turn both
-- loops meanwhile, or run beside the spec inside run.script().
--
-- rawpeer.listen { host = "127.0.0.1", port = 0, recv_buffer = bytes,
--                  send_buffer = bytes } -> server
--   server.host  server.port  server:url([path])  server.accepted (a count)
--   server:accept([limit]) -> connection
--   server:each(fn)            fn(connection) runs as a script for every one
--   server:close()             connections live on
-- rawpeer.connect { host = "127.0.0.1", port = , recv_buffer = } -> connection
-- rawpeer.refusing()           a server-like object whose port refuses
-- rawpeer.black_hole()         one whose port never answers a SYN
--
-- connection:write(bytes)      queued; connection:flush() waits for the kernel
-- connection:dribble(bytes, n) n bytes (1) a time, each seen before the next;
--                              n may be a list of positions to cut after
-- connection:peek()            what came and was not taken
-- connection:take(n)           waits for n bytes
-- connection:take_until(s)     waits for the plain string s, returns up to it
-- connection:ended()           nil, "eof", or an errno name such as ECONNRESET
-- connection:wait_end()        waits for it and returns it
-- connection:pause()  connection:resume()        reading
-- connection:fin()    half close    connection:reset()  RST    :close()
-- connection.received  connection.written        bytes in all
-- connection.write_error                         errno name, if one failed
--
-- WebSocket on top:
-- connection:read_head([limit])        { first, lines, raw, method, target,
--                                        get = function(self, name) }
-- rawpeer.response(head, options)      the bytes of a 101; options: status,
--                                      accept, protocol (false: none),
--                                      headers = list of lines, without = name
-- connection:answer_upgrade([options]) read_head + write; options.after is sent
--                                      in the same write; returns the head
-- connection:upgrade([options])        the client's part; path, host, protocol,
--                                      headers, key; returns the answer's head
-- connection:send(opcode, payload [, fields])  a frame; a client's are masked
-- connection:read_frame([limit])       see frames.lua
-- connection:read_message([limit])     { opcode, payload, frames }, joined;
--                                      pings are answered, control frames that
--                                      came first are in .control
-- connection:answer_close([limit])     reads up to a close frame, echoes it,
--                                      ends the connection; code, reason

local uv = require "luv"
local run = require "spec.support.run"
local frames = require "spec.support.frames"
local sha1 = require "spec.support.sha1"

local M = { frames = frames }
local connection, server = {}, {}
connection.__index, server.__index = connection, server

local default_mask = "\18\52\86\120"
local default_key = sha1.base64 "sipwire raw peer"

local function close(handle)
  if handle and not handle:is_closing() then handle:close() end
end

local function errno(err) return err and err:match "^%u+%d*%u*" or err end

-- ---- connections -----------------------------------------------------------

local function new_connection(handle, is_client)
  handle:nodelay(true)
  local c = setmetatable({ handle = handle, is_client = is_client, parts = {},
    size = 0, received = 0, written = 0, unwritten = 0 }, connection)
  c:resume()
  return run.track(c)
end

function connection:on_read(err, data)
  if data then
    self.parts[#self.parts + 1] = data
    self.size = self.size + #data
    self.received = self.received + #data
    return
  end
  self.how = err and errno(err) or "eof"
  if err then close(self.handle) end
end

function connection:resume()
  self.handle:read_start(run.guard(function(err, data)
    self:on_read(err, data)
  end))
end

function connection:pause() self.handle:read_stop() end

function connection:peek()
  if #self.parts > 1 then self.parts = { table.concat(self.parts) } end
  return self.parts[1] or ""
end

function connection:drop(n)
  local rest = self:peek():sub(n + 1)
  self.parts, self.size = { rest }, #rest
end

function connection:ended() return self.how end

local function describe_rest(self)
  local rest = self:peek()
  return ("; connection %s, %d bytes there: %q"):format(
    self.how or "open", #rest, rest:sub(1, 200))
end

-- Waits for condition(), but not past the connection's end.
function connection:await(condition, limit, what)
  local result
  run.wait(function()
    result = condition()
    return result or self.how
  end, limit, function() return what .. describe_rest(self) end)
  if not result then error("no " .. what .. describe_rest(self), 3) end
  return result
end

function connection:take(n, limit)
  self:await(function() return self.size >= n end, limit, n .. " bytes")
  local taken = self:peek():sub(1, n)
  self:drop(n)
  return taken
end

function connection:take_until(text, limit)
  local stop = self:await(function()
    return select(2, self:peek():find(text, 1, true))
  end, limit, ("bytes up to %q"):format(text))
  return self:take(stop)
end

function connection:wait_end(limit)
  run.wait(function() return self.how end, limit, "end of a connection")
  return self.how
end

function connection:write(bytes)
  if self.handle:is_closing() then
    self.write_error = self.write_error or "ECANCELED"
    return self
  end
  self.unwritten = self.unwritten + #bytes
  self.handle:write(bytes, run.guard(function(err)
    self.unwritten = self.unwritten - #bytes
    if err then
      self.write_error = errno(err)
    else
      self.written = self.written + #bytes
    end
  end))
  return self
end

function connection:flush(limit)
  run.wait(function() return self.unwritten == 0 end, limit,
    "bytes to leave for the kernel")
  return self
end

local function cuts(bytes, n)
  if type(n) == "table" then return n end
  local list = {}
  for at = n or 1, #bytes - 1, n or 1 do list[#list + 1] = at end
  return list
end

function connection:dribble(bytes, n)
  local from = 1
  local function piece(to)
    self:write(bytes:sub(from, to)):flush()
    run.pass(2)
    from = to + 1
  end
  for _, to in ipairs(cuts(bytes, n)) do piece(to) end
  piece(#bytes)
  return self
end

function connection:fin()
  self.handle:shutdown(run.guard(function() end))
  return self
end

function connection:reset()
  run.untrack(self)
  self.how = self.how or "reset here"
  if not self.handle:is_closing() then
    assert(self.handle:close_reset())
  end
end

function connection:close()
  run.untrack(self)
  self.how = self.how or "closed here"
  close(self.handle)
end

-- ---- listening and connecting ----------------------------------------------

local function socket(options)
  local handle = uv.new_tcp()
  -- before bind or connect, for the window to know
  if options.recv_buffer or options.send_buffer then
    close(handle)
    local family = (options.host or ""):find(":", 1, true) and "inet6"
    handle = uv.new_tcp(family or "inet")
    if options.recv_buffer then
      assert(uv.recv_buffer_size(handle, options.recv_buffer))
    end
    if options.send_buffer then
      assert(uv.send_buffer_size(handle, options.send_buffer))
    end
  end
  return handle
end

local function bind(options)
  local s = setmetatable({ host = options.host or "127.0.0.1", accepted = 0,
    waiting = {}, handle = socket(options) }, server)
  run.track(s)
  assert(s.handle:bind(s.host, options.port or 0))
  s.port = assert(s.handle:getsockname()).port
  return s
end

function server:on_connection(err)
  assert(not err, err)
  local handle = uv.new_tcp()
  assert(self.handle:accept(handle))
  self.accepted = self.accepted + 1
  local c = new_connection(handle, false)
  if self.script then return run.script(self.script, c) end
  table.insert(self.waiting, c)
end

function M.listen(options)
  local s = bind(options or {})
  local ok, err = s.handle:listen(128, run.guard(function(problem)
    s:on_connection(problem)
  end))
  if not ok then
    s:close()
    error(err, 0)
  end
  return s
end

function server:url(path)
  local host = self.host:find(":", 1, true) and "[" .. self.host .. "]"
  return ("ws://%s:%d%s"):format(host or self.host, self.port, path or "/")
end

function server:accept(limit)
  run.wait(function() return self.waiting[1] end, limit, "a connection")
  return table.remove(self.waiting, 1)
end

function server:each(fn)
  self.script = fn
  return self
end

function server:close()
  run.untrack(self)
  close(self.handle)
end

function M.connect(options)
  local handle = socket(options)
  local outcome
  assert(handle:connect(options.host or "127.0.0.1", options.port,
    run.guard(function(err) outcome = err or "connected" end)))
  run.wait(function() return outcome end, options.limit, "a connection")
  if outcome == "connected" then return new_connection(handle, true) end
  close(handle)
  return nil, errno(outcome)
end

-- Bound and not listening: nobody else gets the port, and SYNs get RST.
function M.refusing(options) return bind(options or {}) end

-- Nobody accepts, and the queue is full of our own: Linux drops further SYNs.
function M.black_hole(options)
  local s = bind(options or {})
  s.fillers = {}
  assert(s.handle:listen(1, function() end))
  local stuck = false
  while not stuck do
    local handle, connected = uv.new_tcp(), false
    table.insert(s.fillers, handle)
    handle:connect(s.host, s.port, run.guard(function(err)
      connected = not err
    end))
    local began = run.now()
    run.wait(function()
      stuck = not connected and run.now() - began > 0.15
      return connected or stuck
    end, 5, "a full queue")
  end
  function s:close()
    for _, handle in ipairs(self.fillers) do close(handle) end
    server.close(self)
  end
  return s
end

-- ---- the upgrade -----------------------------------------------------------

local head = {}
head.__index = head

-- All values of a header, joined as HTTP allows, or nil.
function head:get(name)
  local values = {}
  for _, line in ipairs(self.lines) do
    local key, value = line:match "^([^:]*):%s*(.-)%s*$"
    if key and key:lower() == name:lower() then values[#values + 1] = value end
  end
  return #values > 0 and table.concat(values, ", ") or nil
end

function connection:read_head(limit)
  local raw = self:take_until("\r\n\r\n", limit)
  local h = setmetatable({ raw = raw, lines = {} }, head)
  for line in raw:sub(1, -3):gmatch "(.-)\r\n" do
    if h.first then table.insert(h.lines, line) else h.first = line end
  end
  h.method, h.target = h.first:match "^(%S+) (%S+) HTTP/1%.1$"
  h.status = tonumber(h.first:match "^HTTP/1%.1 (%d%d%d)")
  return h
end

function M.response(request, options)
  options = options or {}
  local lines = { "HTTP/1.1 " .. (options.status or "101 Switching Protocols") }
  local function add(name, value)
    if value and options.without ~= name then
      lines[#lines + 1] = name .. ": " .. value
    end
  end
  add("Upgrade", "websocket")
  add("Connection", "Upgrade")
  add("Sec-WebSocket-Accept", options.accept or
    sha1.accept(request:get "Sec-WebSocket-Key" or ""))
  if options.protocol ~= false then
    add("Sec-WebSocket-Protocol", options.protocol or "sip")
  end
  for _, line in ipairs(options.headers or {}) do lines[#lines + 1] = line end
  return table.concat(lines, "\r\n") .. "\r\n\r\n"
end

function connection:answer_upgrade(options)
  local request = self:read_head(options and options.limit)
  local after = options and options.after or ""
  self:write(M.response(request, options) .. after)
  return request
end

function connection:upgrade(options)
  options = options or {}
  local key = options.key or default_key
  local lines = {
    "GET " .. (options.path or "/") .. " HTTP/1.1",
    "Host: " .. (options.host or "localhost"),
    "Upgrade: websocket", "Connection: Upgrade",
    "Sec-WebSocket-Key: " .. key, "Sec-WebSocket-Version: 13",
  }
  if options.protocol ~= false then
    local offer = options.protocol or "sip"
    lines[#lines + 1] = "Sec-WebSocket-Protocol: " .. offer
  end
  for _, line in ipairs(options.headers or {}) do lines[#lines + 1] = line end
  self:write(table.concat(lines, "\r\n") .. "\r\n\r\n")
  local answer = self:read_head(options.limit)
  answer.accepted = answer.status == 101 and
    answer:get "Sec-WebSocket-Accept" == sha1.accept(key)
  return answer
end

-- ---- frames ----------------------------------------------------------------

function connection:send(opcode, payload, fields)
  local frame = { opcode = opcode, payload = payload,
    mask = self.is_client and default_mask or nil }
  for name, value in pairs(fields or {}) do frame[name] = value end
  return self:write(frames.build(frame))
end

function connection:read_frame(limit)
  local frame, after
  self:await(function()
    frame, after = frames.parse(self:peek())
    return frame
  end, limit, "a whole frame")
  self:drop(after - 1)
  return frame
end

function connection:read_message(limit)
  local message = { frames = {}, control = {} }
  local pieces = {}
  repeat
    local frame = self:read_frame(limit)
    if frame.opcode >= 8 then
      table.insert(message.control, frame)
      if frame.name == "ping" then self:send("pong", frame.payload) end
      if frame.name == "close" then
        error("a close frame came instead of a message", 2)
      end
    else
      table.insert(message.frames, frame)
      table.insert(pieces, frame.payload)
    end
  until frame.opcode < 8 and frame.fin
  message.opcode = message.frames[1].name
  message.payload = table.concat(pieces)
  return message
end

function connection:answer_close(limit)
  local frame
  repeat frame = self:read_frame(limit) until frame.name == "close"
  self:send("close", frame.payload):flush()
  self:fin()
  return frames.code(frame.payload)
end

return M
