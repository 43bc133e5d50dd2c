/* SPDX-License-Identifier: MIT */
#ifndef SW_ASCII_H
#define SW_ASCII_H

/* Character classes that no locale changes.  Pure. */

#include <stdbool.h>
#include <string.h>

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

#endif
