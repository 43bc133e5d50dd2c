/* SPDX-License-Identifier: MIT */
/* Runs the tick: write, wait, read, then hand out one item after the other.
   Must not know what the items, links and streams are about.

   Design notes.
   Three queues: |events| of this tick, |later| for the next one, |inputs| that
   no state machine has seen yet.  next() takes an input only when both event
   queues are empty, so that an event is always handed out in the state that
   it tells of, or in one that the user made since.

   The pollable descriptor is an epoll set of libuv's own descriptor and a
   timerfd.  libuv registers new watchers only when it runs, and has timers
   that no descriptor shows; the timerfd stands for both: it is set to the
   next deadline, or to fire at once when there is work to be done.

   uv_run(UV_RUN_ONCE) runs the timers that are due before it waits.  What they
   put in must not wait with it: sw_loop_kick() says uv_stop(), which makes
   that wait a mere look. */

#define _GNU_SOURCE
#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "link.h"
#include "listener.h"
#include "resolve.h"
#include "stream.h"
#include "timer.h"
#include "tls.h"

enum { NOT_ARMED = -1, ARMED_NOW = 0 };

enum { CANARY_SIZE = 4096 };

/* How long nothing happens until a loop counts as quiet. */
enum { QUIET_MS = 100 };

/* ---- Lists ------------------------------------------------------------- */

void sw_list_init(struct sw_list *list) {
  list->next = list->previous = list;
}

void sw_list_add(struct sw_list *list, struct sw_list *entry) {
  entry->next = list;
  entry->previous = list->previous;
  list->previous->next = entry;
  list->previous = entry;
}

void sw_list_remove(struct sw_list *entry) {
  entry->previous->next = entry->next;
  entry->next->previous = entry->previous;
  sw_list_init(entry);
}

/* ---- Making ------------------------------------------------------------ */

/* Where descriptors run out libuv aborts or loses some; it takes six. */
static bool descriptors_left(void) {
  int fds[8], count = 0;
  while (count < 8 && (fds[count] = epoll_create1(EPOLL_CLOEXEC)) >= 0)
    count++;
  for (int i = 0; i < count; i++)
    close(fds[i]);
  return count == 8;
}

static const uint8_t *canary_new(void) {
  uint8_t *page = mmap(NULL, CANARY_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED)
    return NULL;
  if (madvise(page, CANARY_SIZE, MADV_WIPEONFORK)) {
    munmap(page, CANARY_SIZE);
    return NULL;
  }
  *page = 1;
  return page;
}

static void close_stale(uv_handle_t *handle, void *arg) {
  unsigned *left = arg;
  if (uv_is_closing(handle))
    return;
  ++*left;
  uv_close(handle, NULL);
}

static void spin(struct sipwire_loop *loop) {
  for (int turn = 0; turn < 50 && uv_loop_alive(&loop->uv); turn++)
    uv_run(&loop->uv, UV_RUN_NOWAIT);
}

static int io_close(struct sipwire_loop *loop) {
  unsigned left = 0;
  spin(loop);
  uv_walk(&loop->uv, close_stale, &left);
  spin(loop);
  int status = uv_loop_close(&loop->uv);
  loop->uv_ready = false;
  if (left || status)
    sw_loop_log(loop, SIPWIRE_LOG_ERROR, "%u handles were left open, %s", left,
                status ? uv_strerror(status) : "closed now");
  return left || status ? SIPWIRE_ESYSTEM : 0;
}

static void lists_init(struct sipwire_loop *loop) {
  sw_queue_init(&loop->events);
  sw_queue_init(&loop->later);
  sw_queue_init(&loop->inputs);
  sw_list_init(&loop->links);
  sw_list_init(&loop->streams);
  sw_list_init(&loop->listeners);
  sw_list_init(&loop->timers);
  sw_list_init(&loop->readable);
  sw_list_init(&loop->dirty);
}

static int loop_open(struct sipwire_loop *loop) {
  loop->canary = canary_new();
  loop->input = malloc(SW_READ_SIZE);
  loop->scratch = malloc(SW_SCRATCH_SIZE);
  if (!loop->canary || !loop->input || !loop->scratch)
    return SIPWIRE_ENOMEM;
  if (!descriptors_left() || uv_loop_init(&loop->uv))
    return SIPWIRE_ESYSTEM;
  loop->uv_ready = true;
  if (uv_timer_init(&loop->uv, &loop->wait_timer))
    return SIPWIRE_ESYSTEM;
  loop->wait_timer.data = loop;
  return 0;
}

