rockspec_format = "3.0"
package = "sipwire"
version = "scm-1"
source = {
  url = "git+file://.", -- for "luarocks make" in a working copy
}
description = {
  summary = "SIP over WebSocket (RFC 7118) transport",
  detailed = [[
    A client transport that connects, keeps alive, sends and receives SIP
    messages over ws and wss, for scripts, coroutines and event loops.]],
  license = "MIT",
  labels = { "sip", "websocket", "voip", "network" },
}
dependencies = {
  "lua >= 5.1, < 5.5",
}
external_dependencies = {
  LIBUV = { header = "uv.h" },
  OPENSSL = { header = "openssl/ssl.h" },
}
build = {
  type = "cmake",
  variables = {
    CMAKE_BUILD_TYPE = "RelWithDebInfo",
    CMAKE_INSTALL_PREFIX = "$(PREFIX)",
    LIBDIR = "$(LIBDIR)",
    LUADIR = "$(LUADIR)",
    LUA_INCDIR = "$(LUA_INCDIR)",
  },
}
