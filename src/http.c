/* SPDX-License-Identifier: MIT */

/* Writes, parses and judges the heads of the WebSocket handshake.  Must not
   read a socket, hash, draw a key or allocate.

   Strict about what decides (a head that two programs could read in two ways
   is refused), tolerant about what does not: names in any case, lists spread
   over several fields, fields nobody asked for.

   Writers put no NUL behind the text: a buffer of just the returned length
   is enough. */

#include "http.h"

#include <string.h>

#include "ascii.h"
#include "sipwire.h"

/* ---- Characters (RFC 9110 section 5.6) --------------------------------- */

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

/* What values and reasons are made of: anything but control bytes. */
static bool is_text(char c) {
  return ((unsigned char)c >= 0x20 && c != 0x7f) || c == '\t';
}

static bool is_token(struct sw_slice text) {
  for (size_t i = 0; i < text.length; i++)
    if (!sw_is_token(text.data[i]))
      return false;
  return text.length > 0;
}

static bool all_text(struct sw_slice text) {
  for (size_t i = 0; i < text.length; i++)
    if (!is_text(text.data[i]))
      return false;
  return true;
}

/* ---- Slices ------------------------------------------------------------ */

static struct sw_slice slice_of(const char *text) {
  return (struct sw_slice){text, strlen(text)};
}

static bool equals(struct sw_slice text, const char *want) {
  return text.length == strlen(want) && !memcmp(text.data, want, text.length);
}

static struct sw_slice trim(struct sw_slice text) {
  for (; text.length && is_blank(text.data[0]); text.length--)
    text.data++;
  while (text.length && is_blank(text.data[text.length - 1]))
    text.length--;
  return text;
}

/* Takes what is before the first |separator| off the front of |*rest|, and
   the separator too. */
static struct sw_slice take_until(struct sw_slice *rest, char separator) {
  struct sw_slice part = *rest;
  const char *at =
      part.length ? memchr(part.data, separator, part.length) : NULL;
  if (at)
    part.length = (size_t)(at - part.data);
  size_t used = part.length + (at ? 1 : 0);
  if (used)
    *rest = (struct sw_slice){rest->data + used, rest->length - used};
  return part;
}

/* Takes a line off the front of |*rest|, with its CRLF. */
static struct sw_slice take_line(struct sw_slice *rest) {
  struct sw_slice line = *rest;
  size_t i = 0;
  while (i + 1 < line.length && memcmp(line.data + i, "\r\n", 2))
    i++;
  if (i + 1 >= line.length) {
    *rest = (struct sw_slice){rest->data, 0};
    return line;
  }
  line.length = i;
  *rest = (struct sw_slice){rest->data + i + 2, rest->length - i - 2};
  return line;
}

/* ---- Heads ------------------------------------------------------------- */

size_t sw_http_head_length(const char *text, size_t length, size_t seen) {
  size_t i = seen > 3 ? seen - 3 : 0;
  while (i + 4 <= length) {
    const char *at = memchr(text + i, '\r', length - 3 - i);
    if (!at)
      return 0;
    i = (size_t)(at - text);
    if (!memcmp(at, "\r\n\r\n", 4))
      return i + 4;
    i++;
  }
  return 0;
}

/* Where "HTTP/1.1 101 Switching Protocols" has what. */
enum { MINOR_AT = 7, STATUS_AT = 9, STATUS_END = 12 };

static bool fits_status_line(char c, size_t at) {
  if (at == STATUS_AT)
    return sw_is_digit(c) && c != '0';
  if (at == MINOR_AT || (at > STATUS_AT && at < STATUS_END))
    return sw_is_digit(c);
  if (at < STATUS_END)
    return c == "HTTP/1.# "[at];
  return at == STATUS_END ? c == ' ' : is_text(c);
}

bool sw_http_plausible(const char *text, size_t length) {
  for (size_t i = 0; i < length; i++) {
    /* Some servers leave out the blank before an empty reason. */
    if (i >= STATUS_END && text[i] == '\r')
      return i + 1 == length || text[i + 1] == '\n';
    if (!fits_status_line(text[i], i))
      return false;
  }
  return true;
}

static const char *field_line_fault(struct sw_slice line) {
  if (line.length && is_blank(line.data[0]))
    return "folded header line";
  struct sw_slice value = line;
  struct sw_slice name = take_until(&value, ':');
  if (name.length == line.length)
    return "header line without colon";
  if (!is_token(name))
    return "malformed header name";
  return all_text(value) ? NULL : "control byte in a header value";
}

