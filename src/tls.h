/* SPDX-License-Identifier: MIT */
#ifndef SW_TLS_H
#define SW_TLS_H

/* TLS on bytes in memory: options become contexts of our own, one per
   distinct set of options and loop, some of which are kept when idle; a
   session reads from the bytes it is handed and writes to a buffer.  Knows no
   sockets. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "buffer.h"

struct sipwire_loop;
struct sipwire_tls_config;
struct sw_tls;
struct sw_tls_context;

/* sw_tls_context_get finds or makes the context for |config|.  It returns 0,
   SIPWIRE_EINVALID or SIPWIRE_ETLS (the loop's message names option and
   file), or SIPWIRE_ENOMEM. */
int sw_tls_context_get(struct sipwire_loop *loop,
                       const struct sipwire_tls_config *config, bool server,
                       struct sw_tls_context **context);
struct sw_tls_context *sw_tls_context_ref(struct sw_tls_context *context);
void sw_tls_context_unref(struct sw_tls_context *context);

/* sw_tls_new starts a session.  A client checks the peer against |host|
   (unless the options name another): an IP literal against the certificate's
   IP addresses, a name against its names, and sends a name as SNI; it resumes
   what an earlier session with |host| and |port| left (RFC 8446 section 2.2).
   A server passes NULL and 0.  NULL when out of memory. */
struct sw_tls *sw_tls_new(struct sw_tls_context *context, const char *host,
                          uint16_t port);

/* sw_tls_free may be called anywhere outside the session's own calls. */
void sw_tls_free(struct sw_tls *tls);

enum sw_tls_result {
  SW_TLS_NEED_MORE, /* all input was used */
  SW_TLS_OPENED,    /* the handshake is done; read on */
  SW_TLS_DATA,      /* |*length| bytes were decrypted to |out| */
  SW_TLS_END,       /* the peer's close_notify */
  SW_TLS_FAILED     /* see sw_tls_fault() */
};

/* sw_tls_read works on |*input|, which it advances, and writes what it has to
   say to the peer (handshake, alerts, answers) to |cipher|.  It is to be
   called until it gives NEED_MORE, END or FAILED.  The first call of a client
   has no input. */
enum sw_tls_result sw_tls_read(struct sw_tls *tls, const uint8_t **input,
                               size_t *input_length, uint8_t *out, size_t size,
                               size_t *length, struct sw_buffer *cipher);

/* sw_tls_write encrypts |length| bytes to |cipher|; false when it failed. */
bool sw_tls_write(struct sw_tls *tls, const void *data, size_t length,
                  struct sw_buffer *cipher);

/* sw_tls_finish writes a close_notify. */
void sw_tls_finish(struct sw_tls *tls, struct sw_buffer *cipher);

/* sw_tls_resumed tells whether an earlier session was resumed. */
bool sw_tls_resumed(const struct sw_tls *tls);

/* sw_tls_fault says in OpenSSL's words what failed; valid as long as |tls|. */
const char *sw_tls_fault(const struct sw_tls *tls);

/* sw_tls_contexts_close releases what the loop holds for all sessions. */
void sw_tls_contexts_close(struct sipwire_loop *loop);

#endif
