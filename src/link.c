/* SPDX-License-Identifier: MIT */
/* Leads one connection through its stages.  Must not touch a transport's
   state, nor outlive its socket.

   Design notes.
   A link reports |down| once and then lingers: the close frame is to reach
   the peer, so the socket is not closed on unread data (that would be a
   reset) but finished, and dropped when the peer has finished too or a time
   limit says so.  The memory goes in the last callback of its timer. */

#define _GNU_SOURCE
#include "link.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "channel.h"
#include "keepalive.h"
#include "loop.h"
#include "options.h"
#include "outbox.h"
#include "proxy.h"
#include "upgrade.h"

enum {
  FLUSH_AT = 65536,   /* more gains nothing from waiting for the tick's end */
  OUTBOX_MAX = 65536, /* then control frames stop being answered: no reading */
  LINGER_MS = 1000,   /* for the peer's FIN after both close frames */
  NO_DEADLINE = 0,
  PHASES = SIPWIRE_PHASE_CLOSING + 1
};

enum stage {
  STAGE_CHANNEL, /* dns, tcp, tls */
  STAGE_TUNNEL,  /* a proxy was asked to connect */
  STAGE_UPGRADE,
  STAGE_ASKED, /* a server's: the request awaits its answer */
  STAGE_OPEN,
  STAGE_CLOSING,   /* our close frame is out, the peer's is awaited */
  STAGE_LINGERING, /* reported; the socket is on its way out */
  STAGE_GONE
};

/* What each message touches stands together at the top, behind the channel:
   see stream.h. */
struct sw_link {
  struct sw_channel channel; /* first */
  struct sw_list entry;      /* in loop->links */
  struct sw_list dirty;      /* in loop->dirty */
  struct sipwire_loop *loop;
  const struct sw_link_ops *ops;
  void *arg; /* NULL when nobody is to be told */
  struct sw_options *options;
  enum stage stage;
  enum sipwire_phase phase;
  unsigned holds;
  bool server, close_sent, close_received;
  bool counted; /* in loop->live */
  struct sw_ws ws;
  struct sw_outbox outbox;
  size_t answers, answers_written; /* bytes: in the outbox, in the channel */
  struct sw_keepalive keepalive;
  struct sw_target *target; /* NULL for a server's link */
  uv_timer_t timer;
  uint64_t deadline; /* of all before OPEN */
  int cause;         /* of the end: the first error reported, or 0 */
  bool finish_due;   /* FIN behind the last frame */
  bool tunneled;     /* the proxy has connected us */
  bool resumed;      /* an earlier TLS session */
  bool again;        /* a new channel is to follow the present one */
  struct sw_upgrade upgrade;
  uint64_t ping_number, ping_time, pings_sent, pongs_received;
  float rtt_ms;
  float phase_ms[PHASES];
  uint64_t phase_since;
};

/* ---- Deadlines --------------------------------------------------------- */

static void on_timer(uv_timer_t *timer);

static void arm(struct sw_link *link, uint64_t at) {
  uint64_t now = sw_loop_now(link->loop);
  if (at == NO_DEADLINE)
    uv_timer_stop(&link->timer);
  else
    uv_timer_start(&link->timer, on_timer, at > now ? at - now : 0, 0);
  sw_loop_kick(link->loop);
}

static void arm_in(struct sw_link *link, uint32_t delay_ms) {
  arm(link, sw_loop_now(link->loop) + delay_ms);
}

/* A name's addresses share what time is left, so that a black hole among
   them does not use it all up. */
static void arm_for_address(struct sw_link *link) {
  uint64_t now = sw_loop_now(link->loop);
  if (link->deadline == NO_DEADLINE || now >= link->deadline)
    return;
  arm(link,
      now + (link->deadline - now) / (sw_channel_untried(&link->channel) + 1));
}

static void arm_for_keepalive(struct sw_link *link) {
  uint64_t at;
  arm(link, sw_keepalive_deadline(&link->keepalive, &at) ? at : NO_DEADLINE);
}

