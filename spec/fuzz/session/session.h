/* SPDX-License-Identifier: MIT */
#ifndef SW_SESSION_H
#define SW_SESSION_H

/* A world without sockets, clocks and chance: what stands below the library
   in fuzz_session, and the peers at the other end of its connections. */

#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sipwire_loop;

/* ---- fake_libc.c: memory, chance, sockets, waiting ---------------------- */

void libc_reset(void);

/* The |count|th allocation from now on fails; |follow|: all after it too.
   0: none. */
void memory_fail(unsigned count, bool follow);
void random_fail(unsigned count);
extern unsigned libc_failures; /* allocations and random bytes refused */
extern long memory_alive;      /* blocks */
extern bool listening;         /* a socket that is bound is open */

/* For the fakes themselves: never fails, is not counted. */
void *steady_realloc(void *memory, size_t size);
void steady_free(void *memory);

/* ---- fake_uv.c ---------------------------------------------------------- */

void uv_reset(void);
extern uint64_t fake_ms; /* the clock */
extern bool stuck;       /* somebody waited without a limit for nothing */
void wait_for_something(int timeout_ms);

/* ---- fake_stream.c ------------------------------------------------------ */

void streams_reset(void);
bool streams_ready(void); /* something is to be done in a turn */
void streams_turn(void);

struct sw_stream;
bool stream_is_paused(const struct sw_stream *stream);

extern bool lookups_held; /* names are not resolved */
extern unsigned address_count;
extern bool dials_succeed; /* at once, unless the peer says otherwise */

/* ---- peer.c: the other end ---------------------------------------------- */

struct bytes {
  uint8_t *data;
  size_t length, capacity;
};

/* A message: |length| bytes of |all| from |at| on. */
struct said {
  size_t at, length;
  bool binary;
};
struct speech {
  struct bytes all, items;
};

/* A message that the host was told is queued. */
struct promise {
  uint64_t sum;
  size_t length;
  bool binary;
};

struct sw_stream;

struct peer {
  struct sw_stream *stream; /* NULL before and after */
  unsigned number;
  uint16_t port;
  bool is_client; /* ours is the listening side */
  bool accepted;  /* the TCP connection */
  int refused;    /* or an errno */
  bool fin, rst;  /* sent by it */
  bool got_fin;
  bool fd_open;     /* an accepted socket that nobody took over yet */
  size_t room;      /* bytes that it is going to take */
  size_t chunk;     /* bytes that arrive together */
  struct bytes in;  /* all that it sent; */
  size_t read;      /* of that was read by the library */
  struct bytes out; /* all that the library sent */
  /* what its bytes mean, by our own reading */
  size_t frames_at;    /* in |in|; 0: no head yet */
  size_t at;           /* next frame */
  bool tunneled;       /* it is a proxy, and let us through */
  bool over;           /* a close frame, or a violation */
  bool closed;         /* a close frame */
  struct bytes joined; /* of an unfinished message */
  uint8_t opcode;      /* of that, or 0 */
  size_t crlfs, crlfcrlfs;
  struct speech messages, pings;
  /* what the library's mean */
  size_t out_frames_at, out_at;
  bool out_closed;
  unsigned out_close_code;
  size_t pongs, answers, keep_alives, pings_got;
  struct bytes promises;
  size_t kept; /* promises */
};

enum { PEERS = 12 };
extern struct peer peers[PEERS];
extern unsigned peer_count;
extern bool raw_mode, proxied;
extern size_t message_limit;

void peers_reset(void);
struct peer *peer_new(uint16_t port, bool is_client); /* NULL: too many */
void peer_says(struct peer *peer, const void *data, size_t length);
void peer_hears(struct peer *peer, const uint8_t *data, size_t length);
/* The head of a good handshake; false when there is none to answer. */
bool peer_shakes_hands(struct peer *peer, bool wordy);
void peer_frame(struct peer *peer, unsigned first_byte, const uint8_t *data,
                size_t length);
size_t said_count(const struct speech *speech);
const struct said *said_at(const struct speech *speech, size_t index);
const struct promise *promise_at(const struct peer *peer, size_t index);
void peer_promise(struct peer *peer, struct promise promise);
uint64_t sum_of(const uint8_t *data, size_t length);

#endif
