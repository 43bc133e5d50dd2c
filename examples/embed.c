/* SPDX-License-Identifier: MIT */
/* sipwire in a host that has a poll(2) loop of its own: an OPTIONS to a
   listener in the same process, sent when a timer of the host's says so. */
/* test: $SIPWIRE_BUILD/examples/embed */

#define _GNU_SOURCE
#include <poll.h>
#include <sipwire.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>
#include <sys/timerfd.h>
#include <unistd.h>

static struct sipwire_loop *loop;
static struct sipwire_listener *listener;
static struct sipwire_transport *client, *served;
static int timer, answered;

static void check(int result, const char *what) {
  if (result >= 0)
    return;
  fprintf(stderr, "%s: %s\n", what, sipwire_error_text(result));
  exit(1);
}

/* Unguessable text for tags, branches and the Call-ID: 16 hex digits. */
static const char *token(char text[17]) {
  unsigned char bytes[8];
  if (getrandom(bytes, sizeof bytes, 0) != (ssize_t)sizeof bytes)
    exit(1);
  for (size_t i = 0; i < sizeof bytes; i++)
    snprintf(text + 2 * i, 3, "%02x", bytes[i]);
  return text;
}

static void send_options(void) {
  char host[17], branch[17], tag[17], call[17], message[512];
  int length = snprintf(
      message, sizeof message,
      "OPTIONS sip:example.invalid SIP/2.0\r\n"
      "Via: SIP/2.0/WS %s.invalid;branch=z9hG4bK%s\r\n"
      "Max-Forwards: 70\r\n"
      "From: <sip:host@example.invalid>;tag=%s\r\n"
      "To: <sip:example.invalid>\r\n"
      "Call-ID: %s\r\n"
      "CSeq: 1 OPTIONS\r\n"
      "Contact: <sip:host@%s.invalid;transport=ws>\r\n"
      "Accept: application/sdp\r\n"
      "Content-Length: 0\r\n\r\n",
      token(host), token(branch), token(tag), token(call), host);
  check(sipwire_transport_send(client, message, (size_t)length,
                               SIPWIRE_FRAME_AUTO, 0), "send");
}

/* 200, with what RFC 3261 section 8.2.6 wants copied.  A real server reads
   every spelling that SIP allows; this one knows its only client. */
static void answer(const char *request) {
  static const char *const copied[] = {"Via:", "From:", "To:", "Call-ID:",
                                       "CSeq:"};
  char message[1024] = "SIP/2.0 200 OK\r\n", tag[17];
  size_t used = strlen(message);
  for (const char *line = strstr(request, "\r\n"); line && line[2] != '\r';
       line = strstr(line + 2, "\r\n")) {
    int length = (int)strcspn(line + 2, "\r");
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
      if (!strncasecmp(line + 2, copied[i], strlen(copied[i])))
        used += (size_t)snprintf(
            message + used, sizeof message - used, "%.*s%s%s\r\n", length,
            line + 2, i == 2 ? ";tag=" : "", i == 2 ? token(tag) : "");
    if (used > sizeof message - 128)
      return;
  }
  used += (size_t)snprintf(message + used, sizeof message - used,
                           "Allow: OPTIONS\r\nContent-Length: 0\r\n\r\n");
  check(sipwire_transport_send(served, message, used, SIPWIRE_FRAME_AUTO, 0),
        "answer");
}

static void on_message(const struct sipwire_event *event) {
  char text[1024]; /* |data| is not NUL-terminated */
  snprintf(text, sizeof text, "%.*s", (int)event->length, event->data);
  if (event->transport == served) {
    answer(text);
    return;
  }
  printf("client: %.*s\n", (int)strcspn(text, "\r"), text);
  answered = 1;
  sipwire_transport_disconnect(client, 0);
  sipwire_listener_free(listener); /* it would keep the loop alive */
}

static void handle(const struct sipwire_event *event) {
  const struct itimerspec soon = {.it_value = {.tv_nsec = 100000000}};
  if (event->type == SIPWIRE_EVENT_REQUEST) {
    check(sipwire_request_accept(event->request, NULL, &served), "accept");
  } else if (event->type == SIPWIRE_EVENT_STATE) {
    printf("%s: %s\n", event->transport == client ? "client" : "server",
           sipwire_state_name(event->state));
  } else if (event->type == SIPWIRE_EVENT_CONNECT_DONE) {
    check(event->error, event->info ? event->info->text : "connect");
    timerfd_settime(timer, 0, &soon, NULL);
  } else if (event->type == SIPWIRE_EVENT_MESSAGE) {
    on_message(event);
  }
}

static void start(void) {
  struct sipwire_listener_config listening = {0};
  struct sipwire_config config;
  char url[64];
  check(sipwire_loop_new(NULL, &loop), "loop");
  check(sipwire_listener_new(loop, &listening, &listener), "listener");
  snprintf(url, sizeof url, "ws://127.0.0.1:%u",
           sipwire_listener_port(listener));
  sipwire_config_init(&config);
  config.server = url;
  check(sipwire_transport_new(loop, &config, &client), "transport");
  check(sipwire_transport_connect(client, 1), "connect");
}

int main(void) {
  struct sipwire_event event;
  uint64_t count;
  start();
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
  check(timer, "timerfd");
  struct pollfd fds[] = {{sipwire_loop_pollfd(loop), POLLIN, 0},
                         {timer, POLLIN, 0}};
  check(fds[0].fd, "pollfd");
  while (sipwire_loop_alive(loop)) {
    poll(fds, 2, sipwire_loop_timeout(loop));
    if (read(timer, &count, sizeof count) > 0) {
      puts("host: timer");
      send_options();
    }
    sipwire_loop_step(loop, 0);
    while (sipwire_loop_next(loop, &event) > 0)
      handle(&event);
  }
  close(timer);
  sipwire_transport_free(client);
  sipwire_transport_free(served);
  return sipwire_loop_free(loop) || !answered;
}
