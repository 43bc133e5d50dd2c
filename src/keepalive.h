/* SPDX-License-Identifier: MIT */
#ifndef SW_KEEPALIVE_H
#define SW_KEEPALIVE_H

/* When to send a keep-alive and when to give the peer up (RFC 5626 sections
   3.5.1 and 4.4).  Knows times in milliseconds of any monotonic clock, and
   no clock.  Pure. */

#include <stdbool.h>
#include <stdint.h>

struct sw_keepalive {
  uint32_t interval_ms, timeout_ms;
  uint64_t next_send; /* when the next one is due */
  uint64_t sent_at;   /* when the unanswered one was sent */
  bool awaiting;
};

enum sw_keepalive_action {
  SW_KEEPALIVE_WAIT, /* nothing is due */
  SW_KEEPALIVE_SEND, /* send one now */
  SW_KEEPALIVE_DEAD  /* no answer in time: the flow has failed */
};

/* sw_keepalive_init starts the first gap at |now|.  |interval_ms| 0 turns it
   off; |timeout_ms| 0: no answer is expected.  |random| is 32 unpredictable
   bits that draw the gap from 80 to 100 % of the interval, evenly. */
void sw_keepalive_init(struct sw_keepalive *keepalive, uint32_t interval_ms,
                       uint32_t timeout_ms, uint64_t now, uint32_t random);

/* sw_keepalive_due says what is to be done at |now|.  SEND is said once: the
   next gap (drawn with |random|) begins, and unless an answer is still
   awaited its time limit too.  DEAD comes before SEND when both are due. */
enum sw_keepalive_action sw_keepalive_due(struct sw_keepalive *keepalive,
                                          uint64_t now, uint32_t random);

/* sw_keepalive_deadline writes the next time at which sw_keepalive_due() has
   something to say; false when there is none. */
bool sw_keepalive_deadline(const struct sw_keepalive *keepalive,
                           uint64_t *deadline);

/* sw_keepalive_answered notes the peer's answer.  It returns the round trip
   in milliseconds, or -1 if none was awaited. */
int64_t sw_keepalive_answered(struct sw_keepalive *keepalive, uint64_t now);

/* sw_keepalive_excuse gives an awaited answer its whole time anew: we did not
   read, so it may have come. */
void sw_keepalive_excuse(struct sw_keepalive *keepalive, uint64_t now);

#endif