static void enter_phase(struct sw_link *link, enum sipwire_phase phase) {
  uint64_t now = uv_hrtime();
  if (link->phase_since)
    link->phase_ms[link->phase] = (float)(now - link->phase_since) / 1e6f;
  link->phase = phase;
  link->phase_since = now;
}

/* ---- Ends -------------------------------------------------------------- */

/* The way to a proxy has the phases of the way to a server. */
static bool on_way_to_proxy(const struct sw_link *link) {
  return link->target && link->target->proxy &&
         link->phase <= SIPWIRE_PHASE_TCP;
}

static void report(struct sw_link *link, int error, struct sipwire_info *info) {
  void *arg = link->arg;
  char words[128];
  if (!link->cause)
    link->cause = error;
  info->phase = link->phase;
  if (!info->text)
    info->text = sipwire_error_text(error);
  if (on_way_to_proxy(link)) {
    snprintf(words, sizeof words, "proxy: %s", info->text);
    info->text = words;
  }
  info->was_clean = link->close_sent && link->close_received;
  if (link->stage >= STAGE_OPEN && !info->close_code)
    info->close_code = SIPWIRE_CLOSE_ABNORMAL;
  link->arg = NULL;
  if (arg)
    link->ops->down(arg, error, info);
}

static void report_text(struct sw_link *link, int error, const char *text) {
  struct sipwire_info info;
  memset(&info, 0, sizeof info);
  info.text = text;
  report(link, error, &info);
}

/* A link that has said all it has to say is nothing to wait for. */
static void uncount(struct sw_link *link) {
  if (!link->counted)
    return;
  link->counted = false;
  link->loop->live--;
}

static void uncount_if_done(struct sw_link *link) {
  if (link->stage == STAGE_LINGERING && !sw_link_unsent(link))
    uncount(link);
}

static void on_timer_closed(uv_handle_t *handle) {
  free(handle->data);
}

/* The socket is closed, or there never was one. */
static void finish(struct sw_link *link, int error) {
  link->stage = STAGE_GONE;
  if (link->cause) /* we may have let the socket go because of it */
    error = link->cause;
  sw_outbox_settle(&link->outbox, error ? error : SIPWIRE_ECLOSED,
                   link->ops->sent);
  uncount(link);
  sw_list_remove(&link->entry);
  sw_list_remove(&link->dirty);
  sw_upgrade_clear(&link->upgrade);
  sw_outbox_clear(&link->outbox);
  sw_ws_clear(&link->ws);
  sw_options_unref(link->options);
  sw_target_unref(link->target);
  uv_close((uv_handle_t *)&link->timer, on_timer_closed);
}

/* Gives the socket up at once. */
static void drop(struct sw_link *link) {
  link->stage = STAGE_LINGERING;
  link->again = false;
  uncount(link);
  sw_channel_abort(&link->channel);
}

static void finish_if_due(struct sw_link *link) {
  if (link->finish_due && !sw_outbox_waiting(&link->outbox))
    sw_channel_finish(&link->channel);
}

/* Gives the peer time to read what it was told last. */
static void linger(struct sw_link *link, bool finish_due) {
  link->stage = STAGE_LINGERING;
  link->finish_due = finish_due;
  sw_link_flush(link);
  finish_if_due(link);
  sw_channel_pause(&link->channel, false);
  uint32_t limit = link->options->disconnect_timeout_ms;
  if (!sw_link_unsent(link) && limit > LINGER_MS)
    limit = LINGER_MS;
  arm_in(link, limit);
  uncount_if_done(link);
}

/* ---- Frames out -------------------------------------------------------- */

static int put_frame(struct sw_link *link, enum sw_ws_opcode opcode,
                     const void *data, size_t length, struct sw_mark *mark) {
  int error = sw_outbox_put(&link->outbox, opcode, data, length, mark);
  if (error)
    return error;
  if (sw_list_empty(&link->dirty))
    sw_list_add(&link->loop->dirty, &link->dirty);
  link->loop->dirty_bytes += length;
  sw_loop_kick(link->loop);
  return 0;
}

