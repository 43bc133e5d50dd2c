/* SPDX-License-Identifier: MIT */
/* Link with -Wl,--wrap=malloc,--wrap=realloc.

   A script is a stream of bytes and what a parser must make of it, written
   down as text.  Every script is fed whole, cut in two at every position, and
   byte by byte, always from memory that ends at a guard page; and a violation
   must fall at its very byte.  Scripts are made for both sides: frame() masks
   when the peer is a client. */
#include "sipwire.h"
#include "test.h"
#include "ws.h"

#include <stdlib.h>

/* ---- Memory ------------------------------------------------------------ */

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);

static unsigned allocations;
static size_t largest;     /* request since it was set to 0 */
static unsigned fail_from; /* this allocation and all later ones; 0: none */

static bool may_allocate(size_t size) {
  allocations++;
  if (size > largest)
    largest = size;
  return !fail_from || allocations < fail_from;
}

void *__wrap_malloc(size_t size) {
  return may_allocate(size) ? __real_malloc(size) : NULL;
}

void *__wrap_realloc(void *memory, size_t size) {
  return may_allocate(size) ? __real_realloc(memory, size) : NULL;
}

/* ---- Items as text ----------------------------------------------------- */

struct transcript {
  char text[8192];
  size_t length;
};

static void put(struct transcript *t, const char *text) {
  size_t length = strlen(text);
  if (t->length + length >= sizeof t->text)
    return;
  memcpy(t->text + t->length, text, length + 1);
  t->length += length;
}

static void put_number(struct transcript *t, long long number) {
  char digits[32];
  snprintf(digits, sizeof digits, "%lld", number);
  put(t, digits);
}

/* Long ones by length and hash. */
static void put_bytes(struct transcript *t, const uint8_t *data,
                      size_t length) {
  char hex[4];
  uint32_t hash = 2166136261u;
  put_number(t, (long long)length);
  put(t, ":");
  for (size_t i = 0; i < length && length < 40; i++) {
    bool plain = data[i] > ' ' && data[i] < 0x7F;
    snprintf(hex, sizeof hex, plain ? "%c" : "%02X", data[i]);
    put(t, hex);
  }
  for (size_t i = 0; i < length && length >= 40; i++)
    hash = (hash ^ data[i]) * 16777619u;
  if (length >= 40)
    put_number(t, hash);
  put(t, " ");
}

static const char *kind_name(const struct sw_ws_item *item) {
  switch (item->kind) {
  case SW_WS_GOT_MESSAGE:
    return item->binary ? "binary " : "text ";
  case SW_WS_GOT_PING:
    return "ping ";
  case SW_WS_GOT_PONG:
    return "pong ";
  case SW_WS_GOT_CLOSE:
    return "close ";
  case SW_WS_GOT_VIOLATION:
    return "violation ";
  case SW_WS_NEED_MORE:
    break;
  }
  return "? ";
}

static void put_item(struct transcript *t, const struct sw_ws_item *item) {
  put(t, kind_name(item));
  if (item->kind == SW_WS_GOT_CLOSE || item->kind == SW_WS_GOT_VIOLATION)
    put_number(t, item->close_code), put(t, " ");
  if (item->kind == SW_WS_GOT_VIOLATION)
    put(t, sipwire_error_name(item->error)), put(t, " ");
  else
    put_bytes(t, item->data, item->length);
}

/* ---- Scripts ----------------------------------------------------------- */

static struct {
  uint8_t bytes[140000];
  size_t length, max;
  bool masked;
  size_t fault; /* bytes up to and with the one at which it is known; 0 */
  struct transcript want;
} script;

static const uint8_t mask_key[4] = {0xA1, 0x37, 0x00, 0xFE};

static void begin(bool masked, size_t max) {
  script.length = script.fault = script.want.length = 0;
  script.want.text[0] = '\0';
  script.masked = masked;
  script.max = max;
}

static void byte(unsigned value) {
  script.bytes[script.length++] = (uint8_t)value;
}

/* A length, in |size| bytes, or in the code alone if that is 0. */
static void header(unsigned first, unsigned code, uint64_t length, int size) {
  byte(first);
  byte(code | (script.masked ? 0x80u : 0));
  while (size--)
    byte((unsigned)(length >> (8 * size) & 0xFF));
}

static void key(void) {
  for (int i = 0; script.masked && i < 4; i++)
    byte(mask_key[i]);
}

/* Payload from its |from|th byte on. */
static void payload(const void *data, size_t length, size_t from) {
  const uint8_t *bytes = data;
  for (size_t i = 0; i < length; i++)
    byte(bytes[i] ^ (script.masked ? mask_key[(from + i) % 4] : 0u));
}

static void announce(unsigned first, size_t length) {
  if (length < 126)
    header(first, (unsigned)length, 0, 0);
  else if (length < 65536)
    header(first, 126, length, 2);
  else
    header(first, 127, length, 8);
  key();
}

static void frame(unsigned first, const void *data, size_t length) {
  announce(first, length);
  payload(data, length, 0);
}

static void frame_str(unsigned first, const char *text) {
  frame(first, text, strlen(text));
}

static void want(struct sw_ws_item item) {
  put_item(&script.want, &item);
}

static void want_message(const void *data, size_t length, bool binary) {
  want((struct sw_ws_item){.kind = SW_WS_GOT_MESSAGE, .data = data,
                           .length = length, .binary = binary});
}

static void want_text(const char *text) {
  want_message(text, strlen(text), false);
}

static void want_kind(enum sw_ws_kind kind, const char *text) {
  want((struct sw_ws_item){.kind = kind, .data = (const uint8_t *)text,
                           .length = strlen(text)});
}

static void want_close(unsigned code, const char *reason) {
  want((struct sw_ws_item){.kind = SW_WS_GOT_CLOSE,
                           .close_code = (uint16_t)code,
                           .data = (const uint8_t *)reason,
                           .length = strlen(reason)});
}

/* The byte just written commits it. */
static void want_violation(int error, unsigned code) {
  script.fault = script.length;
  want((struct sw_ws_item){.kind = SW_WS_GOT_VIOLATION, .error = error,
                           .close_code = (uint16_t)code});
}

