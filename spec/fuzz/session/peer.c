/* SPDX-License-Identifier: MIT */
/* The other ends of the connections, and what the bytes of both sides mean by
   a second, slower reading of RFC 6455: whole frames of a whole buffer. */
#include "session.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "../fuzz.h"

struct peer peers[PEERS];
unsigned peer_count;
bool raw_mode, proxied;
size_t message_limit;

/* ---- Bytes ------------------------------------------------------------- */

static void append(struct bytes *bytes, const void *data, size_t length) {
  if (!length)
    return;
  if (bytes->capacity - bytes->length < length) {
    bytes->capacity = 2 * (bytes->length + length);
    bytes->data = steady_realloc(bytes->data, bytes->capacity);
  }
  memcpy(bytes->data + bytes->length, data, length);
  bytes->length += length;
}

static void say(struct speech *speech, const void *data, size_t length,
                bool binary) {
  struct said said = {speech->all.length, length, binary};
  append(&speech->all, data, length);
  append(&speech->items, &said, sizeof said);
}

size_t said_count(const struct speech *speech) {
  return speech->items.length / sizeof(struct said);
}

const struct said *said_at(const struct speech *speech, size_t index) {
  REQUIRE(index < said_count(speech));
  return (const struct said *)(const void *)speech->items.data + index;
}

const struct promise *promise_at(const struct peer *peer, size_t index) {
  REQUIRE(index < peer->promises.length / sizeof(struct promise));
  return (const struct promise *)(const void *)peer->promises.data + index;
}

void peer_promise(struct peer *peer, struct promise promise) {
  append(&peer->promises, &promise, sizeof promise);
}

uint64_t sum_of(const uint8_t *data, size_t length) {
  uint64_t sum = 14695981039346656037u;
  for (size_t i = 0; i < length; i++)
    sum = (sum ^ data[i]) * 1099511628211u;
  return sum;
}

/* Where the first empty line at or behind |from| ends, or 0. */
static size_t head_end(const struct bytes *bytes, size_t from) {
  const uint8_t *at = bytes->data;
  for (size_t i = from; i + 4 <= bytes->length; i++)
    if (at[i] == '\r' && at[i + 1] == '\n' && at[i + 2] == '\r' &&
        at[i + 3] == '\n')
      return i + 4;
  return 0;
}

/* ---- Making ------------------------------------------------------------ */

static void speech_reset(struct speech *speech) {
  speech->all.length = speech->items.length = 0;
}

/* Buffers are kept from run to run. */
static void peer_reset(struct peer *peer) {
  struct peer kept = *peer;
  memset(peer, 0, sizeof *peer);
  peer->in = kept.in;
  peer->out = kept.out;
  peer->messages = kept.messages;
  peer->pings = kept.pings;
  peer->promises = kept.promises;
  peer->joined = kept.joined;
  peer->joined.length = 0;
  peer->in.length = peer->out.length = peer->promises.length = 0;
  speech_reset(&peer->messages);
  speech_reset(&peer->pings);
  peer->room = peer->chunk = SIZE_MAX;
}

void peers_reset(void) {
  peer_count = 0;
}

struct peer *peer_new(uint16_t port, bool is_client) {
  if (peer_count == PEERS)
    return NULL;
  struct peer *peer = &peers[peer_count];
  peer_reset(peer);
  peer->number = peer_count++;
  peer->port = port;
  peer->is_client = is_client;
  return peer;
}

/* ---- What it says ------------------------------------------------------ */

/* A frame with its payload, unmasked, in whole. */
struct frame {
  uint8_t first, opcode;
  bool fin, masked;
  size_t header, length;
  uint8_t *payload;
};

static size_t big_endian(const uint8_t *at, size_t count) {
  uint64_t value = 0;
  while (count--)
    value = value << 8 | *at++;
  return (size_t)value;
}

/* False: not all of it is there.  The payload is a copy, valid until the next
   call. */
static bool read_frame(const struct bytes *bytes, size_t from,
                       struct frame *frame, bool *bad) {
  static struct bytes payload;
  const uint8_t *at = bytes->data + from;
  size_t have = bytes->length - from;
  if (have < 2)
    return false;
  *frame = (struct frame){at[0], at[0] & 15,  at[0] >> 7, at[1] >> 7,
                          2,     at[1] & 127, NULL};
  size_t size = frame->length == 126 ? 2 : frame->length == 127 ? 8 : 0;
  if (have < 2 + size)
    return false;
  if (size) {
    frame->length = big_endian(at + 2, size);
    *bad = frame->length < (size == 2 ? 126u : 65536u) || frame->length >> 63;
  }
  frame->header = 2 + size + (frame->masked ? 4 : 0);
  if (*bad)
    return true;
  if (have < frame->header || have - frame->header < frame->length)
    return false;
  payload.length = 0;
  append(&payload, at + frame->header, frame->length);
  frame->payload = payload.data;
  for (size_t i = 0; frame->masked && i < frame->length; i++)
    frame->payload[i] ^= at[frame->header - 4 + i % 4];
  return true;
}

