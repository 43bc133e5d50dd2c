/* SPDX-License-Identifier: MIT */
#ifndef SIPWIRE_H
#define SIPWIRE_H

/* sipwire carries SIP over WebSocket (RFC 7118).  It never calls user code:
   sipwire_loop_step() does I/O, sipwire_loop_next() hands out what happened,
   one event at a time.  A host's main loop is

     while (sipwire_loop_alive(loop)) {
       sipwire_loop_step(loop, -1);
       while (sipwire_loop_next(loop, &event) > 0)
         handle(&event);
     }

   Rules that hold for every function:
   - An int result is 0 or positive on success, else a negative enum
     sipwire_error; results go out through the last pointer and are written
     on success only.
   - What the caller passes in is copied before the function returns.
   - All strings are NUL-terminated unless a length stands beside them.
   - Durations are milliseconds.
   - A loop and everything made on it belong to one thread at a time, and to
     the process that made it: after fork() the child gets SIPWIRE_EFORK.
   - No function blocks, except sipwire_loop_step() as long as it is told. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SIPWIRE_VERSION "0.1.0"

#if defined(__GNUC__)
#define SIPWIRE_API __attribute__((visibility("default")))
#else
#define SIPWIRE_API
#endif

/* ---- Errors ------------------------------------------------------------ */

/* X(NAME, name, text).  Those up to NOMEM are run-time failures that any user
   may see; the three after it are mistakes of the caller or the machine. */
#define SIPWIRE_ERRORS(X)                                                      \
  X(TIMEOUT, "timeout", "time limit reached")                                  \
  X(REFUSED, "refused", "connection refused")                                  \
  X(UNREACHABLE, "unreachable", "peer cannot be reached")                      \
  X(DNS, "dns", "host name cannot be resolved")                                \
  X(TLS, "tls", "TLS failed")                                                  \
  X(HTTP, "http", "WebSocket upgrade refused or malformed")                    \
  X(SUBPROTOCOL, "subprotocol", "subprotocol sip was not agreed")              \
  X(CLOSED, "closed", "connection closed by peer")                             \
  X(RESET, "reset", "connection reset by peer")                                \
  X(PROTOCOL, "protocol", "peer violated the WebSocket protocol")              \
  X(TOO_BIG, "too_big", "message exceeds the size limit")                      \
  X(QUEUE_FULL, "queue_full", "send queue is full")                            \
  X(UTF8, "utf8", "invalid UTF-8")                                             \
  X(STATE, "state", "not possible in this state")                              \
  X(ABORTED, "aborted", "superseded by a later call")                          \
  X(DISPOSED, "disposed", "object was disposed")                               \
  X(NOMEM, "nomem", "out of memory or descriptors")                            \
  X(INVALID, "invalid", "invalid argument")                                    \
  X(FORK, "fork", "loop was created before fork()")                            \
  X(SYSTEM, "system", "the operating system or a library refused")

/* SIPWIRE_ETIMEOUT == -1 and so on, in the order of the list. */
#define SIPWIRE_ERROR_ORDINAL(NAME, name, text) SIPWIRE_ORD_##NAME,
enum sipwire_error_ordinal {
  SIPWIRE_ORD_OK,
  SIPWIRE_ERRORS(SIPWIRE_ERROR_ORDINAL) SIPWIRE_ORD_END
};
#define SIPWIRE_ERROR_VALUE(NAME, name, text)                                  \
  SIPWIRE_E##NAME = -SIPWIRE_ORD_##NAME,
enum sipwire_error { SIPWIRE_OK, SIPWIRE_ERRORS(SIPWIRE_ERROR_VALUE) };

/* sipwire_error_name returns the short name of |error| ("timeout"), "ok" for
   0, "unknown" for anything else.  Static storage. */
SIPWIRE_API const char *sipwire_error_name(int error);

/* sipwire_error_text returns one line in English.  Static storage. */
SIPWIRE_API const char *sipwire_error_text(int error);

/* ---- What happened, in detail ------------------------------------------ */

