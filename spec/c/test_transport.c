/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=getaddrinfo */
/* Transports against a listener of the same process: what each is told, in
   which order.  "localhost" is made a name of two addresses. */
#define _GNU_SOURCE
#include "host.h"

#include <netdb.h>
#include <poll.h>
#include <sys/syscall.h>

/* ---- A name with several addresses ------------------------------------- */

static const char *localhost[2] = {"127.0.0.1", "::1"};

int __real_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);
int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list);

int __wrap_getaddrinfo(const char *host, const char *service,
                       const struct addrinfo *hints, struct addrinfo **list) {
  struct addrinfo *second;
  if (hints->ai_flags & AI_NUMERICHOST || strcmp(host, "localhost"))
    return __real_getaddrinfo(host, service, hints, list);
  int status = __real_getaddrinfo(localhost[0], service, hints, list);
  if (!status &&
      !(status = __real_getaddrinfo(localhost[1], service, hints, &second)))
    (*list)->ai_next = second; /* glibc frees them one by one */
  return status;
}

/* ---- A reset that arrives when its socket is known to be writable ------ */

static int resetter = -1; /* a listening socket */

__attribute__((visibility("default"))) int
getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
  if (level == SOL_SOCKET && name == SO_ERROR && resetter >= 0) {
    struct pollfd poll_fd = {fd, POLLIN, 0};
    raw_reset(accept(resetter, NULL, NULL));
    close(resetter);
    resetter = -1; /* it has had its client */
    poll(&poll_fd, 1, LIMIT_MS);
  }
  return (int)syscall(SYS_getsockopt, fd, level, name, value, size);
}

/* ---- The usual couple -------------------------------------------------- */

static struct party listener, client, served;

struct way {
  const char *name;
  bool secure, apart; /* over TLS; on two loops */
  const char *bind, *host;
};

static void couple_open(const struct way *way) {
  struct sipwire_tls_config tls = server_tls();
  struct sipwire_config config = client_config();
  struct sipwire_loop *here = host_open(0);
  struct sipwire_loop *there = way->apart ? host_open(1) : here;
  memset(&served, 0, sizeof served);
  party_listen(&listener, there, way->bind, way->secure ? &tls : NULL, NULL);
  listener.accept_as = &served;
  party_client(&client, here, way->secure ? "wss" : "ws", way->host, &listener,
               &config);
}

static const struct way plain = {"ws", false, false, NULL, "127.0.0.1"};

static void couple_connect(void) {
  CHECK_INT(sipwire_transport_connect(client.transport, 0), 0);
  RUN_UNTIL(client.state == SIPWIRE_CONNECTED);
  party_forget(&client);
  party_forget(&served);
  party_forget(&listener);
}

static void couple_close(void) {
  party_free(&client);
  party_free(&served);
  party_free(&listener);
  for (int i = 0; i < HOSTS; i++)
    if (hosts[i].loop)
      host_close(i);
}

/* ---- Conversations ----------------------------------------------------- */

static void speak(void) {
  CHECK_INT(party_send(&client, "one", 2), 0);
  CHECK_INT(sipwire_transport_send(client.transport, "\xff\0", 2,
                                   SIPWIRE_FRAME_AUTO, 3),
            0);
  CHECK_INT(sipwire_transport_send(client.transport, "two", 3,
                                   SIPWIRE_FRAME_BINARY, 0),
            0);
  CHECK_INT(sipwire_transport_send(client.transport, "\xff", 1,
                                   SIPWIRE_FRAME_TEXT, 9),
            SIPWIRE_EUTF8);
  RUN_UNTIL(served.messages == 3);
  CHECK_INT(sipwire_transport_send(served.transport, "back", 4,
                                   SIPWIRE_FRAME_TEXT, 4),
            0);
  RUN_UNTIL(client.messages == 1);
}

static void check_addresses(const struct way *way) {
  char here[64], there[64], expected[80];
  int length = sipwire_transport_local_address(client.transport, here, 64);
  CHECK_INT(length, strlen(here));
  CHECK(sipwire_transport_peer_address(served.transport, there, 64) > 0);
  CHECK_STR(here, there);
  CHECK(sipwire_transport_peer_address(client.transport, there, 64) > 0);
  CHECK(sipwire_transport_local_address(served.transport, here, 64) > 0);
  CHECK_STR(here, there);
  const char *bind = sipwire_listener_address(listener.listener);
  snprintf(expected, sizeof expected, strchr(bind, ':') ? "[%s]:%u" : "%s:%u",
           bind, (unsigned)sipwire_listener_port(listener.listener));
  CHECK_STR(there, expected);
  CHECK_INT(sipwire_transport_secure(client.transport), way->secure);
  CHECK_INT(sipwire_transport_secure(served.transport), way->secure);
}

