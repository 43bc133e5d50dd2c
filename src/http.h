/* SPDX-License-Identifier: MIT */
#ifndef SW_HTTP_H
#define SW_HTTP_H

/* The upgrade of RFC 6455 section 4 with RFC 7118's subprotocol: writes the
   request and judges the response head; server side: the reverse.  Works on
   whole heads in memory.  Pure: hashing and base64 are the caller's. */

#include <stdbool.h>
#include <stddef.h>

#include "slice.h"

struct sipwire_header;

/* What RFC 6455 section 4.2.2 appends to the key before hashing. */
#define SW_HTTP_GUID "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

/* base64 of a 16-byte key, and of a SHA-1 */
enum { SW_HTTP_KEY_LENGTH = 24, SW_HTTP_ACCEPT_LENGTH = 28 };

/* ---- Heads ------------------------------------------------------------- */

/* A parsed head; all slices point into the text that was parsed. */
struct sw_http_head {
  int minor_version;      /* of HTTP/1.x */
  int status;             /* response */
  struct sw_slice reason; /* response */
  struct sw_slice method; /* request */
  struct sw_slice target; /* request */
  struct sw_slice fields; /* "Name: value\r\n" lines, without the empty one */
};

/* sw_http_head_length returns the length of the head at |text| with its empty
   line, or 0 if it is not complete.  |seen| bytes were looked at in vain
   before. */
size_t sw_http_head_length(const char *text, size_t length, size_t seen);

/* sw_http_plausible tells whether |text|, the beginning of what a server
   sent, can still become an HTTP/1.x response head. */
bool sw_http_plausible(const char *text, size_t length);

/* Parse a whole head (|length| as sw_http_head_length said).  Lines end in
   CRLF; a line without colon, an empty or malformed name, obsolete folding,
   or a control byte (NUL, bare CR or LF) anywhere is an error.  They return
   true, or false with a static |*text| that says what is wrong. */
bool sw_http_parse_response(const char *data, size_t length,
                            struct sw_http_head *head, const char **text);
bool sw_http_parse_request(const char *data, size_t length,
                           struct sw_http_head *head, const char **text);

/* sw_http_next_field walks |fields|.  |*offset| starts at 0.  Values come
   without surrounding blanks.  Returns false at the end. */
bool sw_http_next_field(struct sw_slice fields, size_t *offset,
                        struct sw_slice *name, struct sw_slice *value);

/* sw_http_field finds the first field called |name| (any case). */
bool sw_http_field(struct sw_slice fields, const char *name,
                   struct sw_slice *value);

/* ---- Checks for what users give ---------------------------------------- */

/* sw_http_header_fault returns NULL if the header may be sent along with the
   upgrade, or says why not: the name is not a token, the value has control
   bytes (but tab), or the name is one that the upgrade itself sets (Host,
   Upgrade, Connection, Content-Length, Transfer-Encoding, Sec-WebSocket-*). */
const char *sw_http_header_fault(const char *name, const char *value);

/* ---- Client side ------------------------------------------------------- */

struct sw_http_authority {
  struct sw_slice host; /* without brackets */
  bool ipv6_literal;    /* host is to be bracketed */
  unsigned port;
};

struct sw_http_upgrade {
  struct sw_http_authority authority;
  bool default_port;         /* then the port is left out of Host */
  struct sw_slice target;    /* "", "/path", "?query": as in the URL */
  const char *key;           /* SW_HTTP_KEY_LENGTH characters */
  const char *authorization; /* the answer to a 401, or NULL */
  const struct sipwire_header *headers;
  size_t header_count;
};

/* sw_http_write_upgrade writes the whole request with its empty line.  It
   returns the length, also when |size| was too small (as snprintf; 0 and NULL
   are allowed). */
size_t sw_http_write_upgrade(char *out, size_t size,
                             const struct sw_http_upgrade *upgrade);

/* sw_http_write_target writes the target of a request for a URL's |target|;
   sw_http_write_authority the one of a CONNECT. */
size_t sw_http_write_target(char *out, size_t size, struct sw_slice target);
size_t sw_http_write_authority(char *out, size_t size,
                               const struct sw_http_authority *authority);

/* sw_http_write_connect likewise asks a proxy for a tunnel to |authority| (RFC
   9110 section 9.3.6).  |authorization|: the answer to a 407, or NULL. */
size_t sw_http_write_connect(char *out, size_t size,
                             const struct sw_http_authority *authority,
                             const char *authorization);

/* sw_http_judge_response decides on the server's answer (RFC 6455 section
   4.1): 0 if it is a 101 with a right Upgrade, Connection, |accept|,
   subprotocol "sip", and no extension; else SIPWIRE_EHTTP or
   SIPWIRE_ESUBPROTOCOL and a static |*text|.  Other fields, Content-Length
   and Transfer-Encoding among them, do not matter. */
int sw_http_judge_response(const struct sw_http_head *head, const char *accept,
                           const char **text);

/* ---- Server side ------------------------------------------------------- */

/* sw_http_judge_request decides on a client's request (RFC 6455 section
   4.2.1, RFC 7118 section 4.1): 0 and the |*key|, or the status to refuse
   with (400, 405, 426, 505) and a static |*text|. */
int sw_http_judge_request(const struct sw_http_head *head, struct sw_slice *key,
                          const char **text);

/* sw_http_write_accept writes the 101; returns as sw_http_write_upgrade. */
size_t sw_http_write_accept(char *out, size_t size, const char *accept);

/* sw_http_write_refusal writes a final response without a body, with
   "Connection: close", and for 426 "Sec-WebSocket-Version: 13", for 405
   "Allow: GET".  |reason| NULL: the usual one. */
size_t sw_http_write_refusal(char *out, size_t size, int status,
                             const char *reason,
                             const struct sipwire_header *headers,
                             size_t header_count);

/* sw_http_reason_fault returns NULL if |reason| may stand in a status line, or
   says why not. */
const char *sw_http_reason_fault(const char *reason);

#endif
