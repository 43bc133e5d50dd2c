/* SPDX-License-Identifier: MIT */
/* Objects freed in every order and at every moment; requests answered late. */
#define _GNU_SOURCE
#include "host.h"

static struct party listener, client, served, guest;

static bool secure, apart;

static void open_all(void) {
  struct sipwire_tls_config tls = server_tls();
  struct sipwire_config config = client_config();
  struct sipwire_loop *here = host_open(0);
  struct sipwire_loop *there = apart ? host_open(1) : here;
  const char *scheme = secure ? "wss" : "ws";
  memset(&served, 0, sizeof served);
  party_listen(&listener, there, NULL, secure ? &tls : NULL, NULL);
  listener.accept_as = &served;
  party_client(&client, here, scheme, "127.0.0.1", &listener, &config);
  config = client_config();
  party_client(&guest, here, scheme, "127.0.0.1", &listener, &config);
}

static void close_all(void) {
  party_free(&listener);
  party_free(&client);
  party_free(&served);
  party_free(&guest);
  for (int i = 0; i < HOSTS; i++)
    if (hosts[i].loop)
      host_close(i);
}


/* Over ws on one loop, over wss on two. */
static void both_ways(void (*test)(void)) {
  for (int way = 0; way < 2; way++) {
    secure = apart = way;
    test();
  }
}

/* ---- What is left of a loop's objects ---------------------------------- */

static void answers_disposed(struct party *party) {
  struct sipwire_transport *transport = party->transport;
  struct sipwire_stats stats;
  char buffer[64];
  if (!transport)
    return;
  CHECK_INT(sipwire_transport_connect(transport, 1), SIPWIRE_EDISPOSED);
  CHECK_INT(sipwire_transport_disconnect(transport, 1), SIPWIRE_EDISPOSED);
  CHECK_INT(sipwire_transport_send(transport, "x", 1, SIPWIRE_FRAME_AUTO, 1),
            SIPWIRE_EDISPOSED);
  CHECK_INT(sipwire_transport_set_server(transport, "ws://x", NULL, 0),
            SIPWIRE_EDISPOSED);
  CHECK_INT(sipwire_transport_state(transport), SIPWIRE_DISCONNECTED);
  CHECK_INT(sipwire_transport_local_address(transport, buffer, 64),
            SIPWIRE_ESTATE);
  CHECK_INT(sipwire_transport_peer_address(transport, buffer, 64),
            SIPWIRE_ESTATE);
  sipwire_transport_pause(transport);
  sipwire_transport_resume(transport);
  sipwire_transport_stats(transport, &stats);
  CHECK_INT(stats.queue, 0);
  CHECK(sipwire_transport_server(transport) != NULL);
}

static void the_loop_is_gone(int index) {
  if (index == 0) {
    answers_disposed(&client);
    answers_disposed(&guest);
    if (apart)
      return;
  }
  answers_disposed(&served);
  if (listener.listener)
    CHECK(sipwire_listener_port(listener.listener) != 0);
}

/* ---- Every order ------------------------------------------------------- */

enum { LOOP, LISTENER, CLIENT, SERVED, REQUEST, THINGS };

static void answer_request(bool accept) {
  static struct party late;
  if (!listener.request)
    return;
  bool gone = !hosts[0].loop || !listener.listener;
  if (accept) {
    memset(&late, 0, sizeof late);
    late.state = SIPWIRE_CONNECTED;
    CHECK_INT(sipwire_request_accept(listener.request, &late, &late.transport),
              gone ? SIPWIRE_ECLOSED : 0);
    CHECK(gone == !late.transport);
    party_free(&late);
  } else {
    CHECK_INT(sipwire_request_refuse(listener.request, 503, NULL, NULL, 0), 0);
  }
  listener.request = NULL;
}

static void listener_free_only(void) {
  sipwire_listener_free(listener.listener);
  listener.listener = NULL;
}

static void free_thing(int thing, bool accept) {
  if (thing == LOOP) {
    host_close(0);
    the_loop_is_gone(0);
  } else if (thing == LISTENER) {
    listener_free_only();
  } else if (thing == CLIENT) {
    party_free(&client);
  } else if (thing == SERVED) {
    party_free(&served);
  } else {
    answer_request(accept);
  }
}

static void free_in_order(const int *order, int number) {
  open_all();
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
  RUN_UNTIL(client.done[1]);
  listener.accept_as = NULL;
  CHECK_INT(sipwire_transport_connect(guest.transport, 0), 0);
  RUN_UNTIL(listener.request);
  for (int i = 0; i < THINGS; i++) {
    free_thing(order[i], number & 1);
    if (number & 2)
      turns(2);
  }
  CHECK(!listener.request);
  close_all();
}