static void converse(const struct way *way) {
  char buffer[64];
  couple_open(way);
  CHECK_INT(sipwire_transport_local_address(client.transport, buffer, 64),
            SIPWIRE_ESTATE);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK_INT(sipwire_transport_state(client.transport), SIPWIRE_CONNECTING);
  CHECK_INT(sipwire_transport_local_address(client.transport, buffer, 64),
            SIPWIRE_ESTATE);
  CHECK_INT(party_send(&client, "early", 9), SIPWIRE_ESTATE);
  RUN_UNTIL(client.done[1]);
  CHECK_INT(sipwire_transport_state(served.transport), SIPWIRE_CONNECTED);
  CHECK_INT(sipwire_transport_connect(served.transport, 9), SIPWIRE_ESTATE);
  check_addresses(way);
  speak();
  CHECK_INT(sipwire_transport_disconnect(client.transport, 5), 0);
  CHECK_INT(sipwire_transport_state(client.transport), SIPWIRE_DISCONNECTING);
  CHECK_INT(party_send(&client, "late", 9), SIPWIRE_ESTATE);
  RUN_UNTIL(client.done[5] && served.state == SIPWIRE_DISCONNECTED);
  if (!CHECK_STR(client.seen, "Disconnected>Connecting\n"
                              "Connecting>Connected up\nconnect 1 ok\n"
                              "send 2 ok\nsend 3 ok\ntext 'back'\n"
                              "Connected>Disconnecting down\n"
                              "Disconnecting>Disconnected\n"
                              "disconnect 5 ok\n"))
    fprintf(stderr, "... over %s\n", way->name);
  CHECK_STR(served.seen, "text 'one'\nbinary '\xff'\nbinary 'two'\nsend 4 ok\n"
                         "Connected>Disconnected down closed in open "
                         "close 1000 clean\n");
  CHECK_STR(listener.seen, "request /sip\n");
  CHECK_INT(sipwire_transport_state(client.transport), SIPWIRE_DISCONNECTED);
  CHECK_INT(sipwire_transport_local_address(client.transport, buffer, 64),
            SIPWIRE_ESTATE);
  couple_close();
}

static void whole_conversations_by_every_way(void) {
  static const char *const addresses[][2] = {
      {"127.0.0.1", "127.0.0.1"},
      {"::1", "[::1]"},
      {"127.0.0.1", "localhost"},
      {"::1", "localhost"},
  };
  for (int i = 0; i < 16; i++) {
    char name[64];
    struct way way = {name, i & 1, i & 2, addresses[i / 4][0],
                      addresses[i / 4][1]};
    snprintf(name, sizeof name, "%s, %d loops, %s to %s",
             way.secure ? "wss" : "ws", way.apart ? 2 : 1, way.host, way.bind);
    converse(&way);
  }
}

static void a_client_is_served_by_whichever_address_answers(void) {
  static const char *const binds[] = {"127.0.0.1", "::1"};
  for (int order = 0; order < 2; order++)
    for (int i = 0; i < 4; i++) {
      struct way way = {"a name", i & 1, false, binds[i / 2], "localhost"};
      localhost[0] = binds[order];
      localhost[1] = binds[!order];
      couple_open(&way);
      CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
      RUN_UNTIL(client.done[1]);
      CHECK_STR(client.seen, "Disconnected>Connecting\n"
                             "Connecting>Connected up\nconnect 1 ok\n");
      couple_close();
    }
}

/* ---- Attempts that fail ------------------------------------------------ */

/* Frees the listener, so that nobody listens at its port. */
static void refused_at(const char *host) {
  struct way way = {"nobody", false, false, NULL, host};
  couple_open(&way);
  party_free(&listener);
  turns(5);
  for (unsigned tag = 1; tag <= 2; tag++) { /* as good as new after it */
    party_forget(&client);
    CHECK_INT(sipwire_transport_connect(client.transport, tag), 0);
    CHECK_STR(client.seen, "");
    RUN_UNTIL(client.done[tag]);
    char expected[200];
    snprintf(expected, sizeof expected,
             "Disconnected>Connecting\n"
             "Connecting>Disconnected refused in tcp\n"
             "connect %u refused in tcp\n",
             tag);
    CHECK_STR(client.seen, expected);
  }
  turns(5);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  couple_close();
}

static void nobody_listens(void) {
  refused_at("127.0.0.1");
  refused_at("[::1]");
  refused_at("localhost");
}

/* A couple whose listener is replaced by a socket of ours. */
static int open_to_a_raw_listener(bool secure) {
  struct way way = {"raw", secure, false, NULL, "127.0.0.1"};
  struct sockaddr_in address = {.sin_family = AF_INET};
  int fd = raw_socket(), on = 1;
  couple_open(&way);
  address.sin_port = htons(sipwire_listener_port(listener.listener));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  party_free(&listener);
  turns(5);
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  CHECK_INT(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  CHECK_INT(listen(fd, 1), 0);
  return fd;
}

static void reset_is_told(void) {
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnected reset in tcp\n"
                         "connect 1 reset in tcp\n");
  turns(5);
  CHECK(!sipwire_loop_alive(hosts[0].loop));
  couple_close();
}

static void a_reset_at_the_last_moment_is_told_as_one(void) {
  resetter = open_to_a_raw_listener(false);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  reset_is_told();
  CHECK_INT(resetter, -1);
}

