/* SPDX-License-Identifier: MIT */
/* Link with -Wl,--wrap=malloc. */
#include "queue.h"
#include "test.h"

#include <stdlib.h>

void *__real_malloc(size_t size);
void *__wrap_malloc(size_t size);

static unsigned allocations;
static bool memory_is_out;

void *__wrap_malloc(size_t size) {
  allocations++;
  return memory_is_out ? NULL : __real_malloc(size);
}

/* ---- Queues ------------------------------------------------------------ */

static struct sw_node node[6];

/* Pops all; "012" for nodes 0, 1, 2. */
static const char *drain(struct sw_queue *queue) {
  static char names[16];
  size_t length = 0;
  struct sw_node *next;
  while ((next = sw_queue_pop(queue)) != NULL && length < 15) {
    CHECK(next->next == NULL);
    names[length++] = (char)('0' + (next - node));
  }
  names[length] = '\0';
  CHECK(sw_queue_empty(queue));
  return names;
}

static void push_range(struct sw_queue *queue, int first, int end) {
  for (int i = first; i < end; i++)
    sw_queue_push(queue, &node[i]);
}

static void nodes_leave_in_the_order_they_came(void) {
  struct sw_queue queue;
  sw_queue_init(&queue);
  CHECK(sw_queue_empty(&queue));
  CHECK(sw_queue_pop(&queue) == NULL);
  push_range(&queue, 0, 4);
  CHECK(!sw_queue_empty(&queue));
  CHECK_STR(drain(&queue), "0123");
  CHECK(sw_queue_pop(&queue) == NULL);
}

static void an_emptied_queue_works_on(void) {
  struct sw_queue queue;
  sw_queue_init(&queue);
  push_range(&queue, 0, 1);
  CHECK_STR(drain(&queue), "0");
  push_range(&queue, 1, 3);
  CHECK(sw_queue_pop(&queue) == &node[1]);
  push_range(&queue, 3, 4);
  sw_queue_push(&queue, &node[1]);
  CHECK_STR(drain(&queue), "231");
}

static void a_stale_link_is_not_followed(void) {
  struct sw_queue queue;
  sw_queue_init(&queue);
  node[0].next = &node[5];
  sw_queue_push(&queue, &node[0]);
  CHECK_STR(drain(&queue), "0");
}

static void splice(int in_first, int in_second, const char *want) {
  struct sw_queue first, second;
  sw_queue_init(&first);
  sw_queue_init(&second);
  push_range(&first, 0, in_first);
  push_range(&second, 3, 3 + in_second);
  sw_queue_splice(&first, &second);
  CHECK(sw_queue_empty(&second));
  sw_queue_push(&second, &node[2]);
  CHECK_STR(drain(&second), "2");
  sw_queue_push(&first, &node[5]);
  CHECK_STR(drain(&first), want);
}

static void splicing_moves_all_to_the_end(void) {
  splice(0, 0, "5");
  splice(2, 0, "015");
  splice(0, 2, "345");
  splice(2, 1, "0135");
  splice(2, 2, "01345");
}

static void both_queues_grow_after_a_splice(void) {
  struct sw_queue first, second;
  sw_queue_init(&first);
  sw_queue_init(&second);
  push_range(&first, 0, 1);
  push_range(&second, 1, 2);
  sw_queue_splice(&first, &second);
  sw_queue_push(&first, &node[2]);
  sw_queue_push(&second, &node[3]);
  sw_queue_splice(&first, &second);
  sw_queue_push(&first, &node[4]);
  CHECK_STR(drain(&first), "01234");
  CHECK_STR(drain(&second), "");
}

/* ---- Batches ----------------------------------------------------------- */

/* The owners of messages; only their addresses count. */
static char first_owner, second_owner;

static bool put(struct sw_batch *batch, const void *data, size_t length,
                bool binary) {
  return sw_batch_put(batch, &first_owner, data, length, binary);
}

static void check_owned(struct sw_batch *batch, const void *want_owner,
                        const void *want, size_t want_length,
                        bool want_binary) {
  void *owner = NULL;
  const uint8_t *data = NULL;
  size_t length = 0;
  bool binary = !want_binary;
  CHECK(sw_batch_get(batch, &owner, &data, &length, &binary));
  CHECK_MEM(data, length, want, want_length);
  CHECK(data != NULL);
  CHECK(owner == want_owner);
  CHECK_INT(binary, want_binary);
}

static void check_next(struct sw_batch *batch, const void *want,
                       size_t want_length, bool want_binary) {
  check_owned(batch, &first_owner, want, want_length, want_binary);
}

static void check_no_more(struct sw_batch *batch) {
  void *owner = &second_owner;
  const uint8_t *data = (const uint8_t *)"kept";
  size_t length = 4;
  bool binary = true;
  CHECK(!sw_batch_get(batch, &owner, &data, &length, &binary));
  CHECK_MEM(data, length, "kept", 4);
  CHECK(owner == &second_owner && binary);
}

