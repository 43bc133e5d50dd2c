/* SPDX-License-Identifier: MIT */
/* Makes one byte stream out of name lookup, addresses, TCP and TLS.  Must not
   keep deadlines: its owner does. */

#define _GNU_SOURCE
#include "channel.h"

#include <stdio.h>
#include <string.h>

#include "buffer.h"
#include "loop.h"
#include "resolve.h"
#include "stream.h"
#include "tls.h"

/* Unread answers of a TLS session at which it is not read any more. */
enum { ANSWERS_MAX = 65536 };

static void release(struct sw_channel *channel) {
  sw_tls_free(channel->tls);
  if (channel->addresses)
    freeaddrinfo(channel->addresses);
  channel->tls = NULL;
  channel->addresses = channel->next_address = NULL;
}

static void end(struct sw_channel *channel, int error, int sys_errno,
                const char *text, const char *tls_error) {
  char words[160];
  if (tls_error) { /* it lives in the session */
    snprintf(words, sizeof words, "%s", tls_error);
    tls_error = words;
    text = words;
  }
  release(channel);
  channel->ops->ended(channel->arg, error, sys_errno, text, tls_error);
}

static void fail(struct sw_channel *channel, int error) {
  if (!channel->error)
    channel->error = error;
  if (channel->stream)
    sw_stream_abort(channel->stream);
}

/* ---- TLS --------------------------------------------------------------- */

static void apply_pause(struct sw_channel *channel) {
  if (!channel->stream)
    return;
  if (channel->paused || channel->choked)
    sw_stream_pause(channel->stream);
  else
    sw_stream_resume(channel->stream);
}

/* Returns whether there was anything to send. */
static bool send_cipher(struct sw_channel *channel) {
  struct sw_buffer *cipher = &channel->loop->cipher;
  size_t length = sw_buffer_length(cipher);
  if (!length)
    return false;
  if (channel->stream)
    sw_stream_write(channel->stream, sw_buffer_bytes(cipher), length);
  sw_buffer_consume(cipher, length);
  return true;
}

/* A peer that has us answer (to key updates) more than it reads waits. */
static void choke_if_due(struct sw_channel *channel) {
  if (sw_channel_unsent(channel) <= ANSWERS_MAX)
    return;
  channel->choked = true;
  apply_pause(channel);
}

/* Decrypts into the loop's scratch: nothing here is called while another
   session's output is in it. */
static void pump(struct sw_channel *channel, const uint8_t *input,
                 size_t length) {
  struct sipwire_loop *loop = channel->loop;
  while (!channel->error) {
    size_t size = 0;
    enum sw_tls_result result =
        sw_tls_read(channel->tls, &input, &length, loop->scratch,
                    SW_SCRATCH_SIZE, &size, &loop->cipher);
    if (send_cipher(channel) && channel->open)
      choke_if_due(channel);
    if (result == SW_TLS_NEED_MORE)
      return;
    if (result == SW_TLS_DATA) {
      channel->ops->data(channel->arg, loop->scratch, size);
    } else if (result == SW_TLS_OPENED) {
      channel->open = true;
      channel->ops->opened(channel->arg);
    } else {
      fail(channel, result == SW_TLS_END ? SIPWIRE_ECLOSED : SIPWIRE_ETLS);
    }
  }
}

/* ---- The stream's callbacks -------------------------------------------- */

static void on_connected(void *arg) {
  struct sw_channel *channel = arg;
  if (channel->skip)
    return;
  channel->connected = true;
  if (channel->tls) {
    channel->ops->phase(channel->arg, SIPWIRE_PHASE_TLS);
    pump(channel, NULL, 0);
  } else {
    channel->open = true;
    channel->ops->opened(channel->arg);
  }
}

static void on_data(void *arg, uint8_t *bytes, size_t length) {
  struct sw_channel *channel = arg;
  if (channel->error || channel->skip)
    return;
  if (channel->tls)
    pump(channel, bytes, length);
  else
    channel->ops->data(channel->arg, bytes, length);
}

static void on_progress(void *arg) {
  struct sw_channel *channel = arg;
  if (channel->choked) {
    channel->choked = false;
    apply_pause(channel);
  }
  if (channel->open)
    channel->ops->progress(channel->arg);
}

static bool dial_next(struct sw_channel *channel);

static void on_ended(void *arg, int error, int sys_errno) {
  struct sw_channel *channel = arg;
  channel->stream = NULL;
  if (!channel->error && !channel->connected && channel->next_address &&
      dial_next(channel))
    return;
  if (channel->error)
    error = channel->error;
  else if (channel->skip)
    error = SIPWIRE_ETIMEOUT;
  end(channel, error, sys_errno,
      sys_errno ? strerror(sys_errno) : sipwire_error_text(error),
      error == SIPWIRE_ETLS ? sw_tls_fault(channel->tls) : NULL);
}

static const struct sw_stream_ops stream_ops = {on_connected, on_data,
                                                on_progress, on_ended};

/* ---- Addresses --------------------------------------------------------- */

static bool dial_next(struct sw_channel *channel) {
  const struct addrinfo *address = channel->next_address;
  channel->next_address = address->ai_next;
  if (sw_stream_connect(channel->loop, address->ai_addr, channel->local_address,
                        &stream_ops, channel, &channel->stream)) {
    channel->error = SIPWIRE_ENOMEM;
    return false;
  }
  channel->skip = false;
  channel->ops->phase(channel->arg, SIPWIRE_PHASE_TCP);
  return true;
}

