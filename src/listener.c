/* SPDX-License-Identifier: MIT */
/* Accepts sockets, lets links read their requests, and hands these to the
   user for an answer.  Must not decide on them itself. */

#define _GNU_SOURCE
#include "listener.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "error.h"
#include "http.h"
#include "link.h"
#include "loop.h"
#include "options.h"
#include "stream.h"
#include "transport.h"

/* Accepted in one go, so that others get their turn; and the pause after the
   system ran out of descriptors, during which a ready listening socket would
   only burn the processor. */
enum { ACCEPT_BURST = 64, PAUSE_MS = 100 };

struct sipwire_listener {
  struct sw_list entry; /* in loop->listeners while open */
  struct sipwire_loop *loop;
  struct sw_options *options;
  struct sw_watch *watch;
  uv_timer_t pause;
  unsigned references; /* user, libuv, handshakes */
  struct sw_list handshakes;
  void *arg;
  uint16_t port;
  char address[INET6_ADDRSTRLEN];
};

/* One client between accept() and its answer. */
struct handshake {
  struct sipwire_request request;
  struct sw_item item;
  struct sw_list entry; /* in listener->handshakes while the link is ours */
  struct sipwire_listener *listener;
  struct sw_link *link; /* NULL when it is gone, or a transport's */
  unsigned references;  /* link, queue, user */
  char *strings;        /* that |request| points to */
};

static void listener_unref(struct sipwire_listener *listener) {
  if (--listener->references)
    return;
  sw_options_unref(listener->options);
  sw_loop_unref(listener->loop);
  free(listener);
}

/* ---- Handshakes -------------------------------------------------------- */

static struct handshake *handshake_of(struct sipwire_request *request) {
  return SW_OWNER(request, struct handshake, request);
}

static void unref(struct handshake *handshake) {
  if (--handshake->references)
    return;
  listener_unref(handshake->listener);
  free(handshake->strings);
  free(handshake);
}

/* The link is gone, or somebody else's. */
static void forget_link(struct handshake *handshake) {
  if (!handshake->link)
    return;
  handshake->link = NULL;
  sw_list_remove(&handshake->entry);
  unref(handshake);
}

static enum sw_delivery deliver(struct sw_item *item,
                                struct sipwire_event *event) {
  struct handshake *handshake = SW_OWNER(item, struct handshake, item);
  if (!handshake->link)
    return SW_SILENT;
  handshake->references++;
  event->type = SIPWIRE_EVENT_REQUEST;
  event->listener = handshake->listener;
  event->arg = handshake->listener->arg;
  event->request = &handshake->request;
  return SW_EVENT;
}

static void release(struct sw_item *item) {
  unref(SW_OWNER(item, struct handshake, item));
}

static const struct sw_item_class class = {deliver, release};

static bool keep_request(struct handshake *handshake,
                         const struct sw_http_head *head) {
  size_t target = head->target.length, fields = head->fields.length;
  char *at = handshake->strings = malloc(target + fields + 2);
  if (!at)
    return false;
  handshake->request.target = at;
  memcpy(at, head->target.data, target);
  at[target] = '\0';
  at += target + 1;
  handshake->request.headers = at;
  memcpy(at, head->fields.data, fields);
  at[fields] = '\0';
  handshake->request.headers_length = fields;
  handshake->request.secure = sw_link_secure(handshake->link);
  sw_link_address(handshake->link, true, handshake->request.peer_address,
                  sizeof handshake->request.peer_address);
  return true;
}

static void on_request(void *arg, const struct sw_http_head *head) {
  struct handshake *handshake = arg;
  if (!keep_request(handshake, head)) {
    sw_link_release(handshake->link);
    forget_link(handshake);
    return;
  }
  handshake->references++;
  sw_loop_input(handshake->listener->loop, &handshake->item);
}

static void on_down(void *arg, int error, const struct sipwire_info *info) {
  (void)error;
  (void)info; /* a client that is no WebSocket client: nobody's event */
  forget_link(arg);
}

static const struct sw_link_ops ops = {on_request, NULL, NULL, on_down, NULL};

