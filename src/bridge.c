/* SPDX-License-Identifier: MIT */
/* Tells a host that can wait for stream sockets only when its loop wants to
   step.  A thread waits for the loop's descriptor; it must touch nothing but
   descriptors, as the loop belongs to the host's thread. */

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hash.h"
#include "random.h"
#include "sipwire.h"

enum { TOKEN = 16, GUESTS = 4, BACKLOG = 8, STACK_SIZE = 262144 };

/* A TCP client that has not shown the whole token yet. */
struct guest {
  int fd;
  size_t length;
  char shown[2 * TOKEN];
};

struct sipwire_bridge {
  pid_t owner;
  int loop_fd;   /* a copy: the loop may be freed first */
  int wake_fd;   /* ends the thread's poll() for good */
  int listen_fd; /* until the host has come */
  int host_fd;   /* from then on */
  struct guest guests[GUESTS];
  unsigned next_guest;
  char directory[64]; /* "" when there is none any more */
  char address[112];
  char token[2 * TOKEN + 1];
  bool running;
  pthread_t thread;
  sem_t rearmed;
  atomic_bool fired; /* the thread waits for |rearmed| */
  atomic_bool stop;
  atomic_int host_cpu;
};

static void close_fd(int *fd) {
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* ---- The thread -------------------------------------------------------- */

/* What is wrong with a poll() that fails, such as a lack of memory, is wrong
   for longer than a moment: the host's own step has to do meanwhile. */
static void poll_failed(void) {
  struct timespec pause = {0, 10000000};
  nanosleep(&pause, NULL);
}

static bool wait_for_loop(struct sipwire_bridge *bridge) {
  struct pollfd fds[] = {{bridge->loop_fd, POLLIN, 0},
                         {bridge->wake_fd, POLLIN, 0}};
  if (poll(fds, 2, -1) < 0)
    poll_failed();
  return !atomic_load(&bridge->stop);
}

/* A byte that cannot be written is not needed: there are others in the socket,
   or nobody reads it any more. */
static void ring(struct sipwire_bridge *bridge) {
  ssize_t ignored = send(bridge->host_fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  (void)ignored;
}

/* To wake a core that sleeps takes longer than all else here: the thread goes
   where the host was seen last.  Where that is not allowed it stays. */
static void follow_host(struct sipwire_bridge *bridge, int *cpu) {
  int host_cpu = atomic_load(&bridge->host_cpu);
  cpu_set_t set;
  if (host_cpu == *cpu || host_cpu < 0 || host_cpu >= CPU_SETSIZE)
    return;
  *cpu = host_cpu;
  CPU_ZERO(&set);
  CPU_SET((size_t)host_cpu, &set);
  sched_setaffinity(0, sizeof set, &set); /* of this thread alone */
}

static void *watch(void *arg) {
  struct sipwire_bridge *bridge = arg;
  int cpu = -1;
  follow_host(bridge, &cpu);
  while (wait_for_loop(bridge)) {
    atomic_store(&bridge->fired, true);
    ring(bridge);
    while (sem_wait(&bridge->rearmed) && errno == EINTR)
      continue;
    follow_host(bridge, &cpu);
  }
  return NULL;
}

/* The host's signals are none of the thread's business. */
static bool thread_start(struct sipwire_bridge *bridge) {
  pthread_attr_t attributes;
  sigset_t all, before;
  if (pthread_attr_init(&attributes))
    return false;
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bridge->running =
      !pthread_create(&bridge->thread, &attributes, watch, bridge);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return bridge->running;
}

static void thread_stop(struct sipwire_bridge *bridge) {
  if (!bridge->running)
    return;
  atomic_store(&bridge->stop, true);
  eventfd_write(bridge->wake_fd, 1);
  sem_post(&bridge->rearmed);
  pthread_join(bridge->thread, NULL);
  bridge->running = false;
}

/* ---- Where the host is to come to -------------------------------------- */

static int listen_at(int family, const void *address, socklen_t length) {
  int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd >= 0 && !bind(fd, address, length) && !listen(fd, BACKLOG))
    return fd;
  close_fd(&fd);
  return -1;
}

static void leave_directory(struct sipwire_bridge *bridge) {
  if (!bridge->directory[0])
    return;
  unlink(bridge->address + strlen("unix:"));
  rmdir(bridge->directory);
  bridge->directory[0] = '\0';
}

/* mkdtemp() gives it to its owner alone. */
static bool listen_in(struct sipwire_bridge *bridge, const char *parent) {
  struct sockaddr_un name = {.sun_family = AF_UNIX};
  int length = snprintf(bridge->directory, sizeof bridge->directory,
                        "%s/sipwire-XXXXXX", parent);
  if (length >= (int)sizeof bridge->directory || !mkdtemp(bridge->directory)) {
    bridge->directory[0] = '\0';
    return false;
  }
  snprintf(name.sun_path, sizeof name.sun_path, "%s/bridge",
           bridge->directory);
  snprintf(bridge->address, sizeof bridge->address, "unix:%s/bridge",
           bridge->directory);
  bridge->listen_fd = listen_at(AF_UNIX, &name, sizeof name);
  if (bridge->listen_fd < 0)
    leave_directory(bridge);
  return bridge->listen_fd >= 0;
}

static bool listen_locally(struct sipwire_bridge *bridge,
                           const char *directory) {
  const char *places[] = {getenv("TMPDIR"), "/tmp", "/dev/shm", "/var/tmp"};
  if (directory)
    return listen_in(bridge, directory);
  for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
    if (places[i] && places[i][0] && listen_in(bridge, places[i]))
      return true;
  return false;
}

static bool token_new(struct sipwire_bridge *bridge) {
  struct sw_random random;
  uint8_t bytes[TOKEN];
  memset(&random, 0, sizeof random);
  if (!sw_random_bytes(&random, bytes, sizeof bytes))
    return false;
  sw_hex(bytes, sizeof bytes, bridge->token);
  return true;
}

/* For where no file can be made.  Anybody may come to a port, so the host says
   who it is. */
static bool listen_on_port(struct sipwire_bridge *bridge) {
  struct sockaddr_in name = {.sin_family = AF_INET};
  socklen_t length = sizeof name;
  name.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  bridge->listen_fd = listen_at(AF_INET, &name, sizeof name);
  if (bridge->listen_fd < 0 || !token_new(bridge) ||
      getsockname(bridge->listen_fd, (struct sockaddr *)&name, &length))
    return false;
  snprintf(bridge->address, sizeof bridge->address, "127.0.0.1:%u",
           (unsigned)ntohs(name.sin_port));
  return true;
}

/* ---- The host comes ---------------------------------------------------- */

static bool is_own_process(int fd) {
  struct ucred peer;
  socklen_t length = sizeof peer;
  return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) &&
         peer.pid == getpid();
}

