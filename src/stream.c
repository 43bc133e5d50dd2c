/* SPDX-License-Identifier: MIT */
/* Carries the bytes of one TCP connection on libwebsockets' RAW role.  Must
   not know what the bytes mean.

   Design notes.
   - We send with send() ourselves and keep the rest ourselves: once
     libwebsockets holds unsent data in this role it stops reading, spins, and
     deadlocks with a peer that does the same.
   - A wsi is killed only by sw_streams_run(), outside all callbacks; what
     fails puts itself on the loop's |todo| list.
   - The end is the wsi's destruction, or a connect call that gave none.  After
     the latter newer versions still send LWS_CALLBACK_WSI_DESTROY one turn
     later, so the object waits for it as an orphan.
   - libuv reports a reset without reading what came before it; those bytes (a
     close frame, often) are fetched before the end is told.
   - A connect() that fails at once leaves a uv_poll_t behind in 4.1
     (sweep_stale), and its errno is lost (probe). */

#define _GNU_SOURCE
#include "stream.h"

#include <arpa/inet.h>
#include <errno.h>
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

enum { SALVAGE_SIZE = 16384 };

struct sw_stream {
  struct sw_list entry; /* first: in loop->streams */
  struct sipwire_loop *loop;
  const struct sw_stream_ops *ops;
  void *arg;
  struct lws *wsi;
  struct sw_stream *next_todo;
  struct sw_buffer unsent;
  uint64_t sent;
  int fd;
  int error, sys_errno; /* why it ends */
  bool queued, failed, killed, destroyed, dialing, orphan;
  bool stale;   /* its handle was left behind by libwebsockets */
  bool blocked; /* waiting for the socket to take more */
  bool finishing, finished, paused;
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
  uint8_t bytes[SALVAGE_SIZE];
  ssize_t length;
  while ((length = recv(stream->fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
    if (!stream->failed)
      stream->ops->data(stream->arg, bytes, (size_t)length);
  if (length < 0 && errno != EAGAIN)
    return errno;
  return socket_errno(stream->fd);
}

static void end(struct sw_stream *stream) {
  const struct sw_stream_ops *ops = stream->ops;
  void *arg = stream->arg;
  int error = stream->error, sys_errno = stream->sys_errno;
  sw_buffer_clear(&stream->unsent);
  if (stream->destroyed) {
    sw_list_remove(&stream->entry);
    free(stream);
  } else {
    stream->orphan = true;
  }
  ops->ended(arg, error, sys_errno);
}

static void run(struct sw_stream *stream) {
  if (stream->wsi && stream->failed && !stream->killed) {
    stream->killed = true;
    if (stream->error == SIPWIRE_ERESET) {
      stream->failed = false; /* let the salvaged bytes through */
      salvage(stream);
      stream->failed = true;
      stream->error = SIPWIRE_ERESET;
    }
    /* calls back with RAW_CLOSE now and WSI_DESTROY in a later turn */
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
    struct sw_stream *stream = (struct sw_stream *)entry;
    if (!stream->orphan)
      sw_stream_abort(stream);
  }
}

void sw_streams_release(struct sipwire_loop *loop) {
  while (!sw_list_empty(&loop->streams)) {
    struct sw_stream *stream = (struct sw_stream *)loop->streams.next;
    sw_list_remove(&stream->entry);
    sw_buffer_clear(&stream->unsent);
    free(stream);
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

static void wait_for_room(struct sw_stream *stream) {
  stream->blocked = true;
  lws_callback_on_writable(stream->wsi);
}

void sw_stream_write(struct sw_stream *stream, const void *data,
                     size_t length) {
  size_t done = 0;
  if (stream->failed || stream->fd < 0 || stream->finishing)
    return;
  if (!stream->blocked)
    done = send_some(stream, data, length);
  if (stream->failed || done == length)
    return;
  if (!sw_buffer_append(&stream->unsent, (const uint8_t *)data + done,
                        length - done))
    fail(stream, SIPWIRE_ENOMEM, ENOMEM);
  else if (!stream->blocked)
    wait_for_room(stream);
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
    wait_for_room(stream);
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
  if (stream->finishing || stream->failed || stream->fd < 0)
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
  lws_rx_flow_control(stream->wsi, 0);
}

void sw_stream_resume(struct sw_stream *stream) {
  if (!stream->wsi || !stream->paused)
    return;
  stream->paused = false;
  lws_rx_flow_control(stream->wsi, 1);
  sw_loop_kick(stream->loop);
}

/* ---- libwebsockets' callbacks ------------------------------------------ */

static void sweep_stale(uv_handle_t *handle, void *wsi) {
  if (handle->type == UV_POLL && handle->data == wsi && !uv_is_active(handle) &&
      !uv_is_closing(handle))
    uv_close(handle, (uv_close_cb)free);
}

static void own(struct sw_stream *stream, struct lws *wsi) {
  int on = 1;
  stream->wsi = wsi;
  stream->fd = lws_get_socket_fd(wsi);
  lws_set_timeout(wsi, NO_PENDING_TIMEOUT, 0);
  setsockopt(stream->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

static void on_connected(struct sw_stream *stream, struct lws *wsi) {
  if (stream->fd >= 0)
    return;
  own(stream, wsi);
  if (!stream->failed)
    stream->ops->connected(stream->arg);
}

static void on_close(struct sw_stream *stream) {
  if (stream->fd < 0)
    return;
  int number = stream->failed ? 0 : salvage(stream);
  note(stream, sw_error_of_errno(number), number);
  stream->fd = -1;
}

/* An errno that is gone was fetched by libwebsockets, which looks for it only
   when the socket had become writable: a peer that accepted and reset.  It may
   have closed the socket then, and forgets to close the handle. */
static void on_connect_error(struct sw_stream *stream, struct lws *wsi) {
  int fd = lws_get_socket_fd(wsi);
  int number = socket_errno(fd);
  if (!number && !stream->dialing)
    number = ECONNRESET;
  stream->stale = fd < 0;
  note(stream, number ? sw_error_of_errno(number) : SIPWIRE_EUNREACHABLE,
       number);
  stream->fd = -1;
}

static void on_destroy(struct sw_stream *stream, struct lws *wsi) {
  if (stream->dialing || stream->stale)
    uv_walk(&stream->loop->uv, sweep_stale, wsi);
  stream->wsi = NULL;
  stream->fd = -1;
  stream->destroyed = true;
  if (stream->orphan) {
    sw_list_remove(&stream->entry);
    free(stream);
    return;
  }
  note(stream, SIPWIRE_EUNREACHABLE, 0);
  if (!stream->dialing)
    queue(stream);
}

static int on_stream(struct lws *wsi, enum lws_callback_reasons reason,
                     void *user, void *in, size_t length) {
  struct sw_stream *stream = lws_get_opaque_user_data(wsi);
  (void)user;
  if (!stream)
    return 0;
  if (reason == LWS_CALLBACK_RAW_CONNECTED)
    on_connected(stream, wsi);
  else if (reason == LWS_CALLBACK_RAW_RX && !stream->failed)
    stream->ops->data(stream->arg, in, length);
  else if (reason == LWS_CALLBACK_RAW_WRITEABLE)
    on_writable(stream);
  else if (reason == LWS_CALLBACK_RAW_CLOSE)
    on_close(stream);
  else if (reason == LWS_CALLBACK_CLIENT_CONNECTION_ERROR)
    on_connect_error(stream, wsi);
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
      {"stream", on_stream, 0, SW_READ_SIZE, 0, NULL, SW_READ_SIZE},
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
  sw_list_add(&loop->streams, &stream->entry);
  return stream;
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

static socklen_t address_size(const struct sockaddr *address) {
  return address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6)
                                        : sizeof(struct sockaddr_in);
}

/* What connect() said, asked again.  With a local address it may have been
   bind() that failed, and nobody is to be dialled for that. */
static int probe(const struct sipwire_loop *loop, const struct sockaddr *peer,
                 const char *local_address) {
  int fd =
      socket(peer->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return errno;
  int number = 0;
  if (fd >= loop->descriptors)
    number = EMFILE;
  else if (!local_address && connect(fd, peer, address_size(peer)) &&
           errno != EINPROGRESS)
    number = errno;
  close(fd);
  return number;
}

static struct lws *dial(struct sw_stream *stream, const char *address, int port,
                        const char *local_address) {
  static const lws_retry_bo_t no_pings;
  struct lws_client_connect_info info;
  memset(&info, 0, sizeof info);
  info.context = stream->loop->lws;
  info.vhost = stream->loop->vhost;
  info.address = info.host = address;
  info.port = port;
  info.path = "/";
  info.iface = local_address;
  info.method = "RAW";
  info.protocol = info.local_protocol_name = "stream";
  info.retry_and_idle_policy = &no_pings;
  info.opaque_user_data = stream;
  info.pwsi = &stream->wsi;
  stream->dialing = true;
  struct lws *wsi = lws_client_connect_via_info(&info);
  stream->dialing = false;
  return wsi;
}

int sw_stream_connect(struct sipwire_loop *loop, const struct sockaddr *peer,
                      const char *local_address,
                      const struct sw_stream_ops *ops, void *arg,
                      struct sw_stream **out) {
  char address[INET6_ADDRSTRLEN];
  int port;
  struct sw_stream *stream = stream_new(loop, ops, arg);
  if (!stream)
    return SIPWIRE_ENOMEM;
  if (!numeric(peer, address, sizeof address, &port)) {
    stream->destroyed = true;
    fail(stream, SIPWIRE_EUNREACHABLE, EAFNOSUPPORT);
  } else if (!dial(stream, address, port, local_address)) {
    int number = probe(loop, peer, local_address);
    stream->failed = false; /* its destruction knew no errno */
    stream->wsi = NULL;
    fail(stream, number ? sw_error_of_errno(number) : SIPWIRE_EUNREACHABLE,
         number);
  }
  *out = stream;
  return 0;
}

/* libwebsockets refused it, and may still tell of its end. */
static void abandon(struct sw_stream *stream) {
  stream->failed = stream->orphan = true;
  if (!stream->destroyed)
    return;
  sw_list_remove(&stream->entry);
  free(stream);
}

int sw_stream_adopt(struct sipwire_loop *loop, int fd,
                    const struct sw_stream_ops *ops, void *arg,
                    struct sw_stream **out) {
  lws_adopt_desc_t adopt;
  struct sw_stream *stream =
      fd < loop->descriptors ? stream_new(loop, ops, arg) : NULL;
  if (!stream) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  memset(&adopt, 0, sizeof adopt);
  adopt.vh = loop->vhost;
  adopt.type = LWS_ADOPT_SOCKET;
  adopt.fd.sockfd = fd;
  adopt.vh_prot_name = "stream";
  adopt.opaque = stream;
  stream->dialing = true;
  struct lws *wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
  stream->dialing = false;
  if (!wsi) {
    abandon(stream);
    return SIPWIRE_ENOMEM;
  }
  own(stream, wsi);
  *out = stream;
  return 0;
}

int sw_stream_address(const struct sw_stream *stream, bool peer, char *buffer,
                      size_t size) {
  struct sockaddr_storage storage;
  struct sockaddr *address = (struct sockaddr *)&storage;
  socklen_t length = sizeof storage;
  char text[INET6_ADDRSTRLEN];
  int port;
  if (stream->fd < 0)
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
  lws_adopt_desc_t adopt;
  if (!watch || fd >= loop->descriptors) {
    free(watch);
    close(fd);
    return NULL;
  }
  watch->fn = fn;
  watch->arg = arg;
  watch->fd = fd;
  memset(&adopt, 0, sizeof adopt);
  adopt.vh = loop->vhost;
  adopt.type = LWS_ADOPT_RAW_FILE_DESC;
  adopt.fd.filefd = fd;
  adopt.vh_prot_name = "watch";
  adopt.opaque = watch;
  watch->wsi = lws_adopt_descriptor_vhost_via_info(&adopt);
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
