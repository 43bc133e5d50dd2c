/* SPDX-License-Identifier: MIT */
/* Loops for Lua: hands events out one by one.  Must not call anything with
   them. */

#include "binding.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct log_line {
  struct log_line *next;
  enum sipwire_log_level level;
  char text[];
};

struct box {
  const void *mark;          /* &box_mark */
  struct sipwire_loop *loop; /* NULL when it is closed */
  struct log_line *lines;    /* not told yet, oldest first */
};

static const char box_mark;

static struct box *check_quickly(lua_State *L) {
  return sw_lua_check_marked(L, SW_LOOP_TYPE, &box_mark, sizeof(struct box));
}

static struct box *check_box(lua_State *L, int index) {
  return luaL_checkudata(L, index, SW_LOOP_TYPE);
}

struct sipwire_loop *sw_lua_check_loop(lua_State *L, int index) {
  struct box *box = check_box(L, index);
  if (!box->loop)
    luaL_error(L, "disposed: the loop is closed");
  return box->loop;
}

/* ---- The log ----------------------------------------------------------- */

/* Comes from inside the library's calls: told by next(). */
static void keep_line(enum sipwire_log_level level, const char *text,
                      void *arg) {
  struct box *box = arg;
  struct log_line **at = &box->lines;
  struct log_line *line = malloc(sizeof *line + strlen(text) + 1);
  if (!line)
    return;
  line->next = NULL;
  line->level = level;
  strcpy(line->text, text);
  while (*at)
    at = &(*at)->next;
  *at = line;
}

static void drop_line(struct box *box) {
  struct log_line *line = box->lines;
  box->lines = line->next;
  free(line);
}

static int push_line(lua_State *L, struct box *box) {
  static const char *const levels[] = {[SIPWIRE_LOG_ERROR] = "error",
                                       [SIPWIRE_LOG_WARN] = "warn",
                                       [SIPWIRE_LOG_INFO] = "info"};
  lua_pushinteger(L, SW_LUA_LOG);
  lua_pushinteger(L, 0);
  lua_pushstring(L, levels[box->lines->level]);
  lua_pushstring(L, box->lines->text);
  drop_line(box);
  return 4;
}

/* ---- The loop ---------------------------------------------------------- */

/* loop_new() -> loop */
static int loop_new(lua_State *L) {
  struct box *box = lua_newuserdata(L, sizeof *box);
  struct sipwire_loop_config config = {keep_line, box};
  memset(box, 0, sizeof *box);
  box->mark = &box_mark;
  luaL_getmetatable(L, SW_LOOP_TYPE);
  lua_setmetatable(L, -2);
  int error = sipwire_loop_new(&config, &box->loop);
  if (error)
    return luaL_error(L, "%s: a loop cannot be made: %s",
                      sipwire_error_name(error), sipwire_error_text(error));
  return 1;
}

/* loop:close() -> true, or nil, err, code */
static int loop_close(lua_State *L) {
  struct box *box = check_box(L, 1);
  int error = sipwire_loop_free(box->loop);
  box->loop = NULL;
  while (box->lines)
    drop_line(box);
  return sw_lua_result(L, error, "a handle was left open: please report");
}

/* loop_step(loop, timeout_ms) */
static int loop_step(lua_State *L) {
  struct box *box = check_quickly(L);
  int timeout_ms = (int)luaL_checkinteger(L, 2);
  int error =
      box->loop ? sipwire_loop_step(box->loop, timeout_ms) : SIPWIRE_EDISPOSED;
  return error ? luaL_error(L, "%s: %s", sipwire_error_name(error),
                            sipwire_error_text(error))
               : 0;
}

static int push_state(lua_State *L, const struct sipwire_event *event) {
  lua_pushstring(L, sipwire_state_name(event->state));
  lua_pushstring(L, sipwire_state_name(event->previous));
  lua_pushboolean(L, event->up);
  lua_pushboolean(L, event->down);
  sw_lua_push_error(L, event->error, event->info);
  return 7;
}

static int push_done(lua_State *L, const struct sipwire_event *event) {
  sw_lua_push_tag(L, event->tag);
  if (!event->error)
    return 1;
  sw_lua_push_error(L, event->error, event->info);
  return 4;
}

static int push_details(lua_State *L, struct sipwire_loop *loop,
                        const struct sipwire_event *event) {
  switch (event->type) {
  case SIPWIRE_EVENT_MESSAGE:
    lua_pushlstring(L, event->data, event->length);
    lua_pushboolean(L, event->binary);
    return 2;
  case SIPWIRE_EVENT_STATE:
    return push_state(L, event);
  case SIPWIRE_EVENT_CONNECT_DONE:
  case SIPWIRE_EVENT_DISCONNECT_DONE:
  case SIPWIRE_EVENT_SEND_DONE:
    return push_done(L, event);
  case SIPWIRE_EVENT_REQUEST:
    sw_lua_push_request(L, event->request, loop);
    return 1;
  case SIPWIRE_EVENT_TIMER:
    sw_lua_push_tag(L, event->tag);
    return 1;
  }
  return 0;
}

/* loop_next(loop) -> kind, id, details of the kind; nothing at the tick's end:
   MESSAGE: message, binary
   STATE: state, previous, up, down, err, code, info
   CONNECT_DONE, DISCONNECT_DONE, SEND_DONE: tag, err, code, info
   REQUEST: request
   TIMER: tag
   LOG: level, line */
static int loop_next(lua_State *L) {
  struct box *box = check_quickly(L);
  struct sipwire_event event;
  if (box->lines)
    return push_line(L, box);
  if (!box->loop || sipwire_loop_next(box->loop, &event) <= 0)
    return 0;
  lua_pushinteger(L, (lua_Integer)event.type);
  sw_lua_push_tag(L, (uint64_t)(uintptr_t)event.arg);
  return 2 + push_details(L, box->loop, &event);
}

/* loop_alive(loop), loop:alive() -> boolean */
static int loop_alive(lua_State *L) {
  struct box *box = check_quickly(L);
  lua_pushboolean(L, box->loop && sipwire_loop_alive(box->loop));
  return 1;
}

/* loop:pollfd() -> descriptor */
static int loop_pollfd(lua_State *L) {
  struct sipwire_loop *loop = sw_lua_check_loop(L, 1);
  int fd = sipwire_loop_pollfd(loop);
  if (fd < 0)
    return luaL_error(L, "%s: %s", sipwire_error_name(fd),
                      sipwire_error_text(fd));
  lua_pushinteger(L, fd);
  return 1;
}

/* loop:timeout() -> milliseconds, negative: no limit */
static int loop_timeout(lua_State *L) {
  lua_pushinteger(L, sipwire_loop_timeout(sw_lua_check_loop(L, 1)));
  return 1;
}

static const luaL_Reg methods[] = {
    {"alive", loop_alive}, {"pollfd", loop_pollfd}, {"timeout", loop_timeout},
    {"close", loop_close}, {"__gc", loop_close},    {NULL, NULL}};

void sw_lua_open_loop(lua_State *L) {
  sw_lua_metatable(L, SW_LOOP_TYPE, methods);
  lua_pushcfunction(L, loop_new);
  lua_setfield(L, -2, "loop_new");
  lua_pushcfunction(L, loop_step);
  lua_setfield(L, -2, "loop_step");
  lua_pushcfunction(L, loop_next);
  lua_setfield(L, -2, "loop_next");
  lua_pushcfunction(L, loop_alive);
  lua_setfield(L, -2, "loop_alive");
}
