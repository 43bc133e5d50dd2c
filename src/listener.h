/* SPDX-License-Identifier: MIT */
#ifndef SW_LISTENER_H
#define SW_LISTENER_H

/* The listening side: see sipwire.h. */

struct sipwire_loop;

/* sw_listeners_close closes all listening sockets and unanswered handshakes of
   a loop that is going away. */
void sw_listeners_close(struct sipwire_loop *loop);

#endif