static void want_protocol(void) {
  want_violation(SIPWIRE_EPROTOCOL, 1002);
}

static void want_utf8(void) {
  want_violation(SIPWIRE_EUTF8, 1007);
}

static void want_too_big(void) {
  want_violation(SIPWIRE_ETOO_BIG, 1009);
}

/* ---- Running them ------------------------------------------------------ */

static bool sane(const struct sw_ws_item *item) {
  if (item->kind == SW_WS_GOT_VIOLATION)
    return item->text && *item->text && item->error < 0;
  return !item->error && !item->text;
}

/* As test_guarded(), but always in the same memory: scripts are fed often. */
static uint8_t *guarded_copy(const uint8_t *data, size_t length) {
  static uint8_t *memory;
  if (!memory)
    memory = test_guarded(script.bytes, sizeof script.bytes);
  return memcpy(memory + sizeof script.bytes - length, data, length);
}

static bool feed(struct sw_ws *ws, size_t from, size_t to,
                 struct transcript *got) {
  size_t length = to - from, at = 0, used;
  uint8_t *copy = guarded_copy(script.bytes + from, length);
  struct sw_ws_item item;
  bool right = true;
  for (;;) {
    sw_ws_next(ws, copy + at, length - at, &used, &item);
    right = right && used <= length - at && sane(&item);
    at += used;
    if (item.kind == SW_WS_NEED_MORE)
      break;
    put_item(got, &item);
  }
  right = right && at == length;
  return right && !(sw_ws_idle(ws) && ws->join);
}

/* Feeds pieces of |step| bytes, the first of |cut|. */
static bool run_cut(size_t cut, size_t step) {
  static struct transcript got;
  struct sw_ws ws;
  got.length = 0;
  got.text[0] = '\0';
  sw_ws_init(&ws, script.masked, script.max);
  bool right = true;
  size_t from = 0, to = cut < script.length ? cut : script.length;
  while (from < script.length) {
    right = right && feed(&ws, from, to, &got);
    bool failed = strstr(got.text, "violation") != NULL;
    right = right && failed == (script.fault && to >= script.fault);
    from = to;
    to = step < script.length - to ? to + step : script.length;
  }
  right = right && !strcmp(got.text, script.want.text);
  if (!right)
    fprintf(stderr, "cut at %zu, then every %zu, %s: got %s; want %s; at %zu\n",
            cut, step, script.masked ? "masked" : "unmasked", got.text,
            script.want.text, script.fault);
  sw_ws_clear(&ws);
  return right;
}

/* Scripts above 2000 bytes are cut near their ends and here and there. */
static void run(void) {
  if (!CHECK(run_cut(script.length, 1)))
    return;
  bool small = script.length <= 2000;
  for (size_t cut = 0; cut < script.length; cut++) {
    bool edge = cut < 50 || script.length - cut < 50;
    if ((small || edge || cut % 2999 == 0) &&
        !CHECK(run_cut(cut, script.length)))
      return;
  }
  for (size_t step = 1; small && step < 9; step++)
    CHECK(run_cut(step, step));
}

#define BOTH_SIDES(masked) for (int masked = 0; masked < 2; masked++)

/* ---- The vectors of RFC 6455 section 5.7 ------------------------------- */

static void raw(bool masked, const char *bytes, size_t length) {
  begin(masked, 1 << 20);
  memcpy(script.bytes, bytes, length);
  script.length = length;
}

static void rfc_hello_and_pings(void) {
  raw(false, "\x81\x05Hello", 7);
  want_text("Hello");
  run();
  raw(true, "\x81\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58", 11);
  want_text("Hello");
  run();
  raw(false, "\x01\x03Hel\x80\x02lo", 9);
  want_text("Hello");
  run();
  raw(false, "\x89\x05Hello", 7);
  want_kind(SW_WS_GOT_PING, "Hello");
  run();
  raw(true, "\x8A\x85\x37\xFA\x21\x3D\x7F\x9F\x4D\x51\x58", 11);
  want_kind(SW_WS_GOT_PONG, "Hello");
  run();
}

static void rfc_long_binaries(void) {
  static uint8_t data[65536];
  for (size_t i = 0; i < sizeof data; i++)
    data[i] = (uint8_t)(i * 7 + i / 256);
  raw(false, "\x82\x7E\x01\x00", 4);
  payload(data, 256, 0);
  want_message(data, 256, true);
  run();
  raw(false, "\x82\x7F\0\0\0\0\0\1\0\0", 10);
  payload(data, 65536, 0);
  want_message(data, 65536, true);
  run();
}

/* ---- Messages ---------------------------------------------------------- */

static void every_length_arrives(void) {
  static uint8_t data[70000];
  static const size_t length[] = {0, 1, 2, 3, 7, 8, 31, 32, 33, 124, 125,
                                  126, 127, 65535, 65536, 65537, 70000};
  memset(data, 'm', sizeof data);
  BOTH_SIDES(masked) {
    for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
      begin(masked, sizeof data);
      frame(0x81, data, length[i]);
      want_message(data, length[i], false);
      frame_str(0x82, "next");
      want_message("next", 4, true);
      run();
    }
  }
}

static void fragments_are_joined_around_control_frames(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x01, "REG");
    frame_str(0x89, "p1");
    want_kind(SW_WS_GOT_PING, "p1");
    frame_str(0x00, "");
    frame_str(0x8A, "");
    want_kind(SW_WS_GOT_PONG, "");
    frame_str(0x00, "ISTER");
    frame_str(0x89, "longer than what was joined so far");
    want_kind(SW_WS_GOT_PING, "longer than what was joined so far");
    frame_str(0x80, " sip:");
    want_text("REGISTER sip:");
    frame_str(0x02, "\xFF");
    frame_str(0x80, "\x80");
    want_message("\xFF\x80", 2, true);
    frame_str(0x81, "whole");
    want_text("whole");
    run();
  }
}