static const char *fields_fault(struct sw_slice fields) {
  while (fields.length) {
    const char *fault = field_line_fault(take_line(&fields));
    if (fault)
      return fault;
  }
  return NULL;
}

/* Splits a whole head into its first line and |*fields|. */
static bool split_head(struct sw_slice text, struct sw_slice *line,
                       struct sw_slice *fields) {
  if (text.length < 4 || memcmp(text.data + text.length - 4, "\r\n\r\n", 4))
    return false;
  *fields = (struct sw_slice){text.data, text.length - 2};
  *line = take_line(fields);
  return true;
}

static const char *parse_response(struct sw_slice text,
                                  struct sw_http_head *head) {
  struct sw_slice line;
  if (!split_head(text, &line, &head->fields))
    return "incomplete head";
  if (line.length < STATUS_END || !sw_http_plausible(text.data, text.length))
    return "not an HTTP/1.x response";
  const char *digits = line.data + STATUS_AT;
  head->minor_version = line.data[MINOR_AT] - '0';
  head->status =
      (digits[0] - '0') * 100 + (digits[1] - '0') * 10 + (digits[2] - '0');
  line.data += STATUS_END;
  line.length -= STATUS_END;
  head->reason = trim(line);
  return fields_fault(head->fields);
}

static bool is_target(struct sw_slice text) {
  for (size_t i = 0; i < text.length; i++)
    if (text.data[i] <= ' ' || text.data[i] > '~')
      return false;
  return text.length > 0;
}

static const char *parse_request(struct sw_slice text,
                                 struct sw_http_head *head) {
  struct sw_slice line;
  /* RFC 9112 section 2.2: an empty line in front is to be forgiven. */
  if (text.length >= 2 && !memcmp(text.data, "\r\n", 2))
    text = (struct sw_slice){text.data + 2, text.length - 2};
  if (!split_head(text, &line, &head->fields))
    return "incomplete head";
  head->method = take_until(&line, ' ');
  head->target = take_until(&line, ' ');
  if (!is_token(head->method) || !is_target(head->target))
    return "malformed request line";
  if (line.length != 8 || memcmp(line.data, "HTTP/1.", MINOR_AT) ||
      !sw_is_digit(line.data[MINOR_AT]))
    return "not an HTTP/1.x request";
  head->minor_version = line.data[MINOR_AT] - '0';
  return fields_fault(head->fields);
}

bool sw_http_parse_response(const char *data, size_t length,
                            struct sw_http_head *head, const char **text) {
  struct sw_http_head parsed = {0};
  const char *fault = parse_response((struct sw_slice){data, length}, &parsed);
  if (fault)
    *text = fault;
  else
    *head = parsed;
  return !fault;
}

bool sw_http_parse_request(const char *data, size_t length,
                           struct sw_http_head *head, const char **text) {
  struct sw_http_head parsed = {0};
  const char *fault = parse_request((struct sw_slice){data, length}, &parsed);
  if (fault)
    *text = fault;
  else
    *head = parsed;
  return !fault;
}

bool sw_http_next_field(struct sw_slice fields, size_t *offset,
                        struct sw_slice *name, struct sw_slice *value) {
  if (*offset >= fields.length)
    return false;
  struct sw_slice rest = {fields.data + *offset, fields.length - *offset};
  struct sw_slice line = take_line(&rest);
  *offset = fields.length - rest.length;
  *name = take_until(&line, ':');
  *value = trim(line);
  return true;
}

/* The next field called |name| at or after |*offset|. */
static bool find_field(struct sw_slice fields, size_t *offset, const char *name,
                       struct sw_slice *value) {
  struct sw_slice other;
  while (sw_http_next_field(fields, offset, &other, value))
    if (sw_is_word(other, name))
      return true;
  return false;
}

bool sw_http_field(struct sw_slice fields, const char *name,
                   struct sw_slice *value) {
  struct sw_slice found;
  size_t offset = 0;
  if (!find_field(fields, &offset, name, &found))
    return false;
  *value = found;
  return true;
}

static bool only_field(struct sw_slice fields, const char *name,
                       struct sw_slice *value) {
  struct sw_slice another;
  size_t offset = 0;
  return find_field(fields, &offset, name, value) &&
         !find_field(fields, &offset, name, &another);
}

/* ---- Lists over several fields (RFC 9110 sections 5.3 and 5.6.1) ------- */