static void on_resolved(void *arg, struct addrinfo *addresses,
                        const char *fault) {
  struct sw_channel *channel = arg;
  channel->lookup = NULL;
  channel->addresses = channel->next_address = addresses;
  if (!addresses)
    end(channel, SIPWIRE_EDNS, 0, fault, NULL);
  else if (!dial_next(channel))
    end(channel, SIPWIRE_ENOMEM, 0, sipwire_error_text(SIPWIRE_ENOMEM), NULL);
}

static bool look_up(struct sw_channel *channel, const char *host,
                    uint16_t port) {
  channel->lookup =
      sw_lookup_new(channel->loop, host, port, on_resolved, channel);
  return channel->lookup != NULL;
}

unsigned sw_channel_untried(const struct sw_channel *channel) {
  unsigned count = 0;
  for (const struct addrinfo *address = channel->next_address; address;
       address = address->ai_next)
    count++;
  return count;
}

void sw_channel_skip(struct sw_channel *channel) {
  if (!channel->stream || channel->connected)
    return;
  channel->skip = true;
  sw_stream_abort(channel->stream);
}

/* ---- Making and unmaking ----------------------------------------------- */

static void init(struct sw_channel *channel, struct sipwire_loop *loop,
                 const struct sw_channel_ops *ops, void *arg) {
  memset(channel, 0, sizeof *channel);
  channel->loop = loop;
  channel->ops = ops;
  channel->arg = arg;
}

int sw_channel_connect(struct sw_channel *channel, struct sipwire_loop *loop,
                       const char *host, uint16_t port,
                       struct sw_tls_context *tls, const char *local_address,
                       const struct sw_channel_ops *ops, void *arg) {
  init(channel, loop, ops, arg);
  channel->local_address = local_address;
  if (tls && !(channel->tls = sw_tls_new(tls, host, port)))
    return SIPWIRE_ENOMEM;
  ops->phase(arg, SIPWIRE_PHASE_DNS);
  channel->addresses = channel->next_address = sw_resolve_numeric(host, port);
  if (channel->addresses ? dial_next(channel) : look_up(channel, host, port))
    return 0;
  release(channel);
  return SIPWIRE_ENOMEM;
}

int sw_channel_secure(struct sw_channel *channel, const char *host,
                      uint16_t port, struct sw_tls_context *tls) {
  if (!(channel->tls = sw_tls_new(tls, host, port)))
    return SIPWIRE_ENOMEM;
  channel->open = false;
  channel->ops->phase(channel->arg, SIPWIRE_PHASE_TLS);
  pump(channel, NULL, 0);
  return 0;
}

int sw_channel_accept(struct sw_channel *channel, struct sipwire_loop *loop,
                      int fd, struct sw_tls_context *tls,
                      const struct sw_channel_ops *ops, void *arg) {
  init(channel, loop, ops, arg);
  if (sw_stream_adopt(loop, fd, &stream_ops, channel, &channel->stream))
    return SIPWIRE_ENOMEM;
  if (!tls) {
    channel->open = true;
    return 0;
  }
  if (!(channel->tls = sw_tls_new(tls, NULL, 0)))
    fail(channel, SIPWIRE_ENOMEM);
  ops->phase(arg, SIPWIRE_PHASE_TLS);
  return 0;
}

void sw_channel_abort(struct sw_channel *channel) {
  if (channel->lookup) {
    sw_lookup_cancel(channel->lookup);
    channel->lookup = NULL;
    end(channel, SIPWIRE_EABORTED, 0, sipwire_error_text(SIPWIRE_EABORTED),
        NULL);
  } else {
    fail(channel, SIPWIRE_EABORTED);
  }
}

/* ---- Carrying ---------------------------------------------------------- */

void sw_channel_write(struct sw_channel *channel, const void *data,
                      size_t length) {
  if (!channel->stream || channel->error)
    return;
  if (!channel->tls) {
    sw_stream_write(channel->stream, data, length);
    return;
  }
  bool written =
      sw_tls_write(channel->tls, data, length, &channel->loop->cipher);
  send_cipher(channel);
  if (!written)
    fail(channel, SIPWIRE_ETLS);
}

bool sw_channel_failed(const struct sw_channel *channel) {
  return !channel->stream || channel->error ||
         sw_stream_failed(channel->stream);
}

size_t sw_channel_unsent(const struct sw_channel *channel) {
  return channel->stream ? sw_stream_unsent(channel->stream) : 0;
}

uint64_t sw_channel_sent(const struct sw_channel *channel) {
  return channel->stream ? sw_stream_sent(channel->stream) : 0;
}

void sw_channel_pause(struct sw_channel *channel, bool paused) {
  channel->paused = paused;
  apply_pause(channel);
}

void sw_channel_finish(struct sw_channel *channel) {
  if (!channel->stream || channel->error)
    return;
  if (channel->tls) {
    sw_tls_finish(channel->tls, &channel->loop->cipher);
    send_cipher(channel);
  }
  sw_stream_finish(channel->stream);
}

bool sw_channel_resumed(const struct sw_channel *channel) {
  return channel->tls && sw_tls_resumed(channel->tls);
}

int sw_channel_address(const struct sw_channel *channel, bool peer,
                       char *buffer, size_t size) {
  if (!channel->stream)
    return -1;
  return sw_stream_address(channel->stream, peer, buffer, size);
}
