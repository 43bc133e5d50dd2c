/* SPDX-License-Identifier: MIT */
#ifndef SW_CHANNEL_H
#define SW_CHANNEL_H

/* A byte stream to or from a peer, secured if asked for: resolves a name,
   tries its addresses in turn, does the TLS handshake, then carries bytes.
   Knows no HTTP and no WebSocket.  Embedded in its owner. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "sipwire.h"

struct addrinfo;
struct sw_lookup;
struct sw_stream;
struct sw_tls;
struct sw_tls_context;

struct sw_channel_ops {
  /* Another phase begins: DNS, TCP, TLS (each address has its own). */
  void (*phase)(void *arg, enum sipwire_phase phase);
  void (*opened)(void *arg);
  /* |bytes| may be written to and are valid during the call. */
  void (*data)(void *arg, uint8_t *bytes, size_t length);
  /* All that was written has been handed to the kernel, after a wait. */
  void (*progress)(void *arg);
  /* The last call: |error| as the stream says, or SIPWIRE_EDNS, _ETLS.
     |text| is one line; |tls_error| NULL or OpenSSL's words. */
  void (*ended)(void *arg, int error, int sys_errno, const char *text,
                const char *tls_error);
};

struct sw_channel {
  struct sipwire_loop *loop;
  const struct sw_channel_ops *ops;
  void *arg;
  struct sw_stream *stream;
  struct sw_tls *tls;
  struct sw_lookup *lookup;
  struct addrinfo *addresses, *next_address;
  const char *local_address; /* the owner's */
  int error;                 /* why we ended it ourselves; 0: we did not */
  bool connected, open, skip, paused, choked;
};

/* sw_channel_connect starts; |host|, |tls| and |local_address| are the owner's
   and stay.  It returns 0 or SIPWIRE_ENOMEM, and then |ended| does not
   come. */
int sw_channel_connect(struct sw_channel *channel, struct sipwire_loop *loop,
                       const char *host, uint16_t port,
                       struct sw_tls_context *tls, const char *local_address,
                       const struct sw_channel_ops *ops, void *arg);

/* sw_channel_secure starts TLS with |host| inside an open, plain channel:
   |opened| comes again.  It returns 0 or SIPWIRE_ENOMEM. */
int sw_channel_secure(struct sw_channel *channel, const char *host,
                      uint16_t port, struct sw_tls_context *tls);

/* sw_channel_accept takes over an accepted socket, also when it fails. */
int sw_channel_accept(struct sw_channel *channel, struct sipwire_loop *loop,
                      int fd, struct sw_tls_context *tls,
                      const struct sw_channel_ops *ops, void *arg);

/* sw_channel_untried counts the addresses behind the present one;
   sw_channel_skip gives the present one up for the next. */
unsigned sw_channel_untried(const struct sw_channel *channel);
void sw_channel_skip(struct sw_channel *channel);

/* sw_channel_write is for an open channel; failures come through |ended|. */
void sw_channel_write(struct sw_channel *channel, const void *data,
                      size_t length);

/* sw_channel_failed: it is ending, and what is written now is lost. */
bool sw_channel_failed(const struct sw_channel *channel);

/* Bytes on the wire: waiting, and handed to the kernel so far.  Written bytes
   of a secured channel count as encrypted. */
size_t sw_channel_unsent(const struct sw_channel *channel);
uint64_t sw_channel_sent(const struct sw_channel *channel);

void sw_channel_pause(struct sw_channel *channel, bool paused);

/* sw_channel_finish says that no more will be written: close_notify, FIN. */
void sw_channel_finish(struct sw_channel *channel);

/* sw_channel_abort ends it, in every phase.  |ended| comes with
   SIPWIRE_EABORTED in a later step, or at once if no socket is open yet. */
void sw_channel_abort(struct sw_channel *channel);

/* sw_channel_resumed tells whether its TLS session is an earlier one's. */
bool sw_channel_resumed(const struct sw_channel *channel);

/* sw_channel_address: as sw_stream_address. */
int sw_channel_address(const struct sw_channel *channel, bool peer,
                       char *buffer, size_t size);

#endif