int sw_link_send(struct sw_link *link, bool binary, const void *data,
                 size_t length, struct sw_mark *mark) {
  if (link->stage != STAGE_OPEN)
    return SIPWIRE_ECLOSED;
  size_t unsent = sw_outbox_backlog(&link->outbox);
  if (unsent >= link->options->send_queue_limit ||
      length > link->options->send_queue_limit - unsent)
    return SIPWIRE_EQUEUE_FULL;
  int error =
      put_frame(link, binary ? SW_WS_BINARY : SW_WS_TEXT, data, length, mark);
  if (!error && link->loop->dirty_bytes >= FLUSH_AT)
    sw_links_flush(link->loop);
  return error;
}

/* While bytes wait for the socket, on_progress() comes back here. */
void sw_link_flush(struct sw_link *link) {
  sw_list_remove(&link->dirty);
  if (!sw_channel_unsent(&link->channel)) { /* all of it goes there now */
    link->answers_written = link->answers;
    link->answers = 0;
  }
  sw_outbox_flush(&link->outbox);
  sw_outbox_settle(&link->outbox, 0, link->ops->sent);
  if (!sw_channel_unsent(&link->channel))
    link->answers_written = 0;
  if (link->answers + link->answers_written <= OUTBOX_MAX / 2)
    sw_link_hold(link, SW_HOLD_OUTBOX, false);
}

/* No memory for a control frame is the connection's end, never silence. */
static bool put_control(struct sw_link *link, enum sw_ws_opcode opcode,
                        const void *data, size_t length) {
  int error = put_frame(link, opcode, data, length, NULL);
  if (!error)
    return true;
  report_text(link, error, NULL);
  drop(link);
  return false;
}

/* A peer that asks more than it reads is not read from for a while. */
static void answer(struct sw_link *link, enum sw_ws_opcode opcode,
                   const void *data, size_t length) {
  if (!put_control(link, opcode, data, length))
    return;
  link->answers += sw_ws_header_size(length, !link->server) + length;
  if (link->answers + link->answers_written > OUTBOX_MAX)
    sw_link_hold(link, SW_HOLD_OUTBOX, true);
}

static bool send_close(struct sw_link *link, unsigned code,
                       const char *reason) {
  uint8_t payload[SW_WS_CONTROL_MAX];
  size_t length = sw_ws_write_close_payload(payload, code, reason,
                                            reason ? strlen(reason) : 0);
  if (put_frame(link, SW_WS_CLOSE, payload, length, NULL))
    return false;
  link->close_sent = true;
  return true;
}

/* ---- Frames in --------------------------------------------------------- */

static bool is_bytes(const struct sw_ws_item *item, const char *text) {
  return item->length == strlen(text) &&
         !memcmp(item->data, text, item->length);
}

static void note_answer(struct sw_link *link) {
  int64_t rtt =
      sw_keepalive_answered(&link->keepalive, sw_loop_now(link->loop));
  link->pongs_received++;
  if (rtt < 0)
    return;
  link->rtt_ms = (float)(uv_hrtime() - link->ping_time) / 1e6f;
  if (link->stage == STAGE_OPEN)
    arm_for_keepalive(link);
}

static void violation(struct sw_link *link, int error, unsigned code,
                      const char *text) {
  struct sipwire_info info;
  memset(&info, 0, sizeof info);
  info.text = text;
  info.close_code = (int)code;
  if (link->stage == STAGE_OPEN)
    send_close(link, code, NULL);
  report(link, error, &info);
  linger(link, true);
}

/* RFC 5626 section 3.5.1: CRLF CRLF asks, CRLF answers; neither is a message
   for the user, nor is an empty one. */
static bool is_message(struct sw_link *link, const struct sw_ws_item *item) {
  bool raw = link->options->raw;
  if (is_bytes(item, "\r\n\r\n")) {
    if (!raw && link->stage == STAGE_OPEN)
      answer(link, item->binary ? SW_WS_BINARY : SW_WS_TEXT, "\r\n", 2);
    return raw;
  }
  if (is_bytes(item, "\r\n")) {
    if (link->options->keep_alive_method == SIPWIRE_KEEP_ALIVE_CRLF)
      note_answer(link);
    return raw;
  }
  return raw || item->length != 0;
}

