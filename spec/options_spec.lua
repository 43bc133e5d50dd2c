-- SPDX-License-Identifier: MIT
-- Bad input raises at the caller's line and names what is wrong (C2, C3, C7).

local sipwire = require "sipwire"
local helper = require "spec.helper"

helper.watch()

local URL = "ws://127.0.0.1:9/"

local function with(options)
  if options.server == nil then
    options.server = URL
  end
  return options
end

-- Calls fn and checks that it raises `text` at a line of this file, in fn.
local function raises(text, fn)
  local first = debug.getinfo(fn, "S").linedefined
  local last = debug.getinfo(fn, "S").lastlinedefined
  local ok, err = pcall(fn)
  assert.is_false(ok, "nothing was raised instead of: " .. text)
  local file, line, message = tostring(err):match("^(.-):(%d+): (.*)$")
  assert.is_truthy(file and file:match("options_spec%.lua$"),
    "not the caller's file: " .. tostring(err))
  assert.is_true(tonumber(line) >= first and tonumber(line) <= last,
    "not the caller's line: " .. tostring(err))
  assert.are.equal(text, message)
end

local function new_raises(text, options)
  raises(text, function()
    local t = sipwire.new(with(options))
    return t
  end)
end

describe("options of new()", function()
  it("must be a table with a server (C2)", function()
    raises("options must be a table, not nil", function()
      local t = sipwire.new()
      return t
    end)
    raises("options must be a table, not string", function()
      local t = sipwire.new(URL)
      return t
    end)
    raises("option 'server' is required", function()
      local t = sipwire.new {}
      return t
    end)
  end)

  it("must have known names", function()
    new_raises("unknown option 'conection_timeout', did you mean " ..
      "'connection_timeout'?", { conection_timeout = 1 })
    new_raises("unknown option 'Server', did you mean 'server'?", { Server = URL })
    new_raises("unknown option 'utterly_different'", { utterly_different = 1 })
    new_raises("unknown option '1'", { URL })
    new_raises("unknown option 'tls.ca_fil', did you mean 'ca_file'?",
      { tls = { ca_fil = "x" } })
  end)

  it("must have values of the right type and range", function()
    local seconds = "must be a number of seconds, not "
    for _, name in ipairs { "connection_timeout", "keep_alive_interval",
      "keep_alive_timeout" } do
      new_raises("option '" .. name .. "' " .. seconds .. "string", { [name] = "5" })
      for _, bad in ipairs { -1, -0.001, 604801, 0 / 0, 1 / 0 } do
        new_raises("option '" .. name .. "' must be 0 to 604800 seconds",
          { [name] = bad })
      end
    end
    for _, bad in ipairs { 0, -1, 604801, 0 / 0 } do
      new_raises("option 'disconnect_timeout' must be 0.001 to 604800 seconds",
        { disconnect_timeout = bad })
    end
    for _, name in ipairs { "max_message_size", "send_queue_limit" } do
      new_raises("option '" .. name .. "' must be a number of bytes, not string",
        { [name] = "9" })
      for _, bad in ipairs { 0, -1, 0.5, 0 / 0, 1 / 0, 2 ^ 41 } do
        new_raises("option '" .. name ..
          "' must be a whole number of bytes, at least 1", { [name] = bad })
      end
    end
    new_raises("option 'keep_alive_method' must be \"ping\" or \"crlf\"",
      { keep_alive_method = "pong" })
    new_raises("option 'keep_alive_method' must be \"ping\" or \"crlf\"",
      { keep_alive_method = 0 })
    new_raises("option 'frame' must be \"auto\", \"text\" or \"binary\"",
      { frame = "Text" })
    new_raises("option 'raw' must be a boolean, not number", { raw = 1 })
    new_raises("option 'trace' must be a function, not table", { trace = {} })
    new_raises("option 'loop' must be a table, not number", { loop = 1 })
    new_raises("option 'loop' must be a sipwire loop", { loop = {} })
    new_raises("option 'tls' must be a table, not boolean", { tls = true })
    new_raises("option 'tls.verify' must be a boolean, not string",
      { tls = { verify = "no" } })
    new_raises("option 'tls.ca_file' must be a string, not number",
      { tls = { ca_file = 1 } })
    new_raises("option 'tls.ca_file' is empty", { tls = { ca_file = "" } })
    new_raises("option 'tls.ca_file' has a NUL byte", { tls = { ca_file = "a\0b" } })
    new_raises("option 'server' must be a URL or a function, not number",
      { server = 5 })
    new_raises("local_address is not a numeric IP address",
      { local_address = "localhost" })
    new_raises("option 'local_address' must be a string, not number",
      { local_address = 127 })
  end)

  it("name the URL's bad part (C3)", function()
    for url, part in pairs {
      ["http://h/"] = "scheme", ["sip:h"] = "scheme", [""] = "URL",
      ["ws://u:p@h/"] = "userinfo", ["ws:///x"] = "host", ["ws://"] = "host",
      ["ws://a b/"] = "host", ["ws://h:0/"] = "port", ["ws://h:65536/"] = "port",
      ["ws://h:x/"] = "port", ["ws://h/#f"] = "fragment", ["ws://h/a b"] = "path",
      ["ws://h/%zz"] = "path", ["ws://h/?a b"] = "query", ["ws://[::1/"] = "host",
      ["ws://h/a\r\nX: y"] = "path",
    } do
      local ok, err = pcall(sipwire.new, { server = url })
      assert.is_false(ok, url .. " was accepted")
      assert.is_truthy(err:match("server: " .. part .. " "),
        url .. " gives: " .. err)
    end
    new_raises("option 'server' has a NUL byte", { server = "ws://h/\0" })
  end)

  it("accept every good URL unchanged (C3, C5)", function()
    for _, url in ipairs {
      "ws://h", "WSS://Example.COM:8443/ws?x=1&y=%20", "wS://127.0.0.1:1/",
      "ws://[::1]:65535", "ws://[2001:db8::1]/a/b;c=d", "ws://h:/", "ws://h?q",
      "ws://a_b.example.",
    } do
      local t = sipwire.new { server = url }
      assert.are.equal(url, t.server)
      assert.are.equal(url:lower():match("^wss") and "WSS" or "WS", t.protocol)
    end
  end)

  it("refuse headers that would break or fake the request", function()
    for name, value in pairs {
      ["X\r\nY"] = "1", ["X Y"] = "1", [""] = "1", ["X:"] = "1", ["Xé"] = "1",
      ["X-A"] = "1\r\nY: 2", ["X-B"] = "1\n2", ["X-C"] = "a\1b",
      Host = "x", upgrade = "x", CONNECTION = "close",
      ["Content-Length"] = "1", ["Transfer-Encoding"] = "chunked",
      ["Sec-WebSocket-Key"] = "x", ["Sec-WebSocket-Protocol"] = "sip",
    } do
      local ok, err = pcall(sipwire.new,
        { server = URL, headers = { [name] = value } })
      assert.is_false(ok, name .. " was accepted")
      assert.is_truthy(err:find("header '", 1, true), err)
    end
    new_raises("option 'headers' must be a table of names and values, not string",
      { headers = "X: y" })
    new_raises("option 'headers' must have strings as names, not number",
      { headers = { "X: y" } })
    new_raises("option 'headers' header 'X' must be a string, not number",
      { headers = { X = 1 } })
    new_raises("option 'headers' header 'X' has a NUL byte",
      { headers = { X = "\0" } })
    new_raises("header 'X': the headers exceed 16384 bytes",
      { headers = { X = ("x"):rep(20000) } })
  end)

  it("name a TLS file that cannot be read, at new()", function()
    for _, name in ipairs { "ca_file", "ca_path", "cert_file" } do
      local ok, err = pcall(sipwire.new,
        { server = "wss://h/", tls = { [name] = "/nonexistent/x" } })
      assert.is_false(ok)
      assert.is_truthy(err:find("tls." .. name .. " '/nonexistent/x': No such",
        1, true), err)
    end
    new_raises("tls.key_file needs tls.cert_file",
      { server = "wss://h/", tls = { key_file = "/x" } })
    new_raises("tls.min_version is neither \"1.2\" nor \"1.3\"",
      { server = "wss://h/", tls = { min_version = "1.1" } })
    new_raises("tls.ciphers 'nonsense' names no known cipher",
      { server = "wss://h/", tls = { ciphers = "nonsense" } })
  end)

  it("are not kept: changing the table later changes nothing", function()
    local given = { server = URL, headers = { A = "b" } }
    local t = sipwire.new(given)
    given.server, given.headers.A = "nonsense", "\r\n"
    assert.are.equal(URL, t.server)
  end)
end)

