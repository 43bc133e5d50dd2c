/* SPDX-License-Identifier: MIT */
/* URIs: what is accepted has parts that may be sent as they are, and put
   together again means the same; what is refused is refused with words. */
#include "fuzz.h"

#include "uri.h"

static const char *const parts[] = {"scheme ",   "userinfo ", "host ",
                                    "port ",     "path ",     "query ",
                                    "fragment ", "URL "};

static bool names_a_part(const char *fault) {
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
    if (!strncmp(fault, parts[i], strlen(parts[i])))
      return true;
  return false;
}

static bool is_within(struct sw_slice slice, const char *text, size_t length) {
  return slice.data >= text && slice.data + slice.length <= text + length;
}

static bool is_sendable(struct sw_slice slice) {
  for (size_t i = 0; i < slice.length; i++)
    if (slice.data[i] <= ' ' || slice.data[i] > '~' ||
        strchr("#\"<>\\^`{|}", slice.data[i]))
      return false;
  return true;
}

/* Dotted decimal, in another way than the library's. */
static bool is_ipv4(struct sw_slice host) {
  unsigned a, b, c, d;
  int end = 0;
  char text[16], again[16];
  if (host.length > 15)
    return false;
  memcpy(text, host.data, host.length);
  text[host.length] = '\0';
  if (sscanf(text, "%3u.%3u.%3u.%3u%n", &a, &b, &c, &d, &end) != 4 ||
      (size_t)end != host.length || a > 255 || b > 255 || c > 255 || d > 255)
    return false;
  snprintf(again, sizeof again, "%u.%u.%u.%u", a & 255, b & 255, c & 255,
           d & 255);
  return !strcmp(text, again);
}

static bool same(struct sw_slice a, struct sw_slice b) {
  return a.length == b.length && !memcmp(a.data, b.data, a.length);
}

static void check_host(const struct sw_uri *uri) {
  const char *allowed = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789-_.:";
  REQUIRE(uri->host.length >= 1 && uri->host.length <= SW_URI_HOST_MAX);
  for (size_t i = 0; i < uri->host.length; i++)
    REQUIRE(uri->host.data[i] && strchr(allowed, uri->host.data[i]));
  REQUIRE(uri->ipv6_literal ==
          (memchr(uri->host.data, ':', uri->host.length) != NULL));
  REQUIRE(uri->ip_literal == (uri->ipv6_literal || is_ipv4(uri->host)));
  REQUIRE(!sw_uri_host_fault(uri->host));
}

static void check_again(const struct sw_uri *uri) {
  char text[SW_URI_MAX + 32];
  struct sw_uri again;
  bool v6 = uri->ipv6_literal;
  int length = snprintf(
      text, sizeof text, "%s://%s%.*s%s:%u%.*s", uri->secure ? "WSS" : "ws",
      v6 ? "[" : "", (int)uri->host.length, uri->host.data, v6 ? "]" : "",
      (unsigned)uri->port, (int)uri->target.length, uri->target.data);
  if (length > SW_URI_MAX)
    return;
  REQUIRE(!sw_uri_parse(text, &again));
  REQUIRE(again.secure == uri->secure && again.port == uri->port);
  REQUIRE(again.ipv6_literal == v6 && again.ip_literal == uri->ip_literal);
  REQUIRE(again.default_port == uri->default_port);
  REQUIRE(same(again.host, uri->host) && same(again.target, uri->target));
}

static void check_accepted(const char *text, const struct sw_uri *uri) {
  size_t length = strlen(text);
  REQUIRE(length <= SW_URI_MAX);
  REQUIRE(is_within(uri->host, text, length));
  REQUIRE(is_within(uri->target, text, length));
  REQUIRE(uri->target.data + uri->target.length == text + length);
  REQUIRE(uri->port >= 1);
  REQUIRE(uri->default_port == (uri->port == (uri->secure ? 443 : 80)));
  REQUIRE((text[2] == 's' || text[2] == 'S') == uri->secure);
  REQUIRE(is_sendable(uri->host) && is_sendable(uri->target));
  REQUIRE(!uri->target.length || uri->target.data[0] == '/' ||
          uri->target.data[0] == '?');
  REQUIRE(!strpbrk(text, "# \r\n\t\"<>\\^`{|}"));
  check_host(uri);
  check_again(uri);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct sw_uri uri, before;
  char *text = (char *)exact_copy(data, size);
  text = realloc(text, size + 1);
  text[size] = '\0';
  memset(&uri, 0xA5, sizeof uri);
  before = uri;
  const char *fault = sw_uri_parse(text, &uri);
  if (fault) {
    REQUIRE(names_a_part(fault));
    REQUIRE(!memcmp(&uri, &before, sizeof uri)); /* written on success only */
  } else {
    check_accepted(text, &uri);
  }
  struct sw_slice host = {(const char *)exact_copy(data, size), size};
  fault = sw_uri_host_fault(host);
  REQUIRE(!fault || !strncmp(fault, "host ", 5));
  free((void *)(uintptr_t)host.data);
  free(text);
  return 0;
}