struct list {
  struct sw_slice fields;
  const char *name;
  size_t offset;
  struct sw_slice rest;
};

/* Empty elements do not count. */
static bool next_element(struct list *list, struct sw_slice *element) {
  for (;;) {
    while (list->rest.length) {
      *element = trim(take_until(&list->rest, ','));
      if (element->length)
        return true;
    }
    if (!find_field(list->fields, &list->offset, list->name, &list->rest))
      return false;
  }
}

static bool lists(struct sw_slice fields, const char *name, const char *want,
                  bool (*same)(struct sw_slice, const char *)) {
  struct list list = {.fields = fields, .name = name};
  struct sw_slice element;
  while (next_element(&list, &element))
    if (same(element, want))
      return true;
  return false;
}

static bool lists_nothing_but(struct sw_slice fields, const char *name,
                              const char *want) {
  struct list list = {.fields = fields, .name = name};
  struct sw_slice element;
  bool found = false;
  while (next_element(&list, &element)) {
    if (!sw_is_word(element, want))
      return false;
    found = true;
  }
  return found;
}

/* ---- Checks for what users give ---------------------------------------- */

static bool is_reserved(struct sw_slice name) {
  static const char *const names[] = {"Host", "Upgrade", "Connection",
                                      "Content-Length", "Transfer-Encoding"};
  static const char prefix[] = "Sec-WebSocket-";
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (sw_is_word(name, names[i]))
      return true;
  if (name.length >= sizeof prefix - 1)
    name.length = sizeof prefix - 1;
  return sw_is_word(name, prefix);
}

const char *sw_http_header_fault(const char *name, const char *value) {
  if (!name || !is_token(slice_of(name)))
    return "header name is not an HTTP token";
  if (!value || !all_text(slice_of(value)))
    return "header value has a control character";
  if (is_reserved(slice_of(name)))
    return "header is set by the upgrade itself";
  return NULL;
}

const char *sw_http_reason_fault(const char *reason) {
  return !reason || all_text(slice_of(reason))
             ? NULL
             : "reason has a control character";
}

/* ---- Writing ----------------------------------------------------------- */

/* Counts all, keeps what fits. */
struct writer {
  char *out;
  size_t size, length;
};

static void put_slice(struct writer *writer, struct sw_slice text) {
  if (text.length && writer->length < writer->size) {
    size_t room = writer->size - writer->length;
    memcpy(writer->out + writer->length, text.data,
           text.length < room ? text.length : room);
  }
  writer->length += text.length;
}

static void put(struct writer *writer, const char *text) {
  put_slice(writer, slice_of(text));
}

static void put_number(struct writer *writer, unsigned number) {
  char digits[3 * sizeof number];
  size_t start = sizeof digits;
  do {
    digits[--start] = (char)('0' + number % 10);
  } while (number /= 10);
  put_slice(writer, (struct sw_slice){digits + start, sizeof digits - start});
}

static void put_field(struct writer *writer, const char *name,
                      const char *value) {
  put(writer, name);
  put(writer, ": ");
  put(writer, value);
  put(writer, "\r\n");
}

static void put_fields(struct writer *writer,
                       const struct sipwire_header *headers, size_t count) {
  for (size_t i = 0; i < count; i++)
    put_field(writer, headers[i].name, headers[i].value);
}

static void put_authority(struct writer *writer,
                          const struct sw_http_authority *authority,
                          bool with_port) {
  put(writer, authority->ipv6_literal ? "[" : "");
  put_slice(writer, authority->host);
  put(writer, authority->ipv6_literal ? "]" : "");
  if (with_port) {
    put(writer, ":");
    put_number(writer, authority->port);
  }
}

static void put_optional(struct writer *writer, const char *name,
                         const char *value) {
  if (value)
    put_field(writer, name, value);
}

static void put_target(struct writer *writer, struct sw_slice target) {
  put(writer, target.length && target.data[0] == '/' ? "" : "/");
  put_slice(writer, target);
}

size_t sw_http_write_target(char *out, size_t size, struct sw_slice target) {
  struct writer writer = {out, size, 0};
  put_target(&writer, target);
  return writer.length;
}

size_t sw_http_write_authority(char *out, size_t size,
                               const struct sw_http_authority *authority) {
  struct writer writer = {out, size, 0};
  put_authority(&writer, authority, true);
  return writer.length;
}