enum sipwire_state {
  SIPWIRE_DISCONNECTED,
  SIPWIRE_CONNECTING,
  SIPWIRE_CONNECTED,
  SIPWIRE_DISCONNECTING
};

/* sipwire_state_name returns "Disconnected", "Connecting" and so on. */
SIPWIRE_API const char *sipwire_state_name(enum sipwire_state state);

enum sipwire_phase {
  SIPWIRE_PHASE_NONE,
  SIPWIRE_PHASE_DNS,
  SIPWIRE_PHASE_TCP,
  SIPWIRE_PHASE_PROXY,
  SIPWIRE_PHASE_TLS,
  SIPWIRE_PHASE_UPGRADE,
  SIPWIRE_PHASE_OPEN,
  SIPWIRE_PHASE_CLOSING
};

/* sipwire_phase_name returns "dns", "tcp", "proxy", "tls", "upgrade", "open",
   "closing", or NULL for SIPWIRE_PHASE_NONE. */
SIPWIRE_API const char *sipwire_phase_name(enum sipwire_phase phase);

/* Close codes that are never on the wire (RFC 6455 section 7.4.1). */
#define SIPWIRE_CLOSE_NO_STATUS 1005 /* a close frame without a code */
#define SIPWIRE_CLOSE_ABNORMAL 1006  /* no close frame at all */

/* Why a connection ended.  Owned by the event it came with. */
struct sipwire_info {
  enum sipwire_phase phase;   /* where it failed; NONE if not applicable */
  const char *text;           /* one line, never NULL */
  int http_status;            /* of the refused upgrade or tunnel, or 0 */
  const char *http_headers;   /* "Name: value\r\n" lines, or NULL */
  size_t http_headers_length; /* bytes */
  int close_code;             /* 1000..4999, or 0 if never open */
  const char *close_reason;   /* UTF-8, at most 123 bytes, or NULL */
  size_t close_reason_length; /* bytes */
  bool was_clean;             /* both close frames were exchanged */
  const char *tls_error;      /* OpenSSL's words, or NULL */
  int sys_errno;              /* errno of the failed call, or 0 */
};

/* ---- Bytes and hashes -------------------------------------------------- */

#define SIPWIRE_HASH_SIZE 65 /* hex of the longest hash, and a NUL */

/* sipwire_hash writes the hash of |length| bytes to |hex|, of
   SIPWIRE_HASH_SIZE bytes, in lower-case hex with a NUL.  |name| is, in any
   case, one of those of Digest (RFC 7616, RFC 8760): "md5", "sha-256",
   "sha-512-256".  It returns the count of digits, SIPWIRE_EINVALID for any
   other name, SIPWIRE_ESYSTEM when OpenSSL does not do it here (MD5 in FIPS
   mode). */
SIPWIRE_API int sipwire_hash(const char *name, const void *data, size_t length,
                             char *hex);

/* sipwire_random writes |length| unpredictable bytes.  It returns 0,
   SIPWIRE_ETOO_BIG (2 GB), or SIPWIRE_ESYSTEM when the generator fails. */
SIPWIRE_API int sipwire_random(void *out, size_t length);

#define SIPWIRE_BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)

/* sipwire_base64 writes |length| bytes as base64 (RFC 4648 section 4, padded)
   and a NUL to |text|, of SIPWIRE_BASE64_SIZE(length) bytes.  It returns the
   count of characters, or SIPWIRE_ETOO_BIG (1.5 GB). */
SIPWIRE_API int sipwire_base64(const void *data, size_t length, char *text);

/* ---- The loop ---------------------------------------------------------- */

struct sipwire_loop;
struct sipwire_transport;
struct sipwire_listener;
struct sipwire_timer;

enum sipwire_log_level {
  SIPWIRE_LOG_ERROR,
  SIPWIRE_LOG_WARN,
  SIPWIRE_LOG_INFO
};
typedef void (*sipwire_log_fn)(enum sipwire_log_level level, const char *line,
                               void *arg);

