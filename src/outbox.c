/* SPDX-License-Identifier: MIT */
/* Collects frames and writes them in one piece.  Must not know what they are
   for. */

#define _GNU_SOURCE
#include "outbox.h"

#include <string.h>

#include "channel.h"
#include "random.h"

static const uint64_t unflushed = UINT64_MAX;

void sw_outbox_init(struct sw_outbox *outbox, struct sw_channel *channel,
                    struct sw_random *random) {
  memset(outbox, 0, sizeof *outbox);
  outbox->channel = channel;
  outbox->random = random;
  sw_queue_init(&outbox->marks);
}

void sw_outbox_clear(struct sw_outbox *outbox) {
  sw_buffer_clear(&outbox->frames);
}

int sw_outbox_put(struct sw_outbox *outbox, enum sw_ws_opcode opcode,
                  const void *data, size_t length, struct sw_mark *mark) {
  uint8_t mask[4];
  size_t header = sw_ws_header_size(length, outbox->random != NULL);
  uint8_t *at = sw_buffer_reserve(&outbox->frames, header + length);
  if (!at)
    return SIPWIRE_ENOMEM;
  if (outbox->random && !sw_random_bytes(outbox->random, mask, sizeof mask))
    return SIPWIRE_ENOMEM;
  sw_ws_write_header(at, opcode, length, outbox->random ? mask : NULL);
  if (outbox->random)
    sw_ws_mask(at + header, data, length, mask);
  else if (length)
    memcpy(at + header, data, length);
  sw_buffer_commit(&outbox->frames, header + length);
  if (mark) {
    mark->position = unflushed;
    sw_queue_push(&outbox->marks, &mark->node);
  }
  return 0;
}

static void note_positions(struct sw_outbox *outbox) {
  uint64_t end =
      sw_channel_sent(outbox->channel) + sw_channel_unsent(outbox->channel);
  for (struct sw_node *node = outbox->marks.head; node; node = node->next) {
    struct sw_mark *mark = (struct sw_mark *)node;
    if (mark->position == unflushed)
      mark->position = end;
  }
}

void sw_outbox_flush(struct sw_outbox *outbox) {
  size_t length = sw_outbox_waiting(outbox);
  outbox->blocked = sw_channel_unsent(outbox->channel) > 0;
  if (!length || outbox->blocked)
    return;
  sw_channel_write(outbox->channel, sw_buffer_bytes(&outbox->frames), length);
  sw_buffer_consume(&outbox->frames, length);
  outbox->blocked = sw_channel_unsent(outbox->channel) > 0;
  if (!sw_channel_failed(outbox->channel)) /* or they are never passed */
    note_positions(outbox);
}

void sw_outbox_settle(struct sw_outbox *outbox, int error, sw_mark_fn settled) {
  uint64_t sent = sw_channel_sent(outbox->channel);
  struct sw_mark *mark;
  while ((mark = (struct sw_mark *)outbox->marks.head) &&
         (error || mark->position <= sent)) {
    sw_queue_pop(&outbox->marks);
    settled(mark, error);
  }
}

size_t sw_outbox_waiting(const struct sw_outbox *outbox) {
  return sw_buffer_length(&outbox->frames);
}

size_t sw_outbox_unsent(const struct sw_outbox *outbox) {
  return sw_outbox_waiting(outbox) + sw_channel_unsent(outbox->channel);
}

size_t sw_outbox_backlog(const struct sw_outbox *outbox) {
  return outbox->blocked ? sw_outbox_unsent(outbox) : sw_outbox_waiting(outbox);
}