describe("options of listen()", function()
  local function listen_raises(text, options)
    raises(text, function()
      local l = sipwire.listen(options)
      return l
    end)
  end

  it("are checked likewise", function()
    local nop = function() end
    listen_raises("option 'on_connection' is required", {})
    listen_raises("option 'on_connection' must be a function, not string",
      { on_connection = "x" })
    for _, port in ipairs { -1, 65536, 1.5, "80", 0 / 0 } do
      listen_raises("option 'port' must be a whole number from 0 to 65535",
        { on_connection = nop, port = port })
    end
    listen_raises("unknown option 'server'", { on_connection = nop, server = URL })
    listen_raises("address 'localhost' is not a numeric IP address",
      { on_connection = nop, address = "localhost" })
    listen_raises("tls.cert_file is required", { on_connection = nop, tls = {} })
    listen_raises("tls.server_name is for clients", { on_connection = nop,
      tls = { cert_file = helper.certs() .. "/server.pem", server_name = "x" } })
    listen_raises("tls.verify needs tls.ca_file or tls.ca_path",
      { on_connection = nop,
        tls = { cert_file = helper.certs() .. "/server.pem", verify = true } })
  end)
end)

describe("arguments of calls", function()
  local t
  before_each(function()
    t = sipwire.new { server = URL }
  end)

  it("are checked at the caller's line", function()
    raises("done must be a function or nil, not number", function()
      local ok = t:connect(1)
      return ok
    end)
    raises("done must be a function or nil, not string", function()
      local ok = t:disconnect("x")
      return ok
    end)
    raises("message must be a string, not number", function()
      local ok = t:send(1)
      return ok
    end)
    raises("message must be a string, not nil", function()
      local ok = t:send()
      return ok
    end)
    raises("done must be a function or nil, not table", function()
      local ok = t:send("x", {})
      return ok
    end)
    raises('frame must be "auto", "text" or "binary"', function()
      local ok = t:send("x", nil, "json")
      return ok
    end)
    raises("listener must be a function, not nil", function()
      t.state_change:add_listener()
    end)
    raises("unknown option 'One'", function()
      t.state_change:add_listener(print, { One = true })
    end)
    raises("option 'once' must be a boolean, not number", function()
      t.state_change:add_listener(print, { once = 1 })
    end)
    assert.are.equal("Disconnected", t.state)
  end)

  it("of fields are checked too (C4, C7)", function()
    raises("on_message must be a function or nil, not string", function()
      t.on_message = "x"
    end)
    raises("unknown field 'on_mesage', did you mean 'on_message'?", function()
      t.on_mesage = print
    end)
    raises("field 'state' is read-only", function() t.state = "Connected" end)
    raises("field 'connect' is read-only", function() t.connect = print end)
    raises('protocol must be "WS", "WSS" or nil', function() t.protocol = "TCP" end)
    t.protocol = "WSS"
    assert.are.equal("WSS", t.protocol)
    t.protocol = nil
    assert.are.equal("WS", t.protocol)
    t.on_connect = print
    assert.are.equal(print, t.on_connect)
    t.on_connect = nil
    assert.is_nil(t.on_connect)
    assert.is_nil(t.no_such_field)
  end)

  it("of the module's functions are checked", function()
    raises("main must be a function, not number", function() sipwire.run(1) end)
    raises("spawn needs a function, not nil", function() sipwire.spawn() end)
    raises("defer needs a function, not string", function() sipwire.defer("x") end)
    raises("timer needs a function, not nil", function()
      local timer = sipwire.timer(1)
      return timer
    end)
    raises("seconds must be a number of seconds, not nil", function()
      local timer = sipwire.timer(nil, print)
      return timer
    end)
    raises("sleep() outside a task: use spawn() or run(main)", function()
      sipwire.sleep(1)
    end)
    raises("open() outside a task: use spawn() or run(main)", function()
      local c = sipwire.open { server = URL }
      return c
    end)
    raises("unknown option 'onerror', did you mean 'on_error'?", function()
      local loop = sipwire.loop { onerror = print }
      return loop
    end)
    local loop = sipwire.loop()
    raises("on_error must be a function or nil, not number", function()
      loop.on_error = 1
    end)
    raises("timeout must be 0 to 604800 seconds", function() loop:step(-1) end)
    assert(loop:close())
    raises("disposed: the loop is closed", function() loop:step(0) end)
    raises("disposed: the loop is closed", function()
      local other = sipwire.new { server = URL, loop = loop }
      return other
    end)
  end)
end)
