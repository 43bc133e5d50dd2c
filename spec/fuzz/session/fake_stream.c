/* SPDX-License-Identifier: MIT */
/* Stands in for stream.c and resolve.c: connections to struct peer, with the
   same order of events as the real ones. */
#define _GNU_SOURCE
#include "stream.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../fuzz.h"
#include "buffer.h"
#include "error.h"
#include "loop.h"
#include "resolve.h"
#include "session.h"

enum { FAKE_FD = 1 << 20, ADDRESSES = 3 };

struct sw_stream {
  struct sw_list entry; /* first: in loop->streams */
  struct sipwire_loop *loop;
  const struct sw_stream_ops *ops;
  void *arg;
  struct peer *peer;
  struct sw_stream *next_todo;
  struct sw_buffer unsent;
  uint64_t sent;
  int error, sys_errno;
  bool queued, failed, killed, dying, gone;
  bool open, blocked, finishing, finished, paused;
};

struct sw_watch {
  int fd;
  bool paused;
  sw_watch_fn fn;
  void *arg;
};

struct sw_lookup {
  uint16_t port;
  sw_lookup_fn fn;
  void *arg;
};

bool lookups_held, dials_succeed;
unsigned address_count;

static struct sipwire_loop *the_loop;
static struct sw_watch *the_watch;
static struct sw_lookup *lookups[PEERS];

void streams_reset(void) {
  the_loop = NULL;
  the_watch = NULL;
  memset(lookups, 0, sizeof lookups);
}

/* ---- Ends -------------------------------------------------------------- */

static void queue(struct sw_stream *stream) {
  if (stream->queued)
    return;
  stream->queued = true;
  stream->next_todo = stream->loop->todo;
  stream->loop->todo = stream;
  sw_loop_kick(stream->loop);
}

static void note(struct sw_stream *stream, int error, int sys_errno) {
  if (stream->failed)
    return;
  stream->failed = true;
  stream->error = error;
  stream->sys_errno = sys_errno;
}

static void fail(struct sw_stream *stream, int error, int sys_errno) {
  note(stream, error, sys_errno);
  queue(stream);
}

static size_t readable(const struct sw_stream *stream) {
  return stream->peer->in.length - stream->peer->read;
}

/* Hands out a copy, of which no byte more may be touched. */
static void read_some(struct sw_stream *stream, size_t most) {
  struct peer *peer = stream->peer;
  size_t length = readable(stream) < most ? readable(stream) : most;
  uint8_t *copy = steady_realloc(NULL, length);
  memcpy(copy, peer->in.data + peer->read, length);
  peer->read += length;
  stream->ops->data(stream->arg, copy, length);
  steady_free(copy);
}

static void salvage(struct sw_stream *stream) {
  while (readable(stream))
    if (!stream->failed)
      read_some(stream, 16384);
    else
      stream->peer->read = stream->peer->in.length;
}

static void forget(struct sw_stream *stream) {
  sw_list_remove(&stream->entry);
  sw_buffer_clear(&stream->unsent);
  stream->peer->stream = NULL;
  free(stream);
}

static void run(struct sw_stream *stream) {
  if (!stream->gone && stream->failed && !stream->killed) {
    stream->killed = stream->dying = true;
    if (stream->error == SIPWIRE_ERESET && stream->open) {
      stream->failed = false;
      salvage(stream);
      stream->failed = true;
      stream->error = SIPWIRE_ERESET;
    }
    stream->open = false;
  }
  if (stream->queued || !stream->gone)
    return;
  const struct sw_stream_ops *ops = stream->ops;
  void *arg = stream->arg;
  int error = stream->error, sys_errno = stream->sys_errno;
  forget(stream);
  ops->ended(arg, error, sys_errno);
}

void sw_streams_run(struct sipwire_loop *loop) {
  struct sw_stream *stream = loop->todo;
  loop->todo = NULL;
  while (stream) {
    struct sw_stream *next = stream->next_todo;
    stream->queued = false;
    run(stream);
    stream = next;
  }
}

/* Here bytes come without being asked for. */
void sw_streams_read(struct sipwire_loop *loop) {
  REQUIRE(sw_list_empty(&loop->readable));
}

void sw_streams_close(struct sipwire_loop *loop) {
  for (struct sw_list *entry = loop->streams.next; entry != &loop->streams;
       entry = entry->next)
    sw_stream_abort((struct sw_stream *)entry);
}

/* ---- Writing ----------------------------------------------------------- */

static size_t send_some(struct sw_stream *stream, const uint8_t *data,
                        size_t length) {
  struct peer *peer = stream->peer;
  size_t done = peer->room < length ? peer->room : length;
  if (peer->rst) {
    fail(stream, SIPWIRE_ERESET, EPIPE);
    return 0;
  }
  if (peer->room != SIZE_MAX)
    peer->room -= done;
  REQUIRE(!stream->finished);
  peer_hears(peer, data, done);
  stream->sent += done;
  return done;
}

