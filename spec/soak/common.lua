-- SPDX-License-Identifier: MIT
-- What the processes of a soak run share.
--
-- common.random(seed) -> random     random(n): 1 to n, the same on every Lua
-- common.message(id, seq, size) -> message, frame
-- common.check(id, seq, message, binary) -> nil, or what is wrong with it
-- common.tell(...)                  a line for the parent, at the next flush
-- common.memory() -> kB resident    common.descriptors() -> count
-- common.heap() -> kB that malloc() has given out, or nil: LuaJIT only, whose
--                   own memory is not among it
-- common.warm_up()                  uses once what libraries keep for good

local sipwire = require "sipwire"

local M = {}

local MODULUS = 2147483647

-- Park and Miller's: exact in doubles.
function M.random(seed)
  local state = seed % (MODULUS - 1) + 1
  return function(n)
    state = state * 16807 % MODULUS
    return state % n + 1
  end
end

-- ---- Messages --------------------------------------------------------------

local SPAN = 262144

local function block(seed, low, high)
  local random, bytes = M.random(seed), {}
  for i = 1, SPAN / 16 do
    local piece = {}
    for j = 1, 16 do
      piece[j] = string.char(low + random(high - low + 1) - 1)
    end
    bytes[i] = table.concat(piece)
  end
  return table.concat(bytes)
end

local text, bytes = block(1, 32, 126), block(2, 0, 255)

local function body(id, seq, size)
  local at = (#id * 7919 + id:byte(-1) * 104729 + seq * 1299709) % (SPAN - size)
  return (seq % 2 == 0 and text or bytes):sub(at + 1, at + size)
end

-- Even ones are text, odd ones binary.
function M.message(id, seq, size)
  return ("%s %d %d\n"):format(id, seq, size) .. body(id, seq, size),
    seq % 2 == 0 and "text" or "binary"
end

M.MAX = 150000

function M.check(id, seq, message, binary)
  local head, of, number, size, rest = message:match "^((%S+) (%d+) (%d+)\n)()"
  size = tonumber(size)
  if not head or size > M.MAX then
    return "no message of ours"
  elseif of ~= id then
    return "of another connection: " .. of
  elseif tonumber(number) ~= seq then
    return ("message %s instead of %d"):format(number, seq)
  elseif message:sub(rest) ~= body(id, seq, size) then
    return "other bytes"
  elseif binary ~= (seq % 2 == 1) then
    return "the other kind of frame"
  end
end

-- ---- The process -----------------------------------------------------------

function M.memory()
  local file = assert(io.open "/proc/self/status")
  local kb = file:read "*a":match "VmRSS:%s*(%d+) kB"
  file:close()
  return tonumber(kb)
end

local found, ffi = pcall(require, "ffi")
if found then
  ffi.cdef [[
    struct soak_mallinfo {
      size_t arena, ordblks, smblks, hblks, mapped, usmblks, fsmblks, in_use,
        free, top;
    };
    struct soak_mallinfo mallinfo2(void);
  ]]
end

function M.heap()
  if found then
    local info = ffi.C.mallinfo2()
    return math.floor(tonumber(info.in_use + info.mapped) / 1024)
  end
end

function M.descriptors()
  local uv, count = require "luv", 0
  local scan = assert(uv.fs_scandir "/proc/self/fd")
  while uv.fs_scandir_next(scan) do
    count = count + 1
  end
  return count
end

function M.tell(...)
  io.stdout:write(table.concat({ ... }, " "), "\n")
end

-- Names open descriptors for good in libc and libuv.
function M.warm_up()
  local loop = sipwire.loop()
  local t = sipwire.new { server = "ws://localhost:1", loop = loop }
  local done
  t:connect(function() done = true end)
  while not done do
    loop:step(1)
  end
  assert(loop:close())
end

-- Calls fn every so many seconds until it returns true.
function M.every(seconds, fn)
  sipwire.timer(seconds, function()
    if not fn() then
      M.every(seconds, fn)
    end
  end)
end

io.stdout:setvbuf("full")

return M
