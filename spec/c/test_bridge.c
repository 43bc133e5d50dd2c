/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=pthread_create -Wl,--wrap=poll */
/* Bridges: who is let in, when bytes come, and that nothing is left. */
#define _GNU_SOURCE
#include "host.h"

#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* ---- Failures to order ------------------------------------------------- */

static bool threads_fail;
static atomic_int failing_polls;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes,
                          void *(*function)(void *), void *arg) {
  return threads_fail
             ? EAGAIN
             : __real_pthread_create(thread, attributes, function, arg);
}

int __real_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout) {
  if (count == 2 && atomic_load(&failing_polls) > 0) {
    atomic_fetch_sub(&failing_polls, 1);
    errno = ENOMEM;
    return -1;
  }
  return __real_poll(fds, count, timeout);
}

/* ---- A host that waits for its socket only ----------------------------- */

static struct sipwire_bridge *bridge;

static int connect_unix(const char *path) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  snprintf(name.sun_path, sizeof name.sun_path, "%s", path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(fd, (struct sockaddr *)&name, sizeof name)) {
    close(fd);
    return -1;
  }
  return fd;
}

static int connect_port(const char *port) {
  struct sockaddr_in name = {.sin_family = AF_INET};
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  name.sin_port = htons((uint16_t)atoi(port));
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  CHECK_INT(connect(fd, (struct sockaddr *)&name, sizeof name), 0);
  return fd;
}

static int come(void) {
  const char *address = sipwire_bridge_address(bridge);
  if (!strncmp(address, "unix:", 5))
    return connect_unix(address + 5);
  return connect_port(strchr(address, ':') + 1);
}

static bool readable(int fd, int limit_ms) {
  struct pollfd one = {fd, POLLIN, 0};
  return __real_poll(&one, 1, limit_ms) > 0;
}

/* How many bytes are there, after at most |limit_ms| for the first. */
static ssize_t bytes(int fd, int64_t limit_ms) {
  char got[64];
  if (!readable(fd, (int)limit_ms))
    return 0;
  ssize_t count = recv(fd, got, sizeof got, MSG_DONTWAIT);
  return count == 0 ? -1 : count;
}

static ssize_t byte_in_time(int fd) {
  return bytes(fd, scaled(LIMIT_MS));
}

static int open_bridge(const char *directory) {
  struct sipwire_loop *loop = host_open(0);
  CHECK_INT(sipwire_bridge_new(loop, directory, &bridge), 0);
  return come();
}

static int accept_in_time(void) {
  int64_t until = now_ms() + scaled(LIMIT_MS);
  int status;
  do
    status = sipwire_bridge_accept(bridge);
  while (status == 0 && now_ms() < until);
  return status;
}

static void close_bridge(int fd) {
  sipwire_bridge_free(bridge);
  bridge = NULL;
  CHECK_INT(readable(fd, (int)scaled(LIMIT_MS)) ? 1 : 0, 1); /* its end */
  close(fd);
  host_close(0);
}

static struct sipwire_timer *timer_in(int64_t ms) {
  struct sipwire_timer *timer = NULL;
  CHECK_INT(sipwire_timer_new(hosts[0].loop, ms, 7, &timer), 0);
  return timer;
}

/* The host is told that there is work. */
static void tells_the_host(int fd) {
  struct sipwire_timer *timer = timer_in(0);
  CHECK_INT(byte_in_time(fd), 1);
  sipwire_timer_free(timer);
}

/* Also where no descriptor is left to look with. */
static int open_below(int limit) {
  int count = 0;
  for (int fd = 0; fd < limit; fd++)
    count += fcntl(fd, F_GETFD) >= 0;
  return count;
}

/* ---- Bytes ------------------------------------------------------------- */

/* The loop is stepped until it is quiet. */
static void settle(int fd) {
  do {
    turn(0);
    CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  } while (bytes(fd, 20) > 0);
}

static void comes_when_the_loop_has_to_step(void) {
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  CHECK_INT(sipwire_bridge_accept(bridge), 1);
  settle(fd);
  CHECK_INT(bytes(fd, 50), 0); /* armed, and nothing to do */
  struct sipwire_timer *timer = timer_in(0);
  CHECK_INT(byte_in_time(fd), 1);
  CHECK_INT(bytes(fd, 30), 0); /* one, as long as it is not armed again */
  CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  CHECK_INT(byte_in_time(fd), 1); /* nobody has stepped */
  turn(0);
  sipwire_timer_free(timer);
  settle(fd);
  timer = timer_in(40); /* the loop's own deadlines count */
  turn(0);
  CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  CHECK_INT(byte_in_time(fd), 1);
  sipwire_timer_free(timer);
  close_bridge(fd);
}