struct sipwire_loop_config {
  sipwire_log_fn log; /* NULL: silence.  It must not call sipwire. */
  void *log_arg;
};

/* sipwire_loop_new makes a private event loop.  |config| may be NULL.
   It returns 0, SIPWIRE_ENOMEM, or SIPWIRE_ESYSTEM (no descriptors left). */
SIPWIRE_API int sipwire_loop_new(const struct sipwire_loop_config *config,
                                 struct sipwire_loop **loop);

/* sipwire_loop_free ends every connection (an open one gets close code 1001
   if the socket takes it at once) and releases the loop's descriptors.
   Undelivered events are dropped.  Transports, listeners and timers made on
   the loop stay valid handles whose calls return SIPWIRE_EDISPOSED, and are
   still to be freed.  NULL is allowed.  It returns 0, or SIPWIRE_ESYSTEM when
   a handle was left open, which is a fault of this library worth reporting.
   In a forked child it leaves the parent's connections alone. */
SIPWIRE_API int sipwire_loop_free(struct sipwire_loop *loop);

/* sipwire_loop_step begins a tick: it writes what was queued, waits for I/O
   at most |timeout_ms| (0: not at all; negative: without a limit, while there
   is something to wait for), and does the I/O.  Of many connections that can
   be read it reads some; a step for the others does not wait.  It may come back
   early with nothing, and does so when a signal was handled.  What the tick
   brought is then to be fetched with sipwire_loop_next() until that returns 0,
   which ends the tick; what was not fetched is kept.  Returns 0 or
   SIPWIRE_EFORK, SIPWIRE_EDISPOSED. */
SIPWIRE_API int sipwire_loop_step(struct sipwire_loop *loop, int timeout_ms);

/* sipwire_loop_alive tells whether anything is left to wait for: a transport
   that is not Disconnected, a connection still closing, a listener, a timer,
   or an undelivered event. */
SIPWIRE_API bool sipwire_loop_alive(const struct sipwire_loop *loop);

/* sipwire_loop_pollfd returns a descriptor that is readable (level
   triggered) whenever sipwire_loop_step() has something to do, timers
   included.  It is close-on-exec and belongs to the loop.  It returns
   SIPWIRE_ESYSTEM, SIPWIRE_EFORK or SIPWIRE_EDISPOSED on failure.  The first
   call turns the bookkeeping for it on. */
SIPWIRE_API int sipwire_loop_pollfd(struct sipwire_loop *loop);

/* sipwire_loop_timeout returns how long a host that polls the descriptor may
   wait before it must step anyway: 0: step now; -1: no limit. */
SIPWIRE_API int sipwire_loop_timeout(struct sipwire_loop *loop);

/* sipwire_loop_message returns a sentence about the last call on |loop| that
   failed with SIPWIRE_EINVALID, _ETLS, _EREFUSED, _EUNREACHABLE or _ESYSTEM.
   Valid until the next call. */
SIPWIRE_API const char *sipwire_loop_message(const struct sipwire_loop *loop);

/* ---- Events ------------------------------------------------------------ */

enum sipwire_event_type {
  /* A transition has happened: |previous| to |state|.  |up|: it was into
     Connected.  |down|: it was out of Connected.  |error| and |info| are set
     when the network, not the user, made it. */
  SIPWIRE_EVENT_STATE,
  /* connect() with |tag| completed: |error| is 0, or says why not. */
  SIPWIRE_EVENT_CONNECT_DONE,
  /* disconnect() with |tag| completed: 0 or SIPWIRE_EABORTED. */
  SIPWIRE_EVENT_DISCONNECT_DONE,
  /* The message sent with |tag| was handed to the kernel (0), or was lost. */
  SIPWIRE_EVENT_SEND_DONE,
  /* |data|, |length|, |binary|: one whole message. */
  SIPWIRE_EVENT_MESSAGE,
  /* A client asks |listener| for an upgrade: |request| is to be answered by
     sipwire_request_accept() or sipwire_request_refuse(). */
  SIPWIRE_EVENT_REQUEST,
  /* The timer with |tag| expired. */
  SIPWIRE_EVENT_TIMER
};