int sipwire_loop_new(const struct sipwire_loop_config *config,
                     struct sipwire_loop **out) {
  struct sipwire_loop *loop = calloc(1, sizeof *loop);
  if (!loop)
    return SIPWIRE_ENOMEM;
  loop->references = 1;
  loop->poll_fd = loop->timer_fd = -1;
  loop->armed = NOT_ARMED;
  if (config) {
    loop->log = config->log;
    loop->log_arg = config->log_arg;
  }
  lists_init(loop);
  int error = loop_open(loop);
  if (error) {
    sipwire_loop_free(loop);
    return error;
  }
  *out = loop;
  return 0;
}

/* ---- Unmaking ---------------------------------------------------------- */

static void queue_release(struct sw_queue *queue) {
  struct sw_node *node;
  while ((node = sw_queue_pop(queue))) {
    struct sw_item *item = (struct sw_item *)node;
    item->class->release(item);
  }
}

static void spent_release(struct sipwire_loop *loop) {
  struct sw_item *item = loop->spent;
  loop->spent = NULL;
  if (item)
    item->class->release(item);
}

static void close_fd(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* What is said goodbye to needs some turns: streams die in a fresh tick, and
   libuv's handles one turn later. */
static int loop_close_io(struct sipwire_loop *loop) {
  sw_listeners_close(loop);
  sw_links_close(loop);
  sw_timers_close(loop);
  sw_lookups_close(loop);
  sw_streams_close(loop);
  for (int turn = 0; turn < 20 && !sw_list_empty(&loop->streams); turn++) {
    sw_streams_run(loop);
    uv_run(&loop->uv, UV_RUN_NOWAIT);
  }
  uv_close((uv_handle_t *)&loop->wait_timer, NULL);
  return io_close(loop);
}

int sipwire_loop_free(struct sipwire_loop *loop) {
  int status = 0;
  if (!loop || loop->closed)
    return 0;
  bool forked = sw_loop_check(loop) == SIPWIRE_EFORK;
  loop->closed = true;
  if (loop->uv_ready && !forked)
    status = loop_close_io(loop);
  /* in a child the sockets and the epoll set are the parent's too: whatever
     is closed here would be closed on the wire */
  spent_release(loop);
  queue_release(&loop->events);
  queue_release(&loop->later);
  queue_release(&loop->inputs);
  close_fd(&loop->poll_fd);
  close_fd(&loop->timer_fd);
  if (!forked)
    sw_tls_contexts_close(loop);
  sw_buffer_clear(&loop->cipher);
  free(loop->input);
  free(loop->scratch);
  free(loop->spare_batch);
  loop->input = loop->scratch = NULL;
  loop->spare_batch = NULL;
  sw_loop_unref(loop);
  return status;
}

struct sipwire_loop *sw_loop_ref(struct sipwire_loop *loop) {
  loop->references++;
  return loop;
}

void sw_loop_unref(struct sipwire_loop *loop) {
  if (--loop->references)
    return;
  if (loop->canary)
    munmap((void *)(uintptr_t)loop->canary, CANARY_SIZE);
  free(loop);
}

int sw_loop_check(const struct sipwire_loop *loop) {
  if (loop->closed)
    return SIPWIRE_EDISPOSED;
  return loop->canary && *loop->canary ? 0 : SIPWIRE_EFORK;
}

/* ---- The pollable descriptor ------------------------------------------- */

static bool work_waits(const struct sipwire_loop *loop) {
  return !sw_queue_empty(&loop->events) || !sw_queue_empty(&loop->later) ||
         !sw_queue_empty(&loop->inputs) || !sw_list_empty(&loop->dirty) ||
         !sw_list_empty(&loop->readable) || loop->todo;
}

/* For a loop with nothing in it libuv says 0. */
static int io_timeout(struct sipwire_loop *loop) {
  uv_update_time(&loop->uv);
  return uv_loop_alive(&loop->uv) ? uv_backend_timeout(&loop->uv) : -1;
}

int sipwire_loop_timeout(struct sipwire_loop *loop) {
  int error = sw_loop_check(loop);
  if (error)
    return error == SIPWIRE_EDISPOSED ? -1 : 0;
  if (work_waits(loop))
    return 0;
  uv_timer_stop(&loop->wait_timer);
  return io_timeout(loop);
}

static void arm(struct sipwire_loop *loop, int64_t deadline) {
  struct itimerspec at;
  if (loop->armed == deadline)
    return;
  memset(&at, 0, sizeof at);
  if (deadline == ARMED_NOW) {
    at.it_value.tv_nsec = 1;
  } else if (deadline != NOT_ARMED) {
    at.it_value.tv_sec = deadline / 1000;
    at.it_value.tv_nsec = deadline % 1000 * 1000000;
  }
  timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &at, NULL);
  loop->armed = deadline;
}