static void on_message(struct sw_link *link, const struct sw_ws_item *item) {
  if (!is_message(link, item) || !link->arg)
    return;
  if (!link->ops->message(link->arg, item->data, item->length, item->binary))
    violation(link, SIPWIRE_ENOMEM, 1011, NULL);
}

static void on_pong(struct sw_link *link, const struct sw_ws_item *item) {
  if (item->length == sizeof link->ping_number &&
      !memcmp(item->data, &link->ping_number, item->length) &&
      link->options->keep_alive_method == SIPWIRE_KEEP_ALIVE_PING)
    note_answer(link);
}

static void on_close_frame(struct sw_link *link,
                           const struct sw_ws_item *item) {
  struct sipwire_info info;
  char reason[SW_WS_REASON_MAX + 1];
  memset(&info, 0, sizeof info);
  memcpy(reason, item->data ? item->data : (const uint8_t *)"", item->length);
  reason[item->length] = '\0';
  link->close_received = true;
  if (link->stage == STAGE_OPEN)
    send_close(link, item->close_code, NULL);
  info.close_code = item->close_code;
  info.close_reason = reason;
  info.close_reason_length = item->length;
  report(link, SIPWIRE_ECLOSED, &info);
  linger(link, link->server); /* RFC 6455 section 7.1.1: the server closes */
}

static void on_item(struct sw_link *link, const struct sw_ws_item *item) {
  switch (item->kind) {
  case SW_WS_NEED_MORE:
    break;
  case SW_WS_GOT_MESSAGE:
    on_message(link, item);
    break;
  case SW_WS_GOT_PING:
    if (link->stage == STAGE_OPEN)
      answer(link, SW_WS_PONG, item->data, item->length);
    break;
  case SW_WS_GOT_PONG:
    on_pong(link, item);
    break;
  case SW_WS_GOT_CLOSE:
    on_close_frame(link, item);
    break;
  case SW_WS_GOT_VIOLATION:
    violation(link, item->error, item->close_code, item->text);
    break;
  }
}

static void read_frames(struct sw_link *link, uint8_t *bytes, size_t length) {
  struct sw_ws_item item;
  do {
    size_t used = 0;
    sw_ws_next(&link->ws, bytes, length, &used, &item);
    bytes += used;
    length -= used;
    on_item(link, &item);
  } while (item.kind != SW_WS_NEED_MORE && link->stage < STAGE_LINGERING);
}

/* ---- The upgrade, both sides ------------------------------------------- */

static void fail_upgrade(struct sw_link *link,
                         const struct sw_upgrade_verdict *verdict) {
  const struct sw_http_head *head = &verdict->head;
  struct sipwire_info info;
  char words[128];
  memset(&info, 0, sizeof info);
  info.text = verdict->text;
  info.http_status = head->status;
  info.http_headers = head->fields.data;
  info.http_headers_length = head->fields.length;
  if (head->status && head->status != 101) {
    snprintf(words, sizeof words, "%s: HTTP status %d %.*s", verdict->text,
             head->status,
             head->reason.length < 40 ? (int)head->reason.length : 40,
             head->reason.data);
    info.text = words;
  }
  report(link, verdict->error, &info);
}

static void open_frames(struct sw_link *link) {
  uint32_t random = 0;
  sw_ws_init(&link->ws, link->server, link->options->max_message_size);
  sw_random_bytes(&link->loop->random, &random, sizeof random);
  sw_keepalive_init(&link->keepalive, link->options->keep_alive_interval_ms,
                    link->options->keep_alive_timeout_ms,
                    sw_loop_now(link->loop), random);
  link->stage = STAGE_OPEN;
  enter_phase(link, SIPWIRE_PHASE_OPEN);
  arm_for_keepalive(link);
}

/* What came behind the head belongs to the frames. */
static void read_rest(struct sw_link *link) {
  struct sw_buffer rest = sw_upgrade_rest(&link->upgrade);
  if (sw_buffer_length(&rest))
    read_frames(link, sw_buffer_bytes(&rest), sw_buffer_length(&rest));
  sw_buffer_clear(&rest);
}

static struct sw_upgrade_client client_of(struct sw_link *link) {
  return (struct sw_upgrade_client){link->target, link->options,
                                    &link->loop->random};
}