size_t sw_http_write_upgrade(char *out, size_t size,
                             const struct sw_http_upgrade *upgrade) {
  struct writer writer = {out, size, 0};
  put(&writer, "GET ");
  put_target(&writer, upgrade->target);
  put(&writer, " HTTP/1.1\r\n");
  put(&writer, "Host: ");
  put_authority(&writer, &upgrade->authority, !upgrade->default_port);
  put(&writer, "\r\n"
               "Upgrade: websocket\r\n"
               "Connection: Upgrade\r\n"
               "Sec-WebSocket-Key: ");
  put_slice(&writer, (struct sw_slice){upgrade->key, SW_HTTP_KEY_LENGTH});
  put(&writer, "\r\n"
               "Sec-WebSocket-Version: 13\r\n"
               "Sec-WebSocket-Protocol: sip\r\n");
  put_optional(&writer, "Authorization", upgrade->authorization);
  put_fields(&writer, upgrade->headers, upgrade->header_count);
  put(&writer, "\r\n");
  return writer.length;
}

size_t sw_http_write_connect(char *out, size_t size,
                             const struct sw_http_authority *authority,
                             const char *authorization) {
  struct writer writer = {out, size, 0};
  put(&writer, "CONNECT ");
  put_authority(&writer, authority, true);
  put(&writer, " HTTP/1.1\r\nHost: ");
  put_authority(&writer, authority, true);
  put(&writer, "\r\n");
  put_optional(&writer, "Proxy-Authorization", authorization);
  put(&writer, "\r\n");
  return writer.length;
}

size_t sw_http_write_accept(char *out, size_t size, const char *accept) {
  struct writer writer = {out, size, 0};
  put(&writer, "HTTP/1.1 101 Switching Protocols\r\n"
               "Upgrade: websocket\r\n"
               "Connection: Upgrade\r\n");
  put_field(&writer, "Sec-WebSocket-Accept", accept);
  put(&writer, "Sec-WebSocket-Protocol: sip\r\n\r\n");
  return writer.length;
}

/* ---- Judging the server ------------------------------------------------ */

static const char *response_fault(const struct sw_http_head *head,
                                  const char *accept) {
  struct sw_slice fields = head->fields, value;
  size_t offset = 0;
  if (head->status != 101)
    return "upgrade refused";
  if (head->minor_version < 1)
    return "101 with HTTP/1.0";
  if (!lists_nothing_but(fields, "Upgrade", "websocket"))
    return "101 without Upgrade: websocket";
  if (!lists(fields, "Connection", "upgrade", sw_is_word))
    return "101 without Connection: Upgrade";
  if (!only_field(fields, "Sec-WebSocket-Accept", &value))
    return "101 without exactly one Sec-WebSocket-Accept";
  if (!equals(value, accept))
    return "wrong Sec-WebSocket-Accept";
  while (find_field(fields, &offset, "Sec-WebSocket-Extensions", &value))
    if (value.length)
      return "server chose an extension that was not offered";
  return NULL;
}

/* Unlike an offer, the choice is no list (RFC 6455 section 4.3). */
static const char *choice_fault(struct sw_slice fields) {
  static const char name[] = "Sec-WebSocket-Protocol";
  struct sw_slice value;
  if (!sw_http_field(fields, name, &value))
    return "server chose no subprotocol";
  if (!only_field(fields, name, &value))
    return "server chose several subprotocols";
  return equals(value, "sip") ? NULL : "server chose another subprotocol";
}

int sw_http_judge_response(const struct sw_http_head *head, const char *accept,
                           const char **text) {
  const char *fault = response_fault(head, accept);
  int error = SIPWIRE_EHTTP;
  if (!fault) {
    fault = choice_fault(head->fields);
    error = SIPWIRE_ESUBPROTOCOL;
  }
  if (!fault)
    return 0;
  *text = fault;
  return error;
}

/* ---- Judging the client ------------------------------------------------ */

struct refusal {
  int status;
  const char *text;
};

static bool is_origin_form(struct sw_slice target) {
  return target.length && target.data[0] == '/' &&
         !memchr(target.data, '#', target.length);
}

static bool is_authority(struct sw_slice host) {
  for (size_t i = 0; i < host.length; i++)
    if (!sw_is_alnum(host.data[i]) &&
        !sw_is_one_of(host.data[i], "-._~%!$&'()*+,;=:[]"))
      return false;
  return host.length > 0;
}

/* The bits that the last character has too many are not looked at: keys are
   compared with nothing, and some clients draw the characters. */