/* A client's wish to be upgraded.  It stays valid until it is answered, which
   it must be, even when the listener or the loop are gone meanwhile. */
struct sipwire_request {
  const char *target;    /* path and query as sent */
  const char *headers;   /* "Name: value\r\n" lines */
  size_t headers_length; /* bytes */
  char peer_address[64]; /* "192.0.2.1:5060", "[2001:db8::1]:5060" */
  bool secure;           /* over TLS */
};

struct sipwire_event {
  enum sipwire_event_type type;
  struct sipwire_transport *transport; /* NULL for REQUEST and TIMER */
  struct sipwire_listener *listener;   /* REQUEST */
  struct sipwire_request *request;     /* REQUEST */
  void *arg;                           /* of the transport or listener */
  uint64_t tag;
  enum sipwire_state state, previous;
  bool up, down, binary;
  int error;
  const struct sipwire_info *info; /* NULL unless |error| came from a link */
  const char *data;
  size_t length;
};

/* sipwire_loop_next hands out the next event of this tick.  It returns 1, or
   0 when the tick has no more: then step again.  What calls made meanwhile
   cause is handed out in the next tick.  No input from the network is applied
   to any transport while an event is undelivered, so the state told by a
   STATE event with |up| is still Connected when it is handed out.  All
   pointers in |event| but the handles are valid until the next call. */
SIPWIRE_API int sipwire_loop_next(struct sipwire_loop *loop,
                                  struct sipwire_event *event);

/* ---- Transports -------------------------------------------------------- */

struct sipwire_header {
  const char *name;  /* an HTTP token (RFC 9110 section 5.6.2) */
  const char *value; /* no CR, LF or NUL */
};

enum sipwire_frame {
  SIPWIRE_FRAME_AUTO,
  SIPWIRE_FRAME_TEXT,
  SIPWIRE_FRAME_BINARY
};
enum sipwire_keep_alive { SIPWIRE_KEEP_ALIVE_PING, SIPWIRE_KEEP_ALIVE_CRLF };

/* Files are PEM.  NULL: the default.  Also used by listeners, where
   cert_file is required, |verify| asks for a client certificate signed by
   ca_file or ca_path, and server_name is not allowed. */
struct sipwire_tls_config {
  const char *ca_file;      /* trusted certificates; default: the system's */
  const char *ca_path;      /* directory of them, hashed names */
  const char *cert_file;    /* own certificate, then its chain */
  const char *key_file;     /* its key; default: cert_file */
  const char *key_password; /* of an encrypted key */
  const char *server_name;  /* for SNI and the check, instead of the URL's */
  const char *min_version;  /* "1.2" (default) or "1.3" */
  const char *ciphers;      /* OpenSSL cipher list for TLS 1.2 */
  const char *keylog_file; /* session secrets are appended to it (NSS format) */
  bool verify;             /* default for clients: true */
};

/* As |proxy|: take http_proxy for ws, https_proxy for wss, or all_proxy, but
   for hosts in no_proxy, as the environment says when the server is set. */
#define SIPWIRE_PROXY_ENVIRONMENT "environment"