static void arm_for_next(struct sipwire_loop *loop) {
  int timeout = sipwire_loop_timeout(loop);
  arm(loop, timeout < 0    ? NOT_ARMED
            : timeout == 0 ? ARMED_NOW
                           : (int64_t)uv_now(&loop->uv) + timeout);
}

static bool poll_open(struct sipwire_loop *loop) {
  struct epoll_event event;
  memset(&event, 0, sizeof event);
  event.events = EPOLLIN;
  int poll_fd = epoll_create1(EPOLL_CLOEXEC);
  int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  loop->poll_fd = poll_fd;
  loop->timer_fd = timer_fd;
  if (poll_fd >= 0 && timer_fd >= 0 &&
      !epoll_ctl(poll_fd, EPOLL_CTL_ADD, timer_fd, &event) &&
      !epoll_ctl(poll_fd, EPOLL_CTL_ADD, uv_backend_fd(&loop->uv), &event))
    return true;
  int number = errno;
  close_fd(&loop->poll_fd);
  close_fd(&loop->timer_fd);
  errno = number;
  return false;
}

int sipwire_loop_pollfd(struct sipwire_loop *loop) {
  int error = sw_loop_check(loop);
  if (error)
    return error;
  if (loop->poll_fd < 0) {
    if (!poll_open(loop))
      return sw_loop_fault(loop, SIPWIRE_ESYSTEM, "%s", strerror(errno));
    loop->armed = NOT_ARMED;
    arm_for_next(loop);
  }
  return loop->poll_fd;
}

void sw_loop_kick(struct sipwire_loop *loop) {
  if (loop->in_uv)
    uv_stop(&loop->uv);
  else if (loop->timer_fd >= 0 && !loop->in_tick)
    arm(loop, ARMED_NOW);
}

/* ---- The tick ---------------------------------------------------------- */

static void on_waited(uv_timer_t *timer) {
  struct sipwire_loop *loop = timer->data;
  loop->waited = true;
  sw_loop_kick(loop);
}

/* The timer of a wait of QUIET_MS goes on from tick to tick while there is
   traffic: it need not end this very wait. */
static void wait_start(struct sipwire_loop *loop, int timeout_ms) {
  if (timeout_ms == QUIET_MS && uv_is_active((uv_handle_t *)&loop->wait_timer))
    return;
  uv_update_time(&loop->uv);
  uv_timer_start(&loop->wait_timer, on_waited, (uint64_t)timeout_ms, 0);
}

static void run_uv(struct sipwire_loop *loop, int timeout_ms) {
  loop->waited = false;
  if (timeout_ms)
    wait_start(loop, timeout_ms);
  loop->in_uv = true;
  uv_run(&loop->uv, timeout_ms ? UV_RUN_ONCE : UV_RUN_NOWAIT);
  loop->in_uv = false;
  if (timeout_ms != QUIET_MS)
    uv_timer_stop(&loop->wait_timer);
}

/* libuv goes on waiting when a signal comes, but a host wants to know of it, to
   act on Ctrl-C.  So the first wait is a short one, and when that was in vain
   the next is our own, which a signal ends.  It costs a system call more, but
   never while there is traffic. */
