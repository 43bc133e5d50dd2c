/* SPDX-License-Identifier: MIT */
/* The reference knows no rule of UTF-8 but how a code point is written: it
   marks what encoding every code point gives, and all beginnings of that. */
#include "test.h"
#include "utf8.h"

enum { LEADS = 256, PAIRS = 256 * 256, TRIPLES = 256 * 256 * 256 };

/* Of one to three bytes: 0 if no character begins so, else the length of the
   characters that do (it is the same for all, which mark() checks). */
static uint8_t leads[LEADS], pairs[PAIRS], triples[TRIPLES];

static size_t encode(uint8_t *out, unsigned point) {
  if (point < 0x80)
    return out[0] = (uint8_t)point, 1;
  size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  for (size_t i = length; --i > 0; point >>= 6)
    out[i] = (uint8_t)(0x80 | (point & 0x3F));
  out[0] = (uint8_t)((0xF00 >> length) | point);
  return length;
}

static unsigned join(const uint8_t *bytes, size_t length) {
  unsigned value = 0;
  for (size_t i = 0; i < length; i++)
    value = value << 8 | bytes[i];
  return value;
}

static void mark(uint8_t *table, const uint8_t *bytes, size_t prefix,
                 size_t length) {
  uint8_t *entry = &table[join(bytes, prefix)];
  if (*entry && *entry != length)
    CHECK_INT(length, *entry);
  *entry = (uint8_t)length;
}

static void build_reference(void) {
  uint8_t bytes[4];
  for (unsigned point = 0; point <= 0x10FFFF; point++) {
    if (point >= 0xD800 && point <= 0xDFFF)
      continue;
    size_t length = encode(bytes, point);
    mark(leads, bytes, 1, length);
    if (length > 1)
      mark(pairs, bytes, 2, length);
    if (length > 2)
      mark(triples, bytes, 3, length);
  }
}

/* How long the character is of which |bytes| is a beginning (or the whole);
   0 if there is none. */
static size_t begins(const uint8_t *bytes, size_t length) {
  switch (length) {
  case 1:
    return leads[bytes[0]];
  case 2:
    return pairs[join(bytes, 2)];
  case 3:
    return triples[join(bytes, 3)];
  default: /* the last of four bytes carries six free bits */
    return triples[join(bytes, 3)] == 4 && bytes[3] >> 6 == 2 ? 4 : 0;
  }
}

enum { BAD = -1 };

/* What the text lacks at its end, or BAD. */
static int reference(const uint8_t *text, size_t length) {
  size_t start = 0, whole = 0;
  for (size_t at = 0; at < length; at++) {
    whole = begins(text + start, at + 1 - start);
    if (!whole)
      return BAD;
    if (whole == at + 1 - start)
      start = at + 1;
  }
  return start == length ? 0 : (int)(whole - (length - start));
}

/* The state as the reference counts. */
static int verdict(uint8_t state) {
  if (state == SW_UTF8_BAD)
    return BAD;
  if (state == SW_UTF8_START)
    return 0;
  return sw_utf8_missing(state) ? (int)sw_utf8_missing(state) : -2;
}

/* Compares every beginning of |text| with the reference: so badness is told
   at its first byte.  And every cut in two gives the state of the whole. */
static bool agrees(const uint8_t *text, size_t length) {
  for (size_t end = 0; end <= length; end++) {
    uint8_t state = sw_utf8_feed(SW_UTF8_START, text, end);
    int want = reference(text, end);
    if (verdict(state) != want)
      return false;
    if (sw_utf8_valid(text, end) != (want == 0))
      return false;
    uint8_t rest = sw_utf8_feed(state, text + end, length - end);
    if (rest != sw_utf8_feed(SW_UTF8_START, text, length))
      return false;
  }
  return true;
}

static bool check_text(const uint8_t *text, size_t length) {
  bool right = agrees(text, length);
  if (!CHECK(right))
    for (size_t i = 0; i < length; i++)
      fprintf(stderr, "  byte %zu is %02X\n", i, text[i]);
  return right;
}

static void one_and_two_bytes_are_judged_as_the_encoder_writes_them(void) {
  uint8_t text[2];
  for (unsigned value = 0; value < PAIRS; value++) {
    text[0] = (uint8_t)(value >> 8);
    text[1] = (uint8_t)value;
    if (!check_text(text, 1) || !check_text(text, 2))
      return;
  }
  CHECK(true);
}

/* All of agrees(), with the work on the first two bytes shared. */
static bool triples_agree(uint8_t first, uint8_t second) {
  uint8_t text[3] = {first, second, 0};
  uint8_t one = sw_utf8_feed(SW_UTF8_START, text, 1);
  uint8_t two = sw_utf8_feed(one, text + 1, 1);
  for (unsigned third = 0; third < 256; third++) {
    text[2] = (uint8_t)third;
    uint8_t whole = sw_utf8_feed(SW_UTF8_START, text, 3);
    if (whole != sw_utf8_feed(one, text + 1, 2) ||
        whole != sw_utf8_feed(two, text + 2, 1) ||
        verdict(whole) != reference(text, 3))
      return check_text(text, 3);
  }
  return true;
}