static int permuted(int *order, int from, int number) {
  if (from == THINGS) {
    if (!secure || number % 5 == 0)
      free_in_order(order, number);
    return number + 1;
  }
  for (int i = from; i < THINGS; i++) {
    int first = order[from];
    order[from] = order[i];
    order[i] = first;
    number = permuted(order, from + 1, number);
    order[i] = order[from];
    order[from] = first;
  }
  return number;
}

static void frees_in_every_order(void) {
  int order[THINGS] = {LOOP, LISTENER, CLIENT, SERVED, REQUEST};
  apart = false;
  for (int way = 0; way < 2; way++) {
    secure = way;
    CHECK_INT(permuted(order, 0, 0), 120);
  }
}

/* ---- Every moment ------------------------------------------------------ */

enum victim {
  VICTIM_CLIENT,
  VICTIM_SERVED,
  VICTIM_LISTENER,
  VICTIM_HERE,  /* the client's loop */
  VICTIM_THERE, /* the listener's */
  VICTIMS
};

static enum victim victim;
static unsigned events, fatal_event; /* that is the last one somebody sees */
static bool struck;

static void loop_strike(int index) {
  if (!hosts[index].loop)
    return;
  if (index == 0)
    client.freed = guest.freed = true;
  if (index == 1 || !apart)
    served.freed = listener.freed = true;
  host_close(index);
  the_loop_is_gone(index);
}

static void strike(void) {
  struck = true;
  if (victim == VICTIM_CLIENT)
    party_free(&client);
  else if (victim == VICTIM_SERVED)
    party_free(&served);
  else if (victim == VICTIM_LISTENER)
    party_free(&listener);
  else
    loop_strike(victim == VICTIM_THERE && apart);
}

/* The conversation: three messages there in one go, three back, goodbye. */
static void converse(const struct sipwire_event *event) {
  if (event->type == SIPWIRE_EVENT_STATE && event->up && event->arg == &client)
    for (unsigned tag = 2; tag <= 4; tag++)
      CHECK_INT(party_send(&client, "hello", tag), 0);
  if (event->type == SIPWIRE_EVENT_MESSAGE && event->arg == &served)
    CHECK_INT(party_send(&served, "hello yourself", 5 + served.messages), 0);
  if (event->type == SIPWIRE_EVENT_MESSAGE && event->arg == &client &&
      client.messages == 3)
    CHECK_INT(sipwire_transport_disconnect(client.transport, 9), 0);
  if (++events == fatal_event)
    strike();
}

static bool is_over(const struct party *party) {
  return !party->transport || party->freed ||
         sipwire_transport_state(party->transport) == SIPWIRE_DISCONNECTED;
}

static void start(unsigned fatal) {
  open_all();
  events = 0;
  struck = false;
  fatal_event = fatal;
  on_each_event = converse;
  CHECK_INT(sipwire_transport_connect(client.transport, 1), 0);
}

/* Whoever is left comes to know, and is told of all that it asked for. */
static void see_it_end(void) {
  RUN_UNTIL(client.freed || client.state == SIPWIRE_CONNECTED || struck);
  RUN_UNTIL(is_over(&client) && is_over(&served));
  turns(3);
  if (!client.freed) {
    CHECK_INT(client.done[1], 1);
    for (unsigned tag = 2; tag <= 4; tag++)
      CHECK(client.done[tag] == (client.done[2] != 0));
  }
  for (unsigned tag = 1; tag < TAGS; tag++)
    CHECK(client.done[tag] <= 1 && served.done[tag] <= 1);
  on_each_event = NULL;
  close_all();
}

static unsigned whole_conversation(void) {
  start(0);
  RUN_UNTIL(client.done[9] && is_over(&served));
  CHECK_STR(client.seen, "Disconnected>Connecting\n"
                         "Connecting>Connected up\nconnect 1 ok\n"
                         "send 2 ok\nsend 3 ok\nsend 4 ok\n"
                         "text 'hello yourself'\ntext 'hello yourself'\n"
                         "text 'hello yourself'\n"
                         "Connected>Disconnecting down\n"
                         "Disconnecting>Disconnected\ndisconnect 9 ok\n");
  unsigned count = events;
  on_each_event = NULL;
  close_all();
  return count;
}

static void free_at_each_event(void) {
  unsigned count = whole_conversation();
  CHECK_INT(count, 20);
  for (int i = 0; i < VICTIMS; i++)
    for (unsigned fatal = 1; fatal <= count; fatal += 1 + secure) {
      victim = (enum victim)i;
      start(fatal);
      see_it_end();
    }
}

static void frees_while_any_event_is_handled(void) {
  both_ways(free_at_each_event);
}

