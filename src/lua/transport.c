/* SPDX-License-Identifier: MIT */
/* Transports for Lua. */

#include "binding.h"

#include <stdint.h>

struct box {
  const void *mark; /* &box_mark */
  struct sipwire_transport *transport;
};

static const char box_mark;

static struct sipwire_transport **box(lua_State *L) {
  struct box *box =
      sw_lua_check_marked(L, SW_TRANSPORT_TYPE, &box_mark, sizeof(struct box));
  return &box->transport;
}

static struct sipwire_transport *check(lua_State *L) {
  struct sipwire_transport *transport = *box(L);
  if (!transport)
    luaL_error(L, "disposed: the transport was disposed");
  return transport;
}

struct sipwire_transport **sw_lua_push_transport(lua_State *L) {
  struct box *box = lua_newuserdata(L, sizeof *box);
  box->mark = &box_mark;
  box->transport = NULL;
  luaL_getmetatable(L, SW_TRANSPORT_TYPE);
  lua_setmetatable(L, -2);
  return &box->transport;
}

static bool has_message(int error) {
  return error == SIPWIRE_EINVALID || error == SIPWIRE_ETLS;
}

/* transport_new(loop, config, id, headers) -> transport, or nil, err, code */
static int transport_new(lua_State *L) {
  struct sipwire_config config;
  struct sipwire_loop *loop = sw_lua_check_loop(L, 1);
  sw_lua_config(L, 2, &config);
  config.arg = (void *)(uintptr_t)sw_lua_check_tag(L, 3);
  sw_lua_headers(L, 4, &config.headers, &config.header_count);
  int error = sipwire_transport_new(loop, &config, sw_lua_push_transport(L));
  if (error)
    return sw_lua_result(
        L, error, has_message(error) ? sipwire_loop_message(loop) : NULL);
  return 1;
}

/* transport:dispose() */
static int transport_dispose(lua_State *L) {
  struct sipwire_transport **at = box(L);
  sipwire_transport_free(*at);
  *at = NULL;
  return 0;
}

/* transport:set_server(loop, url, headers) -> true, or nil, err, code */
static int transport_set_server(lua_State *L) {
  const struct sipwire_header *headers;
  size_t count;
  struct sipwire_transport *transport = check(L);
  struct sipwire_loop *loop = sw_lua_check_loop(L, 2);
  const char *url = luaL_checkstring(L, 3);
  sw_lua_headers(L, 4, &headers, &count);
  int error = sipwire_transport_set_server(transport, url, headers, count);
  return sw_lua_result(L, error,
                       has_message(error) ? sipwire_loop_message(loop) : NULL);
}

/* transport:connect(tag) -> true, or nil, err, code */
static int transport_connect(lua_State *L) {
  return sw_lua_result(
      L, sipwire_transport_connect(check(L), sw_lua_check_tag(L, 2)), NULL);
}

/* transport:disconnect(tag) -> true, or nil, err, code */
static int transport_disconnect(lua_State *L) {
  return sw_lua_result(
      L, sipwire_transport_disconnect(check(L), sw_lua_check_tag(L, 2)), NULL);
}

static int send_failed(lua_State *L, struct sipwire_transport *transport,
                       int error, size_t length) {
  const char *message = NULL;
  if (error == SIPWIRE_ESTATE)
    message =
        lua_pushfstring(L, "cannot send while %s",
                        sipwire_state_name(sipwire_transport_state(transport)));
  else if (error == SIPWIRE_EQUEUE_FULL)
    message = lua_pushfstring(
        L, "%d more bytes do not fit under send_queue_limit", (int)length);
  return sw_lua_result(L, error, message);
}

/* transport_send(transport, message, tag, frame) -> true, or nil, err, code;
   nil alone when the transport is disposed or the message no string */
static int transport_send(lua_State *L) {
  struct sipwire_transport *transport = *box(L);
  if (!transport || lua_type(L, 2) != LUA_TSTRING)
    return 0;
  size_t length;
  const char *message = lua_tolstring(L, 2, &length);
  uint64_t tag = sw_lua_check_tag(L, 3);
  int frame = (int)luaL_optinteger(L, 4, SIPWIRE_FRAME_AUTO);
  int error = sipwire_transport_send(transport, message, length,
                                     (enum sipwire_frame)frame, tag);
  if (error)
    return send_failed(L, transport, error, length);
  lua_pushboolean(L, 1);
  return 1;
}

