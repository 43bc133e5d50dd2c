/* SPDX-License-Identifier: MIT */
/* Listeners and their requests for Lua. */

#include "binding.h"

#include <stdint.h>
#include <string.h>

/* ---- Requests ---------------------------------------------------------- */

struct request_box {
  struct sipwire_request *request; /* NULL once answered */
  struct sipwire_loop *loop;       /* for its message */
};

void sw_lua_push_request(lua_State *L, struct sipwire_request *request,
                         struct sipwire_loop *loop) {
  struct request_box *box = lua_newuserdata(L, sizeof *box);
  box->request = request;
  box->loop = loop;
  luaL_getmetatable(L, SW_REQUEST_TYPE);
  lua_setmetatable(L, -2);
}

static struct request_box *check_request(lua_State *L) {
  struct request_box *box = luaL_checkudata(L, 1, SW_REQUEST_TYPE);
  if (!box->request)
    luaL_error(L, "state: the request was answered");
  return box;
}

/* request:details() -> target, headers, peer_address, secure */
static int request_details(lua_State *L) {
  const struct sipwire_request *request = check_request(L)->request;
  lua_pushstring(L, request->target);
  sw_lua_push_headers(L, request->headers, request->headers_length);
  lua_pushstring(L, request->peer_address);
  lua_pushboolean(L, request->secure);
  return 4;
}

/* request:accept(id) -> transport, or nil, err, code */
static int request_accept(lua_State *L) {
  struct request_box *box = check_request(L);
  void *arg = (void *)(uintptr_t)sw_lua_check_tag(L, 2);
  struct sipwire_transport **transport = sw_lua_push_transport(L);
  int error = sipwire_request_accept(box->request, arg, transport);
  if (error != SIPWIRE_ENOMEM)
    box->request = NULL;
  return error ? sw_lua_result(L, error, "the client left") : 1;
}

/* request:refuse(status, reason, headers) -> true, or nil, err, code */
static int request_refuse(lua_State *L) {
  const struct sipwire_header *headers;
  size_t count;
  struct request_box *box = check_request(L);
  int status = (int)luaL_optinteger(L, 2, 0);
  const char *reason = luaL_optstring(L, 3, NULL);
  sw_lua_headers(L, 4, &headers, &count);
  int error =
      sipwire_request_refuse(box->request, status, reason, headers, count);
  if (!error)
    box->request = NULL;
  return sw_lua_result(
      L, error,
      error == SIPWIRE_EINVALID ? sipwire_loop_message(box->loop) : NULL);
}

/* A request that nobody answered is refused. */
static int request_gc(lua_State *L) {
  struct request_box *box = luaL_checkudata(L, 1, SW_REQUEST_TYPE);
  if (box->request)
    sipwire_request_refuse(box->request, 503, NULL, NULL, 0);
  box->request = NULL;
  return 0;
}

static const luaL_Reg request_methods[] = {{"details", request_details},
                                           {"accept", request_accept},
                                           {"refuse", request_refuse},
                                           {"__gc", request_gc},
                                           {NULL, NULL}};

/* ---- Listeners --------------------------------------------------------- */

static struct sipwire_listener **box(lua_State *L) {
  return luaL_checkudata(L, 1, SW_LISTENER_TYPE);
}

static struct sipwire_listener *check(lua_State *L) {
  struct sipwire_listener *listener = *box(L);
  if (!listener)
    luaL_error(L, "disposed: the listener is closed");
  return listener;
}

/* listener_new(loop, config, id, address, port, secure)
   -> listener, or nil, err, code */
static int listener_new(lua_State *L) {
  struct sipwire_listener_config config;
  struct sipwire_config transport;
  struct sipwire_loop *loop = sw_lua_check_loop(L, 1);
  memset(&config, 0, sizeof config);
  sw_lua_config(L, 2, &transport);
  config.transport = &transport;
  config.arg = (void *)(uintptr_t)sw_lua_check_tag(L, 3);
  config.address = luaL_optstring(L, 4, NULL);
  config.port = (uint16_t)luaL_optinteger(L, 5, 0);
  config.secure = lua_toboolean(L, 6);
  struct sipwire_listener **listener = lua_newuserdata(L, sizeof *listener);
  *listener = NULL;
  luaL_getmetatable(L, SW_LISTENER_TYPE);
  lua_setmetatable(L, -2);
  int error = sipwire_listener_new(loop, &config, listener);
  return error
             ? sw_lua_result(
                   L, error,
                   error == SIPWIRE_ENOMEM ? NULL : sipwire_loop_message(loop))
             : 1;
}

/* listener:port() -> number */
static int listener_port(lua_State *L) {
  lua_pushinteger(L, sipwire_listener_port(check(L)));
  return 1;
}

/* listener:address() -> string */
static int listener_address(lua_State *L) {
  lua_pushstring(L, sipwire_listener_address(check(L)));
  return 1;
}

/* listener:close() */
static int listener_close(lua_State *L) {
  struct sipwire_listener **at = box(L);
  sipwire_listener_free(*at);
  *at = NULL;
  return 0;
}

static const luaL_Reg listener_methods[] = {{"port", listener_port},
                                            {"address", listener_address},
                                            {"close", listener_close},
                                            {"__gc", listener_close},
                                            {NULL, NULL}};

void sw_lua_open_listener(lua_State *L) {
  sw_lua_metatable(L, SW_LISTENER_TYPE, listener_methods);
  sw_lua_metatable(L, SW_REQUEST_TYPE, request_methods);
  lua_pushcfunction(L, listener_new);
  lua_setfield(L, -2, "listener_new");
}