static void empty_messages_and_fragments(void) {
  BOTH_SIDES(masked) {
    begin(masked, 10);
    frame_str(0x81, "");
    want_text("");
    frame_str(0x01, "");
    frame_str(0x80, "");
    want_text("");
    frame_str(0x02, "");
    frame_str(0x89, "x");
    want_kind(SW_WS_GOT_PING, "x");
    frame_str(0x00, "");
    frame_str(0x80, "late");
    want_message("late", 4, true);
    frame_str(0x01, "early");
    frame_str(0x80, "");
    want_text("early");
    run();
  }
}

static void bytes_of_any_value_pass_in_binary(void) {
  uint8_t data[256];
  for (int i = 0; i < 256; i++)
    data[i] = (uint8_t)i;
  BOTH_SIDES(masked) {
    begin(masked, 1000);
    frame(0x82, data, 256);
    frame(0x02, data, 128);
    frame(0x80, data + 128, 128);
    want_message(data, 256, true);
    want_message(data, 256, true);
    run();
  }
}

static void control_frames_of_all_lengths(void) {
  char data[126] = "";
  BOTH_SIDES(masked) {
    for (size_t length = 0; length <= 125; length += length < 8 ? 1 : 13) {
      memset(data, 'c', length);
      data[length] = '\0';
      begin(masked, 1);
      frame_str(0x89, data);
      want_kind(SW_WS_GOT_PING, data);
      frame_str(0x8A, data);
      want_kind(SW_WS_GOT_PONG, data);
      run();
    }
  }
}

static void a_close_frame_ends_everything(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x01, "cut off");
    frame_str(0x88, "\x03\xE8so \xE2\x82\xAC long");
    want_close(1000, "so \xE2\x82\xAC long");
    frame_str(0x81, "unheard");
    frame_str(0x89, "unheard");
    payload("\xFF\xFF\xFF\xFF", 4, 0);
    run();
    begin(masked, 100);
    frame_str(0x88, "");
    want_close(1005, "");
    frame_str(0x88, "\x03\xE8");
    run();
  }
}

/* ---- Violations -------------------------------------------------------- */

/* A first byte that is wrong by itself, and what follows is not looked at. */
static void first_byte_is_wrong(bool masked, const char *opening,
                                unsigned first) {
  begin(masked, 100);
  frame_str(0x81, "ok");
  want_text("ok");
  if (*opening)
    frame_str(0x02, opening);
  byte(first);
  want_protocol();
  byte(masked ? 0x80 : 0);
  frame_str(0x81, "unheard");
  run();
}

static bool first_byte_is_legal(unsigned first, bool inside) {
  switch (first) {
  case 0x00:
  case 0x80:
    return inside;
  case 0x01:
  case 0x02:
  case 0x81:
  case 0x82:
    return !inside;
  default:
    return first == 0x88 || first == 0x89 || first == 0x8A;
  }
}

static void all_other_first_bytes_are_violations(void) {
  BOTH_SIDES(masked) {
    for (unsigned first = 0; first < 256; first++) {
      if (!first_byte_is_legal(first, false))
        first_byte_is_wrong(masked, "", first);
      if (!first_byte_is_legal(first, true))
        first_byte_is_wrong(masked, "open", first);
    }
  }
}

static void a_continuation_after_the_end_is_a_violation(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x01, "a");
    frame_str(0x80, "b");
    want_text("ab");
    byte(0x80);
    want_protocol();
    run();
  }
}

static void each_side_has_its_masking_rule(void) {
  static const unsigned first[] = {0x81, 0x82, 0x01, 0x88, 0x89, 0x8A};
  static const unsigned code[] = {0, 5, 125, 126, 127};
  BOTH_SIDES(masked) {
    for (size_t i = 0; i < sizeof first / sizeof *first; i++) {
      for (size_t k = 0; k < sizeof code / sizeof *code; k++) {
        begin(masked, 1 << 20);
        byte(first[i]);
        byte(code[k] | (masked ? 0 : 0x80u));
        want_protocol();
        for (int n = 0; n < 20; n++)
          byte(0);
        run();
      }
    }
  }
}

static void control_frames_are_short(void) {
  BOTH_SIDES(masked) {
    for (unsigned first = 0x88; first <= 0x8A; first++) {
      for (unsigned code = 126; code <= 127; code++) {
        begin(masked, 1 << 20);
        header(first, code, 0, 0);
        want_protocol();
        for (int n = 0; n < 200; n++)
          byte(0);
        run();
      }
    }
  }
}

/* |known|: bytes of length after which it is known. */
static void length_is_wrong(bool masked, size_t max, uint64_t length, int size,
                            int known, bool too_big) {
  begin(masked, max);
  header(0x82, size == 2 ? 126 : 127, length >> (8 * (size - known)), known);
  if (too_big)
    want_too_big();
  else
    want_protocol();
  for (int i = size - known; i-- > 0;)
    byte((unsigned)(length >> (8 * i) & 0xFF));
  key();
  for (uint64_t i = 0; i < length && i < 300; i++)
    byte(0);
  run();
}

static void lengths_take_their_shortest_form(void) {
  BOTH_SIDES(masked) {
    length_is_wrong(masked, 1 << 20, 0, 2, 2, false);
    length_is_wrong(masked, 1 << 20, 5, 2, 2, false);
    length_is_wrong(masked, 1 << 20, 125, 2, 2, false);
    length_is_wrong(masked, 100, 125, 2, 2, false);
    length_is_wrong(masked, 1 << 20, 0, 8, 6, false);
    length_is_wrong(masked, 1 << 20, 125, 8, 6, false);
    length_is_wrong(masked, 1 << 20, 126, 8, 6, false);
    length_is_wrong(masked, 1, 65535, 8, 6, false);
  }
}

static void lengths_have_63_bits(void) {
  BOTH_SIDES(masked) {
    length_is_wrong(masked, 1 << 20, UINT64_C(1) << 63, 8, 1, false);
    length_is_wrong(masked, SIZE_MAX, UINT64_C(1) << 63, 8, 1, false);
    length_is_wrong(masked, SIZE_MAX, UINT64_MAX, 8, 1, false);
  }
}

