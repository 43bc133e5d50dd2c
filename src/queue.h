/* SPDX-License-Identifier: MIT */
#ifndef SW_QUEUE_H
#define SW_QUEUE_H

/* First-in first-out lists of nodes that live in their owners, so that
   putting something in cannot fail; and batches, which carry many received
   messages in one piece of memory.  Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sw_node {
  struct sw_node *next;
};

struct sw_queue {
  struct sw_node *head, **tail;
};

/* sw_queue_init makes |queue| empty.  It must not move after that. */
void sw_queue_init(struct sw_queue *queue);

static inline bool sw_queue_empty(const struct sw_queue *queue) {
  return queue->head == NULL;
}

/* sw_queue_push appends a node that is in no queue. */
void sw_queue_push(struct sw_queue *queue, struct sw_node *node);

/* sw_queue_pop removes and returns the first node, or NULL. */
struct sw_node *sw_queue_pop(struct sw_queue *queue);

/* sw_queue_splice moves all nodes of |from| to the end of |to|. */
void sw_queue_splice(struct sw_queue *to, struct sw_queue *from);

/* Messages one behind the other: each a record of owner, length, kind and
   bytes. */
struct sw_batch {
  size_t capacity, used, read; /* bytes of |data| */
  uint8_t data[];
};

/* sw_batch_new makes a batch with room for at least one message of |length|
   bytes and at least |minimum| bytes in all, or returns NULL. */
struct sw_batch *sw_batch_new(size_t length, size_t minimum);

/* sw_batch_reset empties a batch for use again. */
void sw_batch_reset(struct sw_batch *batch);

/* sw_batch_put appends a copy of a message; false when it does not fit. */
bool sw_batch_put(struct sw_batch *batch, void *owner, const void *data,
                  size_t length, bool binary);

/* sw_batch_get takes the next message; false when there is none.  |*data| is
   valid as long as the batch. */
bool sw_batch_get(struct sw_batch *batch, void **owner, const uint8_t **data,
                  size_t *length, bool *binary);

#endif
