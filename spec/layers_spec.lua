-- SPDX-License-Identifier: MIT
-- Which file may use what.  Reads the sources; needs nothing that is built.

local lfs = require "lfs"

local function words(text)
  local set = {}
  for word in text:gmatch "%S+" do set[word] = true end
  return set
end

local function read(path)
  local file = assert(io.open(path, "rb"))
  local text = file:read "*a"
  file:close()
  return text
end

local function list(folder, pattern)
  local names = {}
  for name in lfs.dir(folder) do
    if name:find(pattern) then names[#names + 1] = folder .. "/" .. name end
  end
  table.sort(names)
  return names
end

-- The lists in CMakeLists.txt, which decide what is linked with what.
local function cmake_list(name)
  return words(read "CMakeLists.txt":match("set%(" .. name .. "%s([^)]*)%)"))
end

local pure = cmake_list "SIPWIRE_PURE"
local io_files = cmake_list "SIPWIRE_IO"
pure.slice, pure.ascii = true, true -- headers alone

-- inet_pton() and inet_ntop() turn text into bytes and back, no more.
local pure_headers = words [[
  ctype.h errno.h float.h inttypes.h limits.h stdalign.h stdarg.h stdbool.h
  stddef.h stdint.h stdlib.h stdnoreturn.h string.h arpa/inet.h netinet/in.h ]]
local lua_headers = words "lua.h lauxlib.h lualib.h luajit.h"
local nginx_headers = words "dlfcn.h fcntl.h unistd.h" -- src/lua/nginx.c
local c_headers = words [[
  assert.h ctype.h errno.h float.h inttypes.h limits.h math.h stdarg.h
  stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h ]]

-- Libraries: how their names look, and the files that may know them.
local libraries = {
  { "libuv", { "^uv%.h$", "^uv/" }, { "uv_", "UV_" },
    words "loop stream resolve timer link listener" },
  { "OpenSSL", { "^openssl/" }, { "SSL_", "EVP_", "X509_", "BIO_", "RAND_" },
    words "tls random hash auth" },
}

-- What a file must not know of: its users.
local users = {
  loop = words "ws http fsm channel transport",
  random = words "stream tls channel link transport listener",
  hash = words "random auth stream tls channel link transport listener",
  resolve = words "stream tls channel link transport listener",
  timer = words "stream tls channel link transport listener",
  stream = words "ws http tls channel link transport listener",
  auth = words "stream tls channel link transport listener options",
  proxy = words "stream tls channel link transport listener options",
  tls = words "ws http stream channel link transport listener",
  channel = words "ws http upgrade outbox link transport listener",
  upgrade = words "stream tls channel link transport listener",
  outbox = words "fsm inbox link transport listener",
  inbox = words "stream tls channel link transport listener",
  link = words "fsm transport",
  bridge = words "loop stream tls ws http fsm channel link transport listener",
}

-- faults returns a list of what |text|, the contents of |path|, does wrong.
local function faults(path, text)
  local found = {}
  local function fault(...)
    found[#found + 1] = path .. ": " .. table.concat({ ... }, " ")
  end

  local binding = path:find "^src/lua/"
  local stem = path:match "([^/]+)%.[ch]$"
  local is_pure = not binding and pure[stem]
  local code = text:gsub("/%*.-%*/", " ")

  local function check_include(quote, name)
    local own = quote == '"' and name:match "^([%w_]+)%.h$"
    if name:find "%.c$" then
      fault("includes the source", name)
    elseif quote == '"' and not own then
      fault("reaches into another folder:", name)
    elseif binding then
      local here = own and lfs.attributes("src/lua/" .. name)
      if not (here or name == "sipwire.h" or lua_headers[name] or
              quote == "<" and (c_headers[name] or
                                stem == "nginx" and nginx_headers[name])) then
        fault("is binding, includes", name)
      end
    elseif is_pure then
      if not (own and (pure[own] or name == "sipwire.h") or
              quote == "<" and pure_headers[name]) then
        fault("is pure, includes", name)
      end
    elseif lua_headers[name] then
      fault("includes Lua's", name)
    end
    if own and users[stem] and users[stem][own] and not binding then
      fault("is below", own, "and includes it")
    end
    for _, library in ipairs(libraries) do
      for _, pattern in ipairs(library[2]) do
        if name:find(pattern) and (binding or not library[4][stem]) then
          fault("includes", library[1])
        end
      end
    end
  end

  for rest in code:gmatch "#%s*include%s*([^\n]*)" do
    local quote, name = rest:match '^(["<])([^">]+)[">]'
    if quote then
      check_include(quote, name)
    else
      fault("has an unreadable include:", rest)
    end
  end

  for _, library in ipairs(libraries) do
    for _, prefix in ipairs(library[3]) do
      if code:find("%f[%w_]" .. prefix) and
         (binding or not library[4][stem]) and
         not (library[1] == "OpenSSL" and is_pure) then
        fault("uses", library[1] .. "'s", prefix)
      end
    end
  end

  if path ~= "src/transport.c" and
     (code .. " "):find "%->%s*state%s*=[^=]" then
    fault("assigns ->state")
  end
  return found
end

local function sources()
  local all = {}
  for _, folder in ipairs { "src", "src/lua" } do
    for _, path in ipairs(list(folder, "%.[ch]$")) do all[#all + 1] = path end
  end
  return all
end

describe("layers", function()
  it("are kept by every file of src", function()
    local all = {}
    for _, path in ipairs(sources()) do
      for _, fault in ipairs(faults(path, read(path))) do
        all[#all + 1] = fault
      end
    end
    assert.are.equal("", table.concat(all, "\n"))
  end)

  it("know every source file, once", function()
    for _, path in ipairs(list("src", "%.c$")) do
      local stem = path:match "([^/]+)%.c$"
      assert(pure[stem] or io_files[stem], path .. " is not in CMakeLists.txt")
      assert(not (pure[stem] and io_files[stem]), path .. " is in both lists")
    end
  end)

  it("are kept by the public header, which includes C's own only", function()
    local text = read "include/sipwire.h"
    for name in text:gmatch "#%s*include%s*([^\n]*)" do
      assert(c_headers[name:match "^<(.*)>$"], name)
    end
    assert.is_nil(text:find "uv_")
  end)

  it("have a header that every source can include first", function()
    for _, path in ipairs(list("src", "%.h$")) do
      local guard = path:match "([^/]+)%.h$":upper()
      assert(read(path):find("#ifndef SW_" .. guard .. "_H\n", 1, true), path)
    end
  end)
end)

describe("the layer check", function()
  local function bad(path, line, expected)
    local found = table.concat(faults(path, line .. "\n"), "\n")
    assert(found:find(expected, 1, true),
           path .. ": " .. line .. " gives '" .. found .. "'")
  end

  local function good(path, line)
    assert.are.same({}, faults(path, line .. "\n"))
  end

  it("keeps pure files from everything but memory and strings", function()
    for _, header in ipairs { "<unistd.h>", "<sys/socket.h>", "<stdio.h>",
                              "<time.h>", "<pthread.h>", "<lua.h>", '"loop.h"',
                              '"random.h"', '"stdlib.h"', "<ws.h>" } do
      bad("src/ws.c", "#include " .. header, "is pure, includes")
    end
    bad("src/slice.h", '#include "tls.h"', "is pure, includes tls.h")
    bad("src/fsm.c", "  #  include <uv.h>", "is pure, includes uv.h")
    good("src/ws.c", '#include <string.h>\n#include "utf8.h"')
    good("src/fsm.h", '#include "sipwire.h"')
  end)

  it("keeps OpenSSL in tls and random, libuv in I/O", function()
    bad("src/link.c", "#include <openssl/ssl.h>", "includes OpenSSL")
    bad("src/stream.c", "SSL_free(x);", "uses OpenSSL")
    good("src/tls.c", "#include <openssl/ssl.h>")
    good("src/random.c", "#include <openssl/rand.h>")
    bad("src/transport.c", "#include <uv.h>", "includes libuv")
    bad("src/channel.c", "uv_now(x);", "uses libuv")
    good("src/timer.c", "#include <uv.h>\nuv_timer_t x;")
  end)

  it("keeps the binding to sipwire.h, Lua and itself", function()
    bad("src/lua/core.c", '#include "loop.h"', "is binding, includes")
    bad("src/lua/core.c", '#include "../loop.h"', "reaches into")
    bad("src/lua/core.c", "#include <unistd.h>", "is binding, includes")
    bad("src/lua/core.c", "#include <uv.h>", "is binding, includes")
    good("src/lua/core.c", "#include <lua.h>\n#include <sipwire.h>")
    good("src/lua/core.c", '#include "lauxlib.h"\n#include <string.h>')
    bad("src/link.c", "#include <lua.h>", "includes Lua's")
  end)

  it("keeps lower files from knowing their users", function()
    bad("src/stream.c", '#include "http.h"', "is below http")
    bad("src/link.c", '#include "transport.h"', "is below transport")
    good("src/transport.c", '#include "link.h"')
  end)

  it("lets nothing include a source, or what it cannot read", function()
    bad("src/link.c", '#include "ws.c"', "includes the source ws.c")
    bad("src/ws.c", '#include "utf8.c"', "includes the source utf8.c")
    bad("src/link.c", "#include HEADER", "unreadable")
  end)

  it("lets only transport.c assign a state", function()
    bad("src/link.c", "t->state = SIPWIRE_CONNECTED;", "assigns ->state")
    bad("src/link.c", "t -> state\n= x;", "assigns ->state")
    bad("src/lua/core.c", "t->state=x;", "assigns ->state")
    good("src/transport.c", "t->state = step.next;")
    good("src/link.c", "if (t->state == SIPWIRE_CONNECTED) t->states = 1;")
  end)
end)
