/* SPDX-License-Identifier: MIT */
/* Reads and writes RFC 6455 frames.  It must not touch a socket, a clock or a
   source of randomness, nor allocate for a message that arrives in one piece.

   Design notes.  A whole unfragmented message takes a short way, take_whole(),
   which only ever accepts: whatever is unusual goes the long way, where the
   header is judged byte by byte, so that how the network cuts the stream can
   change neither the verdict nor the byte at which it falls.  What must be
   kept goes to |join|: the bytes of a message, and behind them those of a
   control frame that came in pieces between its fragments. */
#include "ws.h"

#include "sipwire.h"
#include "utf8.h"

#include <stdlib.h>
#include <string.h>

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0F, MASKED = 0x80 };

/* The length codes that announce 2 and 8 more bytes of length. */
enum { LENGTH16 = 126, LENGTH64 = 127 };

static bool is_control(uint8_t opcode) {
  return opcode >= SW_WS_CLOSE;
}

void sw_ws_init(struct sw_ws *ws, bool masked_peer, size_t max_message) {
  *ws = (struct sw_ws){.max_message = max_message,
                       .length_end = 2,
                       .utf8 = SW_UTF8_START,
                       .masked_peer = masked_peer};
}

void sw_ws_clear(struct sw_ws *ws) {
  free(ws->join);
  ws->join = NULL;
  ws->join_length = ws->join_capacity = ws->message_length = 0;
  ws->delivered = false;
}

bool sw_ws_idle(const struct sw_ws *ws) {
  return ws->finished || (!ws->header_length && !ws->message_opcode);
}

/* Below, a function that takes |item| returns whether it filled it in. */

static uint16_t close_code_for(int error) {
  switch (error) {
  case SIPWIRE_EUTF8:
    return 1007;
  case SIPWIRE_ETOO_BIG:
    return 1009;
  case SIPWIRE_ENOMEM:
    return 1011;
  default:
    return 1002;
  }
}

static bool fail(struct sw_ws *ws, struct sw_ws_item *item, int error,
                 const char *text) {
  sw_ws_clear(ws);
  ws->finished = true;
  *item = (struct sw_ws_item){.kind = SW_WS_GOT_VIOLATION,
                              .close_code = close_code_for(error),
                              .error = error,
                              .text = text};
  return true;
}

static bool fail_protocol(struct sw_ws *ws, struct sw_ws_item *item,
                          const char *text) {
  return fail(ws, item, SIPWIRE_EPROTOCOL, text);
}

static bool fail_utf8(struct sw_ws *ws, struct sw_ws_item *item) {
  return fail(ws, item, SIPWIRE_EUTF8, "text message is not UTF-8");
}

/* ---- What did not arrive whole ----------------------------------------- */

static bool grow(struct sw_ws *ws, size_t needed) {
  size_t capacity = needed;
  if (ws->join_capacity <= SIZE_MAX / 2 && 2 * ws->join_capacity > needed)
    capacity = 2 * ws->join_capacity;
  /* After a last fragment nothing follows.  Not so after a control frame:
     cutting there would make the message's growth quadratic. */
  if (ws->fin && !is_control(ws->opcode) && capacity - needed > ws->remaining)
    capacity = needed + (size_t)ws->remaining;
  uint8_t *join = realloc(ws->join, capacity);
  if (!join)
    return false;
  ws->join = join;
  ws->join_capacity = capacity;
  return true;
}

static bool collect(struct sw_ws *ws, const uint8_t *bytes, size_t length) {
  if (!length)
    return true;
  size_t needed = ws->join_length + length;
  if (needed > ws->join_capacity && !grow(ws, needed))
    return false;
  memcpy(ws->join + ws->join_length, bytes, length);
  ws->join_length = needed;
  return true;
}

static void release_delivered(struct sw_ws *ws) {
  ws->delivered = false;
  ws->join_length = ws->message_length;
  if (!ws->join_length)
    sw_ws_clear(ws);
}

/* ---- Headers ----------------------------------------------------------- */

static bool header_complete(const struct sw_ws *ws) {
  return ws->header_length == ws->length_end + (ws->masked_peer ? 4 : 0);
}