/* on_ended() goes on. */
static void try_again(struct sw_link *link) {
  link->stage = STAGE_CHANNEL;
  link->again = true;
  sw_channel_abort(&link->channel);
}

static void enter_tunnel(struct sw_link *link);

static void go_up(struct sw_link *link) {
  open_frames(link);
  sw_target_unref(link->target);
  link->target = NULL;
  link->ops->up(link->arg);
  read_rest(link);
}

/* The proxy's answer, or the server's. */
static void read_answer(struct sw_link *link, const uint8_t *bytes,
                        size_t length) {
  struct sw_upgrade_verdict verdict;
  struct sw_upgrade_client client = client_of(link);
  bool tunnel = link->stage == STAGE_TUNNEL;
  switch ((tunnel ? sw_upgrade_read_tunnel : sw_upgrade_read_response)(
      &link->upgrade, &client, bytes, length, &verdict)) {
  case SW_UPGRADE_NEED_MORE:
    break;
  case SW_UPGRADE_GOOD:
    (tunnel ? enter_tunnel : go_up)(link);
    break;
  case SW_UPGRADE_AGAIN:
    try_again(link);
    break;
  case SW_UPGRADE_BAD:
    fail_upgrade(link, &verdict);
    drop(link);
    break;
  }
}

static void refuse(struct sw_link *link, int status) {
  char response[512];
  size_t length =
      sw_http_write_refusal(response, sizeof response, status, NULL, NULL, 0);
  sw_link_refuse(link, response, length);
}

static void read_request(struct sw_link *link, const uint8_t *bytes,
                         size_t length) {
  struct sw_upgrade_verdict verdict;
  switch (sw_upgrade_read_request(&link->upgrade, bytes, length, &verdict)) {
  case SW_UPGRADE_NEED_MORE:
    break;
  case SW_UPGRADE_GOOD:
    link->stage = STAGE_ASKED;
    sw_link_hold(link, SW_HOLD_REQUEST, true);
    link->ops->request(link->arg, &verdict.head);
    break;
  case SW_UPGRADE_AGAIN: /* is for clients */
  case SW_UPGRADE_BAD:
    fail_upgrade(link, &verdict);
    refuse(link, verdict.status);
    break;
  }
}

/* A client that does not wait for its answer: one read may have come before
   reading stopped. */
static void keep_for_later(struct sw_link *link, const uint8_t *bytes,
                           size_t length) {
  if (sw_buffer_append(&link->upgrade.received, bytes, length))
    return;
  report_text(link, SIPWIRE_ENOMEM, NULL);
  drop(link);
}

static int send_request(struct sw_link *link) {
  struct sw_buffer request = {NULL, 0, 0, 0};
  struct sw_upgrade_client client = client_of(link);
  int error = link->stage == STAGE_TUNNEL
                  ? sw_upgrade_connect(&link->upgrade, &client, &request)
                  : sw_upgrade_request(&link->upgrade, &client, &request);
  if (!error)
    sw_channel_write(&link->channel, sw_buffer_bytes(&request),
                     sw_buffer_length(&request));
  sw_buffer_wipe(&request); /* it may hold a password */
  return error;
}

static char *copy_host(const struct sw_uri *uri, char *host) {
  memcpy(host, uri->host.data, uri->host.length);
  host[uri->host.length] = '\0';
  return host;
}

static const struct sw_channel_ops channel_ops;

/* Starts a channel to the server, or to its proxy. */
static int dial(struct sw_link *link) {
  char host[SW_URI_HOST_MAX + 1];
  const struct sw_target *target = link->target;
  const struct sw_uri *uri = target->proxy ? &target->proxy->uri : &target->uri;
  sw_upgrade_restart(&link->upgrade);
  link->tunneled = false;
  return sw_channel_connect(&link->channel, link->loop, copy_host(uri, host),
                            uri->port, target->proxy ? NULL : target->tls,
                            link->options->local_address, &channel_ops, link);
}

/* ---- The channel's callbacks ------------------------------------------- */

