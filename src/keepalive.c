/* SPDX-License-Identifier: MIT */

/* Decides when a keep-alive is due and when its answer is overdue.  Must not
   ask a clock or a random number generator: both come in as numbers. */

#include "keepalive.h"

/* Scaling by a product instead of a remainder keeps the draw even. */
static uint64_t draw_gap(uint32_t interval_ms, uint32_t random) {
  uint32_t spread = interval_ms / 5;
  uint64_t drawn = ((uint64_t)random * ((uint64_t)spread + 1)) >> 32;
  return interval_ms - spread + drawn;
}

void sw_keepalive_init(struct sw_keepalive *keepalive, uint32_t interval_ms,
                       uint32_t timeout_ms, uint64_t now, uint32_t random) {
  *keepalive = (struct sw_keepalive){
      .interval_ms = interval_ms,
      .timeout_ms = timeout_ms,
      .next_send = now + draw_gap(interval_ms, random),
  };
}

enum sw_keepalive_action sw_keepalive_due(struct sw_keepalive *keepalive,
                                          uint64_t now, uint32_t random) {
  if (!keepalive->interval_ms)
    return SW_KEEPALIVE_WAIT;
  if (keepalive->awaiting && now >= keepalive->sent_at + keepalive->timeout_ms)
    return SW_KEEPALIVE_DEAD;
  if (now < keepalive->next_send)
    return SW_KEEPALIVE_WAIT;
  /* From |now|, not from when it was due: after a suspended machine wakes up
     one keep-alive is enough. */
  keepalive->next_send = now + draw_gap(keepalive->interval_ms, random);
  if (keepalive->timeout_ms && !keepalive->awaiting) {
    keepalive->awaiting = true;
    keepalive->sent_at = now;
  }
  return SW_KEEPALIVE_SEND;
}

bool sw_keepalive_deadline(const struct sw_keepalive *keepalive,
                           uint64_t *deadline) {
  if (!keepalive->interval_ms)
    return false;
  uint64_t limit = keepalive->sent_at + keepalive->timeout_ms;
  bool limit_first = keepalive->awaiting && limit < keepalive->next_send;
  *deadline = limit_first ? limit : keepalive->next_send;
  return true;
}

int64_t sw_keepalive_answered(struct sw_keepalive *keepalive, uint64_t now) {
  if (!keepalive->awaiting)
    return -1;
  keepalive->awaiting = false;
  return now > keepalive->sent_at ? (int64_t)(now - keepalive->sent_at) : 0;
}

void sw_keepalive_excuse(struct sw_keepalive *keepalive, uint64_t now) {
  if (keepalive->awaiting)
    keepalive->sent_at = now;
}
