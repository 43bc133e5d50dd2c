/* SPDX-License-Identifier: MIT */
#ifndef SW_UPGRADE_H
#define SW_UPGRADE_H

/* The opening handshake of one connection, either side: collects the peer's
   head, judges it, and keeps what came behind it.  Sends nothing itself.
   Embedded in its owner; all zero is a fresh one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "http.h"

struct sw_random;
struct sw_target;

struct sw_upgrade {
  struct sw_buffer received;
  size_t seen;   /* bytes of it that hold no whole head */
  size_t length; /* of the head that was judged good; 0: none yet */
  char accept[SW_HTTP_ACCEPT_LENGTH + 1];
};

enum sw_upgrade_result {
  SW_UPGRADE_NEED_MORE,
  SW_UPGRADE_GOOD,
  SW_UPGRADE_BAD
};

struct sw_upgrade_verdict {
  struct sw_http_head head; /* |fields.data| NULL when there is no whole one */
  int error;                /* BAD: a sipwire_error, */
  const char *text;         /* what is wrong; static, */
  int status;               /* and what a server is to answer */
};

/* sw_upgrade_request writes a client's request to |out|.  It returns 0,
   or SIPWIRE_ENOMEM, also when there are no random bytes. */
int sw_upgrade_request(struct sw_upgrade *upgrade,
                       const struct sw_target *target, struct sw_random *random,
                       struct sw_buffer *out);

/* These take what came from the peer until they give GOOD or BAD.  A client
   passes over interim responses.  |verdict| points into the upgrade. */
enum sw_upgrade_result
sw_upgrade_read_response(struct sw_upgrade *upgrade, const uint8_t *bytes,
                         size_t length, struct sw_upgrade_verdict *verdict);
enum sw_upgrade_result
sw_upgrade_read_request(struct sw_upgrade *upgrade, const uint8_t *bytes,
                        size_t length, struct sw_upgrade_verdict *verdict);

/* sw_upgrade_rest gives away what came behind the head, and clears the
   upgrade. */
struct sw_buffer sw_upgrade_rest(struct sw_upgrade *upgrade);

void sw_upgrade_clear(struct sw_upgrade *upgrade);

#endif
