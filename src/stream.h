/* SPDX-License-Identifier: MIT */
#ifndef SW_STREAM_H
#define SW_STREAM_H

/* One TCP connection: connect or accept, read, write, pause, flush, finish,
   and exactly one end.  Knows nothing of what it carries. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The most bytes that one read gives. */
enum { SW_READ_SIZE = 65536 };

/* Bytes at the head of |arg| below that are fetched into the cache before a
   stream is read. */
enum { SW_STREAM_AHEAD = 384 };

struct sipwire_loop;
struct sockaddr;
struct sw_stream;

/* Called from inside sipwire_loop_step() and sipwire_loop_next() only, or for
   |progress| also from inside the calls below. */
struct sw_stream_ops {
  void (*connected)(void *arg);
  /* |bytes| may be written to and are valid during the call. */
  void (*data)(void *arg, uint8_t *bytes, size_t length);
  /* All that was written has been handed to the kernel, after some had to
     wait. */
  void (*progress)(void *arg);
  /* The last call; the stream is gone.  |error|: SIPWIRE_ECLOSED for the
     peer's FIN, SIPWIRE_ERESET, SIPWIRE_EREFUSED, SIPWIRE_EUNREACHABLE,
     SIPWIRE_ETIMEOUT (the system's), SIPWIRE_ENOMEM (memory or
     descriptors), or SIPWIRE_EABORTED after sw_stream_abort(); |sys_errno| may
     be 0. */
  void (*ended)(void *arg, int error, int sys_errno);
};

/* sw_stream_connect dials |peer|.  |local_address| is a numeric address or
   NULL.  It returns 0 or SIPWIRE_ENOMEM; every other failure comes through
   |ended|, in a later step. */
int sw_stream_connect(struct sipwire_loop *loop, const struct sockaddr *peer,
                      const char *local_address,
                      const struct sw_stream_ops *ops, void *arg,
                      struct sw_stream **stream);

/* sw_stream_adopt takes over an accepted, non-blocking socket, also when it
   fails.  |connected| is not called.  It returns 0 or SIPWIRE_ENOMEM. */
int sw_stream_adopt(struct sipwire_loop *loop, int fd,
                    const struct sw_stream_ops *ops, void *arg,
                    struct sw_stream **stream);

/* sw_stream_write hands bytes to the kernel and keeps what it does not take.
   Failures come through |ended|. */
void sw_stream_write(struct sw_stream *stream, const void *data, size_t length);

/* sw_stream_failed: it is ending, and what is written now is lost. */
bool sw_stream_failed(const struct sw_stream *stream);

/* Bytes that the kernel did not take yet, and those that it took so far. */
size_t sw_stream_unsent(const struct sw_stream *stream);
uint64_t sw_stream_sent(const struct sw_stream *stream);

/* sw_stream_pause stops reading; at most one read's bytes still come.  The
   peer's end goes unnoticed until sw_stream_resume(). */
void sw_stream_pause(struct sw_stream *stream);
void sw_stream_resume(struct sw_stream *stream);

/* sw_stream_finish sends a FIN behind what was written. */
void sw_stream_finish(struct sw_stream *stream);

/* sw_stream_abort drops the connection; |ended| comes in a later step.  It may
   be called anywhere. */
void sw_stream_abort(struct sw_stream *stream);

/* sw_stream_address writes "address:port" of the peer's or the own end as
   snprintf does; -1 when unknown. */
int sw_stream_address(const struct sw_stream *stream, bool peer, char *buffer,
                      size_t size);

/* sw_streams_read reads some of the streams in loop->readable, the oldest
   first; each stands there once.  Called by the loop, outside all callbacks. */
void sw_streams_read(struct sipwire_loop *loop);

/* sw_streams_run ends the streams that are to end; called by the loop, outside
   all callbacks. */
void sw_streams_run(struct sipwire_loop *loop);

/* sw_streams_close aborts all streams of a loop that is going away. */
void sw_streams_close(struct sipwire_loop *loop);

/* A descriptor that is watched for reading: a listening socket. */
struct sw_watch;
typedef void (*sw_watch_fn)(void *arg);

/* sw_watch_new takes |fd| over, also when it fails (NULL). */
struct sw_watch *sw_watch_new(struct sipwire_loop *loop, int fd, sw_watch_fn fn,
                              void *arg);
/* sw_watch_free closes the descriptor.  |fn| is not called any more.  Not to
   be called from inside |fn|. */
void sw_watch_free(struct sw_watch *watch);
int sw_watch_fd(const struct sw_watch *watch);
void sw_watch_pause(struct sw_watch *watch, bool paused);

#endif
