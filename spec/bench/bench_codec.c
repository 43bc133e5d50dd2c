/* SPDX-License-Identifier: MIT */
/* The RFC 6455 codec on messages of 500 bytes, for counting instructions.
     bench_codec in|out COUNT
   in: parses a server's frames;  out: writes a client's, masked. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ws.h"

enum { SIZE = 500, FRAMES = 100 };

static void fail(const char *what) {
  fprintf(stderr, "bench_codec: %s\n", what);
  exit(1);
}

static size_t write_frame(uint8_t *out, const uint8_t *mask) {
  size_t header = sw_ws_write_header(out, SW_WS_TEXT, SIZE, mask);
  memset(out + header, 'x', SIZE);
  if (mask)
    sw_ws_mask(out + header, out + header, SIZE, mask);
  return header + SIZE;
}

static void parse(uint8_t *bytes, size_t length, struct sw_ws *ws) {
  struct sw_ws_item item;
  for (int i = 0; i < FRAMES; i++) {
    size_t used = 0;
    sw_ws_next(ws, bytes, length, &used, &item);
    if (item.kind != SW_WS_GOT_MESSAGE || item.length != SIZE)
      fail("no message");
    bytes += used;
    length -= used;
  }
}

int main(int argc, char **argv) {
  static uint8_t frames[FRAMES * (SIZE + SW_WS_HEADER_MAX)];
  static const uint8_t mask[4] = {1, 2, 3, 4};
  struct sw_ws ws;
  size_t length = 0;
  if (argc < 3)
    fail("arguments");
  int in = !strcmp(argv[1], "in");
  for (int i = 0; i < FRAMES; i++)
    length += write_frame(frames + length, NULL);
  sw_ws_init(&ws, false, 65536);
  for (long left = atol(argv[2]); left > 0; left -= FRAMES) {
    if (in)
      parse(frames, length, &ws);
    else
      for (int i = 0; i < FRAMES; i++)
        write_frame(frames, mask);
  }
  sw_ws_clear(&ws);
  return 0;
}