static const char *judge_first_byte(const struct sw_ws *ws, uint8_t byte) {
  uint8_t opcode = byte & OPCODE;
  if (byte & RESERVED)
    return "reserved bit set without an extension";
  if (opcode > SW_WS_PONG || (opcode > SW_WS_BINARY && opcode < SW_WS_CLOSE))
    return "unknown opcode";
  if (is_control(opcode))
    return byte & FIN ? NULL : "fragmented control frame";
  if (opcode == SW_WS_CONTINUATION)
    return ws->message_opcode ? NULL : "continuation of no message";
  return ws->message_opcode ? "new message inside a fragmented one" : NULL;
}

static bool take_first_byte(struct sw_ws *ws, uint8_t byte,
                            struct sw_ws_item *item) {
  const char *fault = judge_first_byte(ws, byte);
  if (fault)
    return fail_protocol(ws, item, fault);
  ws->fin = byte & FIN;
  ws->opcode = byte & OPCODE;
  if (ws->opcode == SW_WS_TEXT || ws->opcode == SW_WS_BINARY)
    ws->message_opcode = ws->opcode;
  return false;
}

static bool check_size(struct sw_ws *ws, struct sw_ws_item *item) {
  if (is_control(ws->opcode) ||
      ws->remaining <= ws->max_message - ws->message_length)
    return false;
  return fail(ws, item, SIPWIRE_ETOO_BIG, "message exceeds the size limit");
}

static bool take_second_byte(struct sw_ws *ws, uint8_t byte,
                             struct sw_ws_item *item) {
  bool masked = byte & MASKED;
  uint8_t length = byte & (MASKED - 1);
  if (masked != ws->masked_peer)
    return fail_protocol(ws, item,
                         masked ? "masked frame from a server"
                                : "unmasked frame from a client");
  if (is_control(ws->opcode) && length > SW_WS_CONTROL_MAX)
    return fail_protocol(ws, item, "control frame above 125 bytes");
  if (ws->opcode == SW_WS_CLOSE && length == 1)
    return fail_protocol(ws, item, "close frame with half a close code");
  ws->length_end = length == LENGTH64 ? 10 : length == LENGTH16 ? 4 : 2;
  ws->remaining = length < LENGTH16 ? length : 0;
  return check_size(ws, item);
}

static bool take_length_byte(struct sw_ws *ws, uint8_t byte,
                             struct sw_ws_item *item) {
  unsigned missing_bits = 8u * (unsigned)(ws->length_end - ws->header_length);
  uint64_t shortest = ws->length_end == 4 ? LENGTH16 : UINT64_C(1) << 16;
  ws->remaining |= (uint64_t)byte << missing_bits;
  uint64_t most = ws->remaining | ((UINT64_C(1) << missing_bits) - 1);
  if (ws->remaining >> 63)
    return fail_protocol(ws, item, "frame length above 63 bits");
  if (most < shortest)
    return fail_protocol(ws, item, "frame length not in its shortest form");
  return check_size(ws, item);
}

static bool take_header_byte(struct sw_ws *ws, uint8_t byte,
                             struct sw_ws_item *item) {
  uint8_t position = ws->header_length++;
  if (position == 0)
    return take_first_byte(ws, byte, item);
  if (position == 1)
    return take_second_byte(ws, byte, item);
  if (position < ws->length_end)
    return take_length_byte(ws, byte, item);
  ws->mask[position - ws->length_end] = byte;
  return false;
}

static bool take_header(struct sw_ws *ws, const uint8_t *bytes, size_t length,
                        size_t *used, struct sw_ws_item *item) {
  while (*used < length && !header_complete(ws))
    if (take_header_byte(ws, bytes[(*used)++], item))
      return true;
  return false;
}

/* ---- Payloads ---------------------------------------------------------- */

static bool got_message(struct sw_ws *ws, const uint8_t *data, size_t length,
                        struct sw_ws_item *item) {
  *item = (struct sw_ws_item){.kind = SW_WS_GOT_MESSAGE,
                              .data = data,
                              .length = length,
                              .binary = ws->message_opcode == SW_WS_BINARY};
  ws->message_opcode = 0;
  ws->message_length = 0;
  return true;
}

/* Known as well is that a text goes wrong whose last character does not fit
   in what is left of it. */
static bool text_holds(struct sw_ws *ws, const uint8_t *bytes, size_t length) {
  ws->utf8 = sw_utf8_feed(ws->utf8, bytes, length);
  return ws->utf8 != SW_UTF8_BAD &&
         !(ws->fin && sw_utf8_missing(ws->utf8) > ws->remaining);
}

