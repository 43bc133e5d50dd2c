/* SPDX-License-Identifier: MIT */
/* Checks and copies what users configure.  Must not act on it. */

#define _GNU_SOURCE
#include "options.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "http.h"
#include "loop.h"
#include "proxy.h"
#include "tls.h"

/* Largest sum of all extra headers: servers refuse longer requests. */
enum { HEADERS_MAX = 16384 };

/* Longer ones would not fit into the answer to a challenge. */
enum { USERNAME_MAX = 256 };

/* A week, in ms: longer limits are mistakes in the unit. */
enum { DURATION_MAX = 7 * 24 * 3600 * 1000 };

void sipwire_config_init(struct sipwire_config *config) {
  memset(config, 0, sizeof *config);
  config->connection_timeout_ms = 5000;
  config->disconnect_timeout_ms = 5000;
  config->keep_alive_timeout_ms = 10000;
  config->max_message_size = 1048576;
  config->send_queue_limit = 1048576;
  config->tls.verify = true;
}

/* ---- Options ----------------------------------------------------------- */

static const char *duration_fault(const struct sipwire_config *config) {
  const struct {
    const char *fault;
    int value, minimum;
  } checks[] = {
      {"connection_timeout is out of range", config->connection_timeout_ms, 0},
      {"disconnect_timeout is out of range", config->disconnect_timeout_ms, 1},
      {"keep_alive_interval is out of range", config->keep_alive_interval_ms,
       0},
      {"keep_alive_timeout is out of range", config->keep_alive_timeout_ms, 0},
  };
  for (size_t i = 0; i < sizeof checks / sizeof *checks; i++)
    if (checks[i].value < checks[i].minimum || checks[i].value > DURATION_MAX)
      return checks[i].fault;
  return NULL;
}

static const char *option_fault(const struct sipwire_config *config) {
  unsigned char bytes[sizeof(struct in6_addr)];
  if (config->local_address &&
      inet_pton(AF_INET, config->local_address, bytes) != 1 &&
      inet_pton(AF_INET6, config->local_address, bytes) != 1)
    return "local_address is not a numeric IP address";
  if ((unsigned)config->keep_alive_method > SIPWIRE_KEEP_ALIVE_CRLF)
    return "keep_alive_method is unknown";
  if ((unsigned)config->frame > SIPWIRE_FRAME_BINARY)
    return "frame is unknown";
  if (!config->max_message_size)
    return "max_message_size is 0";
  if (!config->send_queue_limit)
    return "send_queue_limit is 0";
  return duration_fault(config);
}

/* A name goes into a header field. */
static const char *credentials_fault(const struct sipwire_config *config) {
  if (!config->username)
    return config->password ? "password needs username" : NULL;
  for (const char *at = config->username; *at; at++)
    if ((unsigned char)*at < ' ' || *at == 0x7f)
      return "username has a control character";
  return strlen(config->username) > USERNAME_MAX ? "username is too long"
                                                 : NULL;
}

static int check_proxy(struct sipwire_loop *loop, const char *url) {
  struct sw_proxy *proxy;
  if (!url || !strcmp(url, SIPWIRE_PROXY_ENVIRONMENT))
    return 0;
  int error = sw_proxy_new(loop, "proxy", url, &proxy);
  if (!error)
    sw_proxy_free(proxy);
  return error;
}

static bool tls_is_default(const struct sipwire_tls_config *tls) {
  return tls->verify && !tls->ca_file && !tls->ca_path && !tls->cert_file &&
         !tls->key_file && !tls->key_password && !tls->server_name &&
         !tls->min_version && !tls->ciphers && !tls->keylog_file;
}

static const char *tls_fault(const struct sipwire_tls_config *tls,
                             bool listening) {
  if (tls->key_file && !tls->cert_file)
    return "key_file needs tls.cert_file";
  if (!listening) /* OpenSSL takes a leading dot for a wildcard */
    return tls->server_name ? sw_uri_host_fault((struct sw_slice){
                                  tls->server_name, strlen(tls->server_name)})
                            : NULL;
  if (!tls->cert_file)
    return "cert_file is required";
  if (tls->server_name)
    return "server_name is for clients";
  if (tls->verify && !tls->ca_file && !tls->ca_path)
    return "verify needs tls.ca_file or tls.ca_path";
  return NULL;
}

/* Files are read now, so that a bad one is told of where it was named; the
   system's certificates, which are slow to read, when a wss URL comes. */
static int open_tls(struct sipwire_loop *loop,
                    const struct sipwire_tls_config *tls, bool listening,
                    bool secure, struct sw_options *options) {
  if (listening ? !secure : tls_is_default(tls))
    return 0;
  const char *fault = tls_fault(tls, listening);
  if (fault)
    return sw_loop_fault(
        loop, SIPWIRE_EINVALID, "tls.%s%s",
        strncmp(fault, "host ", 5) ? "" : "server_name: ", fault);
  return sw_tls_context_get(loop, tls, listening, &options->tls);
}

static void copy_numbers(struct sw_options *options,
                         const struct sipwire_config *config) {
  options->connection_timeout_ms = (uint32_t)config->connection_timeout_ms;
  options->disconnect_timeout_ms = (uint32_t)config->disconnect_timeout_ms;
  options->keep_alive_interval_ms = (uint32_t)config->keep_alive_interval_ms;
  options->keep_alive_timeout_ms = (uint32_t)config->keep_alive_timeout_ms;
  options->keep_alive_method = config->keep_alive_method;
  options->frame = config->frame;
  options->raw = config->raw;
  options->max_message_size = config->max_message_size;
  options->send_queue_limit = config->send_queue_limit;
}

static bool copy_text(char **to, const char *from) {
  return !from || (*to = strdup(from));
}