/* A free place, or that of one who has said nothing for long. */
static struct guest *guest_place(struct sipwire_bridge *bridge) {
  for (size_t i = 0; i < GUESTS; i++)
    if (bridge->guests[i].fd < 0)
      return &bridge->guests[i];
  return &bridge->guests[bridge->next_guest++ % GUESTS];
}

static void guest_let_in(struct sipwire_bridge *bridge, int fd) {
  struct guest *guest = guest_place(bridge);
  int yes = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
  close_fd(&guest->fd);
  guest->fd = fd;
  guest->length = 0;
}

/* Returns whether it is the host; one that is not is shown out. */
static bool guest_check(struct sipwire_bridge *bridge, struct guest *guest) {
  size_t wanted = sizeof guest->shown;
  if (guest->fd < 0)
    return false;
  ssize_t count = recv(guest->fd, guest->shown + guest->length,
                       wanted - guest->length, MSG_DONTWAIT);
  if (count < 0 && (errno == EAGAIN || errno == EINTR))
    return false;
  guest->length += count > 0 ? (size_t)count : 0;
  bool right = !memcmp(guest->shown, bridge->token, guest->length);
  if (right && guest->length == wanted)
    return true;
  if (!right || count <= 0)
    close_fd(&guest->fd);
  return false;
}