static bool header_is_bad(const struct peer *peer, uint8_t first,
                          uint8_t second) {
  uint8_t opcode = first & 15, length = second & 127;
  bool control = opcode >= 8;
  if (first & 0x70 || (opcode > 2 && opcode < 8) || opcode > 10)
    return true;
  if (!!(second & 0x80) != peer->is_client)
    return true;
  if (control)
    return !(first & 0x80) || length > 125 || (opcode == 8 && length == 1);
  if ((opcode == 0) != (peer->opcode != 0))
    return true;
  return length < 126 && length > message_limit - peer->joined.length;
}

static bool close_is_good(const struct frame *frame) {
  return !frame->length ||
         (close_code_is_valid((unsigned)big_endian(frame->payload, 2)) &&
          utf8_is_valid(frame->payload + 2, frame->length - 2));
}

static void hear_message(struct peer *peer, const uint8_t *data,
                         size_t length) {
  bool binary = peer->opcode == 2;
  if (!binary && !utf8_is_valid(data, length)) {
    peer->over = true;
    return;
  }
  bool ask = length == 4 && !memcmp(data, "\r\n\r\n", 4);
  bool answer = length == 2 && !memcmp(data, "\r\n", 2);
  peer->crlfcrlfs += ask;
  peer->crlfs += answer;
  if (raw_mode || (length && !ask && !answer))
    say(&peer->messages, data, length, binary);
}

static void hear_data(struct peer *peer, const struct frame *frame) {
  if (frame->opcode)
    peer->opcode = frame->opcode;
  if (frame->length > message_limit - peer->joined.length) {
    peer->over = true;
    return;
  }
  append(&peer->joined, frame->payload, frame->length);
  if (!frame->fin)
    return;
  hear_message(peer, peer->joined.data, peer->joined.length);
  peer->joined.length = 0;
  peer->opcode = 0;
}

static void read_said(struct peer *peer) {
  struct frame frame;
  while (!peer->over && peer->in.length - peer->at >= 2) {
    bool bad = header_is_bad(peer, peer->in.data[peer->at],
                             peer->in.data[peer->at + 1]);
    if (!bad && !read_frame(&peer->in, peer->at, &frame, &bad))
      return;
    peer->over = bad;
    if (bad)
      return;
    if (frame.opcode == 8) {
      peer->over = true;
      peer->closed = close_is_good(&frame);
    } else if (frame.opcode == 9) {
      say(&peer->pings, frame.payload, frame.length, false);
    } else if (frame.opcode != 10) {
      hear_data(peer, &frame);
    }
    peer->at += frame.header + frame.length;
  }
}

static bool needs_tunnel(const struct peer *peer) {
  return proxied && !peer->is_client && !peer->tunneled;
}

static void find_frames(struct peer *peer, size_t before) {
  size_t end, from = before > peer->at + 3 ? before - 3 : peer->at;
  for (; !peer->frames_at && (end = head_end(&peer->in, from)); from = end) {
    const uint8_t *status = peer->in.data + peer->at + 9;
    bool interim = !peer->is_client && end - peer->at > 12 &&
                   status[0] == '1' && memcmp(status, "101", 3);
    bool tunnel = needs_tunnel(peer) && end - peer->at > 12 && *status == '2';
    peer->at = end;
    peer->tunneled = peer->tunneled || tunnel;
    if (!interim && !tunnel)
      peer->frames_at = end;
  }
}

void peer_says(struct peer *peer, const void *data, size_t length) {
  if (peer->fin || peer->rst)
    return;
  size_t before = peer->in.length;
  append(&peer->in, data, length);
  if (!peer->frames_at)
    find_frames(peer, before);
  if (peer->frames_at)
    read_said(peer);
}

/* ---- What it hears ----------------------------------------------------- */

static void hear_close(struct peer *peer, const struct frame *frame) {
  REQUIRE(frame->length != 1 && close_is_good(frame));
  peer->out_closed = true;
  peer->out_close_code =
      frame->length ? (unsigned)big_endian(frame->payload, 2) : 1005;
}

/* Pongs answer the pings in their order, with their bytes. */
static void hear_pong(struct peer *peer, const struct frame *frame) {
  const struct said *ping = said_at(&peer->pings, peer->pongs++);
  REQUIRE(frame->length == ping->length);
  REQUIRE(
      !frame->length ||
      !memcmp(frame->payload, peer->pings.all.data + ping->at, frame->length));
}

/* The next message that was accepted by send, or an answer, or a question of
   our own to keep the connection alive. */
