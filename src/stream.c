/* SPDX-License-Identifier: MIT */
/* Carries the bytes of one TCP connection that libwebsockets watches for us.
   Must not know what the bytes mean.

   Design notes.
   - For libwebsockets a stream is a file (RAW FILE role): it says when there is
     something to be read or room to write.  connect(), recv() and send() are
     ours.  Its own sockets lose the errno of a failed connect(), and stop
     reading for good when a peer does not read.
   - Readable streams wait in |loop->readable| for sw_streams_read(), which
     reads some of them.  What these lead to (callbacks, answers) is done before
     the next are read, while all that it touches is still in the cache: with
     1000 busy connections this saves a tenth of the time.
   - A wsi is killed only by sw_streams_run(), outside all callbacks; what
     fails puts itself on the loop's |todo| list.  The end is the wsi's
     destruction.
   - libuv reports a reset without reading what came before it; those bytes (a
     close frame, often) are fetched before the end is told. */

#define _GNU_SOURCE
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <libwebsockets.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "buffer.h"
#include "error.h"
#include "loop.h"

/* How many streams are read in one tick. */
enum { READ_AT_ONCE = 16 };

/* What every message touches stands first, in two lines of the cache. */
struct sw_stream {
  struct sw_list readable; /* in loop->readable */
  struct sipwire_loop *loop;
  const struct sw_stream_ops *ops;
  void *arg;
  int fd;
  bool queued, failed, killed, destroyed, orphan;
  bool adopting;   /* libwebsockets has not agreed yet */
  bool connecting; /* connect() is going on */
  bool blocked;    /* waiting for the socket to take more */
  bool finishing, finished, paused;
  struct sw_buffer unsent;
  uint64_t sent;
  struct lws *wsi;
  struct sw_list entry; /* in loop->streams */
  struct sw_stream *next_todo;
  int error, sys_errno; /* why it ends */
};

struct sw_watch {
  struct sw_watch *next; /* of loop->dead_watches */
  struct lws *wsi;
  sw_watch_fn fn;
  void *arg;
  int fd;
};

/* ---- Ends -------------------------------------------------------------- */

static void queue(struct sw_stream *stream) {
  if (stream->queued)
    return;
  stream->queued = true;
  stream->next_todo = stream->loop->todo;
  stream->loop->todo = stream;
  sw_loop_kick(stream->loop);
}

/* The first reason counts. */
static void note(struct sw_stream *stream, int error, int sys_errno) {
  if (stream->failed)
    return;
  stream->failed = true;
  stream->error = error;
  stream->sys_errno = sys_errno;
}

static void fail(struct sw_stream *stream, int error, int sys_errno) {
  note(stream, error, sys_errno);
  queue(stream);
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
    if (!stream->failed)
      stream->ops->data(stream->arg, bytes, (size_t)length);
  if (length < 0 && errno != EAGAIN)
    return errno;
  return socket_errno(stream->fd);
}

static void stream_free(struct sw_stream *stream) {
  sw_list_remove(&stream->entry);
  sw_list_remove(&stream->readable);
  free(stream);
}

static void end(struct sw_stream *stream) {
  const struct sw_stream_ops *ops = stream->ops;
  void *arg = stream->arg;
  int error = stream->error, sys_errno = stream->sys_errno;
  sw_buffer_clear(&stream->unsent);
  if (stream->destroyed) {
    stream_free(stream);
  } else {
    stream->orphan = true;
  }
  ops->ended(arg, error, sys_errno);
}

/* libwebsockets forgets this wish when it is told inside its callback. */
static void wait_for_room(struct sw_stream *stream) {
  if (stream->wsi && !stream->failed && (stream->blocked || stream->connecting))
    lws_callback_on_writable(stream->wsi);
}

static void run(struct sw_stream *stream) {
  wait_for_room(stream);
  if (stream->wsi && stream->failed && !stream->killed) {
    stream->killed = true;
    if (stream->error == SIPWIRE_ERESET) {
      stream->failed = false; /* let the salvaged bytes through */
      salvage(stream);
      stream->failed = true;
      stream->error = SIPWIRE_ERESET;
    }
    /* calls back with RAW_CLOSE_FILE now and WSI_DESTROY in a later turn */
    lws_set_timeout(stream->wsi, PENDING_TIMEOUT_USER_REASON_BASE,
                    LWS_TO_KILL_SYNC);
  }
  if (!stream->queued && !stream->wsi)
    end(stream);
}

void sw_streams_run(struct sipwire_loop *loop) {
  struct sw_stream *stream = loop->todo;
  loop->todo = NULL;
  while (stream) {
    struct sw_stream *next = stream->next_todo;
    stream->queued = false;
    run(stream);
    stream = next;
  }
}

