/* SPDX-License-Identifier: MIT */
#ifndef SW_OUTBOX_H
#define SW_OUTBOX_H

/* Frames on their way out of one link: collected during a tick, written in
   one piece, with marks that say when a message has been handed to the
   kernel.  Embedded in its owner. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "queue.h"
#include "ws.h"

struct sw_channel;
struct sw_random;

/* Stands for the end of a message in the stream of bytes; embedded in what
   waits for the message to be handed to the kernel. */
struct sw_mark {
  struct sw_node node; /* first */
  uint64_t position;   /* the outbox's */
};

/* |mark| was passed, or with an |error| will never be. */
typedef void (*sw_mark_fn)(struct sw_mark *mark, int error);

struct sw_outbox {
  struct sw_channel *channel;
  struct sw_random *random; /* of masks; NULL: a server's, unmasked */
  struct sw_buffer frames;  /* not yet given to the channel */
  struct sw_queue marks;
  bool blocked; /* the channel had unsent bytes after the last flush */
};

/* sw_outbox_init makes |outbox| empty.  It must not move after that. */
void sw_outbox_init(struct sw_outbox *outbox, struct sw_channel *channel,
                    struct sw_random *random);
void sw_outbox_clear(struct sw_outbox *outbox);

/* sw_outbox_put appends a frame.  |mark| may be NULL.  It returns 0,
   or SIPWIRE_ENOMEM, also when there are no random bytes. */
int sw_outbox_put(struct sw_outbox *outbox, enum sw_ws_opcode opcode,
                  const void *data, size_t length, struct sw_mark *mark);

/* sw_outbox_flush gives all frames to the channel, unless bytes wait there
   already. */
void sw_outbox_flush(struct sw_outbox *outbox);

/* sw_outbox_settle gives away all marks that were passed, or, with an
   |error|, all. */
void sw_outbox_settle(struct sw_outbox *outbox, int error, sw_mark_fn settled);

/* Bytes not yet given to the channel; and those not handed to the kernel. */
size_t sw_outbox_waiting(const struct sw_outbox *outbox);
size_t sw_outbox_unsent(const struct sw_outbox *outbox);

/* sw_outbox_backlog is the latter of frames alone.  For the way of a message:
   it leaves the channel's memory, cold among thousands, alone if it can. */
size_t sw_outbox_backlog(const struct sw_outbox *outbox);

#endif
