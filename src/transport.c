/* SPDX-License-Identifier: MIT */
/* Turns calls and news of links into inputs of the state machine, and its
   actions into calls of links and events.  Must not call user code.

   Design notes.
   An attempt is what a transport knows of one link.  It is shared by the
   transport, the link (until it says down, or is released) and every queued
   item that speaks of it; an item whose attempt is not the transport's any
   more is news of a link that was let go, and is dropped.

   Nothing may fail once the network has spoken: the events that an attempt
   can cause are made with the attempt, those that a call causes before the
   call changes anything. */

#define _GNU_SOURCE
#include "transport.h"

#include <stdlib.h>
#include <string.h>

#include "fsm.h"
#include "inbox.h"
#include "link.h"
#include "loop.h"
#include "options.h"
#include "utf8.h"

/* Undelivered bytes of one link at which it stops reading, and at which it
   reads again.  A message counts a bit more than its bytes. */
enum { INBOX_HIGH = 262144, INBOX_LOW = 65536, MESSAGE_COST = 64 };

/* An event that a transition is told by. */
struct transition {
  struct sw_item item; /* first */
  struct sipwire_transport *transport;
  struct attempt *attempt; /* whose link caused it, or NULL */
  enum sipwire_state state, previous;
  bool up, down;
};

struct attempt {
  struct sw_inbox_owner owner; /* of its messages; first */
  unsigned references;
  struct sipwire_transport *transport;
  struct sw_link *link; /* NULL once it is down or released */
  size_t undelivered;   /* see INBOX_HIGH */
  struct sw_item up, down;
  struct transition *up_event, *down_event; /* NULL once used */
  int error;                                /* why the link went down */
  struct sipwire_info info;
  char *strings; /* that |info| points to */
};

/* The wish to hear of a call's completion. */
struct ticket {
  struct sw_item item; /* first, so that a ticket can wait in an sw_queue */
  struct sipwire_transport *transport;
  struct attempt *attempt; /* with the error's info, or NULL */
  enum sipwire_event_type type;
  uint64_t tag;
  int error;
};

/* The wish to hear that a message was sent. */
struct receipt {
  struct sw_mark mark; /* first */
  struct sw_item item;
  struct sipwire_transport *transport;
  uint64_t tag;
  int error;
  bool refused; /* by the link, during the call: told in the next tick */
};

struct sipwire_transport {
  unsigned references;
  struct sipwire_loop *loop;
  struct sw_options *options;
  struct sw_target *target;
  struct attempt *attempt;
  enum sipwire_state state;
  bool disposed, accepted;
  void *arg;
  struct sw_queue connects, disconnects; /* tickets of pending calls */
  struct sipwire_stats stats;
};

/* How an event gets into the loop: in this tick if the network caused it, in
   the next if the user did. */
typedef void (*push_fn)(struct sipwire_loop *loop, struct sw_item *item);

/* ---- Lifetimes --------------------------------------------------------- */

static struct sipwire_transport *ref(struct sipwire_transport *transport) {
  transport->references++;
  return transport;
}

static void unref(struct sipwire_transport *transport) {
  if (--transport->references)
    return;
  sw_target_unref(transport->target);
  sw_options_unref(transport->options);
  sw_loop_unref(transport->loop);
  free(transport);
}

static struct attempt *attempt_ref(struct attempt *attempt) {
  attempt->references++;
  return attempt;
}

static void transition_free(struct transition *event);

static void attempt_unref(struct attempt *attempt) {
  if (!attempt || --attempt->references)
    return;
  transition_free(attempt->up_event);
  transition_free(attempt->down_event);
  free(attempt->strings);
  unref(attempt->transport);
  free(attempt);
}

static bool is_current(const struct attempt *attempt) {
  return attempt->transport->attempt == attempt &&
         !attempt->transport->disposed;
}

static void set_event(struct sipwire_event *event, enum sipwire_event_type type,
                      const struct sipwire_transport *transport) {
  event->type = type;
  event->transport = (struct sipwire_transport *)(uintptr_t)transport;
  event->arg = transport->arg;
}

static void set_error(struct sipwire_event *event, int error,
                      const struct attempt *attempt) {
  event->error = error;
  event->info = attempt ? &attempt->info : NULL;
}

/* ---- Transitions ------------------------------------------------------- */