static void announced_lengths_above_the_limit(void) {
  BOTH_SIDES(masked) {
    length_is_wrong(masked, 1 << 20, INT64_MAX, 8, 1, true);
    length_is_wrong(masked, 1 << 20, UINT64_C(100) << 40, 8, 3, true);
    length_is_wrong(masked, 1 << 20, (1 << 20) + 1, 8, 8, true);
    length_is_wrong(masked, 1 << 20, (1 << 20) + 256, 8, 7, true);
    length_is_wrong(masked, 1000, 1001, 2, 2, true);
    length_is_wrong(masked, 1000, 1024, 2, 1, true);
    length_is_wrong(masked, 65535, 65536, 8, 6, true);
    begin(masked, 10);
    header(0x81, 11, 0, 0);
    want_too_big();
    key();
    payload("hello world", 11, 0);
    run();
  }
}

static void the_limit_itself_is_allowed(void) {
  static uint8_t data[1000];
  memset(data, 'l', sizeof data);
  BOTH_SIDES(masked) {
    for (size_t max = 1; max <= sizeof data; max += max == 1 ? 124 : 175) {
      begin(masked, max);
      frame(0x81, data, max);
      want_message(data, max, false);
      frame(0x01, data, 1);
      frame(0x00, data, max - 1);
      frame_str(0x89, "pings do not count");
      want_kind(SW_WS_GOT_PING, "pings do not count");
      frame_str(0x80, "");
      want_message(data, max, false);
      run();
    }
  }
}

static void joined_totals_above_the_limit(void) {
  BOTH_SIDES(masked) {
    begin(masked, 10);
    frame_str(0x01, "12345");
    frame_str(0x00, "67890");
    frame_str(0x89, "");
    want_kind(SW_WS_GOT_PING, "");
    header(0x80, 1, 0, 0);
    want_too_big();
    key();
    payload("!", 1, 0);
    run();
    begin(masked, 300);
    frame_str(0x02, "12345");
    header(0x80, 126, 1, 1);
    frame_str(0x81, "");
    script.length -= masked ? 6 : 2;
    byte(296 & 0xFF);
    want_too_big();
    run();
  }
}

static void half_a_close_code(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    header(0x88, 1, 0, 0);
    want_protocol();
    key();
    payload("\x03", 1, 0);
    run();
  }
}

/* Written from the registry, not from the code. */
static bool legal_code(unsigned code) {
  static const unsigned legal[] = {1000, 1001, 1002, 1003, 1007, 1008,
                                   1009, 1010, 1011, 1012, 1013, 1014};
  for (size_t i = 0; i < sizeof legal / sizeof *legal; i++)
    if (legal[i] == code)
      return true;
  return code / 1000 == 3 || code / 1000 == 4;
}

static void close_code(bool masked, unsigned code) {
  uint8_t bytes[5] = {(uint8_t)(code >> 8), (uint8_t)code, 'b', 'y', 'e'};
  /* 1000..1023, 2816..5119: first bytes of some legal code. */
  bool early = code >> 8 != 3 && (code >> 8 < 11 || code >> 8 > 19);
  begin(masked, 100);
  announce(0x88, 5);
  payload(bytes, 1, 0);
  if (early)
    want_protocol();
  payload(bytes + 1, 1, 1);
  if (!early && !legal_code(code))
    want_protocol();
  payload(bytes + 2, 3, 2);
  if (legal_code(code))
    want_close(code, "bye");
  run();
}

static void close_codes_are_checked(void) {
  static const unsigned other[] = {0,    1,    255,  256,   768,  999,  1100,
                                   1999, 2000, 2815, 2816,  2999, 3000, 3999,
                                   4000, 4999, 5000, 5120, 32768, 65535};
  BOTH_SIDES(masked) {
    for (unsigned code = 998; code < 1026; code++)
      close_code(masked, code);
    for (size_t i = 0; i < sizeof other / sizeof *other; i++)
      close_code(masked, other[i]);
  }
  for (unsigned code = 0; code <= 70000; code++)
    if (sw_ws_close_code_valid(code) != legal_code(code))
      CHECK_INT(code, -1);
}

/* ---- UTF-8 ------------------------------------------------------------- */

struct bad_text {
  const char *bytes;
  size_t length, known; /* bytes until it is known to be bad */
};

/* Known at a message's or reason's end where it is not known before. */
static const struct bad_text bad_texts[] = {
    {"\xFF", 1, 1},
    {"abc\x80zz", 6, 4},
    {"abcdefgh\xC0\x80", 10, 9},
    {"\xED\xA0\x80", 3, 2},
    {"\xE0\x9F\xBF", 3, 2},
    {"\xF0\x8F\xBF\xBF", 4, 2},
    {"\xF4\x90\x80\x80", 4, 2},
    {"\xF5\x80\x80\x80", 4, 1},
    {"\xE2\x82\x41 and more", 12, 3},
    {"\xC3\xA4\xC3\xA4\xC3", 5, 5},
    {"ab\xE2\x82", 4, 3},
    {"ab\xE2", 3, 3},
    {"ab\xF0\x9F\x93", 5, 3},
    {"0123456789012345678901234567890123456789\xFE ", 42, 41},
};
enum { BAD_TEXTS = sizeof bad_texts / sizeof *bad_texts };

static void whole_texts_are_checked(void) {
  BOTH_SIDES(masked) {
    for (int i = 0; i < BAD_TEXTS; i++) {
      const struct bad_text *bad = &bad_texts[i];
      begin(masked, 100);
      announce(0x81, bad->length);
      payload(bad->bytes, bad->known, 0);
      want_utf8();
      payload(bad->bytes + bad->known, bad->length - bad->known, bad->known);
      frame_str(0x81, "unheard");
      run();
    }
  }
}

static void close_reasons_are_checked(void) {
  BOTH_SIDES(masked) {
    for (int i = 0; i < BAD_TEXTS; i++) {
      const struct bad_text *bad = &bad_texts[i];
      begin(masked, 100);
      frame_str(0x01, "\xE2\x82"); /* its state must not leak in */
      announce(0x88, bad->length + 2);
      payload("\x0B\xB8", 2, 0);
      payload(bad->bytes, bad->known, 2);
      want_utf8();
      payload(bad->bytes + bad->known, bad->length - bad->known,
              bad->known + 2);
      run();
    }
  }
}

