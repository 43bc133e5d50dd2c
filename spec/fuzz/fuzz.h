/* SPDX-License-Identifier: MIT */
#ifndef SW_FUZZ_H
#define SW_FUZZ_H

/* What the fuzzers share: a check that ends the run, and pieces of an input. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define REQUIRE(condition)                                                     \
  ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))

static inline void fuzz_fail(const char *what, const char *file, int line) {
  fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
  abort();
}

struct input {
  const uint8_t *at, *end;
};

static inline size_t input_left(const struct input *input) {
  return (size_t)(input->end - input->at);
}

/* The next byte, or 0 behind the end. */
static inline uint8_t input_byte(struct input *input) {
  return input->at < input->end ? *input->at++ : 0;
}

/* |*length| bytes, or as many as there are. */
static inline const uint8_t *input_bytes(struct input *input, size_t *length) {
  const uint8_t *bytes = input->at;
  if (*length > input_left(input))
    *length = input_left(input);
  input->at += *length;
  return bytes;
}

/* UTF-8 as the table of RFC 3629 section 4 has it, one character at a time:
   another way than the library's. */
static inline size_t utf8_character(const uint8_t *at, size_t left) {
  uint8_t a = at[0], low = 0x80, high = 0xBF;
  size_t size = a < 0x80 ? 1 : a < 0xE0 ? 2 : a < 0xF0 ? 3 : 4;
  if (a < 0x80)
    return 1;
  if (a < 0xC2 || a > 0xF4 || size > left)
    return 0;
  low = a == 0xE0 ? 0xA0 : a == 0xF0 ? 0x90 : low;
  high = a == 0xED ? 0x9F : a == 0xF4 ? 0x8F : high;
  if (at[1] < low || at[1] > high)
    return 0;
  for (size_t i = 2; i < size; i++)
    if (at[i] < 0x80 || at[i] > 0xBF)
      return 0;
  return size;
}

static inline bool utf8_is_valid(const uint8_t *at, size_t length) {
  while (length) {
    size_t size = utf8_character(at, length);
    if (!size)
      return false;
    at += size;
    length -= size;
  }
  return true;
}

static inline bool close_code_is_valid(unsigned code) {
  return (code >= 1000 && code <= 1014 && code != 1004 && code != 1005 &&
          code != 1006) ||
         (code >= 3000 && code < 5000);
}

/* A copy whose ends AddressSanitizer watches; of 0 bytes it is not NULL. */
static inline uint8_t *exact_copy(const void *data, size_t length) {
  uint8_t *copy = malloc(length ? length : 1);
  if (length)
    memcpy(copy, data, length);
  return copy;
}

#endif