static void on_phase(void *arg, enum sipwire_phase phase) {
  struct sw_link *link = arg;
  enter_phase(link, phase);
  if (phase == SIPWIRE_PHASE_TCP)
    arm_for_address(link);
  else if (phase == SIPWIRE_PHASE_TLS) /* with no other address to come */
    arm(link, link->deadline);
}

static void on_opened(void *arg) {
  struct sw_link *link = arg;
  if (link->stage != STAGE_CHANNEL)
    return;
  bool proxy = link->target && link->target->proxy && !link->tunneled;
  link->stage = proxy ? STAGE_TUNNEL : STAGE_UPGRADE;
  link->resumed = sw_channel_resumed(&link->channel);
  enter_phase(link, proxy ? SIPWIRE_PHASE_PROXY : SIPWIRE_PHASE_UPGRADE);
  arm(link, link->deadline);
  int error = link->server ? 0 : send_request(link);
  if (error) {
    report_text(link, error, NULL);
    drop(link);
  }
}

static void enter_tunnel(struct sw_link *link) {
  char host[SW_URI_HOST_MAX + 1];
  link->stage = STAGE_CHANNEL;
  link->tunneled = true;
  sw_upgrade_restart(&link->upgrade);
  if (!link->target->tls) {
    on_opened(link);
  } else if (sw_channel_secure(&link->channel,
                               copy_host(&link->target->uri, host),
                               link->target->uri.port, link->target->tls)) {
    report_text(link, SIPWIRE_ENOMEM, NULL);
    drop(link);
  }
}

static void on_data(void *arg, uint8_t *bytes, size_t length) {
  struct sw_link *link = arg;
  if (link->stage == STAGE_UPGRADE && link->server)
    read_request(link, bytes, length);
  else if (link->stage == STAGE_UPGRADE || link->stage == STAGE_TUNNEL)
    read_answer(link, bytes, length);
  else if (link->stage == STAGE_ASKED)
    keep_for_later(link, bytes, length);
  else if (link->stage == STAGE_OPEN || link->stage == STAGE_CLOSING)
    read_frames(link, bytes, length);
}

static void on_progress(void *arg) {
  struct sw_link *link = arg;
  sw_link_flush(link);
  finish_if_due(link);
  uncount_if_done(link);
}

static void on_ended(void *arg, int error, int sys_errno, const char *text,
                     const char *tls_error) {
  struct sw_link *link = arg;
  struct sipwire_info info;
  memset(&info, 0, sizeof info);
  info.text = text;
  info.sys_errno = sys_errno;
  info.tls_error = tls_error;
  if (link->again) {
    link->again = false;
    if (!(error = dial(link)))
      return;
    info.text = NULL;
  }
  if (error == SIPWIRE_ECLOSED && link->stage == STAGE_UPGRADE)
    info.text = "closed by peer before it answered the upgrade";
  else if (error == SIPWIRE_ECLOSED && link->stage == STAGE_TUNNEL)
    info.text = "closed by the proxy before it answered";
  /* With TLS 1.3 a server judges the client's certificate when that has long
     asked for the upgrade. */
  if (error == SIPWIRE_ETLS && link->stage == STAGE_UPGRADE &&
      !link->upgrade.seen)
    link->phase = SIPWIRE_PHASE_TLS;
  report(link, error, &info);
  finish(link, error);
}

static const struct sw_channel_ops channel_ops = {on_phase, on_opened, on_data,
                                                  on_progress, on_ended};

/* ---- Time --------------------------------------------------------------- */

/* As long as one is unanswered all carry its number: a peer that answers late
   is not a dead one. */
static void send_keepalive(struct sw_link *link, bool awaited) {
  link->pings_sent++;
  if (!awaited)
    link->ping_time = uv_hrtime();
  if (link->options->keep_alive_method == SIPWIRE_KEEP_ALIVE_CRLF) {
    put_control(link, SW_WS_TEXT, "\r\n\r\n", 4);
    return;
  }
  if (!awaited)
    sw_random_bytes(&link->loop->random, &link->ping_number,
                    sizeof link->ping_number);
  put_control(link, SW_WS_PING, &link->ping_number, sizeof link->ping_number);
}

