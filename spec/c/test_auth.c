/* SPDX-License-Identifier: MIT */

/* Answers to HTTP's challenges.  Each is taken apart here, and its response
   computed again by the formulas of RFC 7616, which are proved on the RFCs'
   own examples first.  Challenges lie in memory that ends at a guard page. */

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>

#include "auth.h"
#include "random.h"
#include "test.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define FIELD "WWW-Authenticate: "
#define PASSWORD "hunter2-Circle"
#define PARTS 128

enum { LONG = 20000 };

static struct sw_random source;

/* ---- The formulas ------------------------------------------------------ */

struct digest {
  const char *algorithm, *user, *password, *realm, *nonce, *cnonce, *qop;
  const char *method, *uri;
};

static const EVP_MD *md_of(const char *algorithm) {
  if (!strncmp(algorithm, "SHA-512-256", 11))
    return EVP_sha512_256();
  return strncmp(algorithm, "SHA-256", 7) ? EVP_md5() : EVP_sha256();
}

/* Hashes a printed text to |hex|. */
__attribute__((format(printf, 3, 4))) static void
hash(const char *algorithm, char *hex, const char *format, ...) {
  static char text[2 * LONG];
  unsigned char bytes[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  va_list list;
  va_start(list, format);
  int length = vsnprintf(text, sizeof text, format, list);
  va_end(list);
  CHECK(length >= 0 && (size_t)length < sizeof text);
  CHECK(EVP_Digest(text, (size_t)length, bytes, &size, md_of(algorithm), NULL));
  for (unsigned i = 0; i < size; i++)
    snprintf(hex + 2 * i, 3, "%02x", bytes[i]);
}

static const char *expected(const struct digest *d) {
  static char response[PARTS];
  char a1[PARTS], a2[PARTS], body[PARTS];
  hash(d->algorithm, a1, "%s:%s:%s", d->user, d->realm, d->password);
  if (strstr(d->algorithm, "-sess")) {
    char first[PARTS];
    strcpy(first, a1);
    hash(d->algorithm, a1, "%s:%s:%s", first, d->nonce, d->cnonce);
  }
  hash(d->algorithm, body, "%s", "");
  if (d->qop && !strcmp(d->qop, "auth-int"))
    hash(d->algorithm, a2, "%s:%s:%s", d->method, d->uri, body);
  else
    hash(d->algorithm, a2, "%s:%s", d->method, d->uri);
  if (d->qop)
    hash(d->algorithm, response, "%s:%s:00000001:%s:%s:%s", a1, d->nonce,
         d->cnonce, d->qop, a2);
  else
    hash(d->algorithm, response, "%s:%s:%s", a1, d->nonce, a2);
  return response;
}

static void the_formulas_give_the_published_responses(void) {
  struct digest d = {"MD5",
                     "Mufasa",
                     "Circle of Life",
                     "http-auth@example.org",
                     "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
                     "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
                     "auth",
                     "GET",
                     "/dir/index.html"}; /* RFC 7616 section 3.9.1 */
  CHECK_STR(expected(&d), "8ca523f5e9506fed4657c9700eebdbec");
  d.algorithm = "SHA-256";
  CHECK_STR(expected(&d), "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf"
                          "8db5856cb6c1");
  struct digest old = {"MD5",
                       "Mufasa",
                       "Circle Of Life",
                       "testrealm@host.com",
                       "dcd98b7102dd2f0e8b11d0f600bfb0c093",
                       "0a4f113b",
                       "auth",
                       "GET",
                       "/dir/index.html"}; /* RFC 2617 section 3.5 */
  CHECK_STR(expected(&old), "6629fae49393a05397450978507c4ef1");
}

/* ---- Asking ------------------------------------------------------------ */

static struct sw_credentials who = {(char *)"alice", (char *)PASSWORD};

static char *ask_as(const char *name, const char *fields, size_t length,
                    const char *method, const char *uri) {
  char *copy = test_guarded(fields, length);
  char *target = test_guarded(uri, strlen(uri));
  struct sw_auth_request request = {method, {target, strlen(uri)}};
  char *answer = sw_auth_answer((struct sw_slice){copy, length}, name, &who,
                                &request, &source);
  test_unguard(copy, length);
  test_unguard(target, strlen(uri));
  return answer;
}

static char *ask(const char *fields) {
  return ask_as("WWW-Authenticate", fields, strlen(fields), "GET", "/ws?a=b");
}

/* One challenge field with |value|. */
static char *ask_value(const char *value) {
  static char fields[LONG + 64];
  snprintf(fields, sizeof fields, FIELD "%s\r\n", value);
  return ask(fields);
}

/* Behind the parameter that begins at |at|; its value, without quotes but with
   backslashes, is copied to |value|. */
static const char *walk(const char *at, char *value) {
  const char *from = strchr(at, '=') + 1;
  bool quoted = *from == '"';
  for (from += quoted; *from && *from != (quoted ? '"' : ','); from++) {
    if (quoted && *from == '\\')
      *value++ = *from++;
    *value++ = *from;
  }
  *value = '\0';
  return from + quoted + strspn(from + quoted, ", ");
}

/* The value of a parameter, or NULL. */
static const char *part(const char *answer, const char *name) {
  static char values[16][LONG];
  static unsigned turn;
  char *value = values[turn = (turn + 1) % 16];
  size_t length = strlen(name);
  for (const char *at = strchr(answer, ' ') + 1; *at;) {
    bool found = !strncmp(at, name, length) && at[length] == '=';
    at = walk(at, value);
    if (found)
      return value;
  }
  return NULL;
}

/* Whatever was asked, an answer can stand in a header, its quotes are paired
   and the password is not in it. */
static void check_harmless(const char *answer) {
  bool quoted = false;
  CHECK(!strstr(answer, PASSWORD));
  for (const char *at = answer; *at; at++) {
    CHECK(((unsigned char)*at >= ' ' && *at != 0x7f) || *at == '\t');
    if (quoted && *at == '\\' && at[1])
      at++;
    else if (*at == '"')
      quoted = !quoted;
  }
  CHECK(!quoted);
}

/* Fills in the cnonce of the answer, and compares. */
static void check_digest(const char *answer, struct digest d) {
  if (!CHECK(answer && !strncmp(answer, "Digest ", 7)))
    return;
  bool cnonce = d.qop || strstr(d.algorithm, "-sess");
  check_harmless(answer);
  d.cnonce = part(answer, "cnonce");
  CHECK_INT(d.cnonce != NULL, cnonce);
  CHECK_INT(d.cnonce ? strspn(d.cnonce, "0123456789abcdef") : 32, 32);
  CHECK_STR(part(answer, "realm"), d.realm);
  CHECK_STR(part(answer, "nonce"), d.nonce);
  CHECK_STR(part(answer, "uri"), d.uri);
  CHECK_STR(part(answer, "qop"), d.qop);
  CHECK_STR(part(answer, "nc"), d.qop ? "00000001" : NULL);
  if (!cnonce || d.cnonce)
    CHECK_STR(part(answer, "response"), expected(&d));
}

/* ---- Good challenges --------------------------------------------------- */

#define D "Digest realm=\"r\", nonce=\"n\""
#define BASIC "Basic realm=\"b\""

static const struct {
  const char *value, *algorithm, *qop, *realm, *nonce;
} digests[] = {
    {D, "MD5", NULL, "r", "n"},
    {D ", qop=\"auth\"", "MD5", "auth", "r", "n"},
    {D ", qop=auth", "MD5", "auth", "r", "n"},
    {"dIGEST REALM=\"r\",NONCE=\"n\",QOP=\"AUTH\",ALGORITHM=md5", "MD5", "auth",
     "r", "n"},
    {D ", algorithm=MD5", "MD5", NULL, "r", "n"},
    {D ", algorithm=\"SHA-256\", qop=\"auth\"", "SHA-256", "auth", "r", "n"},
    {D ", algorithm=sha-256", "SHA-256", NULL, "r", "n"},
    {D ", algorithm=SHA-512-256, qop=auth", "SHA-512-256", "auth", "r", "n"},
    {D ", algorithm=MD5-sess, qop=auth", "MD5-sess", "auth", "r", "n"},
    {D ", algorithm=MD5-sess", "MD5-sess", NULL, "r", "n"},
    {D ", algorithm=SHA-256-sess, qop=auth", "SHA-256-sess", "auth", "r", "n"},
    {D ", algorithm=SHA-512-256-sess, qop=auth", "SHA-512-256-sess", "auth",
     "r", "n"},
    {D ", qop=\"auth-int\"", "MD5", "auth-int", "r", "n"},
    {D ", qop=\"auth-int,auth\"", "MD5", "auth", "r", "n"},
    {D ", qop=\"auth,auth-int\"", "MD5", "auth", "r", "n"},
    {D ", qop=\" ,\tauth-int ,, other \t, auth ,\"", "MD5", "auth", "r", "n"},
    {D ", qop=\"other;auth-int\"", "MD5", "auth-int", "r", "n"},
    {D ", qop=\"xauth, auth-int\"", "MD5", "auth-int", "r", "n"},
    /* what is between things */
    {"  ,, \tDigest\t realm =\t\"r\" ,nonce= \"n\",,", "MD5", NULL, "r", "n"},
    {"Digest , realm=\"r\", nonce=n, x=\"y\", z=1", "MD5", NULL, "r", "n"},
    {"Digest realm=r, nonce=\"n\", stale=true, domain=\"/a /b\"", "MD5", NULL,
     "r", "n"},
    /* quotes */
    {"Digest realm=\"a, Basic realm=b\", nonce=\"n\"", "MD5", NULL,
     "a, Basic realm=b", "n"},
    {"Digest realm=\"a \\\"b\\\\\", nonce=\"\\n\"", "MD5", NULL, "a \\\"b\\\\",
     "\\n"},
    {"Digest realm=\"\", nonce=\"\"", "MD5", NULL, "", ""},
    {"Digest realm=\"\xc3\xa4\xff\", nonce=\"=,= Digest\"", "MD5", NULL,
     "\xc3\xa4\xff", "=,= Digest"},
    /* among others */
    {BASIC ", " D, "MD5", NULL, "r", "n"},
    {D ", " BASIC, "MD5", NULL, "r", "n"},
    {"Basic, " D, "MD5", NULL, "r", "n"},
    {"Negotiate, " D, "MD5", NULL, "r", "n"},
    {"NTLM TlRMTVNTUAAC==, " D, "MD5", NULL, "r", "n"},
    {"Bearer a+b/c-d._~=, " D ", Negotiate abc=", "MD5", NULL, "r", "n"},
    {"Negotiate abc= , " D ",NTLM", "MD5", NULL, "r", "n"},
    {"Bearer realm=\"Digest\", error=\"x\", " D, "MD5", NULL, "r", "n"},
    {D ", Digest realm=\"second\", nonce=\"m\"", "MD5", NULL, "r", "n"},
    {"Digest realm=\"u\", nonce=\"m\", algorithm=SHA-3, " D, "MD5", NULL, "r",
     "n"},
    {"Digest realm=\"u\", nonce=\"m\", algorithm=MD5-SESSION, " D, "MD5", NULL,
     "r", "n"},
    {"Digest realm=\"u\", nonce=\"m\", algorithm=\"\", " D, "MD5", NULL, "r",
     "n"},
    {"Digest realm=\"u\", nonce=\"m\", qop=\"auth-conf\", " D, "MD5", NULL, "r",
     "n"},
    {"Digest realm=\"u\", " D, "MD5", NULL, "r", "n"},
    {"Digest nonce=\"m\", " D, "MD5", NULL, "r", "n"},
    {"Digest realm=\"u\", realm=\"v\", nonce=\"m\", " D, "MD5", NULL, "r", "n"},
    {"Digest realm=\"u\", nonce=\"m\", NONCE=\"o\", " D, "MD5", NULL, "r", "n"},
    {"Digest realm=\"u\", nonce=, " D, "MD5", NULL, "r", "n"},
};

static void digests_are_answered(void) {
  for (size_t i = 0; i < COUNT(digests); i++) {
    unsigned before = test_failures;
    char *answer = ask_value(digests[i].value);
    struct digest d = {digests[i].algorithm,
                       who.username,
                       who.password,
                       digests[i].realm,
                       digests[i].nonce,
                       NULL,
                       digests[i].qop,
                       "GET",
                       "/ws?a=b"};
    check_digest(answer, d);
    if (answer && !strncmp(answer, "Digest ", 7)) {
      CHECK_STR(part(answer, "username"), "alice");
      CHECK_STR(part(answer, "opaque"), NULL);
      CHECK_STR(part(answer, "userhash"), NULL);
    }
    if (before != test_failures)
      fprintf(stderr, "  for %s: %s\n", digests[i].value, answer);
    sw_auth_wipe(answer);
  }
}

/* Without qop nothing is left to chance: values by md5sum and sha256sum. */
static void answers_without_qop_are_known(void) {
  struct sw_credentials alice = who;
  who = (struct sw_credentials){(char *)"Mufasa", (char *)"Circle Of Life"};
  const char *fields = "X: y\r\n" FIELD "Digest realm=\"testrealm@host.com\", "
                       "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\"\r\n";
  char *answer = ask_as("www-authenticate", fields, strlen(fields), "GET",
                        "/dir/index.html");
  CHECK_STR(answer, "Digest username=\"Mufasa\", realm=\"testrealm@host.com\", "
                    "nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", "
                    "uri=\"/dir/index.html\", "
                    "response=\"670fd8c2df070c60b045671b8b24ff02\"");
  sw_auth_wipe(answer);
  fields = "PROXY-AUTHENTICATE: Digest realm=proxy,opaque=\"o p\","
           "nonce=1,algorithm=SHA-256\r\n";
  answer = ask_as("Proxy-Authenticate", fields, strlen(fields), "CONNECT",
                  "[::1]:443");
  CHECK_STR(answer, "Digest username=\"Mufasa\", realm=\"proxy\", nonce=\"1\", "
                    "uri=\"[::1]:443\", algorithm=SHA-256, "
                    "response=\"327beaa4b0e77e23e3af9ff923d5f993"
                    "89f5f7a3f6a4a660dfdf435412158fd5\", opaque=\"o p\"");
  sw_auth_wipe(answer);
  who = alice;
}

static void opaque_and_algorithm_are_repeated(void) {
  static const struct {
    const char *value, *name, *want;
  } parts[] = {
      {D ", opaque=\"\"", "opaque", ""},
      {D ", opaque=\"x\\\"y, z\"", "opaque", "x\\\"y, z"},
      {D ", opaque=token", "opaque", "token"},
      {D ", algorithm=sha-256-SESS", "algorithm", "SHA-256-sess"},
      {D, "algorithm", NULL},
      {D ", userhash=false", "userhash", NULL},
      {D ", userhash=\"TRUE\"", "userhash", "true"},
  };
  for (size_t i = 0; i < COUNT(parts); i++) {
    char *answer = ask_value(parts[i].value);
    if (CHECK(answer))
      CHECK_STR(part(answer, parts[i].name), parts[i].want);
    sw_auth_wipe(answer);
  }
}

/* RFC 7616 section 3.9.2 with the values of its erratum 4897. */
static void names_are_hashed_if_the_server_likes_that(void) {
  struct sw_credentials alice = who;
  who = (struct sw_credentials){(char *)"J\xc3\xa4s\xc3\xb8n Doe",
                                (char *)"Secret, or not?"};
  char *answer = ask_value(
      "Digest realm=\"api@example.org\", qop=\"auth\", algorithm=SHA-512-256, "
      "nonce=\"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK\", "
      "opaque=\"HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS\", "
      "charset=UTF-8, userhash=true");
  struct digest d = {"SHA-512-256",
                     who.username,
                     who.password,
                     "api@example.org",
                     "5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
                     NULL,
                     "auth",
                     "GET",
                     "/ws?a=b"};
  check_digest(answer, d);
  if (CHECK(answer)) {
    CHECK_STR(part(answer, "username"), "793263caabb707a56211940d90411ea4"
                                        "a575adeccb7e360aeb624ed06ece9b0b");
    CHECK_STR(part(answer, "userhash"), "true");
  }
  sw_auth_wipe(answer);
  who = alice;
}

static void nonces_of_ours_are_fresh(void) {
  char *first = ask_value(D ", qop=auth"), *second = ask_value(D ", qop=auth");
  if (CHECK(first && second)) {
    CHECK(strcmp(part(first, "cnonce"), part(second, "cnonce")));
    CHECK(strcmp(part(first, "response"), part(second, "response")));
  }
  sw_auth_wipe(first);
  sw_auth_wipe(second);
  struct sw_random kept = source;
  for (size_t i = 0; i < 16; i++)
    source.block[SW_RANDOM_BLOCK - 16 + i] = (uint8_t)(0xf0 + i);
  source.left = 16;
  first = ask_value(D ", qop=auth");
  if (CHECK(first))
    CHECK_STR(part(first, "cnonce"), "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff");
  sw_auth_wipe(first);
  source = kept;
}

/* ---- Who we are -------------------------------------------------------- */

/* |quoted|: how the name stands in the answer. */
static void check_user(char *name, const char *quoted) {
  struct sw_credentials alice = who;
  who = (struct sw_credentials){name, (char *)""};
  char *answer = ask_value(D ", algorithm=SHA-256, qop=auth");
  struct digest d = {"SHA-256", name,   "",    "r",      "n",
                     NULL,      "auth", "GET", "/ws?a=b"};
  check_digest(answer, d);
  CHECK_STR(answer ? part(answer, "username") : NULL, quoted);
  sw_auth_wipe(answer);
  who = alice;
}

static void names_of_users_may_be_odd(void) {
  char name[512];
  check_user((char *)"a \"b\\c\"", "a \\\"b\\\\c\\\"");
  check_user((char *)"\\", "\\\\");
  check_user((char *)"", "");
  check_user((char *)"a, response=\"x", "a, response=\\\"x");
  check_user((char *)"sip:a:b@c", "sip:a:b@c");
  check_user((char *)"\xc3\xa4\xff", "\xc3\xa4\xff");
  memset(name, 'x', 256);
  name[256] = '\0';
  check_user(name, name);
  char quoted[513];
  memset(name, '"', 256);
  for (size_t i = 0; i < 512; i++)
    quoted[i] = i % 2 ? '"' : '\\';
  quoted[512] = '\0';
  check_user(name, quoted);
}

/* RFC 7617's example, and its padding. */
static void basic_is_base64(void) {
  static const struct {
    const char *user, *password, *answer;
  } pairs[] = {
      {"Aladdin", "open sesame", "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="},
      {"test", "123\xc2\xa3", "Basic dGVzdDoxMjPCow=="},
      {"a", "", "Basic YTo="},
      {"", "", "Basic Og=="},
      {"a", "b", "Basic YTpi"},
      {"a", ":\xff\xff\xff", "Basic YTo6////"},
      {"a\"", "b", "Basic YSI6Yg=="},
      {"a:b", "c", NULL},
      {":", "", NULL},
  };
  struct sw_credentials alice = who;
  for (size_t i = 0; i < COUNT(pairs); i++) {
    who.username = (char *)(uintptr_t)pairs[i].user;
    who.password = (char *)(uintptr_t)pairs[i].password;
    char *answer = ask_value(BASIC ", charset=\"UTF-8\"");
    CHECK_STR(answer, pairs[i].answer);
    sw_auth_wipe(answer);
  }
  who = alice;
}

/* ---- Bad challenges ---------------------------------------------------- */

#define ALICE "Basic YWxpY2U6aHVudGVyMi1DaXJjbGU="

static const struct {
  const char *fields, *answer;
} others[] = {
    {"", NULL},
    {"WWW-Authenticat: " D "\r\n", NULL},
    {"WWW-Authenticate2: " D "\r\n", NULL},
    {"Proxy-Authenticate: " BASIC "\r\n", NULL},
    {FIELD "\r\n", NULL},
    {FIELD ",,\t, \r\n", NULL},
    {FIELD "\"Basic\"\r\n", NULL},
    {FIELD "Bearer\r\n", NULL},
    {FIELD "Bearer realm=\"Basic\"\r\n", NULL},
    {FIELD "Bearer Basic\r\n", NULL},
    {FIELD "Bearer realm=\"x, Basic realm=\\\"y\\\"\"\r\n", NULL},
    {FIELD "Bearer realm=\"x, Basic realm=y\r\n", NULL},
    {FIELD "Basics realm=\"x\"\r\n", NULL},
    {FIELD "Digest\r\n", NULL},
    {FIELD "Digest realm=\"r\"\r\n", NULL},
    {FIELD "Digest nonce=\"n\"\r\n", NULL},
    {FIELD D ", algorithm=MD4\r\n", NULL},
    {FIELD D ", algorithm=SHA-2560\r\n", NULL},
    {FIELD D ", algorithm=SHA-25\r\n", NULL},
    {FIELD D ", qop=\"\"\r\n", NULL},
    {FIELD D ", qop=\"auth-conf\"\r\n", NULL},
    {FIELD D ", qop=\"authority\"\r\n", NULL},
    {FIELD D ", realm=\"r\"\r\n", NULL},
    {FIELD D ", opaque=\"x\r\n", NULL},
    {FIELD D ", opaque=\"x\\\"\r\n", NULL},
    {FIELD D ", opaque=\"x\\\r\n", NULL},
    {FIELD D ", x=\"y\" z\r\n", NULL},
    {FIELD "Digest realm=\"r\"nonce=\"n\"\r\n", NULL},
    {FIELD "Digest realm=\"r\"; nonce=\"n\"\r\n", NULL},
    {FIELD "Digest: realm=\"r\", nonce=\"n\"\r\n", NULL},
    {FIELD "Digest=realm, nonce=\"n\"\r\n", NULL},
    /* Basic, when there is nothing better */
    {FIELD BASIC "\r\n", ALICE},
    {FIELD "basic\r\n", ALICE},
    {FIELD "BASIC realm=x\r\n", ALICE},
    {FIELD "Bearer, Basic\r\n", ALICE},
    {FIELD BASIC ", Digest realm=\"r\"\r\n", ALICE},
    {FIELD D ", algorithm=MD4, " BASIC "\r\n", ALICE},
    {FIELD BASIC ", " D ", opaque=\"x\r\n", ALICE},
    {FIELD "Bearer\r\n" FIELD BASIC "\r\n", ALICE},
    {FIELD D ", opaque=\"x\r\nwww-authenticate: Basic\r\n", ALICE},
    {FIELD "Negotiate\r\nA: b\r\n" FIELD "NTLM, Basic realm=x\r\n", ALICE},
};

static void what_cannot_be_answered_is_not(void) {
  for (size_t i = 0; i < COUNT(others); i++) {
    char *answer = ask(others[i].fields);
    if (!CHECK_STR(answer, others[i].answer))
      fprintf(stderr, "  for %s\n", others[i].fields);
    sw_auth_wipe(answer);
  }
}

static void digest_goes_before_basic_in_other_fields(void) {
  const char *const orders[] = {
      FIELD BASIC "\r\n" FIELD D "\r\n", FIELD D "\r\n" FIELD BASIC "\r\n",
      FIELD "NTLM\r\n" FIELD D "\r\n" FIELD "Digest realm=s, nonce=t\r\n"};
  for (size_t i = 0; i < COUNT(orders); i++) {
    char *answer = ask(orders[i]);
    struct digest d = {"MD5", who.username, who.password, "r",      "n",
                       NULL,  NULL,         "GET",        "/ws?a=b"};
    check_digest(answer, d);
    sw_auth_wipe(answer);
  }
}

/* ---- Every other challenge --------------------------------------------- */

static const char *const models[] = {
    "Digest realm=\"a \\\"b\\\\\", nonce=\"n==\", algorithm=SHA-256, "
    "qop=\"auth,auth-int\", opaque=\"\", userhash=true, Basic realm=x",
    "Negotiate abc==, Basic realm=\"x, y\", Digest nonce=n,realm=r,qop=auth",
};

static void look_at(const char *fields, size_t length) {
  char *answer = ask_as("WWW-Authenticate", fields, length, "GET", "/");
  if (answer) {
    check_harmless(answer);
    CHECK(!strncmp(answer, "Digest username=\"", 17) || !strcmp(answer, ALICE));
  }
  sw_auth_wipe(answer);
}

static void every_beginning_is_read_within_bounds(void) {
  for (size_t i = 0; i < COUNT(models); i++) {
    char fields[512];
    size_t length =
        (size_t)snprintf(fields, sizeof fields, FIELD "%s", models[i]);
    for (size_t end = 0; end <= length; end++)
      look_at(fields, end);
  }
}

static void every_other_byte_does_no_harm(void) {
  static const char bytes[] = "\"\\,= \ta/:;\xff";
  for (size_t i = 0; i < COUNT(models); i++) {
    char fields[512];
    size_t length =
        (size_t)snprintf(fields, sizeof fields, FIELD "%s\r\n", models[i]);
    for (size_t at = sizeof FIELD - 1; at < length - 2; at++) {
      char kept = fields[at];
      for (size_t k = 0; k < sizeof bytes - 1; k++) {
        fields[at] = bytes[k];
        look_at(fields, length);
      }
      fields[at] = kept;
    }
  }
}

static char *fill(const char *before, const char *piece, const char *after) {
  static char value[LONG];
  size_t length = strlen(piece), used = strlen(before);
  strcpy(value, before);
  for (; used + length < 16384 - strlen(after); used += length)
    memcpy(value + used, piece, length);
  strcpy(value + used, after);
  return value;
}

static void huge_challenges_are_answered(void) {
  static const char *const pieces[] = {"Bearer,",
                                       "Negotiate a=,",
                                       ",",
                                       "\t",
                                       "Digest realm=\"\\\"\",",
                                       "Bearer x=\"y\",z=\"\",",
                                       "Digest realm=r,nonce=n,algorithm=X,"};
  struct digest d = {"MD5", who.username, who.password, NULL,     "n",
                     NULL,  "auth",       "GET",        "/ws?a=b"};
  const char *value = fill("Digest realm=\"", "r", "\", nonce=n, qop=auth");
  char realm[LONG];
  size_t length = strcspn(value + 14, "\"");
  memcpy(realm, value + 14, length);
  realm[length] = '\0';
  d.realm = realm;
  char *answer = ask_value(value);
  check_digest(answer, d);
  sw_auth_wipe(answer);
  d.realm = "r";
  for (size_t i = 0; i < COUNT(pieces); i++) {
    answer =
        ask_value(fill("", pieces[i], "Digest realm=\"r\",nonce=n,qop=auth"));
    check_digest(answer, d);
    sw_auth_wipe(answer);
  }
}

int main(void) {
  RUN(the_formulas_give_the_published_responses);
  RUN(digests_are_answered);
  RUN(answers_without_qop_are_known);
  RUN(opaque_and_algorithm_are_repeated);
  RUN(names_are_hashed_if_the_server_likes_that);
  RUN(nonces_of_ours_are_fresh);
  RUN(names_of_users_may_be_odd);
  RUN(basic_is_base64);
  RUN(what_cannot_be_answered_is_not);
  RUN(digest_goes_before_basic_in_other_fields);
  RUN(every_beginning_is_read_within_bounds);
  RUN(every_other_byte_does_no_harm);
  RUN(huge_challenges_are_answered);
  return test_summary("test_auth");
}