static enum sw_delivery transition_deliver(struct sw_item *item,
                                           struct sipwire_event *event) {
  const struct transition *transition = (struct transition *)item;
  if (transition->transport->disposed)
    return SW_SILENT;
  set_event(event, SIPWIRE_EVENT_STATE, transition->transport);
  event->state = transition->state;
  event->previous = transition->previous;
  event->up = transition->up;
  event->down = transition->down;
  if (transition->attempt)
    set_error(event, transition->attempt->error, transition->attempt);
  return SW_EVENT;
}

static void transition_free(struct transition *event) {
  if (!event)
    return;
  if (event->transport)
    unref(event->transport);
  attempt_unref(event->attempt);
  free(event);
}

static void transition_release(struct sw_item *item) {
  transition_free((struct transition *)item);
}

static const struct sw_item_class transition_class = {transition_deliver,
                                                      transition_release};

/* Without references yet: an attempt's own events would keep it alive. */
static struct transition *transition_new(void) {
  struct transition *event = calloc(1, sizeof *event);
  if (event)
    event->item.class = &transition_class;
  return event;
}

/* ---- Tickets ----------------------------------------------------------- */

static enum sw_delivery ticket_deliver(struct sw_item *item,
                                       struct sipwire_event *event) {
  const struct ticket *ticket = (struct ticket *)item;
  if (ticket->transport->disposed)
    return SW_SILENT;
  set_event(event, ticket->type, ticket->transport);
  event->tag = ticket->tag;
  set_error(event, ticket->error, ticket->attempt);
  return SW_EVENT;
}

static void ticket_release(struct sw_item *item) {
  struct ticket *ticket = (struct ticket *)item;
  unref(ticket->transport);
  attempt_unref(ticket->attempt);
  free(ticket);
}

static const struct sw_item_class ticket_class = {ticket_deliver,
                                                  ticket_release};

static struct ticket *ticket_new(struct sipwire_transport *transport,
                                 enum sipwire_event_type type, uint64_t tag) {
  struct ticket *ticket = calloc(1, sizeof *ticket);
  if (!ticket)
    return NULL;
  ticket->item.class = &ticket_class;
  ticket->transport = ref(transport);
  ticket->type = type;
  ticket->tag = tag;
  return ticket;
}

static void tickets_complete(struct sipwire_transport *transport,
                             struct sw_queue *tickets, int error,
                             struct attempt *attempt, push_fn push) {
  struct sw_node *node;
  while ((node = sw_queue_pop(tickets))) {
    struct ticket *ticket = (struct ticket *)node;
    ticket->error = error;
    if (attempt)
      ticket->attempt = attempt_ref(attempt);
    push(transport->loop, &ticket->item);
  }
}

static void tickets_drop(struct sw_queue *tickets) {
  struct sw_node *node;
  while ((node = sw_queue_pop(tickets)))
    ticket_release((struct sw_item *)node);
}

/* ---- Steps of the state machine ---------------------------------------- */

/* Takes a step that nothing can stop any more.  |event| is needed if the state
   changes, |attempt| if the link caused it. */
static void take_step(struct sipwire_transport *transport, struct sw_step step,
                      struct transition *event, struct attempt *attempt,
                      push_fn push) {
  struct attempt *cause = attempt && attempt->error ? attempt : NULL;
  if (step.next != transport->state) {
    event->transport = ref(transport);
    event->previous = transport->state;
    event->state = step.next;
    event->up = step.actions & SW_ACT_UP;
    event->down = step.actions & SW_ACT_DOWN;
    if (cause && step.actions & (SW_ACT_ERROR | SW_ACT_CONNECT_FAILED))
      event->attempt = attempt_ref(cause);
    transport->state = step.next;
    push(transport->loop, &event->item);
  }
  if (step.actions & SW_ACT_CONNECT_DONE)
    tickets_complete(transport, &transport->connects, 0, NULL, push);
  if (step.actions & SW_ACT_CONNECT_FAILED)
    tickets_complete(transport, &transport->connects, attempt->error, attempt,
                     push);
  if (step.actions & SW_ACT_CONNECT_ABORTED)
    tickets_complete(transport, &transport->connects, SIPWIRE_EABORTED, NULL,
                     push);
  if (step.actions & SW_ACT_DISCONNECT_DONE)
    tickets_complete(transport, &transport->disconnects, 0, NULL, push);
  if (step.actions & SW_ACT_DISCONNECT_ABORTED)
    tickets_complete(transport, &transport->disconnects, SIPWIRE_EABORTED, NULL,
                     push);
}

/* ---- Inputs: the link is up, the link is down -------------------------- */

