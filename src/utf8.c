/* SPDX-License-Identifier: MIT */
/* Judges UTF-8 byte by byte, and ASCII many bytes at a time.  It must not
   read outside what it is given, nor allocate. */
#include "utf8.h"

#include <string.h>

/* A state is four times the number of continuation bytes to come, plus one or
   two where the next of them may not be all of 80..BF. */
enum {
  ONE_MORE = 4,
  TWO_MORE = 8,
  AFTER_E0, /* A0..BF: shorter forms exist for the rest */
  AFTER_ED, /* 80..9F: the rest are surrogates */
  THREE_MORE = 12,
  AFTER_F0, /* 90..BF: shorter forms exist for the rest */
  AFTER_F4  /* 80..8F: the rest is above U+10FFFF */
};

static uint8_t lead(uint8_t byte) {
  if (byte < 0x80)
    return SW_UTF8_START;
  if (byte < 0xC2 || byte > 0xF4) /* C0, C1: a shorter form exists */
    return SW_UTF8_BAD;
  if (byte < 0xE0)
    return ONE_MORE;
  switch (byte) {
  case 0xE0:
    return AFTER_E0;
  case 0xED:
    return AFTER_ED;
  case 0xF0:
    return AFTER_F0;
  case 0xF4:
    return AFTER_F4;
  default:
    return byte < 0xF0 ? TWO_MORE : THREE_MORE;
  }
}

static uint8_t step(uint8_t state, uint8_t byte) {
  uint8_t low = 0x80, high = 0xBF;
  switch (state) {
  case SW_UTF8_START:
    return lead(byte);
  case AFTER_E0:
    low = 0xA0;
    break;
  case AFTER_ED:
    high = 0x9F;
    break;
  case AFTER_F0:
    low = 0x90;
    break;
  case AFTER_F4:
    high = 0x8F;
    break;
  default:
    break;
  }
  if (byte < low || byte > high)
    return SW_UTF8_BAD;
  return (uint8_t)((sw_utf8_missing(state) - 1) * ONE_MORE);
}

static uint64_t load(const uint8_t *at) {
  uint64_t word;
  memcpy(&word, at, sizeof word);
  return word;
}

static const uint8_t *skip_ascii(const uint8_t *at, const uint8_t *end) {
  const uint64_t high = UINT64_C(0x8080808080808080);
  for (; end - at >= 64; at += 64) {
    uint64_t word = load(at) | load(at + 8) | load(at + 16) | load(at + 24) |
                    load(at + 32) | load(at + 40) | load(at + 48) |
                    load(at + 56);
    if (word & high)
      break;
  }
  for (; end - at >= 8 && !(load(at) & high); at += 8)
    continue;
  while (at < end && *at < 0x80)
    at++;
  return at;
}

uint8_t sw_utf8_feed(uint8_t state, const void *data, size_t length) {
  if (!length)
    return state;
  const uint8_t *at = data, *end = at + length;
  while (at < end && state != SW_UTF8_BAD) {
    if (state == SW_UTF8_START && *at < 0x80)
      at = skip_ascii(at, end);
    else
      state = step(state, *at++);
  }
  return state;
}

size_t sw_utf8_missing(uint8_t state) {
  return state / ONE_MORE;
}

bool sw_utf8_valid(const void *data, size_t length) {
  return sw_utf8_feed(SW_UTF8_START, data, length) == SW_UTF8_START;
}
