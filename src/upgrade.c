/* SPDX-License-Identifier: MIT */
/* Leads one opening handshake.  Must not decide what becomes of the
   connection. */

#define _GNU_SOURCE
#include "upgrade.h"

#include <string.h>

#include "auth.h"
#include "options.h"
#include "proxy.h"
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

static struct sw_http_authority authority_of(const struct sw_uri *uri) {
  return (struct sw_http_authority){uri->host, uri->ipv6_literal, uri->port};
}

int sw_upgrade_connect(struct sw_upgrade *upgrade,
                       const struct sw_upgrade_client *client,
                       struct sw_buffer *out) {
  struct sw_http_authority authority = authority_of(&client->target->uri);
  const char *answer = upgrade->proxy_authorization;
  size_t length = sw_http_write_connect(NULL, 0, &authority, answer);
  uint8_t *at = sw_buffer_reserve(out, length);
  if (!at)
    return SIPWIRE_ENOMEM;
  sw_http_write_connect((char *)at, length, &authority, answer);
  sw_buffer_commit(out, length);
  return 0;
}

int sw_upgrade_request(struct sw_upgrade *upgrade,
                       const struct sw_upgrade_client *client,
                       struct sw_buffer *out) {
  const struct sw_target *target = client->target;
  char key[SW_HTTP_KEY_LENGTH + 1];
  struct sw_http_upgrade request;
  memset(&request, 0, sizeof request);
  if (!sw_random_key(client->random, key) ||
      !sw_random_accept(key, upgrade->accept))
    return SIPWIRE_ENOMEM;
  request.authority = authority_of(&target->uri);
  request.default_port = target->uri.default_port;
  request.target = target->uri.target;
  request.key = key;
  request.authorization = upgrade->authorization;
  request.headers = target->headers;
  request.header_count = target->header_count;
  size_t length = sw_http_write_upgrade(NULL, 0, &request);
  uint8_t *at = sw_buffer_reserve(out, length);
  if (!at)
    return SIPWIRE_ENOMEM;
  sw_http_write_upgrade((char *)at, length, &request);
  sw_buffer_commit(out, length);
  return 0;
}

static bool is_interim(const struct sw_http_head *head) {
  return head->status >= 100 && head->status < 200 && head->status != 101;
}

/* A final response, or NEED_MORE, or BAD. */
static enum sw_upgrade_result
parse_response(struct sw_upgrade *upgrade, struct sw_upgrade_verdict *verdict) {
  struct sw_http_head *head = &verdict->head;
  const char *text = NULL;
  if (!sw_http_parse_response(text_of(upgrade), upgrade->length, head, &text)) {
    memset(head, 0, sizeof *head);
    return bad(verdict, SIPWIRE_EHTTP, 0, text);
  }
  if (!is_interim(head))
    return SW_UPGRADE_GOOD;
  memset(head, 0, sizeof *head);
  sw_buffer_consume(&upgrade->received, upgrade->length);
  return SW_UPGRADE_NEED_MORE;
}

static enum sw_upgrade_result
judge_response(struct sw_upgrade *upgrade, struct sw_upgrade_verdict *verdict) {
  const char *text = NULL;
  enum sw_upgrade_result result = parse_response(upgrade, verdict);
  if (result != SW_UPGRADE_GOOD)
    return result;
  int error = sw_http_judge_response(&verdict->head, upgrade->accept, &text);
  return error ? bad(verdict, error, 0, text) : SW_UPGRADE_GOOD;
}

