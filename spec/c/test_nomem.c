/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* link: -Wl,--wrap=free */
/* A whole session, again and again, in which the n-th allocation fails, or
   all from the n-th on, until n is beyond the last.  Only what this library
   allocates is counted, not what those below it do. */
#define _GNU_SOURCE
#include "host.h"

#include <pthread.h>
#include <sched.h>

/* ---- The allocator ----------------------------------------------------- */

enum { SLOTS = 16384 }; /* a power of two, far above what is ever alive */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static void *slots[SLOTS]; /* a hash set of what is alive */
static unsigned alive, allocations, fail_at;
static bool fail_on; /* and all that follow */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *memory);

static size_t slot_of(const void *memory) {
  return ((uintptr_t)memory >> 4) * 2654435761u % SLOTS;
}

static void remember(void *memory) {
  size_t at = slot_of(memory);
  while (slots[at])
    at = (at + 1) % SLOTS;
  slots[at] = memory;
  if (++alive > SLOTS / 2)
    abort();
}

/* What others allocated may come here to be freed: that is not ours. */
static void forget(const void *memory) {
  size_t at = slot_of(memory), next;
  while (slots[at] != memory)
    if (!slots[at])
      return;
    else
      at = (at + 1) % SLOTS;
  alive--;
  for (next = (at + 1) % SLOTS; slots[next]; next = (next + 1) % SLOTS)
    if ((next - slot_of(slots[next])) % SLOTS >= (next - at) % SLOTS) {
      slots[at] = slots[next];
      at = next;
    }
  slots[at] = NULL;
}

static bool is_allowed(void) {
  pthread_mutex_lock(&lock);
  unsigned number = ++allocations;
  pthread_mutex_unlock(&lock);
  return !fail_at || number < fail_at || (number > fail_at && !fail_on);
}

static void *keep(void *memory) {
  if (!memory)
    return NULL;
  pthread_mutex_lock(&lock);
  remember(memory);
  pthread_mutex_unlock(&lock);
  return memory;
}

void *__wrap_malloc(size_t size) {
  return is_allowed() ? keep(__real_malloc(size)) : NULL;
}

void *__wrap_calloc(size_t count, size_t size) {
  return is_allowed() ? keep(__real_calloc(count, size)) : NULL;
}

void *__wrap_realloc(void *memory, size_t size) {
  if (!is_allowed())
    return NULL;
  pthread_mutex_lock(&lock);
  if (memory)
    forget(memory);
  pthread_mutex_unlock(&lock);
  return keep(__real_realloc(memory, size));
}

char *__wrap_strdup(const char *text) {
  return is_allowed() ? keep(__real_strdup(text)) : NULL;
}

void __wrap_free(void *memory) {
  pthread_mutex_lock(&lock);
  if (memory)
    forget(memory);
  pthread_mutex_unlock(&lock);
  __real_free(memory);
}

/* ---- The parties ------------------------------------------------------- */

enum { CLIENT, SERVED, REFUSED, RAW, PARTIES };

static struct party listener, parties[PARTIES];
static unsigned asked[PARTIES][TAGS]; /* calls with a tag that returned 0 */
static unsigned said[PARTIES];        /* messages accepted by send */
static bool secure;
static void (*talk)(void); /* what the session is about */
static bool timer_told;
static char block[100000], flood[1000000];

static bool is_up(const struct party *party) {
  return party->transport &&
         sipwire_transport_state(party->transport) != SIPWIRE_DISCONNECTED;
}

static bool all_answered(void) {
  for (int i = 0; i < PARTIES; i++)
    for (int tag = 0; tag < TAGS; tag++)
      if (parties[i].transport && parties[i].done[tag] < asked[i][tag])
        return false;
  return true;
}

static void expect_once(void) {
  for (int i = 0; i < PARTIES; i++)
    for (int tag = 0; tag < TAGS; tag++)
      CHECK(parties[i].done[tag] == asked[i][tag] ||
            (parties[i].freed && parties[i].done[tag] < asked[i][tag]));
}