static void send_fin(struct sw_stream *stream) {
  if (stream->finishing)
    stream->finished = stream->peer->got_fin = true;
}

void sw_stream_write(struct sw_stream *stream, const void *data,
                     size_t length) {
  size_t done = 0;
  if (stream->failed || !stream->open || stream->finishing)
    return;
  if (!stream->blocked)
    done = send_some(stream, data, length);
  if (stream->failed || done == length)
    return;
  if (!sw_buffer_append(&stream->unsent, (const uint8_t *)data + done,
                        length - done))
    fail(stream, SIPWIRE_ENOMEM, ENOMEM);
  else
    stream->blocked = true;
}

static void on_writable(struct sw_stream *stream) {
  size_t done = send_some(stream, sw_buffer_bytes(&stream->unsent),
                          sw_buffer_length(&stream->unsent));
  if (stream->failed)
    return;
  sw_buffer_consume(&stream->unsent, done);
  if (sw_buffer_length(&stream->unsent))
    return;
  stream->blocked = false;
  send_fin(stream);
  stream->ops->progress(stream->arg);
}

bool sw_stream_failed(const struct sw_stream *stream) {
  return stream->failed;
}

size_t sw_stream_unsent(const struct sw_stream *stream) {
  return sw_buffer_length(&stream->unsent);
}

uint64_t sw_stream_sent(const struct sw_stream *stream) {
  return stream->sent;
}

void sw_stream_finish(struct sw_stream *stream) {
  if (stream->finishing || stream->failed || !stream->open)
    return;
  stream->finishing = true;
  if (!stream->blocked)
    send_fin(stream);
}

void sw_stream_abort(struct sw_stream *stream) {
  fail(stream, SIPWIRE_EABORTED, 0);
}

void sw_stream_pause(struct sw_stream *stream) {
  stream->paused = true;
}

void sw_stream_resume(struct sw_stream *stream) {
  if (stream->paused)
    sw_loop_kick(stream->loop);
  stream->paused = false;
}

bool stream_is_paused(const struct sw_stream *stream) {
  return stream->paused;
}

/* ---- A turn ------------------------------------------------------------ */

static bool can_write(const struct sw_stream *stream) {
  return stream->blocked && (stream->peer->room || stream->peer->rst);
}

static bool stream_ready(const struct sw_stream *stream) {
  const struct peer *peer = stream->peer;
  if (stream->dying)
    return true;
  if (stream->gone || stream->failed)
    return false;
  if (!stream->open)
    return peer->accepted || peer->refused;
  return can_write(stream) || peer->rst ||
         (!stream->paused && (readable(stream) || peer->fin));
}

static void lose(struct sw_stream *stream, int error, int number) {
  stream->open = false;
  stream->dying = true;
  note(stream, error, number);
}

static void turn(struct sw_stream *stream) {
  struct peer *peer = stream->peer;
  if (stream->dying) {
    stream->dying = false;
    stream->gone = true;
    queue(stream);
  } else if (!stream->open && peer->refused) {
    lose(stream, sw_error_of_errno(peer->refused), peer->refused);
  } else if (!stream->open) {
    stream->open = true;
    stream->ops->connected(stream->arg);
  } else if (peer->rst) {
    salvage(stream);
    lose(stream, SIPWIRE_ERESET, ECONNRESET);
  } else {
    if (can_write(stream))
      on_writable(stream);
    if (stream->paused || stream->failed)
      return;
    if (readable(stream))
      read_some(stream, peer->chunk);
    else if (peer->fin)
      lose(stream, SIPWIRE_ECLOSED, 0);
  }
}

static bool incoming(void) {
  if (the_watch && the_watch->fn && !the_watch->paused)
    for (unsigned i = 0; i < peer_count; i++)
      if (peers[i].is_client && !peers[i].accepted)
        return true;
  return false;
}

static struct sw_lookup **waiting_lookup(void) {
  for (int i = 0; i < PEERS && !lookups_held; i++)
    if (lookups[i])
      return &lookups[i];
  return NULL;
}

bool streams_ready(void) {
  struct sw_list *entry = the_loop ? the_loop->streams.next : NULL;
  for (; entry && entry != &the_loop->streams; entry = entry->next)
    if (stream_ready((struct sw_stream *)entry))
      return true;
  return incoming() || waiting_lookup();
}

static struct addrinfo *addresses_new(uint16_t port, unsigned count);

static void look_up(struct sw_lookup **slot) {
  struct sw_lookup lookup = **slot;
  struct addrinfo *found = addresses_new(lookup.port, address_count);
  free(*slot);
  *slot = NULL;
  lookup.fn(lookup.arg, found, found ? NULL : "no such name");
}

void streams_turn(void) {
  struct sw_list *entry = the_loop ? the_loop->streams.next : NULL, *next;
  for (; entry && entry != &the_loop->streams; entry = next) {
    next = entry->next;
    if (stream_ready((struct sw_stream *)entry))
      turn((struct sw_stream *)entry);
  }
  struct sw_lookup **lookup;
  while ((lookup = waiting_lookup()))
    look_up(lookup);
  if (incoming())
    the_watch->fn(the_watch->arg);
}

