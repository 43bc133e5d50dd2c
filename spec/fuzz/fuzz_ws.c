/* SPDX-License-Identifier: MIT */
/* The codec: a stream of frames is read in one piece, byte by byte, and in
   pieces of the input's choosing, from memory that ends where the piece ends.
   All must tell the same, and the same as a slow reading of RFC 6455. */
#include "fuzz.h"

#include "sipwire.h"
#include "utf8.h"
#include "ws.h"

/* What was told, one record behind the other. */
struct transcript {
  uint8_t *data;
  size_t length, capacity;
  bool over, violated, idle;
};

static void write_down(struct transcript *to, const void *data, size_t length) {
  if (to->capacity - to->length < length) {
    to->capacity = 2 * (to->length + length) + 64;
    to->data = realloc(to->data, to->capacity);
  }
  if (length)
    memcpy(to->data + to->length, data, length);
  to->length += length;
}

static void check_item(const struct sw_ws_item *item, size_t limit) {
  if (item->kind == SW_WS_GOT_VIOLATION) {
    REQUIRE(item->text && item->error);
    REQUIRE(item->close_code == (item->error == SIPWIRE_EUTF8      ? 1007
                                 : item->error == SIPWIRE_ETOO_BIG ? 1009
                                                                   : 1002));
    return;
  }
  REQUIRE(item->length <=
          (item->kind == SW_WS_GOT_MESSAGE ? limit : SW_WS_CONTROL_MAX));
  if (item->kind == SW_WS_GOT_MESSAGE && !item->binary)
    REQUIRE(utf8_is_valid(item->data, item->length));
  if (item->kind == SW_WS_GOT_CLOSE) {
    REQUIRE(close_code_is_valid(item->close_code) ||
            (item->close_code == SIPWIRE_CLOSE_NO_STATUS && !item->length));
    REQUIRE(item->length <= SW_WS_REASON_MAX);
    REQUIRE(utf8_is_valid(item->data, item->length));
  }
}

static void write_item(struct transcript *to, const struct sw_ws_item *item) {
  uint8_t kind = (uint8_t)item->kind, binary = item->binary;
  write_down(to, &kind, 1);
  write_down(to, &binary, 1);
  write_down(to, &item->close_code, sizeof item->close_code);
  write_down(to, &item->error, sizeof item->error);
  write_down(to, &item->text, sizeof item->text);
  write_down(to, &item->length, sizeof item->length);
  write_down(to, item->data, item->length);
}

static void feed(struct sw_ws *ws, const uint8_t *data, size_t length,
                 struct transcript *to) {
  uint8_t *piece = exact_copy(data, length);
  size_t at = 0;
  for (;;) {
    struct sw_ws_item item;
    size_t used = 0;
    sw_ws_next(ws, piece + at, length - at, &used, &item);
    REQUIRE(used <= length - at);
    at += used;
    if (item.kind == SW_WS_NEED_MORE)
      break;
    REQUIRE(!to->over && used);
    check_item(&item, ws->max_message);
    write_item(to, &item);
    to->violated = item.kind == SW_WS_GOT_VIOLATION;
    to->over = to->violated || item.kind == SW_WS_GOT_CLOSE;
  }
  REQUIRE(at == length);
  free(piece);
}

/* |sizes|: of the pieces in turn; none: all at once. */
static struct transcript read_all(struct input stream, struct input sizes,
                                  bool masked, size_t limit) {
  struct transcript to = {0};
  struct input order = sizes;
  struct sw_ws ws;
  sw_ws_init(&ws, masked, limit);
  while (input_left(&stream)) {
    if (!input_left(&order))
      order = sizes;
    size_t length = input_left(&stream);
    if (input_left(&order))
      length = input_byte(&order) % 40u + 1;
    const uint8_t *data = input_bytes(&stream, &length);
    feed(&ws, data, length, &to);
    REQUIRE(ws.join_length <= limit + SW_WS_CONTROL_MAX);
  }
  to.idle = sw_ws_idle(&ws);
  sw_ws_clear(&ws);
  return to;
}

/* ---- The slow reading -------------------------------------------------- */

/* The messages up to what is wrong or unfinished. */
struct reading {
  struct transcript told;
  uint8_t opcode;
  uint8_t joined[4096];
  size_t length;
  bool wrong; /* a header that says so */
};

static void tell(struct reading *reading, enum sw_ws_kind kind, bool binary,
                 unsigned code, const uint8_t *data, size_t length) {
  struct sw_ws_item item = {.kind = kind,
                            .binary = binary,
                            .close_code = (uint16_t)code,
                            .data = data,
                            .length = length};
  write_item(&reading->told, &item);
}

static bool hear_control(struct reading *reading, uint8_t opcode,
                         const uint8_t *data, size_t length) {
  unsigned code = length ? (unsigned)(data[0] << 8 | data[1]) : 1005;
  size_t head = length ? 2 : 0;
  if (opcode != SW_WS_CLOSE) {
    tell(reading, opcode == SW_WS_PING ? SW_WS_GOT_PING : SW_WS_GOT_PONG, false,
         0, data, length);
    return true;
  }
  if ((!length || close_code_is_valid(code)) &&
      utf8_is_valid(data + head, length - head))
    tell(reading, SW_WS_GOT_CLOSE, false, code, data + head, length - head);
  return false;
}

