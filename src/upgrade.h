/* SPDX-License-Identifier: MIT */
#ifndef SW_UPGRADE_H
#define SW_UPGRADE_H

/* The opening handshake, either side, a proxy's tunnel before it included:
   writes requests, collects the peer's head, judges it, and keeps what came
   behind it.  Sends nothing itself.  Embedded in its owner; all zero is a
   fresh one. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"
#include "http.h"

struct sw_options;
struct sw_random;
struct sw_target;

struct sw_upgrade {
  struct sw_buffer received;
  size_t seen;   /* bytes of it that hold no whole head */
  size_t length; /* of the head that was judged; 0: none yet */
  char accept[SW_HTTP_ACCEPT_LENGTH + 1];
  char *authorization, *proxy_authorization; /* answers to challenges */
};

enum sw_upgrade_result {
  SW_UPGRADE_NEED_MORE,
  SW_UPGRADE_GOOD,
  SW_UPGRADE_AGAIN, /* on a new connection: the challenge can be answered */
  SW_UPGRADE_BAD
};

struct sw_upgrade_verdict {
  struct sw_http_head head; /* |fields.data| NULL when there is no whole one */
  int error;                /* BAD: a sipwire_error, */
  const char *text;         /* what is wrong; static, */
  int status;               /* and what a server is to answer */
};

/* What a client wants, and who it is. */
struct sw_upgrade_client {
  const struct sw_target *target;
  const struct sw_options *options;
  struct sw_random *random;
};

/* sw_upgrade_request writes a client's request to |out|, sw_upgrade_connect
   the one to its proxy.  They return 0, or SIPWIRE_ENOMEM, also when there are
   no random bytes. */
int sw_upgrade_request(struct sw_upgrade *upgrade,
                       const struct sw_upgrade_client *client,
                       struct sw_buffer *out);
int sw_upgrade_connect(struct sw_upgrade *upgrade,
                       const struct sw_upgrade_client *client,
                       struct sw_buffer *out);

/* These take what came from the peer until they give something else than
   NEED_MORE.  A client passes over interim responses.  |verdict| points into
   the upgrade.  AGAIN comes at most once for the server, and once for its proxy
   on the way to each of the two requests. */
enum sw_upgrade_result sw_upgrade_read_response(
    struct sw_upgrade *upgrade, const struct sw_upgrade_client *client,
    const uint8_t *bytes, size_t length, struct sw_upgrade_verdict *verdict);
enum sw_upgrade_result sw_upgrade_read_tunnel(
    struct sw_upgrade *upgrade, const struct sw_upgrade_client *client,
    const uint8_t *bytes, size_t length, struct sw_upgrade_verdict *verdict);
enum sw_upgrade_result
sw_upgrade_read_request(struct sw_upgrade *upgrade, const uint8_t *bytes,
                        size_t length, struct sw_upgrade_verdict *verdict);

/* sw_upgrade_rest gives away what came behind the head, and clears the
   upgrade. */
struct sw_buffer sw_upgrade_rest(struct sw_upgrade *upgrade);

/* sw_upgrade_restart forgets what was received, for another request. */
void sw_upgrade_restart(struct sw_upgrade *upgrade);

void sw_upgrade_clear(struct sw_upgrade *upgrade);

#endif
