/* SPDX-License-Identifier: MIT */

/* The WebSocket handshake's heads.  Whatever is parsed lies in memory that
   ends at a guard page; whatever is written goes to such memory. */

#include "http.h"
#include "sipwire.h"
#include "test.h"

/* Text with its length, so that it may hold NUL bytes. */
#define TEXT(literal) (literal), sizeof(literal) - 1
#define COUNT(array) (sizeof(array) / sizeof *(array))

/* The sample of RFC 6455 section 1.3. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#define S101 "HTTP/1.1 101 Switching Protocols\r\n"
#define UPG "Upgrade: websocket\r\n"
#define CON "Connection: Upgrade\r\n"
#define ACC "Sec-WebSocket-Accept: " ACCEPT "\r\n"
#define SUB "Sec-WebSocket-Protocol: sip\r\n"
#define GET "GET /ws HTTP/1.1\r\n"
#define HOST "Host: pbx.example\r\n"
#define SWK "Sec-WebSocket-Key: " KEY "\r\n"
#define VER "Sec-WebSocket-Version: 13\r\n"
#define END "\r\n"

/* The one copy that is being looked at. */
static char *held;
static size_t held_length;

static const char *hold(const char *text, size_t length) {
  if (held)
    test_unguard(held, held_length);
  held = text ? test_guarded(text, length) : NULL;
  held_length = length;
  return held;
}

static void release(void) {
  hold(NULL, 0);
}

static void check_slice(struct sw_slice slice, const char *want) {
  CHECK_MEM(slice.data, slice.length, want, strlen(want));
}

/* ---- Finding the end of a head ----------------------------------------- */

static void head_length_is_that_of_the_first_head(void) {
  CHECK_INT(sw_http_head_length(NULL, 0, 0), 0);
  CHECK_INT(sw_http_head_length("\r\n\r\n", 4, 0), 4);
  CHECK_INT(sw_http_head_length("a\r\n\r\nb\r\n\r\n", 10, 0), 5);
  CHECK_INT(sw_http_head_length("a\r\n\r\n\x81\x00", 7, 0), 5);
  CHECK_INT(sw_http_head_length("a\r\r\n\r\n", 7, 0), 6);
  CHECK_INT(sw_http_head_length("a\r\n\r\r\n\r\n", 8, 0), 8);
  CHECK_INT(sw_http_head_length("a\0\r\n\r\n", 6, 0), 6);
}

static void other_line_ends_are_no_end(void) {
  const char *const texts[] = {"a\n\n",      "a\r\r",     "a\n\r\n",
                               "a\r\n\n",    "a\r\n\r",   "a\r\n \r\n",
                               "a\r\nb\r\n", "a\n\r\n\r", "\r\n"};
  for (size_t i = 0; i < COUNT(texts); i++) {
    size_t length = strlen(texts[i]);
    CHECK_INT(sw_http_head_length(hold(texts[i], length), length, 0), 0);
  }
  release();
}

/* Feeds a head in pieces of |step| bytes, telling what was seen. */
static void feed(const char *text, size_t length, size_t head, size_t step) {
  size_t seen = 0, found = 0;
  for (size_t at = 0; !found && at < length; seen = at) {
    at = at + step < length ? at + step : length;
    found = sw_http_head_length(hold(text, at), at, seen);
    CHECK_INT(found, at < head ? 0 : head);
  }
  CHECK_INT(found, head);
  release();
}

static void head_length_in_pieces(void) {
  static const char text[] = S101 UPG "X: \r\r\n" END "\x81\x02hi\r\n\r\n";
  static const char head[] = S101 UPG "X: \r\r\n" END;
  for (size_t step = 1; step <= sizeof text; step++)
    feed(text, sizeof text - 1, sizeof head - 1, step);
}

static void head_length_from_any_seen(void) {
  static const char head[] = S101 END;
  size_t length = sizeof head - 1;
  hold(head, length);
  for (size_t seen = 0; seen < length; seen++)
    CHECK_INT(sw_http_head_length(held, length, seen), length);
  release();
}

/* What was seen in vain is not searched again: O(n) for a slow sender. */
static void head_length_does_not_look_back(void) {
  CHECK_INT(sw_http_head_length("\r\n\r\nabcdefgh\r\n\r\n", 16, 12), 16);
}

/* ---- Plausible beginnings ---------------------------------------------- */

static void plausible_is_every_prefix_of_a_response(void) {
  const char *const heads[] = {
      S101 UPG END, "HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 404 \r\nA: b\r\n\r\n",
      "HTTP/1.1 999\r\n\r\n", "HTTP/1.9 403 Nicht \xc3\xbc\t?\r\n\r\n"};
  for (size_t i = 0; i < COUNT(heads); i++)
    for (size_t length = 0; length <= strlen(heads[i]); length++)
      CHECK(sw_http_plausible(hold(heads[i], length), length));
  release();
}

static const struct {
  const char *text;
  size_t good; /* so many bytes are still plausible, one more is not */
} implausible[] = {
    {"SSH-2.0-OpenSSH_9.2\r\n", 0},
    {"\r\nHTTP/1.1 101 x\r\n", 0},
    {"\x16\x03\x01", 0},
    {"SIP/2.0 200 OK\r\n", 0},
    {" HTTP/1.1 101 x\r\n", 0},
    {"http/1.1 101 x\r\n", 0},
    {"HTTQ/1.1", 3},
    {"HTTP1.1", 4},
    {"HTTP/2.0 101 x\r\n", 5},
    {"HTTP/1,1", 6},
    {"HTTP/1.x", 7},
    {"HTTP/1.10 101 x\r\n", 8},
    {"HTTP/1.1\t101 x\r\n", 8},
    {"HTTP/1.1  101 x\r\n", 9},
    {"HTTP/1.1 001 x\r\n", 9},
    {"HTTP/1.1 x01 x\r\n", 9},
    {"HTTP/1.1 1x1 x\r\n", 10},
    {"HTTP/1.1 10 x\r\n", 11},
    {"HTTP/1.1 10\r\n", 11},
    {"HTTP/1.1 1011 x\r\n", 12},
    {"HTTP/1.1 101\tx\r\n", 12},
    {"HTTP/1.1 101\n", 12},
    {"HTTP/1.1 101\rx", 13},
    {"HTTP/1.1 101 a\nb\r\n", 14},
    {"HTTP/1.1 101 a\rb\r\n", 15},
    {"HTTP/1.1 101 a\x01\r\n", 14},
    {"HTTP/1.1 101 a\x7f\r\n", 14},
};

static void implausible_is_told_at_the_first_wrong_byte(void) {
  for (size_t i = 0; i < COUNT(implausible); i++) {
    size_t all = strlen(implausible[i].text);
    for (size_t length = 0; length <= all; length++)
      if (!CHECK_INT(
              sw_http_plausible(hold(implausible[i].text, length), length),
              length <= implausible[i].good))
        fprintf(stderr, "  for %zu bytes of %s\n", length, implausible[i].text);
  }
  CHECK(!sw_http_plausible("HTTP/1.1 101 \0", 14));
  release();
}

/* ---- Parsing ----------------------------------------------------------- */

static bool parse(bool request, const char *text, size_t length,
                  struct sw_http_head *head, const char **fault) {
  hold(text, length);
  return (request ? sw_http_parse_request
                  : sw_http_parse_response)(held, length, head, fault);
}