struct sipwire_config {
  const char *server; /* ws:// or wss:// URL.  May be NULL until
                         sipwire_transport_set_server() */
  const struct sipwire_header *headers; /* extra ones for the upgrade */
  size_t header_count;
  const char *local_address; /* numeric address to connect from, or NULL */
  const char *username; /* for a 401 in answer to the upgrade, or NULL.  Basic
                           or Digest (RFC 7617, 7616), one retry within the
                           attempt.  Sent to the server's host only */
  const char *password; /* NULL: "" */
  const char *proxy;    /* "http://[user[:password]@]host[:port]" to go through
                           (CONNECT, RFC 9110 section 9.3.6),
                           SIPWIRE_PROXY_ENVIRONMENT, or NULL: none */
  int connection_timeout_ms;  /* 5000.  0: none.  All up to the upgrade */
  int disconnect_timeout_ms;  /* 5000.  1..; closing handshake */
  int keep_alive_interval_ms; /* 0: off.  Gaps are 80..100 % of it, drawn anew
                                 (RFC 5626 section 4.4.1) */
  int keep_alive_timeout_ms;  /* 10000.  0: expect no answer */
  enum sipwire_keep_alive keep_alive_method;
  enum sipwire_frame frame; /* AUTO: text if valid UTF-8, else binary */
  bool raw;                 /* deliver empty messages and CRLFs, answer none */
  size_t max_message_size;  /* 1048576 bytes, received, joined.  1.. */
  size_t send_queue_limit;  /* 1048576 bytes accepted and unsent.  1.. */
  struct sipwire_tls_config tls;
  void *arg; /* handed back in every event */
};

/* sipwire_config_init fills in the defaults named above. */
SIPWIRE_API void sipwire_config_init(struct sipwire_config *config);

/* sipwire_transport_new makes a transport in state Disconnected.  It returns
   0, SIPWIRE_EINVALID (sipwire_loop_message() names the part), SIPWIRE_ETLS
   (it names the file), SIPWIRE_ENOMEM, SIPWIRE_EFORK, SIPWIRE_EDISPOSED. */
SIPWIRE_API int sipwire_transport_new(struct sipwire_loop *loop,
                                      const struct sipwire_config *config,
                                      struct sipwire_transport **transport);

/* sipwire_transport_free is final: a live connection is closed with 1000 in
   the background, nothing is delivered any more.  It may be called anywhere,
   also while an event of the transport is being handled.  NULL is allowed. */
SIPWIRE_API void sipwire_transport_free(struct sipwire_transport *transport);

/* sipwire_transport_set_server replaces URL and extra headers for the next
   attempt.  It returns 0, SIPWIRE_EINVALID, SIPWIRE_ETLS, SIPWIRE_ENOMEM,
   SIPWIRE_EDISPOSED. */
SIPWIRE_API int sipwire_transport_set_server(
    struct sipwire_transport *transport, const char *url,
    const struct sipwire_header *headers, size_t header_count);

/* sipwire_transport_connect starts an attempt, joins the pending one, or
   finds itself Connected already.  |tag| other than 0 asks for a
   CONNECT_DONE event, exactly one.  It returns 0, SIPWIRE_ENOMEM,
   SIPWIRE_ESTATE (no server set, or an accepted transport),
   SIPWIRE_EFORK, SIPWIRE_EDISPOSED; then nothing has changed. */
SIPWIRE_API int sipwire_transport_connect(struct sipwire_transport *transport,
                                          uint64_t tag);

/* sipwire_transport_disconnect ends the connection with close code 1000 after
   everything accepted by send, or the attempt, at once.  |tag| as above.  It
   returns 0, SIPWIRE_ENOMEM, SIPWIRE_EFORK, SIPWIRE_EDISPOSED. */
SIPWIRE_API int
sipwire_transport_disconnect(struct sipwire_transport *transport, uint64_t tag);

/* sipwire_transport_send queues |length| bytes as one WebSocket message.
   |tag| other than 0 asks for a SEND_DONE event.  It returns 0, or
   SIPWIRE_ESTATE when not Connected, SIPWIRE_EQUEUE_FULL when the message
   does not fit in send_queue_limit any more, SIPWIRE_EUTF8 when |frame| is
   TEXT and the bytes are not UTF-8 (RFC 6455 section 5.6), SIPWIRE_ENOMEM,
   SIPWIRE_EFORK, SIPWIRE_EDISPOSED; then nothing was queued. */
SIPWIRE_API int sipwire_transport_send(struct sipwire_transport *transport,
                                       const void *data, size_t length,
                                       enum sipwire_frame frame, uint64_t tag);

SIPWIRE_API enum sipwire_state
sipwire_transport_state(const struct sipwire_transport *transport);

