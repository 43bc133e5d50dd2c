/* SPDX-License-Identifier: MIT */
/* Reads a proxy's URL, or the environment's wishes.  Must not talk to the
   proxy, nor show its password. */

#define _GNU_SOURCE
#include "proxy.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ascii.h"
#include "loop.h"

/* ---- A URL ------------------------------------------------------------- */

static int decode(struct sipwire_loop *loop, const char *name,
                  struct sw_slice part, char **out) {
  if (!(*out = malloc(part.length + 1)))
    return SIPWIRE_ENOMEM;
  if (!sw_uri_decode(part, *out)) {
    explicit_bzero(*out, part.length + 1);
    return sw_loop_fault(loop, SIPWIRE_EINVALID,
                         "%s: userinfo has a control character", name);
  }
  return 0;
}

static int read_userinfo(struct sipwire_loop *loop, const char *name,
                         struct sw_proxy *proxy) {
  struct sw_slice username = proxy->uri.userinfo, password = {"", 0};
  const char *colon =
      username.length ? memchr(username.data, ':', username.length) : NULL;
  if (!username.length)
    return 0;
  if (colon) {
    size_t length = (size_t)(colon - username.data);
    password = (struct sw_slice){colon + 1, username.length - length - 1};
    username.length = length;
  }
  int error = decode(loop, name, username, &proxy->credentials.username);
  if (!error)
    error = decode(loop, name, password, &proxy->credentials.password);
  return error;
}

static int read_url(struct sipwire_loop *loop, const char *name,
                    const char *url, struct sw_proxy *proxy) {
  if (!(proxy->url = strdup(url)))
    return SIPWIRE_ENOMEM;
  const char *fault = sw_uri_parse_proxy(proxy->url, &proxy->uri);
  if (fault)
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "%s: %s", name, fault);
  return read_userinfo(loop, name, proxy);
}

int sw_proxy_new(struct sipwire_loop *loop, const char *name, const char *url,
                 struct sw_proxy **out) {
  struct sw_proxy *proxy = calloc(1, sizeof *proxy);
  if (!proxy)
    return SIPWIRE_ENOMEM;
  int error = read_url(loop, name, url, proxy);
  if (error)
    sw_proxy_free(proxy);
  else
    *out = proxy;
  return error;
}

void sw_proxy_free(struct sw_proxy *proxy) {
  if (!proxy)
    return;
  sw_credentials_clear(&proxy->credentials);
  sw_auth_wipe(proxy->url);
  free(proxy);
}

/* ---- The environment --------------------------------------------------- */

/* "example.org" and ".example.org" stand for the host and all below it; an
   address for itself. */
static bool covers(struct sw_slice entry, const struct sw_uri *server) {
  struct sw_slice host = server->host;
  if (entry.length && *entry.data == '.') {
    entry.data++;
    entry.length--;
  }
  if (!entry.length || entry.length > host.length)
    return false;
  size_t before = host.length - entry.length;
  for (size_t i = 0; i < entry.length; i++)
    if (sw_lower(entry.data[i]) != sw_lower(host.data[before + i]))
      return false;
  return !before || (!server->ip_literal && host.data[before - 1] == '.');
}

static bool is_exempt(const char *list, const struct sw_uri *server) {
  while (list && *list) {
    struct sw_slice entry = {list, strcspn(list, ", \t")};
    if (covers(entry, server) || (entry.length == 1 && *entry.data == '*'))
      return true;
    list += entry.length;
    list += strspn(list, ", \t");
  }
  return false;
}

/* The first of two variables that says something. */
static const char *ask(const char *first, const char *second,
                       const char **name) {
  const char *value = getenv(first);
  *name = first;
  if ((!value || !*value) && second) {
    value = getenv(second);
    *name = second;
  }
  return value && *value ? value : NULL;
}

int sw_proxy_from_environment(struct sipwire_loop *loop,
                              const struct sw_uri *server,
                              struct sw_proxy **proxy) {
  const char *name, *value;
  char where[32], url[SW_URI_MAX + 16];
  *proxy = NULL;
  if (is_exempt(ask("no_proxy", "NO_PROXY", &name), server))
    return 0;
  /* HTTP_PROXY is a CGI request's "Proxy" header */
  value = server->secure ? ask("https_proxy", "HTTPS_PROXY", &name)
                         : ask("http_proxy", NULL, &name);
  if (!value)
    value = ask("all_proxy", "ALL_PROXY", &name);
  if (!value)
    return 0;
  snprintf(where, sizeof where, "proxy from $%s", name);
  snprintf(url, sizeof url, "%s%s", strstr(value, "://") ? "" : "http://",
           value);
  int error = sw_proxy_new(loop, where, url, proxy);
  explicit_bzero(url, sizeof url);
  return error;
}
