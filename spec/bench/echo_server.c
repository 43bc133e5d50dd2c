/* SPDX-License-Identifier: MIT */
/* A WebSocket server that is never the bottleneck: it sends back every message
   it gets.  "BURST count size" makes it send so many messages of that size.
     echo_server [CERT KEY]
   It prints its port on 127.0.0.1 and ends with its stdin.  For the bench only:
   it believes its clients. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { READ_SIZE = 65536, BURST_CHUNK = 65536, EVENTS = 512 };

struct bytes {
  unsigned char *data;
  size_t length, capacity;
};

struct client {
  int fd;
  SSL *ssl;
  bool secured, upgraded, waiting; /* for EPOLLOUT */
  struct bytes in, out;
  long burst_count, burst_size;
};

static int epoll;
static SSL_CTX *tls;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static unsigned char *reserve(struct bytes *bytes, size_t more) {
  if (bytes->length + more > bytes->capacity) {
    bytes->capacity = 2 * (bytes->length + more);
    if (!(bytes->data = realloc(bytes->data, bytes->capacity)))
      die("realloc");
  }
  return bytes->data + bytes->length;
}

static void append(struct bytes *bytes, const void *data, size_t length) {
  memcpy(reserve(bytes, length), data, length);
  bytes->length += length;
}

static void drop_front(struct bytes *bytes, size_t length) {
  bytes->length -= length;
  memmove(bytes->data, bytes->data + length, bytes->length);
}

static void release(struct bytes *bytes) {
  free(bytes->data);
  memset(bytes, 0, sizeof *bytes);
}

static void hang_up(struct client *client) {
  SSL_free(client->ssl);
  close(client->fd);
  release(&client->in);
  release(&client->out);
  free(client);
}

/* ---- Frames ------------------------------------------------------------ */

static void put_header(struct bytes *out, unsigned first, size_t length) {
  unsigned char header[10] = {(unsigned char)first};
  size_t size = 2;
  if (length < 126) {
    header[1] = (unsigned char)length;
  } else if (length < 65536) {
    header[1] = 126;
    size = 4;
  } else {
    header[1] = 127;
    size = 10;
  }
  for (size_t i = size, rest = length; i > 2; rest >>= 8)
    header[--i] = (unsigned char)rest;
  append(out, header, size);
}

static void unmask(unsigned char *data, size_t length,
                   const unsigned char *mask) {
  unsigned long long word, wide;
  size_t i = 0;
  memcpy(&wide, mask, 4);
  memcpy((char *)&wide + 4, mask, 4);
  for (; i + 8 <= length; i += 8) {
    memcpy(&word, data + i, 8);
    word ^= wide;
    memcpy(data + i, &word, 8);
  }
  for (; i < length; i++)
    data[i] ^= mask[i % 4];
}

static void start_burst(struct client *client, const unsigned char *text,
                        size_t length) {
  char words[64] = {0};
  memcpy(words, text, length < sizeof words ? length : sizeof words - 1);
  sscanf(words, "BURST %ld %ld", &client->burst_count, &client->burst_size);
}

static void answer(struct client *client, unsigned first, unsigned char *data,
                   size_t length) {
  unsigned opcode = first & 15;
  if (opcode == 1 && length > 6 && !memcmp(data, "BURST ", 6)) {
    start_burst(client, data, length);
    return;
  }
  if (opcode == 10)
    return;
  put_header(&client->out, opcode == 9 ? 0x8a : first, length);
  append(&client->out, data, length);
}

/* Returns the length of the first frame, 0 if it is not complete. */
static size_t take_frame(struct client *client, unsigned char *at,
                         size_t have) {
  size_t length, header = 6;
  if (have < 6)
    return 0;
  length = at[1] & 127;
  if (length >= 126) {
    size_t size = length == 126 ? 2 : 8;
    header += size;
    if (have < header)
      return 0;
    length = 0;
    for (size_t i = 0; i < size; i++)
      length = length << 8 | at[2 + i];
  }
  if (have - header < length)
    return 0;
  unmask(at + header, length, at + header - 4);
  answer(client, at[0], at + header, length);
  return header + length;
}

static void take_frames(struct client *client) {
  size_t used = 0, length;
  while ((length = take_frame(client, client->in.data + used,
                              client->in.length - used)))
    used += length;
  drop_front(&client->in, used);
  if (!client->in.length)
    release(&client->in);
}

/* ---- The upgrade ------------------------------------------------------- */

static bool upgrade(struct client *client) {
  static const char field[] = "Sec-WebSocket-Key: ";
  char text[64], accept[32], head[256];
  unsigned char digest[20];
  append(&client->in, "", 1);
  client->in.length--;
  char *request = (char *)client->in.data;
  char *end = strstr(request, "\r\n\r\n");
  char *key = strcasestr(request, field);
  if (!end || !key)
    return false;
  snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
           key + sizeof field - 1);
  EVP_Digest(text, strlen(text), digest, NULL, EVP_sha1(), NULL);
  EVP_EncodeBlock((unsigned char *)accept, digest, sizeof digest);
  int length = snprintf(head, sizeof head,
                        "HTTP/1.1 101 Switching Protocols\r\n"
                        "Upgrade: websocket\r\nConnection: Upgrade\r\n"
                        "Sec-WebSocket-Accept: %s\r\n"
                        "Sec-WebSocket-Protocol: sip\r\n\r\n",
                        accept);
  append(&client->out, head, (size_t)length);
  drop_front(&client->in, (size_t)(end + 4 - request));
  return true;
}