void sw_streams_close(struct sipwire_loop *loop) {
  for (struct sw_list *entry = loop->streams.next; entry != &loop->streams;
       entry = entry->next) {
    struct sw_stream *stream = SW_OWNER(entry, struct sw_stream, entry);
    if (!stream->orphan)
      sw_stream_abort(stream);
  }
}

void sw_streams_release(struct sipwire_loop *loop) {
  while (!sw_list_empty(&loop->streams)) {
    struct sw_stream *stream =
        SW_OWNER(loop->streams.next, struct sw_stream, entry);
    sw_buffer_clear(&stream->unsent);
    stream_free(stream);
  }
  while (loop->dead_watches) {
    struct sw_watch *watch = loop->dead_watches;
    loop->dead_watches = watch->next;
    free(watch);
  }
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

static void block(struct sw_stream *stream) {
  stream->blocked = true;
  queue(stream);
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
                        length - done))
    fail(stream, SIPWIRE_ENOMEM, ENOMEM);
  else if (!stream->blocked)
    block(stream);
}

static void on_writable(struct sw_stream *stream) {
  if (stream->failed || !stream->blocked)
    return;
  size_t done = send_some(stream, sw_buffer_bytes(&stream->unsent),
                          sw_buffer_length(&stream->unsent));
  if (stream->failed)
    return;
  sw_buffer_consume(&stream->unsent, done);
  if (sw_buffer_length(&stream->unsent)) {
    block(stream);
    return;
  }
  stream->blocked = false;
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
  if (!stream->wsi || stream->paused)
    return;
  stream->paused = true;
  sw_list_remove(&stream->readable);
  lws_rx_flow_control(stream->wsi, 0);
}

void sw_stream_resume(struct sw_stream *stream) {
  if (!stream->wsi || !stream->paused)
    return;
  stream->paused = false;
  lws_rx_flow_control(stream->wsi, 1);
  sw_loop_kick(stream->loop);
}

