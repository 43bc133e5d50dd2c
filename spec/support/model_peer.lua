-- SPDX-License-Identifier: MIT
-- The peer's part of model_play.lua: methods of a play.  It does what it is
-- told to do; by itself it only answers close frames, when the play is served.
--
-- play:serve()            reads all that came and has the model judge it
-- play:peer(link, does)   does all that the words say, in one write
-- Of the play it uses connections (by link id), model, bench, judge, tell,
-- note, number, serial.

local uv = require "luv"
local rawpeer = require "spec.support.rawpeer"

local frames = rawpeer.frames
local M = {}

local function describe_frame(f)
  if not f.masked or not f.fin or f.rsv ~= 0 then return "malformed frame" end
  if f.name ~= "close" then return f.name .. " " .. f.payload end
  return "close " .. (frames.code(f.payload) or 1005)
end

-- A good server echoes a close frame and ends the connection.
function M:answer_close(link)
  if not link.broken then
    if self.model.mute then return end
    self:peer(link, "close1000")
  end
  if not link.finished then self:peer(link, "fin") end
end

function M:read(link, connection)
  while connection.size > 0 do
    local frame, after = frames.parse(connection:peek())
    if not frame then break end
    connection:drop(after - 1)
    local text = describe_frame(frame)
    self:tell("frame", function()
      self:judge(("    link %d: "):format(link.id) .. text,
        link:frame(text))
    end)
    if frame.name == "close" then self:answer_close(link) end
  end
  if connection.how then
    connection:close()
    self.connections[link.id] = nil
    self:judge(("    link %d: %s"):format(link.id, connection.how),
      link:end_seen())
  end
end

-- The path of a request tells the link that it is for.
function M:identify(connection)
  local head = connection:read_head()
  local serial, id = head.target:match "^/(%d+)/(%d+)$"
  local link = tonumber(serial) == self.serial and
    self.model.links[tonumber(id)]
  if not link then return connection:close() end
  connection.head = head
  link.arrived = true
  self.connections[link.id] = connection
  self:note(("    link %d: request"):format(link.id))
end

function M:welcome()
  local server, fresh = self.bench.server, self.bench.fresh
  while server.waiting[1] do
    fresh[#fresh + 1] = table.remove(server.waiting, 1)
  end
  for i = #fresh, 1, -1 do
    local connection = fresh[i]
    local complete = connection:peek():find("\r\n\r\n", 1, true)
    if complete or connection.how then table.remove(fresh, i) end
    if complete then
      self:identify(connection)
    elseif connection.how then
      connection:close()
    end
  end
end

function M:serve()
  self:welcome()
  for _, link in ipairs(self.model.links) do
    local connection = self.connections[link.id]
    if connection then self:read(link, connection) end
  end
end

local responses = {
  accept = function(head) return rawpeer.response(head) end,
  unagreed = function(head)
    return rawpeer.response(head, { protocol = false })
  end,
  refuse = function()
    return "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"
  end,
}

local function bytes_of(word, connection, list)
  local bytes = responses[word] and responses[word](connection.head) or ""
  for _, frame in ipairs(list) do
    local fields = { opcode = frame[1], payload = frame[2] }
    for key, value in pairs(frame[3] or {}) do fields[key] = value end
    bytes = bytes .. frames.build(fields)
  end
  return bytes
end

-- luv sends a FIN when it turns, the rest at once.
local function finish(connection, word)
  if word == "rst" then
    connection:reset()
  elseif word == "fin" then
    connection:fin()
    uv.run "nowait"
  end
end

function M:peer(link, does)
  local connection = link and self.connections[link.id]
  if not connection then return end
  local bytes, last = "", nil
  for word in does:gmatch "%w+" do
    local list = link:act(word, self:number())
    if list then
      bytes = bytes .. bytes_of(word, connection, list)
      last = word
    end
  end
  if bytes ~= "" then connection:write(bytes) end
  finish(connection, last)
  if last == "rst" then self.connections[link.id] = nil end
end

return M
