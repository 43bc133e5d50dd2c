/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=getaddrinfo */
/* The loop: its descriptor, its timers, its waits, its death in a fork, and
   lookups that take for ever: names under ".test" are resolved when the test
   opens the gate. */
#define _GNU_SOURCE
#include "host.h"

#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

static struct party listener, client, served;

static bool secure;

static void couple_open(void) {
  struct sipwire_tls_config tls = server_tls();
  struct sipwire_config config = client_config();
  host_open(0);
  host_open(1);
  memset(&served, 0, sizeof served);
  party_listen(&listener, hosts[1].loop, NULL, secure ? &tls : NULL, NULL);
  listener.accept_as = &served;
  party_client(&client, hosts[0].loop, secure ? "wss" : "ws", "127.0.0.1",
               &listener, &config);
}

static void couple_connect(void) {
  couple_open();
  CHECK_INT(sipwire_transport_connect(client.transport, 0), 0);
  RUN_UNTIL(client.state == SIPWIRE_CONNECTED);
}

static void couple_close(void) {
  party_free(&client);
  party_free(&served);
  party_free(&listener);
  host_close(0);
  host_close(1);
}

/* ---- The descriptor ---------------------------------------------------- */

static bool readable(struct sipwire_loop *loop) {
  struct pollfd fd = {sipwire_loop_pollfd(loop), POLLIN, 0};
  CHECK(fd.fd >= 0);
  return poll(&fd, 1, 0) == 1 && fd.revents & POLLIN;
}

static bool wait_readable(struct sipwire_loop *loop) {
  struct pollfd fd = {sipwire_loop_pollfd(loop), POLLIN, 0};
  return poll(&fd, 1, (int)scaled(LIMIT_MS)) == 1;
}

/* Ticks as long as there is work; there must be an end to it. */
static void quiet(int index) {
  int ticks = 0;
  for (; ticks < 50 && readable(hosts[index].loop); ticks++) {
    CHECK_INT(sipwire_loop_step(hosts[index].loop, 0), 0);
    host_fetch(index);
  }
  CHECK(ticks < 50);
  CHECK(!readable(hosts[index].loop));
}

static void everything_quiet(void) {
  for (int i = 0; i < 20; i++) {
    quiet(0);
    quiet(1);
  }
  CHECK(sipwire_loop_timeout(hosts[0].loop) != 0);
  CHECK(sipwire_loop_timeout(hosts[1].loop) != 0);
}

/* After |call| the descriptor says that there is work, and step() does it. */
#define KICKS(call)                                                            \
  do {                                                                         \
    everything_quiet();                                                        \
    CHECK_INT(call, 0);                                                        \
    CHECK(readable(hosts[0].loop));                                            \
    CHECK_INT(sipwire_loop_timeout(hosts[0].loop), 0);                         \
    quiet(0);                                                                  \
  } while (0)

static void every_call_makes_it_readable(void) {
  couple_open();
  KICKS(sipwire_transport_disconnect(client.transport, 1));
  CHECK_INT(client.done[1], 1);
  KICKS(sipwire_transport_connect(client.transport, 2));
  while (!client.done[2] && CHECK(wait_readable(hosts[1].loop))) {
    quiet(1);
    quiet(0);
  }
  KICKS(sipwire_transport_connect(client.transport, 3));
  CHECK_INT(client.done[3], 1);
  KICKS(party_send(&client, "hello", 4));
  CHECK_INT(client.done[4], 1);
  KICKS(sipwire_transport_disconnect(client.transport, 5));
  everything_quiet();
  CHECK_INT(client.done[5], 1);
  CHECK_STR(served.seen, "text 'hello'\nConnected>Disconnected down closed in "
                         "open close 1000 clean\n");
  couple_close();
}

/* What a free leaves to be done is work too. */
static void every_free_makes_it_readable(void) {
  struct sipwire_timer *timer;
  couple_connect();
  CHECK_INT(sipwire_timer_new(hosts[1].loop, 3600000, 1, &timer), 0);
  everything_quiet();
  sipwire_timer_free(timer);
  CHECK(readable(hosts[1].loop));
  everything_quiet();
  sipwire_listener_free(listener.listener);
  listener.listener = NULL;
  CHECK(readable(hosts[1].loop));
  everything_quiet();
  party_free(&client);
  CHECK(readable(hosts[0].loop));
  everything_quiet();
  CHECK_INT(served.state, SIPWIRE_DISCONNECTED);
  couple_close();
}

