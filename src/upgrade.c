/* SPDX-License-Identifier: MIT */
/* Leads one opening handshake.  Must not decide what becomes of the
   connection. */

#define _GNU_SOURCE
#include "upgrade.h"

#include <string.h>

#include "options.h"
#include "random.h"

/* The longest request or response head. */
enum { HEAD_MAX = 16384 };

static const char *text_of(const struct sw_upgrade *upgrade) {
  return (const char *)sw_buffer_bytes(&upgrade->received);
}

static enum sw_upgrade_result bad(struct sw_upgrade_verdict *verdict, int error,
                                  int status, const char *text) {
  verdict->error = error;
  verdict->status = status;
  verdict->text = text;
  return SW_UPGRADE_BAD;
}

/* ---- Client ------------------------------------------------------------ */

int sw_upgrade_request(struct sw_upgrade *upgrade,
                       const struct sw_target *target, struct sw_random *random,
                       struct sw_buffer *out) {
  char key[SW_HTTP_KEY_LENGTH + 1];
  struct sw_http_upgrade request;
  memset(&request, 0, sizeof request);
  if (!sw_random_key(random, key) || !sw_random_accept(key, upgrade->accept))
    return SIPWIRE_ENOMEM;
  request.host = target->uri.host;
  request.ipv6_literal = target->uri.ipv6_literal;
  request.port = target->uri.port;
  request.default_port = target->uri.default_port;
  request.target = target->uri.target;
  request.key = key;
  request.headers = target->headers;
  request.header_count = target->header_count;
  size_t length = sw_http_write_upgrade(NULL, 0, &request);
  uint8_t *at = sw_buffer_reserve(out, length + 1);
  if (!at)
    return SIPWIRE_ENOMEM;
  sw_http_write_upgrade((char *)at, length + 1, &request);
  sw_buffer_commit(out, length);
  return 0;
}

static enum sw_upgrade_result
judge_response(struct sw_upgrade *upgrade, struct sw_upgrade_verdict *verdict) {
  struct sw_http_head *head = &verdict->head;
  const char *text = NULL;
  if (!sw_http_parse_response(text_of(upgrade), upgrade->length, head, &text)) {
    memset(head, 0, sizeof *head);
    return bad(verdict, SIPWIRE_EHTTP, 0, text);
  }
  if (head->status >= 100 && head->status < 200 && head->status != 101) {
    sw_buffer_consume(&upgrade->received, upgrade->length);
    return SW_UPGRADE_NEED_MORE; /* an interim response */
  }
  int error = sw_http_judge_response(head, upgrade->accept, &text);
  return error ? bad(verdict, error, 0, text) : SW_UPGRADE_GOOD;
}

/* ---- Server ------------------------------------------------------------ */

static enum sw_upgrade_result
judge_request(struct sw_upgrade *upgrade, struct sw_upgrade_verdict *verdict) {
  struct sw_slice key;
  const char *text = NULL;
  if (!sw_http_parse_request(text_of(upgrade), upgrade->length, &verdict->head,
                             &text)) {
    memset(&verdict->head, 0, sizeof verdict->head);
    return bad(verdict, SIPWIRE_EHTTP, 400, text);
  }
  int status = sw_http_judge_request(&verdict->head, &key, &text);
  if (status)
    return bad(verdict, SIPWIRE_EHTTP, status, text);
  if (!sw_random_accept(key.data, upgrade->accept))
    return bad(verdict, SIPWIRE_ENOMEM, 500, "no SHA-1");
  return SW_UPGRADE_GOOD;
}

/* ---- Both -------------------------------------------------------------- */

typedef enum sw_upgrade_result (*judge_fn)(struct sw_upgrade *upgrade,
                                           struct sw_upgrade_verdict *verdict);

static enum sw_upgrade_result read_head(struct sw_upgrade *upgrade,
                                        struct sw_upgrade_verdict *verdict,
                                        judge_fn judge) {
  size_t have = sw_buffer_length(&upgrade->received);
  upgrade->length = sw_http_head_length(text_of(upgrade), have, upgrade->seen);
  if (upgrade->length && upgrade->length <= HEAD_MAX) {
    upgrade->seen = 0;
    return judge(upgrade, verdict);
  }
  upgrade->seen = have;
  if (upgrade->length || have >= HEAD_MAX)
    return bad(verdict, SIPWIRE_EHTTP, 431, "HTTP head is too long");
  return SW_UPGRADE_NEED_MORE;
}

static enum sw_upgrade_result take(struct sw_upgrade *upgrade,
                                   const uint8_t *bytes, size_t length,
                                   struct sw_upgrade_verdict *verdict,
                                   judge_fn judge) {
  enum sw_upgrade_result result;
  size_t before;
  memset(verdict, 0, sizeof *verdict);
  if (!sw_buffer_append(&upgrade->received, bytes, length))
    return bad(verdict, SIPWIRE_ENOMEM, 500, NULL);
  do { /* an interim response may have the next head behind it */
    before = sw_buffer_length(&upgrade->received);
    result = read_head(upgrade, verdict, judge);
  } while (result == SW_UPGRADE_NEED_MORE &&
           sw_buffer_length(&upgrade->received) < before);
  return result;
}

enum sw_upgrade_result
sw_upgrade_read_response(struct sw_upgrade *upgrade, const uint8_t *bytes,
                         size_t length, struct sw_upgrade_verdict *verdict) {
  enum sw_upgrade_result result =
      take(upgrade, bytes, length, verdict, judge_response);
  if (result == SW_UPGRADE_NEED_MORE &&
      !sw_http_plausible(text_of(upgrade),
                         sw_buffer_length(&upgrade->received)))
    return bad(verdict, SIPWIRE_EHTTP, 0, "not an HTTP/1.1 response");
  return result;
}

enum sw_upgrade_result
sw_upgrade_read_request(struct sw_upgrade *upgrade, const uint8_t *bytes,
                        size_t length, struct sw_upgrade_verdict *verdict) {
  return take(upgrade, bytes, length, verdict, judge_request);
}

struct sw_buffer sw_upgrade_rest(struct sw_upgrade *upgrade) {
  struct sw_buffer rest = upgrade->received;
  memset(&upgrade->received, 0, sizeof upgrade->received);
  sw_buffer_consume(&rest, upgrade->length);
  return rest;
}

void sw_upgrade_clear(struct sw_upgrade *upgrade) {
  sw_buffer_clear(&upgrade->received);
}