/* Whoever speaks first behind a proxy is not the server. */
static enum sw_upgrade_result judge_tunnel(struct sw_upgrade *upgrade,
                                           struct sw_upgrade_verdict *verdict) {
  enum sw_upgrade_result result = parse_response(upgrade, verdict);
  if (result != SW_UPGRADE_GOOD)
    return result;
  if (verdict->head.status / 100 != 2)
    return bad(verdict, SIPWIRE_EHTTP, 0, "tunnel refused");
  if (sw_buffer_length(&upgrade->received) > upgrade->length)
    return bad(verdict, SIPWIRE_EHTTP, 0, "proxy sent data of its own");
  return SW_UPGRADE_GOOD;
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

/* What is to be answered, and how. */
struct challenge {
  int status;
  const char *field;
  const struct sw_credentials *credentials;
  struct sw_auth_request request;
  struct sw_random *random;
  char **answer;
};

/* Turns a refusal into AGAIN if its challenge can be answered, and was not
   answered before. */
static enum sw_upgrade_result take_up(const struct challenge *challenge,
                                      struct sw_upgrade_verdict *verdict) {
  if (verdict->head.status != challenge->status ||
      !challenge->credentials->username)
    return SW_UPGRADE_BAD;
  if (*challenge->answer) {
    verdict->text = "credentials were refused";
    return SW_UPGRADE_BAD;
  }
  *challenge->answer = sw_auth_answer(verdict->head.fields, challenge->field,
                                      challenge->credentials,
                                      &challenge->request, challenge->random);
  if (*challenge->answer)
    return SW_UPGRADE_AGAIN;
  verdict->text = "no challenge that can be answered";
  return SW_UPGRADE_BAD;
}

static enum sw_upgrade_result take_response(struct sw_upgrade *upgrade,
                                            const uint8_t *bytes, size_t length,
                                            struct sw_upgrade_verdict *verdict,
                                            judge_fn judge,
                                            const struct challenge *challenge) {
  enum sw_upgrade_result result = take(upgrade, bytes, length, verdict, judge);
  if (result == SW_UPGRADE_NEED_MORE &&
      !sw_http_plausible(text_of(upgrade),
                         sw_buffer_length(&upgrade->received)))
    result = bad(verdict, SIPWIRE_EHTTP, 0, "not an HTTP/1.1 response");
  return result == SW_UPGRADE_BAD ? take_up(challenge, verdict) : result;
}

enum sw_upgrade_result sw_upgrade_read_response(
    struct sw_upgrade *upgrade, const struct sw_upgrade_client *client,
    const uint8_t *bytes, size_t length, struct sw_upgrade_verdict *verdict) {
  char target[SW_URI_MAX + 1];
  size_t size =
      sw_http_write_target(target, sizeof target, client->target->uri.target);
  struct challenge challenge = {401,
                                "WWW-Authenticate",
                                &client->options->credentials,
                                {"GET", {target, size}},
                                client->random,
                                &upgrade->authorization};
  enum sw_upgrade_result result = take_response(upgrade, bytes, length, verdict,
                                                judge_response, &challenge);
  if (result == SW_UPGRADE_AGAIN) { /* the proxy's nonce has been used */
    sw_auth_wipe(upgrade->proxy_authorization);
    upgrade->proxy_authorization = NULL;
  }
  return result;
}

enum sw_upgrade_result sw_upgrade_read_tunnel(
    struct sw_upgrade *upgrade, const struct sw_upgrade_client *client,
    const uint8_t *bytes, size_t length, struct sw_upgrade_verdict *verdict) {
  char target[SW_URI_HOST_MAX + 16];
  struct sw_http_authority authority = authority_of(&client->target->uri);
  size_t size = sw_http_write_authority(target, sizeof target, &authority);
  struct challenge challenge = {407,
                                "Proxy-Authenticate",
                                &client->target->proxy->credentials,
                                {"CONNECT", {target, size}},
                                client->random,
                                &upgrade->proxy_authorization};
  return take_response(upgrade, bytes, length, verdict, judge_tunnel,
                       &challenge);
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
  sw_upgrade_clear(upgrade);
  return rest;
}

void sw_upgrade_restart(struct sw_upgrade *upgrade) {
  sw_buffer_clear(&upgrade->received);
  upgrade->seen = upgrade->length = 0;
}

void sw_upgrade_clear(struct sw_upgrade *upgrade) {
  sw_upgrade_restart(upgrade);
  sw_auth_wipe(upgrade->authorization);
  sw_auth_wipe(upgrade->proxy_authorization);
  upgrade->authorization = upgrade->proxy_authorization = NULL;
}
