/* SPDX-License-Identifier: MIT */
/* Resolves host names on helper threads.  Must not touch anything of the loop
   from a thread but the handle that wakes it.

   Design notes.
   getaddrinfo() can take half a minute and cannot be stopped.  libuv's pool
   would make closing a loop wait for it, and shares its few threads with the
   host; so each running lookup has a detached thread of its own, and the job
   is shared between thread and loop: whoever lets go last frees it.  |lock|
   guards |abandoned| and |done|, and with them the right to touch |async|. */

#define _GNU_SOURCE
#include "resolve.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <uv.h>

#include "loop.h"
#include "uri.h"

enum { RUNNING_MAX = 4, STACK_SIZE = 256 * 1024, SERVICE_SIZE = 8 };

struct job {
  pthread_mutex_t lock;
  bool abandoned, done;
  uv_async_t *async;
  char host[SW_URI_HOST_MAX + 2];
  char service[SERVICE_SIZE];
  int status;
  struct addrinfo *addresses;
};

struct sw_lookup {
  struct sw_lookup *next;
  struct sipwire_loop *loop;
  struct job *job;
  sw_lookup_fn fn;
  void *arg;
  bool running;
};

static void job_free(struct job *job) {
  if (job->addresses)
    freeaddrinfo(job->addresses);
  pthread_mutex_destroy(&job->lock);
  free(job);
}

static int resolve(const char *host, const char *service, int flags,
                   struct addrinfo **addresses) {
  struct addrinfo hints;
  memset(&hints, 0, sizeof hints);
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | flags;
  return getaddrinfo(host, service, &hints, addresses);
}

struct addrinfo *sw_resolve_numeric(const char *host, uint16_t port) {
  struct addrinfo *addresses = NULL;
  char service[SERVICE_SIZE];
  snprintf(service, sizeof service, "%u", port);
  return resolve(host, service, AI_NUMERICHOST, &addresses) ? NULL : addresses;
}

/* ---- The thread -------------------------------------------------------- */

static void *work(void *arg) {
  struct job *job = arg;
  struct addrinfo *addresses = NULL;
  int status = resolve(job->host, job->service, 0, &addresses);
  pthread_mutex_lock(&job->lock);
  job->status = status;
  job->addresses = status ? NULL : addresses;
  job->done = true;
  bool abandoned = job->abandoned;
  if (!abandoned)
    uv_async_send(job->async);
  pthread_mutex_unlock(&job->lock);
  if (abandoned)
    job_free(job);
  return NULL;
}

static bool thread_start(struct job *job) {
  pthread_attr_t attributes;
  pthread_t thread;
  sigset_t all, before;
  if (pthread_attr_init(&attributes))
    return false;
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, STACK_SIZE);
  sigfillset(&all); /* signals are for the host's threads */
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int status = pthread_create(&thread, &attributes, work, job);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
  return status == 0;
}

/* ---- The loop's side --------------------------------------------------- */

static void unlist(struct sw_lookup *lookup) {
  struct sw_lookup **at = &lookup->loop->lookups;
  while (*at != lookup)
    at = &(*at)->next;
  *at = lookup->next;
  if (lookup->running)
    lookup->loop->lookups_running--;
}

static void start_waiting(struct sipwire_loop *loop);

static void finish(struct sw_lookup *lookup, const char *fault) {
  struct addrinfo *addresses = lookup->job->addresses;
  sw_lookup_fn fn = lookup->fn;
  void *arg = lookup->arg;
  lookup->job->addresses = NULL;
  job_free(lookup->job);
  free(lookup);
  fn(arg, addresses, fault);
}

static const char *fault_of(const struct job *job) {
  if (job->status)
    return gai_strerror(job->status);
  return job->addresses ? NULL : "no address";
}

static bool is_done(struct job *job) {
  pthread_mutex_lock(&job->lock);
  bool done = job->done;
  pthread_mutex_unlock(&job->lock);
  return done;
}

static struct sw_lookup *find_done(struct sipwire_loop *loop) {
  struct sw_lookup *lookup = loop->lookups;
  while (lookup && !(lookup->running && is_done(lookup->job)))
    lookup = lookup->next;
  return lookup;
}

static void on_async(uv_async_t *async) {
  struct sipwire_loop *loop = async->data;
  struct sw_lookup *lookup;
  while ((lookup = find_done(loop))) {
    unlist(lookup);
    finish(lookup, fault_of(lookup->job));
  }
  start_waiting(loop);
}

static void start_waiting(struct sipwire_loop *loop) {
  struct sw_lookup *lookup = loop->lookups;
  while (lookup && loop->lookups_running < RUNNING_MAX) {
    if (!lookup->running) {
      lookup->running = true;
      loop->lookups_running++;
      if (!thread_start(lookup->job)) {
        lookup->job->status = EAI_AGAIN; /* on_async reports it */
        lookup->job->done = true;
        uv_async_send(lookup->job->async);
      }
    }
    lookup = lookup->next;
  }
}

/* The handle stays until the loop goes. */
static bool async_open(struct sipwire_loop *loop) {
  if (loop->lookup_async)
    return true;
  uv_async_t *async = malloc(sizeof *async);
  if (!async)
    return false;
  if (uv_async_init(&loop->uv, async, on_async)) {
    free(async);
    return false;
  }
  async->data = loop;
  loop->lookup_async = async;
  return true;
}

static struct job *job_new(struct sipwire_loop *loop, const char *host,
                           uint16_t port) {
  struct job *job = calloc(1, sizeof *job);
  if (!job)
    return NULL;
  pthread_mutex_init(&job->lock, NULL);
  job->async = loop->lookup_async;
  snprintf(job->host, sizeof job->host, "%s", host);
  snprintf(job->service, sizeof job->service, "%u", port);
  return job;
}

struct sw_lookup *sw_lookup_new(struct sipwire_loop *loop, const char *host,
                                uint16_t port, sw_lookup_fn fn, void *arg) {
  struct sw_lookup **last = &loop->lookups;
  struct sw_lookup *lookup = calloc(1, sizeof *lookup);
  if (!lookup || !async_open(loop) ||
      !(lookup->job = job_new(loop, host, port))) {
    free(lookup);
    return NULL;
  }
  lookup->loop = loop;
  lookup->fn = fn;
  lookup->arg = arg;
  while (*last)
    last = &(*last)->next;
  *last = lookup;
  start_waiting(loop);
  return lookup;
}

void sw_lookup_cancel(struct sw_lookup *lookup) {
  struct sipwire_loop *loop = lookup->loop;
  struct job *job = lookup->job;
  unlist(lookup);
  pthread_mutex_lock(&job->lock);
  bool ours = !lookup->running || job->done;
  job->abandoned = true;
  pthread_mutex_unlock(&job->lock);
  if (ours)
    job_free(job);
  free(lookup);
  start_waiting(loop);
}

void sw_lookups_close(struct sipwire_loop *loop) {
  loop->lookups_running += RUNNING_MAX; /* start no more */
  while (loop->lookups)
    sw_lookup_cancel(loop->lookups);
  if (loop->lookup_async)
    uv_close((uv_handle_t *)loop->lookup_async, (uv_close_cb)free);
  loop->lookup_async = NULL;
}