/* Before the client has seen that it was connected at all. */
static void words_and_a_reset_at_once_are_a_reset(void) {
  for (int secure = 0; secure <= 1; secure++) {
    int fd = open_to_a_raw_listener(secure);
    CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
    int peer = accept(fd, NULL, NULL);
    raw_write(peer, "words", 5);
    raw_reset(peer);
    close(fd);
    reset_is_told();
  }
}

static void an_unknown_name_is_a_dns_error(void) {
  struct way way = {"no name", false, false, NULL, "no-such-host.invalid"};
  couple_open(&way);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnected dns in dns\n"
                         "connect 1 dns in dns\n");
  couple_close();
}

static void a_stranger_s_certificate_is_refused(void) {
  struct way way = {"wss", true, false, NULL, "127.0.0.1"};
  struct sipwire_config config = client_config();
  couple_open(&way);
  party_free(&client);
  config.tls.ca_file = certificate("other-ca.pem");
  party_client(&client, hosts[0].loop, "wss", "127.0.0.1", &listener, &config);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK(strstr(client.seen, "\nConnecting>Disconnected tls in tls ("));
  CHECK(strstr(client.seen, "\nconnect 1 tls in tls ("));
  CHECK_INT(client.error, SIPWIRE_ETLS);
  turns(20);
  CHECK_STR(listener.seen, "");
  couple_close();
}

/* The first address has its share of the time to connect; once it has, all
   that is left is its own. */
static void a_silent_address_has_the_time_that_is_left(void) {
  struct sipwire_config config = client_config();
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  char url[64];
  int fd = raw_socket();
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK_INT(bind(fd, (struct sockaddr *)&address, size), 0);
  CHECK_INT(listen(fd, 5), 0);
  CHECK_INT(getsockname(fd, (struct sockaddr *)&address, &size), 0);
  snprintf(url, sizeof url, "wss://localhost:%u", ntohs(address.sin_port));
  couple_open(&plain);
  party_free(&client);
  localhost[0] = "127.0.0.1";
  localhost[1] = "::1";
  config.connection_timeout_ms = (int)scaled(600);
  party_client(&client, hosts[0].loop, "ws", "127.0.0.1", &listener, &config);
  CHECK_INT(sipwire_transport_set_server(client.transport, url, NULL, 0), 0);
  int64_t start = now_ms();
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK(now_ms() - start >= scaled(590));
  CHECK(strstr(client.seen, "\nconnect 1 timeout in tls\n"));
  close(fd);
  couple_close();
}

static char headers_seen[512];

static void copy_headers(const struct sipwire_event *event) {
  if (event->info && event->info->http_headers)
    snprintf(headers_seen, sizeof headers_seen, "%.*s",
             (int)event->info->http_headers_length, event->info->http_headers);
}

static void a_refusal_tells_status_and_headers(void) {
  struct sipwire_header headers[2] = {{"Location", "ws://elsewhere/"},
                                      {"X-Reason", "full"}};
  couple_open(&plain);
  listener.accept_as = NULL;
  on_each_event = copy_headers;
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(listener.request);
  CHECK(strstr(listener.request->headers, "Sec-WebSocket-Protocol: sip\r\n"));
  CHECK_INT(listener.request->headers_length,
            strlen(listener.request->headers));
  CHECK(!listener.request->secure);
  CHECK_INT(strncmp(listener.request->peer_address, "127.0.0.1:", 10), 0);
  CHECK_INT(sipwire_request_refuse(listener.request, 200, NULL, NULL, 0),
            SIPWIRE_EINVALID);
  CHECK(strstr(sipwire_loop_message(hosts[0].loop), "status"));
  CHECK_INT(
      sipwire_request_refuse(listener.request, 302, "Moved on", headers, 2), 0);
  listener.request = NULL;
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnected http in upgrade http 302\n"
                         "connect 1 http in upgrade http 302\n");
  CHECK(strstr(headers_seen, "Location: ws://elsewhere/\r\n"));
  CHECK(strstr(headers_seen, "X-Reason: full\r\n"));
  couple_close();
}

/* ---- Calls in quick succession ----------------------------------------- */

static void calls_on_a_disconnected_transport(void) {
  couple_open(&plain);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 1), 0);
  CHECK_STR(client.seen, "");
  turn(0);
  CHECK_STR(client.seen, "disconnect 1 ok\n");
  CHECK(sipwire_loop_alive(hosts[0].loop)); /* the listener */
  couple_close();
}

static void a_second_connect_joins_the_first(void) {
  couple_open(&plain);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK_INT(sipwire_transport_connect(client.transport, 2), 0);
  RUN_UNTIL(client.done[2]);
  CHECK_INT(sipwire_transport_connect(client.transport, 3), 0);
  RUN_UNTIL(client.done[3]);
  CHECK_STR(client.seen, "Disconnected>Connecting\nConnecting>Connected up\n"
                         "connect 1 ok\nconnect 2 ok\nconnect 3 ok\n");
  CHECK_STR(listener.seen, "request /sip\n");
  couple_close();
}