/* Whether a call succeeded; it may fail for want of memory only. */
static bool went_well(int error) {
  CHECK(error == 0 || error == SIPWIRE_ENOMEM);
  return error == 0;
}

static void say(int index, const void *data, size_t length, unsigned tag) {
  struct party *party = &parties[index];
  if (sipwire_transport_state(party->transport) != SIPWIRE_CONNECTED)
    return;
  if (went_well(sipwire_transport_send(party->transport, data, length,
                                       SIPWIRE_FRAME_AUTO, tag))) {
    asked[index][tag]++;
    said[index]++;
  }
}

/* ---- Answers ----------------------------------------------------------- */

static void answer(struct sipwire_request *request) {
  struct sipwire_header header = {"Retry-After", "5"};
  int index = strcmp(request->target, "/raw") ? SERVED : RAW;
  struct party *party = &parties[index];
  int error = SIPWIRE_ENOMEM;
  for (int try = 0; try < 2 && error == SIPWIRE_ENOMEM; try++)
    if (!strcmp(request->target, "/refuse"))
      error = sipwire_request_refuse(request, 503, "Busy", &header, 1);
    else
      error = sipwire_request_accept(request, party, &party->transport);
  if (error == SIPWIRE_ECLOSED || went_well(error))
    listener.request = NULL;
  if (!error && party->transport)
    party->state = SIPWIRE_CONNECTED;
}

static void respond(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_REQUEST)
    answer(event->request);
  else if (event->type == SIPWIRE_EVENT_TIMER)
    timer_told = true;
  else if (event->type == SIPWIRE_EVENT_MESSAGE &&
           event->arg == &parties[SERVED])
    say(SERVED, event->data, event->length,
        10 + (unsigned)parties[SERVED].messages);
}

/* What could not be answered is answered once there is memory again. */
static void answer_late(void) {
  if (!listener.request)
    return;
  fail_at = 0;
  CHECK_INT(sipwire_request_refuse(listener.request, 0, NULL, NULL, 0), 0);
  listener.request = NULL;
}

/* ---- The session ------------------------------------------------------- */

static bool open_listener(void) {
  struct sipwire_tls_config tls = server_tls();
  struct sipwire_listener_config config;
  struct sipwire_config habits;
  memset(&config, 0, sizeof config);
  sipwire_config_init(&habits);
  habits.tls = tls;
  habits.connection_timeout_ms = fail_on ? 100 : (int)scaled(5000);
  habits.send_queue_limit = 8000000;
  config.secure = secure;
  config.transport = &habits;
  config.arg = &listener;
  return went_well(sipwire_listener_new(hosts[0].loop, &config,
                                        &listener.listener));
}

static bool open_client(int index, const char *path) {
  struct sipwire_header header = {"X-Name", "value"};
  struct sipwire_config config = client_config();
  struct party *party = &parties[index];
  char url[64];
  snprintf(url, sizeof url, "%s://localhost:%u%s", secure ? "wss" : "ws",
           (unsigned)sipwire_listener_port(listener.listener), path);
  config.server = url;
  config.headers = &header;
  config.header_count = 1;
  config.local_address = "127.0.0.1";
  config.connection_timeout_ms = fail_on ? 200 : (int)scaled(5000);
  config.tls.key_password = "unused";
  config.arg = party;
  if (!went_well(sipwire_transport_new(hosts[0].loop, &config,
                                       &party->transport)))
    return false;
  went_well(sipwire_transport_set_server(party->transport, url, &header, 1));
  if (!went_well(sipwire_transport_connect(party->transport, 1)))
    return false;
  asked[index][1] = 1;
  RUN_UNTIL(party->done[1]);
  return party->state == SIPWIRE_CONNECTED;
}