/* sipwire_transport_server returns the URL of the next attempt, or "". */
SIPWIRE_API const char *
sipwire_transport_server(const struct sipwire_transport *transport);

/* sipwire_transport_secure tells whether the server's scheme is wss. */
SIPWIRE_API bool
sipwire_transport_secure(const struct sipwire_transport *transport);

/* These write "address:port" of the live connection's ends into |buffer|
   (64 bytes suffice).  They return the length, or SIPWIRE_ESTATE when there
   is no connection. */
SIPWIRE_API int
sipwire_transport_local_address(const struct sipwire_transport *transport,
                                char *buffer, size_t size);
SIPWIRE_API int
sipwire_transport_peer_address(const struct sipwire_transport *transport,
                               char *buffer, size_t size);

/* sipwire_transport_pause stops reading from the network; what was read is
   still delivered.  sipwire_transport_resume ends that.  A peer's end goes
   unnoticed meanwhile, and no answer to a keep-alive is expected.  A new
   attempt starts unpaused. */
SIPWIRE_API void sipwire_transport_pause(struct sipwire_transport *transport);
SIPWIRE_API void sipwire_transport_resume(struct sipwire_transport *transport);

struct sipwire_stats {
  uint64_t messages_in, messages_out; /* delivered; accepted by send */
  uint64_t bytes_in, bytes_out;       /* payload of those */
  uint64_t dropped;                   /* received and not delivered */
  uint64_t pings_sent, pongs_received;
  size_t queue;  /* bytes accepted and unsent */
  double rtt_ms; /* of the last keep-alive; -1: none yet */
  double dns_ms, tcp_ms, tls_ms, upgrade_ms; /* of the last attempt; -1 */
  bool tls_resumed; /* the last attempt went on with an earlier TLS session */
};
SIPWIRE_API void
sipwire_transport_stats(const struct sipwire_transport *transport,
                        struct sipwire_stats *stats);

/* ---- Listening --------------------------------------------------------- */

struct sipwire_listener_config {
  const char *address; /* numeric; NULL: "127.0.0.1" */
  uint16_t port;       /* 0: any, see sipwire_listener_port() */
  bool secure;         /* speak TLS as |transport|->tls says */
  /* Limits and habits of the accepted transports.  |server|, |headers|,
     |local_address|, |username| and |proxy| must be NULL; |arg| is not used;
     |connection_timeout_ms| limits the client's handshake. */
  const struct sipwire_config *transport; /* NULL: the defaults */
  void *arg;
};

/* sipwire_listener_new binds and listens.  It returns 0, SIPWIRE_EINVALID,
   SIPWIRE_ETLS, SIPWIRE_EREFUSED (address in use, or not permitted),
   SIPWIRE_EUNREACHABLE (not an address of this machine), SIPWIRE_ENOMEM,
   SIPWIRE_EFORK, SIPWIRE_EDISPOSED. */
SIPWIRE_API int
sipwire_listener_new(struct sipwire_loop *loop,
                     const struct sipwire_listener_config *config,
                     struct sipwire_listener **listener);

/* sipwire_listener_free stops accepting and drops unanswered handshakes;
   accepted transports live on.  NULL is allowed. */
SIPWIRE_API void sipwire_listener_free(struct sipwire_listener *listener);

SIPWIRE_API uint16_t
sipwire_listener_port(const struct sipwire_listener *listener);

/* sipwire_listener_address returns the numeric address it is bound to. */
SIPWIRE_API const char *
sipwire_listener_address(const struct sipwire_listener *listener);

/* sipwire_request_accept answers 101 and gives a transport that is Connected
   already; its first message comes after this.  |arg| becomes its arg.  The
   request is gone then.  It returns 0, SIPWIRE_ECLOSED when client, listener
   or loop left meanwhile (the request is gone too), or SIPWIRE_ENOMEM (the
   request stays). */
SIPWIRE_API int sipwire_request_accept(struct sipwire_request *request,
                                       void *arg,
                                       struct sipwire_transport **transport);