static void a_character_may_span_fragments(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x01, "\xF0\x9F");
    frame_str(0x89, "\xFF");
    want_kind(SW_WS_GOT_PING, "\xFF");
    frame_str(0x00, "\x93");
    frame_str(0x00, "");
    frame_str(0x00, "\x9E" "a\xC3");
    frame_str(0x80, "\xA4");
    want_text("\xF0\x9F\x93\x9E" "a\xC3\xA4");
    frame_str(0x01, "b");
    frame_str(0x80, "c");
    want_text("bc");
    run();
  }
}

static void bad_text_in_fragments_is_known_at_its_byte(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x01, "\xED");
    announce(0x00, 10);
    payload("\xA0", 1, 0);
    want_utf8();
    payload("123456789", 9, 1);
    run();
    begin(masked, 100);
    frame_str(0x01, "fine so far ");
    announce(0x00, 10);
    payload("ab\xFF", 3, 0);
    want_utf8();
    payload("1234567", 7, 3);
    run();
  }
}

/* The last fragment's header tells that the character cannot be ended. */
static void text_ends_in_mid_character(bool masked, const char *start,
                                       unsigned last) {
  begin(masked, 100);
  frame_str(0x01, start);
  header(0x80, last, 0, 0);
  if (!masked)
    want_utf8();
  key();
  if (masked)
    want_utf8();
  for (unsigned i = 0; i < last; i++)
    payload("\x80", 1, i);
  frame_str(0x81, "unheard");
  run();
}

static void texts_end_with_a_character(void) {
  BOTH_SIDES(masked) {
    text_ends_in_mid_character(masked, "\xC3", 0);
    text_ends_in_mid_character(masked, "x\xE2\x82", 0);
    text_ends_in_mid_character(masked, "\xE2", 1);
    text_ends_in_mid_character(masked, "\xF1", 2);
    text_ends_in_mid_character(masked, "0123456789\xF1\x80", 1);
  }
}

static void utf8_starts_afresh_with_each_text(void) {
  BOTH_SIDES(masked) {
    begin(masked, 100);
    frame_str(0x02, "\xE2");
    frame_str(0x80, "\x82");
    want_message("\xE2\x82", 2, true);
    frame_str(0x01, "t");
    frame_str(0x80, "u");
    want_text("tu");
    run();
  }
}

/* ---- In place, and memory ---------------------------------------------- */

static void next(struct sw_ws *ws, size_t *at, struct sw_ws_item *item) {
  size_t used;
  sw_ws_next(ws, script.bytes + *at, script.length - *at, &used, item);
  *at += used;
}

/* Feeds the script whole; every item must lie in it. */
static void check_in_place(void) {
  struct sw_ws ws;
  struct sw_ws_item item;
  size_t at = 0;
  unsigned before = allocations;
  sw_ws_init(&ws, script.masked, script.max);
  for (next(&ws, &at, &item); item.kind != SW_WS_NEED_MORE;
       next(&ws, &at, &item)) {
    CHECK(item.kind != SW_WS_GOT_VIOLATION);
    CHECK(item.data >= script.bytes &&
          item.data + item.length <= script.bytes + script.length);
  }
  CHECK_INT(allocations, before);
  CHECK(sw_ws_idle(&ws));
}

static void whole_frames_are_not_copied(void) {
  static uint8_t data[66000];
  memset(data, 'w', sizeof data);
  BOTH_SIDES(masked) {
    begin(masked, sizeof data);
    frame(0x81, data, 1);
    frame(0x82, data, 500);
    frame(0x81, data, sizeof data);
    frame(0x89, data, 125);
    frame(0x81, data, 0);
    frame(0x01, data, 0); /* nothing to join */
    frame(0x8A, data, 9);
    frame(0x80, data, 600);
    frame_str(0x88, "\x03\xE8why");
    check_in_place();
  }
}

static void a_payload_behind_its_header_is_not_copied(void) {
  BOTH_SIDES(masked) {
    begin(masked, 1000);
    announce(0x81, 200);
    size_t start = script.length;
    for (size_t i = 0; i < 200; i++)
      payload("h", 1, i);
    for (size_t cut = 1; cut <= start; cut++) {
      struct sw_ws ws;
      struct sw_ws_item item;
      size_t used;
      uint8_t copy[300];
      memcpy(copy, script.bytes, script.length);
      sw_ws_init(&ws, masked, 1000);
      sw_ws_next(&ws, copy, cut, &used, &item);
      CHECK_INT(item.kind, SW_WS_NEED_MORE);
      CHECK(!sw_ws_idle(&ws));
      sw_ws_next(&ws, copy + cut, script.length - cut, &used, &item);
      CHECK_INT(item.kind, SW_WS_GOT_MESSAGE);
      CHECK(item.data == copy + start);
      CHECK(ws.join == NULL);
    }
  }
}

static void joined_memory_goes_with_its_message(void) {
  struct sw_ws ws;
  struct sw_ws_item item;
  size_t at = 0;
  begin(false, 1000);
  frame_str(0x01, "joined ");
  frame_str(0x80, "together");
  size_t first = script.length;
  frame_str(0x89, "p");
  sw_ws_init(&ws, false, 1000);
  next(&ws, &at, &item);
  CHECK_MEM(item.data, item.length, "joined together", 15);
  CHECK_INT(at, first);
  CHECK(ws.join != NULL);
  CHECK(sw_ws_idle(&ws));
  next(&ws, &at, &item);
  CHECK_INT(item.kind, SW_WS_GOT_PING);
  CHECK(ws.join == NULL);
  CHECK_INT(ws.join_capacity, 0);
}

static void idle_is_between_messages_only(void) {
  BOTH_SIDES(masked) {
    struct sw_ws ws;
    struct sw_ws_item item;
    size_t used;
    begin(masked, 100);
    frame_str(0x89, "pp");
    frame_str(0x01, "a");
    frame_str(0x89, "");
    frame_str(0x80, "b");
    size_t ping = masked ? 8 : 4, end = script.length;
    sw_ws_init(&ws, masked, 100);
    CHECK(sw_ws_idle(&ws));
    for (size_t at = 0; at < end; at++) {
      do
        sw_ws_next(&ws, script.bytes + at, 1, &used, &item);
      while (item.kind != SW_WS_NEED_MORE && used == 0);
      CHECK_INT(sw_ws_idle(&ws), at + 1 == ping || at + 1 == end);
    }
    sw_ws_clear(&ws);
  }
}

