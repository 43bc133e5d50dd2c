/* SPDX-License-Identifier: MIT */
/* What the library does to the process it is in: descriptors, signals,
   limits, stderr; and what it does when descriptors run out. */
#define _GNU_SOURCE
#include "host.h"

#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/syscall.h>

static struct party listener, client, served;

static void couple_open(bool secure, const char *host) {
  struct sipwire_tls_config tls = server_tls();
  struct sipwire_config config = client_config();
  if (!hosts[0].loop)
    host_open(0);
  memset(&served, 0, sizeof served);
  party_listen(&listener, hosts[0].loop, NULL, secure ? &tls : NULL, NULL);
  listener.accept_as = &served;
  party_client(&client, hosts[0].loop, secure ? "wss" : "ws", host, &listener,
               &config);
}

static void couple_close(void) {
  party_free(&client);
  party_free(&served);
  party_free(&listener);
  host_close(0);
}

static void converse(void) {
  memset(client.done, 0, sizeof client.done);
  served.messages = 0;
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK_INT(client.state, SIPWIRE_CONNECTED);
  CHECK_INT(party_send(&client, "hello", 2), 0);
  RUN_UNTIL(served.messages == 1);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 3), 0);
  RUN_UNTIL(client.done[3] && served.state == SIPWIRE_DISCONNECTED);
}

/* ---- Loops ------------------------------------------------------------- */

static void three_hundred_loops_in_a_row(void) {
  unsigned before = descriptors();
  for (int i = 0; i < 300; i++) {
    host_open(0);
    host_close(0);
  }
  CHECK_INT(descriptors(), before);
}

static void many_loops_at_once(void) {
  for (int i = 0; i < HOSTS; i++)
    host_open(i);
  couple_open(true, "127.0.0.1");
  converse();
  for (int i = 1; i < HOSTS; i++)
    host_close(i);
  couple_close();
}

static void a_conversation_leaves_no_descriptor(void) {
  unsigned before = descriptors();
  for (int i = 0; i < 4; i++) {
    couple_open(i & 1, i & 2 ? "localhost" : "127.0.0.1");
    converse();
    CHECK(sipwire_loop_pollfd(hosts[0].loop) >= 0);
    couple_close();
    CHECK_INT(descriptors(), before);
  }
}

static void descriptors_go_with_their_connection(void) {
  couple_open(false, "127.0.0.1");
  unsigned before = descriptors();
  for (int i = 0; i < 20; i++)
    converse();
  RUN_UNTIL(descriptors() == before);
  couple_close();
}

/* Both have said goodbye, but one does not close its socket. */
static void a_peer_that_never_closes_is_let_go(void) {
  static const uint8_t bye[] = {0x03, 0xe8};
  couple_open(false, "127.0.0.1");
  turns(5);
  unsigned before = descriptors();
  int fd = raw_socket();
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(served.transport);
  raw_frame(fd, 0x88, bye, sizeof bye);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  RUN_UNTIL(descriptors() == before + 1);
  close(fd);
  couple_close();
}

/* ---- A kernel that has no room ------------------------------------------ */

static bool epoll_is_full;

/* In the place of libc's, also for libuv. */
__attribute__((visibility("default"))) int
epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
  if (!epoll_is_full || operation != EPOLL_CTL_ADD)
    return (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
  epoll_is_full = false;
  errno = ENOSPC; /* fs.epoll.max_user_watches */
  return -1;
}

static void a_connection_that_cannot_be_watched_leaves_no_descriptor(void) {
  couple_open(false, "127.0.0.1");
  converse();
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  turns(5);
  unsigned before = descriptors();
  epoll_is_full = true;
  CHECK_INT(sipwire_transport_connect(client.transport, 2), SIPWIRE_ENOMEM);
  CHECK(!epoll_is_full);
  CHECK_INT(descriptors(), before);
  converse();
  couple_close();
}

/* ---- Signals, limits, stderr ------------------------------------------- */

static void on_pipe(int number) {
  (void)number;
}

static void signals_and_limits_stay(void) {
  struct sigaction action, mine;
  struct rlimit limit, after;
  sigset_t blocked, blocked_after;
  memset(&mine, 0, sizeof mine);
  mine.sa_handler = on_pipe;
  mine.sa_flags = SA_RESTART;
  void (*const handlers[])(int) = {SIG_DFL, SIG_IGN, on_pipe};
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
  CHECK_INT(sigprocmask(SIG_SETMASK, NULL, &blocked), 0);
  for (int i = 0; i < 3; i++) {
    mine.sa_handler = handlers[i];
    CHECK_INT(sigaction(SIGPIPE, &mine, NULL), 0);
    couple_open(false, "localhost");
    CHECK_INT(sigaction(SIGPIPE, NULL, &action), 0);
    CHECK(action.sa_handler == handlers[i] && action.sa_flags & SA_RESTART);
    converse();
    couple_close();
    CHECK_INT(sigaction(SIGPIPE, NULL, &action), 0);
    CHECK(action.sa_handler == handlers[i]);
  }
  mine.sa_handler = SIG_DFL;
  CHECK_INT(sigaction(SIGPIPE, &mine, NULL), 0);
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &after), 0);
  CHECK(limit.rlim_cur == after.rlim_cur && limit.rlim_max == after.rlim_max);
  CHECK_INT(sigprocmask(SIG_SETMASK, NULL, &blocked_after), 0);
  for (int number = 1; number < 32; number++)
    CHECK_INT(sigismember(&blocked, number),
              sigismember(&blocked_after, number));
}