static enum sw_delivery up_deliver(struct sw_item *item,
                                   struct sipwire_event *event) {
  struct attempt *attempt = SW_OWNER(item, struct attempt, up);
  struct sipwire_transport *transport = attempt->transport;
  (void)event;
  if (!is_current(attempt))
    return SW_SILENT;
  struct sw_step step = sw_fsm_step(transport->state, SW_IN_LINK_UP);
  struct transition *transition = NULL;
  if (step.next != transport->state) {
    transition = attempt->up_event;
    attempt->up_event = NULL;
  }
  take_step(transport, step, transition, NULL, sw_loop_event_now);
  return SW_SILENT;
}

static void up_release(struct sw_item *item) {
  attempt_unref(SW_OWNER(item, struct attempt, up));
}

static const struct sw_item_class up_class = {up_deliver, up_release};

static enum sw_delivery down_deliver(struct sw_item *item,
                                     struct sipwire_event *event) {
  struct attempt *attempt = SW_OWNER(item, struct attempt, down);
  struct sipwire_transport *transport = attempt->transport;
  (void)event;
  if (!is_current(attempt))
    return SW_SILENT;
  struct transition *transition = attempt->down_event;
  attempt->down_event = NULL;
  take_step(transport, sw_fsm_step(transport->state, SW_IN_LINK_DOWN),
            transition, attempt, sw_loop_event_now);
  transport->attempt = NULL;
  attempt_unref(attempt);
  return SW_SILENT;
}

static void down_release(struct sw_item *item) {
  attempt_unref(SW_OWNER(item, struct attempt, down));
}

static const struct sw_item_class down_class = {down_deliver, down_release};

/* ---- Input: messages --------------------------------------------------- */

static bool message_deliver(struct sw_inbox_owner *owner, const uint8_t *data,
                            size_t length, bool binary,
                            struct sipwire_event *event) {
  struct attempt *attempt = (struct attempt *)owner;
  struct sipwire_transport *transport = attempt->transport;
  if (!is_current(attempt) || transport->state != SIPWIRE_CONNECTED) {
    transport->stats.dropped++;
    return false;
  }
  transport->stats.messages_in++;
  transport->stats.bytes_in += length;
  set_event(event, SIPWIRE_EVENT_MESSAGE, transport);
  event->data = (const char *)data;
  event->length = length;
  event->binary = binary;
  return true;
}

static void message_left(struct sw_inbox_owner *owner, size_t length) {
  struct attempt *attempt = (struct attempt *)owner;
  size_t before = attempt->undelivered;
  attempt->undelivered -= length + MESSAGE_COST;
  if (attempt->link && before > INBOX_LOW && attempt->undelivered <= INBOX_LOW)
    sw_link_hold(attempt->link, SW_HOLD_INBOX, false);
  attempt_unref(attempt);
}

/* ---- The link's callbacks ---------------------------------------------- */

static void on_up(void *arg) {
  struct attempt *attempt = arg;
  sw_loop_input(attempt->transport->loop, &attempt_ref(attempt)->up);
}

static bool on_message(void *arg, const uint8_t *data, size_t length,
                       bool binary) {
  struct attempt *attempt = arg;
  if (!sw_inbox_put(attempt->transport->loop, &attempt->owner, data, length,
                    binary))
    return false;
  attempt_ref(attempt);
  attempt->undelivered += length + MESSAGE_COST;
  if (attempt->undelivered > INBOX_HIGH)
    sw_link_hold(attempt->link, SW_HOLD_INBOX, true);
  return true;
}

static char *keep(char **at, const char *text, size_t length) {
  char *copy = *at;
  memcpy(copy, text, length);
  copy[length] = '\0';
  *at += length + 1;
  return copy;
}

/* With no memory for the words, the numbers must do. */
static void keep_info(struct attempt *attempt, int error,
                      const struct sipwire_info *info) {
  size_t text = strlen(info->text);
  size_t tls = info->tls_error ? strlen(info->tls_error) : 0;
  char *at = malloc(text + tls + info->http_headers_length +
                    info->close_reason_length + 4);
  attempt->error = error;
  attempt->info = *info;
  attempt->strings = at;
  if (!at) {
    attempt->info.text = sipwire_error_text(error);
    attempt->info.tls_error = attempt->info.http_headers = NULL;
    attempt->info.close_reason = NULL;
    attempt->info.http_headers_length = attempt->info.close_reason_length = 0;
    return;
  }
  attempt->info.text = keep(&at, info->text, text);
  if (info->tls_error)
    attempt->info.tls_error = keep(&at, info->tls_error, tls);
  if (info->http_headers)
    attempt->info.http_headers =
        keep(&at, info->http_headers, info->http_headers_length);
  if (info->close_reason)
    attempt->info.close_reason =
        keep(&at, info->close_reason, info->close_reason_length);
}

