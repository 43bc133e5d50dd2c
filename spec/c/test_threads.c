/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=getaddrinfo */
/* Loops in several threads at the same time, each used by one thread only,
   while their lookups end, fail, are given up, or outlive their loop.  Made for
   ThreadSanitizer: nothing but the library makes these threads wait for each
   other, so the checks are made when they have ended. */
#define _GNU_SOURCE
#include "host.h"

#include <netdb.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>

enum { THREADS = 4, ROUNDS = 60, TRANSPORTS = 12, PAUSES = 40 };

/* ---- Names: "p17.test" takes 17 pauses; "x17.test" then fails ---------- */

int __real_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);
int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);

int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list) {
  if (hints->ai_flags & AI_NUMERICHOST || !strstr(host, ".test"))
    return __real_getaddrinfo(host, service, hints, list);
  for (int i = atoi(host + 1); i > 0; i--)
    sched_yield();
  if (host[0] == 'x')
    return EAI_NONAME;
  return __real_getaddrinfo("127.0.0.1", service, hints, list);
}

/* ---- What one thread does ---------------------------------------------- */

struct worker {
  pthread_t thread;
  uint32_t state; /* of its dice */
  struct sipwire_loop *loop;
  struct sipwire_listener *listener;
  struct sipwire_transport *clients[TRANSPORTS], *served[2 * TRANSPORTS];
  bool fails[TRANSPORTS], done[TRANSPORTS];
  unsigned served_count, rounds, connected, failed;
  int wrong; /* line of the first check that did not hold */
};

static struct sipwire_tls_config server_side;
static struct sipwire_config client_side;

#define HOLDS(worker, condition)                                               \
  ((condition) || (worker)->wrong ? true : ((worker)->wrong = __LINE__, false))

static unsigned dice(struct worker *worker, unsigned sides) {
  worker->state = worker->state * 1664525u + 1013904223u;
  return (worker->state >> 16) % sides;
}

static void judge(struct worker *worker, const struct sipwire_event *event) {
  size_t index = (size_t)event->tag - 1;
  HOLDS(worker, index < TRANSPORTS && !worker->done[index]);
  HOLDS(worker, event->error == (worker->fails[index] ? SIPWIRE_EDNS : 0));
  worker->done[index] = true;
  worker->connected += event->error == 0;
  worker->failed += event->error != 0;
}

static void serve(struct worker *worker, struct sipwire_request *request) {
  struct sipwire_transport **served = &worker->served[worker->served_count];
  if (sipwire_request_accept(request, NULL, served) == 0)
    worker->served_count++;
}

static void tick(struct worker *worker, int timeout_ms) {
  struct sipwire_event event;
  HOLDS(worker, sipwire_loop_step(worker->loop, timeout_ms) == 0);
  while (sipwire_loop_next(worker->loop, &event) > 0) {
    if (event.type == SIPWIRE_EVENT_CONNECT_DONE)
      judge(worker, &event);
    else if (event.type == SIPWIRE_EVENT_REQUEST)
      serve(worker, event.request);
  }
}

static void open_listener(struct worker *worker, bool secure) {
  struct sipwire_listener_config config;
  struct sipwire_config habits;
  sipwire_config_init(&habits);
  memset(&config, 0, sizeof config);
  habits.tls.verify = false;
  if (secure)
    habits.tls = server_side;
  config.secure = secure;
  config.transport = &habits;
  HOLDS(worker, sipwire_loop_new(NULL, &worker->loop) == 0);
  HOLDS(worker,
        sipwire_listener_new(worker->loop, &config, &worker->listener) == 0);
}

static void open_client(struct worker *worker, unsigned index, bool secure) {
  struct sipwire_config config = client_side;
  char url[64];
  bool fails = worker->fails[index] = dice(worker, 3) == 0;
  worker->done[index] = false;
  snprintf(url, sizeof url, "%s://%c%u.test:%u", secure ? "wss" : "ws",
           fails ? 'x' : 'p', dice(worker, PAUSES),
           (unsigned)sipwire_listener_port(worker->listener));
  config.server = url;
  config.connection_timeout_ms = (int)scaled(20000);
  config.tls.server_name = "localhost";
  struct sipwire_transport **client = &worker->clients[index];
  if (HOLDS(worker, sipwire_transport_new(worker->loop, &config, client) == 0))
    HOLDS(worker, sipwire_transport_connect(*client, index + 1) == 0);
}

static bool all_done(struct worker *worker) {
  for (int i = 0; i < TRANSPORTS; i++)
    if (!worker->done[i] && worker->clients[i])
      return false;
  return true;
}