static void rings_only_as_often_as_asked(void) {
  int fd = open_bridge(NULL);
  CHECK_INT(sipwire_bridge_ring(bridge), SIPWIRE_ESTATE);
  CHECK_INT(accept_in_time(), 1);
  settle(fd);
  for (int i = 0; i < 100; i++)
    CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  CHECK_INT(bytes(fd, 20), 0);
  struct sipwire_timer *timer = timer_in(0);
  CHECK_INT(byte_in_time(fd), 1);
  CHECK_INT(bytes(fd, 30), 0); /* of the hundred, none was kept */
  CHECK_INT(sipwire_bridge_ring(bridge), 0);
  CHECK_INT(byte_in_time(fd), 1);
  sipwire_timer_free(timer);
  close_bridge(fd);
}

static void survives_a_host_that_does_not_read(void) {
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  for (int i = 0; i < 100000; i++) /* more than a socket holds */
    CHECK_INT(sipwire_bridge_ring(bridge), 0);
  CHECK(byte_in_time(fd) > 0);
  sipwire_bridge_free(bridge);
  close(fd);
  host_close(0);
}

/* SIGPIPE would end this program. */
static void survives_a_host_that_left(void) {
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  close(fd);
  struct sipwire_timer *timer = timer_in(0);
  for (int i = 0; i < 20; i++) {
    CHECK_INT(sipwire_bridge_ring(bridge), 0);
    CHECK_INT(sipwire_bridge_rearm(bridge), 0);
    sched_yield();
  }
  sipwire_timer_free(timer);
  sipwire_bridge_free(bridge);
  host_close(0);
}

static void survives_failing_polls(void) {
  atomic_store(&failing_polls, 3);
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  struct sipwire_timer *timer = timer_in(0);
  for (int i = 0; i < 4; i++) {
    CHECK_INT(byte_in_time(fd), 1); /* it has the host step */
    CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  }
  CHECK_INT(atomic_load(&failing_polls), 0);
  sipwire_timer_free(timer);
  close_bridge(fd);
}

/* ---- Who is let in ----------------------------------------------------- */

static void keeps_its_socket_to_itself(void) {
  struct stat about;
  char path[128], *slash;
  int fd = open_bridge(NULL);
  snprintf(path, sizeof path, "%s", sipwire_bridge_address(bridge) + 5);
  CHECK_STR(sipwire_bridge_token(bridge), "");
  slash = strrchr(path, '/');
  *slash = '\0';
  CHECK_INT(stat(path, &about), 0);
  CHECK_INT(about.st_mode & 0777, 0700);
  CHECK_INT(accept_in_time(), 1);
  CHECK_INT(stat(path, &about), -1);
  close_bridge(fd);
}

static void turns_other_processes_away(void) {
  int status = -1;
  CHECK_INT(sipwire_bridge_new(host_open(0), NULL, &bridge), 0);
  pid_t child = fork();
  if (child == 0) {
    int fd = come();
    _exit(fd >= 0 && readable(fd, (int)scaled(LIMIT_MS)) &&
                  bytes(fd, 0) == -1
              ? 0
              : 1);
  }
  while (waitpid(child, &status, WNOHANG) == 0)
    CHECK_INT(sipwire_bridge_accept(bridge), 0);
  CHECK_INT(status, 0);
  int fd = come();
  CHECK_INT(accept_in_time(), 1);
  CHECK_INT(sipwire_bridge_ring(bridge), 0);
  CHECK_INT(byte_in_time(fd) >= 1, 1);
  close_bridge(fd);
}

static void say(int fd, const char *text, size_t length) {
  CHECK_INT(send(fd, text, length, MSG_NOSIGNAL), (int)length);
}

static void shown_out(int fd) {
  int64_t until = now_ms() + scaled(LIMIT_MS);
  while (!readable(fd, 0) && now_ms() < until)
    CHECK_INT(sipwire_bridge_accept(bridge), 0);
  CHECK_INT(bytes(fd, 0), -1);
  close(fd);
}

static void wants_a_token_at_its_port(void) {
  int fd = open_bridge("/nonexistent");
  const char *token = sipwire_bridge_token(bridge);
  CHECK(!strncmp(sipwire_bridge_address(bridge), "127.0.0.1:", 10));
  CHECK_INT(strlen(token), 32);
  CHECK_INT(sipwire_bridge_accept(bridge), 0);
  int silent = come(), wrong = come(), gone = come();
  say(wrong, "0123456789abcdef0123456789abcdeg", 32);
  shown_out(wrong);
  say(gone, token, 31);
  close(gone);
  int half = come();
  say(half, token, 16);
  say(half, "?", 1);
  shown_out(half);
  CHECK_INT(sipwire_bridge_accept(bridge), 0);
  say(fd, token, 20);
  CHECK_INT(sipwire_bridge_accept(bridge), 0);
  say(fd, token + 20, 12);
  CHECK_INT(accept_in_time(), 1);
  CHECK(readable(silent, (int)scaled(LIMIT_MS))); /* closed */
  close(silent);
  tells_the_host(fd);
  close_bridge(fd);
}

