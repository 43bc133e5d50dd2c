/* SPDX-License-Identifier: MIT */
#ifndef SW_INBOX_H
#define SW_INBOX_H

/* Received messages on their way through the loop's queue of inputs: those
   of all links that were read in one turn share a batch, so that a message
   costs no allocation. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sipwire_event;
struct sipwire_loop;

/* What the messages belong to, at the head of the owner. */
struct sw_inbox_owner {
  /* A message's turn: fills |event| in and returns true, or drops it.  The
     bytes stay until the next event. */
  bool (*deliver)(struct sw_inbox_owner *owner, const uint8_t *data,
                  size_t length, bool binary, struct sipwire_event *event);
  /* A message has left the queue. */
  void (*left)(struct sw_inbox_owner *owner, size_t length);
};

/* sw_inbox_put queues a copy of a message; false when there is no memory.
   |owner| must live until |left| was called. */
bool sw_inbox_put(struct sipwire_loop *loop, struct sw_inbox_owner *owner,
                  const void *data, size_t length, bool binary);

#endif