static void serve(struct sipwire_listener *listener, int fd) {
  struct handshake *handshake = calloc(1, sizeof *handshake);
  if (!handshake) {
    close(fd);
    return;
  }
  handshake->item.class = &class;
  handshake->listener = listener;
  handshake->references = 1;
  listener->references++;
  if (sw_link_adopt(listener->loop, fd, listener->options, &ops, handshake,
                    &handshake->link)) {
    unref(handshake);
    return;
  }
  sw_list_add(&listener->handshakes, &handshake->entry);
}

int sipwire_request_accept(struct sipwire_request *request, void *arg,
                           struct sipwire_transport **transport) {
  struct handshake *handshake = handshake_of(request);
  struct sipwire_listener *listener = handshake->listener;
  int error = SIPWIRE_ECLOSED;
  if (handshake->link && !sw_loop_check(listener->loop))
    error = sw_transport_adopt(listener->loop, listener->options,
                               handshake->link, arg, transport);
  if (error == SIPWIRE_ENOMEM)
    return error;
  forget_link(handshake);
  unref(handshake);
  return error;
}

static int refuse(struct handshake *handshake, int status, const char *reason,
                  const struct sipwire_header *headers, size_t header_count) {
  size_t length =
      sw_http_write_refusal(NULL, 0, status, reason, headers, header_count);
  char *response = malloc(length + 1);
  if (!response)
    return SIPWIRE_ENOMEM;
  sw_http_write_refusal(response, length + 1, status, reason, headers,
                        header_count);
  sw_link_refuse(handshake->link, response, length);
  free(response);
  return 0;
}

int sipwire_request_refuse(struct sipwire_request *request, int status,
                           const char *reason,
                           const struct sipwire_header *headers,
                           size_t header_count) {
  struct handshake *handshake = handshake_of(request);
  struct sipwire_loop *loop = handshake->listener->loop;
  const char *fault = reason ? sw_http_reason_fault(reason) : NULL;
  int error = sw_headers_check(loop, headers, header_count);
  if (error)
    return error;
  if (status && (status < 300 || status > 599))
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "status is not 300 to 599");
  if (fault)
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "reason: %s", fault);
  if (handshake->link && !sw_loop_check(loop)) {
    error =
        refuse(handshake, status ? status : 403, reason, headers, header_count);
    if (error)
      return error;
  }
  forget_link(handshake);
  unref(handshake);
  return 0;
}

/* ---- The listening socket ---------------------------------------------- */

static void on_pause_over(uv_timer_t *timer) {
  struct sipwire_listener *listener = timer->data;
  sw_watch_pause(listener->watch, false);
}

static void on_readable(void *arg) {
  struct sipwire_listener *listener = arg;
  for (int count = 0; count < ACCEPT_BURST; count++) {
    int fd = accept4(sw_watch_fd(listener->watch), NULL, NULL,
                     SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      serve(listener, fd);
    } else if (errno == EAGAIN) {
      return;
    } else if (errno != EINTR && errno != ECONNABORTED) {
      sw_loop_log(listener->loop, SIPWIRE_LOG_WARN, "accept: %s",
                  strerror(errno));
      sw_watch_pause(listener->watch, true);
      uv_timer_start(&listener->pause, on_pause_over, PAUSE_MS, 0);
      return;
    }
  }
}

static bool parse_address(const char *text, uint16_t port,
                          struct sockaddr_storage *address, socklen_t *size) {
  struct sockaddr_in *v4 = (struct sockaddr_in *)address;
  struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
  memset(address, 0, sizeof *address);
  if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *size = sizeof *v4;
    return true;
  }
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  *size = sizeof *v6;
  return inet_pton(AF_INET6, text, &v6->sin6_addr) == 1;
}

/* Returns a listening socket or a negative error. */
static int open_socket(struct sipwire_loop *loop, const char *text,
                       uint16_t port, uint16_t *bound) {
  struct sockaddr_storage address;
  struct sockaddr *plain = (struct sockaddr *)&address;
  socklen_t size;
  int on = 1;
  if (!parse_address(text, port, &address, &size))
    return sw_loop_fault(loop, SIPWIRE_EINVALID,
                         "address '%.60s' is not a numeric IP address", text);
  int fd =
      socket(plain->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0)
    return sw_loop_fault(loop, sw_error_of_errno(errno), "%s", strerror(errno));
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (plain->sa_family == AF_INET6)
    setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  if (bind(fd, plain, size) || listen(fd, SOMAXCONN) ||
      getsockname(fd, plain, &size)) {
    int error = sw_loop_fault(loop, sw_error_of_errno(errno), "%s port %u: %s",
                              text, port, strerror(errno));
    close(fd);
    return error;
  }
  /* the port stands at the same place in both kinds of address */
  *bound = ntohs(((struct sockaddr_in *)&address)->sin_port);
  return fd;
}

