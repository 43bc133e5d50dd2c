-- SPDX-License-Identifier: MIT
-- sipwire.sip with anything: it never raises, never takes more than linear time
-- and stack, and never contradicts itself.

local random = require "spec.support.random"
local scale = require "spec.support.run".scale
local sip = require "sipwire.sip"
local torture = require "spec.support.torture"
local variants = require "spec.support.sip_variants"

local fields = { "is_request", "method", "uri", "status", "reason", "version",
  "body", "warnings", "via", "from", "to", "contact", "route", "record_route",
  "path", "service_route", "p_asserted_identity", "refer_to", "cseq", "call_id",
  "www_authenticate", "proxy_authenticate", "authorization",
  "proxy_authorization", "max_forwards", "content_length", "expires",
  "min_expires", "retry_after", "content_type", "event", "allow", "supported",
  "require", "unsupported", "proxy_require", "accept" }
local lists = { "via", "contact", "route", "record_route", "path",
  "service_route", "p_asserted_identity", "www_authenticate", "authorization" }

-- What a value is, in text.
local function shown(value)
  if type(value) ~= "table" or getmetatable(value) then
    return tostring(value)
  end
  local parts = {}
  for name, part in pairs(value) do
    parts[#parts + 1] = tostring(name) .. "=" .. shown(part)
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ";") .. "}"
end

-- Everything that can be read in it.
local function read_all(m)
  local seen = {}
  for _, name in ipairs(fields) do
    seen[name] = m[name]
  end
  for _, name in ipairs(lists) do
    for _, element in ipairs(m[name] or {}) do
      local branch, tag = element.branch, element.tag
      assert(type(element.params) == "table" and tostring(element))
      if name == "via" then
        assert(branch == element.params.branch, "another branch")
      elseif not name:find "auth" then
        assert(tag == element.params.tag, "another tag")
      end
      if name ~= "via" and not name:find "auth" then
        assert(element.star or element.uri.scheme, "address without a URI")
      end
    end
  end
  for name, value, id in m:each() do
    assert(m:get(id), name)
    assert(not value:find "[\r\n]")
  end
  return seen
end

-- Nothing is left in the globals of others.
local function without_globals(fn, ...)
  local globals = package.loaded._G
  local before = getmetatable(globals)
  setmetatable(globals, { __newindex = function(_, name)
    error("global " .. tostring(name))
  end })
  local ok, err = pcall(fn, ...)
  setmetatable(globals, before)
  return ok, err
end

