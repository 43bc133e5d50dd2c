/* SPDX-License-Identifier: MIT */
/* Turns options into OpenSSL contexts and runs sessions on bytes in memory.
   Must not touch a socket, nor be shared between loops. */

#define _GNU_SOURCE
#include "tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "loop.h"
#include "sipwire.h"

/* The options that are strings; a context is found again by comparing them. */
#define STRINGS(X)                                                             \
  X(ca_file)                                                                   \
  X(ca_path)                                                                   \
  X(cert_file)                                                                 \
  X(key_file)                                                                  \
  X(key_password)                                                              \
  X(server_name)                                                               \
  X(min_version)                                                               \
  X(ciphers)                                                                   \
  X(keylog_file)

/* What peers gave to resume sessions with, for so many of them. */
enum { PEERS_MAX = 64 };

struct peer {
  struct peer *next; /* used longer ago */
  SSL_SESSION *session;
  unsigned users; /* sessions that may still bring a newer one */
  char name[];    /* "host:port" */
};

/* Contexts that nobody uses and that are kept for who comes back. */
enum { IDLE_MAX = 4 };

/* Which contents of a file were read: ca_file, ca_path, cert_file, key_file. */
enum { STAMPS = 4 };

struct stamp {
  struct timespec changed;
  ino_t number;
};

struct sw_tls_context {
  struct sw_tls_context *next; /* used longer ago */
  struct sipwire_loop *loop;   /* weak: NULL once the loop is closed */
  unsigned references;
  bool server;
  struct sipwire_tls_config config; /* strings are our own */
  struct stamp stamps[STAMPS];
  SSL_CTX *ssl;
  BIO_METHOD *method; /* the loop's */
  FILE *keylog;
  struct peer *peers;
  bool told; /* that nothing is verified */
};

struct sw_tls {
  struct sw_tls_context *context;
  SSL *ssl;
  struct peer *peer;    /* NULL: nothing will be resumed */
  const uint8_t *input; /* during sw_tls_read() only */
  size_t input_length;
  struct sw_buffer *cipher; /* during a call only */
  bool opened, out_of_memory;
  char fault[160];
};

/* ---- Errors ------------------------------------------------------------ */

static const char *openssl_words(void) {
  unsigned long error = ERR_peek_error(); /* the first one is the cause */
  const char *words = error ? ERR_reason_error_string(error) : NULL;
  if (!words && error && ERR_SYSTEM_ERROR(error))
    words = strerror(ERR_GET_REASON(error));
  return words ? words : "unknown error";
}

static int file_fault(struct sipwire_loop *loop, const char *option,
                      const char *file) {
  int error = sw_loop_fault(loop, SIPWIRE_ETLS, "tls.%s '%s': %s", option, file,
                            openssl_words());
  ERR_clear_error();
  return error;
}

/* ---- Contexts ---------------------------------------------------------- */

