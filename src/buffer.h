/* SPDX-License-Identifier: MIT */
#ifndef SW_BUFFER_H
#define SW_BUFFER_H

/* Bytes that are appended behind and taken away in front.  Pure. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* All zero is an empty buffer. */
struct sw_buffer {
  uint8_t *data;
  size_t start, end, capacity;
};

static inline size_t sw_buffer_length(const struct sw_buffer *buffer) {
  return buffer->end - buffer->start;
}

static inline uint8_t *sw_buffer_bytes(const struct sw_buffer *buffer) {
  return buffer->data ? buffer->data + buffer->start : NULL;
}

/* sw_buffer_reserve returns where |length| more bytes can be written, or
   NULL.  sw_buffer_commit makes them part of the buffer. */
uint8_t *sw_buffer_reserve(struct sw_buffer *buffer, size_t length);
void sw_buffer_commit(struct sw_buffer *buffer, size_t length);

/* sw_buffer_append copies |length| bytes in; false when out of memory, with
   the buffer unchanged. */
bool sw_buffer_append(struct sw_buffer *buffer, const void *data,
                      size_t length);

/* sw_buffer_consume takes |length| bytes away in front, and releases the
   memory when nothing is left. */
void sw_buffer_consume(struct sw_buffer *buffer, size_t length);

/* sw_buffer_clear empties the buffer and releases its memory. */
void sw_buffer_clear(struct sw_buffer *buffer);

/* sw_buffer_wipe also overwrites what was in that memory. */
void sw_buffer_wipe(struct sw_buffer *buffer);

#endif
