/* SPDX-License-Identifier: MIT */
/* Timers for Lua. */

#include "binding.h"

#include <stdint.h>

static struct sipwire_timer **box(lua_State *L) {
  return luaL_checkudata(L, 1, SW_TIMER_TYPE);
}

/* timer_new(loop, delay_ms, tag) -> timer */
static int timer_new(lua_State *L) {
  struct sipwire_loop *loop = sw_lua_check_loop(L, 1);
  int64_t delay = (int64_t)luaL_checknumber(L, 2);
  uint64_t tag = sw_lua_check_tag(L, 3);
  struct sipwire_timer **timer = lua_newuserdata(L, sizeof *timer);
  *timer = NULL;
  luaL_getmetatable(L, SW_TIMER_TYPE);
  lua_setmetatable(L, -2);
  int error = sipwire_timer_new(loop, delay, tag, timer);
  if (error)
    return luaL_error(L, "%s: %s", sipwire_error_name(error),
                      sipwire_error_text(error));
  return 1;
}

/* timer:stop() */
static int timer_stop(lua_State *L) {
  struct sipwire_timer **at = box(L);
  sipwire_timer_free(*at);
  *at = NULL;
  return 0;
}

static const luaL_Reg methods[] = {
    {"stop", timer_stop}, {"__gc", timer_stop}, {NULL, NULL}};

void sw_lua_open_timer(lua_State *L) {
  sw_lua_metatable(L, SW_TIMER_TYPE, methods);
  lua_pushcfunction(L, timer_new);
  lua_setfield(L, -2, "timer_new");
}