static void on_timer_closed(uv_handle_t *handle) {
  listener_unref(handle->data);
}

static void close_listener(struct sipwire_listener *listener) {
  if (sw_list_empty(&listener->entry))
    return;
  sw_list_remove(&listener->entry);
  listener->loop->live--;
  if (listener->watch)
    sw_watch_free(listener->watch);
  listener->watch = NULL;
  while (!sw_list_empty(&listener->handshakes)) {
    struct handshake *handshake =
        SW_OWNER(listener->handshakes.next, struct handshake, entry);
    sw_link_release(handshake->link);
    forget_link(handshake);
  }
  uv_close((uv_handle_t *)&listener->pause, on_timer_closed);
  sw_loop_kick(listener->loop);
}

static struct sipwire_listener *listener_new(struct sipwire_loop *loop,
                                             struct sw_options *options,
                                             const char *address, void *arg) {
  struct sipwire_listener *listener = calloc(1, sizeof *listener);
  if (!listener)
    return NULL;
  uv_timer_init(&loop->uv, &listener->pause);
  listener->pause.data = listener;
  listener->references = 2;
  listener->loop = sw_loop_ref(loop);
  listener->options = sw_options_ref(options);
  listener->arg = arg;
  strncpy(listener->address, address, sizeof listener->address - 1);
  sw_list_init(&listener->handshakes);
  sw_list_add(&loop->listeners, &listener->entry);
  loop->live++;
  return listener;
}

static int start(struct sipwire_loop *loop, struct sw_options *options,
                 const struct sipwire_listener_config *config,
                 struct sipwire_listener **out) {
  const char *address = config->address ? config->address : "127.0.0.1";
  uint16_t port = 0;
  int fd = open_socket(loop, address, config->port, &port);
  if (fd < 0)
    return fd;
  struct sipwire_listener *listener =
      listener_new(loop, options, address, config->arg);
  if (!listener) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  listener->port = port;
  listener->watch = sw_watch_new(loop, fd, on_readable, listener);
  if (!listener->watch) {
    sipwire_listener_free(listener);
    return SIPWIRE_ENOMEM;
  }
  sw_loop_kick(loop);
  *out = listener;
  return 0;
}

int sipwire_listener_new(struct sipwire_loop *loop,
                         const struct sipwire_listener_config *config,
                         struct sipwire_listener **out) {
  struct sipwire_config defaults;
  const struct sipwire_config *transport = config->transport;
  struct sw_options *options;
  int error = sw_loop_check(loop);
  if (error)
    return error;
  if (!transport) {
    sipwire_config_init(&defaults);
    defaults.tls.verify = false;
    transport = &defaults;
  }
  if (transport->server || transport->header_count ||
      transport->local_address || transport->username || transport->proxy)
    return sw_loop_fault(
        loop, SIPWIRE_EINVALID,
        "server, headers, local_address, username and proxy are "
        "for clients");
  error = sw_options_new(loop, transport, true, config->secure, &options);
  if (error)
    return error;
  error = start(loop, options, config, out);
  sw_options_unref(options);
  return error;
}

void sipwire_listener_free(struct sipwire_listener *listener) {
  if (!listener)
    return;
  if (!sw_loop_check(listener->loop))
    close_listener(listener);
  listener_unref(listener);
}

uint16_t sipwire_listener_port(const struct sipwire_listener *listener) {
  return listener->port;
}

const char *sipwire_listener_address(const struct sipwire_listener *listener) {
  return listener->address;
}

void sw_listeners_close(struct sipwire_loop *loop) {
  while (!sw_list_empty(&loop->listeners))
    close_listener(
        SW_OWNER(loop->listeners.next, struct sipwire_listener, entry));
}