/* Some are let go of in the midst of it. */
static void converse(struct worker *worker, unsigned ticks, bool to_the_end) {
  int64_t limit = now_ms() + scaled(20000);
  for (unsigned i = 0; i < ticks; i++) {
    unsigned index = dice(worker, TRANSPORTS);
    tick(worker, 0);
    if (dice(worker, 4) == 0) {
      sipwire_transport_free(worker->clients[index]);
      worker->clients[index] = NULL;
    }
  }
  while (to_the_end && !all_done(worker) && HOLDS(worker, now_ms() < limit) &&
         !worker->wrong)
    tick(worker, 10);
}

static void close_all(struct worker *worker, bool loop_first) {
  if (loop_first)
    HOLDS(worker, sipwire_loop_free(worker->loop) == 0);
  for (int i = 0; i < TRANSPORTS; i++)
    sipwire_transport_free(worker->clients[i]);
  for (unsigned i = 0; i < worker->served_count; i++)
    sipwire_transport_free(worker->served[i]);
  worker->served_count = 0;
  sipwire_listener_free(worker->listener);
  if (!loop_first)
    HOLDS(worker, sipwire_loop_free(worker->loop) == 0);
}

static void *work(void *arg) {
  struct worker *worker = arg;
  for (unsigned round = 0; round < ROUNDS && !worker->wrong; round++) {
    bool secure = round % 8 == 0;
    open_listener(worker, secure);
    for (unsigned i = 0; i < TRANSPORTS && !worker->wrong; i++)
      open_client(worker, i, secure);
    converse(worker, dice(worker, 12), round % 2 == 0);
    close_all(worker, dice(worker, 2) == 0);
    worker->rounds++;
  }
  return NULL;
}

/* ---- Bystanders: threads of the host that open and close files --------- */

enum { BYSTANDERS = 2 };

static atomic_bool over;

/* Returns how often somebody else closed its file. */
static void *stand_by(void *arg) {
  uintptr_t robbed = 0;
  (void)arg;
  while (!atomic_load_explicit(&over, memory_order_relaxed)) {
    int fds[4];
    for (int i = 0; i < 4; i++)
      fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
    sched_yield();
    for (int i = 0; i < 4; i++)
      robbed += close(fds[i]) != 0;
  }
  return (void *)robbed;
}

/* ---- Tests ------------------------------------------------------------- */

static struct worker workers[THREADS];

static void loops_of_several_threads_do_not_meet(void) {
  unsigned usual = threads(), connected = 0, failed = 0;
  pthread_t bystanders[BYSTANDERS];
  struct sigaction action;
  for (int i = 0; i < BYSTANDERS; i++)
    CHECK_INT(pthread_create(&bystanders[i], NULL, stand_by, NULL), 0);
  for (unsigned i = 0; i < THREADS; i++) {
    workers[i].state = i * 77 + 1;
    CHECK_INT(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
  }
  for (unsigned i = 0; i < THREADS; i++) {
    CHECK_INT(pthread_join(workers[i].thread, NULL), 0);
    CHECK_INT(workers[i].wrong, 0);
    CHECK_INT(workers[i].rounds, ROUNDS);
    connected += workers[i].connected;
    failed += workers[i].failed;
  }
  atomic_store(&over, true);
  for (int i = 0; i < BYSTANDERS; i++) {
    void *robbed;
    CHECK_INT(pthread_join(bystanders[i], &robbed), 0);
    CHECK_INT((uintptr_t)robbed, 0);
  }
  CHECK_INT(sigaction(SIGPIPE, NULL, &action), 0);
  CHECK(action.sa_handler == SIG_DFL);
  CHECK(connected > THREADS * ROUNDS); /* half of the rounds come to an end */
  CHECK(failed > THREADS * ROUNDS);
  int64_t limit = now_ms() + scaled(LIMIT_MS);
  while (threads() > usual && now_ms() < limit)
    sched_yield();
  CHECK(threads() <= usual);
}

static void *return_at_once(void *arg) {
  return arg;
}

int main(void) {
  pthread_t thread; /* a sanitizer starts one of its own with the first */
  CHECK_INT(pthread_create(&thread, NULL, return_at_once, NULL), 0);
  CHECK_INT(pthread_join(thread, NULL), 0);
  warm_up();
  certificates_make();
  server_side = server_tls();
  client_side = client_config();
  unsigned before = descriptors();
  RUN(loops_of_several_threads_do_not_meet);
  CHECK_INT(descriptors(), before);
  certificates_remove();
  return test_summary("threads");
}