/* |fetch| false: with the events of the last step undelivered. */
static void strike_after(int count, bool fetch) {
  start(0);
  turns(count);
  for (int i = 0; i < HOSTS && !fetch; i++)
    if (hosts[i].loop)
      CHECK_INT(sipwire_loop_step(hosts[i].loop, 0), 0);
  strike();
  see_it_end();
}

static void free_after_each_turn(void) {
  for (int i = 0; i < VICTIMS; i++)
    for (int count = 0; count < 24; count += 1 + secure) {
      victim = (enum victim)i;
      strike_after(count, (secure ? count / 2 : count) & 1);
    }
}

static void frees_between_any_two_turns(void) {
  both_ways(free_after_each_turn);
}

/* ---- With unsent data -------------------------------------------------- */

static char block[262144];

static unsigned fill(struct party *party) {
  unsigned tag = 1;
  int error = 0;
  for (; tag < TAGS && !error; tag++) {
    error = sipwire_transport_send(party->transport, block, sizeof block,
                                   SIPWIRE_FRAME_BINARY, tag);
    turn(0);
  }
  CHECK_INT(error, SIPWIRE_EQUEUE_FULL);
  return tag - 2;
}

static unsigned open_and_fill(struct sipwire_config *config) {
  open_all();
  if (config) {
    party_free(&client);
    party_client(&client, hosts[0].loop, secure ? "wss" : "ws", "127.0.0.1",
                 &listener, config);
  }
  CHECK_INT(sipwire_transport_connect(client.transport, 0), 0);
  RUN_UNTIL(client.state == SIPWIRE_CONNECTED);
  sipwire_transport_pause(served.transport);
  return fill(&client);
}

static void unsent_data_outlives_its_transport(void) {
  unsigned count = open_and_fill(NULL);
  party_free(&client);
  CHECK(sipwire_loop_alive(hosts[0].loop));
  sipwire_transport_resume(served.transport);
  RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
  CHECK_INT(served.bytes, count * sizeof block);
  CHECK(strstr(served.seen, "\nConnected>Disconnected down closed in open "
                            "close 1000 clean\n"));
  listener_free_only();
  RUN_UNTIL(!sipwire_loop_alive(hosts[0].loop));
  close_all();
}

static void a_freed_transport_s_peer_gets_everything(void) {
  both_ways(unsent_data_outlives_its_transport);
}

/* Its time limit frees what a peer that does not read holds up. */
static void a_freed_transport_does_not_linger_for_ever(void) {
  struct sipwire_config config = client_config();
  secure = false;
  apart = true;
  config.disconnect_timeout_ms = 60;
  open_and_fill(&config);
  party_free(&client);
  int64_t start_ms = now_ms();
  RUN_UNTIL(!sipwire_loop_alive(hosts[0].loop));
  CHECK(now_ms() - start_ms >= 50);
  close_all();
}

static void disconnect_with_a_peer_that_does_not_read(void) {
  struct sipwire_config config = client_config();
  secure = false;
  apart = true;
  config.disconnect_timeout_ms = 60;
  unsigned count = open_and_fill(&config);
  CHECK_INT(sipwire_transport_disconnect(client.transport, 63), 0);
  RUN_UNTIL(client.done[63] && client.done[count]);
  for (unsigned tag = 1; tag <= count; tag++)
    CHECK_INT(client.done[tag], 1);
  CHECK(client.lost > 0);
  CHECK(strstr(client.seen, "Disconnecting>Disconnected\ndisconnect 63 ok\n"));
  close_all();
}

static void a_loop_with_unsent_data_is_freed_at_once(void) {
  for (int way = 0; way < 8; way++) {
    secure = way & 1;
    apart = way & 2;
    open_and_fill(NULL);
    int64_t start_ms = now_ms();
    if (way & 4 && apart)
      loop_strike(1);
    loop_strike(0);
    CHECK(now_ms() - start_ms < scaled(1000));
    close_all();
  }
}

/* ---- Late answers ------------------------------------------------------ */

static int raw_request(int timeout_ms) {
  struct sipwire_config habits;
  sipwire_config_init(&habits);
  habits.connection_timeout_ms = timeout_ms;
  host_open(0);
  memset(&served, 0, sizeof served);
  memset(&client, 0, sizeof client);
  memset(&guest, 0, sizeof guest);
  party_listen(&listener, hosts[0].loop, NULL, NULL, &habits);
  int fd = raw_socket();
  raw_connect(fd, sipwire_listener_port(listener.listener));
  raw_ask(fd);
  RUN_UNTIL(listener.request);
  CHECK_STR(listener.request->target, "/raw");
  return fd;
}

static int accept_now(void) {
  int error = sipwire_request_accept(listener.request, &served,
                                     &served.transport);
  listener.request = NULL;
  served.state = SIPWIRE_CONNECTED;
  return error;
}