/* Whether more bytes can make a character of these. */
static bool may_become_character(const uint8_t *at, size_t length) {
  static const uint8_t seconds[] = {0x80, 0x90, 0xA0};
  for (size_t i = 0; i < sizeof seconds && length < 4; i++) {
    uint8_t bytes[4] = {0, seconds[i], 0x80, 0x80};
    memcpy(bytes, at, length);
    if (utf8_character(bytes, sizeof bytes) > length)
      return true;
  }
  return false;
}

static bool may_become_text(const uint8_t *at, size_t length) {
  size_t size;
  while (length && (size = utf8_character(at, length))) {
    at += size;
    length -= size;
  }
  return !length || may_become_character(at, length);
}

static bool hear_data(struct reading *reading, uint8_t first,
                      const uint8_t *data, size_t length, size_t limit) {
  if ((first & 15) != 0)
    reading->opcode = first & 15;
  if (length > limit - reading->length)
    return false;
  memcpy(reading->joined + reading->length, data, length);
  reading->length += length;
  bool binary = reading->opcode == SW_WS_BINARY;
  if (!(first & 0x80))
    return binary || may_become_text(reading->joined, reading->length);
  if (!binary && !utf8_is_valid(reading->joined, reading->length))
    return false;
  tell(reading, SW_WS_GOT_MESSAGE, binary, 0, reading->joined, reading->length);
  reading->opcode = 0;
  reading->length = 0;
  return true;
}

static bool may_begin(const struct reading *reading, const uint8_t *at,
                      bool masked) {
  uint8_t opcode = at[0] & 15, length = at[1] & 127;
  if (at[0] & 0x70 || (opcode > 2 && opcode < 8) || opcode > 10)
    return false;
  if (at[1] >> 7 != masked)
    return false;
  if (opcode >= 8)
    return at[0] & 0x80 && length < 126 && !(opcode == 8 && length == 1);
  return (opcode == 0) == (reading->opcode != 0);
}

/* False: it ends here, whatever the reason. */
static bool read_frame(struct reading *reading, struct input *stream,
                       bool masked, size_t limit) {
  const uint8_t *at = stream->at;
  uint8_t payload[4096];
  size_t left = input_left(stream), size;
  uint64_t length = 0;
  if (left < 2)
    return false;
  reading->wrong = !may_begin(reading, at, masked);
  if (reading->wrong)
    return false;
  size = (at[1] & 127) == 126 ? 2 : (at[1] & 127) == 127 ? 8 : 0;
  if (left < 2 + size)
    return false;
  for (size_t i = 0; i < size; i++)
    length = length << 8 | at[2 + i];
  if (!size)
    length = at[1] & 127;
  reading->wrong = (size == 2 && length < 126) ||
                   (size == 8 && (length < 65536 || length >> 63)) ||
                   (!(at[0] & 8) && length > limit - reading->length);
  size += 2u + (masked ? 4u : 0u);
  if (reading->wrong || left < size || length > left - size)
    return false;
  for (size_t i = 0; i < length; i++)
    payload[i] = at[size + i] ^ (masked ? at[size - 4 + i % 4] : 0);
  stream->at += size + length;
  if ((at[0] & 15) >= 8)
    return hear_control(reading, at[0] & 15, payload, (size_t)length);
  return hear_data(reading, at[0], payload, (size_t)length, limit);
}

/* Violations are not told here: the library may know of them earlier, but all
   that it told before must be the same. */
static void compare_reading(struct input stream, bool masked, size_t limit,
                            const struct transcript *told) {
  static struct reading reading;
  size_t record = 4 + sizeof(int) + sizeof(char *) + sizeof(size_t);
  size_t length = told->length;
  reading.told.length = 0;
  reading.opcode = 0;
  reading.length = 0;
  reading.wrong = false;
  while (read_frame(&reading, &stream, masked, limit))
    ;
  REQUIRE(!reading.wrong || told->violated);
  REQUIRE(reading.told.length == length - (told->violated ? record : 0));
  REQUIRE(!reading.told.length ||
          !memcmp(reading.told.data, told->data, reading.told.length));
}

/* ---- Checks ------------------------------------------------------------ */

static void expect_same(const struct transcript *a, struct transcript b) {
  REQUIRE(a->length == b.length && a->violated == b.violated);
  REQUIRE(a->idle == b.idle);
  REQUIRE(!a->length || !memcmp(a->data, b.data, a->length));
  free(b.data);
}

