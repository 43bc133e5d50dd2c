/* SPDX-License-Identifier: MIT */
/* Bridges for Lua hosts.  Must not know whose. */

#include "binding.h"

static struct sipwire_bridge **box(lua_State *L) {
  return luaL_checkudata(L, 1, SW_BRIDGE_TYPE);
}

static struct sipwire_bridge *check(lua_State *L) {
  struct sipwire_bridge **at = box(L);
  if (!*at)
    luaL_error(L, "disposed: the bridge is closed");
  return *at;
}

static int fail(lua_State *L, int error) {
  return luaL_error(L, "%s: %s", sipwire_error_name(error),
                    sipwire_error_text(error));
}

/* bridge_new(loop [, directory]) -> bridge, address, token */
static int bridge_new(lua_State *L) {
  struct sipwire_loop *loop = sw_lua_check_loop(L, 1);
  const char *directory = luaL_optstring(L, 2, NULL);
  struct sipwire_bridge **bridge = lua_newuserdata(L, sizeof *bridge);
  *bridge = NULL;
  luaL_getmetatable(L, SW_BRIDGE_TYPE);
  lua_setmetatable(L, -2);
  int error = sipwire_bridge_new(loop, directory, bridge);
  if (error)
    return fail(L, error);
  lua_pushstring(L, sipwire_bridge_address(*bridge));
  lua_pushstring(L, sipwire_bridge_token(*bridge));
  return 3;
}

/* bridge:accept() -> boolean */
static int bridge_accept(lua_State *L) {
  int status = sipwire_bridge_accept(check(L));
  if (status < 0)
    return fail(L, status);
  lua_pushboolean(L, status);
  return 1;
}

/* bridge:rearm() */
static int bridge_rearm(lua_State *L) {
  int error = sipwire_bridge_rearm(check(L));
  return error ? fail(L, error) : 0;
}

/* bridge:ring() */
static int bridge_ring(lua_State *L) {
  int error = sipwire_bridge_ring(check(L));
  return error ? fail(L, error) : 0;
}

/* bridge:close() */
static int bridge_close(lua_State *L) {
  struct sipwire_bridge **at = box(L);
  sipwire_bridge_free(*at);
  *at = NULL;
  return 0;
}

static const luaL_Reg methods[] = {{"accept", bridge_accept},
                                   {"rearm", bridge_rearm},
                                   {"ring", bridge_ring},
                                   {"close", bridge_close},
                                   {"__gc", bridge_close},
                                   {NULL, NULL}};

/* bridge_first(n) -> true in the first Lua state of the process that asks with
   this n (0 or 1).  A host that makes a state for each request has no other way
   to know: each loads its modules anew. */
static int bridge_first(lua_State *L) {
  static _Atomic unsigned asked[2];
  lua_pushboolean(L, asked[luaL_checkinteger(L, 1) & 1]++ == 0);
  return 1;
}

void sw_lua_open_bridge(lua_State *L) {
  sw_lua_metatable(L, SW_BRIDGE_TYPE, methods);
  lua_pushcfunction(L, bridge_new);
  lua_setfield(L, -2, "bridge_new");
  lua_pushcfunction(L, bridge_first);
  lua_setfield(L, -2, "bridge_first");
}