static void it_is_readable_while_something_is_to_be_read(void) {
  couple_connect();
  everything_quiet();
  CHECK_INT(party_send(&served, "hello", 0), 0);
  quiet(1);
  CHECK(wait_readable(hosts[0].loop));
  CHECK(readable(hosts[0].loop)); /* as long as it was not read */
  CHECK_INT(client.messages, 0);
  quiet(0);
  CHECK_INT(client.messages, 1);
  couple_close();
}

static void paused_it_stays_silent(void) {
  couple_connect();
  sipwire_transport_pause(client.transport);
  CHECK_INT(party_send(&served, "one", 0), 0);
  everything_quiet();
  CHECK_INT(party_send(&served, "two", 0), 0);
  everything_quiet();
  CHECK(client.messages < 2);
  sipwire_transport_resume(client.transport);
  CHECK(wait_readable(hosts[0].loop));
  for (int i = 0; i < 3 && client.messages < 2; i++)
    quiet(0);
  CHECK_INT(client.messages, 2);
  couple_close();
}

static void resume_when_sent(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_SEND_DONE)
    sipwire_transport_resume(client.transport);
}

/* In a tick in which no descriptor had anything to say. */
static void resumed_by_an_event_it_is_read(void) {
  couple_connect();
  everything_quiet();
  sipwire_transport_pause(client.transport);
  everything_quiet();
  CHECK_INT(party_send(&served, "one", 0), 0);
  everything_quiet();
  CHECK_INT(client.messages, 0);
  on_each_event = resume_when_sent;
  CHECK_INT(party_send(&client, "two", 1), 0);
  for (int i = 0; i < 3 && client.messages < 1; i++) {
    CHECK(wait_readable(hosts[0].loop));
    quiet(0);
  }
  CHECK_INT(client.messages, 1);
  on_each_event = NULL;
  couple_close();
}

static void with_nothing_to_watch_it_waits(void) {
  unsigned steps = 0;
  couple_connect();
  sipwire_transport_pause(client.transport);
  everything_quiet();
  int64_t until = now_ms() + 200;
  for (; now_ms() < until; steps++) {
    CHECK_INT(sipwire_loop_step(hosts[0].loop, 50), 0);
    host_fetch(0);
  }
  CHECK(steps <= 20);
  couple_close();
}

/* What was stepped but not fetched is still to be fetched. */
static void an_unfetched_event_keeps_it_readable(void) {
  struct sipwire_event event;
  host_open(0);
  host_open(1);
  struct sipwire_timer *timer;
  CHECK_INT(sipwire_timer_new(hosts[0].loop, 0, 7, &timer), 0);
  for (int i = 0; i < 3; i++) {
    CHECK(wait_readable(hosts[0].loop));
    CHECK_INT(sipwire_loop_step(hosts[0].loop, 0), 0);
  }
  CHECK(sipwire_loop_alive(hosts[0].loop));
  CHECK_INT(sipwire_loop_next(hosts[0].loop, &event), 1);
  CHECK_INT(event.tag, 7);
  CHECK_INT(sipwire_loop_next(hosts[0].loop, &event), 0);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  everything_quiet();
  sipwire_timer_free(timer);
  host_close(0);
  host_close(1);
}

static void what_an_event_causes_makes_it_readable_again(void) {
  struct sipwire_event event;
  couple_connect();
  everything_quiet();
  CHECK_INT(sipwire_transport_disconnect(client.transport, 0), 0);
  CHECK_INT(sipwire_loop_step(hosts[0].loop, 0), 0);
  CHECK_INT(sipwire_loop_next(hosts[0].loop, &event), 1);
  CHECK_INT(event.state, SIPWIRE_DISCONNECTING);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK_INT(sipwire_loop_next(hosts[0].loop, &event), 0);
  CHECK(readable(hosts[0].loop));
  client.state = SIPWIRE_DISCONNECTING;
  RUN_UNTIL(client.done[1]);
  couple_close();
}

