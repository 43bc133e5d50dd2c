/* SPDX-License-Identifier: MIT */
#ifndef SW_PROXY_H
#define SW_PROXY_H

/* Which HTTP proxy a connection is to be made through. */

#include "auth.h"
#include "uri.h"

struct sipwire_loop;

struct sw_proxy {
  char *url; /* with the password: never for anybody's eyes */
  struct sw_uri uri;
  struct sw_credentials credentials;
};

/* sw_proxy_new reads "http://[user[:password]@]host[:port]"; |name| says in
   messages where it was given.  It returns 0, SIPWIRE_EINVALID with the loop's
   message, or SIPWIRE_ENOMEM. */
int sw_proxy_new(struct sipwire_loop *loop, const char *name, const char *url,
                 struct sw_proxy **proxy);

/* sw_proxy_from_environment asks http_proxy for ws, https_proxy or HTTPS_PROXY
   for wss, then all_proxy or ALL_PROXY, unless no_proxy or NO_PROXY lists the
   |server|.  It returns as sw_proxy_new; |*proxy| is NULL for none. */
int sw_proxy_from_environment(struct sipwire_loop *loop,
                              const struct sw_uri *server,
                              struct sw_proxy **proxy);

void sw_proxy_free(struct sw_proxy *proxy);

#endif
