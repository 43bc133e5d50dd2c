/* SPDX-License-Identifier: MIT */
/* Puts a loop's descriptor into the event loop of the nginx worker around it,
   and posts a semaphore of lua-nginx-module when it is readable.  It is built
   without nginx: what it knows of it are symbols that nginx exports, and the
   beginnings of two structures that have been the same from 1.17.5 on, on
   64-bit Linux.  Must not call Lua. */

#define _GNU_SOURCE
#include "binding.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#define TYPE "sipwire.core.watch"

/* NGX_READ_EVENT of builds with epoll: EPOLLIN | EPOLLRDHUP */
enum { READ_EVENT = 0x2001, LOG_IN_CYCLE = 2 };

/* The first fields of ngx_event_t; what follows them stays nginx's. */
struct event {
  void *data;
  unsigned write : 1, accept : 1, instance : 1, active : 1, disabled : 1,
      ready : 1, more : 26;
  int available;
  void (*handler)(struct event *event);
  uintptr_t index;
  void *log;
  char rest[512];
};

/* Of ngx_connection_t. */
struct connection {
  void *data;
  struct event *read, *write;
  int fd;
  char rest[1024];
};

typedef intptr_t (*action_fn)(struct event *event, intptr_t what,
                              uintptr_t flags);

struct actions {
  action_fn add, del;
};

struct watch {
  struct event read, write;
  struct connection connection;
  const struct actions *actions;
  int (*post)(void *semaphore, int count);
  void *semaphore;
  bool added; /* to nginx's set */
  bool armed; /* not posted since */
};

static void take_out(struct watch *watch) {
  if (watch->added)
    watch->actions->del(&watch->read, READ_EVENT, 0);
  watch->added = false;
}

/* Readable still, though nobody has stepped: nginx must not be kept busy. */
static void on_readable(struct event *event) {
  struct watch *watch = ((struct connection *)event->data)->data;
  event->ready = 0;
  if (!watch->armed) {
    take_out(watch);
    return;
  }
  watch->armed = false;
  watch->post(watch->semaphore, 1);
}

/* ---- For Lua ----------------------------------------------------------- */

static struct watch *check(lua_State *L) {
  struct watch *watch = luaL_checkudata(L, 1, TYPE);
  if (watch->connection.fd < 0)
    luaL_error(L, "disposed: the watch is closed");
  return watch;
}

static void *symbol(const char *name) {
  return dlsym(RTLD_DEFAULT, name);
}

/* Functions are not objects in C, but dlsym() knows no difference. */
static bool find_symbols(struct watch *watch, const char *post) {
  void *const *cycle = symbol("ngx_cycle");
  void *function = symbol(post);
  watch->actions = symbol("ngx_event_actions");
  memcpy(&watch->post, &function, sizeof function);
  if (!cycle || !*cycle || !function || !watch->actions)
    return false;
  watch->read.log = watch->write.log = ((void **)*cycle)[LOG_IN_CYCLE];
  return true;
}

/* nginx_watch(loop, semaphore, post) -> watch, or nil outside of nginx;
   |semaphore| is an address, |post| the function's name.  The watch must stay
   as long as nginx may have events that it has fetched already. */
static int nginx_watch(lua_State *L) {
  int loop_fd = sipwire_loop_pollfd(sw_lua_check_loop(L, 1));
  uintptr_t semaphore = (uintptr_t)luaL_checknumber(L, 2);
  const char *post = luaL_checkstring(L, 3);
  struct watch *watch = lua_newuserdata(L, sizeof *watch);
  memset(watch, 0, sizeof *watch);
  watch->connection.fd = -1;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  if (loop_fd < 0 || sizeof(void *) != 8 || !find_symbols(watch, post))
    return 0;
  watch->connection.data = watch;
  watch->connection.read = &watch->read;
  watch->connection.write = &watch->write;
  watch->connection.fd = fcntl(loop_fd, F_DUPFD_CLOEXEC, 0);
  watch->read.data = watch->write.data = &watch->connection;
  watch->read.handler = on_readable;
  watch->write.write = 1;
  watch->write.handler = on_readable;
  watch->semaphore = (void *)semaphore;
  return watch->connection.fd < 0 ? 0 : 1;
}

/* watch:rearm() -> whether it did */
static int watch_rearm(lua_State *L) {
  struct watch *watch = check(L);
  watch->armed = true;
  if (!watch->added)
    watch->added = watch->actions->add(&watch->read, READ_EVENT, 0) == 0;
  lua_pushboolean(L, watch->added);
  return 1;
}

/* watch:close() */
static int watch_close(lua_State *L) {
  struct watch *watch = luaL_checkudata(L, 1, TYPE);
  if (watch->connection.fd < 0)
    return 0;
  take_out(watch);
  close(watch->connection.fd);
  watch->connection.fd = -1;
  return 0;
}

static const luaL_Reg methods[] = {{"rearm", watch_rearm},
                                   {"close", watch_close},
                                   {"__gc", watch_close},
                                   {NULL, NULL}};

void sw_lua_open_nginx(lua_State *L) {
  sw_lua_metatable(L, TYPE, methods);
  lua_pushcfunction(L, nginx_watch);
  lua_setfield(L, -2, "nginx_watch");
}
