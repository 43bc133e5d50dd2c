/* SPDX-License-Identifier: MIT */

/* Takes a ws or wss URI apart and names the part that is wrong.  Must not
   resolve, decode or normalize anything: what it accepts is sent unchanged. */

#include "uri.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "ascii.h"

enum { LABEL_MAX = 63, PORT_MAX = 65535, PORT_WS = 80, PORT_WSS = 443 };

static bool is_hex(char c) {
  return sw_is_digit(c) || (sw_lower(c) >= 'a' && sw_lower(c) <= 'f');
}

/* Skips |prefix|, which is in lower case; NULL when |text| has another. */
static const char *skip_prefix(const char *text, const char *prefix) {
  for (; *prefix; text++, prefix++)
    if (sw_lower(*text) != *prefix)
      return NULL;
  return text;
}

static const char *parse_scheme(const char **text, struct sw_uri *uri) {
  const char *rest = skip_prefix(*text, "ws:");
  uri->secure = !rest;
  if (!rest)
    rest = skip_prefix(*text, "wss:");
  if (!rest)
    return "scheme must be ws or wss";
  if (!(rest = skip_prefix(rest, "//")))
    return "scheme must be followed by //";
  *text = rest;
  return NULL;
}

/* RFC 3986's dec-octet: no leading zero, which some would read as octal. */
static bool skip_octet(const char **at, const char *end) {
  unsigned value = 0, digits = 0;
  for (; *at < end && sw_is_digit(**at) && digits < 3; ++*at, digits++) {
    if (digits && !value)
      return false;
    value = value * 10 + (unsigned)(**at - '0');
  }
  return digits && value <= 255;
}

static bool is_ipv4(struct sw_slice host) {
  const char *at = host.data, *end = at + host.length;
  for (int octet = 0; octet < 4; octet++) {
    if (octet && (at == end || *at++ != '.'))
      return false;
    if (!skip_octet(&at, end))
      return false;
  }
  return at == end;
}

static bool is_ipv6(struct sw_slice host) {
  char text[INET6_ADDRSTRLEN];
  struct in6_addr address;
  if (host.length >= sizeof text)
    return false;
  memcpy(text, host.data, host.length);
  text[host.length] = '\0';
  return strlen(text) == host.length &&
         inet_pton(AF_INET6, text, &address) == 1;
}

static bool is_numeric(struct sw_slice host) {
  for (size_t i = 0; i < host.length; i++)
    if (!sw_is_digit(host.data[i]) && host.data[i] != '.')
      return false;
  return true;
}

static const char *name_fault(struct sw_slice host) {
  size_t label = 0;
  for (size_t i = 0; i < host.length; i++) {
    char c = host.data[i];
    if (c == '.' && !label)
      return "host has an empty label";
    if (!sw_is_alnum(c) && !sw_is_one_of(c, "-_."))
      return "host has a character that is not allowed";
    label = c == '.' ? 0 : label + 1;
    if (label > LABEL_MAX)
      return "host has a label of more than 63 bytes";
  }
  return NULL;
}

static const char *check_host(struct sw_uri *uri) {
  if (!uri->host.length)
    return "host is empty";
  if (uri->host.length > SW_URI_HOST_MAX)
    return "host has more than 253 bytes";
  const char *fault = name_fault(uri->host);
  if (fault)
    return fault;
  uri->ip_literal = is_ipv4(uri->host);
  /* What looks like an address must not be resolved as something else. */
  if (!uri->ip_literal && is_numeric(uri->host))
    return "host is not a valid IPv4 address";
  return NULL;
}

static const char *check_bracketed(struct sw_uri *uri) {
  uri->ip_literal = uri->ipv6_literal = true;
  return is_ipv6(uri->host) ? NULL : "host is not a valid IPv6 address";
}

/* |port| is ":digits", ":" or nothing. */
static const char *parse_port(struct sw_slice port, struct sw_uri *uri) {
  unsigned scheme_port = uri->secure ? PORT_WSS : PORT_WS, value = 0;
  for (size_t i = 1; i < port.length; i++) {
    if (!sw_is_digit(port.data[i]))
      return "port is not a number";
    if (value <= PORT_MAX)
      value = value * 10 + (unsigned)(port.data[i] - '0');
  }
  if (port.length <= 1)
    value = scheme_port;
  if (value < 1 || value > PORT_MAX)
    return "port must be from 1 to 65535";
  uri->port = (uint16_t)value;
  uri->default_port = value == scheme_port;
  return NULL;
}

static const char *parse_bracketed(struct sw_slice authority,
                                   struct sw_uri *uri) {
  const char *end = memchr(authority.data, ']', authority.length);
  if (!end)
    return "host lacks its closing bracket";
  size_t used = (size_t)(end + 1 - authority.data);
  uri->host = (struct sw_slice){authority.data + 1, used - 2};
  const char *fault = check_bracketed(uri);
  if (fault)
    return fault;
  struct sw_slice port = {end + 1, authority.length - used};
  if (port.length && port.data[0] != ':')
    return "host has something behind its bracket";
  return parse_port(port, uri);
}

static const char *parse_authority(struct sw_slice authority,
                                   struct sw_uri *uri) {
  if (memchr(authority.data, '@', authority.length))
    return "userinfo is not allowed";
  if (authority.length && authority.data[0] == '[')
    return parse_bracketed(authority, uri);
  if (is_ipv6(authority))
    return "host must have brackets around an IPv6 address";
  const char *colon = memchr(authority.data, ':', authority.length);
  size_t host = colon ? (size_t)(colon - authority.data) : authority.length;
  uri->host = (struct sw_slice){authority.data, host};
  const char *fault = check_host(uri);
  if (fault)
    return fault;
  struct sw_slice port = {authority.data + host, authority.length - host};
  return parse_port(port, uri);
}

/* Reads path and query; |text| begins with '/', '?', '#' or the end. */
static const char *parse_target(const char *text, struct sw_uri *uri) {
  const char *at = text;
  bool query = false;
  for (; *at && *at != '#'; at++) {
    if (*at == '%') {
      if (!is_hex(at[1]) || !is_hex(at[2]))
        return query ? "query has an incomplete percent escape"
                     : "path has an incomplete percent escape";
    } else if (!sw_is_alnum(*at) && !sw_is_one_of(*at, "-._~!$&'()*+,;=:@/?")) {
      return query ? "query has a character that is not allowed"
                   : "path has a character that is not allowed";
    }
    query = query || *at == '?';
  }
  if (*at == '#')
    return "fragment is not allowed";
  uri->target = (struct sw_slice){text, (size_t)(at - text)};
  return NULL;
}

const char *sw_uri_parse(const char *text, struct sw_uri *uri) {
  struct sw_uri parsed = {0};
  if (!text || !*text)
    return "URL is empty";
  if (strlen(text) > SW_URI_MAX)
    return "URL has more than 8192 bytes";
  const char *fault = parse_scheme(&text, &parsed);
  if (fault)
    return fault;
  struct sw_slice authority = {text, strcspn(text, "/?#")};
  if ((fault = parse_authority(authority, &parsed)))
    return fault;
  if ((fault = parse_target(text + authority.length, &parsed)))
    return fault;
  *uri = parsed;
  return NULL;
}

const char *sw_uri_host_fault(struct sw_slice host) {
  struct sw_uri uri = {.host = host};
  return is_ipv6(host) ? NULL : check_host(&uri);
}