static void on_down(void *arg, int error, const struct sipwire_info *info) {
  struct attempt *attempt = arg;
  sw_link_stats(attempt->link, &attempt->transport->stats);
  attempt->transport->stats.queue = 0;
  attempt->link = NULL;
  keep_info(attempt, error, info);
  /* the link's reference becomes the item's */
  sw_loop_input(attempt->transport->loop, &attempt->down);
}

static enum sw_delivery receipt_deliver(struct sw_item *item,
                                        struct sipwire_event *event) {
  struct receipt *receipt = SW_OWNER(item, struct receipt, item);
  bool refused = receipt->refused;
  receipt->refused = false;
  if (receipt->transport->disposed)
    return SW_SILENT;
  if (refused)
    return SW_LATER;
  set_event(event, SIPWIRE_EVENT_SEND_DONE, receipt->transport);
  event->tag = receipt->tag;
  event->error = receipt->error;
  return SW_EVENT;
}

static void receipt_release(struct sw_item *item) {
  struct receipt *receipt = SW_OWNER(item, struct receipt, item);
  unref(receipt->transport);
  free(receipt);
}

static const struct sw_item_class receipt_class = {receipt_deliver,
                                                   receipt_release};

/* A loss is an input: it is told after the link's end, which stands in that
   queue already. */
static void on_sent(struct sw_mark *mark, int error) {
  struct receipt *receipt = (struct receipt *)mark;
  receipt->error = error;
  if (error)
    sw_loop_input(receipt->transport->loop, &receipt->item);
  else
    sw_loop_event(receipt->transport->loop, &receipt->item);
}

static const struct sw_link_ops link_ops = {NULL, on_up, on_message, on_down,
                                            on_sent};

/* ---- Attempts ---------------------------------------------------------- */

/* The caller's reference is the link's. */
static struct attempt *attempt_new(struct sipwire_transport *transport) {
  struct attempt *attempt = calloc(1, sizeof *attempt);
  if (!attempt)
    return NULL;
  attempt->owner.deliver = message_deliver;
  attempt->owner.left = message_left;
  attempt->references = 1;
  attempt->transport = ref(transport);
  attempt->up.class = &up_class;
  attempt->down.class = &down_class;
  attempt->up_event = transition_new();
  attempt->down_event = transition_new();
  if (!attempt->up_event || !attempt->down_event) {
    attempt_unref(attempt);
    return NULL;
  }
  return attempt;
}

static struct attempt *attempt_open(struct sipwire_transport *transport) {
  struct attempt *attempt = attempt_new(transport);
  if (attempt &&
      sw_link_open(transport->loop, transport->options, transport->target,
                   &link_ops, attempt, &attempt->link)) {
    attempt_unref(attempt);
    attempt = NULL;
  }
  return attempt;
}

/* Lets the link finish unseen. */
static void attempt_release(struct sipwire_transport *transport) {
  struct attempt *attempt = transport->attempt;
  transport->attempt = NULL;
  if (!attempt)
    return;
  if (attempt->link) {
    sw_link_stats(attempt->link, &transport->stats);
    transport->stats.queue = 0;
    sw_link_release(attempt->link);
    attempt->link = NULL;
    attempt_unref(attempt);
  }
  attempt_unref(attempt);
}

/* ---- Calls ------------------------------------------------------------- */

/* What a call needs before it may change anything. */
struct supplies {
  struct ticket *ticket;
  struct transition *event;
  struct attempt *attempt;
};

static bool get_supplies(struct sipwire_transport *transport,
                         struct sw_step step, enum sipwire_event_type type,
                         uint64_t tag, struct supplies *supplies) {
  memset(supplies, 0, sizeof *supplies);
  if (tag && !(supplies->ticket = ticket_new(transport, type, tag)))
    return false;
  if (step.next != transport->state && !(supplies->event = transition_new()))
    return false;
  return !(step.actions & SW_ACT_OPEN) ||
         (supplies->attempt = attempt_open(transport));
}

static void return_supplies(struct supplies *supplies) {
  if (supplies->ticket)
    ticket_release(&supplies->ticket->item);
  transition_free(supplies->event);
}

