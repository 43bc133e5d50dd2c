/* SPDX-License-Identifier: MIT */
/* Keeps bytes in one piece of memory.  It moves them only when as many were
   taken away in front, so that each byte is moved a bounded number of times,
   and must not keep memory when it keeps no bytes. */
#define _GNU_SOURCE
#include "buffer.h"

#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

static void move_to_front(struct sw_buffer *buffer) {
  size_t length = sw_buffer_length(buffer);
  memcpy(buffer->data, buffer->data + buffer->start, length);
  buffer->start = 0;
  buffer->end = length;
}

static size_t grown(size_t capacity, size_t needed) {
  if (capacity <= SIZE_MAX / 2 && 2 * capacity > needed)
    return 2 * capacity;
  return needed > SMALLEST ? needed : SMALLEST;
}

/* Not realloc(), which would copy what was taken away too. */
static bool move_to_new(struct sw_buffer *buffer, size_t needed) {
  size_t length = sw_buffer_length(buffer);
  size_t capacity = grown(buffer->capacity, needed);
  uint8_t *data = malloc(capacity);
  if (!data)
    return false;
  if (length)
    memcpy(data, buffer->data + buffer->start, length);
  free(buffer->data);
  *buffer = (struct sw_buffer){data, 0, length, capacity};
  return true;
}

uint8_t *sw_buffer_reserve(struct sw_buffer *buffer, size_t length) {
  size_t kept = sw_buffer_length(buffer);
  if (length > SIZE_MAX - kept)
    return NULL;
  if (!buffer->data || length > buffer->capacity - buffer->end) {
    if (buffer->data && kept + length <= buffer->capacity &&
        kept <= buffer->start)
      move_to_front(buffer);
    else if (!move_to_new(buffer, kept + length))
      return NULL;
  }
  return buffer->data + buffer->end;
}

void sw_buffer_commit(struct sw_buffer *buffer, size_t length) {
  buffer->end += length;
}

bool sw_buffer_append(struct sw_buffer *buffer, const void *data,
                      size_t length) {
  if (!length)
    return true;
  uint8_t *room = sw_buffer_reserve(buffer, length);
  if (!room)
    return false;
  memcpy(room, data, length);
  sw_buffer_commit(buffer, length);
  return true;
}

void sw_buffer_consume(struct sw_buffer *buffer, size_t length) {
  if (length < sw_buffer_length(buffer))
    buffer->start += length;
  else
    sw_buffer_clear(buffer);
}

void sw_buffer_clear(struct sw_buffer *buffer) {
  free(buffer->data);
  *buffer = (struct sw_buffer){0};
}

void sw_buffer_wipe(struct sw_buffer *buffer) {
  if (buffer->data)
    explicit_bzero(buffer->data, buffer->capacity);
  sw_buffer_clear(buffer);
}