static void connect_and_disconnect_in_one_go(void) {
  couple_open(&plain);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 2), 0);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 3), 0);
  RUN_UNTIL(client.done[3]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnecting\nconnect 1 aborted\n"
                         "Disconnecting>Disconnected\n"
                         "disconnect 2 ok\ndisconnect 3 ok\n");
  couple_close();
}

static void connect_disconnect_connect_in_one_go(void) {
  couple_open(&plain);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 2), 0);
  CHECK_INT(sipwire_transport_connect(client.transport, 3), 0);
  RUN_UNTIL(client.done[3]);
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Disconnecting\nconnect 1 aborted\n"
                         "Disconnecting>Connecting\ndisconnect 2 aborted\n"
                         "Connecting>Connected up\nconnect 3 ok\n");
  couple_close();
}

/* The old link closes by itself, and its peer sees it. */
static void reconnecting_leaves_the_old_link_to_close(void) {
  static struct party second;
  couple_open(&plain);
  couple_connect();
  memset(&second, 0, sizeof second);
  listener.accept_as = &second;
  CHECK_INT(party_send(&client, "last", 4), 0);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 1), 0);
  CHECK_INT(sipwire_transport_connect(client.transport, 2), 0);
  RUN_UNTIL(client.done[2] && served.state == SIPWIRE_DISCONNECTED);
  CHECK_STR(client.seen, "Connected>Disconnecting down\n"
                         "Disconnecting>Connecting\ndisconnect 1 aborted\n"
                         "send 4 ok\nConnecting>Connected up\nconnect 2 ok\n");
  CHECK_STR(served.seen, "text 'last'\nConnected>Disconnected down closed in "
                         "open close 1000 clean\n");
  CHECK_INT(party_send(&client, "new", 0), 0);
  RUN_UNTIL(second.messages == 1);
  CHECK_STR(second.seen, "text 'new'\n");
  party_free(&second);
  couple_close();
}

static void disconnecting_delivers_what_was_sent_before(void) {
  static char block[100000];
  couple_open(&plain);
  couple_connect();
  for (unsigned tag = 1; tag <= 9; tag++)
    CHECK_INT(sipwire_transport_send(client.transport, block, sizeof block,
                                     SIPWIRE_FRAME_BINARY, tag),
              0);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 10), 0);
  RUN_UNTIL(client.done[10] && served.state == SIPWIRE_DISCONNECTED);
  CHECK_INT(served.bytes, 9 * sizeof block);
  for (unsigned tag = 1; tag <= 10; tag++)
    CHECK_INT(client.done[tag], 1);
  CHECK_INT(client.lost, 0);
  couple_close();
}

static void nothing_is_delivered_after_disconnect(void) {
  struct sipwire_stats stats;
  couple_open(&plain);
  couple_connect();
  CHECK_INT(party_send(&served, "crossing", 0), 0);
  turn(0); /* it is in the socket, or read already */
  if (!client.messages) {
    CHECK_INT(sipwire_transport_disconnect(client.transport, 1), 0);
    RUN_UNTIL(client.done[1]);
    CHECK_STR(client.seen, "Connected>Disconnecting down\n"
                           "Disconnecting>Disconnected\ndisconnect 1 ok\n");
    sipwire_transport_stats(client.transport, &stats);
    CHECK_INT(stats.messages_in, 0);
    CHECK_INT(stats.dropped, 1);
  }
  couple_close();
}

/* The message has been read, for it came with another that is handed out. */
static void stop_at_first(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_MESSAGE && event->arg == &client)
    CHECK_INT(sipwire_transport_disconnect(client.transport, 1), 0);
}

static void nothing_read_is_delivered_after_disconnect(void) {
  struct sipwire_stats stats;
  couple_open(&plain);
  couple_connect();
  on_each_event = stop_at_first;
  for (int i = 0; i < 3; i++)
    CHECK_INT(party_send(&served, "hello", 0), 0);
  RUN_UNTIL(client.done[1]);
  CHECK_STR(client.seen, "text 'hello'\nConnected>Disconnecting down\n"
                         "Disconnecting>Disconnected\ndisconnect 1 ok\n");
  sipwire_transport_stats(client.transport, &stats);
  CHECK_INT(stats.messages_in, 1);
  CHECK_INT(stats.dropped, 2);
  couple_close();
}

