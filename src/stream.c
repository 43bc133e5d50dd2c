/* SPDX-License-Identifier: MIT */
/* Carries the bytes of one TCP connection.  Must not know what they mean.

   Design notes.
   - libuv says when there is something to be read or room to write; connect(),
     recv() and send() are ours: uv_tcp_t would take three callbacks and a
     request object for each write.
   - Readable streams wait in |loop->readable| for sw_streams_read(), which
     reads some of them.  What these lead to (callbacks, answers) is done before
     the next are read, while all that it touches is still in the cache: with
     1000 busy connections this saves a tenth of the time.
   - A stream ends in sw_streams_run() only, outside all callbacks; what fails
     puts itself on the loop's |todo| list.  Its memory is libuv's until the
     handle is closed, a turn later.
   - libuv reports a reset without reading what came before it; those bytes (a
     close frame, often) are fetched before the end is told. */

#define _GNU_SOURCE
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "buffer.h"
#include "error.h"
#include "loop.h"

/* How many streams are read in one tick. */
enum { READ_AT_ONCE = 16 };

/* What every message touches comes first, in two lines of the cache. */
struct sw_stream {
  struct sw_list readable; /* in loop->readable */
  struct sipwire_loop *loop;
  const struct sw_stream_ops *ops;
  void *arg;
  int fd; /* -1 before and after */
  bool failed;
  bool ending;     /* in loop->todo, or just taken from there */
  bool connecting; /* connect() is going on */
  bool blocked;    /* waiting for the socket to take more */
  bool finishing, finished, paused;
  struct sw_buffer unsent;
  uint64_t sent;
  uv_poll_t poll;
  struct sw_list entry; /* in loop->streams */
  struct sw_stream *next_todo;
  int error, sys_errno; /* why it ends */
};

struct sw_watch {
  uv_poll_t poll;
  sw_watch_fn fn;
  void *arg;
  int fd;
};

/* ---- Watching ---------------------------------------------------------- */

static void watch_for(uv_poll_t *poll, int events, uv_poll_cb callback) {
  if (events)
    uv_poll_start(poll, events, callback);
  else
    uv_poll_stop(poll);
}

static void on_poll(uv_poll_t *poll, int status, int events);

/* libuv tells epoll in its next turn, for which a host has to come. */
static void watch_stream(struct sw_stream *stream) {
  int events = 0;
  if (stream->fd < 0 || stream->failed)
    return;
  if (!stream->paused && !stream->connecting)
    events |= UV_READABLE;
  if (stream->blocked || stream->connecting)
    events |= UV_WRITABLE;
  watch_for(&stream->poll, events, on_poll);
  sw_loop_kick(stream->loop);
}

/* ---- Ends -------------------------------------------------------------- */

/* The first reason counts. */
static void fail(struct sw_stream *stream, int error, int sys_errno) {
  if (!stream->failed) {
    stream->failed = true;
    stream->error = error;
    stream->sys_errno = sys_errno;
  }
  if (stream->ending)
    return;
  stream->ending = true;
  stream->next_todo = stream->loop->todo;
  stream->loop->todo = stream;
  sw_loop_kick(stream->loop);
}

static bool connected(const struct sw_stream *stream) {
  return stream->fd >= 0 && !stream->connecting;
}

static int socket_errno(int fd) {
  int number = 0;
  socklen_t size = sizeof number;
  if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_ERROR, &number, &size))
    return 0;
  return number;
}

/* Fetches what the kernel still has after the peer has gone; returns the
   errno the socket ended with. */
static int salvage(struct sw_stream *stream) {
  uint8_t *bytes = stream->loop->input;
  ssize_t length;
  while ((length = recv(stream->fd, bytes, SW_READ_SIZE, MSG_DONTWAIT)) > 0)
    if (stream->error != SIPWIRE_EABORTED)
      stream->ops->data(stream->arg, bytes, (size_t)length);
  if (length < 0 && errno != EAGAIN)
    return errno;
  return socket_errno(stream->fd);
}

static void on_closed(uv_handle_t *poll) {
  struct sw_stream *stream = poll->data;
  sw_list_remove(&stream->entry);
  free(stream);
}