static void chat(void) {
  struct party *client = &parties[CLIENT], *served = &parties[SERVED];
  say(CLIENT, "short", 5, 2);
  say(CLIENT, block, sizeof block, 3);
  say(CLIENT, "\xff", 1, 4);
  RUN_UNTIL(!is_up(client) || !is_up(served) ||
            (served->messages == said[CLIENT] &&
             client->messages == said[SERVED]));
}

static void try_to_send(int fd, const void *data, size_t length) {
  CHECK(send(fd, data, length, MSG_NOSIGNAL) == (ssize_t)length ||
        errno == EPIPE || errno == ECONNRESET);
}

/* A message in fragments, a ping in between, and a farewell. */
static void fragments(void) {
  static const uint8_t frames[] = {
    0x01, 0x84, 0, 0, 0, 0, 'f', 'r', 'a', 'g', 0x89, 0x80, 0, 0, 0, 0,
    0x00, 0x82, 0, 0, 0, 0, 'm', 'e', 0x80, 0x82, 0, 0, 0, 0, 'n', 't',
    0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8
  };
  struct party *raw = &parties[RAW];
  if (secure)
    return;
  int fd = raw_socket();
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(raw->transport || listener.request || raw_closed(fd));
  for (size_t i = 0; i < sizeof frames; i += 8) {
    if (i + 8 == sizeof frames)
      RUN_UNTIL(raw->messages || !is_up(raw));
    try_to_send(fd, frames + i, 8);
    turns(2);
  }
  RUN_UNTIL(raw_closed(fd) || (listener.request && fail_on));
  close(fd);
  RUN_UNTIL(!is_up(raw));
}

static void wait_for_a_timer(void) {
  struct sipwire_timer *timer = NULL;
  if (!went_well(sipwire_timer_new(hosts[0].loop, 0, 5, &timer)))
    return;
  RUN_UNTIL(timer_told);
  sipwire_timer_free(timer);
}

static void say_goodbye(void) {
  struct party *client = &parties[CLIENT];
  if (!client->transport)
    return;
  say(CLIENT, "goodbye", 7, 5);
  if (went_well(sipwire_transport_disconnect(client->transport, 6)))
    asked[CLIENT][6] = 1;
  else if (!went_well(sipwire_transport_disconnect(client->transport, 0)))
    return;
  RUN_UNTIL(client->done[6] == asked[CLIENT][6] && !is_up(client));
  RUN_UNTIL(!is_up(&parties[SERVED]));
}

/* A client that reads nothing for a while: more than its socket takes. */
static void flood_a_client(void) {
  static const uint8_t bye[] = {0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8};
  struct party *raw = &parties[RAW];
  if (!open_listener())
    return;
  int fd = raw_socket();
  raw_window(fd, 4096);
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(raw->transport || listener.request || raw_closed(fd));
  answer_late();
  if (raw->transport) {
    for (unsigned tag = 1; tag <= 5; tag++)
      say(RAW, flood, sizeof flood, tag);
    turns(3);
    if (went_well(sipwire_transport_disconnect(raw->transport, 6)))
      asked[RAW][6]++;
    else
      party_free(raw);
    try_to_send(fd, bye, sizeof bye);
    raw_window(fd, 1048576);
  }
  RUN_UNTIL(raw_closed(fd) && (!asked[RAW][6] || raw->done[6]));
  close(fd);
  RUN_UNTIL(!is_up(raw) && all_answered());
  expect_once();
}

static void converse(void) {
  if (!open_listener())
    return;
  if (open_client(CLIENT, "/"))
    chat();
  answer_late();
  open_client(REFUSED, "/refuse");
  answer_late();
  fragments();
  wait_for_a_timer();
  say_goodbye();
  RUN_UNTIL(all_answered());
  turns(2);
  expect_once();
}