static void keep_alive(struct sw_link *link) {
  uint32_t random = 0;
  bool awaited = link->keepalive.awaiting;
  sw_random_bytes(&link->loop->random, &random, sizeof random);
  if (link->holds)
    sw_keepalive_excuse(&link->keepalive, sw_loop_now(link->loop));
  switch (sw_keepalive_due(&link->keepalive, sw_loop_now(link->loop), random)) {
  case SW_KEEPALIVE_WAIT:
    break;
  case SW_KEEPALIVE_SEND:
    send_keepalive(link, awaited);
    break;
  case SW_KEEPALIVE_DEAD:
    report_text(link, SIPWIRE_ETIMEOUT, "keep-alive was not answered");
    drop(link);
    break;
  }
  if (link->stage == STAGE_OPEN)
    arm_for_keepalive(link);
}

static void out_of_time(struct sw_link *link) {
  static const char *const texts[PHASES] = {
      [SIPWIRE_PHASE_DNS] = "host name was not resolved in time",
      [SIPWIRE_PHASE_TCP] = "TCP connection was not made in time",
      [SIPWIRE_PHASE_PROXY] = "proxy did not connect in time",
      [SIPWIRE_PHASE_TLS] = "TLS handshake was not done in time",
      [SIPWIRE_PHASE_UPGRADE] = "WebSocket upgrade was not done in time",
      [SIPWIRE_PHASE_CLOSING] = "closing handshake was not done in time",
  };
  report_text(link, SIPWIRE_ETIMEOUT, texts[link->phase]);
  drop(link);
}

static void on_timer(uv_timer_t *timer) {
  struct sw_link *link = timer->data;
  if (link->stage == STAGE_OPEN) {
    keep_alive(link);
  } else if (link->stage == STAGE_LINGERING) {
    drop(link);
  } else if (link->phase == SIPWIRE_PHASE_TCP &&
             sw_loop_now(link->loop) < link->deadline &&
             sw_channel_untried(&link->channel)) {
    arm(link, link->deadline);
    sw_channel_skip(&link->channel);
  } else if (link->stage != STAGE_GONE) {
    out_of_time(link);
  }
}

/* ---- Making ------------------------------------------------------------ */

static struct sw_link *link_new(struct sipwire_loop *loop, bool server,
                                struct sw_options *options,
                                const struct sw_link_ops *ops, void *arg) {
  struct sw_link *link = calloc(1, sizeof *link);
  if (!link)
    return NULL;
  if (uv_timer_init(&loop->uv, &link->timer)) {
    free(link);
    return NULL;
  }
  link->timer.data = link;
  link->loop = loop;
  link->server = server;
  link->ops = ops;
  link->arg = arg;
  link->options = sw_options_ref(options);
  link->rtt_ms = -1;
  for (int phase = 0; phase < PHASES; phase++)
    link->phase_ms[phase] = -1;
  sw_outbox_init(&link->outbox, &link->channel, server ? NULL : &loop->random);
  sw_list_init(&link->dirty);
  sw_list_add(&loop->links, &link->entry);
  link->counted = true;
  loop->live++;
  if (options->connection_timeout_ms) {
    link->deadline = sw_loop_now(loop) + options->connection_timeout_ms;
    arm(link, link->deadline);
  }
  return link;
}

int sw_link_open(struct sipwire_loop *loop, struct sw_options *options,
                 struct sw_target *target, const struct sw_link_ops *ops,
                 void *arg, struct sw_link **out) {
  struct sw_link *link = link_new(loop, false, options, ops, arg);
  if (!link)
    return SIPWIRE_ENOMEM;
  link->target = sw_target_ref(target);
  int error = dial(link);
  if (error) {
    finish(link, error);
    return error;
  }
  *out = link;
  return 0;
}

int sw_link_adopt(struct sipwire_loop *loop, int fd, struct sw_options *options,
                  const struct sw_link_ops *ops, void *arg,
                  struct sw_link **out) {
  struct sw_link *link = link_new(loop, true, options, ops, arg);
  if (!link) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  int error = sw_channel_accept(&link->channel, loop, fd, options->tls,
                                &channel_ops, link);
  if (error) {
    finish(link, error);
    return error;
  }
  if (!options->tls)
    on_opened(link);
  *out = link;
  return 0;
}

