/* SPDX-License-Identifier: MIT */
/* A module built with ASan needs LD_PRELOAD to be loaded by a plain Lua.
   Preloaded behind it, this keeps it from all that the Lua starts. */

#define _DEFAULT_SOURCE
#include <stdlib.h>

static __attribute__((constructor)) void unpreload(void) {
  unsetenv("LD_PRELOAD");
}