/* ---- I/O --------------------------------------------------------------- */

static ssize_t receive(struct client *client, void *data, size_t size) {
  if (!client->ssl)
    return recv(client->fd, data, size, 0);
  int length = SSL_read(client->ssl, data, (int)size);
  if (length > 0)
    return length;
  errno =
      SSL_get_error(client->ssl, length) == SSL_ERROR_WANT_READ ? EAGAIN : 0;
  return errno ? -1 : 0;
}

static ssize_t transmit(struct client *client, const void *data, size_t size) {
  if (!client->ssl)
    return send(client->fd, data, size, MSG_NOSIGNAL);
  int length = SSL_write(client->ssl, data, (int)size);
  if (length > 0)
    return length;
  errno = SSL_get_error(client->ssl, length) == SSL_ERROR_WANT_WRITE ? EAGAIN
                                                                     : EPIPE;
  return -1;
}

static void watch(struct client *client, bool writable) {
  if (client->waiting == writable)
    return;
  struct epoll_event event = {EPOLLIN | (writable ? EPOLLOUT : 0),
                              {.ptr = client}};
  epoll_ctl(epoll, EPOLL_CTL_MOD, client->fd, &event);
  client->waiting = writable;
}

static void fill_from_burst(struct client *client) {
  while (client->burst_count && client->out.length < BURST_CHUNK) {
    size_t size = (size_t)client->burst_size;
    put_header(&client->out, 0x81, size);
    memset(reserve(&client->out, size), 'x', size);
    client->out.length += size;
    client->burst_count--;
  }
}

static bool flush(struct client *client) {
  for (;;) {
    fill_from_burst(client);
    if (!client->out.length)
      break;
    ssize_t length = transmit(client, client->out.data, client->out.length);
    if (length < 0) {
      watch(client, true);
      return errno == EAGAIN;
    }
    drop_front(&client->out, (size_t)length);
  }
  release(&client->out);
  watch(client, false);
  return true;
}

static bool secure(struct client *client) {
  int result = SSL_accept(client->ssl);
  client->secured = result == 1;
  return client->secured ||
         SSL_get_error(client->ssl, result) == SSL_ERROR_WANT_READ;
}

static bool serve(struct client *client) {
  if (client->ssl && !client->secured && !secure(client))
    return false;
  if (client->ssl && !client->secured)
    return true;
  for (;;) {
    ssize_t length =
        receive(client, reserve(&client->in, READ_SIZE), READ_SIZE);
    if (length == 0)
      return false;
    if (length < 0)
      break;
    client->in.length += (size_t)length;
    if (!client->ssl && length < READ_SIZE)
      break;
  }
  if (!client->upgraded)
    client->upgraded = upgrade(client);
  if (client->upgraded)
    take_frames(client);
  return flush(client);
}

static void welcome(int listener) {
  int fd, one = 1;
  while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >=
         0) {
    struct client *client = calloc(1, sizeof *client);
    struct epoll_event event = {EPOLLIN, {.ptr = client}};
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    client->fd = fd;
    if (tls) {
      client->ssl = SSL_new(tls);
      SSL_set_fd(client->ssl, fd);
    }
    epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

static int open_listener(void) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  socklen_t size = sizeof address;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || bind(fd, (void *)&address, sizeof address) ||
      listen(fd, 4096) || getsockname(fd, (void *)&address, &size))
    die("listen");
  printf("%d\n", ntohs(address.sin_port));
  fflush(stdout);
  return fd;
}

static void open_tls(const char *certificate, const char *key) {
  tls = SSL_CTX_new(TLS_server_method());
  SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS |
                            SSL_MODE_ENABLE_PARTIAL_WRITE |
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1 ||
      SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) {
    fprintf(stderr, "cannot read %s, %s\n", certificate, key);
    exit(1);
  }
}

int main(int argc, char **argv) {
  struct rlimit limit;
  struct epoll_event events[EVENTS], event = {EPOLLIN, {.ptr = NULL}};
  static char input; /* its address stands for stdin */
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
  if (argc > 2)
    open_tls(argv[1], argv[2]);
  epoll = epoll_create1(EPOLL_CLOEXEC);
  int listener = open_listener();
  epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  event.data.ptr = &input;
  epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
  for (;;) {
    int count = epoll_wait(epoll, events, EVENTS, -1);
    for (int i = 0; i < count; i++) {
      struct client *client = events[i].data.ptr;
      if ((void *)client == &input)
        return 0;
      if (!client)
        welcome(listener);
      else if (!serve(client))
        hang_up(client);
    }
  }
}