static void messages_keep_their_owner(void) {
  struct sw_batch *batch = sw_batch_new(0, 1000);
  CHECK(sw_batch_put(batch, &first_owner, "1", 1, false));
  CHECK(sw_batch_put(batch, &second_owner, "22", 2, true));
  CHECK(sw_batch_put(batch, NULL, "333", 3, false));
  CHECK(sw_batch_put(batch, &first_owner, "4444", 4, true));
  check_owned(batch, &first_owner, "1", 1, false);
  check_owned(batch, &second_owner, "22", 2, true);
  check_owned(batch, NULL, "333", 3, false);
  check_owned(batch, &first_owner, "4444", 4, true);
  check_no_more(batch);
  free(batch);
}

static void messages_keep_length_kind_and_bytes(void) {
  struct sw_batch *batch = sw_batch_new(0, 1000);
  check_no_more(batch);
  CHECK(put(batch, "one", 3, false));
  CHECK(put(batch, "", 0, true));
  CHECK(put(batch, NULL, 0, false));
  CHECK(put(batch, "a\0b", 3, true));
  check_next(batch, "one", 3, false);
  check_next(batch, "", 0, true);
  check_next(batch, "", 0, false);
  CHECK(put(batch, "late", 4, false));
  check_next(batch, "a\0b", 3, true);
  check_next(batch, "late", 4, false);
  check_no_more(batch);
  free(batch);
}

static void the_first_message_always_fits(void) {
  static uint8_t big[70000];
  const size_t length[] = {0, 1, 7, 8, 255, 256, 65535, 65536, sizeof big};
  memset(big, 0x5A, sizeof big);
  for (size_t i = 0; i < sizeof length / sizeof *length; i++) {
    struct sw_batch *batch = sw_batch_new(length[i], 0);
    CHECK(put(batch, big, length[i], true));
    CHECK(!put(batch, big, 0, true));
    check_next(batch, big, length[i], true);
    check_no_more(batch);
    free(batch);
  }
}

static void a_batch_has_its_minimum(void) {
  struct sw_batch *batch = sw_batch_new(1, 4096);
  CHECK(batch->capacity >= 4096);
  size_t count = 0, taken = 0;
  while (put(batch, &count, sizeof count, count & 1))
    count++;
  CHECK(count >= 100);
  for (; taken < count; taken++)
    check_next(batch, &taken, sizeof taken, taken & 1);
  check_no_more(batch);
  free(batch);
}

static void what_does_not_fit_changes_nothing(void) {
  struct sw_batch *batch = sw_batch_new(10, 0);
  CHECK(!put(batch, "eleven byte", 11, false));
  CHECK(!put(batch, "", SIZE_MAX, false));
  CHECK(!put(batch, "", SIZE_MAX - 7, false));
  CHECK(!put(batch, "", SIZE_MAX - 23, false));
  check_no_more(batch);
  CHECK(put(batch, "ten bytes!", 10, false));
  check_next(batch, "ten bytes!", 10, false);
  free(batch);
}

static void a_reset_batch_is_as_new(void) {
  struct sw_batch *batch = sw_batch_new(10, 0);
  CHECK(put(batch, "ten bytes!", 10, false));
  check_next(batch, "ten bytes!", 10, false);
  sw_batch_reset(batch);
  check_no_more(batch);
  CHECK(put(batch, "other 10 b", 10, true));
  sw_batch_reset(batch);
  check_no_more(batch);
  CHECK(put(batch, "third", 5, true));
  check_next(batch, "third", 5, true);
  free(batch);
}

static void a_batch_that_cannot_be_made_is_null(void) {
  unsigned before = allocations;
  CHECK(sw_batch_new(SIZE_MAX, 0) == NULL);
  CHECK(sw_batch_new(SIZE_MAX - 8, 0) == NULL);
  CHECK(sw_batch_new(0, SIZE_MAX) == NULL);
  CHECK(sw_batch_new(1, SIZE_MAX - 10) == NULL);
  CHECK_INT(allocations, before);
  memory_is_out = true;
  CHECK(sw_batch_new(1, 1) == NULL);
  memory_is_out = false;
}

static void a_batch_is_one_piece_of_memory(void) {
  unsigned before = allocations;
  struct sw_batch *batch = sw_batch_new(100, 65536);
  while (put(batch, "some bytes", 10, false))
    continue;
  CHECK_INT(allocations, before + 1);
  free(batch);
}

int main(void) {
  RUN(nodes_leave_in_the_order_they_came);
  RUN(an_emptied_queue_works_on);
  RUN(a_stale_link_is_not_followed);
  RUN(splicing_moves_all_to_the_end);
  RUN(both_queues_grow_after_a_splice);
  RUN(messages_keep_length_kind_and_bytes);
  RUN(messages_keep_their_owner);
  RUN(the_first_message_always_fits);
  RUN(a_batch_has_its_minimum);
  RUN(what_does_not_fit_changes_nothing);
  RUN(a_reset_batch_is_as_new);
  RUN(a_batch_that_cannot_be_made_is_null);
  RUN(a_batch_is_one_piece_of_memory);
  return test_summary("queue");
}