static void set_server_is_for_the_next_attempt(void) {
  static struct party other, second;
  struct sipwire_header header = {"X-Who", "me"};
  char url[64];
  couple_open(&plain);
  couple_connect();
  party_listen(&other, hosts[0].loop, "::1", NULL, NULL);
  snprintf(url, sizeof url, "ws://[::1]:%u/other?x=1",
           (unsigned)sipwire_listener_port(other.listener));
  CHECK_INT(
      sipwire_transport_set_server(client.transport, "http://x/", NULL, 0),
      SIPWIRE_EINVALID);
  CHECK(strstr(sipwire_loop_message(hosts[0].loop), "server"));
  CHECK_INT(sipwire_transport_set_server(client.transport, url, &header, 1), 0);
  CHECK_STR(sipwire_transport_server(client.transport), url);
  CHECK_INT(party_send(&client, "still here", 0), 0);
  RUN_UNTIL(served.messages == 1);
  memset(&second, 0, sizeof second);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 0), 0);
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(other.request);
  CHECK_STR(other.seen, "request /other?x=1\n");
  CHECK(strstr(other.request->headers, "X-Who: me\r\n"));
  second.state = SIPWIRE_CONNECTED;
  CHECK_INT(sipwire_request_accept(other.request, &second, &second.transport),
            0);
  other.request = NULL;
  RUN_UNTIL(client.done[1]);
  CHECK_STR(listener.seen, "");
  party_free(&other);
  party_free(&second);
  couple_close();
}

static void a_server_can_be_set_later(void) {
  struct sipwire_config config = client_config();
  struct sipwire_transport *transport;
  char url[64];
  couple_open(&plain);
  snprintf(url, sizeof url, "%s", sipwire_transport_server(client.transport));
  party_free(&client);
  client.freed = false;
  config.arg = &client;
  CHECK_INT(sipwire_transport_new(hosts[0].loop, &config, &transport), 0);
  client.transport = transport;
  CHECK_STR(sipwire_transport_server(transport), "");
  CHECK_INT(sipwire_transport_connect(transport, 1), SIPWIRE_ESTATE);
  CHECK_INT(sipwire_transport_state(transport), SIPWIRE_DISCONNECTED);
  CHECK_INT(sipwire_transport_set_server(transport, url, NULL, 0), 0);
  couple_connect();
  CHECK_INT(client.done[1], 0);
  couple_close();
}

/* ---- Limits ------------------------------------------------------------ */

static char block[65536];

static void block_fill(unsigned number) {
  for (size_t i = 0; i < sizeof block; i++)
    block[i] = (char)(number * 31 + i * 7);
}

/* Sends until it is refused for want of room; returns how many were taken. */
static unsigned fill(struct party *party, uint32_t *sum) {
  unsigned count = 0;
  int error = 0;
  for (; count < 10000; count++) {
    block_fill(count);
    error = sipwire_transport_send(party->transport, block, sizeof block,
                                   SIPWIRE_FRAME_BINARY, 0);
    if (error)
      break;
    *sum = sum_of(*sum, block, sizeof block);
    if (count % 8 == 0)
      turn(0);
  }
  CHECK_INT(error, SIPWIRE_EQUEUE_FULL);
  return count;
}

/* Whatever is between the two is in the kernel or in the sender's queue. */
static void a_peer_that_does_not_read_stops_the_sender(bool secure) {
  struct way way = {"two loops", secure, true, NULL, "127.0.0.1"};
  struct sipwire_stats stats;
  uint32_t sum = 0;
  couple_open(&way);
  couple_connect();
  sipwire_transport_pause(served.transport);
  unsigned count = fill(&client, &sum);
  turns(50);
  CHECK(count > 16 && count < 600); /* the kernel has some megabytes */
  CHECK(served.bytes <= 4 * sizeof block);
  sipwire_transport_stats(client.transport, &stats);
  CHECK(stats.queue > 1048576 - 2 * sizeof block);
  CHECK(stats.queue < 1048576 + 65536);
  CHECK_INT(sipwire_transport_state(client.transport), SIPWIRE_CONNECTED);
  CHECK_INT(sipwire_transport_send(client.transport, block, sizeof block,
                                   SIPWIRE_FRAME_BINARY, 7),
            SIPWIRE_EQUEUE_FULL);
  sipwire_transport_resume(served.transport);
  RUN_UNTIL(served.messages == count);
  CHECK_INT(served.sum, sum);
  CHECK_INT(client.done[7], 0);
  sipwire_transport_stats(client.transport, &stats);
  CHECK_INT(stats.queue, 0);
  CHECK_INT(stats.messages_out, count);
  CHECK_INT(stats.bytes_out, count * sizeof block);
  CHECK_INT(party_send(&client, "again", 8), 0);
  RUN_UNTIL(served.messages == count + 1 && client.done[8] == 1);
  couple_close();
}

static void back_pressure_over_ws(void) {
  a_peer_that_does_not_read_stops_the_sender(false);
}

static void back_pressure_over_wss(void) {
  a_peer_that_does_not_read_stops_the_sender(true);
}

/* A host that steps but does not fetch has what it did not fetch kept, but
   not without end. */
