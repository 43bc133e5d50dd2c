/* SPDX-License-Identifier: MIT */
/* Resolves host names on helper threads.  Must not touch anything of the loop
   from a thread but the handle that wakes it.

   Design notes.
   getaddrinfo() can take half a minute and cannot be stopped.  libuv's pool
   would make closing a loop wait for it, and shares its few threads with the
   host; so each running lookup has a detached thread of its own, few of them at
   a time, counted until they really end.  Threads and loop share a |crew|,
   whose lock guards everything that both sides touch, the right to wake the
   loop included; whoever lets go of a job or of the crew last frees it. */

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

enum { RUNNING_MAX = 8, STACK_SIZE = 256 * 1024, SERVICE_SIZE = 8 };

struct sw_crew {
  pthread_mutex_t lock;
  unsigned references; /* the loop's and each thread's */
  unsigned running;    /* threads */
  uv_async_t *async;   /* NULL when the loop is gone */
};

struct job {
  struct sw_crew *crew;
  bool abandoned, done;
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
  bool started;
};

static void job_free(struct job *job) {
  if (job->addresses)
    freeaddrinfo(job->addresses);
  free(job);
}

/* With the lock held, which it releases. */
static void crew_unref(struct sw_crew *crew) {
  bool last = --crew->references == 0;
  pthread_mutex_unlock(&crew->lock);
  if (!last)
    return;
  pthread_mutex_destroy(&crew->lock);
  free(crew);
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
  struct sw_crew *crew = job->crew;
  struct addrinfo *addresses = NULL;
  int status = resolve(job->host, job->service, 0, &addresses);
  pthread_mutex_lock(&crew->lock);
  job->status = status;
  job->addresses = status ? NULL : addresses;
  job->done = true;
  bool abandoned = job->abandoned;
  crew->running--;
  if (crew->async) /* also when abandoned: another may start */
    uv_async_send(crew->async);
  crew_unref(crew);
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
}

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

static struct sw_lookup *find_done(struct sipwire_loop *loop) {
  struct sw_lookup *lookup = loop->lookups;
  pthread_mutex_lock(&loop->crew->lock);
  while (lookup && !lookup->job->done)
    lookup = lookup->next;
  pthread_mutex_unlock(&loop->crew->lock);
  return lookup;
}

/* Takes a place among the running threads, if there is one. */
static bool take_place(struct sw_crew *crew) {
  pthread_mutex_lock(&crew->lock);
  bool room = crew->running < RUNNING_MAX;
  if (room) {
    crew->running++;
    crew->references++;
  }
  pthread_mutex_unlock(&crew->lock);
  return room;
}

static void start(struct sw_lookup *lookup) {
  struct job *job = lookup->job;
  lookup->started = true;
  if (thread_start(job))
    return;
  pthread_mutex_lock(&job->crew->lock);
  job->status = EAI_AGAIN; /* on_async() reports it */
  job->done = true;
  job->crew->running--;
  uv_async_send(job->crew->async);
  crew_unref(job->crew);
}

static void start_waiting(struct sipwire_loop *loop) {
  struct sw_lookup *lookup = loop->lookups;
  while (lookup && lookup->started)
    lookup = lookup->next;
  while (lookup && take_place(loop->crew)) {
    start(lookup);
    lookup = lookup->next;
  }
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

static uv_async_t *async_new(struct sipwire_loop *loop) {
  uv_async_t *async = malloc(sizeof *async);
  if (!async)
    return NULL;
  if (uv_async_init(&loop->uv, async, on_async)) {
    free(async);
    return NULL;
  }
  async->data = loop;
  return async;
}

/* Made with the first lookup, it stays until the loop goes. */
static bool crew_open(struct sipwire_loop *loop) {
  if (loop->crew)
    return true;
  struct sw_crew *crew = calloc(1, sizeof *crew);
  if (!crew || !(crew->async = async_new(loop))) {
    free(crew);
    return false;
  }
  pthread_mutex_init(&crew->lock, NULL);
  crew->references = 1;
  loop->crew = crew;
  return true;
}

static struct job *job_new(struct sipwire_loop *loop, const char *host,
                           uint16_t port) {
  struct job *job = calloc(1, sizeof *job);
  if (!job)
    return NULL;
  job->crew = loop->crew;
  snprintf(job->host, sizeof job->host, "%s", host);
  snprintf(job->service, sizeof job->service, "%u", port);
  return job;
}

struct sw_lookup *sw_lookup_new(struct sipwire_loop *loop, const char *host,
                                uint16_t port, sw_lookup_fn fn, void *arg) {
  struct sw_lookup **last = &loop->lookups;
  struct sw_lookup *lookup = calloc(1, sizeof *lookup);
  if (!lookup || !crew_open(loop) ||
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
  struct job *job = lookup->job;
  struct sw_crew *crew = job->crew;
  unlist(lookup);
  pthread_mutex_lock(&crew->lock);
  bool ours = !lookup->started || job->done;
  job->abandoned = true;
  pthread_mutex_unlock(&crew->lock);
  if (ours)
    job_free(job);
  free(lookup);
}

void sw_lookups_close(struct sipwire_loop *loop) {
  struct sw_crew *crew = loop->crew;
  while (loop->lookups)
    sw_lookup_cancel(loop->lookups);
  loop->crew = NULL;
  if (!crew)
    return;
  pthread_mutex_lock(&crew->lock);
  uv_close((uv_handle_t *)crew->async, (uv_close_cb)free);
  crew->async = NULL;
  crew_unref(crew);
}
