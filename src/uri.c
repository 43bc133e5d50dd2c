/* SPDX-License-Identifier: MIT */

/* Takes a URI apart and names the part that is wrong.  Must not resolve or
   normalize anything: what it accepts is sent unchanged. */

#define _GNU_SOURCE /* memrchr() */
#include "uri.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

#include "ascii.h"

enum {
  LABEL_MAX = 63,
  PORT_MAX = 65535,
  PORT_HTTP = 80,
  PORT_WS = 80,
  PORT_WSS = 443
};

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

/* Sets |secure| and the port that the scheme implies. */
static const char *parse_ws(const char **text, struct sw_uri *uri) {
  const char *rest = skip_prefix(*text, "ws:");
  uri->secure = !rest;
  uri->port = uri->secure ? PORT_WSS : PORT_WS;
  if (!rest)
    rest = skip_prefix(*text, "wss:");
  if (!rest)
    return "scheme must be ws or wss";
  if (!(rest = skip_prefix(rest, "//")))
    return "scheme must be followed by //";
  *text = rest;
  return NULL;
}

static const char *parse_http(const char **text, struct sw_uri *uri) {
  const char *rest = skip_prefix(*text, "http://");
  uri->port = PORT_HTTP;
  if (!rest)
    return "scheme must be http";
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
  unsigned scheme_port = uri->port, value = 0;
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

/* The end of what is made of unreserved characters, sub-delimiters, |others|
   and whole percent escapes. */
static const char *skip_part(const char *at, const char *end,
                             const char *others) {
  for (; at < end; at++) {
    if (*at == '%' && end - at > 2 && is_hex(at[1]) && is_hex(at[2]))
      at += 2;
    else if (!sw_is_alnum(*at) && !sw_is_one_of(*at, "-._~!$&'()*+,;=") &&
             !sw_is_one_of(*at, others))
      break;
  }
  return at;
}

/* Reads path and query; |text| begins with '/', '?', '#' or the end. */
static const char *parse_target(const char *text, struct sw_uri *uri) {
  const char *end = text + strlen(text);
  const char *stop = skip_part(text, end, ":@/");
  bool query = *stop == '?';
  if (query)
    stop = skip_part(stop, end, ":@/?");
  if (*stop == '%')
    return query ? "query has an incomplete percent escape"
                 : "path has an incomplete percent escape";
  if (*stop == '#')
    return "fragment is not allowed";
  if (*stop)
    return query ? "query has a character that is not allowed"
                 : "path has a character that is not allowed";
  uri->target = (struct sw_slice){text, (size_t)(end - text)};
  return NULL;
}

/* Takes "userinfo@" off the front of |*authority|. */
static const char *parse_userinfo(struct sw_slice *authority,
                                  struct sw_uri *uri) {
  const char *end = memrchr(authority->data, '@', authority->length);
  if (!end)
    return NULL;
  size_t length = (size_t)(end - authority->data);
  uri->userinfo = (struct sw_slice){authority->data, length};
  *authority = (struct sw_slice){end + 1, authority->length - length - 1};
  if (skip_part(uri->userinfo.data, end, ":") != end)
    return "userinfo has a character that is not allowed";
  return NULL;
}

typedef const char *(*scheme_fn)(const char **text, struct sw_uri *uri);

static const char *parse(const char *text, scheme_fn parse_scheme,
                         struct sw_uri *uri) {
  if (!text || !*text)
    return "URL is empty";
  if (strlen(text) > SW_URI_MAX)
    return "URL has more than 8192 bytes";
  const char *fault = parse_scheme(&text, uri);
  if (fault)
    return fault;
  struct sw_slice authority = {text, strcspn(text, "/?#")};
  text += authority.length;
  if (parse_scheme == parse_ws && memchr(authority.data, '@', authority.length))
    return "userinfo is not allowed";
  if ((fault = parse_userinfo(&authority, uri)) ||
      (fault = parse_authority(authority, uri)))
    return fault;
  return parse_target(text, uri);
}

const char *sw_uri_parse(const char *text, struct sw_uri *uri) {
  struct sw_uri parsed = {0};
  const char *fault = parse(text, parse_ws, &parsed);
  if (!fault)
    *uri = parsed;
  return fault;
}

const char *sw_uri_parse_proxy(const char *text, struct sw_uri *uri) {
  struct sw_uri parsed = {0};
  const char *fault = parse(text, parse_http, &parsed);
  if (!fault && parsed.target.length && parsed.target.data[0] != '/')
    fault = "query is not allowed";
  if (!fault && parsed.target.length > 1)
    fault = "path is not allowed";
  if (!fault)
    *uri = parsed;
  return fault;
}

static int hex_value(char c) {
  return sw_is_digit(c) ? c - '0' : sw_lower(c) - 'a' + 10;
}

bool sw_uri_decode(struct sw_slice text, char *out) {
  for (size_t i = 0; i < text.length; i++, out++) {
    *out = text.data[i];
    if (*out == '%' && i + 2 < text.length) {
      *out = (char)(hex_value(text.data[i + 1]) * 16 +
                    hex_value(text.data[i + 2]));
      i += 2;
    }
    if ((unsigned char)*out < ' ' || *out == 0x7f)
      return false;
  }
  *out = '\0';
  return true;
}

const char *sw_uri_host_fault(struct sw_slice host) {
  struct sw_uri uri = {.host = host};
  return is_ipv6(host) ? NULL : check_host(&uri);
}