static void a_response_is_taken_apart(void) {
  struct sw_http_head head;
  const char *fault = "";
  CHECK(parse(false, TEXT("HTTP/1.1 403 Go Away\r\nA: b\r\nC:d\r\n\r\n"), &head,
              &fault));
  CHECK_INT(head.minor_version, 1);
  CHECK_INT(head.status, 403);
  check_slice(head.reason, "Go Away");
  check_slice(head.fields, "A: b\r\nC:d\r\n");
  CHECK(head.fields.data == held + 22);
  CHECK_STR(fault, "");
  CHECK(parse(false, TEXT("HTTP/1.0 200 \r\n\r\n"), &head, &fault));
  CHECK_INT(head.minor_version, 0);
  CHECK_INT(head.status, 200);
  check_slice(head.reason, "");
  check_slice(head.fields, "");
  CHECK(parse(false, TEXT("HTTP/1.1 999\r\n\r\n"), &head, &fault));
  CHECK_INT(head.status, 999);
  check_slice(head.reason, "");
  release();
}

static void a_request_is_taken_apart(void) {
  struct sw_http_head head;
  const char *fault = "";
  CHECK(parse(true, TEXT("OPTIONS /a?b HTTP/1.0\r\nA: b\r\n\r\n"), &head,
              &fault));
  CHECK_INT(head.minor_version, 0);
  check_slice(head.method, "OPTIONS");
  check_slice(head.target, "/a?b");
  check_slice(head.fields, "A: b\r\n");
  CHECK(parse(true, TEXT("M-SEARCH * HTTP/1.1\r\n\r\n"), &head, &fault));
  CHECK_INT(head.minor_version, 1);
  check_slice(head.method, "M-SEARCH");
  check_slice(head.target, "*");
  check_slice(head.fields, "");
  CHECK_STR(fault, "");
  /* RFC 9112 section 2.2: one empty line in front is ignored. */
  CHECK(parse(true, TEXT("\r\nGET / HTTP/1.1\r\nA: b\r\n\r\n"), &head, &fault));
  check_slice(head.method, "GET");
  check_slice(head.fields, "A: b\r\n");
  release();
}

/* Heads with something wrong behind a right first line. */
static const struct {
  const char *fields;
  size_t length;
  const char *fault;
} bad_fields[] = {
    {TEXT("A\r\n\r\n"), "header line without colon"},
    {TEXT("A: b\r\nno colon\r\n\r\n"), "header line without colon"},
    {TEXT("A: b\r\n\r\nC: d\r\n\r\n"), "header line without colon"},
    {TEXT(": b\r\n\r\n"), "malformed header name"},
    {TEXT("A : b\r\n\r\n"), "malformed header name"},
    {TEXT("A\t: b\r\n\r\n"), "malformed header name"},
    {TEXT("A b: c\r\n\r\n"), "malformed header name"},
    {TEXT("A(b): c\r\n\r\n"), "malformed header name"},
    {TEXT("(A: c\r\n\r\n"), "malformed header name"},
    {TEXT("\0A: c\r\n\r\n"), "malformed header name"},
    {TEXT("A: b\r\n\x7f: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\"b: c\r\n\r\n"), "malformed header name"},
    {TEXT("A/b: c\r\n\r\n"), "malformed header name"},
    {TEXT("A@b: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\xc3\xa4: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\0: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\x7f: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\rB: c\r\n\r\n"), "malformed header name"},
    {TEXT("A\nB: c\r\n\r\n"), "malformed header name"},
    {TEXT(" A: b\r\n\r\n"), "folded header line"},
    {TEXT("A: b\r\n c\r\n\r\n"), "folded header line"},
    {TEXT("A: b\r\n\tc: d\r\n\r\n"), "folded header line"},
    {TEXT("A: b\r\n \r\n\r\n"), "folded header line"},
    {TEXT("A:\x01\r\n\r\n"), "control byte in a header value"},
    {TEXT("A:\0b\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\0c\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\rc\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\nC: d\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\r\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\x01\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\x1f\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\x7f\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\r\nC: d\0\r\n\r\n"), "control byte in a header value"},
    {TEXT("A: b\r\n"), "incomplete head"},
    {TEXT("A: b"), "incomplete head"},
    {TEXT("A: b\n\n"), "incomplete head"},
    {TEXT("A: b\r\n\r\n\x81"), "incomplete head"},
    {TEXT("A: b\r\n\r"), "incomplete head"},
};

static void refused_head(bool request, const char *text, size_t length,
                         const char *want) {
  struct sw_http_head head, before;
  const char *fault = NULL;
  memset(&before, 0xa5, sizeof before);
  memcpy(&head, &before, sizeof head);
  CHECK(!parse(request, text, length, &head, &fault));
  if (!CHECK_STR(fault, want))
    fprintf(stderr, "  for %s\n", text);
  CHECK(!memcmp(&head, &before, sizeof head));
}

static void bad_fields_are_errors(void) {
  for (size_t i = 0; i < COUNT(bad_fields); i++)
    for (int request = 0; request < 2; request++) {
      const char *line = request ? GET : S101;
      char text[128];
      size_t length = strlen(line);
      memcpy(text, line, length);
      memcpy(text + length, bad_fields[i].fields, bad_fields[i].length);
      refused_head(request, text, length + bad_fields[i].length,
                   bad_fields[i].fault);
    }
  release();
}

static void odd_but_legal_fields_are_none(void) {
  struct sw_http_head head;
  const char *fault;
  CHECK(parse(false,
              TEXT(S101 "A:\r\nB: \t \r\nC:d:e\r\n!#$%&'*+-.^_`|~9zZ: \x80\xff"
                        "\t(x)\r\nA: again\r\n\r\n"),
              &head, &fault));
  release();
}

static void bad_status_lines_are_errors(void) {
  for (size_t i = 0; i < COUNT(implausible); i++) {
    char text[64];
    snprintf(text, sizeof text, "%s\r\n\r\n", implausible[i].text);
    refused_head(false, text, strlen(text), "not an HTTP/1.x response");
  }
  refused_head(false, TEXT(GET END), "not an HTTP/1.x response");
  refused_head(false, TEXT("\r\n\r\n"), "not an HTTP/1.x response");
  refused_head(false, TEXT("HTTP/1.1 10\r\n\r\n"), "not an HTTP/1.x response");
  refused_head(false, TEXT("HTTP/1.1\r\n\r\n"), "not an HTTP/1.x response");
  refused_head(false, TEXT("H\r\n\r\n"), "not an HTTP/1.x response");
  refused_head(false, TEXT("HTTP/1.1 101 \0\r\n\r\n"),
               "not an HTTP/1.x response");
  refused_head(false, TEXT(""), "incomplete head");
  refused_head(false, TEXT("\r\n\r"), "incomplete head");
  refused_head(false, TEXT("HTTP/1.1 101 x"), "incomplete head");
  release();
}