static void need_more(struct sw_ws *ws, uint8_t *bytes, size_t length) {
  struct sw_ws_item item;
  size_t used;
  sw_ws_next(ws, bytes, length, &used, &item);
  CHECK_INT(item.kind, SW_WS_NEED_MORE);
  CHECK_INT(used, length);
}

static void what_is_announced_costs_nothing(void) {
  uint8_t some[1000];
  size_t sent = 0;
  struct sw_ws ws;
  memset(some, 's', sizeof some);
  begin(false, (size_t)1 << 46);
  header(0x82, 127, ((uint64_t)1 << 46) - 1, 8);
  sw_ws_init(&ws, false, (size_t)1 << 46);
  largest = 0;
  need_more(&ws, script.bytes, script.length);
  CHECK_INT(largest, 0);
  for (; sent < 100000; sent += sizeof some) {
    need_more(&ws, some, sizeof some);
    if (largest > 2 * (sent + sizeof some))
      CHECK_INT(largest, sent);
  }
  CHECK(largest >= sent);
  sw_ws_clear(&ws);
  CHECK(ws.join == NULL);
}

static void a_known_end_bounds_the_memory(void) {
  uint8_t some[600];
  struct sw_ws ws;
  memset(some, 's', sizeof some);
  begin(false, 5000);
  header(0x82, 126, 1300, 2);
  sw_ws_init(&ws, false, 5000);
  largest = 0;
  need_more(&ws, script.bytes, script.length);
  need_more(&ws, some, 600);
  need_more(&ws, some, 600);
  need_more(&ws, some, 99);
  CHECK_INT(largest, 1300);
  sw_ws_clear(&ws);
}

static void empty_fragments_cost_nothing(void) {
  static uint8_t empty[20000];
  struct sw_ws ws;
  sw_ws_init(&ws, false, 10);
  unsigned before = allocations;
  need_more(&ws, (uint8_t[]){0x01, 0}, 2);
  for (int round = 0; round < 100; round++)
    need_more(&ws, empty, sizeof empty);
  CHECK_INT(allocations, before);
  CHECK(!sw_ws_idle(&ws));
  struct sw_ws_item item;
  size_t used;
  sw_ws_next(&ws, (uint8_t[]){0x80, 0}, 2, &used, &item);
  CHECK_INT(item.kind, SW_WS_GOT_MESSAGE);
  CHECK_INT(item.length, 0);
}

static void single_byte_fragments_cost_few_allocations(void) {
  struct sw_ws ws;
  sw_ws_init(&ws, false, 1 << 20);
  need_more(&ws, (uint8_t[]){0x02, 0}, 2);
  unsigned before = allocations;
  for (int round = 0; round < 100000; round++)
    need_more(&ws, (uint8_t[]){0x00, 1, 'm'}, 3);
  CHECK_INT(ws.join_length, 100000);
  CHECK(allocations - before <= 20);
  CHECK(ws.join_capacity <= 200000);
  sw_ws_clear(&ws);
}

/* Pings in pieces lie behind what is joined: neither may make the other's
   growth slow. */
static void pings_in_pieces_do_not_slow_a_growing_message(void) {
  struct sw_ws ws;
  struct sw_ws_item item;
  size_t used, pings = 0;
  sw_ws_init(&ws, false, 1 << 20);
  need_more(&ws, (uint8_t[]){0x02, 0}, 2);
  unsigned before = allocations;
  for (int round = 0; round < 200000; round++) {
    need_more(&ws, (uint8_t[]){0x00, 1, 'm', 0x89, 2, 'p'}, 6);
    sw_ws_next(&ws, (uint8_t[]){'q'}, 1, &used, &item);
    pings += item.kind == SW_WS_GOT_PING && !memcmp(item.data, "pq", 2);
  }
  CHECK_INT(pings, 200000);
  CHECK(allocations - before <= 25);
  sw_ws_next(&ws, (uint8_t[]){0x80, 1, '.'}, 3, &used, &item);
  CHECK_INT(item.length, 200001);
  CHECK(item.data && item.data[0] == 'm' && item.data[199999] == 'm' &&
        item.data[200000] == '.');
  sw_ws_clear(&ws);
}

static void a_parser_is_small(void) {
  CHECK(sizeof(struct sw_ws) <= 64);
}

static void after_the_end_nothing_is_held(void) {
  static const char *const last[] = {"\x88", "\x83"};
  for (int i = 0; i < 2; i++) {
    struct sw_ws ws;
    struct sw_ws_item item;
    size_t used;
    uint8_t bytes[] = {(uint8_t)last[i][0], 0};
    sw_ws_init(&ws, false, 100);
    need_more(&ws, (uint8_t[]){0x01, 2, 'a', 'b'}, 4);
    CHECK(ws.join != NULL);
    sw_ws_next(&ws, bytes, 2, &used, &item);
    CHECK(item.kind == SW_WS_GOT_CLOSE || item.kind == SW_WS_GOT_VIOLATION);
    need_more(&ws, bytes, 2);
    CHECK(ws.join == NULL);
    CHECK(sw_ws_idle(&ws));
    need_more(&ws, NULL, 0);
  }
}

static void nothing_given_is_nothing_used(void) {
  struct sw_ws ws;
  sw_ws_init(&ws, true, 1);
  need_more(&ws, NULL, 0);
  CHECK(sw_ws_idle(&ws));
  sw_ws_clear(&ws);
  sw_ws_clear(&ws);
}

/* ---- Out of memory ----------------------------------------------------- */

/* Feeds the script byte by byte with the |n|th allocation failing; true when
   none was left to fail. */