/* ---- For the owner ----------------------------------------------------- */

void sw_link_accept(struct sw_link *link, const struct sw_link_ops *ops,
                    void *arg) {
  char response[256];
  size_t length =
      sw_http_write_accept(response, sizeof response, link->upgrade.accept);
  link->ops = ops;
  link->arg = arg;
  sw_channel_write(&link->channel, response, length);
  open_frames(link);
  sw_link_hold(link, SW_HOLD_REQUEST, false);
  read_rest(link);
}

void sw_link_refuse(struct sw_link *link, const char *response, size_t length) {
  link->arg = NULL;
  sw_channel_write(&link->channel, response, length);
  linger(link, true);
}

void sw_link_close(struct sw_link *link) {
  if (link->stage < STAGE_OPEN) {
    link->again = false;
    sw_channel_abort(&link->channel);
  } else if (link->stage == STAGE_OPEN) {
    link->stage = STAGE_CLOSING;
    enter_phase(link, SIPWIRE_PHASE_CLOSING);
    sw_link_hold(link, SW_HOLD_USER, false);
    sw_link_hold(link, SW_HOLD_OUTBOX, false); /* none are given any more */
    arm_in(link, link->options->disconnect_timeout_ms);
    if (!send_close(link, 1000, NULL)) {
      report_text(link, SIPWIRE_ENOMEM, NULL);
      drop(link);
    }
  }
}

void sw_link_release(struct sw_link *link) {
  link->arg = NULL;
  sw_link_hold(link, SW_HOLD_INBOX,
               false); /* messages are dropped from now on */
  sw_link_close(link);
}

void sw_link_hold(struct sw_link *link, enum sw_hold reason, bool held) {
  unsigned before = link->holds;
  link->holds = held ? before | reason : before & ~(unsigned)reason;
  if (link->stage >= STAGE_LINGERING)
    return;
  if (!before == !link->holds)
    return;
  sw_channel_pause(&link->channel, link->holds != 0);
  if (!link->holds && link->stage == STAGE_OPEN) {
    sw_keepalive_excuse(&link->keepalive, sw_loop_now(link->loop));
    arm_for_keepalive(link);
  }
}

size_t sw_link_unsent(const struct sw_link *link) {
  return sw_outbox_unsent(&link->outbox);
}

bool sw_link_secure(const struct sw_link *link) {
  return link->channel.tls != NULL;
}

int sw_link_address(const struct sw_link *link, bool peer, char *buffer,
                    size_t size) {
  return sw_channel_address(&link->channel, peer, buffer, size);
}

void sw_link_stats(const struct sw_link *link, struct sipwire_stats *stats) {
  stats->pings_sent += link->pings_sent;
  stats->pongs_received += link->pongs_received;
  stats->rtt_ms = (double)link->rtt_ms;
  stats->queue = sw_link_unsent(link);
  stats->tls_resumed = link->resumed;
  stats->dns_ms = (double)link->phase_ms[SIPWIRE_PHASE_DNS];
  stats->tcp_ms = (double)link->phase_ms[SIPWIRE_PHASE_TCP];
  stats->tls_ms = (double)link->phase_ms[SIPWIRE_PHASE_TLS];
  stats->upgrade_ms = (double)link->phase_ms[SIPWIRE_PHASE_UPGRADE];
}

/* ---- For the loop ------------------------------------------------------ */

void sw_links_flush(struct sipwire_loop *loop) {
  while (!sw_list_empty(&loop->dirty))
    sw_link_flush(SW_OWNER(loop->dirty.next, struct sw_link, dirty));
  loop->dirty_bytes = 0;
}

void sw_links_close(struct sipwire_loop *loop) {
  struct sw_list *entry = loop->links.next;
  while (entry != &loop->links) {
    struct sw_link *link = SW_OWNER(entry, struct sw_link, entry);
    entry = entry->next;
    if (link->stage == STAGE_OPEN)
      send_close(link, 1001, NULL);
    sw_link_flush(link);
    sw_channel_finish(&link->channel);
    report_text(link, SIPWIRE_EDISPOSED, NULL);
    drop(link);
  }
}
