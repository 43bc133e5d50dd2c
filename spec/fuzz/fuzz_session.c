/* SPDX-License-Identifier: MIT */
/* link: -Wl,--wrap=malloc,--wrap=calloc,--wrap=realloc,--wrap=strdup */
/* link: -Wl,--wrap=free,--wrap=RAND_bytes,--wrap=socket,--wrap=bind */
/* link: -Wl,--wrap=listen,--wrap=setsockopt,--wrap=getsockname,--wrap=accept4
 */
/* link: -Wl,--wrap=close,--wrap=poll,--wrap=epoll_create1 */
/* link: -Wl,--wrap=asprintf */
/* Whole sessions: an input is a program of calls of a host, doings of peers,
   passing of time and failing of memory, run on the library with nothing real
   below it (see session/).  Every event is held against what the calls and
   the peers' bytes allow; at the end everything must come to rest by itself
   and leave nothing behind.

   The first three bytes are options, then comes one byte for each order; its
   lower five bits are a letter, see perform(). */
#include "fuzz.h"

#include <sanitizer/lsan_interface.h>

#include "session/session.h"
#include "sipwire.h"

enum { PARTIES = 5, CLIENTS = 3, CALLS = 1024, PORT = 5000, DRAIN_MAX = 5000 };

/* A transport and what we know of it. */
struct party {
  struct sipwire_transport *transport;
  bool is_client, disposed;
  bool paused;             /* by the host */
  enum sipwire_state told; /* by events; */
  enum sipwire_state now;  /* by the calls' rules, and the network's events */
  unsigned connection;     /* number of the present, or last, open one */
  struct peer *peer;       /* at its other end */
  size_t delivered;        /* messages of it */
  uint64_t messages_in, messages_out, bytes_in, bytes_out;
};

/* A call that asked for a completion; its tag is its index + 1. */
struct call {
  struct party *party;
  enum sipwire_event_type type;
  bool known, done; /* whether |expected| is, and whether it came */
  int expected;
  unsigned connection; /* a send's: which one, */
  struct peer *peer;
  size_t index; /* and the how many-th of it */
};

static struct sipwire_loop *loop;
static struct sipwire_listener *listener;
static struct sipwire_request *request;
static struct party parties[PARTIES];
static struct call calls[CALLS];
static unsigned call_count, party_index, peer_index;
static struct sipwire_config config;
static bool named;
static uint8_t big[65536];
static size_t big_left; /* that many more such bytes: they take time */

/* ---- Expectations ------------------------------------------------------ */

/* What all pending calls of a kind are going to be told. */
static void expect(struct party *party, enum sipwire_event_type type,
                   int error) {
  for (unsigned i = 0; i < call_count; i++)
    if (calls[i].party == party && calls[i].type == type && !calls[i].known) {
      calls[i].known = true;
      calls[i].expected = error;
    }
}

static uint64_t call_begin(bool wanted) {
  return wanted && call_count < CALLS ? call_count + 1 : 0;
}

static struct call *call_note(uint64_t tag, struct party *party,
                              enum sipwire_event_type type) {
  static struct call unasked;
  struct call *call = tag ? &calls[call_count++] : &unasked;
  *call = (struct call){.party = party, .type = type};
  return call;
}

static void check_state(const struct party *party) {
  REQUIRE(sipwire_transport_state(party->transport) == party->now);
}

/* ---- Events ------------------------------------------------------------ */

/* DESIGN: which state may follow which. */
static bool may_follow(enum sipwire_state before, enum sipwire_state after) {
  switch (before) {
  case SIPWIRE_DISCONNECTED:
    return after == SIPWIRE_CONNECTING;
  case SIPWIRE_CONNECTING:
    return after != SIPWIRE_CONNECTING;
  case SIPWIRE_CONNECTED:
    return after == SIPWIRE_DISCONNECTING || after == SIPWIRE_DISCONNECTED;
  case SIPWIRE_DISCONNECTING:
    return after == SIPWIRE_CONNECTING || after == SIPWIRE_DISCONNECTED;
  }
  return false;
}

static struct peer *newest_peer(uint16_t port) {
  for (unsigned i = peer_count; i-- > 0;)
    if (peers[i].port == port && !peers[i].is_client)
      return &peers[i];
  return NULL;
}

