/* SPDX-License-Identifier: MIT */
#ifndef SW_AUTH_H
#define SW_AUTH_H

/* Answers to HTTP's challenges: Digest (RFC 7616) and Basic (RFC 7617), for a
   server (401) and for a proxy (407).  Remembers nothing between answers. */

#include "slice.h"

struct sw_random;

/* Who we are.  All zero: nobody. */
struct sw_credentials {
  char *username; /* no control bytes */
  char *password;
};

/* The request that was refused. */
struct sw_auth_request {
  const char *method;
  struct sw_slice target; /* as sent */
};

/* sw_auth_answer writes what an Authorization (or Proxy-Authorization) field
   is to say in answer to the challenges in the |fields| called |name|.  Digest
   goes before Basic; of several that we can do the first one is taken (RFC
   7616 section 3.7): MD5, SHA-256, SHA-512-256, their -sess, qop auth,
   auth-int or none, userhash.  It returns a string to be freed, or NULL when
   there is no challenge that can be answered, or no memory. */
char *sw_auth_answer(struct sw_slice fields, const char *name,
                     const struct sw_credentials *credentials,
                     const struct sw_auth_request *request,
                     struct sw_random *random);

/* sw_auth_wipe overwrites and frees a string that holds a secret, or NULL. */
void sw_auth_wipe(char *secret);
void sw_credentials_clear(struct sw_credentials *credentials);

#endif