static void its_timeout_counts_down_to_a_timer(void) {
  struct sipwire_timer *timer, *sooner;
  host_open(0);
  host_open(1);
  struct sipwire_loop *loop = hosts[0].loop;
  everything_quiet();
  CHECK_INT(sipwire_loop_timeout(loop), -1);
  CHECK_INT(sipwire_timer_new(loop, 3600000, 1, &timer), 0);
  quiet(0);
  int long_one = sipwire_loop_timeout(loop);
  CHECK(long_one > 3500000 && long_one <= 3600000);
  CHECK_INT(sipwire_timer_new(loop, 30, 2, &sooner), 0);
  quiet(0);
  int64_t start = now_ms();
  int short_one = sipwire_loop_timeout(loop);
  CHECK(short_one >= 0 && short_one <= 30);
  CHECK(wait_readable(loop)); /* with no step in between */
  CHECK(now_ms() - start >= short_one - 1);
  CHECK_INT(sipwire_loop_timeout(loop), 0);
  quiet(0);
  sipwire_timer_free(timer);
  sipwire_timer_free(sooner);
  everything_quiet();
  CHECK_INT(sipwire_loop_timeout(loop), -1);
  CHECK(!sipwire_loop_alive(loop));
  host_close(0);
  host_close(1);
}

static void it_is_close_on_exec(void) {
  host_open(0);
  int fd = sipwire_loop_pollfd(hosts[0].loop);
  CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
  CHECK_INT(sipwire_loop_pollfd(hosts[0].loop), fd);
  host_close(0);
}

/* Asked for late, with work waiting already. */
static void it_may_be_asked_for_at_any_time(void) {
  couple_open();
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK(readable(hosts[0].loop));
  quiet(0);
  RUN_UNTIL(client.done[1]);
  CHECK_INT(party_send(&served, "hello", 0), 0);
  turn(0);
  CHECK(wait_readable(hosts[0].loop) || client.messages);
  RUN_UNTIL(client.messages == 1);
  couple_close();
}

/* A host that does nothing but wait for the two descriptors gets it all. */
static void a_host_needs_nothing_but_poll(void) {
  couple_open();
  served.echo = true;
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  for (int i = 0; i < 1000 && client.messages < 5; i++) {
    struct pollfd fds[2];
    for (int j = 0; j < 2; j++)
      fds[j] = (struct pollfd){sipwire_loop_pollfd(hosts[j].loop), POLLIN, 0};
    if (!CHECK(poll(fds, 2, (int)scaled(LIMIT_MS)) > 0))
      break;
    for (int j = 0; j < 2; j++)
      if (fds[j].revents) {
        CHECK_INT(sipwire_loop_step(hosts[j].loop, 0), 0);
        host_fetch(j);
      }
    served.echo = true; /* since it was accepted */
    if (client.state == SIPWIRE_CONNECTED && client.messages == 0 && !i)
      CHECK_INT(party_send(&client, "ball", 0), 0);
    if (client.done[1] == 1) {
      client.done[1]++;
      CHECK_INT(party_send(&client, "ball", 0), 0);
      client.echo = true;
    }
  }
  CHECK(client.messages >= 5);
  client.echo = served.echo = false;
  couple_close();
}

/* ---- Timers ------------------------------------------------------------ */

static unsigned expired[64], expired_count;

static void note_timer(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_TIMER && expired_count < 64)
    expired[expired_count++] = (unsigned)event->tag;
  CHECK(event->type != SIPWIRE_EVENT_TIMER ||
        (!event->transport && !event->listener && !event->arg));
}

static void timers_open(void) {
  host_open(0);
  expired_count = 0;
  on_each_event = note_timer;
}

static void timers_expire_in_order(void) {
  static const int delays[] = {30, 10, 20, 0, 10, 0, 30, 5};
  static const unsigned order[] = {3, 5, 7, 1, 4, 2, 0, 6};
  struct sipwire_timer *timers[8], *bad = NULL;
  int64_t start = now_ms();
  timers_open();
  CHECK_INT(sipwire_timer_new(hosts[0].loop, -1, 1, &bad), SIPWIRE_EINVALID);
  CHECK(!bad);
  for (unsigned i = 0; i < 8; i++)
    CHECK_INT(sipwire_timer_new(hosts[0].loop, delays[i], i, &timers[i]), 0);
  CHECK_INT(expired_count, 0);
  if (now_ms() - start < 4) { /* made in one go */
    RUN_UNTIL(expired_count == 8);
    for (int i = 0; i < 8; i++)
      CHECK_INT(expired[i], order[i]);
  }
  RUN_UNTIL(expired_count == 8);
  CHECK(now_ms() - start >= 29);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  for (int i = 0; i < 8; i++)
    sipwire_timer_free(timers[i]);
  host_close(0);
}