static bool is_key(struct sw_slice value) {
  if (value.length != SW_HTTP_KEY_LENGTH)
    return false;
  for (size_t i = 0; i < SW_HTTP_KEY_LENGTH - 2; i++)
    if (!sw_is_alnum(value.data[i]) && !sw_is_one_of(value.data[i], "+/"))
      return false;
  return !memcmp(value.data + SW_HTTP_KEY_LENGTH - 2, "==", 2);
}

/* Whoever skips no body would take it for frames. */
static bool has_body(struct sw_slice fields) {
  struct sw_slice value;
  size_t offset = 0;
  if (sw_http_field(fields, "Transfer-Encoding", &value))
    return true;
  while (find_field(fields, &offset, "Content-Length", &value))
    if (!equals(value, "0"))
      return true;
  return false;
}

/* What any HTTP/1.1 request has to be. */
static struct refusal judge_http(const struct sw_http_head *head) {
  struct sw_slice host;
  if (head->minor_version < 1)
    return (struct refusal){505, "request is not HTTP/1.1"};
  if (!equals(head->method, "GET"))
    return (struct refusal){405, "method is not GET"};
  if (!is_origin_form(head->target))
    return (struct refusal){400, "target is not a path"};
  if (!only_field(head->fields, "Host", &host) || !is_authority(host))
    return (struct refusal){400, "not exactly one valid Host"};
  if (has_body(head->fields))
    return (struct refusal){400, "request has a body"};
  return (struct refusal){0, NULL};
}

static struct refusal judge_websocket(struct sw_slice fields,
                                      struct sw_slice *key) {
  struct sw_slice version;
  if (!lists(fields, "Upgrade", "websocket", sw_is_word))
    return (struct refusal){400, "request without Upgrade: websocket"};
  if (!lists(fields, "Connection", "upgrade", sw_is_word))
    return (struct refusal){400, "request without Connection: Upgrade"};
  if (!only_field(fields, "Sec-WebSocket-Version", &version) ||
      !equals(version, "13"))
    return (struct refusal){426, "Sec-WebSocket-Version is not 13"};
  if (!only_field(fields, "Sec-WebSocket-Key", key) || !is_key(*key))
    return (struct refusal){400, "not exactly one valid Sec-WebSocket-Key"};
  if (!lists(fields, "Sec-WebSocket-Protocol", "sip", equals))
    return (struct refusal){400, "client does not offer subprotocol sip"};
  return (struct refusal){0, NULL};
}

int sw_http_judge_request(const struct sw_http_head *head, struct sw_slice *key,
                          const char **text) {
  struct sw_slice found;
  struct refusal refusal = judge_http(head);
  if (!refusal.status)
    refusal = judge_websocket(head->fields, &found);
  if (refusal.status)
    *text = refusal.text;
  else
    *key = found;
  return refusal.status;
}

/* ---- Refusing ---------------------------------------------------------- */

static const struct {
  int status;
  const char *reason;
} usual_reasons[] = {
    {300, "Multiple Choices"},
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
};

/* An empty reason is legal, so that is what an unknown status gets. */
static const char *usual_reason(int status) {
  for (size_t i = 0; i < sizeof usual_reasons / sizeof *usual_reasons; i++)
    if (usual_reasons[i].status == status)
      return usual_reasons[i].reason;
  return "";
}

/* A 426 has to name what to upgrade to (RFC 9110 sections 7.8, 15.5.22). */
static void put_connection(struct writer *writer, int status) {
  if (status == 426)
    put(writer, "Connection: close, Upgrade\r\n"
                "Upgrade: websocket\r\n"
                "Sec-WebSocket-Version: 13\r\n");
  else
    put(writer, "Connection: close\r\n");
  if (status == 405)
    put(writer, "Allow: GET\r\n");
}

size_t sw_http_write_refusal(char *out, size_t size, int status,
                             const char *reason,
                             const struct sipwire_header *headers,
                             size_t header_count) {
  struct writer writer = {out, size, 0};
  put(&writer, "HTTP/1.1 ");
  put_number(&writer, (unsigned)status);
  put(&writer, " ");
  put(&writer, reason ? reason : usual_reason(status));
  put(&writer, "\r\n");
  put_connection(&writer, status);
  put(&writer, "Content-Length: 0\r\n");
  put_fields(&writer, headers, header_count);
  put(&writer, "\r\n");
  return writer.length;
}
