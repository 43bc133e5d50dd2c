/* SPDX-License-Identifier: MIT */
/* What the library uses of libuv, with a clock that moves when it is told to,
   or when somebody waits. */
#define _GNU_SOURCE
#include <string.h>
#include <uv.h>

#include "../fuzz.h"
#include "session.h"

enum { HANDLES = 512, ACTIVE = 1, CLOSING = 2, TURN_TIMERS = 10000 };

uint64_t fake_ms;
bool stuck;

static uv_handle_t *handles[HANDLES];
static unsigned handle_count;
static uint64_t cached_ms, starts;
static bool stopped;

void uv_reset(void) {
  handle_count = 0;
  cached_ms = fake_ms = 1000000;
  stuck = stopped = false;
}

/* ---- Handles ----------------------------------------------------------- */

int uv_loop_init(uv_loop_t *loop) {
  memset(loop, 0, sizeof *loop);
  return 0;
}

int uv_loop_close(uv_loop_t *loop) {
  (void)loop;
  return handle_count ? UV_EBUSY : 0;
}

int uv_loop_alive(const uv_loop_t *loop) {
  (void)loop;
  for (unsigned i = 0; i < handle_count; i++)
    if (handles[i]->flags)
      return 1;
  return 0;
}

void uv_walk(uv_loop_t *loop, uv_walk_cb walk, void *arg) {
  (void)loop;
  for (unsigned i = 0; i < handle_count; i++)
    walk(handles[i], arg);
}

int uv_is_closing(const uv_handle_t *handle) {
  return (handle->flags & CLOSING) != 0;
}

int uv_is_active(const uv_handle_t *handle) {
  return (handle->flags & ACTIVE) != 0;
}

void uv_close(uv_handle_t *handle, uv_close_cb closed) {
  REQUIRE(!(handle->flags & CLOSING));
  handle->flags = CLOSING;
  handle->close_cb = closed;
}

static void run_closed(void) {
  unsigned kept = 0, count = 0;
  uv_handle_t *closed[HANDLES];
  for (unsigned i = 0; i < handle_count; i++)
    if (handles[i]->flags & CLOSING)
      closed[count++] = handles[i];
    else
      handles[kept++] = handles[i];
  handle_count = kept;
  while (count--)
    if (closed[count]->close_cb)
      closed[count]->close_cb(closed[count]);
}

/* ---- Timers ------------------------------------------------------------ */

int uv_timer_init(uv_loop_t *loop, uv_timer_t *timer) {
  memset(timer, 0, sizeof *timer);
  timer->loop = loop;
  timer->type = UV_TIMER;
  REQUIRE(handle_count < HANDLES);
  handles[handle_count++] = (uv_handle_t *)timer;
  return 0;
}

int uv_timer_start(uv_timer_t *timer, uv_timer_cb callback, uint64_t timeout,
                   uint64_t repeat) {
  REQUIRE(!repeat && !(timer->flags & CLOSING));
  timer->timer_cb = callback;
  timer->timeout = cached_ms + timeout;
  timer->start_id = (unsigned)++starts;
  timer->flags = ACTIVE;
  return 0;
}

int uv_timer_stop(uv_timer_t *timer) {
  timer->flags &= ~(unsigned)ACTIVE;
  return 0;
}

static uv_timer_t *first_timer(void) {
  uv_timer_t *first = NULL;
  for (unsigned i = 0; i < handle_count; i++) {
    uv_timer_t *timer = (uv_timer_t *)handles[i];
    if (timer->flags != ACTIVE)
      continue;
    if (!first || timer->timeout < first->timeout ||
        (timer->timeout == first->timeout && timer->start_id < first->start_id))
      first = timer;
  }
  return first;
}

static void run_timers(void) {
  uv_timer_t *timer;
  cached_ms = fake_ms;
  for (unsigned count = 0;
       (timer = first_timer()) && timer->timeout <= cached_ms; count++) {
    REQUIRE(count < TURN_TIMERS);
    timer->flags = 0;
    timer->timer_cb(timer);
  }
}

/* ---- Time -------------------------------------------------------------- */

void uv_update_time(uv_loop_t *loop) {
  (void)loop;
  cached_ms = fake_ms;
}

uint64_t uv_now(const uv_loop_t *loop) {
  (void)loop;
  return cached_ms;
}

uint64_t uv_hrtime(void) {
  return fake_ms * 1000000;
}

int uv_backend_fd(const uv_loop_t *loop) {
  (void)loop;
  return -1;
}

int uv_backend_timeout(const uv_loop_t *loop) {
  (void)loop;
  const uv_timer_t *first = first_timer();
  for (unsigned i = 0; i < handle_count; i++)
    if (handles[i]->flags & CLOSING)
      return 0;
  if (!first)
    return -1;
  return first->timeout > cached_ms ? (int)(first->timeout - cached_ms) : 0;
}

void wait_for_something(int timeout_ms) {
  if (streams_ready())
    return;
  if (timeout_ms < 0)
    stuck = true;
  else
    fake_ms += (uint64_t)timeout_ms;
}

void uv_stop(uv_loop_t *loop) {
  (void)loop;
  stopped = true;
}

int uv_run(uv_loop_t *loop, uv_run_mode mode) {
  run_timers();
  if (mode == UV_RUN_ONCE && !stopped)
    wait_for_something(uv_backend_timeout(loop));
  streams_turn();
  if (mode == UV_RUN_ONCE)
    run_timers();
  run_closed();
  stopped = false;
  return uv_loop_alive(loop);
}
