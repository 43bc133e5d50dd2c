/* SPDX-License-Identifier: MIT */
#ifndef SW_URI_H
#define SW_URI_H

/* WebSocket URIs (RFC 6455 section 3, RFC 3986).  Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

/* Longest URI, in bytes, and longest host name (RFC 1035 section 2.3.4). */
enum { SW_URI_MAX = 8192, SW_URI_HOST_MAX = 253 };

/* A parsed URI; the slices point into its text. */
struct sw_uri {
  bool secure; /* wss */
  bool ipv6_literal;
  bool ip_literal;          /* IPv4 or IPv6 address, not a name */
  bool default_port;        /* |port| is what the scheme implies */
  uint16_t port;            /* 1..65535 */
  struct sw_slice host;     /* without brackets, case as given */
  struct sw_slice target;   /* path and query as given, maybe empty */
  struct sw_slice userinfo; /* a proxy's, escapes and all; maybe empty */
};

/* sw_uri_parse reads "ws://host[:port][/path][?query]".  It returns NULL, or
   says what is wrong; the words begin with the part's name: "scheme ...",
   "userinfo ...", "host ...", "port ...", "path ...", "query ...",
   "fragment ...", "URL ...".  Static.

   The scheme is ws or wss in any case.  Userinfo and fragments are errors.
   An IPv6 literal stands in brackets, without a zone.  A host name is made of
   letters, digits, '-', '_' and '.', at most SW_URI_HOST_MAX bytes with
   labels of 1 to 63 (one dot at the end is allowed); all digits and dots must
   be an IPv4 address.  An empty port (as in "host:/") is the default one.
   Path and query take the characters of RFC 3986 with whole percent
   escapes. */
const char *sw_uri_parse(const char *text, struct sw_uri *uri);

/* sw_uri_parse_proxy likewise reads "http://[user[:password]@]host[:port]"; a
   "/" may stand at the end. */
const char *sw_uri_parse_proxy(const char *text, struct sw_uri *uri);

/* sw_uri_decode writes |text| with its percent escapes resolved and a NUL
   behind; |text.length| + 1 bytes are enough.  False if that would put a
   control byte there. */
bool sw_uri_decode(struct sw_slice text, char *out);

/* sw_uri_host_fault says likewise what is wrong with |host|, a name or an IP
   address without brackets. */
const char *sw_uri_host_fault(struct sw_slice host);

#endif