/* With SIGPIPE deadly as it is by default: the first write makes the peer say
   that it is gone, the second would be answered by the signal. */
static void writing_to_a_closed_connection_is_survived(void) {
  static char large[70000]; /* is written at once */
  couple_open(false, "127.0.0.1");
  int fd = raw_socket();
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(served.transport);
  turns(5);
  CHECK(!raw_closed(fd)); /* has read all, or this would be a reset */
  close(fd);
  for (unsigned tag = 1; tag <= 3; tag++)
    CHECK_INT(sipwire_transport_send(served.transport, large, sizeof large,
                                     SIPWIRE_FRAME_BINARY, tag),
              0);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED && served.done[3]);
  CHECK_INT(served.done[1] + served.done[2] + served.done[3], 3);
  CHECK(served.lost >= 2);
  couple_close();
}

static int stderr_kept, stderr_memory;

static void stderr_catch(void) {
  fflush(stderr);
  stderr_kept = fcntl(2, F_DUPFD_CLOEXEC, 3);
  stderr_memory = memfd_create("stderr", MFD_CLOEXEC);
  CHECK(stderr_kept >= 0 && stderr_memory >= 0 && dup2(stderr_memory, 2) == 2);
}

static void stderr_release(void) {
  char text[256] = "";
  fflush(stderr);
  dup2(stderr_kept, 2);
  close(stderr_kept);
  CHECK(pread(stderr_memory, text, sizeof text - 1, 0) >= 0);
  CHECK_STR(text, "");
  close(stderr_memory);
}

static void nothing_is_said_on_stderr(void) {
  stderr_catch();
  for (int secure = 0; secure < 2; secure++) {
    couple_open(secure, "localhost");
    converse();
    party_free(&listener); /* refused */
    CHECK_INT(sipwire_transport_connect(client.transport, 4), 0);
    RUN_UNTIL(client.done[4]);
    couple_close();
  }
  stderr_release();
}

/* ---- Descriptors run out ----------------------------------------------- */

enum { FILLERS = 256 };

static int fillers[FILLERS], filler_count;
static struct rlimit usual_limit;

/* Leaves |spare| descriptors. */
static void exhaust(int spare) {
  struct rlimit low;
  CHECK_INT(getrlimit(RLIMIT_NOFILE, &usual_limit), 0);
  low = usual_limit;
  low.rlim_cur = 128;
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &low), 0);
  for (filler_count = 0; filler_count < FILLERS; filler_count++)
    if ((fillers[filler_count] = fcntl(0, F_DUPFD_CLOEXEC, 0)) < 0)
      break;
  CHECK_INT(errno, EMFILE);
  CHECK(spare <= filler_count);
  while (spare-- > 0)
    close(fillers[--filler_count]);
}

static void recover(void) {
  while (filler_count > 0)
    close(fillers[--filler_count]);
  CHECK_INT(setrlimit(RLIMIT_NOFILE, &usual_limit), 0);
}

static void a_loop_needs_descriptors(void) {
  int made = 0, error = 0;
  stderr_catch();
  for (int spare = 0; spare < 16; spare++) {
    exhaust(spare);
    error = host_try(0);
    CHECK(error == 0 || error == SIPWIRE_ESYSTEM);
    if (!error) {
      host_close(0);
      made++;
    }
    int left = 0, fds[32];
    while (left < 32 && (fds[left] = fcntl(0, F_DUPFD_CLOEXEC, 0)) >= 0)
      left++;
    CHECK_INT(left, spare); /* nothing was kept */
    while (left > 0)
      close(fds[--left]);
    recover();
  }
  CHECK(made > 0 && made < 16);
  stderr_release();
}

static void a_pollfd_needs_descriptors(void) {
  host_open(0);
  for (int spare = 0; spare < 2; spare++) {
    exhaust(spare);
    CHECK_INT(sipwire_loop_pollfd(hosts[0].loop), SIPWIRE_ESYSTEM);
    CHECK(sipwire_loop_message(hosts[0].loop)[0] != '\0');
    recover();
  }
  CHECK(sipwire_loop_pollfd(hosts[0].loop) >= 0);
  host_close(0);
}

