/* SPDX-License-Identifier: MIT */
#ifndef SW_WS_H
#define SW_WS_H

/* RFC 6455 framing on a byte stream, client and server side: parse, unmask,
   join fragments, check control frames, close codes, UTF-8 and limits; write
   frames.  Pure: no socket, no clock, no randomness, and no allocation but
   for messages that do not arrive whole in one piece. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum sw_ws_opcode {
  SW_WS_CONTINUATION = 0,
  SW_WS_TEXT = 1,
  SW_WS_BINARY = 2,
  SW_WS_CLOSE = 8,
  SW_WS_PING = 9,
  SW_WS_PONG = 10
};

/* The longest control frame payload (RFC 6455 section 5.5) and the longest
   close reason that fits beside the code. */
enum { SW_WS_CONTROL_MAX = 125, SW_WS_REASON_MAX = 123 };

/* The longest frame header that sw_ws_write_header() makes. */
enum { SW_WS_HEADER_MAX = 14 };

/* ---- Reading ----------------------------------------------------------- */

/* A parser of one direction of one connection.  Embedded in its owner; the
   fields are the parser's own. */
struct sw_ws {
  uint64_t remaining; /* payload bytes of the current frame to come; while
                         its length is read: the least it can become */
  size_t max_message; /* limit of a joined message */
  uint8_t *join;      /* what did not arrive whole: a message's bytes, and
                         behind them those of a control frame */
  size_t join_length, join_capacity;
  size_t message_length; /* bytes of |join| that are the message's */
  uint8_t mask[4];       /* for the next payload byte and on */
  uint8_t header_length; /* bytes of the current frame's header seen */
  uint8_t length_end;    /* where in the header the length ends: 2, 4, 10 */
  uint8_t opcode, message_opcode; /* the latter 0 between messages */
  uint8_t utf8; /* of the text so far; SW_UTF8_START between texts */
  bool masked_peer, fin;
  bool delivered; /* the last item's data is in |join| */
  bool finished;
};

enum sw_ws_kind {
  SW_WS_NEED_MORE,    /* all bytes were used, nothing is complete */
  SW_WS_GOT_MESSAGE,  /* data, length, binary */
  SW_WS_GOT_PING,     /* data, length: answer with a pong of the same bytes */
  SW_WS_GOT_PONG,     /* data, length */
  SW_WS_GOT_CLOSE,    /* close_code (1005 if absent), data, length: reason */
  SW_WS_GOT_VIOLATION /* error, close_code to send, text */
};

struct sw_ws_item {
  enum sw_ws_kind kind;
  const uint8_t *data;
  size_t length;
  bool binary;
  uint16_t close_code;
  int error;        /* SIPWIRE_EPROTOCOL, _EUTF8, _ETOO_BIG or _ENOMEM; their
                       close codes are 1002, 1007, 1009 and 1011 */
  const char *text; /* what was wrong; static */
};

/* sw_ws_init prepares a parser.  |masked_peer|: the peer is a client, so its
   frames must be masked; otherwise they must not be (RFC 6455 section 5.1).
   |max_message| is in bytes, at least 1. */
void sw_ws_init(struct sw_ws *ws, bool masked_peer, size_t max_message);

/* sw_ws_clear releases what the parser holds. */
void sw_ws_clear(struct sw_ws *ws);

/* sw_ws_next parses on.  It is to be called again with what is left
   (|bytes| + |*used|, |length| - |*used|) until it gives SW_WS_NEED_MORE, and
   then with the next bytes from the network.  |bytes| may be unmasked in
   place.  item->data points into |bytes| or into the parser and is valid
   until the next call.

   A violation is reported as soon as the byte that commits it is seen, and a
   message is too big as soon as its announced or received length says so;
   never more is stored than was received.  After SW_WS_GOT_CLOSE and
   SW_WS_GOT_VIOLATION the parser is finished: it uses up and ignores all
   further bytes. */
void sw_ws_next(struct sw_ws *ws, uint8_t *bytes, size_t length, size_t *used,
                struct sw_ws_item *item);

/* sw_ws_idle tells whether the parser stands between two messages, holding no
   part of one, or is finished: a connection's end here cuts nothing off. */
bool sw_ws_idle(const struct sw_ws *ws);

/* ---- Writing ----------------------------------------------------------- */

/* sw_ws_header_size returns the size of the header that sw_ws_write_header
   makes for a payload of |length| bytes. */
size_t sw_ws_header_size(uint64_t length, bool masked);

/* sw_ws_write_header writes the header of an unfragmented frame, FIN set, in
   the shortest length form.  |mask| is four unpredictable bytes (RFC 6455
   section 5.3) or NULL for a server's frame.  |out| has room for
   SW_WS_HEADER_MAX bytes.  Returns the bytes written. */
size_t sw_ws_write_header(uint8_t *out, enum sw_ws_opcode opcode,
                          uint64_t length, const uint8_t *mask);

/* sw_ws_mask writes |length| bytes of |in|, masked with |mask| from its first
   byte on, to |out|.  |in| == |out| is allowed, other overlap is not. */
void sw_ws_mask(uint8_t *out, const uint8_t *in, size_t length,
                const uint8_t mask[4]);

/* sw_ws_close_code_valid tells whether |code| may stand in a close frame
   (RFC 6455 section 7.4 and the IANA registry: 1000-1003, 1007-1014,
   3000-4999). */
bool sw_ws_close_code_valid(unsigned code);

/* sw_ws_write_close_payload writes code and reason; |reason| is cut at a
   character's boundary to SW_WS_REASON_MAX bytes.  |out| has room for
   SW_WS_CONTROL_MAX bytes.  Code 1005 makes an empty payload.  Returns the
   bytes written. */
size_t sw_ws_write_close_payload(uint8_t *out, unsigned code,
                                 const char *reason, size_t reason_length);

#endif