static void on_up(struct party *party) {
  party->now = SIPWIRE_CONNECTED;
  party->connection++;
  party->peer = newest_peer((uint16_t)(PORT + (party - parties)));
  party->delivered = 0;
  party->paused = false;
  REQUIRE(party->peer && party->peer->frames_at &&
          party->peer->read >= party->peer->frames_at);
  expect(party, SIPWIRE_EVENT_CONNECT_DONE, 0);
}

/* The bytes are there, and are what they are said to be. */
static void check_words(const struct sipwire_info *info) {
  const char *fields = info->http_headers;
  size_t length = info->http_headers_length;
  REQUIRE(info->text && strlen(info->text) < 512);
  REQUIRE(fields || !length);
  if (length)
    REQUIRE(length > 3 && !memcmp(fields + length - 2, "\r\n", 2) &&
            memchr(fields, ':', length));
  REQUIRE(info->close_reason_length <= 123);
  if (info->close_reason_length)
    REQUIRE(utf8_is_valid((const uint8_t *)info->close_reason,
                          info->close_reason_length));
}

static void check_info(const struct sipwire_event *event) {
  const struct sipwire_info *info = event->info;
  REQUIRE(info && info->text && *info->text);
  REQUIRE(!info->was_clean || info->close_code);
  REQUIRE((event->previous == SIPWIRE_CONNECTED) == (info->close_code != 0));
  check_words(info);
  if (event->error == SIPWIRE_ECLOSED && !libc_failures)
    REQUIRE(info->was_clean ==
            (info->close_code && info->close_code != SIPWIRE_CLOSE_ABNORMAL));
  if (event->error == SIPWIRE_ENOMEM)
    REQUIRE(libc_failures);
  if (event->error == SIPWIRE_ECLOSED && info->was_clean)
    REQUIRE(event->previous != SIPWIRE_CONNECTED ||
            close_code_is_valid((unsigned)info->close_code) ||
            info->close_code == SIPWIRE_CLOSE_NO_STATUS);
}

static void on_network_end(struct party *party,
                           const struct sipwire_event *event) {
  party->now = SIPWIRE_DISCONNECTED;
  if (event->previous == SIPWIRE_DISCONNECTING) {
    REQUIRE(!event->error && !event->info);
    expect(party, SIPWIRE_EVENT_DISCONNECT_DONE, 0);
    return;
  }
  REQUIRE(event->error < 0);
  check_info(event);
  expect(party, SIPWIRE_EVENT_CONNECT_DONE, event->error);
}

static void on_state(struct party *party, const struct sipwire_event *event) {
  REQUIRE(event->previous == party->told);
  REQUIRE(may_follow(event->previous, event->state));
  party->told = event->state;
  REQUIRE(event->up == (event->state == SIPWIRE_CONNECTED));
  REQUIRE(event->down == (event->previous == SIPWIRE_CONNECTED));
  if (event->up)
    on_up(party);
  else if (event->state == SIPWIRE_DISCONNECTED)
    on_network_end(party, event);
  if (event->up || event->state == SIPWIRE_CONNECTING ||
      event->state == SIPWIRE_DISCONNECTING)
    REQUIRE(!event->error && !event->info);
}

static void on_done(struct party *party, const struct sipwire_event *event) {
  REQUIRE(event->tag && event->tag <= call_count);
  struct call *call = &calls[event->tag - 1];
  REQUIRE(call->party == party && call->type == event->type);
  REQUIRE(!call->done);
  call->done = true;
  if (call->type != SIPWIRE_EVENT_SEND_DONE) {
    REQUIRE(call->known && call->expected == event->error);
  } else if (!event->error) {
    REQUIRE(call->peer->kept > call->index); /* it is there */
  } else { /* told after the end of the connection */
    REQUIRE(call->connection < party->connection ||
            party->told != SIPWIRE_CONNECTED);
  }
}

static void on_message(struct party *party, const struct sipwire_event *event) {
  const struct peer *peer = party->peer;
  REQUIRE(party->told == SIPWIRE_CONNECTED && party->now == party->told);
  const struct said *said = said_at(&peer->messages, party->delivered++);
  REQUIRE(said->length == event->length && said->binary == event->binary);
  REQUIRE(!said->length || !memcmp(peer->messages.all.data + said->at,
                                   event->data, said->length));
  party->messages_in++;
  party->bytes_in += event->length;
}

static void on_request(const struct sipwire_event *event) {
  REQUIRE(listener && event->listener == listener);
  if (!request) {
    request = event->request;
  } else if (sipwire_request_refuse(event->request, 503, NULL, NULL, 0)) {
    memory_fail(0, false);
    REQUIRE(sipwire_request_refuse(event->request, 503, NULL, NULL, 0) == 0);
  }
}