static void unfetched_messages_stop_the_sender(void) {
  struct way way = {"two loops", false, true, NULL, "127.0.0.1"};
  uint32_t sum = 0;
  couple_open(&way);
  couple_connect();
  struct sipwire_loop *loop = hosts[1].loop;
  hosts[1].loop = NULL;
  unsigned count = 0, refused = 0;
  while (refused < 200 && count < 5000) {
    block_fill(count);
    int error = sipwire_transport_send(client.transport, block, sizeof block,
                                       SIPWIRE_FRAME_BINARY, 0);
    if (error) {
      CHECK_INT(error, SIPWIRE_EQUEUE_FULL);
      refused++;
    } else {
      sum = sum_of(sum, block, sizeof block);
      count++;
    }
    turn(0);
    CHECK_INT(sipwire_loop_step(loop, 0), 0);
  }
  CHECK(count < 600);
  CHECK_INT(served.messages, 0);
  hosts[1].loop = loop;
  RUN_UNTIL(served.messages == count);
  CHECK_INT(served.sum, sum);
  couple_close();
}

static void a_queue_takes_exactly_its_limit(void) {
  struct sipwire_config config = client_config();
  couple_open(&plain);
  party_free(&client);
  config.send_queue_limit = 1000;
  party_client(&client, hosts[0].loop, "ws", "127.0.0.1", &listener, &config);
  couple_connect();
  CHECK_INT(sipwire_transport_send(client.transport, block, 1001,
                                   SIPWIRE_FRAME_BINARY, 1),
            SIPWIRE_EQUEUE_FULL);
  CHECK_INT(sipwire_transport_send(client.transport, block, 1000,
                                   SIPWIRE_FRAME_BINARY, 2),
            0);
  CHECK_INT(party_send(&client, "x", 3), SIPWIRE_EQUEUE_FULL);
  RUN_UNTIL(client.done[2] && served.messages == 1);
  CHECK_INT(party_send(&client, "x", 4), 0);
  RUN_UNTIL(client.done[4] && served.messages == 2);
  CHECK_STR(client.seen, "send 2 ok\nsend 4 ok\n");
  CHECK_STR(served.seen, "binary of 1000\ntext 'x'\n");
  /* what waits counts, and frames are a little longer than messages */
  CHECK_INT(sipwire_transport_send(client.transport, block, 600,
                                   SIPWIRE_FRAME_BINARY, 5),
            0);
  CHECK_INT(sipwire_transport_send(client.transport, block, 401,
                                   SIPWIRE_FRAME_BINARY, 6),
            SIPWIRE_EQUEUE_FULL);
  CHECK_INT(sipwire_transport_send(client.transport, block, 380,
                                   SIPWIRE_FRAME_BINARY, 7),
            0);
  RUN_UNTIL(client.done[5] && client.done[7] && served.messages == 4);
  couple_close();
}

static void a_message_above_the_limit_is_refused_by_its_receiver(void) {
  struct sipwire_config habits;
  struct sipwire_loop *loop = host_open(0);
  memset(&served, 0, sizeof served);
  sipwire_config_init(&habits);
  habits.max_message_size = 100;
  party_listen(&listener, loop, NULL, NULL, &habits);
  listener.accept_as = &served;
  party_client(&client, loop, "ws", "127.0.0.1", &listener, NULL);
  couple_connect();
  CHECK_INT(sipwire_transport_send(client.transport, block, 100,
                                   SIPWIRE_FRAME_BINARY, 0),
            0);
  CHECK_INT(sipwire_transport_send(client.transport, block, 101,
                                   SIPWIRE_FRAME_BINARY, 0),
            0);
  RUN_UNTIL(client.state == SIPWIRE_DISCONNECTED &&
            served.state == SIPWIRE_DISCONNECTED);
  CHECK_STR(client.seen, "Connected>Disconnected down closed in open "
                         "close 1009 clean\n");
  CHECK_STR(served.seen, "binary of 100\nConnected>Disconnected down too_big "
                         "in open close 1009\n");
  couple_close();
}

static void a_paused_transport_gets_nothing_until_resumed(void) {
  couple_open(&plain);
  couple_connect();
  sipwire_transport_pause(client.transport);
  sipwire_transport_pause(client.transport);
  CHECK_INT(party_send(&served, "one", 1), 0);
  RUN_UNTIL(served.done[1]);
  turns(20);
  /* but for at most one read that was under way */
  size_t early = client.messages;
  CHECK_INT(party_send(&served, "two", 2), 0);
  RUN_UNTIL(served.done[2]);
  turns(20);
  CHECK_INT(client.messages, early);
  CHECK_INT(party_send(&client, "still sending", 3), 0);
  RUN_UNTIL(served.messages == 1 && client.done[3]);
  sipwire_transport_resume(client.transport);
  RUN_UNTIL(client.messages == 2);
  couple_close();
}

static void a_paused_transport_can_disconnect(void) {
  couple_open(&plain);
  couple_connect();
  sipwire_transport_pause(client.transport);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  CHECK_INT(sipwire_transport_connect(client.transport, 2), 0);
  RUN_UNTIL(client.done[2] && client.state == SIPWIRE_CONNECTED);
  CHECK_INT(party_send(&served, "unpaused", 0), 0);
  RUN_UNTIL(client.messages == 1);
  couple_close();
}

/* ---- Links that break -------------------------------------------------- */

/* A raw client upgraded by the listener, as |served|; |window|: how much the
   kernel takes for it unread, 0 for the default. */