static bool survive(unsigned n) {
  struct sw_ws ws;
  struct sw_ws_item item = {.kind = SW_WS_NEED_MORE};
  size_t used, at = 0;
  sw_ws_init(&ws, script.masked, script.max);
  fail_from = allocations + n;
  while (at < script.length && item.kind != SW_WS_GOT_VIOLATION) {
    uint8_t one = script.bytes[at];
    sw_ws_next(&ws, &one, 1, &used, &item);
    at += used;
  }
  bool failed = allocations >= fail_from;
  fail_from = 0;
  CHECK_INT(failed, item.kind == SW_WS_GOT_VIOLATION);
  if (failed) {
    CHECK_INT(item.error, SIPWIRE_ENOMEM);
    CHECK_INT(item.close_code, 1011);
    CHECK(item.text && *item.text);
    CHECK(ws.join == NULL);
    need_more(&ws, (uint8_t[]){0x81, 0}, 2);
  }
  sw_ws_clear(&ws);
  return !failed;
}

static void every_failed_allocation_is_survived(void) {
  BOTH_SIDES(masked) {
    begin(masked, 1000);
    frame_str(0x81, "a whole one");
    frame_str(0x89, "a ping by itself");
    frame_str(0x01, "the beginning");
    frame_str(0x8A, "a pong that is longer than all of the message so far");
    frame_str(0x80, "the end");
    frame_str(0x88, "\x03\xE8" "because");
    unsigned n = 1;
    while (n < 100 && !survive(n))
      n++;
    CHECK(n > 15 && n < 100);
  }
}

/* ---- Random streams: any cut gives what the whole gives ---------------- */

static uint32_t seed = 12345;

static uint32_t random_below(uint32_t limit) {
  seed = seed * 1664525u + 1013904223u;
  return (uint32_t)(((uint64_t)seed * limit) >> 32);
}

static void random_frame(bool *inside) {
  static const char *const part[] = {"", "a", "SIP/2.0", "\xC3\xA4",
                                     "\xE2", "\x82\xAC", "\xF0\x9F",
                                     "\x93\x9E", "a longer piece of text"};
  const char *text = part[random_below(sizeof part / sizeof *part)];
  uint32_t dice = random_below(20);
  if (dice < 4) {
    frame_str(dice < 2 ? 0x89 : 0x8A, text);
  } else if (dice == 4 && random_below(4) == 0) {
    frame_str(0x88, random_below(2) ? "\x03\xE8" "bye" : "");
  } else {
    bool fin = random_below(2);
    unsigned opcode = *inside ? 0 : random_below(2) + 1;
    frame_str((fin ? 0x80u : 0) | opcode, text);
    *inside = !fin;
  }
}

static void random_script(bool masked) {
  bool inside = false;
  begin(masked, 40);
  for (uint32_t n = 2 + random_below(12); n > 0; n--)
    random_frame(&inside);
  if (random_below(3) == 0)
    script.bytes[random_below((uint32_t)script.length)] ^=
        (uint8_t)(1u << random_below(8));
}

/* The script's own verdict when fed whole; its fault's byte is the first
   length that is enough for it. */
static void learn(void) {
  struct sw_ws ws;
  script.fault = 0;
  for (size_t length = 0; length <= script.length; length++) {
    script.want.length = 0;
    script.want.text[0] = '\0';
    sw_ws_init(&ws, script.masked, script.max);
    CHECK(feed(&ws, 0, length, &script.want));
    sw_ws_clear(&ws);
    if (!script.fault && strstr(script.want.text, "violation"))
      script.fault = length;
  }
}

static void random_streams_mean_the_same_however_cut(void) {
  unsigned faults = 0, rounds = 300;
  for (unsigned round = 0; round < rounds; round++) {
    random_script(round % 2);
    learn();
    faults += script.fault > 0;
    CHECK(run_cut(script.length, 1));
    CHECK(run_cut(1, 1));
    for (size_t cut = 0; cut < script.length; cut += 1 + cut / 16)
      CHECK(run_cut(cut, 1 + random_below(20)));
  }
  CHECK(faults > rounds / 10 && faults < rounds * 9 / 10);
}

/* ---- Writing ----------------------------------------------------------- */

static void check_header(uint64_t length, const char *want_bytes,
                         size_t want_length) {
  uint8_t out[SW_WS_HEADER_MAX + 1], masked[SW_WS_HEADER_MAX];
  memset(out, 0xEE, sizeof out);
  CHECK_INT(sw_ws_header_size(length, false), want_length);
  CHECK_INT(sw_ws_header_size(length, true), want_length + 4);
  CHECK_INT(sw_ws_write_header(out, SW_WS_TEXT, length, NULL), want_length);
  CHECK_MEM(out, want_length, want_bytes, want_length);
  CHECK_INT(out[want_length], 0xEE);
  memset(out, 0xEE, sizeof out);
  CHECK_INT(sw_ws_write_header(out, SW_WS_TEXT, length, mask_key),
            want_length + 4);
  memcpy(masked, want_bytes, want_length);
  masked[1] |= 0x80;
  memcpy(masked + want_length, mask_key, 4);
  CHECK_MEM(out, want_length + 4, masked, want_length + 4);
  CHECK_INT(out[want_length + 4], 0xEE);
}

static void headers_are_the_shortest(void) {
  check_header(0, "\x81\x00", 2);
  check_header(1, "\x81\x01", 2);
  check_header(125, "\x81\x7D", 2);
  check_header(126, "\x81\x7E\x00\x7E", 4);
  check_header(256, "\x81\x7E\x01\x00", 4);
  check_header(65535, "\x81\x7E\xFF\xFF", 4);
  check_header(65536, "\x81\x7F\0\0\0\0\0\1\0\0", 10);
  check_header(UINT64_C(1) << 32, "\x81\x7F\0\0\0\1\0\0\0\0", 10);
  check_header(UINT64_C(0x0102030405060708), "\x81\x7F\1\2\3\4\5\6\7\b", 10);
}

static void headers_name_their_opcode(void) {
  static const enum sw_ws_opcode opcode[] = {SW_WS_TEXT, SW_WS_BINARY,
                                             SW_WS_CLOSE, SW_WS_PING,
                                             SW_WS_PONG};
  uint8_t out[SW_WS_HEADER_MAX];
  for (int i = 0; i < 5; i++) {
    CHECK_INT(sw_ws_write_header(out, opcode[i], 3, NULL), 2);
    CHECK_INT(out[0], 0x80 | (int)opcode[i]);
  }
}