static void end(struct sw_stream *stream) {
  const struct sw_stream_ops *ops = stream->ops;
  void *arg = stream->arg;
  int error = stream->error, sys_errno = stream->sys_errno;
  if (error == SIPWIRE_ERESET && connected(stream)) {
    stream->failed = false; /* let the salvaged bytes through */
    salvage(stream);
    stream->failed = true;
  }
  sw_buffer_clear(&stream->unsent);
  sw_list_remove(&stream->readable);
  if (stream->fd >= 0) {
    uv_close((uv_handle_t *)&stream->poll, on_closed);
    close(stream->fd);
  } else {
    sw_list_remove(&stream->entry);
    free(stream);
  }
  ops->ended(arg, error, sys_errno);
}

void sw_streams_run(struct sipwire_loop *loop) {
  struct sw_stream *stream = loop->todo;
  loop->todo = NULL;
  while (stream) {
    struct sw_stream *next = stream->next_todo;
    end(stream);
    stream = next;
  }
}

void sw_streams_close(struct sipwire_loop *loop) {
  for (struct sw_list *entry = loop->streams.next; entry != &loop->streams;
       entry = entry->next)
    sw_stream_abort(SW_OWNER(entry, struct sw_stream, entry));
}

/* ---- Writing ----------------------------------------------------------- */

static size_t send_some(struct sw_stream *stream, const uint8_t *data,
                        size_t length) {
  size_t done = 0;
  while (done < length) {
    ssize_t count = send(stream->fd, data + done, length - done,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count >= 0) {
      done += (size_t)count;
    } else if (errno == EAGAIN) {
      break;
    } else if (errno != EINTR) {
      fail(stream, sw_error_of_errno(errno), errno);
      break;
    }
  }
  stream->sent += done;
  return done;
}

static void send_fin(struct sw_stream *stream) {
  if (stream->finishing && !stream->finished) {
    stream->finished = true;
    shutdown(stream->fd, SHUT_WR);
  }
}

void sw_stream_write(struct sw_stream *stream, const void *data,
                     size_t length) {
  size_t done = 0;
  if (stream->failed || !connected(stream) || stream->finishing)
    return;
  if (!stream->blocked)
    done = send_some(stream, data, length);
  if (stream->failed || done == length)
    return;
  if (!sw_buffer_append(&stream->unsent, (const uint8_t *)data + done,
                        length - done)) {
    fail(stream, SIPWIRE_ENOMEM, ENOMEM);
  } else if (!stream->blocked) {
    stream->blocked = true;
    watch_stream(stream);
  }
}

static void on_writable(struct sw_stream *stream) {
  if (stream->failed || !stream->blocked)
    return;
  size_t done = send_some(stream, sw_buffer_bytes(&stream->unsent),
                          sw_buffer_length(&stream->unsent));
  if (stream->failed)
    return;
  sw_buffer_consume(&stream->unsent, done);
  if (sw_buffer_length(&stream->unsent))
    return;
  stream->blocked = false;
  watch_stream(stream);
  send_fin(stream);
  stream->ops->progress(stream->arg);
}

bool sw_stream_failed(const struct sw_stream *stream) {
  return stream->failed;
}

size_t sw_stream_unsent(const struct sw_stream *stream) {
  return sw_buffer_length(&stream->unsent);
}

uint64_t sw_stream_sent(const struct sw_stream *stream) {
  return stream->sent;
}

void sw_stream_finish(struct sw_stream *stream) {
  if (stream->finishing || stream->failed || !connected(stream))
    return;
  stream->finishing = true;
  if (!stream->blocked)
    send_fin(stream);
}

void sw_stream_abort(struct sw_stream *stream) {
  fail(stream, SIPWIRE_EABORTED, 0);
}

/* ---- Reading ----------------------------------------------------------- */

void sw_stream_pause(struct sw_stream *stream) {
  if (stream->paused)
    return;
  stream->paused = true;
  sw_list_remove(&stream->readable);
  watch_stream(stream);
}

void sw_stream_resume(struct sw_stream *stream) {
  if (!stream->paused)
    return;
  stream->paused = false;
  watch_stream(stream);
}

/* Told again and again as long as there is something to be read. */
static void on_readable(struct sw_stream *stream) {
  if (!stream->failed && !stream->paused && sw_list_empty(&stream->readable))
    sw_list_add(&stream->loop->readable, &stream->readable);
}