/* sipwire_request_refuse answers with |status| (300..599; 0 means 403),
   |reason| (NULL: the usual one) and extra |headers|, and closes.  The request
   is gone then.  It returns 0, also when the client left meanwhile, or
   SIPWIRE_EINVALID for a status, reason or header that may not be sent (the
   loop's message names it) and SIPWIRE_ENOMEM; then the request stays. */
SIPWIRE_API int sipwire_request_refuse(struct sipwire_request *request,
                                       int status, const char *reason,
                                       const struct sipwire_header *headers,
                                       size_t header_count);

/* ---- Timers ------------------------------------------------------------ */

/* sipwire_timer_new starts a one-shot timer of |delay_ms| (0..) that gives a
   TIMER event with |tag|.  It returns 0, SIPWIRE_EINVALID, SIPWIRE_ENOMEM,
   SIPWIRE_EFORK, SIPWIRE_EDISPOSED. */
SIPWIRE_API int sipwire_timer_new(struct sipwire_loop *loop, int64_t delay_ms,
                                  uint64_t tag, struct sipwire_timer **timer);

/* sipwire_timer_free stops the timer; its event will not come, even if the
   timer has expired already.  To be called for every timer, expired ones
   too.  NULL is allowed. */
SIPWIRE_API void sipwire_timer_free(struct sipwire_timer *timer);

/* ---- Bridges ----------------------------------------------------------- */

/* For hosts that can wait for a stream socket but for no other descriptor,
   such as nginx's Lua: a thread waits for the loop's descriptor in their place
   and writes a byte to a socket of theirs.  It uses no processor time while
   the loop is idle, touches nothing of the loop, and runs on the processor
   where the host was seen last. */
struct sipwire_bridge;

/* sipwire_bridge_new opens a local address where the host is to connect: a
   socket in a folder of its own, which is made in |directory| (NULL: $TMPDIR,
   or a usual place for temporary files) and is gone when the host has
   connected; where that is not possible, a port of 127.0.0.1.  It returns 0,
   SIPWIRE_ENOMEM, SIPWIRE_ESYSTEM, SIPWIRE_EFORK, SIPWIRE_EDISPOSED.  The loop
   may be freed before the bridge. */
SIPWIRE_API int sipwire_bridge_new(struct sipwire_loop *loop,
                                   const char *directory,
                                   struct sipwire_bridge **bridge);

/* sipwire_bridge_address returns "unix:" and a path, or "127.0.0.1:port". */
SIPWIRE_API const char *
sipwire_bridge_address(const struct sipwire_bridge *bridge);

/* sipwire_bridge_token returns what the host must send as the first bytes: ""
   for "unix:" addresses. */
SIPWIRE_API const char *
sipwire_bridge_token(const struct sipwire_bridge *bridge);

/* sipwire_bridge_accept is to be called when the host has connected: it looks
   whether that has arrived, turns away whoever else came, and starts the
   thread.  It returns 1, or 0 when the host has not arrived yet, or
   SIPWIRE_ENOMEM, SIPWIRE_EFORK.  From then on a byte comes when the loop has
   to step; the host reads all there are, steps, and calls
   sipwire_bridge_rearm(). */
SIPWIRE_API int sipwire_bridge_accept(struct sipwire_bridge *bridge);

/* sipwire_bridge_rearm asks for a byte when the loop has to step again.  It
   may be called more often than needed.  It returns 0 or SIPWIRE_EFORK. */
SIPWIRE_API int sipwire_bridge_rearm(struct sipwire_bridge *bridge);

/* sipwire_bridge_ring writes a byte now, to wake the host for a reason of its
   own.  It returns 0, SIPWIRE_ESTATE before the host was accepted, or
   SIPWIRE_EFORK. */
SIPWIRE_API int sipwire_bridge_ring(struct sipwire_bridge *bridge);

/* sipwire_bridge_free ends the thread, waiting for that, and closes the
   socket.  NULL is allowed. */
SIPWIRE_API void sipwire_bridge_free(struct sipwire_bridge *bridge);

#ifdef __cplusplus
}
#endif

#endif