local function exercise(text)
  local strict, err, code, info = sip.parse(text, { strict = true })
  local m = sip.parse(text)
  if not m then
    assert(not strict)
    return
  end
  local seen = read_all(m)
  assert(tostring(m) == text, "other bytes")
  if strict then
    read_all(strict)
    for _, name in ipairs { "via", "from", "to", "cseq", "call_id" } do
      assert(seen[name], "strict takes a message without " .. name)
    end
  else
    assert(err:find(code .. ": ", 1, true) == 1)
    assert(info.position >= 1 and info.position <= #text + 1, "position")
    assert(#m.warnings > 0, "forgiven without a warning: " .. err)
  end
  if m.is_request then
    assert(sip.parse(tostring(m:response(400))).status == 400)
  end
  -- Found by searches or by the index of its lines: the same.
  local indexed = sip.parse(text)
  indexed:each()
  for name, value in pairs(read_all(indexed)) do
    assert(shown(value) == shown(seen[name]), "another " .. name)
    seen[name] = nil
  end
  assert(not next(seen), "more without the index")
  -- Rewritten, it says the same.
  local again = sip.parse(tostring(sip.parse(text):set("X-Added", "1")))
  assert(again and again:get "X-Added" == "1", "lost by a change")
  for _, name in ipairs { "method", "status", "call_id", "max_forwards" } do
    assert(again[name] == m[name], name .. " changed")
  end
  assert(tostring(again.from) == tostring(m.from), "From changed")
  assert(again.body == m.body, "the body changed")
end

local pieces = { "\r\n", "\n", "\r", " ", "\t", ":", ";", ",", "=", '"', "<",
  ">", "\\", "@", "?", "&", "%", "[", "]", "/", "*", "\0", "\255", "0", "9",
  "z9hG4bK", "SIP/2.0", "sip:", "Via:", "v:", "\r\n\r\n", "tag=", "(", ")" }

local function mutate(r, text)
  for _ = 1, r(4) do
    local at, how = r(#text + 1), r(5)
    if how == 1 then
      text = text:sub(1, at - 1) .. r:of(pieces) .. text:sub(at)
    elseif how == 2 then
      text = text:sub(1, at - 1) .. text:sub(at + r(8))
    elseif how == 3 then
      text = text:sub(1, at - 1) .. string.char(r(256) - 1) .. text:sub(at + 1)
    elseif how == 4 then
      local from = r(#text + 1)
      text = text:sub(1, at - 1) .. text:sub(from, from + r(60)) .. text:sub(at)
    else
      text = text:sub(1, at)
    end
  end
  return text
end

describe("sip.parse #text", function()
  local function attempt(text, seed)
    local ok, err = without_globals(exercise, text)
    assert.is_true(ok, ok or ("seed %s: %s\n%q"):format(seed, err, text))
  end

  it("stands 800 mutations", function()
    for seed = 1, 800 do
      local r = random.new(seed)
      local from = r(2) == 1 and r:of(torture.list).text or
        variants.written(r(1000))
      if #from < 3000 then
        attempt(mutate(r, from), seed)
      end
    end
  end)

  it("stands noise behind a start line", function()
    for seed = 1, 200 do
      local r = random.new(seed)
      local list = { "INVITE sip:a SIP/2.0\r\n" }
      for i = 2, r(40) do list[i] = r:of(pieces) end
      attempt(table.concat(list), seed)
    end
  end)
end)

-- ---- Time -------------------------------------------------------------------

local names = { "Via", "From", "Contact", "Route", "CSeq", "Call-ID",
  "Max-Forwards", "Retry-After", "Content-Type", "Event", "Date", "Warning",
  "Timestamp", "Authorization", "WWW-Authenticate", "Allow", "Accept", "X-Any",
  "MIME-Version" }
-- What makes a reader begin, and what it then gets too much of.
local starts = { "", '"', "<sip:a", "sip:a", "a", "SIP/2.0/WS a", "Digest a=",
  'Digest a="', "1", "tel:1", "sip:[" }
local fillers = { " ", "\t", ";", ",", '"', "<", ">", "\\", "=", ":", "a", "1",
  "(", "%", "%41", "@", "?", "&", "[", "/", ".", "-", "a ", " a", ";a", ";a=b",
  ",a", '"a"', "<a>", "\r\n ", "\r", "\n", "a:", "a\r\n", "a:\r\n", "Via:\r\n",
  ": ", '\\"', "<a", "1." }

-- Bytes of a value, and which header fields have it: all of them takes long.
local SIZE, EACH = 16000, 6
if os.getenv "SIPWIRE_SIP_FUZZ" then
  SIZE, EACH = 40000, 1
end

local function work(text)
  local m = sip.parse(text)
  if m then read_all(m) end
  sip.parse(text, { strict = true })
  sip.uri(text)
end

-- Steps of the virtual machine; what patterns do inside of C is not seen.
local function steps(text)
  local count = 0
  debug.sethook(function() count = count + 1 end, "", 100)
  work(text)
  debug.sethook()
  return count
end

-- Every `each`th header field with the same hostile value, in one message.
local function hostile(start, filler, size, first, each)
  local value = start .. filler:rep(math.floor(size / #filler)) .. "!"
  local list = { "OPTIONS sip:a SIP/2.0" }
  for i = first, #names, each do
    list[#list + 1] = names[i] .. ": " .. value
  end
  return table.concat(list, "\r\n") .. "\r\n\r\n", value
end

describe("The work of parsing #text", function()
  local jit = rawget(_G, "jit")
  setup(function() -- compiled code takes no steps
    if jit then
      jit.off()
      jit.flush()
    end
  end)
  teardown(function() if jit then jit.on() end end)

  it("grows no faster than the message (steps of Lua)", function()
    for i, filler in ipairs(fillers) do
      local start = starts[i % 3 + 1]
      local few = steps((hostile(start, filler, 100, 1, 1)))
      local many = steps((hostile(start, filler, 1000, 1, 1)))
      assert.is_true(many <= 15 * few + 20,
        ("%q %q: %d, %d"):format(start, filler, few, many))
    end
  end)

  -- Some 0.5 us a byte are needed; what is quadratic needs ten times the limit.
  local function limited(text, what, fn)
    local begin = os.clock()
    fn(text)
    local taken = os.clock() - begin
    assert.is_true(taken < (#text * 3e-6 + 0.1) * scale,
      ("%s: %.2f s for %d"):format(what, taken, #text))
  end

  it("grows no faster than the message (CPU time)", function()
    for i, filler in ipairs(fillers) do
      local start = starts[i % #starts + 1]
      local text, value = hostile(start, filler, SIZE, i % EACH + 1, EACH)
      for _, each in ipairs { text, value,
        "OPTIONS " .. filler:rep(math.floor(SIZE / #filler)) .. " SIP/2.0\r\n\r\n",
        "SIP/2.0 200" .. filler:rep(math.floor(SIZE / #filler)) } do
        limited(each, ("%q %q"):format(start, filler), work)
      end
    end
  end)

  it("grows no faster than the number of fields", function()
    for _, name in ipairs { "Via", "v", "Allow", "X-Other" } do
      local text = "OPTIONS sip:a SIP/2.0\r\n" ..
        (name .. ": SIP/2.0/WS a\r\n"):rep(2e4) .. "\r\n"
      limited(text, name, function()
        local m = sip.parse(text)
        local via, allow = m.via, m.allow
        assert.equal(name:lower():find "^v" and 2e4 or nil, via and #via)
        assert.equal(name == "Allow" and 2e4 or nil, allow and #allow)
      end)
    end
  end)

  it("needs no stack for depth", function()
    local deep = ("<"):rep(3e4) .. ('"\\'):rep(3e4) .. ("("):rep(3e4)
    work("OPTIONS sip:a SIP/2.0\r\nFrom: " .. deep .. "\r\nVia: " .. deep)
    work("OPTIONS sip:a SIP/2.0\r\n" .. ("Via: a\r\n b\r\n"):rep(1e4))
  end)
end)
