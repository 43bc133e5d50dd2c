/* SPDX-License-Identifier: MIT */
#ifndef SW_HOST_H
#define SW_HOST_H

/* What the tests of the public API share: a host that steps its loops until a
   condition holds, a transcript of all that each object was told, clients
   that are not of this library, and a look at the process's descriptors.
   To be included after _GNU_SOURCE was defined. */

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sipwire.h"
#include "test.h"

enum { TRANSCRIPT = 16384, HOSTS = 8, TAGS = 64, LIMIT_MS = 8000 };

/* ---- Parties: what a transport or listener has as its arg -------------- */

struct party {
  struct sipwire_transport *transport;
  struct sipwire_listener *listener;
  struct sipwire_request *request; /* the last one, unanswered */
  struct party *accept_as;         /* a listener's: accept at once, for this */
  bool refuse;                     /* a listener's: refuse at once, and count */
  unsigned refused;
  bool echo;                       /* a transport's: send back what comes */
  bool freed;                      /* then every event is a failure */
  enum sipwire_state state;        /* as the events told it */
  int error;                       /* of the last STATE event with one */
  char seen[TRANSCRIPT];           /* a line for each event */
  size_t length;
  size_t messages, bytes;
  uint32_t sum;                    /* over all bytes received, in order */
  unsigned done[TAGS], lost;       /* completions by tag; those with error */
};

static inline void party_forget(struct party *party) {
  party->seen[0] = '\0';
  party->length = 0;
}