static bool next(void) {
  struct sipwire_event event;
  int result = sipwire_loop_next(loop, &event);
  REQUIRE(result == 0 || result == 1);
  if (!result)
    return false;
  struct party *party = event.arg;
  if (event.type == SIPWIRE_EVENT_REQUEST) {
    on_request(&event);
    return true;
  }
  REQUIRE(event.transport == party->transport && !party->disposed);
  if (event.type == SIPWIRE_EVENT_STATE)
    on_state(party, &event);
  else if (event.type == SIPWIRE_EVENT_MESSAGE)
    on_message(party, &event);
  else
    on_done(party, &event);
  check_state(party);
  return true;
}

static void drain(void) {
  for (unsigned count = 0; next(); count++)
    REQUIRE(count < DRAIN_MAX);
}

/* ---- The host's calls -------------------------------------------------- */

static void may_fail(int error) {
  REQUIRE(error == 0 || (error == SIPWIRE_ENOMEM && libc_failures));
}

static void open_party(struct party *party) {
  char url[64], proxy[64];
  const char *host = named ? "name" : "127.0.0.1";
  unsigned port = PORT + (unsigned)(party - parties);
  if (party->transport)
    return;
  memset(party, 0, sizeof *party);
  snprintf(url, sizeof url, "ws://%s:%u/x", host, port);
  snprintf(proxy, sizeof proxy, "http://u:p@%s:%u", host, port);
  config.server = url;
  config.proxy = proxied ? proxy : NULL;
  config.arg = party;
  party->is_client = true;
  may_fail(sipwire_transport_new(loop, &config, &party->transport));
}

static void do_connect(struct party *party, bool wanted) {
  uint64_t tag = call_begin(wanted);
  enum sipwire_state before = party->now;
  int error = sipwire_transport_connect(party->transport, tag);
  REQUIRE(party->is_client || error == SIPWIRE_ESTATE);
  if (!error) {
    struct call *call = call_note(tag, party, SIPWIRE_EVENT_CONNECT_DONE);
    call->known = before == SIPWIRE_CONNECTED;
    if (before != SIPWIRE_CONNECTED)
      party->now = SIPWIRE_CONNECTING;
    if (before == SIPWIRE_DISCONNECTING)
      expect(party, SIPWIRE_EVENT_DISCONNECT_DONE, SIPWIRE_EABORTED);
  } else if (party->is_client) {
    may_fail(error);
  }
  check_state(party);
}

static void do_disconnect(struct party *party, bool wanted) {
  uint64_t tag = call_begin(wanted);
  int error = sipwire_transport_disconnect(party->transport, tag);
  if (!error) {
    struct call *call = call_note(tag, party, SIPWIRE_EVENT_DISCONNECT_DONE);
    call->known = party->now == SIPWIRE_DISCONNECTED;
    if (party->now == SIPWIRE_CONNECTING)
      expect(party, SIPWIRE_EVENT_CONNECT_DONE, SIPWIRE_EABORTED);
    if (party->now != SIPWIRE_DISCONNECTED)
      party->now = SIPWIRE_DISCONNECTING;
  } else {
    may_fail(error);
  }
  check_state(party);
}

static void note_sent(struct party *party, const uint8_t *data, size_t length,
                      bool binary, uint64_t tag) {
  struct call *call = call_note(tag, party, SIPWIRE_EVENT_SEND_DONE);
  call->connection = party->connection;
  call->peer = party->peer;
  call->index = party->peer->promises.length / sizeof(struct promise);
  peer_promise(party->peer,
               (struct promise){sum_of(data, length), length, binary});
  party->messages_out++;
  party->bytes_out += length;
}

/* Promised before the call, which may send at once, and taken back after one
   that failed. */
