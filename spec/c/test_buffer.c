/* SPDX-License-Identifier: MIT */
/* Link with -Wl,--wrap=malloc,--wrap=realloc. */
#include "buffer.h"
#include "test.h"

#include <stdlib.h>

void *__real_malloc(size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_realloc(void *memory, size_t size);

static unsigned allocations;
static bool memory_is_out;

void *__wrap_malloc(size_t size) {
  allocations++;
  return memory_is_out ? NULL : __real_malloc(size);
}

void *__wrap_realloc(void *memory, size_t size) {
  allocations++;
  return memory_is_out ? NULL : __real_realloc(memory, size);
}

static void an_empty_buffer_holds_nothing(void) {
  struct sw_buffer buffer = {0};
  CHECK_INT(sw_buffer_length(&buffer), 0);
  CHECK(sw_buffer_append(&buffer, NULL, 0));
  sw_buffer_consume(&buffer, 0);
  CHECK(buffer.data == NULL);
  sw_buffer_clear(&buffer);
  sw_buffer_clear(&buffer);
}

static void bytes_come_out_as_they_went_in(void) {
  struct sw_buffer buffer = {0};
  CHECK(sw_buffer_append(&buffer, "REGISTER", 8));
  CHECK(sw_buffer_append(&buffer, " sip:", 5));
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer),
            "REGISTER sip:", 13);
  sw_buffer_consume(&buffer, 9);
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer), "sip:", 4);
  sw_buffer_clear(&buffer);
  CHECK_INT(sw_buffer_length(&buffer), 0);
}

static void reserved_bytes_count_once_committed(void) {
  struct sw_buffer buffer = {0};
  CHECK(sw_buffer_append(&buffer, "a", 1));
  uint8_t *room = sw_buffer_reserve(&buffer, 5000);
  CHECK(room != NULL);
  memset(room, 'b', 5000);
  CHECK_INT(sw_buffer_length(&buffer), 1);
  sw_buffer_commit(&buffer, 3);
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer), "abbb", 4);
  sw_buffer_clear(&buffer);
  CHECK(sw_buffer_reserve(&buffer, 0) != NULL);
  sw_buffer_clear(&buffer);
}

static void memory_goes_with_the_last_byte(void) {
  struct sw_buffer buffer = {0};
  CHECK(sw_buffer_append(&buffer, "abc", 3));
  sw_buffer_consume(&buffer, 2);
  CHECK(buffer.data != NULL);
  sw_buffer_consume(&buffer, 1);
  CHECK(buffer.data == NULL);
  CHECK_INT(buffer.capacity, 0);
  CHECK(sw_buffer_append(&buffer, "d", 1));
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer), "d", 1);
  sw_buffer_clear(&buffer);
  CHECK(buffer.data == NULL);
}

static void without_memory_nothing_changes(void) {
  struct sw_buffer buffer = {0};
  memory_is_out = true;
  CHECK(!sw_buffer_append(&buffer, "abc", 3));
  CHECK(buffer.data == NULL && sw_buffer_length(&buffer) == 0);
  memory_is_out = false;
  CHECK(sw_buffer_append(&buffer, "abcdef", 6));
  sw_buffer_consume(&buffer, 2);
  struct sw_buffer before = buffer;
  memory_is_out = true;
  CHECK(sw_buffer_reserve(&buffer, 1 << 20) == NULL);
  memory_is_out = false;
  CHECK(!memcmp(&before, &buffer, sizeof buffer));
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer), "cdef", 4);
  sw_buffer_clear(&buffer);
}

static void impossible_lengths_are_refused(void) {
  struct sw_buffer buffer = {0};
  CHECK(sw_buffer_append(&buffer, "abc", 3));
  unsigned before = allocations;
  CHECK(sw_buffer_reserve(&buffer, SIZE_MAX) == NULL);
  CHECK(sw_buffer_reserve(&buffer, SIZE_MAX - 2) == NULL);
  CHECK_INT(allocations, before);
  CHECK_MEM(sw_buffer_bytes(&buffer), sw_buffer_length(&buffer), "abc", 3);
  sw_buffer_clear(&buffer);
}

