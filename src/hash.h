/* SPDX-License-Identifier: MIT */
#ifndef SW_HASH_H
#define SW_HASH_H

/* Hashes as Digest needs them (RFC 7616 section 3.4). */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "slice.h"

/* sw_hash writes H(part ":" part ":" ...) in lower-case hex and a NUL to
   |hex|, of SIPWIRE_HASH_SIZE bytes.  |name| is one that sipwire_hash knows.
   It returns false when OpenSSL does not do it, as MD5 in FIPS mode. */
bool sw_hash(const char *name, char *hex, size_t count,
             const struct sw_slice *parts);

/* sw_hex writes two lower-case digits for each byte and a NUL. */
void sw_hex(const uint8_t *bytes, size_t length, char *hex);

#endif