static struct sipwire_timer *pair[2];

static void free_both(const struct sipwire_event *event) {
  note_timer(event);
  sipwire_timer_free(pair[0]);
  sipwire_timer_free(pair[1]);
}

static void pair_open(int64_t delay) {
  timers_open();
  for (unsigned i = 0; i < 2; i++)
    CHECK_INT(sipwire_timer_new(hosts[0].loop, delay, i, &pair[i]), 0);
}

static void pair_step(void) {
  for (int i = 0; i < 3; i++)
    CHECK_INT(sipwire_loop_step(hosts[0].loop, 0), 0);
}

static void a_freed_timer_never_expires(void) {
  pair_open(0); /* freed at once */
  sipwire_timer_free(pair[0]);
  RUN_UNTIL(expired_count == 1);
  turns(5);
  CHECK_INT(expired_count, 1);
  CHECK_INT(expired[0], 1);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  sipwire_timer_free(pair[1]);
  host_close(0);

  pair_open(0); /* expired, not yet told */
  pair_step();
  sipwire_timer_free(pair[1]);
  turns(3);
  CHECK_INT(expired_count, 1);
  CHECK_INT(expired[0], 0);
  sipwire_timer_free(pair[0]);
  host_close(0);

  pair_open(0); /* while the first is told */
  on_each_event = free_both;
  RUN_UNTIL(expired_count == 1);
  turns(5);
  CHECK_INT(expired_count, 1);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  host_close(0);
}

static void timers_and_loops_go_in_any_order(void) {
  for (int way = 0; way < 8; way++) {
    pair_open(way & 1 ? 0 : 60000);
    if (way & 2)
      pair_step();
    if (way & 4)
      host_fetch(0);
    CHECK_INT(expired_count, (way & 7) == 7 ? 2 : 0);
    sipwire_timer_free(pair[way & 1]);
    host_close(0);
    sipwire_timer_free(pair[!(way & 1)]);
  }
}

static struct sipwire_timer *chain;
static unsigned links;

static void one_more(const struct sipwire_event *event) {
  note_timer(event);
  sipwire_timer_free(chain);
  if (links--)
    CHECK_INT(sipwire_timer_new(hosts[0].loop, 0, links, &chain), 0);
}

/* Each in a tick of its own: a timer of 0 ms must not starve the rest. */
static void a_chain_of_timers_takes_a_tick_each(void) {
  timers_open();
  links = 20;
  on_each_event = one_more;
  CHECK_INT(sipwire_timer_new(hosts[0].loop, 0, 99, &chain), 0);
  for (unsigned before = 0; expired_count < 21; before = expired_count) {
    turn(1);
    if (!CHECK(expired_count <= before + 1))
      break;
  }
  turns(3);
  CHECK_INT(expired_count, 21);
  host_close(0);
}

static void closing_the_loop_disposes_of_timers(void) {
  struct sipwire_timer *timer = NULL;
  struct sipwire_transport *transport;
  struct sipwire_config config;
  host_open(0);
  sipwire_config_init(&config);
  CHECK_INT(sipwire_transport_new(hosts[0].loop, &config, &transport), 0);
  struct sipwire_loop *loop = hosts[0].loop;
  CHECK_INT(sipwire_timer_new(loop, 60000, 1, &timer), 0);
  host_close(0);
  sipwire_timer_free(timer);
  CHECK_INT(sipwire_transport_connect(transport, 0), SIPWIRE_EDISPOSED);
  sipwire_transport_free(transport);
}

/* ---- Waits ------------------------------------------------------------- */

static void a_wait_for_nothing_ends(void) {
  struct sipwire_event event;
  host_open(0);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  for (int i = 0; i < 50; i++) {
    CHECK_INT(sipwire_loop_step(hosts[0].loop, -1), 0);
    CHECK_INT(sipwire_loop_next(hosts[0].loop, &event), 0);
  }
  host_close(0);
}