static int call(struct sipwire_transport *transport, enum sw_input input,
                enum sipwire_event_type type, struct sw_queue *tickets,
                uint64_t tag) {
  struct sw_step step = sw_fsm_step(transport->state, input);
  struct supplies supplies;
  if (!get_supplies(transport, step, type, tag, &supplies)) {
    return_supplies(&supplies);
    return SIPWIRE_ENOMEM;
  }
  if (supplies.ticket)
    sw_queue_push(tickets, &supplies.ticket->item.node);
  if (step.actions & SW_ACT_RELEASE)
    attempt_release(transport);
  if (supplies.attempt)
    transport->attempt = attempt_ref(supplies.attempt);
  if (step.actions & SW_ACT_CLOSE && transport->attempt->link)
    sw_link_close(transport->attempt->link);
  take_step(transport, step, supplies.event, NULL, sw_loop_event);
  return 0;
}

int sipwire_transport_connect(struct sipwire_transport *transport,
                              uint64_t tag) {
  int error = sw_loop_check(transport->loop);
  if (error)
    return error;
  if (transport->accepted || !transport->target)
    return SIPWIRE_ESTATE;
  return call(transport, SW_IN_CONNECT, SIPWIRE_EVENT_CONNECT_DONE,
              &transport->connects, tag);
}

int sipwire_transport_disconnect(struct sipwire_transport *transport,
                                 uint64_t tag) {
  int error = sw_loop_check(transport->loop);
  if (error)
    return error;
  return call(transport, SW_IN_DISCONNECT, SIPWIRE_EVENT_DISCONNECT_DONE,
              &transport->disconnects, tag);
}

static struct receipt *receipt_new(struct sipwire_transport *transport,
                                   uint64_t tag) {
  struct receipt *receipt = calloc(1, sizeof *receipt);
  if (!receipt)
    return NULL;
  receipt->item.class = &receipt_class;
  receipt->transport = ref(transport);
  receipt->tag = tag;
  return receipt;
}

static int send_message(struct sipwire_transport *transport, const void *data,
                        size_t length, bool binary, uint64_t tag) {
  struct sw_link *link = transport->attempt->link;
  struct receipt *receipt = tag ? receipt_new(transport, tag) : NULL;
  if (tag && !receipt)
    return SIPWIRE_ENOMEM;
  int error = link ? sw_link_send(link, binary, data, length,
                                  receipt ? &receipt->mark : NULL)
                   : SIPWIRE_ECLOSED;
  /* still Connected, with the end of the link in the queue */
  if (error == SIPWIRE_ECLOSED) {
    if (receipt) {
      receipt->refused = true;
      on_sent(&receipt->mark, transport->attempt->error);
    }
  } else if (error) {
    if (receipt)
      receipt_release(&receipt->item);
    return error;
  }
  transport->stats.messages_out++;
  transport->stats.bytes_out += length;
  return 0;
}

int sipwire_transport_send(struct sipwire_transport *transport,
                           const void *data, size_t length,
                           enum sipwire_frame frame, uint64_t tag) {
  int error = sw_loop_check(transport->loop);
  if (error)
    return error;
  if (transport->state != SIPWIRE_CONNECTED)
    return SIPWIRE_ESTATE;
  if (frame == SIPWIRE_FRAME_AUTO)
    frame = transport->options->frame;
  bool binary = frame == SIPWIRE_FRAME_BINARY;
  if (!binary && !sw_utf8_valid(data, length)) {
    if (frame == SIPWIRE_FRAME_TEXT)
      return SIPWIRE_EUTF8;
    binary = true;
  }
  return send_message(transport, data, length, binary, tag);
}

/* ---- Making and unmaking ----------------------------------------------- */

static struct sipwire_transport *transport_new(struct sipwire_loop *loop,
                                               struct sw_options *options,
                                               void *arg) {
  struct sipwire_transport *transport = calloc(1, sizeof *transport);
  if (!transport)
    return NULL;
  transport->references = 1;
  transport->loop = sw_loop_ref(loop);
  transport->options = sw_options_ref(options);
  transport->arg = arg;
  transport->stats.rtt_ms = transport->stats.dns_ms = -1;
  transport->stats.tcp_ms = transport->stats.tls_ms = -1;
  transport->stats.upgrade_ms = -1;
  sw_queue_init(&transport->connects);
  sw_queue_init(&transport->disconnects);
  return transport;
}