static void do_send(struct party *party, const uint8_t *data, size_t length,
                    enum sipwire_frame frame) {
  struct sipwire_stats stats;
  uint64_t tag = call_begin(true);
  struct peer *peer = party->peer;
  enum sipwire_frame kind = frame == SIPWIRE_FRAME_AUTO ? config.frame : frame;
  bool text = kind != SIPWIRE_FRAME_BINARY && utf8_is_valid(data, length);
  sipwire_transport_stats(party->transport, &stats);
  bool fits = stats.queue < config.send_queue_limit &&
              length <= config.send_queue_limit - stats.queue;
  if (party->now == SIPWIRE_CONNECTED)
    note_sent(party, data, length, !text, tag);
  int error =
      sipwire_transport_send(party->transport, data, length, frame, tag);
  check_state(party);
  if (party->now != SIPWIRE_CONNECTED) {
    REQUIRE(error == SIPWIRE_ESTATE);
    return;
  }
  if (kind == SIPWIRE_FRAME_TEXT && !text)
    REQUIRE(error == SIPWIRE_EUTF8);
  else if (error != 0 && error != SIPWIRE_ENOMEM)
    REQUIRE(error == SIPWIRE_EQUEUE_FULL && !fits);
  else
    may_fail(error);
  if (!error)
    return;
  call_count -= tag != 0;
  peer->promises.length -= sizeof(struct promise);
  party->messages_out--;
  party->bytes_out -= length;
}

static void dispose(struct party *party) {
  sipwire_transport_free(party->transport);
  party->transport = NULL;
  party->disposed = true;
  for (unsigned i = 0; i < call_count; i++)
    if (calls[i].party == party)
      calls[i].done = true;
}

static void accept_request(void) {
  struct party *party = &parties[CLIENTS];
  struct sipwire_request *asked = request;
  if (!asked)
    return;
  if (party->transport && !parties[CLIENTS + 1].transport)
    party++;
  if (party->transport) {
    request = NULL;
    if (sipwire_request_refuse(asked, 0, NULL, NULL, 0))
      request = asked;
    return;
  }
  unsigned port = (unsigned)atoi(strchr(asked->peer_address, ':') + 1);
  REQUIRE(port < peer_count && peers[port].is_client);
  memset(party, 0, sizeof *party);
  party->now = party->told = SIPWIRE_CONNECTED;
  party->peer = &peers[port];
  int error = sipwire_request_accept(asked, party, &party->transport);
  if (error == SIPWIRE_ENOMEM)
    may_fail(error);
  else
    request = NULL;
  REQUIRE(error == 0 || error == SIPWIRE_ENOMEM || error == SIPWIRE_ECLOSED);
}

static void refuse_request(void) {
  struct sipwire_header header = {"Retry-After", "5"};
  if (!request)
    return;
  int error = sipwire_request_refuse(request, 486, "Busy", &header, 1);
  may_fail(error);
  if (!error)
    request = NULL;
}

/* Once all that the peer sent was read and handed out, nothing is missing. */
static void check_rest(void) {
  for (int i = 0; i < PARTIES; i++) {
    const struct party *party = &parties[i];
    const struct peer *peer = party->peer;
    if (!party->transport || party->now != SIPWIRE_CONNECTED)
      continue;
    REQUIRE(peer->stream);
    REQUIRE(party->paused || peer->room != SIZE_MAX ||
            !stream_is_paused(peer->stream));
    if (peer->read == peer->in.length && !libc_failures) {
      REQUIRE(party->delivered == said_count(&peer->messages));
      REQUIRE(!peer->over);
    }
  }
}

static void tick(int timeout_ms) {
  REQUIRE(sipwire_loop_step(loop, timeout_ms) == 0);
  drain();
}

/* ---- The program ------------------------------------------------------- */

static size_t size_of(uint8_t number) {
  static const size_t sizes[] = {125,   126, 127, 1000, 15, 16,   17, 65535,
                                 65536, 63,  64,  65,   1,  2000, 0,  300};
  return sizes[number % 16];
}

/* Raw bytes of the program, or many of a kind. */
static const uint8_t *payload(struct input *input, bool large, size_t *length) {
  uint8_t number = input_byte(input);
  if (large) {
    *length = size_of(number);
    if (*length > big_left)
      *length = big_left != 0;
    big_left -= *length;
    memset(big, number & 0x80 ? 0xFF : 'x', *length);
    return big;
  }
  *length = number & 63;
  return input_bytes(input, length);
}

static void perform_frame(struct peer *peer, struct input *input, bool large) {
  static const uint8_t firsts[] = {0x81, 0x82, 0x89, 0x88, 0x8A, 0x01,
                                   0x00, 0x80, 0x02, 0x89, 0x81, 0x82,
                                   0x83, 0xC1, 0x09, 0x81};
  size_t length;
  uint8_t kind = input_byte(input) & 15;
  const uint8_t *data = payload(input, large, &length);
  if (kind == 15) {
    data = (const uint8_t *)"\r\n\r\n";
    length = length & 1 ? 2 : 4;
  }
  peer_frame(peer, firsts[kind], data, length);
}