/* The header's own main loop, to its end. */
static void the_main_loop_ends_when_nothing_is_left(void) {
  for (int way = 0; way < 2; way++) {
    secure = way;
    struct sipwire_event event;
    struct sipwire_tls_config tls = server_tls();
    struct sipwire_config config = client_config();
    host_open(0);
    memset(&served, 0, sizeof served);
    party_listen(&listener, hosts[0].loop, NULL, secure ? &tls : NULL, NULL);
    listener.accept_as = &served;
    party_client(&client, hosts[0].loop, secure ? "wss" : "ws", "127.0.0.1",
                 &listener, &config);
    CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
    int64_t limit = now_ms() + scaled(LIMIT_MS);
    while (sipwire_loop_alive(hosts[0].loop) && CHECK(now_ms() < limit)) {
      CHECK_INT(sipwire_loop_step(hosts[0].loop, -1), 0);
      while (sipwire_loop_next(hosts[0].loop, &event) > 0)
        note(&event);
      if (client.done[1] == 1 && client.done[2] == 0 &&
          client.state == SIPWIRE_CONNECTED) {
        CHECK_INT(party_send(&client, "hello", 2), 0);
        CHECK_INT(sipwire_transport_disconnect(client.transport, 3), 0);
        party_free(&listener);
      }
    }
    CHECK_INT(client.done[3], 1);
    CHECK_STR(served.seen, "text 'hello'\nConnected>Disconnected down closed "
                           "in open close 1000 clean\n");
    party_free(&client);
    party_free(&served);
    host_close(0);
  }
}

static void a_wait_lasts_as_long_as_it_is_told(void) {
  struct sipwire_timer *timer;
  host_open(0);
  CHECK_INT(sipwire_timer_new(hosts[0].loop, 3600000, 1, &timer), 0);
  turns(5);
  for (int wait = 1; wait <= 64; wait *= 4) {
    int64_t start = now_ms();
    CHECK_INT(sipwire_loop_step(hosts[0].loop, wait), 0);
    int64_t took = now_ms() - start;
    host_fetch(0);
    CHECK(took >= wait - 1 && took < wait + scaled(1000));
  }
  sipwire_timer_free(timer);
  host_close(0);
}

static int by_value(const void *a, const void *b) {
  int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;
  return (left > right) - (left < right);
}

/* The median, as the machine may be busy with something else. */
static void short_steps_under_load_are_short(void) {
  enum { STEPS = 400 };
  static char block[8192];
  static int64_t took[STEPS];
  struct rusage before, after;
  couple_connect();
  for (int i = 0; i < STEPS; i++) {
    for (int j = 0; j < 8; j++)
      sipwire_transport_send(client.transport, block, sizeof block,
                             SIPWIRE_FRAME_BINARY, 0);
    int64_t start = now_ms();
    CHECK_INT(sipwire_loop_step(hosts[i & 1].loop, 1), 0);
    took[i] = now_ms() - start;
    host_fetch(i & 1);
  }
  qsort(took, STEPS, sizeof *took, by_value);
  CHECK(took[STEPS / 2] <= scaled(5));
  /* and steps of 0 ms give the processor away to nobody */
  getrusage(RUSAGE_THREAD, &before);
  for (int i = 0; i < STEPS; i++) {
    sipwire_transport_send(client.transport, block, sizeof block,
                           SIPWIRE_FRAME_BINARY, 0);
    CHECK_INT(sipwire_loop_step(hosts[i & 1].loop, 0), 0);
    host_fetch(i & 1);
  }
  getrusage(RUSAGE_THREAD, &after);
  CHECK(after.ru_nvcsw - before.ru_nvcsw < STEPS / 4);
  CHECK(served.messages > 100);
  couple_close();
}

/* ---- Names that take their time ---------------------------------------- */

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static unsigned inside, most_inside, came_out;

int __real_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);
int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);

int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list) {
  if (hints->ai_flags & AI_NUMERICHOST || !strstr(host, ".test"))
    return __real_getaddrinfo(host, service, hints, list);
  pthread_mutex_lock(&gate);
  if (++inside > most_inside)
    most_inside = inside;
  while (!gate_open)
    pthread_cond_wait(&gate_moved, &gate);
  inside--;
  came_out++;
  pthread_mutex_unlock(&gate);
  return __real_getaddrinfo("127.0.0.1", service, hints, list);
}

static unsigned locked(const unsigned *number) {
  pthread_mutex_lock(&gate);
  unsigned value = *number;
  pthread_mutex_unlock(&gate);
  return value;
}

