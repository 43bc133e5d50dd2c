/* SPDX-License-Identifier: MIT */
#ifndef SW_SLICE_H
#define SW_SLICE_H

#include <stddef.h>

/* Some bytes of somebody else's text, not NUL-terminated. */
struct sw_slice {
  const char *data;
  size_t length;
};

#endif