static void bad_request_lines_are_errors(void) {
  const struct {
    const char *line;
    size_t length;
    const char *fault;
  } lines[] = {
      {TEXT("GET\r\n\r\n"), "malformed request line"},
      {TEXT("GET \r\n\r\n"), "malformed request line"},
      {TEXT("GET  / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT(" GET / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("G@T / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET\t/ HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("@GET / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET \t/ HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET \x7f HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\t HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\0 HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\x7f HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\xc3\xa4 HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\nX HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("GET /\rX HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("\n\nGET / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), "malformed request line"},
      {TEXT("\r\n\r\n\r\n"), "malformed request line"},
      {TEXT(S101 END), "malformed request line"},
      {TEXT("GET /\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / \r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.1 \r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET /  HTTP/1.1\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/2.0\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.x\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.10\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / http/1.1\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / SIP/2.0\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.1\rX\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT("GET / HTTP/1.1\nX\r\n\r\n"), "not an HTTP/1.x request"},
      {TEXT(""), "incomplete head"},
      {TEXT("\r"), "incomplete head"},
      {TEXT("\r\n"), "incomplete head"},
      {TEXT("\r\n\r"), "incomplete head"},
      {TEXT("\r\n\r\n"), "incomplete head"},
      {TEXT("GET / HTTP/1.1\r\n"), "incomplete head"},
  };
  for (size_t i = 0; i < COUNT(lines); i++)
    refused_head(true, lines[i].line, lines[i].length, lines[i].fault);
  release();
}

/* A head cut or changed anywhere is read within its bounds; most changes
   leave something that is refused, and none a slice out of the head. */
static void check_bounds(const char *text, size_t length, bool request) {
  struct sw_http_head head;
  struct sw_slice name, value, key;
  const char *fault;
  size_t offset = 0;
  if (!parse(request, text, length, &head, &fault))
    return;
  CHECK(head.fields.data >= held &&
        head.fields.data + head.fields.length == held + length - 2);
  while (sw_http_next_field(head.fields, &offset, &name, &value))
    CHECK(name.length && value.data + value.length + 2 <= held + length - 2);
  if (request)
    sw_http_judge_request(&head, &key, &fault);
  else
    sw_http_judge_response(&head, ACCEPT, &fault);
}

static void changed_heads_are_read_within_bounds(void) {
  static const char request[] = GET HOST UPG CON SWK VER SUB END;
  static const char response[] = S101 UPG CON ACC SUB END;
  static const char bytes[] = "\0\r\n :,\t\xff"
                              "0";
  for (int r = 0; r < 2; r++) {
    const char *whole = r ? request : response;
    for (size_t cut = 0; cut <= strlen(whole); cut++)
      check_bounds(whole, cut, r);
    for (size_t at = 0; at < strlen(whole); at++)
      for (size_t b = 0; b < sizeof bytes - 1; b++) {
        char text[512];
        memcpy(text, whole, strlen(whole));
        text[at] = bytes[b];
        check_bounds(text, strlen(whole), r);
      }
  }
  release();
}

/* ---- Fields ------------------------------------------------------------ */

static void fields_are_walked_in_order(void) {
  static const char text[] = "A: b\r\nC:\r\nD: \t e f\t \r\na:g:h\r\n";
  const char *const want[][2] = {
      {"A", "b"}, {"C", ""}, {"D", "e f"}, {"a", "g:h"}};
  struct sw_slice fields = {hold(TEXT(text)), sizeof text - 1}, name, value;
  size_t offset = 0;
  for (size_t i = 0; i < COUNT(want); i++) {
    CHECK(sw_http_next_field(fields, &offset, &name, &value));
    check_slice(name, want[i][0]);
    check_slice(value, want[i][1]);
  }
  CHECK(!sw_http_next_field(fields, &offset, &name, &value));
  CHECK(!sw_http_next_field(fields, &offset, &name, &value));
  offset = 0;
  CHECK(
      !sw_http_next_field((struct sw_slice){NULL, 0}, &offset, &name, &value));
  release();
}

/* Nobody hands these in, but no byte behind them is read. */
static void unfinished_fields_are_walked_within_bounds(void) {
  const char *const texts[] = {"A",      "A:",   "A: b",      "A: b\r",
                               "A: b\n", "\r\n", "A: b\r\nC", "A: b\r\nC: d\r",
                               ":",      " "};
  for (size_t i = 0; i < COUNT(texts); i++) {
    size_t length = strlen(texts[i]), offset = 0, lines = 0;
    struct sw_slice fields = {hold(texts[i], length), length}, name, value;
    while (sw_http_next_field(fields, &offset, &name, &value)) {
      lines++;
      if (texts[i][0] == 'A' && lines == 1)
        check_slice(name, "A");
      CHECK(name.data >= held && name.data + name.length <= held + length);
      CHECK(value.data >= held && value.data + value.length <= held + length);
    }
    CHECK_INT(lines, strncmp(texts[i], "A: b\r\n", 6) ? 1 : 2);
    CHECK_INT(offset, length);
  }
  release();
}

/* The end of a head that begins before |data| is none of its own. */
static void nothing_in_front_of_a_head_is_read(void) {
  struct sw_http_head head;
  const char *fault = "", *text = "\r\n\r\n";
  CHECK(!sw_http_parse_response(text + 1, 3, &head, &fault));
  CHECK_STR(fault, "incomplete head");
  CHECK(!sw_http_parse_request(text + 1, 3, &head, &fault));
  CHECK_STR(fault, "incomplete head");
  CHECK_INT(sw_http_head_length(text + 1, 3, 3), 0);
}

static void the_first_field_of_a_name_is_found(void) {
  static const char text[] = "Xa: 0\r\nA: 1\r\nAx: 2\r\na: 3\r\nB-c: 4\r\n";
  struct sw_slice fields = {hold(TEXT(text)), sizeof text - 1};
  struct sw_slice value = {"kept", 4};
  CHECK(!sw_http_field(fields, "X", &value));
  CHECK(!sw_http_field(fields, "", &value));
  CHECK(!sw_http_field(fields, "1", &value));
  check_slice(value, "kept");
  CHECK(sw_http_field(fields, "a", &value));
  check_slice(value, "1");
  CHECK(sw_http_field(fields, "b-C", &value));
  check_slice(value, "4");
  CHECK(sw_http_field(fields, "AX", &value));
  check_slice(value, "2");
  /* '-' and CR, '[' and '{' differ like 'A' and 'a' do. */
  CHECK(!sw_http_field(fields, "b\rc", &value));
  release();
  CHECK(!sw_http_field((struct sw_slice){"[: 1\r\n", 6}, "{", &value));
  CHECK(!sw_http_field((struct sw_slice){"@: 1\r\n", 6}, "`", &value));
}

/* ---- Checks for what users give ---------------------------------------- */

static void headers_of_users_are_checked(void) {
  const char *const reserved[] = {"Host",
                                  "host",
                                  "UPGRADE",
                                  "Connection",
                                  "Content-Length",
                                  "transfer-encoding",
                                  "Sec-WebSocket-Key",
                                  "sec-websocket-protocol",
                                  "SEC-WEBSOCKET-VERSION",
                                  "Sec-WebSocket-Extensions",
                                  "Sec-WebSocket-",
                                  "Sec-WebSocket-K",
                                  "Sec-WebSocket-Accept",
                                  "Sec-WebSocket-Anything"};
  const char *const free_names[] = {"Origin",
                                    "Cookie",
                                    "Authorization",
                                    "Hos",
                                    "Hosts",
                                    "X-Host",
                                    "Sec-WebSocket",
                                    "Upgrad",
                                    "Upgrade-More",
                                    "Content",
                                    "T",
                                    "!#$%&'*+-.^_`|~",
                                    "User-Agent",
                                    "Proxy-Connection"};
  const char *const names[] = {
      "",    " ",   "a b", "a:",    "a\r\n",    "a\t", " a",  "a ", "a/b",
      "(a)", "a\"", "a,b", "a\x7f", "\xc3\xa4", "a=b", "[a]", "{",  "a@"};
  for (size_t i = 0; i < COUNT(reserved); i++)
    CHECK_STR(sw_http_header_fault(reserved[i], "x"),
              "header is set by the upgrade itself");
  for (size_t i = 0; i < COUNT(free_names); i++)
    CHECK_STR(sw_http_header_fault(free_names[i], "x"), NULL);
  for (size_t i = 0; i < COUNT(names); i++)
    CHECK_STR(sw_http_header_fault(names[i], "x"),
              "header name is not an HTTP token");
  CHECK(sw_http_header_fault(NULL, "x") && sw_http_header_fault("A", NULL));
}

static void values_and_reasons_of_users_are_checked(void) {
  for (int c = 1; c < 256; c++) {
    char text[] = {'a', (char)c, 'b', '\0'};
    bool good = c == '\t' || (c >= 0x20 && c != 0x7f);
    const char *fault = sw_http_header_fault("A", text);
    CHECK_STR(fault, good ? NULL : "header value has a control character");
    fault = sw_http_reason_fault(text);
    CHECK_STR(fault, good ? NULL : "reason has a control character");
    CHECK(!sw_http_header_fault("A", text + 1) == good);
    CHECK(!sw_http_reason_fault(text + 1) == good);
  }
  CHECK_STR(sw_http_header_fault("A", ""), NULL);
  CHECK_STR(sw_http_reason_fault(""), NULL);
  CHECK_STR(sw_http_reason_fault(NULL), NULL);
  CHECK(sw_http_header_fault("A", "b\r\nHost: evil"));
}

/* ---- Judging the server ------------------------------------------------ */

static int judge_response(const char *text, size_t length, const char **fault) {
  struct sw_http_head head;
  const char *why = "";
  *fault = NULL;
  if (!CHECK(parse(false, text, length, &head, &why))) {
    fprintf(stderr, "  %s in %s\n", why, text);
    return 1;
  }
  return sw_http_judge_response(&head, ACCEPT, fault);
}

static void good_responses_are_accepted(void) {
  const char *const heads[] = {
      S101 UPG CON ACC SUB END,
      /* What Kamailio says. */
      S101 "Sia: SIP/2.0/TCP 127.0.0.1:33333\r\n" SUB UPG
           "Connection: upgrade\r\n" ACC
           "Server: kamailio (5.6.3 (x86_64/linux))\r\n"
           "Content-Length: 0\r\n" END,
      "HTTP/1.1 101\r\n" UPG CON ACC SUB END,
      "HTTP/1.1 101 \r\n" UPG CON ACC SUB END,
      "HTTP/1.1 101 Web Socket Protocol Handshake\r\n" UPG CON ACC SUB END,
      "HTTP/1.2 101 x\r\n" UPG CON ACC SUB END,
      /* names in any case, values with blanks around or without */
      S101 "UPGRADE:WebSocket\r\nconnection: \t UPGRADE \t\r\n"
           "sec-websocket-accept:" ACCEPT
           "\r\nSEC-WEBSOCKET-PROTOCOL:sip \r\n" END,
      /* lists, in one field or several, with empty elements */
      S101 UPG "Connection: keep-alive, Upgrade\r\n" ACC SUB END,
      S101 UPG "Connection: Upgrade,keep-alive\r\n" ACC SUB END,
      S101 UPG "Connection: , ,\tupgrade ,\r\n" ACC SUB END,
      S101 UPG "Connection: keep-alive\r\nConnection: Upgrade\r\n" ACC SUB END,
      S101 UPG CON "Connection: keep-alive\r\n" ACC SUB END,
      S101 UPG "Connection:\r\n" CON ACC SUB END,
      S101 "Upgrade: websocket,\r\n" CON ACC SUB END,
      S101 "Upgrade:\r\n" UPG CON ACC SUB END,
      S101 UPG UPG CON ACC SUB END,
      /* no extension at all, said in words */
      S101 UPG CON ACC SUB "Sec-WebSocket-Extensions:\r\n" END,
      S101 UPG CON ACC SUB "Sec-WebSocket-Extensions: \t\r\n" END,
      /* fields that do not matter */
      S101 UPG CON ACC SUB "Content-Length: 500\r\n" END,
      S101 UPG CON ACC SUB "Transfer-Encoding: chunked\r\n" END,
      S101 UPG CON ACC SUB "Sec-WebSocket-Version: 8\r\n" END,
      S101 "Set-Cookie: a\r\nSet-Cookie: b\r\n" UPG CON ACC SUB "X:\r\n" END,
  };
  for (size_t i = 0; i < COUNT(heads); i++) {
    const char *fault;
    if (!CHECK_INT(judge_response(heads[i], strlen(heads[i]), &fault), 0))
      fprintf(stderr, "  %s for\n%s", fault, heads[i]);
    CHECK_STR(fault, NULL);
  }
  release();
}

#define NO_UPGRADE "101 without Upgrade: websocket"
#define NO_CONNECTION "101 without Connection: Upgrade"
#define NO_ACCEPT "101 without exactly one Sec-WebSocket-Accept"
#define WRONG_ACCEPT "wrong Sec-WebSocket-Accept"
#define EXTENSION "server chose an extension that was not offered"

/* Each breaks one rule and keeps all others. */
static const struct {
  const char *head, *fault;
} not_http[] = {
    {"HTTP/1.1 100 Continue\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.1 102 x\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.1 200 OK\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.1 302 Found\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.1 401 x\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.1 403 Forbidden\r\n\r\n", "upgrade refused"},
    {"HTTP/1.1 503\r\n" UPG CON ACC SUB END, "upgrade refused"},
    {"HTTP/1.0 101 x\r\n" UPG CON ACC SUB END, "101 with HTTP/1.0"},
    {S101 CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade:\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: ,\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: h2c\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: websocke\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: websockets\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: websocket/13\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: web socket\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: websocket h2c\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: websocket, h2c\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrade: h2c, websocket\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 UPG "Upgrade: h2c\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 "Upgrades: websocket\r\n" CON ACC SUB END, NO_UPGRADE},
    {S101 UPG ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection:\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection: close\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection: keep-alive\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection: Upgraded\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection: not upgrade\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Connection: upgrade;x\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG "Proxy-Connection: Upgrade\r\n" ACC SUB END, NO_CONNECTION},
    {S101 UPG CON SUB END, NO_ACCEPT},
    {S101 UPG CON ACC ACC SUB END, NO_ACCEPT},
    {S101 UPG CON ACC "sec-websocket-accept: x\r\n" SUB END, NO_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept:\r\n" ACC SUB END, NO_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept:\r\n" SUB END, WRONG_ACCEPT},
    {S101 UPG CON
     "Sec-WebSocket-Accept: S3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON
     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept: " ACCEPT "=\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept: " ACCEPT ",\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept: " ACCEPT ", " ACCEPT "\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON "Sec-WebSocket-Accept: \"" ACCEPT "\"\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON
     "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOp=\r\n" SUB END,
     WRONG_ACCEPT},
    {S101 UPG CON ACC SUB
     "Sec-WebSocket-Extensions: permessage-deflate\r\n" END,
     EXTENSION},
    {S101 "Sec-WebSocket-Extensions: x\r\n" UPG CON ACC SUB END, EXTENSION},
    {S101 UPG CON ACC SUB "sec-websocket-extensions: x\r\n" END, EXTENSION},
    {S101 UPG CON ACC SUB "Sec-WebSocket-Extensions: ,\r\n" END, EXTENSION},
    {S101 UPG CON ACC SUB
     "Sec-WebSocket-Extensions:\r\nSec-WebSocket-Extensions: x\r\n" END,
     EXTENSION},
};

static void bad_responses_are_refused(void) {
  for (size_t i = 0; i < COUNT(not_http); i++) {
    const char *fault, *head = not_http[i].head;
    bool held_up =
        CHECK_INT(judge_response(head, strlen(head), &fault), SIPWIRE_EHTTP);
    if (!CHECK_STR(fault, not_http[i].fault) || !held_up)
      fprintf(stderr, "  for\n%s", head);
  }
  release();
}

static const struct {
  const char *field, *fault;
} not_sip[] = {
    {"", "server chose no subprotocol"},
    {"X: sip\r\n", "server chose no subprotocol"},
    {"Sec-WebSocket-Protocols: sip\r\n", "server chose no subprotocol"},
    {"Sec-WebSocket-Protocol:\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: chat\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: SIP\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: Sip\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: sips\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: si\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: \"sip\"\r\n", "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: sip, sip\r\n",
     "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: sip, msrp\r\n",
     "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: msrp, sip\r\n",
     "server chose another subprotocol"},
    {"Sec-WebSocket-Protocol: sip,\r\n", "server chose another subprotocol"},
    {SUB SUB, "server chose several subprotocols"},
    {SUB "sec-websocket-protocol: msrp\r\n",
     "server chose several subprotocols"},
    {"Sec-WebSocket-Protocol: msrp\r\n" SUB,
     "server chose several subprotocols"},
    {SUB "Sec-WebSocket-Protocol:\r\n", "server chose several subprotocols"},
};

static void other_subprotocols_are_told_apart(void) {
  for (size_t i = 0; i < COUNT(not_sip); i++) {
    char head[512];
    const char *fault;
    snprintf(head, sizeof head, S101 UPG CON ACC "%s" END, not_sip[i].field);
    bool held_up = CHECK_INT(judge_response(head, strlen(head), &fault),
                             SIPWIRE_ESUBPROTOCOL);
    if (!CHECK_STR(fault, not_sip[i].fault) || !held_up)
      fprintf(stderr, "  for\n%s", head);
  }
  release();
}

/* ---- Judging the client ------------------------------------------------ */

static int judge_request(const char *text, struct sw_slice *key,
                         const char **fault) {
  struct sw_http_head head;
  const char *why = "";
  *fault = NULL;
  if (!CHECK(parse(true, text, strlen(text), &head, &why))) {
    fprintf(stderr, "  %s in %s\n", why, text);
    return -1;
  }
  return sw_http_judge_request(&head, key, fault);
}

static void good_requests_are_accepted(void) {
  const char *const heads[] = {
      GET HOST UPG CON SWK VER SUB END,
      "GET / HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END,
      "GET /?a=~b HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END,
      "GET //x HTTP/1.9\r\n" HOST UPG CON SWK VER SUB END,
      GET "Host: [2001:db8::1]:8443\r\n" UPG CON SWK VER SUB END,
      GET "Host: a\r\n" UPG CON SWK VER SUB END,
      GET "hOST:a_b%41:1\r\n" UPG CON SWK VER SUB END,
      GET HOST "upgrade: WEBSOCKET\r\nCONNECTION: upgrade\r\n"
               "sec-websocket-key:" KEY "\r\nsec-websocket-version: 13 \r\n"
               "SEC-WEBSOCKET-PROTOCOL: sip\r\n" END,
      GET HOST "Upgrade: h2c, websocket\r\n" CON SWK VER SUB END,
      GET HOST "Upgrade: h2c\r\n" UPG CON SWK VER SUB END,
      GET HOST UPG "Connection: keep-alive, Upgrade\r\n" SWK VER SUB END,
      GET HOST UPG "Connection: keep-alive\r\n" CON SWK VER SUB END,
      GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: msrp, sip\r\n" END,
      GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: sip,msrp\r\n" END,
      GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: msrp\r\n" SUB END,
      GET HOST UPG CON SWK VER SUB "Sec-WebSocket-Protocol: msrp\r\n" END,
      GET HOST UPG CON SWK VER SUB
      "Sec-WebSocket-Extensions: permessage-deflate; x\r\n" END,
      GET HOST UPG CON SWK VER SUB "Origin: https://a\r\nCookie: b\r\n" END,
      GET HOST UPG CON SWK VER SUB "Content-Length: 0\r\n" END,
  };
  for (size_t i = 0; i < COUNT(heads); i++) {
    const char *fault;
    struct sw_slice key = {NULL, 0};
    if (!CHECK_INT(judge_request(heads[i], &key, &fault), 0))
      fprintf(stderr, "  %s for\n%s", fault, heads[i]);
    else
      check_slice(key, KEY);
    CHECK_STR(fault, NULL);
  }
  release();
}

#define BAD_HOST "not exactly one valid Host"
#define BAD_TARGET "target is not a path"
#define BAD_KEY "not exactly one valid Sec-WebSocket-Key"
#define BAD_VERSION "Sec-WebSocket-Version is not 13"
#define NO_SIP "client does not offer subprotocol sip"
#define BODY "request has a body"
#define ASKS_NO_UPGRADE "request without Upgrade: websocket"
#define ASKS_NO_CONNECTION "request without Connection: Upgrade"

static const struct {
  const char *head;
  int status;
  const char *fault;
} bad_requests[] = {
    {"GET /ws HTTP/1.0\r\n" HOST UPG CON SWK VER SUB END, 505,
     "request is not HTTP/1.1"},
    {"POST /ws HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 405,
     "method is not GET"},
    {"get /ws HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 405,
     "method is not GET"},
    {"GETS /ws HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 405,
     "method is not GET"},
    {"GET * HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400, BAD_TARGET},
    {"GET ws HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400, BAD_TARGET},
    {"GET ?q HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400, BAD_TARGET},
    {"GET http://a/ HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400,
     BAD_TARGET},
    {"GET a:80 HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400, BAD_TARGET},
    {"GET /ws#f HTTP/1.1\r\n" HOST UPG CON SWK VER SUB END, 400, BAD_TARGET},
    {GET UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET HOST HOST UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET HOST "host: other\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host:\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host: a b\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host: /a\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host: a/b\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host: u@a\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Host: \xc3\xa4\r\n" UPG CON SWK VER SUB END, 400, BAD_HOST},
    {GET "Content-Length: 1\r\n" HOST UPG CON SWK VER SUB END, 400, BODY},
    {GET HOST UPG CON SWK VER SUB "Content-Length: 1\r\n" END, 400, BODY},
    {GET HOST UPG CON SWK VER SUB "Content-Length:\r\n" END, 400, BODY},
    {GET HOST UPG CON SWK VER SUB
     "Content-Length: 0\r\nContent-Length: 5\r\n" END,
     400, BODY},
    {GET HOST UPG CON SWK VER SUB "Transfer-Encoding: chunked\r\n" END, 400,
     BODY},
    {GET HOST CON SWK VER SUB END, 400, ASKS_NO_UPGRADE},
    {GET HOST "Upgrade:\r\n" CON SWK VER SUB END, 400, ASKS_NO_UPGRADE},
    {GET HOST "Upgrade: h2c\r\n" CON SWK VER SUB END, 400, ASKS_NO_UPGRADE},
    {GET HOST "Upgrade: websockets\r\n" CON SWK VER SUB END, 400,
     ASKS_NO_UPGRADE},
    {GET HOST UPG SWK VER SUB END, 400, ASKS_NO_CONNECTION},
    {GET HOST UPG "Connection: close\r\n" SWK VER SUB END, 400,
     ASKS_NO_CONNECTION},
    {GET HOST UPG "Connection: Upgraded\r\n" SWK VER SUB END, 400,
     ASKS_NO_CONNECTION},
    {GET HOST UPG CON SWK SUB END, 426, BAD_VERSION},
    {GET HOST UPG CON SWK VER VER SUB END, 426, BAD_VERSION},
    {GET HOST UPG CON SWK "Sec-WebSocket-Version: 8\r\n" SUB END, 426,
     BAD_VERSION},
    {GET HOST UPG CON SWK "Sec-WebSocket-Version: 013\r\n" SUB END, 426,
     BAD_VERSION},
    {GET HOST UPG CON SWK "Sec-WebSocket-Version: 131\r\n" SUB END, 426,
     BAD_VERSION},
    {GET HOST UPG CON SWK "Sec-WebSocket-Version: 13, 8\r\n" SUB END, 426,
     BAD_VERSION},
    {GET HOST UPG CON SWK "Sec-WebSocket-Version:\r\n" SUB END, 426,
     BAD_VERSION},
    {GET HOST UPG CON VER SUB END, 400, BAD_KEY},
    {GET HOST UPG CON SWK SWK VER SUB END, 400, BAD_KEY},
    {GET HOST UPG CON SWK "sec-websocket-key: x\r\n" VER SUB END, 400, BAD_KEY},
    {GET HOST UPG CON SWK VER END, 400, NO_SIP},
    {GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol:\r\n" END, 400, NO_SIP},
    {GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: msrp\r\n" END, 400,
     NO_SIP},
    {GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: SIP\r\n" END, 400,
     NO_SIP},
    {GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: sips, xsip\r\n" END, 400,
     NO_SIP},
    {GET HOST UPG CON SWK VER "Sec-WebSocket-Protocol: msrp sip\r\n" END, 400,
     NO_SIP},
};

static void bad_requests_are_refused(void) {
  for (size_t i = 0; i < COUNT(bad_requests); i++) {
    const char *fault;
    struct sw_slice key = {"kept", 4};
    bool held_up = CHECK_INT(judge_request(bad_requests[i].head, &key, &fault),
                             bad_requests[i].status);
    if (!CHECK_STR(fault, bad_requests[i].fault) || !held_up)
      fprintf(stderr, "  for\n%s", bad_requests[i].head);
    check_slice(key, "kept");
  }
  release();
}

static void keys_are_16_bytes_in_base64(void) {
  const struct {
    const char *key;
    int status;
  } keys[] = {
      {KEY, 0},
      {"AAAAAAAAAAAAAAAAAAAAAA==", 0},
      {"++++++++++//////////09==", 0},
      {"aaaaaaaaaaaaaaaaaaaaaz==", 0}, /* bits too many: tolerated */
      {"", 400},
      {"dGhlIHNhbXBsZSBub25jZQ", 400},
      {"dGhlIHNhbXBsZSBub25jZQ=", 400},
      {"dGhlIHNhbXBsZSBub25jZQ===", 400},
      {"dGhlIHNhbXBsZSBub25jZQaa", 400},
      {"dGhlIHNhbXBsZSBub25jZQa=", 400},
      {"dGhlIHNhbXBsZSBub25jZQ=a", 400},
      {"dGhlIHNhbXBsZSBub25jZ===", 400},
      {"=GhlIHNhbXBsZSBub25jZQ==", 400},
      {"dGhlIHNhbXBsZSBub25 ZQ==", 400},
      {"dGhlIHNhbXBsZSBub25-ZQ==", 400},
      {"dGhlIHNhbXBsZSBub25_ZQ==", 400},
      {"\"dGhlIHNhbXBsZSBub25jZQ\"", 400},
      {"dGhlIHNhbXBsZSBub25\xc3\xa4ZQ==", 400},
      {KEY "," KEY, 400},
      {"dGhlIHNhbXBsZSBub25jZSBsb25nZXI=", 400},
  };
  for (size_t i = 0; i < COUNT(keys); i++) {
    char head[512];
    struct sw_slice key = {"", 0};
    const char *fault;
    snprintf(head, sizeof head,
             GET HOST UPG CON "Sec-WebSocket-Key: %s\r\n" VER SUB END,
             keys[i].key);
    if (!CHECK_INT(judge_request(head, &key, &fault), keys[i].status))
      fprintf(stderr, "  for %s\n", keys[i].key);
    check_slice(key, keys[i].status ? "" : keys[i].key);
  }
  release();
}

/* ---- Writing ----------------------------------------------------------- */

/* Writes with every size from none to all, into memory that ends at a guard
   page, and once into more than enough. */
static void check_writer(size_t (*write)(char *, size_t), const char *want) {
  size_t all = strlen(want);
  char more[1024];
  CHECK_INT(write(NULL, 0), all);
  for (size_t size = 0; size <= all; size++) {
    char *out = test_guarded(want, size);
    memset(out, '#', size);
    CHECK_INT(write(out, size), all);
    CHECK_MEM(out, size, want, size);
    test_unguard(out, size);
  }
  memset(more, '#', sizeof more);
  CHECK_INT(write(more, all + 9), all);
  CHECK_MEM(more, all, want, all);
  CHECK_MEM(more + all, 9, "#########", 9);
}

static struct sw_http_upgrade upgrade;

static size_t write_upgrade(char *out, size_t size) {
  return sw_http_write_upgrade(out, size, &upgrade);
}

static struct sw_slice slice(const char *text) {
  return (struct sw_slice){text, strlen(text)};
}

static void plain_upgrade(void) {
  upgrade = (struct sw_http_upgrade){
      .authority = {.host = slice("pbx.example"), .port = 80},
      .default_port = true,
      .target = slice("/ws?x=1"),
      .key = KEY};
}

#define REST UPG CON SWK VER SUB

static void upgrades_are_written(void) {
  const struct sipwire_header headers[] = {{"Origin", "https://a"},
                                           {"Cookie", "b=c; d=e"},
                                           {"X-Empty", ""},
                                           {"Cookie", "f=g"}};
  plain_upgrade();
  check_writer(write_upgrade,
               "GET /ws?x=1 HTTP/1.1\r\nHost: pbx.example\r\n" REST END);
  upgrade.headers = headers;
  upgrade.header_count = 4;
  check_writer(write_upgrade,
               "GET /ws?x=1 HTTP/1.1\r\nHost: pbx.example\r\n" REST
               "Origin: https://a\r\nCookie: b=c; d=e\r\nX-Empty: \r\n"
               "Cookie: f=g\r\n" END);
}

static void targets_begin_with_a_slash(void) {
  const struct {
    const char *target, *want;
  } cases[] = {
      {"", "GET / HTTP/1.1\r\n"},           {"/", "GET / HTTP/1.1\r\n"},
      {"?q", "GET /?q HTTP/1.1\r\n"},       {"?", "GET /? HTTP/1.1\r\n"},
      {"/?", "GET /? HTTP/1.1\r\n"},        {"//a", "GET //a HTTP/1.1\r\n"},
      {"/%20?/", "GET /%20?/ HTTP/1.1\r\n"}};
  plain_upgrade();
  for (size_t i = 0; i < COUNT(cases); i++) {
    char want[512];
    upgrade.target = slice(cases[i].target);
    snprintf(want, sizeof want, "%sHost: pbx.example\r\n" REST END,
             cases[i].want);
    check_writer(write_upgrade, want);
  }
  upgrade.target = (struct sw_slice){NULL, 0};
  check_writer(write_upgrade,
               "GET / HTTP/1.1\r\nHost: pbx.example\r\n" REST END);
}

static void hosts_carry_port_and_brackets(void) {
  const struct {
    const char *host;
    bool ipv6, default_port;
    unsigned port;
    const char *want;
  } cases[] = {{"a", false, true, 80, "a"},
               {"a", false, true, 443, "a"},
               {"a", false, false, 443, "a:443"},
               {"A.b.", false, false, 65535, "A.b.:65535"},
               {"1.2.3.4", false, false, 1, "1.2.3.4:1"},
               {"::1", true, true, 80, "[::1]"},
               {"2001:DB8::1", true, false, 8443, "[2001:DB8::1]:8443"}};
  plain_upgrade();
  upgrade.target = slice("/");
  for (size_t i = 0; i < COUNT(cases); i++) {
    char want[512];
    upgrade.authority.host = slice(cases[i].host);
    upgrade.authority.ipv6_literal = cases[i].ipv6;
    upgrade.default_port = cases[i].default_port;
    upgrade.authority.port = cases[i].port;
    snprintf(want, sizeof want, "GET / HTTP/1.1\r\nHost: %s\r\n" REST END,
             cases[i].want);
    check_writer(write_upgrade, want);
  }
}

/* Slices end where they say, and the key after its 24 characters. */
static void an_answer_to_a_challenge_stands_before_the_users_headers(void) {
  const struct sipwire_header header = {"Origin", "https://a"};
  plain_upgrade();
  upgrade.headers = &header;
  upgrade.header_count = 1;
  upgrade.authorization = "Digest username=\"a\", response=\"b\"";
  check_writer(write_upgrade,
               "GET /ws?x=1 HTTP/1.1\r\nHost: pbx.example\r\n" REST
               "Authorization: Digest username=\"a\", response=\"b\"\r\n"
               "Origin: https://a\r\n" END);
  upgrade.authorization = NULL;
}

/* ---- Tunnels ----------------------------------------------------------- */

static struct sw_http_authority authority;
static const char *authorization;

static size_t write_connect(char *out, size_t size) {
  return sw_http_write_connect(out, size, &authority, authorization);
}

static size_t write_authority(char *out, size_t size) {
  return sw_http_write_authority(out, size, &authority);
}

/* With the port, also the usual one: RFC 9110 section 9.3.6. */
static void tunnels_are_asked_for(void) {
  authority = (struct sw_http_authority){slice("pbx.example"), false, 443};
  check_writer(write_connect, "CONNECT pbx.example:443 HTTP/1.1\r\n"
                              "Host: pbx.example:443\r\n\r\n");
  check_writer(write_authority, "pbx.example:443");
  authorization = "Basic YTpi";
  check_writer(write_connect, "CONNECT pbx.example:443 HTTP/1.1\r\n"
                              "Host: pbx.example:443\r\n"
                              "Proxy-Authorization: Basic YTpi\r\n\r\n");
  authorization = NULL;
  authority = (struct sw_http_authority){slice("::1"), true, 65535};
  check_writer(write_connect, "CONNECT [::1]:65535 HTTP/1.1\r\n"
                              "Host: [::1]:65535\r\n\r\n");
  authority = (struct sw_http_authority){slice("127.0.0.1"), false, 80};
  check_writer(write_authority, "127.0.0.1:80");
}

static size_t write_target(char *out, size_t size) {
  return sw_http_write_target(out, size, upgrade.target);
}

/* What a digest is made of is what the request line has. */
static void targets_are_written_alone(void) {
  const char *const cases[][2] = {
      {"", "/"}, {"?q", "/?q"}, {"/a?b", "/a?b"}, {"/", "/"}};
  for (size_t i = 0; i < COUNT(cases); i++) {
    upgrade.target = slice(cases[i][0]);
    check_writer(write_target, cases[i][1]);
  }
}

static void nothing_behind_the_slices_is_read(void) {
  char *host = test_guarded("a", 1), *target = test_guarded("/b", 2);
  char *key = test_guarded(KEY, SW_HTTP_KEY_LENGTH);
  plain_upgrade();
  upgrade.authority.host = (struct sw_slice){host, 1};
  upgrade.target = (struct sw_slice){target, 2};
  upgrade.key = key;
  check_writer(write_upgrade, "GET /b HTTP/1.1\r\nHost: a\r\n" REST END);
  test_unguard(host, 1);
  test_unguard(target, 2);
  test_unguard(key, SW_HTTP_KEY_LENGTH);
}

static size_t write_accept(char *out, size_t size) {
  return sw_http_write_accept(out, size, ACCEPT);
}

static void accepts_are_written(void) {
  check_writer(write_accept, S101 UPG CON ACC SUB END);
}

static struct {
  int status;
  const char *reason;
  const struct sipwire_header *headers;
  size_t count;
} refusal;

static size_t write_refusal(char *out, size_t size) {
  return sw_http_write_refusal(out, size, refusal.status, refusal.reason,
                               refusal.headers, refusal.count);
}

#define CLOSE "Connection: close\r\nContent-Length: 0\r\n"

static void refusals_are_written(void) {
  const struct sipwire_header headers[] = {{"Retry-After", "5"}, {"X", "y"}};
  refusal.status = 403;
  check_writer(write_refusal, "HTTP/1.1 403 Forbidden\r\n" CLOSE END);
  refusal.reason = "Go Away";
  check_writer(write_refusal, "HTTP/1.1 403 Go Away\r\n" CLOSE END);
  refusal.reason = "";
  check_writer(write_refusal, "HTTP/1.1 403 \r\n" CLOSE END);
  refusal.reason = NULL;
  refusal.status = 503;
  refusal.headers = headers;
  refusal.count = 2;
  check_writer(write_refusal, "HTTP/1.1 503 Service Unavailable\r\n" CLOSE
                              "Retry-After: 5\r\nX: y\r\n" END);
  refusal.headers = NULL;
  refusal.count = 0;
  refusal.status = 499;
  check_writer(write_refusal, "HTTP/1.1 499 \r\n" CLOSE END);
}

static void some_refusals_say_more(void) {
  refusal.reason = NULL;
  refusal.status = 405;
  check_writer(write_refusal,
               "HTTP/1.1 405 Method Not Allowed\r\nConnection: close\r\n"
               "Allow: GET\r\nContent-Length: 0\r\n" END);
  refusal.status = 426;
  check_writer(write_refusal,
               "HTTP/1.1 426 Upgrade Required\r\nConnection: close, Upgrade\r\n"
               "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
               "Content-Length: 0\r\n" END);
}

static void usual_reasons_are_those_of_iana(void) {
  const struct {
    int status;
    const char *reason;
  } usual[] = {{300, "Multiple Choices"},
               {301, "Moved Permanently"},
               {302, "Found"},
               {303, "See Other"},
               {304, "Not Modified"},
               {305, "Use Proxy"},
               {307, "Temporary Redirect"},
               {308, "Permanent Redirect"},
               {400, "Bad Request"},
               {401, "Unauthorized"},
               {402, "Payment Required"},
               {403, "Forbidden"},
               {404, "Not Found"},
               {405, "Method Not Allowed"},
               {406, "Not Acceptable"},
               {407, "Proxy Authentication Required"},
               {408, "Request Timeout"},
               {409, "Conflict"},
               {410, "Gone"},
               {411, "Length Required"},
               {412, "Precondition Failed"},
               {413, "Content Too Large"},
               {414, "URI Too Long"},
               {415, "Unsupported Media Type"},
               {416, "Range Not Satisfiable"},
               {417, "Expectation Failed"},
               {421, "Misdirected Request"},
               {422, "Unprocessable Content"},
               {423, "Locked"},
               {424, "Failed Dependency"},
               {425, "Too Early"},
               {426, "Upgrade Required"},
               {428, "Precondition Required"},
               {429, "Too Many Requests"},
               {431, "Request Header Fields Too Large"},
               {451, "Unavailable For Legal Reasons"},
               {500, "Internal Server Error"},
               {501, "Not Implemented"},
               {502, "Bad Gateway"},
               {503, "Service Unavailable"},
               {504, "Gateway Timeout"},
               {505, "HTTP Version Not Supported"},
               {506, "Variant Also Negotiates"},
               {507, "Insufficient Storage"},
               {508, "Loop Detected"},
               {511, "Network Authentication Required"},
               {306, ""},
               {418, ""},
               {599, ""}};
  for (size_t i = 0; i < COUNT(usual); i++) {
    struct sw_http_head head = {0};
    const char *fault;
    char out[256];
    size_t length =
        sw_http_write_refusal(out, sizeof out, usual[i].status, NULL, NULL, 0);
    CHECK(parse(false, out, length, &head, &fault));
    CHECK_INT(head.status, usual[i].status);
    check_slice(head.reason, usual[i].reason);
  }
  release();
}

/* ---- Both sides -------------------------------------------------------- */

static void what_is_written_is_accepted_by_the_other_side(void) {
  struct sw_http_head head;
  struct sw_slice key = {0};
  const char *fault = "";
  char text[512];
  plain_upgrade();
  size_t length = write_upgrade(text, sizeof text);
  CHECK_INT(sw_http_head_length(text, length, 0), length);
  CHECK(parse(true, text, length, &head, &fault));
  check_slice(head.target, "/ws?x=1");
  CHECK_INT(sw_http_judge_request(&head, &key, &fault), 0);
  check_slice(key, KEY);
  length = write_accept(text, sizeof text);
  CHECK_INT(sw_http_head_length(text, length, 0), length);
  CHECK(sw_http_plausible(text, length));
  CHECK(parse(false, text, length, &head, &fault));
  CHECK_INT(sw_http_judge_response(&head, ACCEPT, &fault), 0);
  release();
}

/* RFC 6455 section 1.3, word for word: all but its subprotocol is right. */
static void the_sample_handshake_of_the_rfc(void) {
  const char request[] = "GET /chat HTTP/1.1\r\n"
                         "Host: server.example.com\r\n"
                         "Upgrade: websocket\r\n"
                         "Connection: Upgrade\r\n"
                         "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                         "Origin: http://example.com\r\n"
                         "Sec-WebSocket-Protocol: chat, superchat\r\n"
                         "Sec-WebSocket-Version: 13\r\n\r\n";
  const char response[] =
      "HTTP/1.1 101 Switching Protocols\r\n"
      "Upgrade: websocket\r\n"
      "Connection: Upgrade\r\n"
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
      "Sec-WebSocket-Protocol: chat\r\n\r\n";
  struct sw_slice key = {"kept", 4};
  const char *fault;
  CHECK_INT(judge_request(request, &key, &fault), 400);
  CHECK_STR(fault, NO_SIP);
  CHECK_INT(judge_response(TEXT(response), &fault), SIPWIRE_ESUBPROTOCOL);
  CHECK_STR(SW_HTTP_GUID, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
  CHECK_INT(strlen(KEY), SW_HTTP_KEY_LENGTH);
  CHECK_INT(strlen(ACCEPT), SW_HTTP_ACCEPT_LENGTH);
  release();
}

int main(void) {
  RUN(head_length_is_that_of_the_first_head);
  RUN(other_line_ends_are_no_end);
  RUN(head_length_in_pieces);
  RUN(head_length_from_any_seen);
  RUN(head_length_does_not_look_back);
  RUN(plausible_is_every_prefix_of_a_response);
  RUN(implausible_is_told_at_the_first_wrong_byte);
  RUN(a_response_is_taken_apart);
  RUN(a_request_is_taken_apart);
  RUN(bad_fields_are_errors);
  RUN(odd_but_legal_fields_are_none);
  RUN(bad_status_lines_are_errors);
  RUN(bad_request_lines_are_errors);
  RUN(changed_heads_are_read_within_bounds);
  RUN(fields_are_walked_in_order);
  RUN(unfinished_fields_are_walked_within_bounds);
  RUN(nothing_in_front_of_a_head_is_read);
  RUN(the_first_field_of_a_name_is_found);
  RUN(headers_of_users_are_checked);
  RUN(values_and_reasons_of_users_are_checked);
  RUN(good_responses_are_accepted);
  RUN(bad_responses_are_refused);
  RUN(other_subprotocols_are_told_apart);
  RUN(good_requests_are_accepted);
  RUN(bad_requests_are_refused);
  RUN(keys_are_16_bytes_in_base64);
  RUN(upgrades_are_written);
  RUN(targets_begin_with_a_slash);
  RUN(hosts_carry_port_and_brackets);
  RUN(an_answer_to_a_challenge_stands_before_the_users_headers);
  RUN(tunnels_are_asked_for);
  RUN(targets_are_written_alone);
  RUN(nothing_behind_the_slices_is_read);
  RUN(accepts_are_written);
  RUN(refusals_are_written);
  RUN(some_refusals_say_more);
  RUN(usual_reasons_are_those_of_iana);
  RUN(what_is_written_is_accepted_by_the_other_side);
  RUN(the_sample_handshake_of_the_rfc);
  return test_summary("test_http");
}
