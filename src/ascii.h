/* SPDX-License-Identifier: MIT */
#ifndef SW_ASCII_H
#define SW_ASCII_H

/* Characters and words, as no locale changes them.  Pure. */

#include <stdbool.h>
#include <string.h>

#include "slice.h"

static inline bool sw_is_digit(char c) {
  return c >= '0' && c <= '9';
}

static inline char sw_lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static inline bool sw_is_alnum(char c) {
  return sw_is_digit(c) || (sw_lower(c) >= 'a' && sw_lower(c) <= 'z');
}

/* A NUL is in no set. */
static inline bool sw_is_one_of(char c, const char *set) {
  return c && strchr(set, c);
}

/* What HTTP's tokens are made of (RFC 9110 section 5.6.2). */
static inline bool sw_is_token(char c) {
  return sw_is_alnum(c) || sw_is_one_of(c, "!#$%&'*+-.^_`|~");
}

/* Whether |text| is |word|, in any case. */
static inline bool sw_is_word(struct sw_slice text, const char *word) {
  size_t i = 0;
  while (i < text.length && word[i] &&
         sw_lower(text.data[i]) == sw_lower(word[i]))
    i++;
  return i == text.length && !word[i];
}

#endif