static int load_trust(struct sipwire_loop *loop,
                      struct sw_tls_context *context) {
  const struct sipwire_tls_config *config = &context->config;
  if (config->ca_file &&
      !SSL_CTX_load_verify_file(context->ssl, config->ca_file))
    return file_fault(loop, "ca_file", config->ca_file);
  if (config->ca_path) {
    /* OpenSSL looks into the directory only when it needs a certificate */
    int fd = open(config->ca_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
      return sw_loop_fault(loop, SIPWIRE_ETLS, "tls.ca_path '%s': %s",
                           config->ca_path, strerror(errno));
    close(fd);
    if (!SSL_CTX_load_verify_dir(context->ssl, config->ca_path))
      return file_fault(loop, "ca_path", config->ca_path);
  }
  if (!config->ca_file && !config->ca_path && !context->server &&
      config->verify && !SSL_CTX_set_default_verify_paths(context->ssl))
    return file_fault(loop, "ca_file", "(system)");
  return 0;
}

static int give_password(char *buffer, int size, int writing, void *arg) {
  const char *password = arg;
  (void)writing;
  if (!password || strlen(password) >= (size_t)size)
    return 0;
  strcpy(buffer, password);
  return (int)strlen(password);
}

static int load_identity(struct sipwire_loop *loop,
                         struct sw_tls_context *context) {
  const struct sipwire_tls_config *config = &context->config;
  const char *key_file =
      config->key_file ? config->key_file : config->cert_file;
  if (!config->cert_file)
    return 0;
  SSL_CTX_set_default_passwd_cb(context->ssl, give_password);
  SSL_CTX_set_default_passwd_cb_userdata(
      context->ssl, (void *)(uintptr_t)config->key_password);
  if (SSL_CTX_use_certificate_chain_file(context->ssl, config->cert_file) != 1)
    return file_fault(loop, "cert_file", config->cert_file);
  if (SSL_CTX_use_PrivateKey_file(context->ssl, key_file, SSL_FILETYPE_PEM) !=
      1)
    return file_fault(loop, config->key_file ? "key_file" : "cert_file",
                      key_file);
  return 0;
}

static void write_keylog(const SSL *ssl, const char *line) {
  struct sw_tls_context *context = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
  fprintf(context->keylog, "%s\n", line);
  fflush(context->keylog);
}

static int open_keylog(struct sipwire_loop *loop,
                       struct sw_tls_context *context) {
  const char *file = context->config.keylog_file;
  if (!file)
    return 0;
  int fd =
      open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600);
  if (fd >= 0 && !(context->keylog = fdopen(fd, "a")))
    close(fd);
  if (!context->keylog)
    return sw_loop_fault(loop, SIPWIRE_ETLS, "tls.keylog_file '%s': %s", file,
                         strerror(errno));
  SSL_CTX_set_app_data(context->ssl, context);
  SSL_CTX_set_keylog_callback(context->ssl, write_keylog);
  return 0;
}

static int set_algorithms(struct sipwire_loop *loop,
                          struct sw_tls_context *context) {
  const struct sipwire_tls_config *config = &context->config;
  int version = TLS1_2_VERSION;
  if (config->min_version && !strcmp(config->min_version, "1.3"))
    version = TLS1_3_VERSION;
  else if (config->min_version && strcmp(config->min_version, "1.2"))
    return sw_loop_fault(loop, SIPWIRE_EINVALID,
                         "tls.min_version is neither \"1.2\" nor \"1.3\"");
  /* the system's policy may be stricter than our default */
  if (config->min_version ||
      SSL_CTX_get_min_proto_version(context->ssl) < version)
    SSL_CTX_set_min_proto_version(context->ssl, version);
  if (config->ciphers &&
      !SSL_CTX_set_cipher_list(context->ssl, config->ciphers)) {
    ERR_clear_error();
    return sw_loop_fault(loop, SIPWIRE_EINVALID,
                         "tls.ciphers '%s' names no known cipher",
                         config->ciphers);
  }
  return 0;
}

/* The only application protocol (RFC 7301), with its length in front. */
static const unsigned char http[] = "\x08http/1.1";

static int choose_protocol(SSL *ssl, const unsigned char **out,
                           unsigned char *out_length, const unsigned char *in,
                           unsigned in_length, void *arg) {
  (void)ssl;
  (void)arg;
  /* a client that names protocols without ours is left to its own ways */
  return SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_length,
                               http, sizeof http - 1, in,
                               in_length) == OPENSSL_NPN_NEGOTIATED
             ? SSL_TLSEXT_ERR_OK
             : SSL_TLSEXT_ERR_NOACK;
}

static int keep_session(SSL *ssl, SSL_SESSION *session);