static void hear_text(struct peer *peer, const struct frame *frame) {
  bool binary = frame->opcode == 2;
  size_t promised = peer->promises.length / sizeof(struct promise);
  REQUIRE(binary || utf8_is_valid(frame->payload, frame->length));
  if (peer->kept < promised) {
    const struct promise *promise = promise_at(peer, peer->kept);
    if (promise->length == frame->length && promise->binary == binary &&
        promise->sum == sum_of(frame->payload, frame->length)) {
      peer->kept++;
      return;
    }
  }
  if (frame->length == 2 && !memcmp(frame->payload, "\r\n", 2)) {
    peer->answers++;
  } else {
    REQUIRE(frame->length == 4 && !memcmp(frame->payload, "\r\n\r\n", 4));
    peer->keep_alives++;
  }
}

static void read_heard(struct peer *peer) {
  struct frame frame;
  bool bad = false;
  while (read_frame(&peer->out, peer->out_at, &frame, &bad)) {
    REQUIRE(!bad && frame.fin && !(frame.first & 0x70));
    REQUIRE(frame.masked != peer->is_client);
    REQUIRE(!peer->out_closed); /* RFC 6455 section 5.5.1 */
    REQUIRE(frame.opcode < 8 || frame.length <= 125);
    if (frame.opcode == 8)
      hear_close(peer, &frame);
    else if (frame.opcode == 9)
      peer->pings_got++;
    else if (frame.opcode == 10)
      hear_pong(peer, &frame);
    else
      hear_text(peer, &frame);
    REQUIRE(frame.opcode == 1 || frame.opcode == 2 ||
            (frame.opcode > 7 && frame.opcode < 11));
    peer->out_at += frame.header + frame.length;
  }
}

void peer_hears(struct peer *peer, const uint8_t *data, size_t length) {
  append(&peer->out, data, length);
  size_t end;
  while (!peer->out_frames_at && (end = head_end(&peer->out, peer->out_at))) {
    if (memcmp(peer->out.data + peer->out_at, "CONNECT ", 8))
      peer->out_frames_at = end;
    peer->out_at = end;
  }
  if (!peer->out_frames_at || peer->out.length == peer->out_at)
    return;
  /* no frame before the handshake is over on both sides */
  REQUIRE(peer->frames_at);
  read_heard(peer);
}

/* ---- The handshake ----------------------------------------------------- */

static const char key_name[] = "\r\nSec-WebSocket-Key: ";

static const char *find_key(const struct peer *peer) {
  const struct bytes *out = &peer->out;
  for (size_t i = 0; i + sizeof key_name + 24 < out->length; i++)
    if (!memcmp(out->data + i, key_name, sizeof key_name - 1))
      return (const char *)out->data + i + sizeof key_name - 1;
  return NULL;
}

static void accept_of(const char *key, char *accept) {
  unsigned char digest[SHA_DIGEST_LENGTH];
  char text[64];
  snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key);
  SHA1((const unsigned char *)text, 60, digest);
  EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
}

bool peer_shakes_hands(struct peer *peer, bool wordy) {
  static const char request[] =
      "GET /x HTTP/1.1\r\nHost: h\r\n"
      "Upgrade: websocket\r\n"
      "Connection: keep-alive, Upgrade\r\n"
      "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
      "Sec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Protocol: xmpp, sip\r\n\r\n";
  static const char tunnel[] = "HTTP/1.1 200 OK\r\n\r\n";
  char response[400], accept[32];
  const char *key = peer->is_client ? NULL : find_key(peer);
  if (peer->frames_at)
    return false;
  if (needs_tunnel(peer)) {
    peer_says(peer, tunnel, sizeof tunnel - 1);
    return true;
  }
  if (peer->is_client) {
    peer_says(peer, request, sizeof request - 1);
    return true;
  }
  if (!key)
    return false;
  accept_of(key, accept);
  int length =
      snprintf(response, sizeof response,
               "%sHTTP/1.1 101 Whatever\r\nUpgrade: WebSocket\r\n%s"
               "Connection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
               "Sec-WebSocket-Protocol: sip\r\n\r\n",
               wordy ? "HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" : "",
               wordy ? "Content-Length: 0\r\nServer: x\r\n" : "", accept);
  peer_says(peer, response, (size_t)length);
  return true;
}

void peer_frame(struct peer *peer, unsigned first_byte, const uint8_t *data,
                size_t length) {
  static const uint8_t mask[4] = {0x11, 0xFE, 0, 0x80};
  uint8_t header[14] = {(uint8_t)first_byte};
  uint8_t masked = peer->is_client ? 0x80 : 0;
  size_t size = 2;
  uint8_t *copy = steady_realloc(NULL, length + 1);
  if (length < 126) {
    header[1] = (uint8_t)(masked | length);
  } else {
    size = length < 65536 ? 4 : 10;
    header[1] = masked | (size == 4 ? 126 : 127);
    for (size_t i = 2; i < size; i++)
      header[i] = (uint8_t)((uint64_t)length >> 8 * (size - 1 - i));
  }
  if (masked)
    memcpy(header + size, mask, 4);
  for (size_t i = 0; i < length; i++)
    copy[i] = data[i] ^ (masked ? mask[i % 4] : 0);
  peer_says(peer, header, size + (masked ? 4 : 0));
  peer_says(peer, copy, length);
  steady_free(copy);
}