static bool take_data(struct sw_ws *ws, const uint8_t *bytes, size_t length,
                      struct sw_ws_item *item) {
  bool last = ws->fin && !ws->remaining;
  if (ws->message_opcode == SW_WS_TEXT && !text_holds(ws, bytes, length))
    return fail_utf8(ws, item);
  if (!ws->remaining)
    ws->header_length = 0;
  if (last && !ws->join_length)
    return got_message(ws, bytes, length, item);
  if (!collect(ws, bytes, length))
    return fail(ws, item, SIPWIRE_ENOMEM, "no memory to join a message");
  ws->message_length = ws->join_length;
  if (!last)
    return false;
  ws->delivered = true;
  return got_message(ws, ws->join, ws->join_length, item);
}

static unsigned read_code(const uint8_t *data) {
  return (unsigned)data[0] << 8 | data[1];
}

/* The code may be illegal whatever its second byte is going to be. */
static bool code_holds(const uint8_t *data, size_t length) {
  if (length >= 2)
    return sw_ws_close_code_valid(read_code(data));
  for (unsigned low = 0; low <= 0xFF; low++)
    if (sw_ws_close_code_valid((unsigned)data[0] << 8 | low))
      return true;
  return false;
}

static bool reason_holds(const struct sw_ws *ws, const uint8_t *data,
                         size_t length) {
  uint8_t state = sw_utf8_feed(SW_UTF8_START, data, length);
  return state != SW_UTF8_BAD && sw_utf8_missing(state) <= ws->remaining;
}

static bool take_close(struct sw_ws *ws, const uint8_t *data, size_t length,
                       struct sw_ws_item *item) {
  if (length && !code_holds(data, length))
    return fail_protocol(ws, item, "illegal close code");
  if (length > 2 && !reason_holds(ws, data + 2, length - 2))
    return fail(ws, item, SIPWIRE_EUTF8, "close reason is not UTF-8");
  if (ws->remaining)
    return false;
  *item = (struct sw_ws_item){.kind = SW_WS_GOT_CLOSE,
                              .data = data,
                              .close_code = SIPWIRE_CLOSE_NO_STATUS};
  if (length) {
    item->close_code = (uint16_t)read_code(data);
    item->data = data + 2;
    item->length = length - 2;
  }
  ws->finished = true;
  return true;
}

static bool take_control(struct sw_ws *ws, const uint8_t *data, size_t length,
                         struct sw_ws_item *item) {
  if (ws->remaining && !length)
    return false; /* nothing of it is here, and |join| may be NULL */
  if (ws->remaining || ws->join_length > ws->message_length) {
    if (!collect(ws, data, length))
      return fail(ws, item, SIPWIRE_ENOMEM, "no memory for a control frame");
    ws->delivered = !ws->remaining;
    data = ws->join + ws->message_length;
    length = ws->join_length - ws->message_length;
  }
  if (!ws->remaining)
    ws->header_length = 0;
  if (ws->opcode == SW_WS_CLOSE)
    return take_close(ws, data, length, item);
  if (ws->remaining)
    return false;
  *item = (struct sw_ws_item){.data = data, .length = length};
  item->kind = ws->opcode == SW_WS_PING ? SW_WS_GOT_PING : SW_WS_GOT_PONG;
  return true;
}

static void unmask(struct sw_ws *ws, uint8_t *bytes, size_t length) {
  uint8_t mask[4];
  sw_ws_mask(bytes, bytes, length, ws->mask);
  memcpy(mask, ws->mask, sizeof mask);
  for (size_t i = 0; i < sizeof mask; i++)
    ws->mask[i] = mask[(i + length) % sizeof mask];
}

static bool take_payload(struct sw_ws *ws, uint8_t *bytes, size_t length,
                         size_t *used, struct sw_ws_item *item) {
  if (length > ws->remaining)
    length = (size_t)ws->remaining;
  if (ws->masked_peer)
    unmask(ws, bytes, length);
  ws->remaining -= length;
  *used += length;
  return is_control(ws->opcode) ? take_control(ws, bytes, length, item)
                                : take_data(ws, bytes, length, item);
}

/* ---- The parser -------------------------------------------------------- */