/* Byte number n of an endless stream. */
static uint8_t stream_byte(size_t n) {
  return (uint8_t)(n * 31 + n / 251);
}

static bool append_stream(struct sw_buffer *buffer, size_t *in, size_t count) {
  uint8_t piece[1000];
  for (size_t i = 0; i < count; i++)
    piece[i] = stream_byte((*in)++);
  return sw_buffer_append(buffer, piece, count);
}

static bool consume_stream(struct sw_buffer *buffer, size_t *out,
                           size_t count) {
  bool right = true;
  for (size_t i = 0; i < count; i++)
    right = right && sw_buffer_bytes(buffer)[i] == stream_byte((*out)++);
  sw_buffer_consume(buffer, count);
  return right;
}

static void a_long_stream_passes_unharmed(void) {
  struct sw_buffer buffer = {0};
  size_t in = 0, out = 0;
  uint32_t seed = 1;
  bool right = true;
  for (int round = 0; round < 20000; round++) {
    seed = seed * 1664525u + 1013904223u;
    right = right && append_stream(&buffer, &in, (seed >> 10) % 1000);
    size_t length = sw_buffer_length(&buffer);
    size_t most = length > 20000 ? length : 900;
    size_t count = (seed >> 20) % most;
    right = right && consume_stream(&buffer, &out,
                                    count < length ? count : length);
    right = right && sw_buffer_length(&buffer) == in - out;
  }
  CHECK(right);
  CHECK(buffer.capacity <= 100000);
  sw_buffer_clear(&buffer);
}

/* A queue that never runs empty must find room where it took away. */
static void a_steady_queue_needs_no_new_memory(void) {
  struct sw_buffer buffer = {0};
  size_t in = 0, out = 0;
  bool right = append_stream(&buffer, &in, 500);
  unsigned before = allocations;
  for (int round = 0; round < 100000; round++) {
    right = right && append_stream(&buffer, &in, 100);
    right = right && consume_stream(&buffer, &out, 100);
  }
  CHECK(right);
  CHECK(allocations - before <= 2);
  CHECK(buffer.capacity <= 4096);
  sw_buffer_clear(&buffer);
}

static void room_in_front_is_used_only_if_it_suffices(void) {
  struct sw_buffer buffer = {0};
  size_t in = 0, out = 0;
  CHECK(append_stream(&buffer, &in, 256));
  size_t capacity = buffer.capacity;
  CHECK(consume_stream(&buffer, &out, 200));
  uint8_t *room = sw_buffer_reserve(&buffer, capacity - 56);
  CHECK(room != NULL);
  memset(room, 0, capacity - 56);
  CHECK_INT(buffer.capacity, capacity);
  CHECK(append_stream(&buffer, &in, 100));
  CHECK(consume_stream(&buffer, &out, 100));
  room = sw_buffer_reserve(&buffer, capacity);
  CHECK(room != NULL);
  memset(room, 0, capacity);
  CHECK(buffer.capacity >= capacity + 56);
  CHECK(consume_stream(&buffer, &out, 56));
  CHECK(buffer.data == NULL);
}

static void single_bytes_cost_few_allocations(void) {
  struct sw_buffer buffer = {0};
  unsigned before = allocations;
  for (size_t i = 0; i < 1000000; i++)
    sw_buffer_append(&buffer, "x", 1);
  CHECK_INT(sw_buffer_length(&buffer), 1000000);
  CHECK(allocations - before <= 16);
  CHECK(buffer.capacity < 2100000);
  sw_buffer_clear(&buffer);
}

int main(void) {
  RUN(an_empty_buffer_holds_nothing);
  RUN(bytes_come_out_as_they_went_in);
  RUN(reserved_bytes_count_once_committed);
  RUN(memory_goes_with_the_last_byte);
  RUN(without_memory_nothing_changes);
  RUN(impossible_lengths_are_refused);
  RUN(a_long_stream_passes_unharmed);
  RUN(a_steady_queue_needs_no_new_memory);
  RUN(room_in_front_is_used_only_if_it_suffices);
  RUN(single_bytes_cost_few_allocations);
  return test_summary("buffer");
}
