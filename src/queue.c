/* SPDX-License-Identifier: MIT */
/* Links nodes and packs messages.  It must not own a node, nor allocate for
   one. */
#include "queue.h"

#include <stdlib.h>
#include <string.h>

void sw_queue_init(struct sw_queue *queue) {
  queue->head = NULL;
  queue->tail = &queue->head;
}

void sw_queue_push(struct sw_queue *queue, struct sw_node *node) {
  node->next = NULL;
  *queue->tail = node;
  queue->tail = &node->next;
}

struct sw_node *sw_queue_pop(struct sw_queue *queue) {
  struct sw_node *node = queue->head;
  if (!node)
    return NULL;
  queue->head = node->next;
  if (!queue->head)
    queue->tail = &queue->head;
  node->next = NULL;
  return node;
}

void sw_queue_splice(struct sw_queue *to, struct sw_queue *from) {
  if (sw_queue_empty(from))
    return;
  *to->tail = from->head;
  to->tail = from->tail;
  sw_queue_init(from);
}

/* What a record begins with; its bytes follow. */
struct record {
  void *owner;
  size_t length;
  bool binary;
};

enum { RECORD = sizeof(struct record) };

struct sw_batch *sw_batch_new(size_t length, size_t minimum) {
  if (length > SIZE_MAX - RECORD)
    return NULL;
  size_t capacity = length + RECORD > minimum ? length + RECORD : minimum;
  if (capacity > SIZE_MAX - sizeof(struct sw_batch))
    return NULL;
  struct sw_batch *batch = malloc(sizeof *batch + capacity);
  if (!batch)
    return NULL;
  batch->capacity = capacity;
  sw_batch_reset(batch);
  return batch;
}

void sw_batch_reset(struct sw_batch *batch) {
  batch->used = batch->read = 0;
}

bool sw_batch_put(struct sw_batch *batch, void *owner, const void *data,
                  size_t length, bool binary) {
  size_t room = batch->capacity - batch->used;
  if (room < RECORD || length > room - RECORD)
    return false;
  struct record record = {owner, length, binary};
  uint8_t *at = batch->data + batch->used;
  memcpy(at, &record, RECORD); /* |at| is not aligned */
  if (length)
    memcpy(at + RECORD, data, length);
  batch->used += RECORD + length;
  return true;
}

bool sw_batch_get(struct sw_batch *batch, void **owner, const uint8_t **data,
                  size_t *length, bool *binary) {
  struct record record;
  if (batch->read == batch->used)
    return false;
  const uint8_t *at = batch->data + batch->read;
  memcpy(&record, at, RECORD);
  *owner = record.owner;
  *data = at + RECORD;
  *length = record.length;
  *binary = record.binary;
  batch->read += RECORD + record.length;
  if (batch->read < batch->used) { /* the next owner is cold among thousands */
    memcpy(&record.owner, batch->data + batch->read, sizeof record.owner);
    __builtin_prefetch(record.owner);
  }
  return true;
}