static void is_not_kept_out_by_silent_guests(void) {
  int silent[12];
  int fd = open_bridge("/nonexistent");
  for (int i = 0; i < 12; i++) {
    silent[i] = come();
    sipwire_bridge_accept(bridge);
  }
  close(fd);
  fd = come();
  say(fd, sipwire_bridge_token(bridge), 32);
  CHECK_INT(accept_in_time(), 1);
  for (int i = 0; i < 12; i++)
    close(silent[i]);
  tells_the_host(fd);
  close_bridge(fd);
}

static void uses_a_port_where_the_path_is_too_long(void) {
  char folder[200];
  snprintf(folder, sizeof folder, "/tmp/%0150d", 0);
  int fd = open_bridge(folder);
  CHECK(!strncmp(sipwire_bridge_address(bridge), "127.0.0.1:", 10));
  sipwire_bridge_free(bridge);
  close(fd);
  host_close(0);
}

/* ---- Its end ----------------------------------------------------------- */

static void outlives_its_loop(void) {
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  settle(fd);
  host_close(0);
  CHECK_INT(bytes(fd, 20), 0);
  CHECK_INT(sipwire_bridge_rearm(bridge), 0);
  sipwire_bridge_free(bridge);
  close(fd);
}

static void leaves_nothing_before_its_host_came(void) {
  struct stat about;
  char path[128];
  CHECK_INT(sipwire_bridge_new(host_open(0), NULL, &bridge), 0);
  snprintf(path, sizeof path, "%s", sipwire_bridge_address(bridge) + 5);
  *strrchr(path, '/') = '\0';
  CHECK_INT(stat(path, &about), 0);
  sipwire_bridge_free(bridge);
  CHECK_INT(stat(path, &about), -1);
  sipwire_bridge_free(NULL);
  host_close(0);
}

static void blocks_all_signals_in_its_thread(void) {
  char path[300], line[256];
  unsigned long long blocked = 0;
  struct dirent *entry;
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  DIR *folder = opendir("/proc/self/task");
  while ((entry = readdir(folder))) {
    snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
    FILE *file = atoi(entry->d_name) == getpid() ? NULL : fopen(path, "r");
    while (file && fgets(line, sizeof line, file))
      if (!strncmp(line, "SigBlk:", 7)) {
        unsigned long long mask = strtoull(line + 7, NULL, 16);
        blocked = mask > blocked ? mask : blocked;
      }
    if (file)
      fclose(file);
  }
  closedir(folder);
  sigset_t mine;
  CHECK_INT(pthread_sigmask(SIG_SETMASK, NULL, &mine), 0);
  CHECK_INT(sigismember(&mine, SIGTERM), 0);
  for (int signal = 1; signal < 32; signal++)
    if (signal != SIGKILL && signal != SIGSTOP)
      CHECK((blocked & 1ull << (signal - 1)) != 0);
  close_bridge(fd);
}

/* The only thread that is not this one. */
static pid_t other_thread(void) {
  struct dirent *entry;
  pid_t found = 0;
  DIR *folder = opendir("/proc/self/task");
  while ((entry = readdir(folder)))
    if (atoi(entry->d_name) != getpid() && atoi(entry->d_name) > found)
      found = atoi(entry->d_name);
  closedir(folder);
  return found;
}

static bool runs_on(pid_t thread, int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  return !sched_getaffinity(thread, sizeof set, &set) &&
         CPU_COUNT(&set) == 1 && CPU_ISSET((size_t)cpu, &set);
}

/* Each of the processors we may use, in turn. */
static void follows_its_host(void) {
  cpu_set_t ours, one, now;
  CHECK_INT(sched_getaffinity(0, sizeof ours, &ours), 0);
  int fd = open_bridge(NULL);
  CHECK_INT(accept_in_time(), 1);
  pid_t thread = other_thread();
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (!CPU_ISSET((size_t)cpu, &ours))
      continue;
    CPU_ZERO(&one);
    CPU_SET((size_t)cpu, &one);
    CHECK_INT(sched_setaffinity(0, sizeof one, &one), 0);
    settle(fd);
    struct sipwire_timer *timer = timer_in(0);
    CHECK_INT(byte_in_time(fd), 1);
    CHECK_INT(sipwire_bridge_rearm(bridge), 0);
    CHECK_INT(byte_in_time(fd), 1); /* it has moved by now */
    CHECK(runs_on(thread, cpu));
    sipwire_timer_free(timer);
  }
  CHECK_INT(sched_setaffinity(0, sizeof ours, &ours), 0);
  CHECK(!sched_getaffinity(0, sizeof now, &now) && CPU_EQUAL(&now, &ours));
  close_bridge(fd);
}

