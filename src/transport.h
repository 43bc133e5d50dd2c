/* SPDX-License-Identifier: MIT */
#ifndef SW_TRANSPORT_H
#define SW_TRANSPORT_H

/* The inside of sipwire_transport: see sipwire.h. */

struct sipwire_loop;
struct sipwire_transport;
struct sw_link;
struct sw_options;

/* sw_transport_adopt makes a transport that is Connected already, over a
   server's link whose request it accepts.  It returns 0 or SIPWIRE_ENOMEM. */
int sw_transport_adopt(struct sipwire_loop *loop, struct sw_options *options,
                       struct sw_link *link, void *arg,
                       struct sipwire_transport **transport);

#endif