static bool take_whole(struct sw_ws *ws, uint8_t *bytes, size_t length,
                       size_t *used, struct sw_ws_item *item) {
  if (length < 4 || ws->header_length || ws->message_opcode)
    return false;
  bool text = bytes[0] == (FIN | SW_WS_TEXT);
  if (!text && bytes[0] != (FIN | SW_WS_BINARY))
    return false;
  size_t start = 2, payload = bytes[1] ^ (ws->masked_peer ? MASKED : 0u);
  if (payload == LENGTH16) {
    payload = (size_t)bytes[2] << 8 | bytes[3];
    if (payload < LENGTH16)
      return false;
    start = 4;
  } else if (payload > LENGTH16) {
    return false; /* a rare length, or a fault in masking */
  }
  uint8_t *mask = bytes + start;
  if (ws->masked_peer)
    start += 4;
  if (length < start || payload > length - start || payload > ws->max_message)
    return false;
  if (ws->masked_peer)
    sw_ws_mask(bytes + start, bytes + start, payload, mask);
  *used = start + payload;
  if (text && !sw_utf8_valid(bytes + start, payload))
    return fail_utf8(ws, item);
  *item = (struct sw_ws_item){.kind = SW_WS_GOT_MESSAGE,
                              .data = bytes + start,
                              .length = payload,
                              .binary = !text};
  return true;
}

void sw_ws_next(struct sw_ws *ws, uint8_t *bytes, size_t length, size_t *used,
                struct sw_ws_item *item) {
  *used = 0;
  if (ws->delivered)
    release_delivered(ws);
  if (ws->finished) {
    sw_ws_clear(ws);
    *used = length;
  } else if (take_whole(ws, bytes, length, used, item)) {
    return;
  }
  while (*used < length) {
    if (take_header(ws, bytes, length, used, item))
      return;
    if (header_complete(ws) &&
        take_payload(ws, bytes + *used, length - *used, used, item))
      return;
  }
  *item = (struct sw_ws_item){.kind = SW_WS_NEED_MORE};
}

/* ---- Writing ----------------------------------------------------------- */

size_t sw_ws_header_size(uint64_t length, bool masked) {
  size_t size = length < LENGTH16 ? 2 : length <= UINT16_MAX ? 4 : 10;
  return size + (masked ? 4 : 0);
}

size_t sw_ws_write_header(uint8_t *out, enum sw_ws_opcode opcode,
                          uint64_t length, const uint8_t *mask) {
  uint8_t masked = mask ? MASKED : 0;
  size_t size = sw_ws_header_size(length, false);
  out[0] = (uint8_t)(FIN | opcode);
  if (size == 2) {
    out[1] = (uint8_t)(masked | length);
  } else {
    out[1] = masked | (size == 4 ? LENGTH16 : LENGTH64);
    for (size_t i = size; i > 2; length >>= 8)
      out[--i] = (uint8_t)length;
  }
  if (!mask)
    return size;
  memcpy(out + size, mask, 4);
  return size + 4;
}

static void mask_8(uint8_t *out, const uint8_t *in, uint64_t mask) {
  uint64_t word;
  memcpy(&word, in, 8);
  word ^= mask;
  memcpy(out, &word, 8);
}

void sw_ws_mask(uint8_t *out, const uint8_t *in, size_t length,
                const uint8_t mask[4]) {
  uint32_t half;
  size_t i = 0;
  memcpy(&half, mask, sizeof half);
  uint64_t wide = (uint64_t)half << 32 | half;
  for (; length - i >= 32; i += 32) {
    mask_8(out + i, in + i, wide);
    mask_8(out + i + 8, in + i + 8, wide);
    mask_8(out + i + 16, in + i + 16, wide);
    mask_8(out + i + 24, in + i + 24, wide);
  }
  for (; length - i >= 8; i += 8)
    mask_8(out + i, in + i, wide);
  for (; i < length; i++)
    out[i] = in[i] ^ mask[i % 4];
}

bool sw_ws_close_code_valid(unsigned code) {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
         (code >= 3000 && code <= 4999);
}

static size_t fitting(const char *reason, size_t length) {
  if (length <= SW_WS_REASON_MAX)
    return length;
  length = SW_WS_REASON_MAX;
  while (length && ((uint8_t)reason[length] & 0xC0) == 0x80)
    length--;
  return length;
}

size_t sw_ws_write_close_payload(uint8_t *out, unsigned code,
                                 const char *reason, size_t reason_length) {
  if (code == SIPWIRE_CLOSE_NO_STATUS)
    return 0;
  out[0] = (uint8_t)(code >> 8);
  out[1] = (uint8_t)code;
  size_t length = fitting(reason, reason_length);
  if (length)
    memcpy(out + 2, reason, length);
  return 2 + length;
}
