/* SPDX-License-Identifier: MIT */

/* The keep-alive clockwork under a fake clock and a repeatable generator. */

#include "keepalive.h"
#include "test.h"

static uint64_t seed = 0x9e3779b97f4a7c15u;

/* xorshift64*: any even spread will do, and a run can be repeated. */
static uint32_t draw(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return (uint32_t)((seed * 0x2545f4914f6cdd1du) >> 32);
}

static struct sw_keepalive started(uint32_t interval_ms, uint32_t timeout_ms,
                                   uint64_t now) {
  struct sw_keepalive keepalive;
  memset(&keepalive, 0xa5, sizeof keepalive);
  sw_keepalive_init(&keepalive, interval_ms, timeout_ms, now, draw());
  return keepalive;
}

static uint64_t deadline(const struct sw_keepalive *keepalive) {
  uint64_t at = 0;
  CHECK(sw_keepalive_deadline(keepalive, &at));
  return at;
}

static void first_gap_follows_the_draw(void) {
  const struct {
    uint32_t interval_ms, random;
    uint64_t gap;
  } cases[] = {
      {1000, 0, 800},
      {1000, UINT32_MAX, 1000},
      {1000, UINT32_MAX / 2, 900},
      {1, 0, 1},
      {1, UINT32_MAX, 1},
      {9, 0, 8}, /* 7.2 rounded up, not down */
      {9, UINT32_MAX, 9},
      {UINT32_MAX, 0, UINT32_MAX - UINT32_MAX / 5},
      {UINT32_MAX, UINT32_MAX, UINT32_MAX},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    struct sw_keepalive keepalive;
    sw_keepalive_init(&keepalive, cases[i].interval_ms, 0, 5000,
                      cases[i].random);
    CHECK_INT(deadline(&keepalive), 5000 + cases[i].gap);
  }
}

/* Sends |count| keep-alives and counts each gap in |seen|, which has a slot
   for each of 80..100 % of |interval_ms|. */
static void count_gaps(uint32_t interval_ms, unsigned count, unsigned *seen) {
  uint64_t now = 1000000;
  uint32_t low = interval_ms - interval_ms / 5;
  struct sw_keepalive keepalive = started(interval_ms, 0, now);
  for (unsigned i = 0; i < count; i++) {
    uint64_t at = deadline(&keepalive), gap = at - now;
    if (!CHECK(at > now && gap >= low && gap <= interval_ms))
      return;
    CHECK_INT(sw_keepalive_due(&keepalive, at - 1, draw()), SW_KEEPALIVE_WAIT);
    CHECK_INT(deadline(&keepalive), at);
    CHECK_INT(sw_keepalive_due(&keepalive, at, draw()), SW_KEEPALIVE_SEND);
    seen[gap - low]++;
    now = at;
  }
}

static void gaps_are_evenly_spread(void) {
  enum { INTERVAL = 100, SLOTS = 21, EACH = 2000 };
  unsigned seen[SLOTS] = {0};
  count_gaps(INTERVAL, SLOTS * EACH, seen);
  /* Six standard deviations of a slot are about 13 % of it. */
  for (size_t i = 0; i < SLOTS; i++)
    CHECK(seen[i] > EACH * 87 / 100 && seen[i] < EACH * 113 / 100);
}

static void gaps_stay_in_range_for_any_interval(void) {
  for (unsigned i = 0; i < 20000; i++) {
    uint32_t interval_ms = (draw() >> (i % 32)) | 1u;
    uint64_t now = (uint64_t)draw() << (i % 12);
    struct sw_keepalive keepalive = started(interval_ms, 0, now);
    uint64_t gap = deadline(&keepalive) - now;
    /* In exact arithmetic: gap / interval >= 4 / 5. */
    CHECK(gap * 5 >= (uint64_t)interval_ms * 4 && gap <= interval_ms);
  }
}