static void gate_set(bool open) {
  pthread_mutex_lock(&gate);
  gate_open = open;
  if (!open)
    most_inside = came_out = 0;
  pthread_cond_broadcast(&gate_moved);
  pthread_mutex_unlock(&gate);
}

static unsigned usual_threads;

/* The threads of what was given up are to be gone, not only ignored. */
static void gate_leave(void) {
  gate_set(true);
  int64_t limit = now_ms() + scaled(LIMIT_MS);
  while (threads() > usual_threads && now_ms() < limit)
    sched_yield();
  CHECK(threads() <= usual_threads);
}

static void *return_at_once(void *arg) {
  return arg;
}

/* A sanitizer starts a thread of its own with the first one. */
static void threads_count(void) {
  pthread_t thread;
  CHECK_INT(pthread_create(&thread, NULL, return_at_once, NULL), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  usual_threads = threads();
}

static void slow_open(const char *host, int timeout_ms) {
  struct sipwire_config config = client_config();
  gate_set(false);
  couple_open();
  party_free(&client);
  config.connection_timeout_ms = timeout_ms;
  party_client(&client, hosts[0].loop, "ws", host, &listener, &config);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
}

static void a_slow_name_is_waited_for(void) {
  slow_open("slow.test", 5000);
  RUN_UNTIL(locked(&inside) == 1);
  turns(10);
  CHECK_STR(client.seen, "Disconnected>Connecting\n");
  gate_set(true);
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Connected up\nconnect 1 ok\n");
  couple_close();
  gate_leave();
}

static void a_name_that_takes_too_long_is_a_timeout(void) {
  int64_t start = now_ms();
  slow_open("slow.test", 80);
  RUN_UNTIL(client.done[1]);
  int64_t took = now_ms() - start;
  CHECK(took >= 79 && took < scaled(3000));
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnected timeout in dns\n"
                         "connect 1 timeout in dns\n");
  CHECK_INT(locked(&inside), 1);
  turns(5);
  couple_close();
  gate_leave();
}

static void a_lookup_can_be_given_up(void) {
  slow_open("slow.test", 5000);
  RUN_UNTIL(locked(&inside) == 1);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 2), 0);
  RUN_UNTIL(client.done[2]);
  CHECK_STR(client.seen, "Disconnected>Connecting\nConnecting>Disconnecting\n"
                         "connect 1 aborted\nDisconnecting>Disconnected\n"
                         "disconnect 2 ok\n");
  gate_set(true);
  RUN_UNTIL(locked(&came_out) == 1);
  turns(20);
  CHECK_INT(client.state, SIPWIRE_DISCONNECTED);
  couple_close();
  gate_leave();
}

static void a_loop_does_not_wait_for_lookups(void) {
  for (int early = 0; early < 2; early++) {
    slow_open("slow.test", 5000);
    if (!early)
      RUN_UNTIL(locked(&inside) == 1);
    client.freed = true;
    int64_t start = now_ms();
    host_close(0);
    CHECK(now_ms() - start < scaled(1000));
    CHECK_INT(locked(&came_out), 0);
    sipwire_transport_free(client.transport);
    client.transport = NULL;
    host_open(0); /* what comes out late must not find it */
    gate_set(true);
    couple_close();
    gate_leave();
  }
}

/* Some let go of at the very moment that the lookups end. */
static void lookups_end_while_the_loop_goes(void) {
  for (int i = 0; i < 40; i++) {
    slow_open("slow.test", 5000);
    if (i & 1)
      RUN_UNTIL(locked(&inside) == 1);
    client.freed = true;
    gate_set(true);
    if (i & 2)
      CHECK_INT(sipwire_loop_step(hosts[0].loop, 0), 0);
    host_close(0);
    host_open(0);
    couple_close();
    gate_leave();
  }
}

enum { MANY = 11 };

static void many_lookups_at_once_all_end(void) {
  static struct party many[MANY];
  struct sipwire_config config;
  slow_open("slow.test", 5000);
  listener.refuse = true;
  for (unsigned i = 0; i < MANY; i++) {
    char host[32];
    snprintf(host, sizeof host, "slow%u.test", i);
    config = client_config();
    party_client(&many[i], hosts[0].loop, "ws", host, &listener, &config);
    CHECK_INT(sipwire_transport_connect(many[i].transport, 1), 0);
  }
  RUN_UNTIL(locked(&inside) == 8);
  turns(20);
  CHECK_INT(locked(&most_inside), 8);
  party_free(&many[0]);        /* running */
  party_free(&many[MANY - 1]); /* waiting */
  turns(20);
  CHECK_INT(locked(&most_inside), 8); /* its thread still runs */
  gate_set(true);
  RUN_UNTIL(client.done[1]);
  for (unsigned i = 1; i < MANY - 1; i++) {
    RUN_UNTIL(many[i].done[1]);
    CHECK_INT(many[i].error, SIPWIRE_EHTTP);
    party_free(&many[i]);
  }
  CHECK_INT(listener.refused, MANY - 1);
  couple_close();
  gate_leave();
}