/* Written by the codec and read again by it, by either side. */
static void check_round_trip(struct input input, uint8_t choice) {
  static const uint8_t opcodes[] = {SW_WS_TEXT, SW_WS_BINARY, SW_WS_PING,
                                    SW_WS_PONG};
  const uint8_t *mask = NULL, *payload;
  uint8_t header[SW_WS_HEADER_MAX];
  size_t four = 4, length = 4096;
  bool masked = choice & 1;
  uint8_t opcode = opcodes[choice >> 1 & 3];
  if (masked && input_left(&input) >= 4)
    mask = input_bytes(&input, &four);
  payload = input_bytes(&input, &length);
  if (opcode >= 8 && length > SW_WS_CONTROL_MAX)
    length = SW_WS_CONTROL_MAX;
  size_t size = sw_ws_write_header(header, opcode, length, mask);
  REQUIRE(size == sw_ws_header_size(length, mask != NULL));
  uint8_t *frame = exact_copy(payload, length);
  frame = realloc(frame, size + length);
  memcpy(frame, header, size);
  if (length && mask)
    sw_ws_mask(frame + size, payload, length, mask);
  else if (length)
    memcpy(frame + size, payload, length);
  for (size_t i = 0; mask && i < length; i++)
    REQUIRE(frame[size + i] == (payload[i] ^ mask[i % 4]));
  struct sw_ws ws;
  struct sw_ws_item item;
  size_t used = 0;
  sw_ws_init(&ws, mask != NULL, 4096);
  sw_ws_next(&ws, frame, size + length, &used, &item);
  if (opcode == SW_WS_TEXT && !utf8_is_valid(payload, length)) {
    REQUIRE(item.kind == SW_WS_GOT_VIOLATION && item.error == SIPWIRE_EUTF8);
  } else {
    REQUIRE(used == size + length && item.length == length);
    REQUIRE(!length || !memcmp(item.data, payload, length));
    REQUIRE(item.kind == (opcode == SW_WS_PING   ? SW_WS_GOT_PING
                          : opcode == SW_WS_PONG ? SW_WS_GOT_PONG
                                                 : SW_WS_GOT_MESSAGE));
    REQUIRE(item.binary == (opcode == SW_WS_BINARY));
  }
  sw_ws_clear(&ws);
  free(frame);
}

/* A close payload is read as it was written; a long valid reason is cut. */
static void check_close(struct input input, unsigned code) {
  uint8_t frame[2 + SW_WS_CONTROL_MAX];
  size_t length = 200;
  const uint8_t *reason = input_bytes(&input, &length);
  size_t size =
      sw_ws_write_close_payload(frame + 2, code, (const char *)reason, length);
  struct sw_ws ws;
  struct sw_ws_item item;
  size_t used;
  REQUIRE(sw_ws_close_code_valid(code) == close_code_is_valid(code));
  REQUIRE(size <= SW_WS_CONTROL_MAX);
  if (!utf8_is_valid(reason, length) || !close_code_is_valid(code))
    return;
  sw_ws_write_header(frame, SW_WS_CLOSE, size, NULL);
  sw_ws_init(&ws, false, 1);
  sw_ws_next(&ws, frame, 2 + size, &used, &item);
  REQUIRE(item.kind == SW_WS_GOT_CLOSE && item.close_code == code);
  REQUIRE(item.length == length ||
          (length > SW_WS_REASON_MAX && item.length > SW_WS_REASON_MAX - 4));
  REQUIRE(!item.length || !memcmp(item.data, reason, item.length));
  sw_ws_clear(&ws);
}

static void check_utf8(struct input text, struct input sizes) {
  const uint8_t *data = text.at;
  size_t length = input_left(&text);
  bool valid = utf8_is_valid(data, length);
  uint8_t state = SW_UTF8_START;
  uint8_t *copy = exact_copy(data, length);
  REQUIRE(sw_utf8_valid(copy, length) == valid);
  free(copy);
  while (input_left(&text)) {
    size_t piece = input_byte(&sizes) % 24u + 1;
    const uint8_t *at = input_bytes(&text, &piece);
    state = sw_utf8_feed(state, at, piece);
    size_t missing = sw_utf8_missing(state);
    REQUIRE(missing <= 3);
    REQUIRE((missing == 0) == (state == SW_UTF8_START || state == SW_UTF8_BAD));
  }
  REQUIRE((state == SW_UTF8_START) == valid);
}

/* Two bytes of options, a count of sizes, the sizes, the stream. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static const size_t limits[] = {1, 2, 16, 125, 126, 1000, 4096, 50};
  static const uint8_t one = 0;
  struct input input = {data, data + (size < 4096 ? size : 4096)};
  struct input none = {data, data}, ones = {&one, &one + 1}, sizes;
  uint8_t options = input_byte(&input), choice = input_byte(&input);
  size_t count = input_byte(&input) & 15, limit = limits[options >> 1 & 7];
  bool masked = options & 1;
  sizes.at = input_bytes(&input, &count);
  sizes.end = sizes.at + count;
  struct transcript whole = read_all(input, none, masked, limit);
  compare_reading(input, masked, limit, &whole);
  expect_same(&whole, read_all(input, ones, masked, limit));
  expect_same(&whole, read_all(input, sizes, masked, limit));
  free(whole.data);
  check_round_trip(input, choice);
  check_close(input, 990u + choice * 16u);
  check_close(input, 996u + choice % 32);
  check_utf8(input, sizes);
  return 0;
}