static void is_refused_in_a_forked_child(void) {
  struct stat about;
  char path[128];
  int status = -1, fd = open_bridge(NULL);
  snprintf(path, sizeof path, "%s", sipwire_bridge_address(bridge) + 5);
  for (int round = 0; round < 2; round++) {
    pid_t child = fork();
    if (child == 0) {
      bool refused = sipwire_bridge_accept(bridge) == SIPWIRE_EFORK &&
                     sipwire_bridge_rearm(bridge) == SIPWIRE_EFORK &&
                     sipwire_bridge_ring(bridge) == SIPWIRE_EFORK;
      sipwire_bridge_free(bridge); /* with no thread to wait for */
      _exit(refused ? 0 : 1);
    }
    CHECK_INT(waitpid(child, &status, 0), child);
    CHECK_INT(status, 0);
    if (round == 0) {
      CHECK_INT(stat(path, &about), 0);
      CHECK_INT(accept_in_time(), 1);
    }
  }
  tells_the_host(fd);
  close_bridge(fd);
}

/* ---- What cannot be had ------------------------------------------------ */

static void survives_a_lack_of_threads(void) {
  int fd = open_bridge(NULL);
  threads_fail = true;
  CHECK_INT(sipwire_bridge_accept(bridge), SIPWIRE_ENOMEM);
  threads_fail = false;
  close_bridge(fd);
}

static void survives_a_lack_of_descriptors(void) {
  struct rlimit limit, none;
  int fds[512], count, made = 0;
  struct sipwire_loop *loop = host_open(0);
  if (getenv("SIPWIRE_VALGRIND")) { /* it has descriptors of its own */
    host_close(0);
    return;
  }
  CHECK(sipwire_loop_pollfd(loop) >= 0);
  getrlimit(RLIMIT_NOFILE, &limit);
  none = limit;
  none.rlim_cur = 512;
  setrlimit(RLIMIT_NOFILE, &none);
  for (count = 0; count < 512 && (fds[count] = dup(0)) >= 0; count++)
    continue;
  while (!made && count > 0) {
    int before = open_below(512);
    int error = sipwire_bridge_new(loop, NULL, &bridge);
    made = error == 0;
    if (made)
      break;
    CHECK(error == SIPWIRE_ENOMEM || error == SIPWIRE_ESYSTEM);
    CHECK_INT(open_below(512), before);
    close(fds[--count]);
  }
  CHECK(made);
  while (count > 0)
    close(fds[--count]);
  setrlimit(RLIMIT_NOFILE, &limit);
  sipwire_bridge_free(bridge);
  host_close(0);
}

int main(void) {
  unsigned threads_before = threads();
#ifdef __SANITIZE_THREAD__
  threads_before++; /* its own, from the first thread on */
#endif
  unsigned open_before = 0;
  for (int round = 0; round < 2; round++) { /* the first may open some for good */
    RUN(comes_when_the_loop_has_to_step);
    RUN(rings_only_as_often_as_asked);
    RUN(survives_a_host_that_does_not_read);
    RUN(survives_a_host_that_left);
    RUN(survives_failing_polls);
    RUN(keeps_its_socket_to_itself);
    RUN(turns_other_processes_away);
    RUN(wants_a_token_at_its_port);
    RUN(is_not_kept_out_by_silent_guests);
    RUN(uses_a_port_where_the_path_is_too_long);
    RUN(outlives_its_loop);
    RUN(leaves_nothing_before_its_host_came);
    RUN(blocks_all_signals_in_its_thread);
    RUN(follows_its_host);
    RUN(is_refused_in_a_forked_child);
    RUN(survives_a_lack_of_threads);
    RUN(survives_a_lack_of_descriptors);
    if (round == 0)
      open_before = descriptors();
  }
  int64_t until = now_ms() + scaled(LIMIT_MS);
  while (threads() > threads_before && now_ms() < until)
    sched_yield(); /* joined ones are still seen for a moment */
  CHECK(threads() <= threads_before);
  CHECK_INT(descriptors(), open_before);
  return test_summary("test_bridge");
}
