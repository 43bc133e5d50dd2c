/* SPDX-License-Identifier: MIT */
/* The limit: client.lua's "echo" and "burst" by a loop over epoll that knows
   only how long frames are.
     client_raw MODE PORT COUNT SIZE CONNECTIONS WINDOW */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 65536, HEADER_MAX = 10, EVENTS = 512 };

struct connection {
  int fd;
  size_t skip; /* bytes of the present frame that are still to come */
  unsigned char kept[HEADER_MAX];
  size_t kept_length;
};

static bool burst, in_turn;
static long count, size, connections, window, sent, received;
static unsigned char *message; /* a masked frame */
static size_t message_length;
static double asked, *times;

static double now(clockid_t clock) {
  struct timespec time;
  clock_gettime(clock, &time);
  return (double)time.tv_sec * 1e6 + (double)time.tv_nsec / 1e3;
}

static void check(bool good, const char *what) {
  if (good)
    return;
  perror(what);
  exit(1);
}

/* A mask of zeros, as masking is not what is measured here. */
static unsigned char *build(const char *data, size_t length, size_t *total) {
  unsigned char *frame = calloc(1, length + 14);
  size_t at = 1;
  frame[0] = 0x81;
  if (length < 126) {
    frame[at++] = (unsigned char)(0x80 | length);
  } else {
    size_t width = length < 65536 ? 2 : 8;
    frame[at++] = width == 2 ? 0xfe : 0xff;
    for (size_t i = width; i-- > 0;)
      frame[at++] = (unsigned char)(length >> 8 * i);
  }
  memcpy(frame + at + 4, data, length);
  *total = at + 4 + length;
  return frame;
}

static void transmit(const struct connection *connection,
                     const unsigned char *data, size_t length) {
  check(send(connection->fd, data, length, 0) == (ssize_t)length, "send");
}

static void ask(struct connection *connection) {
  asked = now(CLOCK_MONOTONIC);
  sent++;
  transmit(connection, message, message_length);
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void report(double cpu_start, double wall_start) {
  double cpu = now(CLOCK_PROCESS_CPUTIME_ID) - cpu_start;
  double wall = now(CLOCK_MONOTONIC) - wall_start;
  qsort(times, (size_t)received, sizeof *times, compare);
  printf("{\"cpu_us\":%.3f,\"per_second\":%.3f,\"p50_us\":%.3f,"
         "\"p99_us\":%.3f}\n",
         cpu / (double)count, (double)count * 1e6 / wall, times[received / 2],
         times[received * 99 / 100]);
}

/* Of a whole frame; 0 if the header is cut. */
static size_t frame_length(const unsigned char *at, size_t have) {
  size_t header = 2, length;
  if (have < 2)
    return 0;
  length = at[1];
  if (length >= 126) {
    header += length == 126 ? 2 : 8;
    length = 0;
    if (have < header)
      return 0;
    for (size_t i = 2; i < header; i++)
      length = length << 8 | at[i];
  }
  return header + length;
}

/* Counts the frames that end in |data|; a cut header is kept. */
static long count_frames(struct connection *connection,
                         const unsigned char *data, size_t length) {
  long frames = 0;
  for (;;) {
    size_t part = length < connection->skip ? length : connection->skip;
    bool inside = connection->skip > 0;
    data += part;
    length -= part;
    connection->skip -= part;
    if (inside && !connection->skip)
      frames++;
    if (!length)
      return frames;
    if (!(connection->skip = frame_length(data, length))) {
      memcpy(connection->kept, data, length);
      connection->kept_length = length;
      return frames;
    }
  }
}

static void take(struct connection *connection) {
  static unsigned char data[HEADER_MAX + READ_SIZE];
  size_t kept = connection->kept_length;
  memcpy(data, connection->kept, kept);
  ssize_t got = recv(connection->fd, data + kept, READ_SIZE, 0);
  check(got > 0, "recv");
  connection->kept_length = 0;
  long frames = count_frames(connection, data, kept + (size_t)got);
  for (; frames; frames--) {
    if (in_turn)
      times[received] = now(CLOCK_MONOTONIC) - asked;
    received++;
    if (!burst && sent < count)
      ask(connection);
  }
}

static void dial(struct connection *connection, int port) {
  static const char head[] =
      "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
      "Connection: Upgrade\r\n"
      "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
      "Sec-WebSocket-Version: 13\r\n"
      "Sec-WebSocket-Protocol: sip\r\n\r\n";
  char answer[512]; /* the server's one write */
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((unsigned short)port)};
  int one = 1;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  connection->fd = socket(AF_INET, SOCK_STREAM, 0);
  check(!connect(connection->fd, (void *)&address, sizeof address), "connect");
  setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  transmit(connection, (const unsigned char *)head, sizeof head - 1);
  check(recv(connection->fd, answer, sizeof answer, 0) > 0, "upgrade");
}

static void start(struct connection *all) {
  char text[64];
  size_t length;
  if (burst) {
    snprintf(text, sizeof text, "BURST %ld %ld", count, size);
    unsigned char *frame = build(text, strlen(text), &length);
    transmit(&all[0], frame, length);
    free(frame);
    return;
  }
  for (long i = 0; i < window; i++)
    for (long j = 0; j < connections && sent < count; j++)
      ask(&all[j]);
}

int main(int argc, char **argv) {
  struct epoll_event events[EVENTS];
  check(argc > 6, "arguments");
  burst = !strcmp(argv[1], "burst");
  count = atol(argv[3]);
  size = atol(argv[4]);
  connections = atol(argv[5]);
  window = atol(argv[6]);
  in_turn = !burst && connections == 1 && window == 1;
  char *text = malloc((size_t)size);
  memset(text, 'x', (size_t)size);
  message = build(text, (size_t)size, &message_length);
  times = calloc((size_t)count + 1, sizeof *times);
  struct connection *all = calloc((size_t)connections, sizeof *all);
  int epoll = epoll_create1(0);
  for (long i = 0; i < connections; i++) {
    struct epoll_event event = {EPOLLIN, {.ptr = &all[i]}};
    dial(&all[i], atoi(argv[2]));
    epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &event);
  }
  double cpu = now(CLOCK_PROCESS_CPUTIME_ID), wall = now(CLOCK_MONOTONIC);
  start(all);
  while (received < count) {
    int ready = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < ready; i++)
      take(events[i].data.ptr);
  }
  report(cpu, wall);
}