static int raw_open_with(int window) {
  couple_open(&plain);
  int fd = raw_socket();
  if (window)
    raw_window(fd, window);
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(served.transport);
  return fd;
}

static int raw_open(void) {
  return raw_open_with(0);
}

static void all_tags_are_answered(struct party *party, unsigned first,
                                  unsigned last) {
  for (unsigned tag = first; tag <= last; tag++)
    if (!CHECK_INT(party->done[tag], 1))
      fprintf(stderr, "... tag %u\n", tag);
}

/* What the peer cannot have got must not be told as sent. */
static void a_reset_loses_what_was_sent_after_it(void) {
  int fd = raw_open();
  raw_reset(fd);
  for (unsigned tag = 1; tag <= 9; tag++)
    CHECK_INT(party_send(&served, "lost", tag), 0);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED && served.done[9]);
  turns(3);
  all_tags_are_answered(&served, 1, 9);
  CHECK_INT(served.lost, 9);
  CHECK_INT(served.error, SIPWIRE_ERESET);
  CHECK_STR(served.seen,
            "Connected>Disconnected down reset in open close 1006\n"
            "send 1 reset\nsend 2 reset\nsend 3 reset\nsend 4 reset\n"
            "send 5 reset\nsend 6 reset\nsend 7 reset\nsend 8 reset\n"
            "send 9 reset\n");
  couple_close();
}

static void a_reset_loses_what_the_kernel_did_not_take(void) {
  unsigned tag = 1;
  int fd = raw_open_with(4096);
  for (; tag < TAGS - 2; tag++) {
    int error = sipwire_transport_send(served.transport, block, sizeof block,
                                       SIPWIRE_FRAME_BINARY, tag);
    if (error) {
      CHECK_INT(error, SIPWIRE_EQUEUE_FULL);
      break;
    }
    turn(0);
  }
  raw_reset(fd);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  turns(3);
  all_tags_are_answered(&served, 1, tag - 1);
  CHECK(served.lost > 0);
  CHECK(sipwire_transport_send(served.transport, "x", 1, SIPWIRE_FRAME_AUTO,
                               63) == SIPWIRE_ESTATE);
  couple_close();
}

static size_t raw_read_all(int fd) {
  static char bytes[65536];
  size_t total = 0;
  ssize_t length;
  while ((length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT)) > 0)
    total += (size_t)length;
  return total;
}

/* In a host that does nothing but watch the descriptor. */
static void what_the_kernel_did_not_take_goes_on_when_paused(void) {
  unsigned tag = 1;
  int fd = raw_open_with(4096);
  struct pollfd host = {sipwire_loop_pollfd(hosts[0].loop), POLLIN, 0};
  for (; tag < TAGS - 2; tag++) {
    if (sipwire_transport_send(served.transport, block, sizeof block,
                               SIPWIRE_FRAME_BINARY, tag))
      break;
    turn(0);
  }
  while (poll(&host, 1, 50) == 1)
    turn(0);
  CHECK(!served.done[tag - 1]);
  sipwire_transport_pause(served.transport);
  raw_window(fd, 1048576);
  int64_t limit = now_ms() + scaled(LIMIT_MS);
  while (!served.done[tag - 1] && CHECK(now_ms() < limit)) {
    raw_read_all(fd);
    if (poll(&host, 1, 10) == 1)
      turn(0);
  }
  CHECK_INT(served.lost, 0);
  close(fd);
  couple_close();
}

/* The peer's farewell comes while much is unsent yet: it is still sent, and
   not told as lost. */
static void a_farewell_does_not_stop_what_was_sent_before(void) {
  static const uint8_t bye[] = {0x03, 0xe8};
  static char large[1000000];
  struct sipwire_config habits;
  size_t total = 0;
  host_open(0);
  memset(&served, 0, sizeof served);
  memset(&client, 0, sizeof client);
  sipwire_config_init(&habits);
  habits.send_queue_limit = 16000000;
  party_listen(&listener, hosts[0].loop, NULL, NULL, &habits);
  listener.accept_as = &served;
  int fd = raw_socket();
  raw_window(fd, 4096);
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(served.transport);
  for (unsigned tag = 1; tag <= 14; tag++)
    CHECK_INT(sipwire_transport_send(served.transport, large, sizeof large,
                                     SIPWIRE_FRAME_BINARY, tag),
              0);
  turns(3);
  CHECK(!served.done[9]); /* the kernel takes some megabytes at a time */
  raw_frame(fd, 0x88, bye, sizeof bye);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  raw_window(fd, 1048576);
  RUN_UNTIL((total += raw_read_all(fd)) > 14 * sizeof large && served.done[14]);
  all_tags_are_answered(&served, 1, 14);
  CHECK_INT(served.lost, 0);
  close(fd);
  couple_close();
}

static void send_at_down(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_MESSAGE && event->arg == &served)
    CHECK_INT(party_send(&served, "to nobody", 1), 0);
}

