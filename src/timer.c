/* SPDX-License-Identifier: MIT */
/* Gives users one-shot timers.  Must not serve the library's own deadlines:
   those belong to what they limit. */

#define _GNU_SOURCE
#include "timer.h"

#include <stdlib.h>

#include "loop.h"

struct sipwire_timer {
  struct sw_item item;  /* first */
  struct sw_list entry; /* in loop->timers while the handle is open */
  struct sipwire_loop *loop;
  uv_timer_t handle;
  unsigned references; /* user, libuv, queue */
  uint64_t tag;
  bool counted, stopped;
};

static void unref(struct sipwire_timer *timer) {
  if (--timer->references)
    return;
  sw_loop_unref(timer->loop);
  free(timer);
}

static void uncount(struct sipwire_timer *timer) {
  if (timer->counted)
    timer->loop->live--;
  timer->counted = false;
}

static enum sw_delivery deliver(struct sw_item *item,
                                struct sipwire_event *event) {
  struct sipwire_timer *timer = (struct sipwire_timer *)item;
  uncount(timer);
  if (timer->stopped)
    return SW_SILENT;
  event->type = SIPWIRE_EVENT_TIMER;
  event->tag = timer->tag;
  return SW_EVENT;
}

static void release(struct sw_item *item) {
  unref((struct sipwire_timer *)item);
}

static const struct sw_item_class class = {deliver, release};

static void on_closed(uv_handle_t *handle) {
  unref(handle->data);
}

static void close_handle(struct sipwire_timer *timer) {
  if (sw_list_empty(&timer->entry))
    return;
  sw_list_remove(&timer->entry);
  uv_close((uv_handle_t *)&timer->handle, on_closed);
  sw_loop_kick(timer->loop);
}

static void on_expired(uv_timer_t *handle) {
  struct sipwire_timer *timer = handle->data;
  timer->references++;
  sw_loop_input(timer->loop, &timer->item);
  close_handle(timer);
}

int sipwire_timer_new(struct sipwire_loop *loop, int64_t delay_ms, uint64_t tag,
                      struct sipwire_timer **out) {
  int error = sw_loop_check(loop);
  if (error)
    return error;
  if (delay_ms < 0)
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "delay is negative");
  struct sipwire_timer *timer = calloc(1, sizeof *timer);
  if (!timer)
    return SIPWIRE_ENOMEM;
  timer->item.class = &class;
  timer->loop = sw_loop_ref(loop);
  timer->tag = tag;
  timer->handle.data = timer;
  uv_timer_init(&loop->uv, &timer->handle);
  uv_update_time(&loop->uv);
  uv_timer_start(&timer->handle, on_expired, (uint64_t)delay_ms, 0);
  sw_list_add(&loop->timers, &timer->entry);
  timer->references = 2;
  timer->counted = true;
  loop->live++;
  sw_loop_kick(loop);
  *out = timer;
  return 0;
}

void sipwire_timer_free(struct sipwire_timer *timer) {
  if (!timer)
    return;
  timer->stopped = true;
  uncount(timer);
  if (!sw_loop_check(timer->loop))
    close_handle(timer);
  unref(timer);
}

void sw_timers_close(struct sipwire_loop *loop) {
  while (!sw_list_empty(&loop->timers)) {
    struct sipwire_timer *timer =
        SW_OWNER(loop->timers.next, struct sipwire_timer, entry);
    uncount(timer);
    close_handle(timer);
  }
}
