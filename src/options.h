/* SPDX-License-Identifier: MIT */
#ifndef SW_OPTIONS_H
#define SW_OPTIONS_H

/* What users configure, checked and copied once, then shared unchanged by all
   that work with it. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth.h"
#include "sipwire.h"
#include "uri.h"

struct sw_proxy;
struct sw_tls_context;

/* How to behave. */
struct sw_options {
  unsigned references;
  uint32_t connection_timeout_ms, disconnect_timeout_ms;
  uint32_t keep_alive_interval_ms, keep_alive_timeout_ms;
  enum sipwire_keep_alive keep_alive_method;
  enum sipwire_frame frame;
  bool raw;
  size_t max_message_size, send_queue_limit;
  char *local_address;
  char *proxy; /* URL, SIPWIRE_PROXY_ENVIRONMENT or NULL */
  struct sw_credentials credentials;
  struct sw_tls_context *tls; /* NULL: clients make the default when needed */
};

/* sw_options_new checks and copies everything in |config| but server and
   headers.  |listening|: for a listener, which speaks TLS if |secure|.  It
   returns 0, SIPWIRE_EINVALID or SIPWIRE_ETLS (with the loop's message), or
   SIPWIRE_ENOMEM. */
int sw_options_new(struct sipwire_loop *loop,
                   const struct sipwire_config *config, bool listening,
                   bool secure, struct sw_options **options);
struct sw_options *sw_options_ref(struct sw_options *options);
void sw_options_unref(struct sw_options *options);

/* Where to connect to. */
struct sw_target {
  unsigned references;
  char *url;
  struct sw_uri uri;              /* slices of |url| */
  struct sipwire_header *headers; /* strings are our own */
  size_t header_count;
  struct sw_proxy *proxy;     /* or NULL */
  struct sw_tls_context *tls; /* NULL for ws */
};

/* sw_target_new checks and copies.  It returns 0, SIPWIRE_EINVALID or
   SIPWIRE_ETLS (with the loop's message), or SIPWIRE_ENOMEM. */
int sw_target_new(struct sipwire_loop *loop, const char *url,
                  const struct sipwire_header *headers, size_t header_count,
                  const struct sw_options *options, struct sw_target **target);
struct sw_target *sw_target_ref(struct sw_target *target);
void sw_target_unref(struct sw_target *target);

/* sw_headers_check returns 0, or SIPWIRE_EINVALID with the loop's message
   naming the header that may not be sent. */
int sw_headers_check(struct sipwire_loop *loop,
                     const struct sipwire_header *headers, size_t header_count);

#endif