static void read_some(struct sw_stream *stream) {
  uint8_t *bytes = stream->loop->input;
  ssize_t length = recv(stream->fd, bytes, SW_READ_SIZE, MSG_DONTWAIT);
  if (length > 0)
    stream->ops->data(stream->arg, bytes, (size_t)length);
  else if (length == 0)
    fail(stream, SIPWIRE_ECLOSED, 0);
  else if (errno != EAGAIN && errno != EINTR)
    fail(stream, sw_error_of_errno(errno), errno);
}

/* Among thousands, the next one and its owner are cold: they are fetched while
   this one is read.  (3 % of a message with 1000 connections.) */
static void look_ahead(const struct sw_list *readable) {
  if (sw_list_empty(readable))
    return;
  const struct sw_stream *next =
      SW_OWNER(readable->next, struct sw_stream, readable);
  __builtin_prefetch(next->readable.next);
  __builtin_prefetch(&next->sent);
  for (size_t i = 0; i < SW_STREAM_AHEAD; i += 64)
    __builtin_prefetch((const char *)next->arg + i);
}

void sw_streams_read(struct sipwire_loop *loop) {
  for (int i = 0; i < READ_AT_ONCE && !sw_list_empty(&loop->readable); i++) {
    struct sw_stream *stream =
        SW_OWNER(loop->readable.next, struct sw_stream, readable);
    sw_list_remove(&stream->readable);
    look_ahead(&loop->readable);
    if (!stream->failed)
      read_some(stream);
  }
}

/* ---- libuv's word ------------------------------------------------------ */

/* A connection has been made, or refused. */
static void on_connected(struct sw_stream *stream) {
  int number = socket_errno(stream->fd);
  if (number) {
    fail(stream, sw_error_of_errno(number), number);
  } else {
    stream->connecting = false;
    watch_stream(stream);
    stream->ops->connected(stream->arg);
  }
}

/* An error, which libuv stops at.  What came with an end before anybody knew of
   a connection is of no use. */
static void on_broken(struct sw_stream *stream) {
  int number = stream->connecting ? socket_errno(stream->fd) : salvage(stream);
  fail(stream, sw_error_of_errno(number), number);
}

static void on_poll(uv_poll_t *poll, int status, int events) {
  struct sw_stream *stream = poll->data;
  if (stream->failed)
    return;
  if (status < 0) {
    on_broken(stream);
    return;
  }
  if (events & UV_WRITABLE && stream->connecting)
    on_connected(stream);
  else if (events & UV_WRITABLE)
    on_writable(stream);
  if (events & UV_READABLE)
    on_readable(stream);
}

/* ---- Making ------------------------------------------------------------ */

static struct sw_stream *stream_new(struct sipwire_loop *loop,
                                    const struct sw_stream_ops *ops,
                                    void *arg) {
  struct sw_stream *stream = calloc(1, sizeof *stream);
  if (!stream)
    return NULL;
  stream->loop = loop;
  stream->ops = ops;
  stream->arg = arg;
  stream->fd = -1;
  sw_list_init(&stream->readable);
  sw_list_add(&loop->streams, &stream->entry);
  return stream;
}

/* Takes |fd|, also when it fails. */
static int stream_open(struct sw_stream *stream, int fd, bool connecting) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (uv_poll_init(&stream->loop->uv, &stream->poll, fd)) {
    close(fd);
    sw_list_remove(&stream->entry);
    free(stream);
    return SIPWIRE_ENOMEM;
  }
  stream->poll.data = stream;
  stream->fd = fd;
  stream->connecting = connecting;
  watch_stream(stream);
  return 0;
}

static socklen_t address_size(const struct sockaddr *address) {
  return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                        : sizeof(struct sockaddr_in);
}

/* A link-local address is one of its interface (RFC 4007). */
static uint32_t scope_of(const struct in6_addr *address) {
  struct ifaddrs *list;
  uint32_t scope = 0;
  if (!IN6_IS_ADDR_LINKLOCAL(address) || getifaddrs(&list))
    return 0;
  for (struct ifaddrs *each = list; each; each = each->ifa_next) {
    const struct sockaddr_in6 *own = (const void *)each->ifa_addr;
    if (own && own->sin6_family == AF_INET6 &&
        !memcmp(&own->sin6_addr, address, sizeof *address))
      scope = own->sin6_scope_id;
  }
  freeifaddrs(list);
  return scope;
}