static void perform_peer(char order, bool upper, struct input *input) {
  static const size_t rooms[] = {0, 1, 2, 7, 100, 1000, 65536, SIZE_MAX};
  static const int faults[] = {111, 113, 110, 101};
  struct peer *peer = &peers[peer_index % peer_count];
  size_t length;
  const uint8_t *data;
  switch (order) {
  case 'a':
    peer->accepted = peer->accepted || (!peer->is_client && !peer->refused);
    break;
  case 'b':
    data = payload(input, upper, &length);
    peer_says(peer, data, length);
    break;
  case 'e':
    if (!peer->accepted && !peer->is_client)
      peer->refused = faults[input_byte(input) & 3];
    break;
  case 'f':
    *(upper ? &peer->rst : &peer->fin) = true;
    break;
  case 'g':
    if (peer_shakes_hands(peer, upper))
      peer->accepted = true;
    break;
  case 'h':
    peer->chunk = (size_t)input_byte(input) + 1;
    break;
  case 'm':
    perform_frame(peer, input, upper);
    break;
  case 'r':
    peer->room = rooms[input_byte(input) & 7];
    break;
  default:
    break;
  }
}

static void perform_host(char order, bool upper, struct input *input) {
  struct party *party = &parties[party_index];
  size_t length;
  const uint8_t *data;
  if (!party->transport)
    return;
  switch (order) {
  case 'c':
    do_connect(party, !upper);
    break;
  case 'd':
    do_disconnect(party, !upper);
    break;
  case 'p':
    party->paused = !upper;
    if (upper)
      sipwire_transport_resume(party->transport);
    else
      sipwire_transport_pause(party->transport);
    break;
  case 's':
    data = payload(input, upper, &length);
    do_send(party, data, length, (enum sipwire_frame)(length % 5 % 3));
    break;
  case 'v':
    dispose(party);
    break;
  default:
    break;
  }
}

static void perform_world(char order, bool upper, struct input *input) {
  static const unsigned delays[] = {1, 10, 100, 1000, 5000, 8, 60000, 900};
  switch (order) {
  case 'i':
    if (listening)
      peer_new(0, true);
    break;
  case 'j':
    peer_index = input_byte(input);
    break;
  case 'k':
    fake_ms += delays[input_byte(input) & 7];
    break;
  case 'l':
    lookups_held = !upper;
    break;
  case 'n':
    if (upper)
      drain();
    else
      next();
    break;
  case 'o':
    open_party(&parties[party_index % CLIENTS]);
    break;
  case 'q':
    if (upper)
      refuse_request();
    else
      accept_request();
    break;
  case 'u':
    REQUIRE(sipwire_loop_step(loop, 0) == 0);
    break;
  case 'w':
    party_index = input_byte(input) % PARTIES;
    break;
  case 'x':
    memory_fail(input_byte(input) + 1u, upper);
    break;
  case 'y':
    memory_fail(0, false);
    break;
  case 'z':
    random_fail(input_byte(input) % 4 + 1u);
    break;
  default:
    tick(upper ? 50 : 0);
    check_rest();
  }
}

static void perform(uint8_t byte, struct input *input) {
  char order = (char)('a' - 1 + (byte & 31));
  bool upper = !(byte & 32);
  unsigned before = peer_count;
  if (order < 'a')
    order = 't';
  if (strchr("cdpsv", order))
    perform_host(order, upper, input);
  else if (!strchr("abefghmr", order))
    perform_world(order, upper, input);
  else if (peer_count)
    perform_peer(order, upper, input);
  if (peer_count > before)
    peer_index = peer_count - 1;
}

/* ---- From the beginning to the end ------------------------------------- */