static void each_gap_is_drawn_anew(void) {
  struct sw_keepalive keepalive;
  sw_keepalive_init(&keepalive, 1000, 0, 0, 0);
  CHECK_INT(sw_keepalive_due(&keepalive, 800, UINT32_MAX), SW_KEEPALIVE_SEND);
  CHECK_INT(deadline(&keepalive), 1800);
  CHECK_INT(sw_keepalive_due(&keepalive, 1800, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(deadline(&keepalive), 2600);
}

static void send_is_said_once(void) {
  struct sw_keepalive keepalive = started(1000, 0, 0);
  uint64_t at = deadline(&keepalive);
  CHECK_INT(sw_keepalive_due(&keepalive, at, draw()), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, at, draw()), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_due(&keepalive, at + 799, draw()), SW_KEEPALIVE_WAIT);
}

static void a_silent_peer_is_dead_exactly_at_the_limit(void) {
  for (unsigned i = 0; i < 2000; i++) {
    uint32_t interval_ms = 1000 + draw() % 100000;
    uint32_t timeout_ms = 1 + draw() % 799; /* before the next SEND */
    uint64_t now = draw();
    struct sw_keepalive keepalive = started(interval_ms, timeout_ms, now);
    uint64_t sent = deadline(&keepalive) + draw() % 50; /* served late */
    CHECK_INT(sw_keepalive_due(&keepalive, sent, draw()), SW_KEEPALIVE_SEND);
    CHECK_INT(deadline(&keepalive), sent + timeout_ms);
    CHECK_INT(sw_keepalive_due(&keepalive, sent + timeout_ms - 1, draw()),
              SW_KEEPALIVE_WAIT);
    CHECK_INT(sw_keepalive_due(&keepalive, sent + timeout_ms, draw()),
              SW_KEEPALIVE_DEAD);
    CHECK_INT(sw_keepalive_due(&keepalive, sent + timeout_ms + 1, draw()),
              SW_KEEPALIVE_DEAD);
  }
}

static void nobody_dies_before_the_first_send(void) {
  struct sw_keepalive keepalive;
  sw_keepalive_init(&keepalive, 1000, 1, 5000, UINT32_MAX);
  CHECK_INT(sw_keepalive_due(&keepalive, 5999, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_answered(&keepalive, 5999), -1);
  CHECK_INT(sw_keepalive_due(&keepalive, 6000, 0), SW_KEEPALIVE_SEND);
}

static void without_a_limit_nobody_dies(void) {
  struct sw_keepalive keepalive = started(1000, 0, 77);
  for (unsigned i = 0; i < 1000; i++) {
    uint64_t at = deadline(&keepalive);
    CHECK_INT(sw_keepalive_due(&keepalive, at, draw()), SW_KEEPALIVE_SEND);
    CHECK(deadline(&keepalive) >= at + 800);
    CHECK_INT(sw_keepalive_answered(&keepalive, at), -1);
  }
  CHECK_INT(sw_keepalive_due(&keepalive, UINT64_MAX / 2, draw()),
            SW_KEEPALIVE_SEND);
}

static void an_answer_resets_the_limit(void) {
  struct sw_keepalive keepalive = started(1000, 100, 0);
  for (unsigned i = 0; i < 1000; i++) {
    uint64_t sent = deadline(&keepalive);
    uint32_t trip = draw() % 100;
    CHECK_INT(sw_keepalive_due(&keepalive, sent, draw()), SW_KEEPALIVE_SEND);
    CHECK_INT(sw_keepalive_answered(&keepalive, sent + trip), trip);
    CHECK_INT(sw_keepalive_answered(&keepalive, sent + trip), -1);
    CHECK(deadline(&keepalive) >= sent + 800);
    CHECK_INT(sw_keepalive_due(&keepalive, sent + 100, draw()),
              SW_KEEPALIVE_WAIT);
  }
  /* The last of them goes unanswered. */
  uint64_t sent = deadline(&keepalive);
  CHECK_INT(sw_keepalive_due(&keepalive, sent, draw()), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, sent + 100, draw()),
            SW_KEEPALIVE_DEAD);
}

static void an_answer_moves_no_send(void) {
  struct sw_keepalive keepalive = started(1000, 5000, 0);
  uint64_t sent = deadline(&keepalive);
  CHECK_INT(sw_keepalive_due(&keepalive, sent, draw()), SW_KEEPALIVE_SEND);
  uint64_t next = deadline(&keepalive);
  CHECK_INT(sw_keepalive_answered(&keepalive, sent + 10), 10);
  CHECK_INT(deadline(&keepalive), next);
}

/* The answer beat the limit if it was read before anyone asked. */
static void a_late_answer_counts(void) {
  struct sw_keepalive keepalive = started(1000, 100, 0);
  uint64_t sent = deadline(&keepalive);
  CHECK_INT(sw_keepalive_due(&keepalive, sent, draw()), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_answered(&keepalive, sent + 150), 150);
  CHECK_INT(sw_keepalive_due(&keepalive, sent + 150, draw()),
            SW_KEEPALIVE_WAIT);
}

static void a_second_send_does_not_extend_the_limit(void) {
  struct sw_keepalive keepalive;
  sw_keepalive_init(&keepalive, 1000, 2500, 0, 0);
  CHECK_INT(sw_keepalive_due(&keepalive, 800, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(deadline(&keepalive), 1600);
  CHECK_INT(sw_keepalive_due(&keepalive, 1600, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, 2400, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, 3200, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(deadline(&keepalive), 3300);
  CHECK_INT(sw_keepalive_due(&keepalive, 3299, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_due(&keepalive, 3300, 0), SW_KEEPALIVE_DEAD);
}

static void round_trip_is_that_of_the_first_unanswered(void) {
  struct sw_keepalive keepalive;
  sw_keepalive_init(&keepalive, 1000, 2500, 0, 0);
  CHECK_INT(sw_keepalive_due(&keepalive, 800, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, 1600, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_answered(&keepalive, 1650), 850);
  CHECK_INT(sw_keepalive_due(&keepalive, 2400, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_answered(&keepalive, 2405), 5);
}

static void dead_comes_before_send(void) {
  struct sw_keepalive keepalive;
  sw_keepalive_init(&keepalive, 1000, 800, 0, 0);
  CHECK_INT(sw_keepalive_due(&keepalive, 800, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, 1600, 0), SW_KEEPALIVE_DEAD);
}

static void interval_zero_is_off(void) {
  uint64_t at = 4711;
  struct sw_keepalive keepalive = started(0, 10, 123);
  CHECK(!sw_keepalive_deadline(&keepalive, &at));
  CHECK_INT(at, 4711);
  CHECK_INT(sw_keepalive_due(&keepalive, 123, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_due(&keepalive, UINT64_MAX, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_answered(&keepalive, 124), -1);
}

static void a_jumping_clock_sends_one(void) {
  struct sw_keepalive keepalive = started(1000, 0, 0);
  uint64_t later = 1000000000000u;
  CHECK_INT(sw_keepalive_due(&keepalive, later, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, later, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(deadline(&keepalive), later + 800);
}

/* The limit starts when it is sent, not when it was due. */
static void a_jump_before_the_send_kills_nobody(void) {
  struct sw_keepalive keepalive = started(1000, 100, 0);
  uint64_t later = 1000000000000u;
  CHECK_INT(sw_keepalive_due(&keepalive, later, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, later + 99, 0), SW_KEEPALIVE_WAIT);
  CHECK_INT(sw_keepalive_due(&keepalive, later + 100, 0), SW_KEEPALIVE_DEAD);
}

static void a_jump_while_awaiting_is_the_end(void) {
  struct sw_keepalive keepalive = started(1000, 100, 0);
  uint64_t sent = deadline(&keepalive);
  CHECK_INT(sw_keepalive_due(&keepalive, sent, 0), SW_KEEPALIVE_SEND);
  CHECK_INT(sw_keepalive_due(&keepalive, sent + (UINT64_MAX >> 2), 0),
            SW_KEEPALIVE_DEAD);
}

/* Whatever happens, nothing is due before the deadline and something is at
   it: a host that sleeps until then misses nothing and never spins. */
static void the_deadline_is_exact(void) {
  for (unsigned round = 0; round < 300; round++) {
    uint64_t now = draw();
    uint32_t interval_ms = 1 + draw() % 3000, timeout_ms = draw() % 3000;
    struct sw_keepalive keepalive = started(interval_ms, timeout_ms, now);
    for (unsigned i = 0; i < 50; i++) {
      uint64_t at = deadline(&keepalive);
      if (!CHECK(at > now))
        break;
      CHECK_INT(sw_keepalive_due(&keepalive, at - 1, draw()),
                SW_KEEPALIVE_WAIT);
      now = at;
      enum sw_keepalive_action action =
          sw_keepalive_due(&keepalive, now, draw());
      CHECK(action != SW_KEEPALIVE_WAIT);
      if (action == SW_KEEPALIVE_DEAD)
        break;
      if (draw() % 4)
        sw_keepalive_answered(&keepalive, now);
    }
  }
}

static void an_excuse_renews_only_the_limit_of_an_awaited_answer(void) {
  struct sw_keepalive keepalive;
  uint64_t at;
  sw_keepalive_init(&keepalive, 1000, 300, 0, 0);
  sw_keepalive_excuse(&keepalive, 100);
  CHECK(sw_keepalive_deadline(&keepalive, &at));
  CHECK_INT(at, keepalive.next_send);
  CHECK_INT(sw_keepalive_due(&keepalive, 1000, 0), SW_KEEPALIVE_SEND);
  sw_keepalive_excuse(&keepalive, 1250);
  CHECK_INT(sw_keepalive_due(&keepalive, 1300, 0), SW_KEEPALIVE_WAIT);
  CHECK(sw_keepalive_deadline(&keepalive, &at));
  CHECK_INT(at, 1550);
  CHECK_INT(sw_keepalive_due(&keepalive, 1550, 0), SW_KEEPALIVE_DEAD);
  CHECK_INT(sw_keepalive_answered(&keepalive, 1560), 310);
  CHECK_INT(sw_keepalive_due(&keepalive, 1570, 0), SW_KEEPALIVE_WAIT);
}

int main(void) {
  RUN(first_gap_follows_the_draw);
  RUN(gaps_are_evenly_spread);
  RUN(gaps_stay_in_range_for_any_interval);
  RUN(each_gap_is_drawn_anew);
  RUN(send_is_said_once);
  RUN(a_silent_peer_is_dead_exactly_at_the_limit);
  RUN(nobody_dies_before_the_first_send);
  RUN(without_a_limit_nobody_dies);
  RUN(an_answer_resets_the_limit);
  RUN(an_answer_moves_no_send);
  RUN(a_late_answer_counts);
  RUN(a_second_send_does_not_extend_the_limit);
  RUN(round_trip_is_that_of_the_first_unanswered);
  RUN(dead_comes_before_send);
  RUN(interval_zero_is_off);
  RUN(a_jumping_clock_sends_one);
  RUN(a_jump_before_the_send_kills_nobody);
  RUN(a_jump_while_awaiting_is_the_end);
  RUN(the_deadline_is_exact);
  RUN(an_excuse_renews_only_the_limit_of_an_awaited_answer);
  return test_summary("test_keepalive");
}