/* ---- Making ------------------------------------------------------------ */

static struct sw_stream *stream_new(struct sipwire_loop *loop,
                                    const struct sw_stream_ops *ops, void *arg,
                                    struct peer *peer) {
  struct sw_stream *stream = calloc(1, sizeof *stream);
  if (!stream)
    return NULL;
  the_loop = stream->loop = loop;
  stream->ops = ops;
  stream->arg = arg;
  stream->peer = peer;
  peer->stream = stream;
  sw_list_add(&loop->streams, &stream->entry);
  return stream;
}

int sw_stream_connect(struct sipwire_loop *loop, const struct sockaddr *peer,
                      const char *local_address,
                      const struct sw_stream_ops *ops, void *arg,
                      struct sw_stream **out) {
  (void)local_address;
  struct peer *other =
      peer_new(ntohs(((const struct sockaddr_in *)peer)->sin_port), false);
  libc_failures += !other; /* more than the world has room for */
  struct sw_stream *stream = other ? stream_new(loop, ops, arg, other) : NULL;
  if (!stream)
    return SIPWIRE_ENOMEM;
  other->accepted = dials_succeed;
  *out = stream;
  return 0;
}

int sw_stream_adopt(struct sipwire_loop *loop, int fd,
                    const struct sw_stream_ops *ops, void *arg,
                    struct sw_stream **out) {
  struct peer *peer = &peers[fd - FAKE_FD - 1];
  struct sw_stream *stream = stream_new(loop, ops, arg, peer);
  if (!stream) {
    close(fd);
    return SIPWIRE_ENOMEM;
  }
  peer->fd_open = false;
  stream->open = true;
  *out = stream;
  return 0;
}

int sw_stream_address(const struct sw_stream *stream, bool peer, char *buffer,
                      size_t size) {
  if (!stream->open)
    return -1;
  return snprintf(buffer, size, "127.0.0.1:%u",
                  peer ? stream->peer->number : 5060);
}

/* ---- Watches ----------------------------------------------------------- */

struct sw_watch *sw_watch_new(struct sipwire_loop *loop, int fd, sw_watch_fn fn,
                              void *arg) {
  struct sw_watch *watch = calloc(1, sizeof *watch);
  (void)loop;
  if (!watch) {
    close(fd);
    return NULL;
  }
  *watch = (struct sw_watch){fd, false, fn, arg};
  the_watch = watch;
  return watch;
}

void sw_watch_free(struct sw_watch *watch) {
  if (the_watch == watch)
    the_watch = NULL;
  close(watch->fd);
  free(watch);
}

int sw_watch_fd(const struct sw_watch *watch) {
  return watch->fd;
}

void sw_watch_pause(struct sw_watch *watch, bool paused) {
  watch->paused = paused;
}

/* ---- Names ------------------------------------------------------------- */

/* An address, with what its ai_addr points to. */
struct place {
  struct addrinfo info; /* first */
  struct sockaddr_in address;
};

static struct addrinfo *addresses_new(uint16_t port, unsigned count) {
  struct addrinfo *list = NULL;
  while (count--) {
    struct place *place = steady_realloc(NULL, sizeof *place);
    memset(place, 0, sizeof *place);
    place->address.sin_family = AF_INET;
    place->address.sin_port = htons(port);
    place->info.ai_family = AF_INET;
    place->info.ai_addr = (struct sockaddr *)&place->address;
    place->info.ai_addrlen = sizeof place->address;
    place->info.ai_next = list;
    list = &place->info;
    memory_alive++;
  }
  return list;
}

void freeaddrinfo(struct addrinfo *addresses) {
  while (addresses) {
    struct addrinfo *next = addresses->ai_next;
    steady_free(addresses);
    memory_alive--;
    addresses = next;
  }
}

struct addrinfo *sw_resolve_numeric(const char *host, uint16_t port) {
  return *host >= '0' && *host <= '9' ? addresses_new(port, 1) : NULL;
}

struct sw_lookup *sw_lookup_new(struct sipwire_loop *loop, const char *host,
                                uint16_t port, sw_lookup_fn fn, void *arg) {
  struct sw_lookup *lookup = calloc(1, sizeof *lookup);
  int slot = 0;
  (void)loop;
  (void)host;
  if (!lookup)
    return NULL;
  *lookup = (struct sw_lookup){port, fn, arg};
  while (lookups[slot])
    slot++;
  lookups[slot] = lookup;
  return lookup;
}

void sw_lookup_cancel(struct sw_lookup *lookup) {
  for (int i = 0; i < PEERS; i++)
    if (lookups[i] == lookup)
      lookups[i] = NULL;
  free(lookup);
}

void sw_lookups_close(struct sipwire_loop *loop) {
  (void)loop;
  for (int i = 0; i < PEERS; i++)
    if (lookups[i])
      sw_lookup_cancel(lookups[i]);
}
