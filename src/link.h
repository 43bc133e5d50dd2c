/* SPDX-License-Identifier: MIT */
#ifndef SW_LINK_H
#define SW_LINK_H

/* One WebSocket connection from its first packet to its last: channel,
   upgrade, frames, keep-alives, closing handshake, each with its deadline.
   Lives until its socket is closed, whether somebody still cares or not. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "outbox.h"
#include "sipwire.h"

struct sw_http_head;
struct sw_link;
struct sw_list;
struct sw_options;
struct sw_target;

/* Called from inside sipwire_loop_step() or the calls below; they only note
   what happened. */
struct sw_link_ops {
  /* A server's link has a good request: sw_link_accept() or sw_link_refuse()
     is awaited. */
  void (*request)(void *arg, const struct sw_http_head *head);
  /* The upgrade is done. */
  void (*up)(void *arg);
  /* A message; false when there is no memory to keep it. */
  bool (*message)(void *arg, const uint8_t *data, size_t length, bool binary);
  /* Over, for |arg| at least: nothing more will be called with it. */
  void (*down)(void *arg, int error, const struct sipwire_info *info);
  /* |mark| was passed, or with an |error| will never be.  Comes for every
     mark, after |down| and sw_link_release() too. */
  sw_mark_fn sent;
};

/* sw_link_open dials |target|.  It returns 0 or SIPWIRE_ENOMEM; all else comes
   through |down|. */
int sw_link_open(struct sipwire_loop *loop, struct sw_options *options,
                 struct sw_target *target, const struct sw_link_ops *ops,
                 void *arg, struct sw_link **link);

/* sw_link_adopt serves an accepted socket, which it owns even if it fails. */
int sw_link_adopt(struct sipwire_loop *loop, int fd, struct sw_options *options,
                  const struct sw_link_ops *ops, void *arg,
                  struct sw_link **link);

/* sw_link_accept answers a request with 101 and has the link work for |ops|
   and |arg| from now on. */
void sw_link_accept(struct sw_link *link, const struct sw_link_ops *ops,
                    void *arg);

/* sw_link_refuse sends |length| bytes of response and closes.  Nobody is told
   any more. */
void sw_link_refuse(struct sw_link *link, const char *response, size_t length);

/* sw_link_send queues a message.  |mark| may be NULL.  It returns 0,
   SIPWIRE_EQUEUE_FULL, SIPWIRE_ENOMEM, or
   SIPWIRE_ECLOSED when the link is not open any more; then |mark| is the
   caller's again. */
int sw_link_send(struct sw_link *link, bool binary, const void *data,
                 size_t length, struct sw_mark *mark);

/* sw_link_flush writes all that is queued, in one call to the kernel. */
void sw_link_flush(struct sw_link *link);

/* sw_link_close starts the closing handshake with code 1000, or gives an
   attempt up.  |down| follows, within the options' time limit. */
void sw_link_close(struct sw_link *link);

/* sw_link_release closes a link whose owner does not care any more: only
   |sent| is called from now on. */
void sw_link_release(struct sw_link *link);

/* Reasons not to read; it is read when none is left. */
enum sw_hold {
  SW_HOLD_USER = 1,    /* sipwire_transport_pause() */
  SW_HOLD_INBOX = 2,   /* too much is undelivered */
  SW_HOLD_REQUEST = 4, /* a request is unanswered */
  SW_HOLD_OUTBOX = 8   /* too many answers to pings are unsent */
};
void sw_link_hold(struct sw_link *link, enum sw_hold reason, bool held);

/* Bytes accepted and not yet handed to the kernel. */
size_t sw_link_unsent(const struct sw_link *link);

bool sw_link_secure(const struct sw_link *link);

/* sw_link_address: as sw_stream_address. */
int sw_link_address(const struct sw_link *link, bool peer, char *buffer,
                    size_t size);

/* sw_link_stats fills in what the link knows: rtt_ms, queue, how long each
   phase took; and adds its pings and pongs. */
void sw_link_stats(const struct sw_link *link, struct sipwire_stats *stats);

/* For the loop: all that is queued is written, one call to the kernel for each
   link; and the end of all links with close code 1001. */
void sw_links_flush(struct sipwire_loop *loop);
void sw_links_close(struct sipwire_loop *loop);

#endif
