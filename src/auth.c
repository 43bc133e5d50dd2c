/* SPDX-License-Identifier: MIT */
/* Reads challenges and answers the best one.  Must not send or keep a
   password. */

#define _GNU_SOURCE
#include "auth.h"

#include <openssl/crypto.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ascii.h"
#include "hash.h"
#include "http.h"
#include "random.h"
#include "sipwire.h"

/* ---- Challenges (RFC 9110 section 11.6.1) ------------------------------ */

/* What a challenge may say that matters to us; quoted text without its quotes
   but with its backslashes, as it is hashed and repeated. */
#define PARAMETERS(X)                                                          \
  X(realm)                                                                     \
  X(nonce)                                                                     \
  X(opaque)                                                                    \
  X(algorithm)                                                                 \
  X(qop)                                                                       \
  X(userhash)

struct challenge {
  struct sw_slice scheme;
#define SLICE(name) struct sw_slice name;
  PARAMETERS(SLICE)
#undef SLICE
  bool malformed; /* a parameter twice, or text that cannot be read */
};

static void skip(struct sw_slice *rest, const char *set) {
  while (rest->length && sw_is_one_of(*rest->data, set)) {
    rest->data++;
    rest->length--;
  }
}

static struct sw_slice take(struct sw_slice *rest, size_t length) {
  struct sw_slice part = {rest->data, length};
  rest->data += length;
  rest->length -= length;
  return part;
}

static struct sw_slice take_token(struct sw_slice *rest) {
  size_t length = 0;
  while (length < rest->length && sw_is_token(rest->data[length]))
    length++;
  return take(rest, length);
}

/* Behind the opening quote; false when there is no closing one. */
static bool take_quoted(struct sw_slice *rest, struct sw_slice *value) {
  size_t length = 0;
  while (length < rest->length && rest->data[length] != '"')
    length += rest->data[length] == '\\' ? 2 : 1;
  if (length >= rest->length)
    return false;
  *value = take(rest, length);
  take(rest, 1);
  return true;
}

/* Behind the '='. */
static bool take_value(struct sw_slice *rest, struct sw_slice *value) {
  skip(rest, " \t");
  if (rest->length && *rest->data == '"') {
    take(rest, 1);
    return take_quoted(rest, value);
  }
  *value = take_token(rest);
  return value->length > 0;
}

