/* SPDX-License-Identifier: MIT */
/* Packs received messages and takes them out one by one.  Must not know
   whether anybody still wants them. */

#define _GNU_SOURCE
#include "inbox.h"

#include <stdlib.h>

#include "loop.h"
#include "queue.h"

enum { BATCH_SIZE = 65536 };

struct sw_inbox {
  struct sw_item item; /* first */
  struct sipwire_loop *loop;
  struct sw_batch *batch;
};

static enum sw_delivery deliver(struct sw_item *item,
                                struct sipwire_event *event) {
  struct sw_inbox *inbox = (struct sw_inbox *)item;
  const uint8_t *data;
  void *owner;
  size_t length;
  bool binary;
  while (sw_batch_get(inbox->batch, &owner, &data, &length, &binary)) {
    struct sw_inbox_owner *it = owner;
    bool wanted = it->deliver(it, data, length, binary, event);
    it->left(it, length);
    if (wanted)
      return SW_EVENT_MORE;
  }
  return SW_SILENT;
}

/* One batch is kept for the next turn. */
static void batch_put_back(struct sipwire_loop *loop, struct sw_batch *batch) {
  if (loop->spare_batch || batch->capacity > BATCH_SIZE || loop->closed)
    free(batch);
  else
    loop->spare_batch = batch;
}

static void release(struct sw_item *item) {
  struct sw_inbox *inbox = (struct sw_inbox *)item;
  const uint8_t *data;
  void *owner;
  size_t length;
  bool binary;
  while (sw_batch_get(inbox->batch, &owner, &data, &length, &binary))
    ((struct sw_inbox_owner *)owner)->left(owner, length);
  if (inbox->loop->inbox == inbox)
    inbox->loop->inbox = NULL;
  batch_put_back(inbox->loop, inbox->batch);
  free(inbox);
}

static const struct sw_item_class class = {deliver, release};

static struct sw_batch *batch_take(struct sipwire_loop *loop, size_t length) {
  struct sw_batch *batch = loop->spare_batch;
  if (!batch || length > BATCH_SIZE / 2)
    return sw_batch_new(length, BATCH_SIZE);
  loop->spare_batch = NULL;
  sw_batch_reset(batch);
  return batch;
}

static struct sw_inbox *inbox_new(struct sipwire_loop *loop, size_t length) {
  struct sw_inbox *inbox = calloc(1, sizeof *inbox);
  struct sw_batch *batch = inbox ? batch_take(loop, length) : NULL;
  if (!batch) {
    free(inbox);
    return NULL;
  }
  inbox->item.class = &class;
  inbox->loop = loop;
  inbox->batch = batch;
  return inbox;
}

/* Only the queue's last item may grow: what came between two messages must
   stay between them. */
static bool is_last(const struct sipwire_loop *loop,
                    const struct sw_inbox *inbox) {
  return inbox && loop->inputs.tail == &inbox->item.node.next;
}

bool sw_inbox_put(struct sipwire_loop *loop, struct sw_inbox_owner *owner,
                  const void *data, size_t length, bool binary) {
  struct sw_inbox *inbox = loop->inbox;
  if (is_last(loop, inbox) &&
      sw_batch_put(inbox->batch, owner, data, length, binary))
    return true;
  inbox = inbox_new(loop, length);
  if (!inbox)
    return false;
  sw_batch_put(inbox->batch, owner, data, length, binary);
  loop->inbox = inbox;
  sw_loop_input(loop, &inbox->item);
  return true;
}
