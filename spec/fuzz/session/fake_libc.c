/* SPDX-License-Identifier: MIT */
/* Memory that runs out when told, chance that repeats itself, one listening
   socket, and waits that only move the clock.  All by -Wl,--wrap. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <openssl/rand.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../fuzz.h"
#include "session.h"

unsigned libc_failures;
long memory_alive;
bool listening;

static unsigned memory_count, memory_fail_at, random_fail_at;
static bool memory_fail_on;
static uint64_t chance;

/* Descriptors of ours: the listening one, then one for each peer. */
enum { FAKE_FD = 1 << 20 };

void libc_reset(void) {
  libc_failures = 0;
  memory_alive = 0;
  memory_fail(0, false);
  random_fail_at = 0;
  chance = 88172645463325252u;
  listening = false;
}

/* ---- Memory ------------------------------------------------------------ */

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
int __wrap_asprintf(char **out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

void memory_fail(unsigned count, bool follow) {
  memory_count = 0;
  memory_fail_at = count;
  memory_fail_on = follow;
}

static bool is_allowed(void) {
  memory_count++;
  if (!memory_fail_at || memory_count < memory_fail_at ||
      (memory_count > memory_fail_at && !memory_fail_on))
    return true;
  libc_failures++;
  return false;
}

/* A hash set of what is alive: what libc allocated may come to be freed too,
   and that is not ours. */
enum { SLOTS = 8192 };
static void *slots[SLOTS];

static size_t slot_of(const void *memory) {
  return ((uintptr_t)memory >> 4) * 2654435761u % SLOTS;
}

static void *counted(void *memory) {
  size_t at = slot_of(memory);
  if (!memory)
    return NULL;
  while (slots[at])
    at = (at + 1) % SLOTS;
  slots[at] = memory;
  REQUIRE(++memory_alive < SLOTS / 2);
  return memory;
}

static void uncount(const void *memory) {
  size_t at = slot_of(memory), next;
  while (memory && slots[at] != memory) {
    if (!slots[at])
      return;
    at = (at + 1) % SLOTS;
  }
  if (!memory)
    return;
  memory_alive--;
  for (next = (at + 1) % SLOTS; slots[next]; next = (next + 1) % SLOTS)
    if ((next - slot_of(slots[next])) % SLOTS >= (next - at) % SLOTS) {
      slots[at] = slots[next];
      at = next;
    }
  slots[at] = NULL;
}

void *__wrap_malloc(size_t size) {
  return is_allowed() ? counted(__real_malloc(size)) : NULL;
}

void *__wrap_calloc(size_t count, size_t size) {
  return is_allowed() ? counted(__real_calloc(count, size)) : NULL;
}

void *__wrap_realloc(void *memory, size_t size) {
  if (!is_allowed())
    return NULL;
  uncount(memory);
  return counted(__real_realloc(memory, size));
}

char *__wrap_strdup(const char *text) {
  return is_allowed() ? counted(__real_strdup(text)) : NULL;
}

int __wrap_asprintf(char **out, const char *format, ...) {
  va_list arguments;
  if (!is_allowed())
    return -1;
  va_start(arguments, format);
  int length = vasprintf(out, format, arguments);
  va_end(arguments);
  return length;
}

void __wrap_free(void *memory) {
  uncount(memory);
  __real_free(memory);
}

void *steady_realloc(void *memory, size_t size) {
  return __real_realloc(memory, size);
}

void steady_free(void *memory) {
  __real_free(memory);
}

/* ---- Chance ------------------------------------------------------------ */

int __wrap_RAND_bytes(unsigned char *out, int length);

void random_fail(unsigned count) {
  random_fail_at = count;
}

int __wrap_RAND_bytes(unsigned char *out, int length) {
  if (random_fail_at && !--random_fail_at) {
    libc_failures++;
    return 0;
  }
  for (int i = 0; i < length; i++) {
    chance ^= chance << 13;
    chance ^= chance >> 7;
    chance ^= chance << 17;
    out[i] = (unsigned char)(chance >> 24);
  }
  return 1;
}

/* ---- Descriptors ------------------------------------------------------- */

int __wrap_socket(int family, int type, int protocol);
int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size);
int __wrap_listen(int fd, int backlog);
int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t size);
int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size);
int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size,
                   int flags);
int __wrap_epoll_create1(int flags);
int __wrap_close(int fd);
int __real_close(int fd);
int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout);

int __wrap_socket(int family, int type, int protocol) {
  (void)family;
  (void)type;
  (void)protocol;
  listening = true;
  return FAKE_FD;
}

int __wrap_bind(int fd, const struct sockaddr *address, socklen_t size) {
  (void)address;
  (void)size;
  REQUIRE(fd == FAKE_FD);
  return 0;
}

int __wrap_listen(int fd, int backlog) {
  (void)backlog;
  REQUIRE(fd == FAKE_FD);
  return 0;
}

int __wrap_setsockopt(int fd, int level, int name, const void *value,
                      socklen_t size) {
  (void)level;
  (void)name;
  (void)value;
  (void)size;
  REQUIRE(fd >= FAKE_FD);
  return 0;
}

int __wrap_getsockname(int fd, struct sockaddr *address, socklen_t *size) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)address;
  REQUIRE(fd == FAKE_FD);
  memset(v4, 0, sizeof *v4);
  v4->sin_family = AF_INET;
  v4->sin_port = htons(5060);
  *size = sizeof *v4;
  return 0;
}

int __wrap_accept4(int fd, struct sockaddr *address, socklen_t *size,
                   int flags) {
  (void)address;
  (void)size;
  (void)flags;
  REQUIRE(fd == FAKE_FD && listening);
  for (unsigned i = 0; i < peer_count; i++)
    if (peers[i].is_client && !peers[i].accepted) {
      peers[i].accepted = peers[i].fd_open = true;
      return FAKE_FD + 1 + (int)i;
    }
  errno = EAGAIN;
  return -1;
}

/* The loop counts descriptors that way, eight at each opening. */
int __wrap_epoll_create1(int flags) {
  (void)flags;
  return 2 * FAKE_FD;
}

int __wrap_close(int fd) {
  if (fd < FAKE_FD)
    return __real_close(fd);
  if (fd == FAKE_FD) {
    REQUIRE(listening);
    listening = false;
  } else if (fd < 2 * FAKE_FD) {
    struct peer *peer = &peers[fd - FAKE_FD - 1];
    REQUIRE(peer->fd_open);
    peer->fd_open = false;
  }
  return 0;
}

int __wrap_poll(struct pollfd *fds, nfds_t count, int timeout) {
  (void)fds;
  (void)count;
  wait_for_something(timeout);
  return 0;
}
