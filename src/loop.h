/* SPDX-License-Identifier: MIT */
#ifndef SW_LOOP_H
#define SW_LOOP_H

/* One private libuv loop: the tick, the queues of events and inputs, the
   pollable descriptor.  Knows neither SIP nor WebSocket. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uv.h>

#include "buffer.h"
#include "queue.h"
#include "random.h"
#include "sipwire.h"

struct sw_inbox;
struct sw_crew;
struct sw_lookup;
struct sw_stream;
struct sw_watch;
struct sw_tls_context;

/* ---- Items ------------------------------------------------------------- */

/* Something that waits in a queue for its turn in sipwire_loop_next(): an
   event to hand out, or an input to be applied. */
struct sw_item {
  struct sw_node node; /* first, so that a node is its item */
  const struct sw_item_class *class;
};

enum sw_delivery {
  SW_SILENT,    /* nothing to hand out; the item is done with */
  SW_LATER,     /* an input that becomes an event of the next tick */
  SW_EVENT,     /* |event| is filled in; the item is done with after that */
  SW_EVENT_MORE /* |event| is filled in; the item has more to say */
};

struct sw_item_class {
  /* Called when the item's turn has come. */
  enum sw_delivery (*deliver)(struct sw_item *item,
                              struct sipwire_event *event);
  /* Called once, when the item has left the queue for good and nothing in
     the last event points to it any more. */
  void (*release)(struct sw_item *item);
};

/* ---- The loop ---------------------------------------------------------- */

/* A circular list with its head in the loop, so that loop_free finds all. */
struct sw_list {
  struct sw_list *next, *previous;
};

/* The object that a list entry is the |member| of. */
#define SW_OWNER(entry, type, member)                                          \
  ((type *)(void *)((char *)(entry)-offsetof(type, member)))

void sw_list_init(struct sw_list *list);
static inline bool sw_list_empty(const struct sw_list *list) {
  return list->next == list;
}
void sw_list_add(struct sw_list *list, struct sw_list *entry);
/* sw_list_remove may be called again for an entry that is in no list. */
void sw_list_remove(struct sw_list *entry);

enum { SW_SCRATCH_SIZE = 16384 + 256 };

struct sipwire_loop {
  unsigned references;
  bool closed;
  bool uv_ready;
  bool in_tick;          /* between step() and the next() that returned 0 */
  bool in_uv;            /* inside uv_run() */
  bool waited;           /* until |wait_timer| expired */
  bool quiet;            /* the last wait was in vain */
  const uint8_t *canary; /* a page that reads 0 in a forked child */
  uv_loop_t uv;
  uv_timer_t wait_timer;
  struct sw_queue events, later, inputs;
  struct sw_item *spent; /* what the last event points to */
  unsigned live;         /* things that sipwire_loop_alive() counts */
  struct sw_list links, streams, listeners, timers;
  struct sw_list readable; /* streams to be read */
  struct sw_list dirty;    /* links with unwritten frames */
  size_t dirty_bytes;      /* about as many are in them */
  struct sw_stream *todo;  /* streams that are to be ended */
  struct sw_lookup *lookups;
  struct sw_crew *crew; /* of their threads */
  struct sw_tls_context *tls_contexts;
  void *tls_bio_method;
  struct sw_random random;
  struct sw_buffer cipher; /* TLS records on their way to a socket */
  uint8_t *input;          /* SW_READ_SIZE bytes: read from a socket */
  uint8_t *scratch;        /* SW_SCRATCH_SIZE bytes: decrypted input */
  struct sw_inbox *inbox;  /* the messages queued last, or NULL */
  struct sw_batch *spare_batch;
  int poll_fd, timer_fd; /* -1 until sipwire_loop_pollfd() */
  int64_t armed;         /* what timer_fd is set to; see loop.c */
  sipwire_log_fn log;
  void *log_arg;
  char message[256];
};

/* sw_loop_check returns 0, SIPWIRE_EDISPOSED or SIPWIRE_EFORK. */
int sw_loop_check(const struct sipwire_loop *loop);

struct sipwire_loop *sw_loop_ref(struct sipwire_loop *loop);
void sw_loop_unref(struct sipwire_loop *loop);

/* sw_loop_event queues an event for the next tick, which it makes come.
   sw_loop_event_now queues one that an input has just caused. */
void sw_loop_event(struct sipwire_loop *loop, struct sw_item *item);
void sw_loop_event_now(struct sipwire_loop *loop, struct sw_item *item);

/* sw_loop_input queues an input. */
void sw_loop_input(struct sipwire_loop *loop, struct sw_item *item);

/* sw_loop_kick says that there is work to be done, which no wait must delay:
   it ends the present one, or makes the descriptor readable. */
void sw_loop_kick(struct sipwire_loop *loop);

/* sw_loop_now returns milliseconds of a monotonic clock, fresh. */
uint64_t sw_loop_now(struct sipwire_loop *loop);

/* sw_loop_fault keeps a sentence for sipwire_loop_message() and returns
   |error|. */
int sw_loop_fault(struct sipwire_loop *loop, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

void sw_loop_log(struct sipwire_loop *loop, enum sipwire_log_level level,
                 const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
