/* SPDX-License-Identifier: MIT */
#ifndef SW_RESOLVE_H
#define SW_RESOLVE_H

/* Host names to addresses without blocking: getaddrinfo() on helper threads,
   a few at a time.  A lookup can be given up at any moment; its thread then
   ends by itself. */

#include <netdb.h>
#include <stdint.h>

struct sipwire_loop;
struct sw_lookup;

/* sw_resolve_numeric returns what |host| stands for if it is an IP address,
   at once; else, or when out of memory, NULL. */
struct addrinfo *sw_resolve_numeric(const char *host, uint16_t port);

/* Called once from inside sipwire_loop_step().  |addresses| is to be freed
   with freeaddrinfo(), and NULL on failure: |fault| then says why. */
typedef void (*sw_lookup_fn)(void *arg, struct addrinfo *addresses,
                             const char *fault);

/* sw_lookup_new starts to resolve the name |host| for TCP |port|.  NULL when
 * out of memory. */
struct sw_lookup *sw_lookup_new(struct sipwire_loop *loop, const char *host,
                                uint16_t port, sw_lookup_fn fn, void *arg);

/* sw_lookup_cancel gives up; |fn| is not called any more. */
void sw_lookup_cancel(struct sw_lookup *lookup);

/* sw_lookups_close cancels all and closes the handle they report through. */
void sw_lookups_close(struct sipwire_loop *loop);

#endif
