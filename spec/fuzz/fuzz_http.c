/* SPDX-License-Identifier: MIT */
/* Heads of HTTP: found in pieces as in the whole; what is accepted is what a
   plain look at its lines says too, and holds no byte that could make another
   line; what is written with a user's header is read with that header. */
#include "fuzz.h"

#include "http.h"
#include "sipwire.h"

static const char accept_key[] = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/* ---- A plain look ------------------------------------------------------ */

static char lower(char c) {
  return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_blank(char c) {
  return c == ' ' || c == '\t';
}

static size_t head_end(const char *text, size_t length) {
  for (size_t i = 3; i < length; i++)
    if (text[i - 3] == '\r' && text[i - 2] == '\n' && text[i - 1] == '\r' &&
        text[i] == '\n')
      return i + 1;
  return 0;
}

/* The next line without its CRLF; false at the empty one. */
static bool next_line(const char **at, struct sw_slice *line) {
  const char *start = *at;
  while (**at != '\r' || (*at)[1] != '\n')
    ++*at;
  *line = (struct sw_slice){start, (size_t)(*at - start)};
  *at += 2;
  return line->length > 0;
}

/* The trimmed value of a line called |name|. */
static bool is_line_of(struct sw_slice line, const char *name,
                       struct sw_slice *value) {
  size_t length = strlen(name);
  if (line.length <= length || line.data[length] != ':')
    return false;
  for (size_t i = 0; i < length; i++)
    if (lower(line.data[i]) != lower(name[i]))
      return false;
  *value = (struct sw_slice){line.data + length + 1, line.length - length - 1};
  for (; value->length && is_blank(*value->data); value->length--)
    value->data++;
  while (value->length && is_blank(value->data[value->length - 1]))
    value->length--;
  return true;
}

/* How many lines have that name; |*value|: the last one's. */
static unsigned count_lines(const char *head, const char *name,
                            struct sw_slice *value) {
  struct sw_slice line;
  unsigned count = 0;
  next_line(&head, &line);
  while (next_line(&head, &line))
    count += is_line_of(line, name, value);
  return count;
}

/* Whether the lines of that name, as one list, have |word|. */
static bool has_word(const char *head, const char *name, const char *word) {
  struct sw_slice line, value;
  size_t want = strlen(word);
  next_line(&head, &line);
  while (next_line(&head, &line)) {
    if (!is_line_of(line, name, &value))
      continue;
    for (size_t i = 0; i + want <= value.length; i++) {
      size_t same = 0;
      while (same < want && lower(value.data[i + same]) == lower(word[same]))
        same++;
      bool starts =
          !i || value.data[i - 1] == ',' || is_blank(value.data[i - 1]);
      bool ends = i + want == value.length || value.data[i + want] == ',' ||
                  is_blank(value.data[i + want]);
      if (same == want && starts && ends)
        return true;
    }
  }
  return false;
}

static bool equals(struct sw_slice slice, const char *text) {
  return slice.length == strlen(text) &&
         !memcmp(slice.data, text, slice.length);
}

static void check_clean(struct sw_slice slice) {
  for (size_t i = 0; i < slice.length; i++)
    REQUIRE(((unsigned char)slice.data[i] >= ' ' && slice.data[i] != 0x7f) ||
            slice.data[i] == '\t');
}

/* ---- What was parsed --------------------------------------------------- */

static void check_fields(const char *head, size_t length,
                         struct sw_slice fields) {
  struct sw_slice line, name, value, found;
  size_t offset = 0;
  const char *at = head;
  REQUIRE(fields.data + fields.length == head + length - 2);
  next_line(&at, &line);
  REQUIRE(fields.data == at);
  while (sw_http_next_field(fields, &offset, &name, &value)) {
    char text[128];
    REQUIRE(next_line(&at, &line));
    REQUIRE(name.length && name.data == line.data);
    REQUIRE(line.data[name.length] == ':');
    REQUIRE(value.data + value.length <= line.data + line.length);
    check_clean(name);
    check_clean(value);
    for (size_t i = 0; i < name.length; i++)
      REQUIRE(name.data[i] > ' ' && name.data[i] != ':');
    if (name.length >= sizeof text)
      continue;
    memcpy(text, name.data, name.length);
    text[name.length] = '\0';
    REQUIRE(is_line_of(line, text, &found) && found.length == value.length);
    REQUIRE(sw_http_field(fields, text, &found));
  }
  REQUIRE(!next_line(&at, &line));
}

static void check_response(const char *head, size_t length) {
  struct sw_http_head parsed;
  struct sw_slice value = {NULL, 0};
  const char *text = NULL;
  if (!sw_http_parse_response(head, length, &parsed, &text)) {
    REQUIRE(text);
    return;
  }
  for (size_t i = 0; i <= length; i++)
    REQUIRE(sw_http_plausible(head, i));
  REQUIRE(parsed.status == atoi(head + 9) && parsed.status >= 100);
  REQUIRE(parsed.minor_version == head[7] - '0');
  check_clean(parsed.reason);
  check_fields(head, length, parsed.fields);
  if (sw_http_judge_response(&parsed, accept_key, &text)) {
    REQUIRE(text);
    return;
  }
  REQUIRE(!memcmp(head, "HTTP/1.", 7) && head[7] >= '1');
  REQUIRE(!memcmp(head + 8, " 101", 4));
  REQUIRE(count_lines(head, "Sec-WebSocket-Accept", &value) == 1);
  REQUIRE(equals(value, accept_key));
  REQUIRE(count_lines(head, "Sec-WebSocket-Protocol", &value) == 1);
  REQUIRE(equals(value, "sip"));
  REQUIRE(has_word(head, "Upgrade", "websocket"));
  REQUIRE(has_word(head, "Connection", "upgrade"));
  if (count_lines(head, "Sec-WebSocket-Extensions", &value))
    REQUIRE(!value.length);
}

static void check_request(const char *head, size_t length) {
  struct sw_http_head parsed;
  struct sw_slice value = {NULL, 0}, key = {NULL, 0};
  const char *text = NULL;
  if (!sw_http_parse_request(head, length, &parsed, &text)) {
    REQUIRE(text);
    return;
  }
  if (length >= 2 && !memcmp(head, "\r\n", 2)) {
    head += 2;
    length -= 2;
  }
  check_fields(head, length, parsed.fields);
  int status = sw_http_judge_request(&parsed, &key, &text);
  if (status) {
    REQUIRE(text && status >= 400 && status < 600);
    return;
  }
  REQUIRE(!memcmp(head, "GET /", 5));
  REQUIRE(count_lines(head, "Host", &value) == 1 && value.length);
  REQUIRE(count_lines(head, "Sec-WebSocket-Version", &value) == 1);
  REQUIRE(equals(value, "13"));
  REQUIRE(count_lines(head, "Sec-WebSocket-Key", &value) == 1);
  REQUIRE(value.data == key.data && key.length == SW_HTTP_KEY_LENGTH);
  REQUIRE(has_word(head, "Upgrade", "websocket"));
  REQUIRE(has_word(head, "Connection", "upgrade"));
  REQUIRE(has_word(head, "Sec-WebSocket-Protocol", "sip"));
  REQUIRE(!count_lines(head, "Transfer-Encoding", &value));
  for (size_t i = 0; i < parsed.target.length; i++)
    REQUIRE(parsed.target.data[i] > ' ' && parsed.target.data[i] < 0x7f);
}

/* ---- Pieces ------------------------------------------------------------ */

/* The head is found where it ends, however it came; and once a beginning
   cannot become a response no more bytes can help. */
static void check_pieces(const char *text, size_t length, struct input sizes) {
  size_t seen = 0, have = 0, end = head_end(text, length);
  bool plausible = true;
  REQUIRE(sw_http_head_length(text, length, 0) == end);
  while (have < length) {
    size_t step = input_byte(&sizes) % 32u + 1;
    have = step < length - have ? have + step : length;
    char *copy = (char *)exact_copy(text, have);
    size_t found = sw_http_head_length(copy, have, seen);
    bool still = sw_http_plausible(copy, have);
    free(copy);
    REQUIRE(plausible || !still);
    plausible = still;
    REQUIRE(found == (end <= have ? end : 0));
    if (found)
      return;
    seen = have;
  }
}

/* ---- Users' headers ---------------------------------------------------- */

static char *take_string(struct input *input, size_t length) {
  const uint8_t *bytes = input_bytes(input, &length);
  char *text = malloc(length + 1);
  if (length)
    memcpy(text, bytes, length);
  text[length] = '\0';
  return text;
}

static void check_written(const struct sipwire_header *header, int status) {
  struct sw_http_head parsed;
  struct sw_slice value;
  const char *text;
  size_t length = sw_http_write_refusal(NULL, 0, status, NULL, header, 1);
  char *out = malloc(length), *cut = malloc(length / 2);
  REQUIRE(sw_http_write_refusal(out, length, status, NULL, header, 1) ==
          length);
  sw_http_write_refusal(cut, length / 2, status, NULL, header, 1);
  REQUIRE(!memcmp(cut, out, length / 2));
  REQUIRE(head_end(out, length) == length);
  REQUIRE(sw_http_parse_response(out, length, &parsed, &text));
  REQUIRE(parsed.status == status);
  REQUIRE(count_lines(out, header->name, &value) >= 1);
  check_fields(out, length, parsed.fields);
  free(cut);
  free(out);
}

static void check_header(struct input *input) {
  size_t name_length = input_byte(input) & 31;
  size_t value_length = input_byte(input) & 63;
  char *name = take_string(input, name_length);
  char *value = take_string(input, value_length);
  struct sipwire_header header = {name, value};
  int status = 300 + (int)(value_length * 5 + name_length) % 300;
  if (!sw_http_header_fault(name, value))
    check_written(&header, status);
  else
    REQUIRE(*sw_http_header_fault(name, value));
  if (!sw_http_reason_fault(value)) {
    REQUIRE(!strpbrk(value, "\r\n"));
  }
  free(name);
  free(value);
}

/* The first byte: 0 a response, 1 a request, 2 a header of a user's; then a
   count of sizes, the sizes, the text. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct input input = {data, data + size}, sizes;
  uint8_t choice = input_byte(&input) % 3;
  size_t count = input_byte(&input) & 7;
  sizes.at = input_bytes(&input, &count);
  sizes.end = sizes.at + count;
  size_t length = input_left(&input);
  const char *text = (const char *)input.at;
  if (choice == 2) {
    check_header(&input);
    return 0;
  }
  check_pieces(text, length, sizes);
  size_t end = head_end(text, length);
  if (end) {
    char *head = (char *)exact_copy(text, end);
    if (choice == 0)
      check_response(head, end);
    else
      check_request(head, end);
    free(head);
  }
  return 0;
}