static inline void party_write(struct party *party, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static inline void party_write(struct party *party, const char *format, ...) {
  va_list arguments;
  size_t room = sizeof party->seen - party->length;
  va_start(arguments, format);
  int length = vsnprintf(party->seen + party->length, room, format, arguments);
  va_end(arguments);
  if (length > 0 && (size_t)length < room)
    party->length += (size_t)length;
}

/* A sum that tells bytes lost, doubled or swapped. */
static inline uint32_t sum_of(uint32_t sum, const char *data, size_t length) {
  for (size_t i = 0; i < length; i++)
    sum = (sum ^ (uint8_t)data[i]) * 16777619u;
  return sum;
}

/* ---- Hosts: a loop and what it complained of --------------------------- */

struct host {
  struct sipwire_loop *loop;
  unsigned errors; /* lines that the loop logged at level ERROR */
  unsigned warnings;
};

static struct host hosts[HOSTS];

/* Sees each event after its party has taken note of it. */
static void (*on_each_event)(const struct sipwire_event *event);

static inline void on_log(enum sipwire_log_level level, const char *line,
                          void *arg) {
  struct host *host = arg;
  if (level == SIPWIRE_LOG_ERROR) {
    host->errors++;
    fprintf(stderr, "error was logged: %s\n", line);
  }
  host->warnings += level == SIPWIRE_LOG_WARN;
}

static inline int host_try(int index) {
  struct sipwire_loop_config config = {on_log, &hosts[index]};
  hosts[index].errors = hosts[index].warnings = 0;
  return sipwire_loop_new(&config, &hosts[index].loop);
}

static inline struct sipwire_loop *host_open(int index) {
  CHECK_INT(host_try(index), 0);
  return hosts[index].loop;
}

static inline void host_close(int index) {
  struct sipwire_loop *loop = hosts[index].loop;
  hosts[index].loop = NULL;
  CHECK_INT(sipwire_loop_free(loop), 0);
  CHECK_INT(hosts[index].errors, 0);
}

/* ---- Events ------------------------------------------------------------ */

static inline void write_error(struct party *party,
                               const struct sipwire_event *event) {
  const struct sipwire_info *info = event->info;
  const char *phase = info ? sipwire_phase_name(info->phase) : NULL;
  party_write(party, " %s", sipwire_error_name(event->error));
  if (!info)
    return;
  CHECK(info->text && info->text[0] && !strpbrk(info->text, "\r\n"));
  party_write(party, " in %s", phase ? phase : "no phase");
  if (info->http_status)
    party_write(party, " http %d", info->http_status);
  if (info->close_code)
    party_write(party, " close %d", info->close_code);
  if (info->close_reason_length)
    party_write(party, " '%s'", info->close_reason);
  if (info->was_clean)
    party_write(party, " clean");
  if (info->tls_error)
    party_write(party, " (%s)", info->tls_error);
}

static inline void note_state(struct party *party,
                              const struct sipwire_event *event) {
  party_write(party, "%s>%s", sipwire_state_name(event->previous),
              sipwire_state_name(event->state));
  party_write(party, "%s%s", event->up ? " up" : "", event->down ? " down" : "");
  if (event->error)
    write_error(party, event);
  CHECK(event->error || !event->info);
  CHECK_INT(event->previous, party->state);
  party->state = event->state;
  if (event->error)
    party->error = event->error;
}

static inline void note_done(struct party *party, const char *what,
                             const struct sipwire_event *event) {
  party_write(party, "%s %u", what, (unsigned)event->tag);
  if (event->error)
    write_error(party, event);
  else
    party_write(party, " ok");
  CHECK(event->tag > 0 && event->tag < TAGS);
  party->done[event->tag % TAGS]++;
  party->lost += event->error != 0;
}

static inline void note_message(struct party *party,
                                const struct sipwire_event *event) {
  const char *kind = event->binary ? "binary" : "text";
  party->messages++;
  party->bytes += event->length;
  party->sum = sum_of(party->sum, event->data, event->length);
  if (event->length <= 40)
    party_write(party, "%s '%.*s'", kind, (int)event->length, event->data);
  else
    party_write(party, "%s of %zu", kind, event->length);
  if (party->echo)
    CHECK_INT(sipwire_transport_send(event->transport, event->data,
                                     event->length,
                                     event->binary ? SIPWIRE_FRAME_BINARY
                                                   : SIPWIRE_FRAME_TEXT,
                                     0),
              0);
}

static inline void note_request(struct party *party,
                                const struct sipwire_event *event) {
  struct party *guest = party->accept_as;
  CHECK(event->listener == party->listener);
  CHECK(event->request != NULL);
  party_write(party, "request %s", event->request->target);
  if (party->refuse) {
    party->refused++;
    CHECK_INT(sipwire_request_refuse(event->request, 503, NULL, NULL, 0), 0);
    return;
  }
  if (!guest) {
    CHECK(!party->request);
    party->request = event->request;
    return;
  }
  sipwire_transport_free(guest->transport); /* of an earlier connection */
  guest->state = SIPWIRE_CONNECTED;
  guest->freed = false;
  CHECK_INT(sipwire_request_accept(event->request, guest, &guest->transport), 0);
}

static inline void note(const struct sipwire_event *event) {
  struct party *party = event->arg;
  if (event->type == SIPWIRE_EVENT_TIMER)
    return; /* it has no arg */
  if (!CHECK(party != NULL) || !CHECK(!party->freed))
    return;
  if (event->type != SIPWIRE_EVENT_REQUEST)
    CHECK(event->transport && event->transport == party->transport);
  if (event->type == SIPWIRE_EVENT_STATE)
    note_state(party, event);
  else if (event->type == SIPWIRE_EVENT_CONNECT_DONE)
    note_done(party, "connect", event);
  else if (event->type == SIPWIRE_EVENT_DISCONNECT_DONE)
    note_done(party, "disconnect", event);
  else if (event->type == SIPWIRE_EVENT_SEND_DONE)
    note_done(party, "send", event);
  else if (event->type == SIPWIRE_EVENT_MESSAGE)
    note_message(party, event);
  else if (event->type == SIPWIRE_EVENT_REQUEST)
    note_request(party, event);
  party_write(party, "\n");
}

/* ---- Turning the loops ------------------------------------------------- */

static inline int64_t now_ms(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

/* How much slower than usual everything is, by the environment. */
static inline int64_t scaled(int64_t ms) {
  const char *scale = getenv("SIPWIRE_TIME_SCALE");
  int64_t factor = scale ? atoi(scale) : 1;
  return ms * (factor > 0 ? factor : 1);
}

static unsigned events_seen;

/* An event may free the loop that it came from. */
static inline void host_fetch(int index) {
  struct sipwire_event event;
  while (hosts[index].loop &&
         sipwire_loop_next(hosts[index].loop, &event) > 0) {
    events_seen++;
    note(&event);
    if (on_each_event)
      on_each_event(&event);
  }
}

/* turn gives every loop a tick, in which one waits at most |wait_ms|. */
static inline void turn(int wait_ms) {
  for (int i = 0; i < HOSTS; i++) {
    if (!hosts[i].loop)
      continue;
    CHECK_INT(sipwire_loop_step(hosts[i].loop, wait_ms), 0);
    host_fetch(i);
  }
}

/* A wait in one loop must not keep another one waiting that has work. */
static inline void patient_turn(void) {
  static unsigned seen, idle;
  int loops = 0;
  for (int i = 0; i < HOSTS; i++)
    loops += hosts[i].loop != NULL;
  idle = seen == events_seen ? idle + 1 : 0;
  seen = events_seen;
  turn(loops == 1 || idle > 100);
}

static inline void turns(int count) {
  while (count-- > 0)
    turn(0);
}

/* RUN_UNTIL gives turns until |condition| holds, which it must, in time. */
#define RUN_UNTIL(condition)                                                   \
  do {                                                                         \
    int64_t until_ = now_ms() + scaled(LIMIT_MS);                              \
    while (!(condition) && now_ms() < until_)                                  \
      patient_turn();                                                          \
    CHECK(condition);                                                          \
  } while (0)

/* ---- Making things ----------------------------------------------------- */

static inline void party_listen(struct party *party, struct sipwire_loop *loop,
                                const char *address,
                                const struct sipwire_tls_config *tls,
                                const struct sipwire_config *habits) {
  struct sipwire_listener_config config;
  struct sipwire_config transport;
  memset(party, 0, sizeof *party);
  memset(&config, 0, sizeof config);
  if (habits)
    transport = *habits;
  else
    sipwire_config_init(&transport);
  transport.tls.verify = false;
  if (tls)
    transport.tls = *tls;
  config.address = address;
  config.secure = tls != NULL;
  config.transport = &transport;
  config.arg = party;
  CHECK_INT(sipwire_listener_new(loop, &config, &party->listener), 0);
}

/* party_client makes a transport to |server|'s listener, spelled |host|. */
static inline void party_client(struct party *party, struct sipwire_loop *loop,
                                const char *scheme, const char *host,
                                const struct party *server,
                                struct sipwire_config *config) {
  struct sipwire_config defaults;
  char url[128];
  memset(party, 0, sizeof *party);
  snprintf(url, sizeof url, "%s://%s:%u/sip", scheme, host,
           (unsigned)sipwire_listener_port(server->listener));
  if (!config) {
    sipwire_config_init(&defaults);
    config = &defaults;
  }
  config->server = url;
  config->arg = party;
  CHECK_INT(sipwire_transport_new(loop, config, &party->transport), 0);
  config->server = NULL;
}

static inline int party_send(struct party *party, const char *text,
                             uint64_t tag) {
  return sipwire_transport_send(party->transport, text, strlen(text),
                                SIPWIRE_FRAME_AUTO, tag);
}

/* party_free frees whatever the party has. */
static inline void party_free(struct party *party) {
  if (party->request)
    CHECK_INT(sipwire_request_refuse(party->request, 0, NULL, NULL, 0), 0);
  sipwire_transport_free(party->transport);
  sipwire_listener_free(party->listener);
  party->request = NULL;
  party->transport = NULL;
  party->listener = NULL;
  party->freed = true;
}

/* ---- Clients that are plain sockets ------------------------------------ */

static inline int raw_socket(void) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK(fd >= 0);
  return fd;
}

/* The kernel accepts for the listener: this does not block. */
static inline void raw_connect(int fd, uint16_t port) {
  struct sockaddr_in address;
  int on = 1;
  /* or small writes wait for delayed acknowledgements, 40 ms each */
  CHECK_INT(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK_INT(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
  CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

static inline void raw_write(int fd, const void *data, size_t length) {
  CHECK_INT(send(fd, data, length, MSG_NOSIGNAL), (ssize_t)length);
}

static inline void raw_ask(int fd) {
  static const char request[] =
      "GET /raw HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Protocol: sip\r\n\r\n";
  raw_write(fd, request, sizeof request - 1);
}

/* raw_frame sends a masked frame of at most 125 bytes; the mask is 0. */
static inline void raw_frame(int fd, unsigned first, const void *data,
                             size_t length) {
  uint8_t frame[6 + 125] = {0};
  frame[0] = (uint8_t)first;
  frame[1] = (uint8_t)(0x80 | length);
  if (length)
    memcpy(frame + 6, data, length);
  raw_write(fd, frame, 6 + length);
}

/* raw_window sets how much the kernel takes for us unread. */
static inline void raw_window(int fd, int size) {
  CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size), 0);
}

/* raw_reset ends the connection with a RST. */
static inline void raw_reset(int fd) {
  struct linger linger = {1, 0};
  CHECK_INT(setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger), 0);
  close(fd);
}

/* raw_closed tells whether the peer has finished; it reads all before that. */
static inline bool raw_closed(int fd) {
  char bytes[65536];
  ssize_t length;
  while ((length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
    ;
  return length == 0 || (errno != EAGAIN && errno != EINTR);
}

/* ---- The process ------------------------------------------------------- */

static inline unsigned count_entries(const char *directory) {
  unsigned count = 0;
  DIR *dir = opendir(directory);
  while (CHECK(dir != NULL) && readdir(dir))
    count++;
  closedir(dir);
  return count;
}

static inline unsigned descriptors(void) {
  return count_entries("/proc/self/fd");
}

static inline unsigned threads(void) {
  return count_entries("/proc/self/task") - 2;
}

/* libuv keeps two descriptors per process once it was used; after this, what
   is counted is ours. */
static inline void warm_up(void) {
  host_open(0);
  host_close(0);
}

/* Leaves nothing behind: to be called between tests. */
static inline void all_is_gone(unsigned before) {
  on_each_event = NULL;
  for (int i = 0; i < HOSTS; i++)
    CHECK(hosts[i].loop == NULL);
  CHECK_INT(descriptors(), before);
}

/* ---- Certificates ------------------------------------------------------ */

static char certificates[512]; /* directory; "" until certificates_make() */
static bool certificates_ours;

static inline void certificates_make(void) {
  const char *given = getenv("SIPWIRE_CERTS");
  char command[1400];
  const char *slash = strrchr(__FILE__, '/');
  snprintf(certificates, sizeof certificates, "%s",
           given ? given : "/tmp/sipwire-test-XXXXXX");
  certificates_ours = !given;
  if (certificates_ours && !CHECK(mkdtemp(certificates) != NULL))
    exit(EXIT_FAILURE);
  snprintf(command, sizeof command, "sh '%.*s/../support/certs.sh' '%s'",
           slash ? (int)(slash - __FILE__) : 1, slash ? __FILE__ : ".",
           certificates);
  if (!CHECK_INT(system(command), 0))
    exit(EXIT_FAILURE);
}

static inline void certificates_remove(void) {
  char command[600];
  if (!certificates_ours)
    return;
  snprintf(command, sizeof command, "rm -rf '%s'", certificates);
  CHECK_INT(system(command), 0);
}

static inline const char *certificate(const char *name) {
  static char paths[16][600];
  static unsigned next;
  char *path = paths[next++ % 16];
  snprintf(path, sizeof paths[0], "%s/%s", certificates, name);
  return path;
}

static inline struct sipwire_tls_config server_tls(void) {
  struct sipwire_tls_config tls;
  memset(&tls, 0, sizeof tls);
  tls.cert_file = certificate("server.pem");
  tls.key_file = certificate("server.key");
  return tls;
}

static inline struct sipwire_config client_config(void) {
  struct sipwire_config config;
  sipwire_config_init(&config);
  if (certificates[0])
    config.tls.ca_file = certificate("ca.pem");
  return config;
}

#endif