/* Connected still, though the end of the link has been read already. */
static void a_message_sent_after_an_unseen_end_is_lost_in_order(void) {
  static const uint8_t frames[] = {0x81, 0x82, 0,    0,   0,  0, 'h',
                                   'i',  0x88, 0x85, 0,   0,  0, 0,
                                   0x03, 0xe8, 'b',  'y', 'e'};
  int fd = raw_open();
  on_each_event = send_at_down;
  raw_write(fd, frames, sizeof frames);
  RUN_UNTIL(served.done[1]);
  CHECK_STR(served.seen, "text 'hi'\nConnected>Disconnected down closed in "
                         "open close 1000 'bye' clean\nsend 1 closed\n");
  close(fd);
  couple_close();
}

/* The system tells of the reset before it gives out what came before it. */
static void what_came_before_a_reset_is_delivered(void) {
  static const uint8_t bye[] = {0x03, 0xe8, 'b', 'y', 'e'};
  for (int paused = 0; paused < 2; paused++) {
    int fd = raw_open();
    turns(5);
    if (paused)
      sipwire_transport_pause(served.transport);
    raw_frame(fd, 0x81, "last words", 10);
    raw_frame(fd, 0x88, bye, sizeof bye);
    raw_reset(fd);
    if (paused) {
      turns(10);
      sipwire_transport_resume(served.transport);
    }
    RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
    CHECK_STR(served.seen, "text 'last words'\nConnected>Disconnected down "
                           "closed in open close 1000 'bye' clean\n");
    couple_close();
  }
}

static void a_peer_that_just_goes_is_closed(void) {
  int fd = raw_open();
  turns(5);
  CHECK(!raw_closed(fd)); /* has read all, or this would be a reset */
  close(fd);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  CHECK_STR(served.seen,
            "Connected>Disconnected down closed in open close 1006\n");
  couple_close();
}

static void fragments_arrive_as_one_message(void) {
  int fd = raw_open();
  raw_frame(fd, 0x01, "one ", 4);
  raw_frame(fd, 0x89, "ping", 4);
  turns(3);
  raw_frame(fd, 0x00, "two ", 4);
  raw_frame(fd, 0x80, "three", 5);
  RUN_UNTIL(served.messages == 1);
  CHECK_STR(served.seen, "text 'one two three'\n");
  close(fd);
  couple_close();
}

static void a_freed_loop_says_going_away(void) {
  struct way way = {"two loops", false, true, NULL, "127.0.0.1"};
  for (int side = 0; side < 2; side++) {
    couple_open(&way);
    couple_connect();
    struct party *left = side ? &client : &served;
    struct party *gone = side ? &served : &client;
    gone->freed = true;
    host_close(side);
    RUN_UNTIL(left->state == SIPWIRE_DISCONNECTED);
    CHECK_STR(left->seen, "Connected>Disconnected down closed in open "
                          "close 1001 clean\n");
    couple_close();
  }
}

#define TEST(test) (RUN(test), all_is_gone(before))

int main(void) {
  warm_up();
  certificates_make();
  unsigned before = descriptors();
  TEST(whole_conversations_by_every_way);
  TEST(a_client_is_served_by_whichever_address_answers);
  TEST(nobody_listens);
  TEST(a_reset_at_the_last_moment_is_told_as_one);
  TEST(words_and_a_reset_at_once_are_a_reset);
  TEST(an_unknown_name_is_a_dns_error);
  TEST(a_stranger_s_certificate_is_refused);
  TEST(a_silent_address_has_the_time_that_is_left);
  TEST(a_refusal_tells_status_and_headers);
  TEST(calls_on_a_disconnected_transport);
  TEST(a_second_connect_joins_the_first);
  TEST(connect_and_disconnect_in_one_go);
  TEST(connect_disconnect_connect_in_one_go);
  TEST(reconnecting_leaves_the_old_link_to_close);
  TEST(disconnecting_delivers_what_was_sent_before);
  TEST(nothing_is_delivered_after_disconnect);
  TEST(nothing_read_is_delivered_after_disconnect);
  TEST(set_server_is_for_the_next_attempt);
  TEST(a_server_can_be_set_later);
  TEST(back_pressure_over_ws);
  TEST(back_pressure_over_wss);
  TEST(unfetched_messages_stop_the_sender);
  TEST(a_queue_takes_exactly_its_limit);
  TEST(a_message_above_the_limit_is_refused_by_its_receiver);
  TEST(a_paused_transport_gets_nothing_until_resumed);
  TEST(a_paused_transport_can_disconnect);
  TEST(a_reset_loses_what_was_sent_after_it);
  TEST(a_reset_loses_what_the_kernel_did_not_take);
  TEST(what_the_kernel_did_not_take_goes_on_when_paused);
  TEST(a_farewell_does_not_stop_what_was_sent_before);
  TEST(a_message_sent_after_an_unseen_end_is_lost_in_order);
  TEST(what_came_before_a_reset_is_delivered);
  TEST(a_peer_that_just_goes_is_closed);
  TEST(fragments_arrive_as_one_message);
  TEST(a_freed_loop_says_going_away);
  certificates_remove();
  return test_summary("transport");
}
