/* SPDX-License-Identifier: MIT */
#ifndef SW_BINDING_H
#define SW_BINDING_H

/* The module "sipwire.core": the C API as Lua sees it.  Only for Lua files of
   sipwire, which check what users give: here a wrong type is a plain error.

   No function calls Lua.  Failures are nil, "code: text", "code"; those that
   only a mistake can cause (fork, invalid arguments) have the codes "fork"
   and "invalid".  Every userdata may be collected in any order. */

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>

#include "sipwire.h"

/* Stands among the events for a line of the log. */
enum { SW_LUA_LOG = SIPWIRE_EVENT_TIMER + 1 };

#define SW_LOOP_TYPE "sipwire.core.loop"
#define SW_TRANSPORT_TYPE "sipwire.core.transport"
#define SW_LISTENER_TYPE "sipwire.core.listener"
#define SW_REQUEST_TYPE "sipwire.core.request"
#define SW_TIMER_TYPE "sipwire.core.timer"
#define SW_BRIDGE_TYPE "sipwire.core.bridge"

/* Each makes one metatable and adds its constructor to the module's table,
   which is on top of the stack. */
void sw_lua_open_loop(lua_State *L);
void sw_lua_open_transport(lua_State *L);
void sw_lua_open_listener(lua_State *L);
void sw_lua_open_timer(lua_State *L);
void sw_lua_open_bridge(lua_State *L);
void sw_lua_open_nginx(lua_State *L);

/* sw_lua_metatable makes a metatable whose methods are |methods|; a "__gc"
   among them is the finalizer. */
void sw_lua_metatable(lua_State *L, const char *type, const luaL_Reg *methods);

/* For the way of each message: luaL_checkudata(L, 1, type), which compares
   names, in a fourth of its time.  Every userdata of |type| has |size| bytes
   and begins with |mark|, an address that none of another type begins with. */
void *sw_lua_check_marked(lua_State *L, const char *type, const void *mark,
                          size_t size);

/* sw_lua_check_loop returns the live loop at |index|, or raises. */
struct sipwire_loop *sw_lua_check_loop(lua_State *L, int index);

/* sw_lua_result pushes true for 0, else nil, "code: text", "code"; |message|
   replaces the usual text if it is not NULL.  Returns the count. */
int sw_lua_result(lua_State *L, int error, const char *message);

/* sw_lua_push_error pushes "code: text", "code", info; three nils for 0. */
void sw_lua_push_error(lua_State *L, int error,
                       const struct sipwire_info *info);

/* sw_lua_push_headers pushes a table of lower-case names and values; values of
   equal names are joined by ", " (RFC 9110 section 5.3). */
void sw_lua_push_headers(lua_State *L, const char *headers, size_t length);

/* sw_lua_push_transport pushes a userdata and returns where it keeps its
   transport: NULL so far. */
struct sipwire_transport **sw_lua_push_transport(lua_State *L);

/* sw_lua_push_request wraps a request that is to be answered. */
void sw_lua_push_request(lua_State *L, struct sipwire_request *request,
                         struct sipwire_loop *loop);

/* sw_lua_config reads the table at |index| over the defaults, all but headers
   and arg.  The strings stay the table's. */
void sw_lua_config(lua_State *L, int index, struct sipwire_config *config);

/* sw_lua_headers reads a list of {name, value} pairs, or nothing, at |index|;
   pushes one value that must stay on the stack as long as |*headers|. */
void sw_lua_headers(lua_State *L, int index,
                    const struct sipwire_header **headers, size_t *count);

/* Numbers that stand for objects and calls in events: exact up to 2^53, as
   Lua 5.1 knows no more. */
uint64_t sw_lua_check_tag(lua_State *L, int index);
void sw_lua_push_tag(lua_State *L, uint64_t tag);

#endif