static void set_habits(struct sw_tls_context *context) {
  static const unsigned char session_id[] = "sipwire";
  int verify = context->config.verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
  if (context->server && context->config.verify)
    verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
  SSL_CTX_set_verify(context->ssl, verify, NULL);
  /* a renegotiation would make a write want a read */
  SSL_CTX_set_options(context->ssl,
                      SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(context->ssl, SSL_MODE_RELEASE_BUFFERS);
  if (context->server) {
    SSL_CTX_set_session_id_context(context->ssl, session_id,
                                   sizeof session_id - 1);
    SSL_CTX_set_alpn_select_cb(context->ssl, choose_protocol, NULL);
  } else {
    SSL_CTX_set_alpn_protos(context->ssl, http, sizeof http - 1);
    SSL_CTX_set_session_cache_mode(
        context->ssl, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
    SSL_CTX_sess_set_new_cb(context->ssl, keep_session);
  }
}

static int context_open(struct sipwire_loop *loop,
                        struct sw_tls_context *context) {
  ERR_clear_error(); /* of others, or it would be told as ours */
  context->ssl =
      SSL_CTX_new(context->server ? TLS_server_method() : TLS_client_method());
  if (!context->ssl)
    return SIPWIRE_ENOMEM;
  set_habits(context);
  int error = set_algorithms(loop, context);
  if (!error)
    error = load_trust(loop, context);
  if (!error)
    error = load_identity(loop, context);
  if (!error)
    error = open_keylog(loop, context);
  return error;
}

static bool copy_config(struct sipwire_tls_config *to,
                        const struct sipwire_tls_config *from) {
  bool copied = true;
#define COPY(field)                                                            \
  if (from->field && !(to->field = strdup(from->field)))                       \
    copied = false;
  STRINGS(COPY)
#undef COPY
  to->verify = from->verify;
  return copied;
}

static bool same_text(const char *a, const char *b) {
  return a && b ? !strcmp(a, b) : a == b;
}

static bool same_config(const struct sipwire_tls_config *a,
                        const struct sipwire_tls_config *b) {
#define SAME(field) &&same_text(a->field, b->field)
  return a->verify == b->verify STRINGS(SAME);
#undef SAME
}

static void peer_free(struct peer *peer) {
  SSL_SESSION_free(peer->session);
  free(peer);
}

static void context_free(struct sw_tls_context *context) {
  struct sipwire_tls_config *config = &context->config;
  while (context->peers) {
    struct peer *peer = context->peers;
    context->peers = peer->next;
    peer_free(peer);
  }
  SSL_CTX_free(context->ssl);
  if (context->keylog)
    fclose(context->keylog);
  if (config->key_password)
    OPENSSL_cleanse((void *)(uintptr_t)config->key_password,
                    strlen(config->key_password));
#define FREE(field) free((void *)(uintptr_t)config->field);
  STRINGS(FREE)
#undef FREE
  free(context);
}

static struct stamp take_stamp(const char *file) {
  struct stamp stamp = {{0, 0}, 0};
  struct stat status;
  if (file && !stat(file, &status)) {
    stamp.changed = status.st_ctim;
    stamp.number = status.st_ino;
  }
  return stamp;
}

static void take_stamps(const struct sipwire_tls_config *config,
                        struct stamp *stamps) {
  stamps[0] = take_stamp(config->ca_file);
  stamps[1] = take_stamp(config->ca_path);
  stamps[2] = take_stamp(config->cert_file);
  stamps[3] = take_stamp(config->key_file);
}

/* Files that have been renewed make another context. */
static bool is_for(const struct sw_tls_context *context,
                   const struct sipwire_tls_config *config, bool server) {
  struct stamp stamps[STAMPS];
  if (context->server != server || !same_config(&context->config, config))
    return false;
  take_stamps(config, stamps);
  for (int i = 0; i < STAMPS; i++)
    if (stamps[i].number != context->stamps[i].number ||
        stamps[i].changed.tv_sec != context->stamps[i].changed.tv_sec ||
        stamps[i].changed.tv_nsec != context->stamps[i].changed.tv_nsec)
      return false;
  return true;
}

static void enlist(struct sipwire_loop *loop, struct sw_tls_context *context) {
  context->loop = loop;
  context->next = loop->tls_contexts;
  loop->tls_contexts = context;
}

static void delist(struct sw_tls_context *context) {
  struct sw_tls_context **at = &context->loop->tls_contexts;
  while (*at != context)
    at = &(*at)->next;
  *at = context->next;
}

static struct sw_tls_context *find(struct sipwire_loop *loop,
                                   const struct sipwire_tls_config *config,
                                   bool server) {
  struct sw_tls_context *context = loop->tls_contexts;
  while (context && !is_for(context, config, server))
    context = context->next;
  if (context) {
    delist(context);
    enlist(loop, context);
  }
  return context;
}

/* Frees the one of the idle ones that was used longest ago, if there are too
   many. */
static void drop_idle(struct sipwire_loop *loop) {
  struct sw_tls_context *last = NULL;
  unsigned count = 0;
  for (struct sw_tls_context *context = loop->tls_contexts; context;
       context = context->next)
    if (!context->references) {
      last = context;
      count++;
    }
  if (count <= IDLE_MAX)
    return;
  delist(last);
  context_free(last);
}

static BIO_METHOD *bio_method(struct sipwire_loop *loop);

int sw_tls_context_get(struct sipwire_loop *loop,
                       const struct sipwire_tls_config *config, bool server,
                       struct sw_tls_context **out) {
  struct sw_tls_context *context = find(loop, config, server);
  if (context) {
    *out = sw_tls_context_ref(context);
    return 0;
  }
  context = calloc(1, sizeof *context);
  if (!context)
    return SIPWIRE_ENOMEM;
  context->references = 1;
  context->server = server;
  int error = SIPWIRE_ENOMEM;
  take_stamps(config, context->stamps);
  if (copy_config(&context->config, config) &&
      (context->method = bio_method(loop)))
    error = context_open(loop, context);
  if (error) {
    context_free(context);
    return error;
  }
  enlist(loop, context);
  *out = context;
  return 0;
}

struct sw_tls_context *sw_tls_context_ref(struct sw_tls_context *context) {
  context->references++;
  return context;
}

/* Its sessions are worth more than its memory; an open file is not kept. */
void sw_tls_context_unref(struct sw_tls_context *context) {
  if (!context || --context->references)
    return;
  if (context->loop && !context->loop->closed && !context->keylog) {
    drop_idle(context->loop);
    return;
  }
  if (context->loop)
    delist(context);
  context_free(context);
}

void sw_tls_contexts_close(struct sipwire_loop *loop) {
  while (loop->tls_contexts) {
    struct sw_tls_context *context = loop->tls_contexts;
    delist(context);
    context->loop = NULL;
    if (!context->references)
      context_free(context);
  }
  BIO_meth_free(loop->tls_bio_method);
  loop->tls_bio_method = NULL;
}

/* ---- The BIO between a session and its bytes --------------------------- */

static int bio_read(BIO *bio, char *out, int size) {
  struct sw_tls *tls = BIO_get_data(bio);
  size_t length = (size_t)size;
  BIO_clear_retry_flags(bio);
  if (!tls->input_length) {
    BIO_set_retry_read(bio);
    return -1;
  }
  if (length > tls->input_length)
    length = tls->input_length;
  memcpy(out, tls->input, length);
  tls->input += length;
  tls->input_length -= length;
  return (int)length;
}

static int bio_write(BIO *bio, const char *data, int length) {
  struct sw_tls *tls = BIO_get_data(bio);
  BIO_clear_retry_flags(bio);
  if (!tls->cipher || !sw_buffer_append(tls->cipher, data, (size_t)length)) {
    tls->out_of_memory = true;
    return -1;
  }
  return length;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
  (void)bio;
  (void)number;
  (void)pointer;
  return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio) {
  BIO_set_init(bio, 1);
  return 1;
}

static BIO_METHOD *bio_method(struct sipwire_loop *loop) {
  if (!loop->tls_bio_method) {
    /* BIO_get_new_index() would run out after some hundred loops */
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "sipwire");
    if (!method)
      return NULL;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    BIO_meth_set_create(method, bio_create);
    loop->tls_bio_method = method;
  }
  return loop->tls_bio_method;
}

/* ---- Resumption -------------------------------------------------------- */

static int keep_session(SSL *ssl, SSL_SESSION *session) {
  struct sw_tls *tls = SSL_get_app_data(ssl);
  if (!tls->peer)
    return 0;
  SSL_SESSION_free(tls->peer->session);
  tls->peer->session = session; /* with the caller's reference */
  return 1;
}

/* Makes room for another peer; the one used longest ago goes. */
static void drop_peer(struct sw_tls_context *context) {
  struct peer **victim = NULL;
  unsigned count = 0;
  for (struct peer **at = &context->peers; *at; at = &(*at)->next) {
    count++;
    if (!(*at)->users)
      victim = at;
  }
  if (count < PEERS_MAX || !victim)
    return;
  struct peer *peer = *victim;
  *victim = peer->next;
  peer_free(peer);
}

static struct peer *take_peer(struct sw_tls_context *context,
                              const char *name) {
  for (struct peer **at = &context->peers; *at; at = &(*at)->next) {
    struct peer *peer = *at;
    if (!strcmp(peer->name, name)) {
      *at = peer->next;
      return peer;
    }
  }
  drop_peer(context);
  struct peer *peer = calloc(1, sizeof *peer + strlen(name) + 1);
  if (peer)
    strcpy(peer->name, name);
  return peer;
}

static void use_peer(struct sw_tls *tls, const char *host, uint16_t port) {
  struct sw_tls_context *context = tls->context;
  char name[300];
  snprintf(name, sizeof name, "%s:%u", host, (unsigned)port);
  struct peer *peer = take_peer(context, name);
  if (!peer)
    return;
  peer->next = context->peers;
  context->peers = peer;
  peer->users++;
  tls->peer = peer;
  if (peer->session && !SSL_set_session(tls->ssl, peer->session))
    ERR_clear_error(); /* a full handshake, then */
}

/* ---- Sessions ---------------------------------------------------------- */

static bool is_address(const char *host) {
  unsigned char bytes[sizeof(struct in6_addr)];
  return inet_pton(AF_INET, host, bytes) == 1 ||
         inet_pton(AF_INET6, host, bytes) == 1;
}

static bool expect_peer(SSL *ssl, const char *host, bool verify) {
  X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
  if (is_address(host)) /* never as SNI: RFC 6066 section 3 */
    return !verify || X509_VERIFY_PARAM_set1_ip_asc(param, host);
  X509_VERIFY_PARAM_set_hostflags(param,
                                  X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                      X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
  return SSL_set_tlsext_host_name(ssl, host) &&
         (!verify || X509_VERIFY_PARAM_set1_host(param, host, 0));
}

/* The dot that ends a fully qualified name is not part of certificates. */
static bool expect_name(SSL *ssl, const char *host, bool verify) {
  char name[256];
  size_t length = strlen(host);
  if (length >= sizeof name)
    return false;
  memcpy(name, host, length + 1);
  if (length && name[length - 1] == '.')
    name[length - 1] = '\0';
  return expect_peer(ssl, name, verify);
}

static void tell_unverified(struct sw_tls_context *context, const char *host) {
  if (context->config.verify || context->told || !context->loop)
    return;
  context->told = true;
  sw_loop_log(context->loop, SIPWIRE_LOG_WARN,
              "tls.verify is false: nobody checks whether it is %s that we "
              "speak to",
              host);
}

static bool session_open(struct sw_tls *tls, const char *host, uint16_t port) {
  struct sw_tls_context *context = tls->context;
  BIO *bio;
  if (!(tls->ssl = SSL_new(context->ssl)) || !(bio = BIO_new(context->method)))
    return false;
  BIO_set_data(bio, tls);
  SSL_set_bio(tls->ssl, bio, bio);
  SSL_set_app_data(tls->ssl, tls);
  if (context->server) {
    SSL_set_accept_state(tls->ssl);
    return true;
  }
  SSL_set_connect_state(tls->ssl);
  if (context->config.server_name)
    host = context->config.server_name;
  tell_unverified(context, host);
  use_peer(tls, host, port);
  return expect_name(tls->ssl, host, context->config.verify);
}

struct sw_tls *sw_tls_new(struct sw_tls_context *context, const char *host,
                          uint16_t port) {
  struct sw_tls *tls = calloc(1, sizeof *tls);
  if (!tls)
    return NULL;
  tls->context = sw_tls_context_ref(context);
  if (!session_open(tls, host, port)) {
    ERR_clear_error();
    sw_tls_free(tls);
    return NULL;
  }
  return tls;
}

void sw_tls_free(struct sw_tls *tls) {
  if (!tls)
    return;
  if (tls->peer)
    tls->peer->users--;
  if (tls->peer && !tls->opened) { /* maybe because of it */
    SSL_SESSION_free(tls->peer->session);
    tls->peer->session = NULL;
  }
  /* or OpenSSL takes a connection that just broke off for a bad session */
  if (tls->opened && !*tls->fault)
    SSL_set_shutdown(tls->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
  SSL_free(tls->ssl);
  sw_tls_context_unref(tls->context);
  free(tls);
}

static enum sw_tls_result failed(struct sw_tls *tls) {
  bool verified = SSL_get_verify_mode(tls->ssl) != SSL_VERIFY_NONE;
  long verdict = verified ? SSL_get_verify_result(tls->ssl) : X509_V_OK;
  const char *words = tls->out_of_memory ? "out of memory"
                      : verdict != X509_V_OK
                          ? X509_verify_cert_error_string(verdict)
                          : openssl_words();
  snprintf(tls->fault, sizeof tls->fault, "%s", words);
  ERR_clear_error();
  return SW_TLS_FAILED;
}

static enum sw_tls_result judge(struct sw_tls *tls, int result) {
  switch (SSL_get_error(tls->ssl, result)) {
  case SSL_ERROR_WANT_READ:
    /* releases 16 kB that RELEASE_BUFFERS keeps after TLS 1.3 tickets */
    SSL_free_buffers(tls->ssl);
    return SW_TLS_NEED_MORE;
  case SSL_ERROR_ZERO_RETURN:
    return SW_TLS_END;
  default:
    return failed(tls);
  }
}

static enum sw_tls_result step(struct sw_tls *tls, uint8_t *out, size_t size,
                               size_t *length) {
  int result;
  ERR_clear_error();
  if (!tls->opened) {
    result = SSL_do_handshake(tls->ssl);
    if (result != 1)
      return judge(tls, result);
    tls->opened = true;
    return SW_TLS_OPENED;
  }
  result = SSL_read_ex(tls->ssl, out, size, length);
  return result == 1 ? SW_TLS_DATA : judge(tls, result);
}

enum sw_tls_result sw_tls_read(struct sw_tls *tls, const uint8_t **input,
                               size_t *input_length, uint8_t *out, size_t size,
                               size_t *length, struct sw_buffer *cipher) {
  tls->input = *input;
  tls->input_length = *input_length;
  tls->cipher = cipher;
  enum sw_tls_result result = step(tls, out, size, length);
  *input = tls->input;
  *input_length = tls->input_length;
  tls->cipher = NULL;
  return result;
}

bool sw_tls_write(struct sw_tls *tls, const void *data, size_t length,
                  struct sw_buffer *cipher) {
  size_t written;
  ERR_clear_error();
  tls->cipher = cipher;
  int result = SSL_write_ex(tls->ssl, data, length, &written);
  tls->cipher = NULL;
  if (result != 1)
    failed(tls);
  return result == 1;
}

void sw_tls_finish(struct sw_tls *tls, struct sw_buffer *cipher) {
  ERR_clear_error();
  tls->cipher = cipher;
  if (tls->opened)
    SSL_shutdown(tls->ssl);
  tls->cipher = NULL;
  ERR_clear_error();
}

bool sw_tls_resumed(const struct sw_tls *tls) {
  return SSL_session_reused(tls->ssl);
}

const char *sw_tls_fault(const struct sw_tls *tls) {
  return tls->fault;
}