static void set_parameter(struct challenge *challenge, struct sw_slice name,
                          struct sw_slice value) {
  struct sw_slice *at = NULL;
#define FIND(known)                                                            \
  if (sw_is_word(name, #known))                                                \
    at = &challenge->known;
  PARAMETERS(FIND)
#undef FIND
  if (!at)
    return;
  if (at->data)
    challenge->malformed = true;
  *at = value;
}

/* A parameter of the challenge, if one stands here: "name = value".  What has
   no '=' is the next scheme, and is left. */
static bool take_parameter(struct sw_slice *rest, struct challenge *challenge) {
  struct sw_slice at = *rest, value;
  struct sw_slice name = take_token(&at);
  skip(&at, " \t");
  if (!name.length || !at.length || *at.data != '=')
    return false;
  take(&at, 1);
  if (take_value(&at, &value)) {
    set_parameter(challenge, name, value);
    skip(&at, " \t");
  } else {
    challenge->malformed = true;
  }
  if (at.length && *at.data != ',') { /* only the field's end is certain */
    challenge->malformed = true;
    at.length = 0;
  }
  *rest = at;
  return true;
}

/* The other form that what follows a scheme may have: one opaque word. */
static void skip_token68(struct sw_slice *rest) {
  struct sw_slice at = *rest;
  while (at.length &&
         (sw_is_alnum(*at.data) || sw_is_one_of(*at.data, "-._~+/")))
    take(&at, 1);
  skip(&at, "=");
  skip(&at, " \t");
  if (!at.length || *at.data == ',')
    *rest = at;
}

static bool next_challenge(struct sw_slice *rest, struct challenge *challenge) {
  memset(challenge, 0, sizeof *challenge);
  skip(rest, ", \t");
  challenge->scheme = take_token(rest);
  if (!challenge->scheme.length)
    return false;
  skip(rest, " \t");
  skip_token68(rest);
  do {
    skip(rest, ", \t");
  } while (take_parameter(rest, challenge));
  return true;
}

/* ---- Digest (RFC 7616) ------------------------------------------------- */

enum {
  CNONCE_BYTES = 16,
  QUOTED_MAX = 1024 /* of a user's name, with backslashes */
};

static const struct algorithm {
  const char *name;
  const char *hash;
  bool session;
} algorithms[] = {
    {"MD5", "md5", false},
    {"MD5-sess", "md5", true},
    {"SHA-256", "sha-256", false},
    {"SHA-256-sess", "sha-256", true},
    {"SHA-512-256", "sha-512-256", false},
    {"SHA-512-256-sess", "sha-512-256", true},
};

static const struct algorithm *find_algorithm(struct sw_slice name) {
  if (!name.data)
    return &algorithms[0];
  for (size_t i = 0; i < sizeof algorithms / sizeof *algorithms; i++)
    if (sw_is_word(name, algorithms[i].name))
      return &algorithms[i];
  return NULL;
}

static struct sw_slice text(const char *string) {
  return (struct sw_slice){string, strlen(string)};
}

#define HASH(algorithm, hex, ...)                                              \
  sw_hash((algorithm)->hash, hex,                                              \
          sizeof((struct sw_slice[]){__VA_ARGS__}) / sizeof(struct sw_slice),  \
          (struct sw_slice[]){__VA_ARGS__})

/* "auth" or "auth-int" of the list that the server offers, "" when it names
   none (RFC 2069's way), or NULL when there is none we know. */
static const char *choose_qop(struct sw_slice offer) {
  const char *choice = NULL;
  if (!offer.data)
    return "";
  while (offer.length) {
    skip(&offer, ", \t");
    struct sw_slice value = take_token(&offer);
    if (sw_is_word(value, "auth"))
      return "auth";
    if (sw_is_word(value, "auth-int"))
      choice = "auth-int";
    if (!value.length && offer.length)
      take(&offer, 1);
  }
  return choice;
}

struct digest {
  const struct sw_credentials *credentials;
  const struct algorithm *algorithm;
  const char *qop;
  char cnonce[2 * CNONCE_BYTES + 1];
  char response[SIPWIRE_HASH_SIZE];
  char user[QUOTED_MAX]; /* in quotes, or hashed */
};

static bool hash_secret(const struct digest *digest,
                        const struct challenge *challenge, char *secret) {
  char user[SIPWIRE_HASH_SIZE];
  if (!HASH(digest->algorithm, secret, text(digest->credentials->username),
            challenge->realm, text(digest->credentials->password)))
    return false;
  if (!digest->algorithm->session)
    return true;
  strcpy(user, secret);
  bool good = HASH(digest->algorithm, secret, text(user), challenge->nonce,
                   text(digest->cnonce));
  OPENSSL_cleanse(user, sizeof user);
  return good;
}

/* Of a body that is empty for auth-int. */
static bool hash_request(const struct digest *digest,
                         const struct sw_auth_request *request, char *hex) {
  char body[SIPWIRE_HASH_SIZE];
  if (strcmp(digest->qop, "auth-int") != 0)
    return HASH(digest->algorithm, hex, text(request->method), request->target);
  return HASH(digest->algorithm, body, text("")) &&
         HASH(digest->algorithm, hex, text(request->method), request->target,
              text(body));
}

static bool respond(struct digest *digest, const struct challenge *challenge,
                    const struct sw_auth_request *request) {
  char secret[SIPWIRE_HASH_SIZE], what[SIPWIRE_HASH_SIZE];
  bool good = hash_secret(digest, challenge, secret) &&
              hash_request(digest, request, what);
  if (good && *digest->qop)
    good = HASH(digest->algorithm, digest->response, text(secret),
                challenge->nonce, text("00000001"), text(digest->cnonce),
                text(digest->qop), text(what));
  else if (good)
    good = HASH(digest->algorithm, digest->response, text(secret),
                challenge->nonce, text(what));
  OPENSSL_cleanse(secret, sizeof secret);
  return good;
}

static bool name_user(struct digest *digest,
                      const struct challenge *challenge) {
  const char *username = digest->credentials->username;
  size_t length = 0;
  if (sw_is_word(challenge->userhash, "true"))
    return HASH(digest->algorithm, digest->user, text(username),
                challenge->realm);
  for (; *username; username++) {
    if (length + 3 > sizeof digest->user)
      return false;
    if (*username == '"' || *username == '\\')
      digest->user[length++] = '\\';
    digest->user[length++] = *username;
  }
  digest->user[length] = '\0';
  return true;
}

#define SLICE(slice) (int)slice.length, slice.data

static char *write_digest(const struct digest *digest,
                          const struct challenge *challenge,
                          struct sw_slice target) {
  char *out, qop[32] = "", cnonce[64] = "";
  bool opaque = challenge->opaque.data;
  if (*digest->qop)
    snprintf(qop, sizeof qop, ", qop=%s, nc=00000001", digest->qop);
  if (*digest->qop || digest->algorithm->session)
    snprintf(cnonce, sizeof cnonce, ", cnonce=\"%s\"", digest->cnonce);
  int length = asprintf(
      &out,
      "Digest username=\"%s\", realm=\"%.*s\", nonce=\"%.*s\", "
      "uri=\"%.*s\"%s%s%s%s, response=\"%s\"%s%.*s%s%s",
      digest->user, SLICE(challenge->realm), SLICE(challenge->nonce),
      SLICE(target), challenge->algorithm.data ? ", algorithm=" : "",
      challenge->algorithm.data ? digest->algorithm->name : "", qop, cnonce,
      digest->response, opaque ? ", opaque=\"" : "", SLICE(challenge->opaque),
      opaque ? "\"" : "",
      sw_is_word(challenge->userhash, "true") ? ", userhash=true" : "");
  return length < 0 ? NULL : out;
}

#undef SLICE

static char *answer_digest(const struct challenge *challenge,
                           const struct sw_credentials *credentials,
                           const struct sw_auth_request *request,
                           struct sw_random *random) {
  uint8_t bytes[CNONCE_BYTES];
  struct digest digest = {.credentials = credentials};
  if (!challenge->realm.data || !challenge->nonce.data ||
      !(digest.algorithm = find_algorithm(challenge->algorithm)) ||
      !(digest.qop = choose_qop(challenge->qop)) ||
      !sw_random_bytes(random, bytes, sizeof bytes))
    return NULL;
  sw_hex(bytes, sizeof bytes, digest.cnonce);
  if (!name_user(&digest, challenge) || !respond(&digest, challenge, request))
    return NULL;
  return write_digest(&digest, challenge, request->target);
}

/* ---- Basic (RFC 7617) -------------------------------------------------- */

static char *answer_basic(const struct sw_credentials *credentials) {
  static const char scheme[] = "Basic ";
  char *pair = NULL, *out = NULL;
  if (strchr(credentials->username, ':'))
    return NULL; /* would end the name */
  int length =
      asprintf(&pair, "%s:%s", credentials->username, credentials->password);
  if (length < 0)
    return NULL;
  if ((out = malloc(sizeof scheme + SIPWIRE_BASE64_SIZE((size_t)length)))) {
    memcpy(out, scheme, sizeof scheme);
    sipwire_base64(pair, (size_t)length, out + sizeof scheme - 1);
  }
  sw_auth_wipe(pair);
  return out;
}

/* ---- The choice -------------------------------------------------------- */

struct choice {
  const struct sw_credentials *credentials;
  const struct sw_auth_request *request;
  struct sw_random *random;
  char *digest;
  bool basic;
};

static void consider(struct choice *choice, struct sw_slice value) {
  struct challenge challenge;
  while (next_challenge(&value, &challenge)) {
    if (challenge.malformed)
      continue;
    if (sw_is_word(challenge.scheme, "Basic"))
      choice->basic = true;
    else if (sw_is_word(challenge.scheme, "Digest") && !choice->digest)
      choice->digest = answer_digest(&challenge, choice->credentials,
                                     choice->request, choice->random);
  }
}

char *sw_auth_answer(struct sw_slice fields, const char *name,
                     const struct sw_credentials *credentials,
                     const struct sw_auth_request *request,
                     struct sw_random *random) {
  struct choice choice = {credentials, request, random, NULL, false};
  struct sw_slice field, value;
  size_t offset = 0;
  while (sw_http_next_field(fields, &offset, &field, &value))
    if (sw_is_word(field, name))
      consider(&choice, value);
  if (choice.digest || !choice.basic)
    return choice.digest;
  return answer_basic(credentials);
}

void sw_auth_wipe(char *secret) {
  if (secret)
    OPENSSL_cleanse(secret, strlen(secret));
  free(secret);
}

void sw_credentials_clear(struct sw_credentials *credentials) {
  sw_auth_wipe(credentials->username);
  sw_auth_wipe(credentials->password);
  credentials->username = credentials->password = NULL;
}
