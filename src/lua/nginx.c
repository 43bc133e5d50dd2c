/* SPDX-License-Identifier: MIT */
/* Puts a loop's descriptor into the event loop of the nginx worker around it,
   and posts a semaphore of lua-nginx-module when it is readable.  It is built
   without nginx: what it knows of it are symbols that nginx exports, and the
   beginnings of three structures that have been the same from 1.17.5 on, on
   64-bit Linux.  Where an event of this very nginx looks different, there is no
   watch.  Must not call Lua. */

#define _GNU_SOURCE
#include "binding.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TYPE "sipwire.core.watch"

/* NGX_READ_EVENT of builds with epoll: EPOLLIN | EPOLLRDHUP.  Other methods of
   nginx (directive "use") look up connections in lists of their own. */
enum { READ_EVENT = 0x2001, USE_EPOLL_EVENT = 0x40, LOG_IN_CYCLE = 2 };

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

/* Of ngx_http_lua_sema_t and ngx_stream_lua_sema_t. */
struct semaphore {
  void *queues[4];
  struct event event;
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
  int (*post)(struct semaphore *semaphore, int count);
  struct semaphore *semaphore;
  bool added; /* to nginx's set */
  bool armed; /* not posted since */
  struct watch *next_spare;
};

/* Closed ones.  nginx may have fetched events for them, which it knows by
   |instance| to be stale, as it does with its own connections; so their memory
   is used again, but never given back. */
static struct watch *spare;

static struct watch *take_spare(void) {
  struct watch *watch = spare;
  if (!watch)
    return calloc(1, sizeof *watch);
  unsigned instance = !watch->read.instance;
  spare = watch->next_spare;
  memset(watch, 0, sizeof *watch);
  watch->read.instance = watch->write.instance = instance & 1;
  return watch;
}

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

static struct watch **box(lua_State *L) {
  return luaL_checkudata(L, 1, TYPE);
}

static struct watch *check(lua_State *L) {
  struct watch **at = box(L);
  if (!*at)
    luaL_error(L, "disposed: the watch is closed");
  return *at;
}

static void *symbol(const char *name) {
  return dlsym(RTLD_DEFAULT, name);
}

/* Functions are not objects in C, but dlsym() knows no difference. */
static bool find_symbols(struct watch *watch, const char *post) {
  void *const *cycle = symbol("ngx_cycle");
  const uintptr_t *flags = symbol("ngx_event_flags");
  void *function = symbol(post);
  watch->actions = symbol("ngx_event_actions");
  memcpy(&watch->post, &function, sizeof function);
  if (!cycle || !*cycle || !flags || !function || !watch->actions)
    return false;
  watch->read.log = watch->write.log = ((void **)*cycle)[LOG_IN_CYCLE];
  return *flags & USE_EPOLL_EVENT;
}

static bool are_of_one_object(const void *a, const void *b) {
  Dl_info of_a, of_b;
  return dladdr(a, &of_a) && dladdr(b, &of_b) &&
         of_a.dli_fbase == of_b.dli_fbase;
}

/* The semaphore's event belongs to it, has the worker's log, and a handler next
   to the function that posts it. */
static bool events_look_known(const struct watch *watch) {
  const struct event *event = &watch->semaphore->event;
  void *handler, *post;
  memcpy(&handler, &event->handler, sizeof handler);
  memcpy(&post, &watch->post, sizeof post);
  return event->data == watch->semaphore && event->log == watch->read.log &&
         handler && are_of_one_object(handler, post);
}

static bool put_in(struct watch *watch) {
  watch->added =
      watch->added || watch->actions->add(&watch->read, READ_EVENT, 0) == 0;
  return watch->added;
}

/* Put into nginx's set and taken out, an event is active and not any more, and
   the rest of it is as before. */
static bool nginx_takes_it(struct watch *watch) {
  struct event expected = watch->read;
  expected.active = 1;
  bool right =
      put_in(watch) && memcmp(&watch->read, &expected, sizeof expected) == 0;
  take_out(watch);
  expected.active = 0;
  return right && memcmp(&watch->read, &expected, sizeof expected) == 0;
}

static bool begin(struct watch *watch, int fd, void *semaphore,
                  const char *post) {
  watch->connection.data = watch;
  watch->connection.read = &watch->read;
  watch->connection.write = &watch->write;
  watch->connection.fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  watch->read.data = watch->write.data = &watch->connection;
  watch->read.handler = watch->write.handler = on_readable;
  watch->write.write = 1;
  watch->semaphore = semaphore;
  return watch->connection.fd >= 0 && sizeof(void *) == 8 &&
         find_symbols(watch, post) && events_look_known(watch) &&
         nginx_takes_it(watch);
}

static void end(struct watch *watch) {
  take_out(watch);
  if (watch->connection.fd >= 0)
    close(watch->connection.fd);
  watch->connection.fd = -1;
  watch->next_spare = spare;
  spare = watch;
}

/* nginx_watch(loop, semaphore, post) -> watch, or nil where nginx is not as it
   is known, or not there; |semaphore| is an address, |post| the function's
   name.  The semaphore must stay as long as the watch is not closed. */
static int nginx_watch(lua_State *L) {
  int fd = sipwire_loop_pollfd(sw_lua_check_loop(L, 1));
  uintptr_t semaphore = (uintptr_t)luaL_checknumber(L, 2);
  const char *post = luaL_checkstring(L, 3);
  struct watch **at = lua_newuserdata(L, sizeof *at), *watch = take_spare();
  *at = NULL;
  luaL_getmetatable(L, TYPE);
  lua_setmetatable(L, -2);
  if (watch && begin(watch, fd, (void *)semaphore, post)) {
    *at = watch;
    return 1;
  }
  if (watch)
    end(watch);
  return 0;
}

/* watch:rearm() -> whether it did */
static int watch_rearm(lua_State *L) {
  struct watch *watch = check(L);
  watch->armed = true;
  lua_pushboolean(L, put_in(watch));
  return 1;
}

/* watch:close() */
static int watch_close(lua_State *L) {
  struct watch **at = box(L);
  if (*at)
    end(*at);
  *at = NULL;
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