static bool copy_texts(struct sw_options *options,
                       const struct sipwire_config *config) {
  const char *password = config->password;
  if (config->username && !password)
    password = "";
  return copy_text(&options->local_address, config->local_address) &&
         copy_text(&options->proxy, config->proxy) &&
         copy_text(&options->credentials.username, config->username) &&
         copy_text(&options->credentials.password, password);
}

int sw_options_new(struct sipwire_loop *loop,
                   const struct sipwire_config *config, bool listening,
                   bool secure, struct sw_options **out) {
  const char *fault = option_fault(config);
  if (!fault)
    fault = credentials_fault(config);
  if (fault)
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "%s", fault);
  struct sw_options *options = calloc(1, sizeof *options);
  if (!options)
    return SIPWIRE_ENOMEM;
  options->references = 1;
  copy_numbers(options, config);
  int error = check_proxy(loop, config->proxy);
  if (!error)
    error = open_tls(loop, &config->tls, listening, secure, options);
  if (!error && !copy_texts(options, config))
    error = SIPWIRE_ENOMEM;
  if (error)
    sw_options_unref(options);
  else
    *out = options;
  return error;
}

struct sw_options *sw_options_ref(struct sw_options *options) {
  options->references++;
  return options;
}

void sw_options_unref(struct sw_options *options) {
  if (!options || --options->references)
    return;
  free(options->local_address);
  sw_auth_wipe(options->proxy);
  sw_credentials_clear(&options->credentials);
  sw_tls_context_unref(options->tls);
  free(options);
}

/* ---- Targets ----------------------------------------------------------- */

int sw_headers_check(struct sipwire_loop *loop,
                     const struct sipwire_header *headers,
                     size_t header_count) {
  size_t total = 0;
  for (size_t i = 0; i < header_count; i++) {
    const char *fault = sw_http_header_fault(headers[i].name, headers[i].value);
    if (fault)
      return sw_loop_fault(loop, SIPWIRE_EINVALID, "header '%.60s': %s",
                           headers[i].name, fault);
    total += strlen(headers[i].name) + strlen(headers[i].value) + 4;
    if (total > HEADERS_MAX)
      return sw_loop_fault(loop, SIPWIRE_EINVALID,
                           "header '%.60s': the headers exceed %d bytes",
                           headers[i].name, HEADERS_MAX);
  }
  return 0;
}

static bool copy_headers(struct sw_target *target,
                         const struct sipwire_header *headers, size_t count) {
  if (!count)
    return true;
  if (!(target->headers = calloc(count, sizeof *headers)))
    return false;
  target->header_count = count;
  for (size_t i = 0; i < count; i++) {
    target->headers[i].name = strdup(headers[i].name);
    target->headers[i].value = strdup(headers[i].value);
    if (!target->headers[i].name || !target->headers[i].value)
      return false;
  }
  return true;
}

static int open_proxy(struct sipwire_loop *loop, struct sw_target *target,
                      const char *proxy) {
  if (!proxy)
    return 0;
  if (strcmp(proxy, SIPWIRE_PROXY_ENVIRONMENT) != 0)
    return sw_proxy_new(loop, "proxy", proxy, &target->proxy);
  return sw_proxy_from_environment(loop, &target->uri, &target->proxy);
}

/* Two of them would leave it to the server whom to believe. */
static int check_authorization(struct sipwire_loop *loop,
                               const struct sw_target *target,
                               const struct sw_options *options) {
  for (size_t i = 0; i < target->header_count; i++)
    if (options->credentials.username &&
        !strcasecmp(target->headers[i].name, "Authorization"))
      return sw_loop_fault(loop, SIPWIRE_EINVALID,
                           "header 'Authorization' together with username");
  return 0;
}

static int fill(struct sipwire_loop *loop, struct sw_target *target,
                const char *url, const struct sipwire_header *headers,
                size_t header_count, const struct sw_options *options) {
  struct sipwire_config defaults;
  if (!(target->url = strdup(url)) ||
      !copy_headers(target, headers, header_count))
    return SIPWIRE_ENOMEM;
  const char *fault = sw_uri_parse(target->url, &target->uri);
  if (fault)
    return sw_loop_fault(loop, SIPWIRE_EINVALID, "server: %s", fault);
  int error = check_authorization(loop, target, options);
  if (!error)
    error = open_proxy(loop, target, options->proxy);
  if (error || !target->uri.secure)
    return error;
  if (options->tls) {
    target->tls = sw_tls_context_ref(options->tls);
    return 0;
  }
  sipwire_config_init(&defaults);
  return sw_tls_context_get(loop, &defaults.tls, false, &target->tls);
}

int sw_target_new(struct sipwire_loop *loop, const char *url,
                  const struct sipwire_header *headers, size_t header_count,
                  const struct sw_options *options, struct sw_target **out) {
  int error = sw_headers_check(loop, headers, header_count);
  if (error)
    return error;
  struct sw_target *target = calloc(1, sizeof *target);
  if (!target)
    return SIPWIRE_ENOMEM;
  target->references = 1;
  error = fill(loop, target, url, headers, header_count, options);
  if (error) {
    sw_target_unref(target);
    return error;
  }
  *out = target;
  return 0;
}

struct sw_target *sw_target_ref(struct sw_target *target) {
  target->references++;
  return target;
}

void sw_target_unref(struct sw_target *target) {
  if (!target || --target->references)
    return;
  for (size_t i = 0; i < target->header_count; i++) {
    free((void *)(uintptr_t)target->headers[i].name);
    free((void *)(uintptr_t)target->headers[i].value);
  }
  free(target->headers);
  free(target->url);
  sw_proxy_free(target->proxy);
  sw_tls_context_unref(target->tls);
  free(target);
}
