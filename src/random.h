/* SPDX-License-Identifier: MIT */
#ifndef SW_RANDOM_H
#define SW_RANDOM_H

/* Unpredictable bytes, fetched from OpenSSL's generator a block at a time. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SW_RANDOM_BLOCK = 1024 };

struct sw_random {
  uint8_t block[SW_RANDOM_BLOCK];
  size_t left; /* bytes at the block's end that were not given out yet */
};

/* sw_random_bytes writes |length| bytes, at most SW_RANDOM_BLOCK.  All zero is
   a fresh |random|.  Given bytes are wiped from the block.  It returns false
   when the generator fails; then nothing may be sent. */
bool sw_random_bytes(struct sw_random *random, void *out, size_t length);

/* base64 and SHA-1 as the upgrade needs them (RFC 6455 section 4): a fresh key
   of SW_HTTP_KEY_LENGTH characters, and what the server must answer to it,
   SW_HTTP_ACCEPT_LENGTH characters; both with a NUL behind. */
bool sw_random_key(struct sw_random *random, char *key);
bool sw_random_accept(const char *key, char *accept);

#endif