int sipwire_transport_new(struct sipwire_loop *loop,
                          const struct sipwire_config *config,
                          struct sipwire_transport **out) {
  struct sw_options *options = NULL;
  struct sipwire_transport *transport = NULL;
  int error = sw_loop_check(loop);
  if (!error)
    error = sw_options_new(loop, config, false, false, &options);
  if (error)
    return error;
  transport = transport_new(loop, options, config->arg);
  sw_options_unref(options);
  if (!transport)
    return SIPWIRE_ENOMEM;
  if (config->server)
    error = sipwire_transport_set_server(transport, config->server,
                                         config->headers, config->header_count);
  else
    error = sw_headers_check(loop, config->headers, config->header_count);
  if (error)
    sipwire_transport_free(transport);
  else
    *out = transport;
  return error;
}

int sw_transport_adopt(struct sipwire_loop *loop, struct sw_options *options,
                       struct sw_link *link, void *arg,
                       struct sipwire_transport **out) {
  struct sipwire_transport *transport = transport_new(loop, options, arg);
  struct attempt *attempt = transport ? attempt_new(transport) : NULL;
  if (!attempt) {
    sipwire_transport_free(transport);
    return SIPWIRE_ENOMEM;
  }
  transport->accepted = true;
  transport->state = SIPWIRE_CONNECTED;
  transport->attempt = attempt_ref(attempt);
  attempt->link = link;
  sw_link_accept(link, &link_ops, attempt);
  *out = transport;
  return 0;
}

void sipwire_transport_free(struct sipwire_transport *transport) {
  if (!transport)
    return;
  transport->disposed = true;
  /* a closed loop has no links left; a forked one's are the parent's */
  if (!sw_loop_check(transport->loop))
    attempt_release(transport);
  else if (transport->attempt)
    attempt_unref(transport->attempt);
  transport->attempt = NULL;
  tickets_drop(&transport->connects);
  tickets_drop(&transport->disconnects);
  unref(transport);
}

int sipwire_transport_set_server(struct sipwire_transport *transport,
                                 const char *url,
                                 const struct sipwire_header *headers,
                                 size_t header_count) {
  struct sw_target *target;
  int error = sw_loop_check(transport->loop);
  if (!error)
    error = sw_target_new(transport->loop, url, headers, header_count,
                          transport->options, &target);
  if (error)
    return error;
  sw_target_unref(transport->target);
  transport->target = target;
  return 0;
}

/* ---- Looking ----------------------------------------------------------- */

static struct sw_link *link_of(const struct sipwire_transport *transport) {
  if (sw_loop_check(transport->loop) || !transport->attempt)
    return NULL;
  return transport->attempt->link;
}

enum sipwire_state
sipwire_transport_state(const struct sipwire_transport *transport) {
  return transport->loop->closed ? SIPWIRE_DISCONNECTED : transport->state;
}

const char *
sipwire_transport_server(const struct sipwire_transport *transport) {
  return transport->target ? transport->target->url : "";
}

bool sipwire_transport_secure(const struct sipwire_transport *transport) {
  const struct sw_link *link = link_of(transport);
  if (transport->accepted)
    return link ? sw_link_secure(link) : transport->options->tls != NULL;
  return transport->target && transport->target->uri.secure;
}

static int address(const struct sipwire_transport *transport, bool peer,
                   char *buffer, size_t size) {
  const struct sw_link *link = link_of(transport);
  int length = link ? sw_link_address(link, peer, buffer, size) : -1;
  return length < 0 ? SIPWIRE_ESTATE : length;
}

int sipwire_transport_local_address(const struct sipwire_transport *transport,
                                    char *buffer, size_t size) {
  return address(transport, false, buffer, size);
}

int sipwire_transport_peer_address(const struct sipwire_transport *transport,
                                   char *buffer, size_t size) {
  return address(transport, true, buffer, size);
}

void sipwire_transport_pause(struct sipwire_transport *transport) {
  struct sw_link *link = link_of(transport);
  if (link && transport->state == SIPWIRE_CONNECTED)
    sw_link_hold(link, SW_HOLD_USER, true);
}

void sipwire_transport_resume(struct sipwire_transport *transport) {
  struct sw_link *link = link_of(transport);
  if (link)
    sw_link_hold(link, SW_HOLD_USER, false);
}

void sipwire_transport_stats(const struct sipwire_transport *transport,
                             struct sipwire_stats *stats) {
  const struct sw_link *link = link_of(transport);
  *stats = transport->stats;
  if (link)
    sw_link_stats(link, stats);
}