static void a_listener_needs_descriptors(void) {
  struct sipwire_listener_config config;
  struct sipwire_listener *made = NULL;
  memset(&config, 0, sizeof config);
  host_open(0);
  exhaust(0);
  int error = sipwire_listener_new(hosts[0].loop, &config, &made);
  CHECK(error == SIPWIRE_ESYSTEM || error == SIPWIRE_ENOMEM);
  CHECK(!made);
  recover();
  host_close(0);
}

static int last_errno;

static void note_errno(const struct sipwire_event *event) {
  if (event->info)
    last_errno = event->info->sys_errno;
}

static void connect_without_descriptors(bool secure, const char *host) {
  bool name = !strcmp(host, "localhost");
  couple_open(secure, host);
  on_each_event = note_errno;
  exhaust(0);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen,
            name ? "Disconnected>Connecting\nConnecting>Disconnected dns in "
                   "dns\nconnect 1 dns in dns\n"
                 : "Disconnected>Connecting\nConnecting>Disconnected nomem in "
                   "tcp\nconnect 1 nomem in tcp\n");
  CHECK(name || last_errno == EMFILE);
  recover();
  converse();
  couple_close();
}

/* Valgrind plays the limit itself, and closes what it has accepted. */
static bool accept_keeps_what_it_cannot_take(void) {
  struct sockaddr_in address;
  struct sockaddr *plain = (struct sockaddr *)&address;
  socklen_t size = sizeof address;
  int here = raw_socket(), there = raw_socket();
  memset(&address, 0, sizeof address);
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(!bind(there, plain, size) && !listen(there, 1));
  CHECK(!getsockname(there, plain, &size));
  raw_connect(here, ntohs(address.sin_port));
  exhaust(0);
  CHECK(accept(there, NULL, NULL) < 0);
  bool kept = !raw_closed(here);
  recover();
  close(here);
  close(there);
  return kept;
}

/* The server's end of the connection has to wait. */
static void connect_with_one_descriptor(bool secure) {
  if (!accept_keeps_what_it_cannot_take())
    return;
  couple_open(secure, "127.0.0.1");
  exhaust(1);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(hosts[0].warnings > 0);
  turns(10);
  CHECK_INT(client.state, SIPWIRE_CONNECTING);
  recover();
  RUN_UNTIL(client.done[1] && client.state == SIPWIRE_CONNECTED);
  couple_close();
}

static void a_connect_needs_descriptors(void) {
  for (int secure = 0; secure < 2; secure++) {
    connect_without_descriptors(secure, "127.0.0.1");
    connect_without_descriptors(secure, "localhost");
    connect_with_one_descriptor(secure);
  }
}

static void a_listener_serves_again_after_a_shortage(void) {
  enum { CLIENTS = 5 };
  int fds[CLIENTS];
  if (!accept_keeps_what_it_cannot_take())
    return;
  couple_open(false, "127.0.0.1");
  for (int i = 0; i < CLIENTS; i++)
    fds[i] = raw_socket();
  exhaust(0);
  for (int i = 0; i < CLIENTS; i++) {
    raw_connect(fds[i], sipwire_listener_port(listener.listener));
    raw_ask(fds[i]);
  }
  listener.refuse = true;
  RUN_UNTIL(hosts[0].warnings > 0);
  int64_t start = now_ms();
  unsigned steps = 0;
  for (; now_ms() - start < 250; steps++)
    turn(50);
  CHECK(steps < 60); /* or it spins meanwhile */
  CHECK(hosts[0].warnings < 12);
  CHECK_INT(listener.refused, 0);
  recover();
  for (int i = 0; i < CLIENTS; i++) {
    RUN_UNTIL(raw_closed(fds[i]));
    close(fds[i]);
  }
  CHECK_INT(listener.refused, CLIENTS);
  listener.refuse = false;
  converse();
  couple_close();
}

#define TEST(test) (RUN(test), all_is_gone(before))

int main(void) {
  warm_up();
  certificates_make();
  unsigned before = descriptors();
  TEST(three_hundred_loops_in_a_row);
  TEST(many_loops_at_once);
  TEST(a_conversation_leaves_no_descriptor);
  TEST(descriptors_go_with_their_connection);
  TEST(a_peer_that_never_closes_is_let_go);
  TEST(a_connection_that_cannot_be_watched_leaves_no_descriptor);
  TEST(signals_and_limits_stay);
  TEST(writing_to_a_closed_connection_is_survived);
  TEST(nothing_is_said_on_stderr);
  TEST(a_loop_needs_descriptors);
  TEST(a_pollfd_needs_descriptors);
  TEST(a_listener_needs_descriptors);
  TEST(a_connect_needs_descriptors);
  TEST(a_listener_serves_again_after_a_shortage);
  certificates_remove();
  return test_summary("process");
}
