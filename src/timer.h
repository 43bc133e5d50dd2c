/* SPDX-License-Identifier: MIT */
#ifndef SW_TIMER_H
#define SW_TIMER_H

/* One-shot timers for users: see sipwire.h. */

struct sipwire_loop;

/* sw_timers_close stops all timers of a loop that is going away. */
void sw_timers_close(struct sipwire_loop *loop);

#endif