static void look_for_host(struct sipwire_bridge *bridge) {
  int fd;
  while (bridge->host_fd < 0 &&
         (fd = accept4(bridge->listen_fd, NULL, NULL,
                       SOCK_CLOEXEC | SOCK_NONBLOCK)) >= 0) {
    if (bridge->token[0])
      guest_let_in(bridge, fd);
    else if (is_own_process(fd))
      bridge->host_fd = fd;
    else
      close(fd);
  }
  for (size_t i = 0; i < GUESTS && bridge->host_fd < 0; i++) {
    struct guest *guest = &bridge->guests[i];
    if (guest_check(bridge, guest)) {
      bridge->host_fd = guest->fd;
      guest->fd = -1;
    }
  }
}

static void stop_listening(struct sipwire_bridge *bridge) {
  close_fd(&bridge->listen_fd);
  leave_directory(bridge);
  for (size_t i = 0; i < GUESTS; i++)
    close_fd(&bridge->guests[i].fd);
}

/* ---- The public API ---------------------------------------------------- */

static bool forked(const struct sipwire_bridge *bridge) {
  return bridge->owner != getpid();
}

static int bridge_open(struct sipwire_bridge *bridge, int loop_fd,
                       const char *directory) {
  bridge->loop_fd = fcntl(loop_fd, F_DUPFD_CLOEXEC, 0);
  bridge->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (bridge->loop_fd < 0 || bridge->wake_fd < 0)
    return SIPWIRE_ENOMEM;
  if (!listen_locally(bridge, directory) && !listen_on_port(bridge))
    return SIPWIRE_ESYSTEM;
  return 0;
}

int sipwire_bridge_new(struct sipwire_loop *loop, const char *directory,
                       struct sipwire_bridge **out) {
  int loop_fd = sipwire_loop_pollfd(loop);
  if (loop_fd < 0)
    return loop_fd;
  struct sipwire_bridge *bridge = calloc(1, sizeof *bridge);
  if (!bridge)
    return SIPWIRE_ENOMEM;
  bridge->owner = getpid();
  bridge->loop_fd = bridge->wake_fd = -1;
  bridge->listen_fd = bridge->host_fd = -1;
  for (size_t i = 0; i < GUESTS; i++)
    bridge->guests[i].fd = -1;
  sem_init(&bridge->rearmed, 0, 0);
  int error = bridge_open(bridge, loop_fd, directory);
  if (error) {
    sipwire_bridge_free(bridge);
    return error;
  }
  *out = bridge;
  return 0;
}

const char *sipwire_bridge_address(const struct sipwire_bridge *bridge) {
  return bridge->address;
}

const char *sipwire_bridge_token(const struct sipwire_bridge *bridge) {
  return bridge->token;
}

int sipwire_bridge_accept(struct sipwire_bridge *bridge) {
  if (forked(bridge))
    return SIPWIRE_EFORK;
  if (bridge->running)
    return 1;
  look_for_host(bridge);
  if (bridge->host_fd < 0)
    return 0;
  stop_listening(bridge);
  atomic_store(&bridge->host_cpu, sched_getcpu());
  return thread_start(bridge) ? 1 : SIPWIRE_ENOMEM;
}

int sipwire_bridge_rearm(struct sipwire_bridge *bridge) {
  if (forked(bridge))
    return SIPWIRE_EFORK;
  if (!atomic_load(&bridge->fired))
    return 0;
  atomic_store(&bridge->host_cpu, sched_getcpu());
  if (atomic_exchange(&bridge->fired, false))
    sem_post(&bridge->rearmed);
  return 0;
}

int sipwire_bridge_ring(struct sipwire_bridge *bridge) {
  if (forked(bridge))
    return SIPWIRE_EFORK;
  if (bridge->host_fd < 0)
    return SIPWIRE_ESTATE;
  ring(bridge);
  return 0;
}

void sipwire_bridge_free(struct sipwire_bridge *bridge) {
  if (!bridge)
    return;
  if (forked(bridge)) {
    bridge->directory[0] = '\0'; /* the parent's, as the thread is */
    bridge->running = false;
  }
  thread_stop(bridge);
  stop_listening(bridge);
  close_fd(&bridge->host_fd);
  close_fd(&bridge->loop_fd);
  close_fd(&bridge->wake_fd);
  sem_destroy(&bridge->rearmed);
  free(bridge);
}