/* Returns an errno. */
static int bind_to(int fd, const char *text, int family) {
  struct sockaddr_in v4 = {.sin_family = AF_INET};
  struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
  bool is_v6 = family == AF_INET6;
  const struct sockaddr *address = is_v6 ? (void *)&v6 : (void *)&v4;
  int on = 1; /* one port may serve for several peers */
  if (inet_pton(family, text,
                is_v6 ? (void *)&v6.sin6_addr : (void *)&v4.sin_addr) != 1)
    return EAFNOSUPPORT;
  v6.sin6_scope_id = scope_of(&v6.sin6_addr);
  setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
  return bind(fd, address, address_size(address)) ? errno : 0;
}

/* Returns a socket that connects, or a negative errno. */
static int dial(const struct sockaddr *peer, const char *local_address) {
  int fd =
      socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  int number = local_address ? bind_to(fd, local_address, peer->sa_family) : 0;
  if (!number && connect(fd, peer, address_size(peer)) && errno != EINPROGRESS)
    number = errno;
  if (!number)
    return fd;
  close(fd);
  return -number;
}

int sw_stream_connect(struct sipwire_loop *loop, const struct sockaddr *peer,
                      const char *local_address,
                      const struct sw_stream_ops *ops, void *arg,
                      struct sw_stream **out) {
  struct sw_stream *stream = stream_new(loop, ops, arg);
  if (!stream)
    return SIPWIRE_ENOMEM;
  int fd = dial(peer, local_address);
  if (fd < 0)
    fail(stream, sw_error_of_errno(-fd), -fd);
  else if (stream_open(stream, fd, true))
    return SIPWIRE_ENOMEM;
  *out = stream;
  return 0;
}

int sw_stream_adopt(struct sipwire_loop *loop, int fd,
                    const struct sw_stream_ops *ops, void *arg,
                    struct sw_stream **out) {
  struct sw_stream *stream = stream_new(loop, ops, arg);
  if (!stream) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  if (stream_open(stream, fd, false))
    return SIPWIRE_ENOMEM;
  *out = stream;
  return 0;
}

static bool numeric(const struct sockaddr *address, char *text, size_t size,
                    int *port) {
  const struct sockaddr_in *v4 = (const void *)address;
  const struct sockaddr_in6 *v6 = (const void *)address;
  bool is_v6 = address->sa_family == AF_INET6;
  *port = ntohs(is_v6 ? v6->sin6_port : v4->sin_port);
  return inet_ntop(address->sa_family,
                   is_v6 ? (const void *)&v6->sin6_addr
                         : (const void *)&v4->sin_addr,
                   text, (socklen_t)size) != NULL;
}

int sw_stream_address(const struct sw_stream *stream, bool peer, char *buffer,
                      size_t size) {
  struct sockaddr_storage storage;
  struct sockaddr *address = (struct sockaddr *)&storage;
  socklen_t length = sizeof storage;
  char text[INET6_ADDRSTRLEN];
  int port;
  if (!connected(stream))
    return -1;
  if (peer ? getpeername(stream->fd, address, &length)
           : getsockname(stream->fd, address, &length))
    return -1;
  if (!numeric(address, text, sizeof text, &port))
    return -1;
  return snprintf(buffer, size,
                  address->sa_family == AF_INET6 ? "[%s]:%d" : "%s:%d", text,
                  port);
}

/* ---- Watches ----------------------------------------------------------- */

static void on_watch(uv_poll_t *poll, int status, int events) {
  struct sw_watch *watch = poll->data;
  (void)status;
  (void)events;
  watch->fn(watch->arg);
}

struct sw_watch *sw_watch_new(struct sipwire_loop *loop, int fd, sw_watch_fn fn,
                              void *arg) {
  struct sw_watch *watch = calloc(1, sizeof *watch);
  if (!watch || uv_poll_init(&loop->uv, &watch->poll, fd)) {
    free(watch);
    close(fd);
    return NULL;
  }
  watch->poll.data = watch;
  watch->fn = fn;
  watch->arg = arg;
  watch->fd = fd;
  sw_watch_pause(watch, false);
  return watch;
}

static void on_watch_closed(uv_handle_t *poll) {
  free(poll->data);
}

void sw_watch_free(struct sw_watch *watch) {
  uv_close((uv_handle_t *)&watch->poll, on_watch_closed);
  close(watch->fd);
}

int sw_watch_fd(const struct sw_watch *watch) {
  return watch->fd;
}

void sw_watch_pause(struct sw_watch *watch, bool paused) {
  watch_for(&watch->poll, paused ? 0 : UV_READABLE, on_watch);
}