static void session(void) {
  memset(&listener, 0, sizeof listener);
  memset(parties, 0, sizeof parties);
  memset(asked, 0, sizeof asked);
  memset(said, 0, sizeof said);
  timer_told = false;
  on_each_event = respond;
  if (!went_well(host_try(0))) {
    hosts[0].loop = NULL;
    return;
  }
  talk();
  for (int i = 0; i < PARTIES; i++)
    party_free(&parties[i]);
  sipwire_listener_free(listener.listener);
  listener.listener = NULL;
  turns(2);
  host_close(0);
  answer_late();
}

/* ---- The countdown ----------------------------------------------------- */

static void threads_leave(void) {
  int64_t limit = now_ms() + scaled(LIMIT_MS);
  while (threads() > 1 && now_ms() < limit)
    sched_yield();
}

static void check_session(unsigned number) {
  unsigned failures = test_failures, before = descriptors();
  int64_t start = now_ms();
  fail_at = number;
  allocations = 0;
  session();
  fail_at = 0;
  /* nobody was left waiting for a time limit */
  CHECK(fail_on || now_ms() - start < scaled(4000));
  threads_leave();
  CHECK_INT(alive, 0);
  CHECK_INT(descriptors(), before);
  if (test_failures > failures)
    fprintf(stderr, "... %s allocation %u%s\n", secure ? "wss" : "ws", number,
            fail_on ? " and all that follow" : "");
}

static void memory_is_enough(void) {
  check_session(0);
  CHECK_STR(parties[REFUSED].seen,
            "Disconnected>Connecting\n"
            "Connecting>Disconnected http in upgrade http 503\n"
            "connect 1 http in upgrade http 503\n");
  CHECK_INT(parties[CLIENT].messages, 3);
  CHECK_INT(parties[CLIENT].lost, 0);
  CHECK_INT(parties[SERVED].messages, 4);
  CHECK(parties[SERVED].lost <= 1); /* its answer crosses the goodbye */
  if (!secure)
    CHECK_STR(parties[RAW].seen,
              "text 'fragment'\nConnected>Disconnected down closed in open "
              "close 1000 clean\n");
  CHECK(timer_told);
  CHECK(allocations > 40);
}

static void count_down(unsigned stride) {
  unsigned number = 1, failures = test_failures;
  do {
    check_session(number);
    number += stride;
  } while (allocations >= number - stride && test_failures < failures + 10);
  CHECK(number > 20);
}

static void count_down_a_conversation(bool tls, bool all_that_follow) {
  talk = converse;
  secure = tls;
  fail_on = false;
  memory_is_enough();
  fail_on = all_that_follow;
  count_down(tls && all_that_follow ? 3 : 1); /* it takes its time */
}

static void one_allocation_fails_over_ws(void) {
  count_down_a_conversation(false, false);
}

static void one_allocation_fails_over_wss(void) {
  count_down_a_conversation(true, false);
}

static void memory_runs_out_over_ws(void) {
  count_down_a_conversation(false, true);
}

static void memory_runs_out_over_wss(void) {
  count_down_a_conversation(true, true);
}

static void memory_runs_out_in_a_flood(void) {
  talk = flood_a_client;
  secure = false;
  fail_on = false;
  check_session(0);
  CHECK_INT(parties[RAW].lost, 0);
  for (unsigned tag = 1; tag <= 6; tag++)
    CHECK_INT(parties[RAW].done[tag], 1);
  for (int follow = 0; follow < 2; follow++) {
    fail_on = follow;
    count_down(1);
  }
}

#define TEST(test) (RUN(test), all_is_gone(before))

int main(void) {
  warm_up();
  certificates_make();
  unsigned before = descriptors();
  TEST(one_allocation_fails_over_ws);
  TEST(one_allocation_fails_over_wss);
  TEST(memory_runs_out_over_ws);
  TEST(memory_runs_out_over_wss);
  TEST(memory_runs_out_in_a_flood);
  certificates_remove();
  return test_summary("nomem");
}