/* ---- After fork() ------------------------------------------------------ */

static struct sipwire_timer *fork_timer;

/* Returns a bit for each promise that was broken. */
static int child_calls(void) {
  struct sipwire_loop *loop = hosts[0].loop;
  struct sipwire_transport *transport = client.transport, *made = NULL;
  struct sipwire_listener_config listening = {.arg = NULL};
  struct sipwire_listener *heard = NULL;
  struct sipwire_timer *timer = NULL;
  struct sipwire_config config;
  struct sipwire_event event;
  char buffer[64];
  sipwire_config_init(&config);
  sipwire_transport_pause(transport);
  sipwire_transport_resume(transport);
  return (sipwire_loop_step(loop, -1) != SIPWIRE_EFORK) << 0 |
         (sipwire_loop_next(loop, &event) != SIPWIRE_EFORK) << 1 |
         (sipwire_loop_pollfd(loop) != SIPWIRE_EFORK) << 2 |
         (sipwire_loop_alive(loop) != false) << 3 |
         (sipwire_transport_connect(transport, 9) != SIPWIRE_EFORK) << 4 |
         (sipwire_transport_disconnect(transport, 9) != SIPWIRE_EFORK) << 5 |
         (party_send(&client, "child", 9) != SIPWIRE_EFORK) << 6 |
         (sipwire_transport_set_server(transport, "ws://x", NULL, 0) !=
          SIPWIRE_EFORK) << 7 |
         (sipwire_transport_new(loop, &config, &made) != SIPWIRE_EFORK) << 8 |
         (sipwire_listener_new(loop, &listening, &heard) != SIPWIRE_EFORK)
             << 9 |
         (sipwire_timer_new(loop, 0, 9, &timer) != SIPWIRE_EFORK) << 10 |
         (sipwire_transport_local_address(transport, buffer, 64) >= 0) << 11 |
         (made || heard || timer) << 12;
}

static int child_frees(int loop_first) {
  int broken = 0;
  if (loop_first)
    broken |= sipwire_loop_free(hosts[0].loop) != 0;
  sipwire_request_refuse(listener.request, 0, NULL, NULL, 0);
  sipwire_timer_free(fork_timer);
  sipwire_transport_free(client.transport);
  sipwire_transport_free(served.transport);
  sipwire_listener_free(listener.listener);
  if (!loop_first)
    broken |= sipwire_loop_free(hosts[0].loop) != 0;
  broken |= (sipwire_loop_free(hosts[1].loop) != 0) << 1;
  return broken;
}

/* A child may have loops of its own. */
static int child_goes_on(void) {
  struct sipwire_loop *loop;
  struct sipwire_timer *timer;
  struct sipwire_event event;
  if (sipwire_loop_new(NULL, &loop) || sipwire_timer_new(loop, 0, 5, &timer))
    return 1;
  int got = 0;
  while (sipwire_loop_alive(loop)) {
    sipwire_loop_step(loop, -1);
    while (sipwire_loop_next(loop, &event) > 0)
      got += (int)event.tag;
  }
  sipwire_timer_free(timer);
  return got != 5 || sipwire_loop_free(loop);
}

/* What the parent still uses the child cannot free: it goes without a memory
   checker's last words, and leaves its own in memory that both see. */
static void child_dies(int *verdict, int number) {
  *verdict = number;
  raise(SIGKILL);
}