static void a_request_can_be_accepted_much_later(void) {
  int fd = raw_request(5000);
  turns(100);
  CHECK(!raw_closed(fd));
  CHECK_INT(accept_now(), 0);
  raw_frame(fd, 0x81, "hi", 2);
  RUN_UNTIL(served.messages == 1);
  close(fd);
  close_all();
}

/* What a hasty client sends before the answer comes after it. */
static void early_messages_wait_for_the_answer(void) {
  int fd = raw_request(5000);
  raw_frame(fd, 0x81, "early", 5);
  turns(20);
  CHECK_STR(listener.seen, "request /raw\n");
  CHECK_INT(accept_now(), 0);
  RUN_UNTIL(served.messages == 1);
  CHECK_STR(served.seen, "text 'early'\n");
  close(fd);
  close_all();
}

static void a_request_is_refused_after_the_client_left(void) {
  for (int reset = 0; reset < 2; reset++) {
    int fd = raw_request(5000);
    if (reset)
      raw_reset(fd);
    else
      close(fd);
    turns(20);
    CHECK_INT(sipwire_request_refuse(listener.request, 0, NULL, NULL, 0), 0);
    listener.request = NULL;
    turns(20);
    close_all();
  }
}

/* Reading has stopped, so that the client's end may be seen only after. */
static void a_request_is_accepted_after_the_client_left(void) {
  for (int reset = 0; reset < 2; reset++) {
    int fd = raw_request(5000);
    if (reset)
      raw_reset(fd);
    else
      close(fd);
    turns(20);
    int error = accept_now();
    CHECK(error == SIPWIRE_ECLOSED || error == 0);
    if (!error)
      RUN_UNTIL(served.state == SIPWIRE_DISCONNECTED);
    close_all();
  }
}

static void an_unanswered_request_runs_out_of_time(void) {
  int fd = raw_request(60);
  RUN_UNTIL(raw_closed(fd));
  CHECK_INT(accept_now(), SIPWIRE_ECLOSED);
  close(fd);
  close_all();
  fd = raw_request(60);
  RUN_UNTIL(raw_closed(fd));
  close(fd);
  close_all(); /* which refuses it */
}

static void answers_after_the_listener_or_the_loop(void) {
  for (int way = 0; way < 4; way++) {
    int fd = raw_request(5000);
    if (way & 1)
      listener_free_only();
    else
      host_close(0);
    turns(5);
    if (way & 2)
      CHECK_INT(accept_now(), SIPWIRE_ECLOSED);
    else
      CHECK_INT(sipwire_request_refuse(listener.request, 404, "No", NULL, 0),
                0);
    CHECK(!served.transport);
    listener.request = NULL;
    RUN_UNTIL(raw_closed(fd));
    close(fd);
    close_all();
  }
}

/* A request that nobody has fetched is nobody's to answer. */
static void requests_undelivered_when_the_listener_goes(void) {
  int fd = raw_request(5000), second = raw_socket();
  raw_connect(second, sipwire_listener_port(listener.listener));
  raw_ask(second);
  for (int i = 0; i < 20; i++)
    CHECK_INT(sipwire_loop_step(hosts[0].loop, 0), 0);
  sipwire_listener_free(listener.listener);
  listener.listener = NULL;
  turns(5);
  CHECK_STR(listener.seen, "request /raw\n");
  CHECK_INT(accept_now(), SIPWIRE_ECLOSED);
  RUN_UNTIL(raw_closed(fd) && raw_closed(second));
  close(fd);
  close(second);
  close_all();
}

static void nothing_is_freed_by_nothing(void) {
  sipwire_transport_free(NULL);
  sipwire_listener_free(NULL);
  sipwire_timer_free(NULL);
  CHECK_INT(sipwire_loop_free(NULL), 0);
}

#define TEST(test) (RUN(test), all_is_gone(before))

int main(void) {
  warm_up();
  certificates_make();
  unsigned before = descriptors();
  TEST(frees_in_every_order);
  TEST(frees_while_any_event_is_handled);
  TEST(frees_between_any_two_turns);
  TEST(a_freed_transport_s_peer_gets_everything);
  TEST(a_freed_transport_does_not_linger_for_ever);
  TEST(disconnect_with_a_peer_that_does_not_read);
  TEST(a_loop_with_unsent_data_is_freed_at_once);
  TEST(a_request_can_be_accepted_much_later);
  TEST(early_messages_wait_for_the_answer);
  TEST(a_request_is_refused_after_the_client_left);
  TEST(a_request_is_accepted_after_the_client_left);
  TEST(an_unanswered_request_runs_out_of_time);
  TEST(answers_after_the_listener_or_the_loop);
  TEST(requests_undelivered_when_the_listener_goes);
  TEST(nothing_is_freed_by_nothing);
  certificates_remove();
  return test_summary("lifetime");
}