static bool masks_right(size_t length, size_t from, size_t to, bool in_place) {
  uint8_t in[96], out[96], expected[96];
  for (size_t i = 0; i < sizeof in; i++)
    in[i] = (uint8_t)(i * 37 + 11);
  memcpy(out, in, sizeof out);
  memcpy(expected, in, sizeof expected);
  for (size_t i = 0; i < length; i++)
    expected[to + i] = in[(in_place ? to : from) + i] ^ mask_key[i % 4];
  sw_ws_mask(out + to, in_place ? out + to : in + from, length, mask_key);
  return !memcmp(out, expected, sizeof out);
}

static void masking_is_the_same_at_all_lengths_and_places(void) {
  for (size_t length = 0; length <= 70; length++)
    for (size_t from = 0; from <= 8; from++)
      for (size_t to = 0; to <= 8; to++)
        CHECK(masks_right(length, from, to, false) &&
              masks_right(length, from, to, true));
  sw_ws_mask(NULL, NULL, 0, mask_key);
}

static void masking_stays_in_bounds(void) {
  uint8_t data[100] = {0};
  for (size_t length = 0; length <= 100; length++) {
    uint8_t *copy = test_guarded(data, length);
    sw_ws_mask(copy, copy, length, mask_key);
    CHECK(!length || copy[length - 1] == mask_key[(length - 1) % 4]);
    test_unguard(copy, length);
  }
}

static void check_close(unsigned code, const char *reason, size_t length,
                        const char *want_bytes, size_t want_length) {
  uint8_t out[SW_WS_CONTROL_MAX + 1];
  memset(out, 0xEE, sizeof out);
  size_t got = sw_ws_write_close_payload(out, code, reason, length);
  CHECK_MEM(out, got, want_bytes, want_length);
  CHECK_INT(out[want_length], 0xEE);
}

static void close_payloads_hold_code_and_reason(void) {
  check_close(1000, NULL, 0, "\x03\xE8", 2);
  check_close(4999, "bye", 3, "\x13\x87" "bye", 5);
  check_close(1005, "unsaid", 6, "", 0);
  check_close(1005, NULL, 0, "", 0);
}

/* |tail| stands behind |before| letters; |kept| bytes of all fit. */
static void check_cut_reason(size_t before, const char *tail, size_t kept) {
  char reason[200], payload_bytes[202] = "\x03\xE9";
  memset(reason, 'r', sizeof reason);
  memcpy(reason + before, tail, strlen(tail));
  memcpy(payload_bytes + 2, reason, sizeof reason);
  check_close(1001, reason, before + strlen(tail), payload_bytes, kept + 2);
}

static void reasons_are_cut_between_characters(void) {
  check_cut_reason(122, "r", 123);
  check_cut_reason(123, "r", 123);
  check_cut_reason(150, "r", 123);
  check_cut_reason(121, "\xC3\xA4", 123);
  check_cut_reason(122, "\xC3\xA4", 122);
  check_cut_reason(123, "\xC3\xA4", 123);
  check_cut_reason(120, "\xE2\x82\xAC", 123);
  check_cut_reason(121, "\xE2\x82\xAC", 121);
  check_cut_reason(122, "\xE2\x82\xAC", 122);
  check_cut_reason(119, "\xF0\x9F\x93\x9E", 123);
  check_cut_reason(120, "\xF0\x9F\x93\x9E", 120);
  check_cut_reason(121, "\xF0\x9F\x93\x9E", 121);
  check_cut_reason(122, "\xF0\x9F\x93\x9E", 122);
  check_cut_reason(122, "\xF0\x9F\x93\x9E and on", 122);
}

int main(void) {
  RUN(rfc_hello_and_pings);
  RUN(rfc_long_binaries);
  RUN(every_length_arrives);
  RUN(fragments_are_joined_around_control_frames);
  RUN(empty_messages_and_fragments);
  RUN(bytes_of_any_value_pass_in_binary);
  RUN(control_frames_of_all_lengths);
  RUN(a_close_frame_ends_everything);
  RUN(all_other_first_bytes_are_violations);
  RUN(a_continuation_after_the_end_is_a_violation);
  RUN(each_side_has_its_masking_rule);
  RUN(control_frames_are_short);
  RUN(lengths_take_their_shortest_form);
  RUN(lengths_have_63_bits);
  RUN(announced_lengths_above_the_limit);
  RUN(the_limit_itself_is_allowed);
  RUN(joined_totals_above_the_limit);
  RUN(half_a_close_code);
  RUN(close_codes_are_checked);
  RUN(whole_texts_are_checked);
  RUN(close_reasons_are_checked);
  RUN(a_character_may_span_fragments);
  RUN(bad_text_in_fragments_is_known_at_its_byte);
  RUN(texts_end_with_a_character);
  RUN(utf8_starts_afresh_with_each_text);
  RUN(whole_frames_are_not_copied);
  RUN(a_payload_behind_its_header_is_not_copied);
  RUN(joined_memory_goes_with_its_message);
  RUN(idle_is_between_messages_only);
  RUN(what_is_announced_costs_nothing);
  RUN(a_known_end_bounds_the_memory);
  RUN(empty_fragments_cost_nothing);
  RUN(single_byte_fragments_cost_few_allocations);
  RUN(pings_in_pieces_do_not_slow_a_growing_message);
  RUN(a_parser_is_small);
  RUN(after_the_end_nothing_is_held);
  RUN(nothing_given_is_nothing_used);
  RUN(every_failed_allocation_is_survived);
  RUN(random_streams_mean_the_same_however_cut);
  RUN(headers_are_the_shortest);
  RUN(headers_name_their_opcode);
  RUN(masking_is_the_same_at_all_lengths_and_places);
  RUN(masking_stays_in_bounds);
  RUN(close_payloads_hold_code_and_reason);
  RUN(reasons_are_cut_between_characters);
  return test_summary("ws");
}