static int fork_and_do(int (*act)(int), int arg) {
  int status = -1, result = -1;
  int *verdict = mmap(NULL, sizeof *verdict, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (!CHECK(verdict != MAP_FAILED))
    return result;
  *verdict = -1;
  fflush(NULL);
  pid_t pid = fork();
  if (pid == 0) {
    alarm((unsigned)scaled(20));
    child_dies(verdict, act(arg));
  }
  CHECK(pid > 0);
  CHECK_INT(waitpid(pid, &status, 0), pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  result = *verdict;
  munmap(verdict, sizeof *verdict);
  return result;
}

static int do_all(int loop_first) {
  int broken = child_calls();
  if (!broken && child_frees(loop_first))
    broken = 1 << 20;
  if (!broken && child_goes_on())
    broken = 1 << 21;
  return broken;
}

static int do_nothing(int arg) {
  return arg;
}

static void a_child_leaves_the_parent_s_connections_alone(void) {
  for (int way = 0; way < 4; way++) {
    secure = way & 1;
    couple_connect();
    listener.accept_as = NULL;
    struct party guest;
    struct sipwire_config config = client_config();
    party_client(&guest, hosts[0].loop, secure ? "wss" : "ws", "127.0.0.1",
                 &listener, &config);
    CHECK_INT(sipwire_transport_connect(guest.transport, 0), 0);
    RUN_UNTIL(listener.request);
    CHECK(sipwire_loop_pollfd(hosts[0].loop) >= 0);
    CHECK_INT(sipwire_timer_new(hosts[0].loop, 3600000, 9, &fork_timer), 0);
    party_forget(&client);
    CHECK_INT(party_send(&client, "unwritten", 1), 0);
    CHECK_INT(fork_and_do(do_all, way & 2), 0);
    CHECK_INT(party_send(&client, "after", 2), 0);
    RUN_UNTIL(served.messages == 2);
    CHECK_INT(party_send(&served, "back", 0), 0);
    RUN_UNTIL(client.messages == 1);
    turns(30);
    CHECK_STR(client.seen, "send 1 ok\nsend 2 ok\ntext 'back'\n");
    CHECK_STR(served.seen, "text 'unwritten'\ntext 'after'\n");
    CHECK_INT(sipwire_transport_disconnect(client.transport, 3), 0);
    RUN_UNTIL(client.done[3] && served.state == SIPWIRE_DISCONNECTED);
    CHECK(strstr(served.seen, " close 1000 clean\n"));
    sipwire_timer_free(fork_timer);
    party_free(&guest);
    couple_close();
  }
  secure = false;
}

static void a_child_may_leave_everything_as_it_is(void) {
  couple_connect();
  CHECK_INT(fork_and_do(do_nothing, 7), 7);
  CHECK_INT(party_send(&client, "after", 2), 0);
  RUN_UNTIL(served.messages == 1);
  couple_close();
}

#define TEST(test) (RUN(test), all_is_gone(before))

int main(void) {
  threads_count();
  warm_up();
  certificates_make();
  unsigned before = descriptors();
  TEST(every_call_makes_it_readable);
  TEST(every_free_makes_it_readable);
  TEST(it_is_readable_while_something_is_to_be_read);
  TEST(paused_it_stays_silent);
  TEST(resumed_by_an_event_it_is_read);
  TEST(with_nothing_to_watch_it_waits);
  TEST(an_unfetched_event_keeps_it_readable);
  TEST(what_an_event_causes_makes_it_readable_again);
  TEST(its_timeout_counts_down_to_a_timer);
  TEST(it_is_close_on_exec);
  TEST(it_may_be_asked_for_at_any_time);
  TEST(a_host_needs_nothing_but_poll);
  TEST(timers_expire_in_order);
  TEST(a_freed_timer_never_expires);
  TEST(timers_and_loops_go_in_any_order);
  TEST(a_chain_of_timers_takes_a_tick_each);
  TEST(closing_the_loop_disposes_of_timers);
  TEST(a_wait_for_nothing_ends);
  TEST(the_main_loop_ends_when_nothing_is_left);
  secure = false;
  TEST(a_wait_lasts_as_long_as_it_is_told);
  TEST(short_steps_under_load_are_short);
  TEST(a_slow_name_is_waited_for);
  TEST(a_name_that_takes_too_long_is_a_timeout);
  TEST(a_lookup_can_be_given_up);
  TEST(a_loop_does_not_wait_for_lookups);
  TEST(lookups_end_while_the_loop_goes);
  TEST(many_lookups_at_once_all_end);
  TEST(a_child_leaves_the_parent_s_connections_alone);
  TEST(a_child_may_leave_everything_as_it_is);
  certificates_remove();
  return test_summary("loop");
}
