-- SPDX-License-Identifier: MIT
-- Whatever users can reach has a LuaLS annotation that says it all.

local sipwire = require "sipwire"
local options = require "sipwire.options"
local helper = require "spec.helper"

local sources = {}

local function lines_of(path)
  if not sources[path] then
    local lines = {}
    for line in io.lines(path) do
      lines[#lines + 1] = line
    end
    sources[path] = lines
  end
  return sources[path]
end

-- The comment block above a function's first line, and that line's parameters.
local function annotation(fn)
  local info = debug.getinfo(fn, "S")
  local lines = lines_of(info.source:sub(2))
  local at = info.linedefined
  local parameters, block = {}, {}
  local list = lines[at]:match("%((.-)%)")
  for name in list:gmatch("[%w_%.]+") do
    if name ~= "..." then
      parameters[#parameters + 1] = name
    end
  end
  local i = at - 1
  while lines[i] and lines[i]:match("^%s*%-%-%-") do
    table.insert(block, 1, lines[i])
    i = i - 1
  end
  return table.concat(block, "\n"), parameters, lines, at
end

local function body_returns(lines, at)
  local i = at + 1
  while lines[i] and not lines[i]:match("^end") do
    if lines[i]:match("^%s*return%s+%S") or lines[i]:match("then return %S") then
      return true
    end
    i = i + 1
  end
  return false
end

local function check_function(name, fn)
  local block, parameters, lines, at = annotation(fn)
  assert.is_truthy(block:match("^%-%-%-%s*%S") or block:match("^%-%-%-@"),
    name .. " has no annotation")
  for _, parameter in ipairs(parameters) do
    assert.is_truthy(block:find("@param " .. parameter .. "%??%s"),
      name .. " does not annotate parameter " .. parameter)
  end
  for parameter in block:gmatch("@param ([%w_]+)") do
    local known = false
    for _, each in ipairs(parameters) do
      known = known or each == parameter
    end
    assert.is_true(known, name .. " annotates unknown parameter " .. parameter)
  end
  if body_returns(lines, at) then
    assert.is_truthy(block:find("@return", 1, true),
      name .. " does not annotate what it returns")
  end
end

local function methods_of(object)
  local index = getmetatable(object).__index
  if type(index) == "table" then
    return index
  end
  for i = 1, 20 do -- the class is an upvalue of __index
    local name, value = debug.getupvalue(index, i)
    if name == nil then
      break
    elseif type(value) == "table" and (name:match("^%u")) then
      return value
    end
  end
  error("no class found")
end

local function public_functions(class)
  local found = {}
  for name, value in pairs(class) do
    if type(value) == "function" and not name:match("^_") then
      found[name] = value
    end
  end
  return found
end

-- The names annotated by ---@field below ---@class `name`, in any file.
local function fields_of(class)
  local found, any = {}, false
  for _, file in ipairs { "options", "transport", "loop", "listener",
    "connection", "emitter", "sip", "sip/build" } do
    local inside = false
    for _, line in ipairs(lines_of(helper.root .. "/lua/sipwire/" .. file .. ".lua")) do
      local started = line:match("^%-%-%-@class ([%w_%.]+)")
      if started then
        inside = started == class
        any = any or inside
      elseif not line:match("^%-%-%-") then
        inside = false
      elseif inside then
        local field = line:match("^%-%-%-@field ([%w_]+)")
        if field then
          found[field] = line
        end
      end
    end
  end
  assert.is_true(any, "no class " .. class)
  return found
end

helper.watch()

describe("annotations", function()
  it("cover every function of the module", function()
    for name, fn in pairs(public_functions(sipwire)) do
      check_function("sipwire." .. name, fn)
    end
  end)

  it("cover every method of every object", function()
    local loop = sipwire.loop()
    local t = sipwire.new { server = "ws://127.0.0.1:9/", loop = loop }
    local listener = assert(sipwire.listen {
      on_connection = function() end, loop = loop,
    })
    local timer = loop:timer(1, function() end)
    local connection
    assert(loop:run(function()
      connection = assert(sipwire.open { server = listener.url, loop = loop })
      assert(connection:close())
      listener:close()
      timer:stop()
    end))
    for what, object in pairs {
      Loop = loop, Transport = t, Listener = listener, Timer = timer,
      Emitter = t.state_change, Connection = connection,
    } do
      for name, fn in pairs(public_functions(methods_of(object))) do
        check_function(what .. ":" .. name, fn)
      end
    end
    assert(loop:close())
  end)

  it("cover every method of a user agent and what it makes", function()
    local loop = sipwire.loop()
    local classes = {}
    assert(loop:run(function()
      local t = sipwire.new { server = "ws://127.0.0.1:9/", loop = loop }
      local agent = sipwire.ua(t, { aor = "sip:a@b" })
      local request = sipwire.sip.request { method = "INVITE", uri = "sip:a@b",
        from = "sip:c@d" }
      local req = require "sipwire.ua.incoming".new(agent, request,
        { tag = "x" })
      classes = { UserAgent = agent, Request = req,
        Call = agent:_incoming_call(req), Flow = sipwire.ua.flow(print) }
    end))
    for what, object in pairs(classes) do
      for name, fn in pairs(public_functions(methods_of(object))) do
        check_function(what .. ":" .. name, fn)
      end
    end
    check_function("ua.new", sipwire.ua.new)
    check_function("ua.flow", sipwire.ua.flow)
    assert(loop:close())
  end)

  it("cover every option, and name none that there is not", function()
    local common = options.known["sipwire.ConnectionOptions"]
    for class, spec in pairs(options.known) do
      local fields = fields_of(class)
      for name in pairs(spec) do
        assert.is_truthy(fields[name] or spec ~= common and common[name],
          class .. " does not annotate option " .. name)
      end
      for name in pairs(fields) do
        assert.is_truthy(spec[name], class .. " annotates unknown option " .. name)
      end
    end
  end)

  it("cover every function of sipwire.sip, its messages and options", function()
    local sip = require "sipwire.sip"
    for name, fn in pairs(public_functions(sip)) do
      check_function("sip." .. name, fn)
    end
    local m = sip.parse "SIP/2.0 200 OK\r\n\r\n"
    for name, fn in pairs(public_functions(methods_of(m))) do
      check_function("Message:" .. name, fn)
    end
    for class, spec in pairs(require "sipwire.sip.build".known) do
      local fields = fields_of(class)
      for name in pairs(spec) do
        assert.is_truthy(fields[name], class .. " does not annotate " .. name)
      end
      for name in pairs(fields) do
        assert.is_truthy(spec[name], class .. " annotates unknown " .. name)
      end
    end
  end)

  it("cover every field of a transport", function()
    local fields = fields_of("sipwire.Transport")
    for _, name in ipairs { "state", "protocol", "server", "local_address",
      "peer_address", "loop", "state_change", "on_connect", "on_disconnect",
      "on_message" } do
      assert.is_truthy(fields[name], "no @field " .. name)
    end
  end)

  it("cover every figure of stats() and every field of info", function()
    local loop = sipwire.loop()
    local t = sipwire.new { server = "ws://127.0.0.1:9/", loop = loop }
    local fields = fields_of("sipwire.Stats")
    for name in pairs(t:stats()) do
      assert.is_truthy(fields[name], "no @field " .. name)
    end
    local info = fields_of("sipwire.Info")
    for _, name in ipairs { "phase", "http_status", "http_headers", "close_code",
      "close_reason", "was_clean", "tls_error", "errno" } do
      assert.is_truthy(info[name], "no @field " .. name)
    end
    assert(loop:close())
  end)
end)