static void wait_quietly(struct sipwire_loop *loop, int timeout_ms) {
  struct pollfd backend = {uv_backend_fd(&loop->uv), POLLIN, 0};
  int limit = io_timeout(loop);
  if (limit < 0 || (timeout_ms >= 0 && timeout_ms < limit))
    limit = timeout_ms;
  poll(&backend, 1, limit);
}

static void wait_for_io(struct sipwire_loop *loop, int timeout_ms) {
  if (timeout_ms < 0 && !sipwire_loop_alive(loop))
    timeout_ms = 0; /* nothing would end it */
  if (timeout_ms && loop->quiet) {
    wait_quietly(loop, timeout_ms);
    timeout_ms = 0;
  } else if (timeout_ms < 0 || timeout_ms > QUIET_MS) {
    timeout_ms = QUIET_MS;
  }
  run_uv(loop, timeout_ms);
  loop->quiet = (timeout_ms == 0 || loop->waited) && !work_waits(loop);
}

int sipwire_loop_step(struct sipwire_loop *loop, int timeout_ms) {
  int error = sw_loop_check(loop);
  if (error)
    return error;
  loop->in_tick = true;
  sw_links_flush(loop);
  sw_streams_run(loop);
  if (sw_list_empty(&loop->readable))
    wait_for_io(loop, work_waits(loop) ? 0 : timeout_ms);
  sw_streams_read(loop);
  sw_streams_run(loop);
  sw_queue_splice(&loop->events, &loop->later);
  return 0;
}

static bool take(struct sipwire_loop *loop, struct sw_queue *queue,
                 struct sipwire_event *event) {
  struct sw_item *item = (struct sw_item *)queue->head;
  enum sw_delivery delivery = item->class->deliver(item, event);
  if (delivery == SW_EVENT_MORE)
    return true;
  sw_queue_pop(queue);
  if (delivery == SW_EVENT)
    loop->spent = item;
  else if (delivery == SW_LATER)
    sw_queue_push(&loop->later, &item->node);
  else
    item->class->release(item);
  return delivery == SW_EVENT;
}

static void tick_end(struct sipwire_loop *loop) {
  sw_links_flush(loop);
  loop->in_tick = false;
  if (loop->timer_fd >= 0)
    arm_for_next(loop);
}

int sipwire_loop_next(struct sipwire_loop *loop, struct sipwire_event *event) {
  int error = sw_loop_check(loop);
  if (error)
    return error;
  spent_release(loop);
  memset(event, 0, sizeof *event);
  for (;;) {
    struct sw_queue *queue = &loop->events;
    if (sw_queue_empty(queue)) {
      if (!sw_queue_empty(&loop->later) || sw_queue_empty(&loop->inputs))
        break;
      queue = &loop->inputs;
    }
    if (take(loop, queue, event))
      return 1;
  }
  tick_end(loop);
  return 0;
}

bool sipwire_loop_alive(const struct sipwire_loop *loop) {
  return !sw_loop_check(loop) && (loop->live || work_waits(loop));
}

/* ---- For the other files ----------------------------------------------- */

void sw_loop_event(struct sipwire_loop *loop, struct sw_item *item) {
  sw_queue_push(&loop->later, &item->node);
  sw_loop_kick(loop);
}

void sw_loop_event_now(struct sipwire_loop *loop, struct sw_item *item) {
  sw_queue_push(&loop->events, &item->node);
}

void sw_loop_input(struct sipwire_loop *loop, struct sw_item *item) {
  sw_queue_push(&loop->inputs, &item->node);
  sw_loop_kick(loop);
}

uint64_t sw_loop_now(struct sipwire_loop *loop) {
  uv_update_time(&loop->uv);
  return uv_now(&loop->uv);
}

int sw_loop_fault(struct sipwire_loop *loop, int error, const char *format,
                  ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(loop->message, sizeof loop->message, format, arguments);
  va_end(arguments);
  return error;
}

const char *sipwire_loop_message(const struct sipwire_loop *loop) {
  return loop->message;
}

void sw_loop_log(struct sipwire_loop *loop, enum sipwire_log_level level,
                 const char *format, ...) {
  char line[512];
  va_list arguments;
  if (!loop->log)
    return;
  va_start(arguments, format);
  vsnprintf(line, sizeof line, format, arguments);
  va_end(arguments);
  loop->log(level, line, loop->log_arg);
}