static void configure(struct input *input) {
  static const int intervals[] = {0, 10, 1000, 0}, answers[] = {0, 15, 500, 9};
  static const int connects[] = {0, 100, 5000, 5000};
  static const int ends[] = {1, 100, 5000, 1000};
  static const size_t messages[] = {1, 16, 125, 65536};
  static const size_t queues[] = {1, 64, 1000, 200000};
  uint8_t a = input_byte(input), b = input_byte(input), c = input_byte(input);
  sipwire_config_init(&config);
  raw_mode = config.raw = a & 2;
  config.frame = (enum sipwire_frame)((a >> 2 & 3) % 3);
  config.keep_alive_method = (enum sipwire_keep_alive)(a >> 4 & 1);
  named = a & 32;
  address_count = (unsigned)(a >> 6) % 4;
  config.keep_alive_interval_ms = intervals[b & 3];
  config.keep_alive_timeout_ms = answers[b >> 2 & 3];
  config.connection_timeout_ms = connects[b >> 4 & 3];
  config.disconnect_timeout_ms = ends[b >> 6];
  message_limit = config.max_message_size = messages[c & 3];
  config.send_queue_limit = queues[c >> 2 & 3];
  dials_succeed = c & 32;
  if (c & 64)
    config.username = config.password = "guest";
  proxied = c & 128;
}

static void open_listener(void) {
  struct sipwire_config habits = config;
  struct sipwire_listener_config served = {.transport = &habits};
  habits.username = habits.password = NULL;
  habits.tls.verify = false;
  may_fail(sipwire_listener_new(loop, &served, &listener));
}

static void begin(struct input *input) {
  uint8_t options = input_left(input) > 2 ? input->at[2] : 0;
  libc_reset();
  uv_reset();
  streams_reset();
  peers_reset();
  memset(parties, 0, sizeof parties);
  call_count = party_index = peer_index = 0;
  big_left = 300000;
  lookups_held = false;
  listener = NULL;
  request = NULL;
  REQUIRE(sipwire_loop_new(NULL, &loop) == 0);
  configure(input);
  if (options & 16)
    open_listener();
  open_party(&parties[0]);
}

/* All that is asked to end does, with peers that say nothing any more. */
static void come_to_rest(bool by_dispose) {
  for (int i = 0; i < PARTIES; i++)
    if (parties[i].transport && by_dispose)
      dispose(&parties[i]);
    else if (parties[i].transport)
      do_disconnect(&parties[i], true);
  if (request)
    REQUIRE(sipwire_request_refuse(request, 0, NULL, NULL, 0) == 0);
  request = NULL;
  sipwire_listener_free(listener);
  listener = NULL;
  for (unsigned i = 0; i < peer_count; i++)
    peers[i].chunk = SIZE_MAX;
  for (unsigned turns = 0; sipwire_loop_alive(loop); turns++) {
    REQUIRE(turns < 2000);
    tick(-1);
    REQUIRE(!stuck || !sipwire_loop_alive(loop));
  }
  tick(0);
  for (int i = 0; i < PARTIES; i++)
    if (parties[i].transport)
      REQUIRE(parties[i].told == SIPWIRE_DISCONNECTED);
  for (unsigned i = 0; i < call_count; i++)
    REQUIRE(calls[i].done);
}

static void check_counts(const struct party *party) {
  struct sipwire_stats stats;
  sipwire_transport_stats(party->transport, &stats);
  REQUIRE(stats.messages_in == party->messages_in);
  REQUIRE(stats.messages_out == party->messages_out);
  REQUIRE(stats.bytes_in == party->bytes_in);
  REQUIRE(stats.bytes_out == party->bytes_out);
}

static void end(bool abruptly) {
  if (!abruptly)
    come_to_rest(call_count & 1);
  for (int i = 0; i < PARTIES; i++)
    if (parties[i].transport)
      check_counts(&parties[i]);
  REQUIRE(sipwire_loop_free(loop) == 0);
  for (int i = 0; i < PARTIES; i++)
    if (parties[i].transport) {
      REQUIRE(sipwire_transport_connect(parties[i].transport, 1) ==
              SIPWIRE_EDISPOSED);
      sipwire_transport_free(parties[i].transport);
    }
  if (request)
    REQUIRE(sipwire_request_refuse(request, 0, NULL, NULL, 0) == 0);
  sipwire_listener_free(listener);
  if (memory_alive)
    __lsan_do_leak_check(); /* says who allocated it */
  REQUIRE(memory_alive == 0);
  REQUIRE(!listening);
  for (unsigned i = 0; i < peer_count; i++) {
    REQUIRE(!peers[i].stream && !peers[i].fd_open);
    REQUIRE(peers[i].answers <= peers[i].crlfcrlfs);
  }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size};
  bool abruptly = size && data[0] & 1;
  begin(&input);
  while (input_left(&input))
    perform(input_byte(&input), &input);
  memory_fail(0, false);
  random_fail(0);
  lookups_held = false;
  end(abruptly);
  return 0;
}