/* Told again and again as long as there is something to be read. */
static void on_readable(struct sw_stream *stream) {
  if (!stream->failed && !stream->paused && !stream->connecting &&
      sw_list_empty(&stream->readable))
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

/* ---- libwebsockets' callbacks ------------------------------------------ */

/* In 4.1 a descriptor that is refused leaves its handle behind. */
static void sweep_stale(uv_handle_t *handle, void *wsi) {
  if (handle->type == UV_POLL && handle->data == wsi && !uv_is_active(handle) &&
      !uv_is_closing(handle))
    uv_close(handle, (uv_close_cb)free);
}

/* A connection has been made, or refused. */
static void on_connected(struct sw_stream *stream) {
  stream->connecting = false;
  if (stream->failed)
    return;
  int number = socket_errno(stream->fd);
  if (number)
    fail(stream, sw_error_of_errno(number), number);
  else
    stream->ops->connected(stream->arg);
}

/* What came with an end before anybody knew of a connection is of no use. */
static void on_close(struct sw_stream *stream) {
  int number = 0;
  if (stream->fd < 0)
    return;
  if (!stream->failed)
    number = stream->connecting ? socket_errno(stream->fd) : salvage(stream);
  sw_list_remove(&stream->readable);
  note(stream, sw_error_of_errno(number), number);
  stream->fd = -1;
}

static void on_destroy(struct sw_stream *stream, struct lws *wsi) {
  if (stream->adopting)
    uv_walk(&stream->loop->uv, sweep_stale, wsi);
  stream->wsi = NULL;
  stream->fd = -1;
  stream->destroyed = true;
  if (stream->orphan) {
    stream_free(stream);
    return;
  }
  note(stream, SIPWIRE_EUNREACHABLE, 0);
  if (!stream->adopting)
    queue(stream);
}

/* Comes to the first protocol, whichever it is for. */
static void on_create(struct lws *wsi) {
  struct sipwire_loop *loop = lws_context_user(lws_get_context(wsi));
  loop->wsi_created = true;
}

static int on_stream(struct lws *wsi, enum lws_callback_reasons reason,
                     void *user, void *in, size_t length) {
  struct sw_stream *stream = lws_get_opaque_user_data(wsi);
  (void)user;
  (void)in;
  (void)length;
  if (reason == LWS_CALLBACK_WSI_CREATE)
    on_create(wsi);
  if (!stream)
    return 0;
  if (reason == LWS_CALLBACK_RAW_RX_FILE)
    on_readable(stream);
  else if (reason == LWS_CALLBACK_RAW_WRITEABLE_FILE && stream->connecting)
    on_connected(stream);
  else if (reason == LWS_CALLBACK_RAW_WRITEABLE_FILE)
    on_writable(stream);
  else if (reason == LWS_CALLBACK_RAW_CLOSE_FILE)
    on_close(stream);
  else if (reason == LWS_CALLBACK_WSI_DESTROY)
    on_destroy(stream, wsi);
  return 0;
}

static int on_watch(struct lws *wsi, enum lws_callback_reasons reason,
                    void *user, void *in, size_t length) {
  struct sw_watch *watch = lws_get_opaque_user_data(wsi);
  (void)user;
  (void)in;
  (void)length;
  if (!watch)
    return 0;
  if (reason == LWS_CALLBACK_RAW_RX_FILE && watch->fn)
    watch->fn(watch->arg);
  else if (reason == LWS_CALLBACK_WSI_DESTROY)
    watch->wsi = NULL;
  return 0;
}

const struct lws_protocols *sw_stream_protocols(void) {
  static const struct lws_protocols protocols[] = {
      {"stream", on_stream, 0, 0, 0, NULL, 0},
      {"watch", on_watch, 0, 0, 0, NULL, 0},
      {NULL, NULL, 0, 0, 0, NULL, 0}};
  return protocols;
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

/* Has |fd| watched, and closed in the end.  With no memory for its own object
   libwebsockets leaves the descriptor to us; with none for libuv's handle it
   keeps an object that crashes when the context is destroyed. */
static struct lws *adopt(struct sipwire_loop *loop, int fd,
                         const char *protocol, void *arg) {
  lws_adopt_desc_t info;
  memset(&info, 0, sizeof info);
  info.vh = loop->vhost;
  info.type = LWS_ADOPT_RAW_FILE_DESC;
  info.fd.filefd = fd;
  info.vh_prot_name = protocol;
  info.opaque = arg;
  loop->wsi_created = false;
  struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&info);
  if (!wsi && !loop->wsi_created)
    close(fd);
  else if (!wsi)
    loop->lws_broken = true;
  return wsi;
}

/* What libwebsockets refused it may still tell the end of. */
static int stream_open(struct sw_stream *stream, int fd) {
  int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  stream->fd = fd;
  stream->adopting = true;
  stream->wsi = adopt(stream->loop, fd, "stream", stream);
  stream->adopting = false;
  if (stream->wsi)
    return 0;
  stream->failed = stream->orphan = true;
  if (stream->destroyed)
    stream_free(stream);
  return SIPWIRE_ENOMEM;
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
static int dial(const struct sipwire_loop *loop, const struct sockaddr *peer,
                const char *local_address) {
  int fd =
      socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return -errno;
  int number = fd >= loop->descriptors ? EMFILE
               : local_address ? bind_to(fd, local_address, peer->sa_family)
                               : 0;
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
  int fd = dial(loop, peer, local_address);
  if (fd >= 0) {
    int error = stream_open(stream, fd);
    if (error)
      return error;
    stream->connecting = true;
    queue(stream);
  } else {
    stream->destroyed = true;
    fail(stream, sw_error_of_errno(-fd), -fd);
  }
  *out = stream;
  return 0;
}

int sw_stream_adopt(struct sipwire_loop *loop, int fd,
                    const struct sw_stream_ops *ops, void *arg,
                    struct sw_stream **out) {
  struct sw_stream *stream =
      fd < loop->descriptors ? stream_new(loop, ops, arg) : NULL;
  if (!stream) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  int error = stream_open(stream, fd);
  if (!error)
    *out = stream;
  return error;
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

struct sw_watch *sw_watch_new(struct sipwire_loop *loop, int fd, sw_watch_fn fn,
                              void *arg) {
  struct sw_watch *watch = calloc(1, sizeof *watch);
  if (!watch || fd >= loop->descriptors) {
    free(watch);
    close(fd);
    return NULL;
  }
  watch->fn = fn;
  watch->arg = arg;
  watch->fd = fd;
  watch->wsi = adopt(loop, fd, "watch", watch);
  if (!watch->wsi) { /* libwebsockets may still know it */
    watch->fn = NULL;
    watch->next = loop->dead_watches;
    loop->dead_watches = watch;
    return NULL;
  }
  return watch;
}

void sw_watch_free(struct sw_watch *watch) {
  struct lws *wsi = watch->wsi;
  if (wsi) {
    lws_set_opaque_user_data(wsi, NULL);
    lws_set_timeout(wsi, PENDING_TIMEOUT_USER_REASON_BASE, LWS_TO_KILL_SYNC);
  }
  free(watch);
}

int sw_watch_fd(const struct sw_watch *watch) {
  return watch->fd;
}

void sw_watch_pause(struct sw_watch *watch, bool paused) {
  if (watch->wsi)
    lws_rx_flow_control(watch->wsi, paused ? 0 : 1);
}