/* transport:state() -> name; also when disposed */
static int transport_state(lua_State *L) {
  struct sipwire_transport *transport = *box(L);
  lua_pushstring(L, sipwire_state_name(transport
                                           ? sipwire_transport_state(transport)
                                           : SIPWIRE_DISCONNECTED));
  return 1;
}

/* transport:server() -> URL or nil */
static int transport_server(lua_State *L) {
  const char *url = sipwire_transport_server(check(L));
  if (*url)
    lua_pushstring(L, url);
  else
    lua_pushnil(L);
  return 1;
}

/* transport:secure() -> boolean */
static int transport_secure(lua_State *L) {
  lua_pushboolean(L, sipwire_transport_secure(check(L)));
  return 1;
}

static int push_address(lua_State *L, const char *address, int length) {
  if (length < 0)
    lua_pushnil(L);
  else
    lua_pushstring(L, address);
  return 1;
}

/* transport:local_address() -> "address:port" or nil */
static int transport_local_address(lua_State *L) {
  char address[64];
  int length =
      sipwire_transport_local_address(check(L), address, sizeof address);
  return push_address(L, address, length);
}

/* transport:peer_address() -> "address:port" or nil */
static int transport_peer_address(lua_State *L) {
  char address[64];
  int length =
      sipwire_transport_peer_address(check(L), address, sizeof address);
  return push_address(L, address, length);
}

/* transport:pause(boolean) */
static int transport_pause(lua_State *L) {
  struct sipwire_transport *transport = check(L);
  if (lua_toboolean(L, 2))
    sipwire_transport_pause(transport);
  else
    sipwire_transport_resume(transport);
  return 0;
}

static void set_count(lua_State *L, const char *field, uint64_t value) {
  sw_lua_push_tag(L, value);
  lua_setfield(L, -2, field);
}

/* In seconds, as all durations in Lua; unknown ones are absent. */
static void set_seconds(lua_State *L, const char *field, double ms) {
  if (ms < 0)
    return;
  lua_pushnumber(L, ms / 1000);
  lua_setfield(L, -2, field);
}

/* transport:stats() -> table */
static int transport_stats(lua_State *L) {
  struct sipwire_stats stats;
  sipwire_transport_stats(check(L), &stats);
  lua_createtable(L, 0, 14);
  set_count(L, "messages_in", stats.messages_in);
  set_count(L, "messages_out", stats.messages_out);
  set_count(L, "bytes_in", stats.bytes_in);
  set_count(L, "bytes_out", stats.bytes_out);
  set_count(L, "dropped", stats.dropped);
  set_count(L, "queue", stats.queue);
  set_count(L, "pings_sent", stats.pings_sent);
  set_count(L, "pongs_received", stats.pongs_received);
  set_seconds(L, "rtt", stats.rtt_ms);
  set_seconds(L, "dns_time", stats.dns_ms);
  set_seconds(L, "tcp_time", stats.tcp_ms);
  set_seconds(L, "tls_time", stats.tls_ms);
  set_seconds(L, "upgrade_time", stats.upgrade_ms);
  lua_pushboolean(L, stats.tls_resumed);
  lua_setfield(L, -2, "tls_resumed");
  return 1;
}

static const luaL_Reg methods[] = {{"connect", transport_connect},
                                   {"disconnect", transport_disconnect},
                                   {"state", transport_state},
                                   {"server", transport_server},
                                   {"set_server", transport_set_server},
                                   {"secure", transport_secure},
                                   {"local_address", transport_local_address},
                                   {"peer_address", transport_peer_address},
                                   {"pause", transport_pause},
                                   {"stats", transport_stats},
                                   {"dispose", transport_dispose},
                                   {"__gc", transport_dispose},
                                   {NULL, NULL}};

void sw_lua_open_transport(lua_State *L) {
  sw_lua_metatable(L, SW_TRANSPORT_TYPE, methods);
  lua_pushcfunction(L, transport_new);
  lua_setfield(L, -2, "transport_new");
  lua_pushcfunction(L, transport_send);
  lua_setfield(L, -2, "transport_send");
}
