/* SPDX-License-Identifier: MIT */
#ifndef SW_UTF8_H
#define SW_UTF8_H

/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above
   U+10FFFF.  Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The state between two pieces of a text; SW_UTF8_START before the first. */
enum { SW_UTF8_START = 0, SW_UTF8_BAD = 1 };

/* sw_utf8_feed checks |length| more bytes and returns the new state:
   SW_UTF8_BAD as soon as no continuation could make the text valid (and for
   ever after), SW_UTF8_START at a character's end, else something between. */
uint8_t sw_utf8_feed(uint8_t state, const void *data, size_t length);

/* sw_utf8_missing returns how many more bytes the character that |state|
   stands in needs; 0 for SW_UTF8_START and SW_UTF8_BAD. */
size_t sw_utf8_missing(uint8_t state);

/* sw_utf8_valid tells whether |data| is a whole, valid text. */
bool sw_utf8_valid(const void *data, size_t length);

#endif