static void three_bytes_are_judged_as_the_encoder_writes_them(void) {
  for (unsigned pair = 0; pair < PAIRS; pair++)
    if (!CHECK(triples_agree((uint8_t)(pair >> 8), (uint8_t)pair)))
      return;
}

static void four_bytes_are_judged_at_all_boundaries(void) {
  static const uint8_t edge[] = {0x00, 0x41, 0x7F, 0x80, 0x81, 0x8F, 0x90,
                                 0x91, 0x9F, 0xA0, 0xA1, 0xBF, 0xC0, 0xC2,
                                 0xE0, 0xED, 0xF0, 0xF4, 0xFF};
  enum { N = sizeof edge };
  for (unsigned n = 0; n < 256 * N * N * N; n++) {
    uint8_t text[] = {(uint8_t)(n / (N * N * N)), edge[n / (N * N) % N],
                      edge[n / N % N], edge[n % N]};
    if (!check_text(text, sizeof text))
      return;
  }
  CHECK(true);
}

static void every_code_point_but_surrogates_is_valid(void) {
  uint8_t bytes[4];
  unsigned valid = 0;
  for (unsigned point = 0; point <= 0x10FFFF; point++)
    valid += sw_utf8_valid(bytes, encode(bytes, point));
  CHECK_INT(valid, 0x110000 - 0x800);
}

static void bad_stays_bad(void) {
  uint8_t byte = 0;
  do
    CHECK_INT(sw_utf8_feed(SW_UTF8_BAD, &byte, 1), SW_UTF8_BAD);
  while (++byte);
  CHECK_INT(sw_utf8_feed(SW_UTF8_BAD, "fine", 4), SW_UTF8_BAD);
  CHECK_INT(sw_utf8_feed(SW_UTF8_BAD, NULL, 0), SW_UTF8_BAD);
}

static void nothing_changes_no_state(void) {
  for (unsigned state = 0; state < 256; state++)
    CHECK_INT(sw_utf8_feed((uint8_t)state, NULL, 0), state);
  CHECK(sw_utf8_valid(NULL, 0));
  CHECK(sw_utf8_valid("", 0));
}

static void known_texts(void) {
  CHECK(sw_utf8_valid("\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5", 11));
  CHECK(sw_utf8_valid("\xF4\x8F\xBF\xBF", 4));
  CHECK(sw_utf8_valid("\xEF\xBF\xBF\0x", 5));
  CHECK(!sw_utf8_valid("\xF4\x90\x80\x80", 4));
  CHECK(!sw_utf8_valid("\xC0\x80", 2));
  CHECK(!sw_utf8_valid("\xED\xA0\x80", 3));
  CHECK(!sw_utf8_valid("\xE2\x82", 2));
  CHECK(!sw_utf8_valid("\xF8\x88\x80\x80\x80", 5));
}

/* Places |part| in ASCII of every length and alignment, so that it meets
   every step of the fast way. */
static void check_placed(const char *part, size_t size) {
  enum { MOST = 150 };
  uint8_t text[MOST];
  for (size_t length = size; length <= MOST; length++) {
    memset(text, 'a', sizeof text);
    for (size_t at = 0; at + size <= length; at++) {
      memcpy(text + at, part, size);
      uint8_t *copy = test_guarded(text, length);
      int want = reference(text, length);
      bool right = verdict(sw_utf8_feed(SW_UTF8_START, copy, length)) == want;
      for (size_t skip = 0; skip < 8 && skip <= at; skip++)
        right = right && sw_utf8_valid(copy + skip, length - skip) == !want;
      CHECK(right);
      test_unguard(copy, length);
      memset(text + at, 'a', size);
    }
  }
}

static void the_fast_way_misses_nothing(void) {
  check_placed("\x80", 1);
  check_placed("\xFF", 1);
  check_placed("\x7F", 1);
  check_placed("\xC3\xA4", 2);
  check_placed("\xE2\x82\xAC", 3);
  check_placed("\xF0\x9F\x93\x9E", 4);
  check_placed("\xF0\x9F\x93", 3);
  check_placed("\xC3\xA4\x80", 3);
}

static void missing_counts_to_the_end_of_the_character(void) {
  CHECK_INT(sw_utf8_missing(SW_UTF8_START), 0);
  CHECK_INT(sw_utf8_missing(SW_UTF8_BAD), 0);
  CHECK_INT(sw_utf8_missing(sw_utf8_feed(SW_UTF8_START, "\xF4", 1)), 3);
  CHECK_INT(sw_utf8_missing(sw_utf8_feed(SW_UTF8_START, "\xF4\x8F", 2)), 2);
  CHECK_INT(sw_utf8_missing(sw_utf8_feed(SW_UTF8_START, "\xED\x9F", 2)), 1);
}

int main(void) {
  build_reference();
  RUN(one_and_two_bytes_are_judged_as_the_encoder_writes_them);
  RUN(three_bytes_are_judged_as_the_encoder_writes_them);
  RUN(four_bytes_are_judged_at_all_boundaries);
  RUN(every_code_point_but_surrogates_is_valid);
  RUN(bad_stays_bad);
  RUN(nothing_changes_no_state);
  RUN(known_texts);
  RUN(the_fast_way_misses_nothing);
  RUN(missing_counts_to_the_end_of_the_character);
  return test_summary("utf8");
}
