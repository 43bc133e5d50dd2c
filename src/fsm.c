/* SPDX-License-Identifier: MIT */
/* Decides when things happen: which state follows which, and what is to be
   done on the way.  Must not hold or do anything. */

#include "fsm.h"

#define STAY(state, actions)                                                   \
  { SIPWIRE_##state, (actions) }
#define GO(state, actions)                                                     \
  { SIPWIRE_##state, (actions) }
#define IMPOSSIBLE(state)                                                      \
  { SIPWIRE_##state, 0 }

/* clang-format off */
static const struct sw_step table[SW_STATES][SW_INPUTS] = {
  [SIPWIRE_DISCONNECTED] = {
    [SW_IN_CONNECT] = GO(CONNECTING, SW_ACT_OPEN),
    [SW_IN_DISCONNECT] = STAY(DISCONNECTED, SW_ACT_DISCONNECT_DONE),
    [SW_IN_LINK_UP] = IMPOSSIBLE(DISCONNECTED),
    [SW_IN_LINK_DOWN] = IMPOSSIBLE(DISCONNECTED),
  },
  [SIPWIRE_CONNECTING] = {
    [SW_IN_CONNECT] = STAY(CONNECTING, 0),
    [SW_IN_DISCONNECT] =
        GO(DISCONNECTING, SW_ACT_CLOSE | SW_ACT_CONNECT_ABORTED),
    [SW_IN_LINK_UP] = GO(CONNECTED, SW_ACT_UP | SW_ACT_CONNECT_DONE),
    [SW_IN_LINK_DOWN] = GO(DISCONNECTED, SW_ACT_CONNECT_FAILED),
  },
  [SIPWIRE_CONNECTED] = { /* on_disconnect fires on leaving: ACT_DOWN is here */
    [SW_IN_CONNECT] = STAY(CONNECTED, SW_ACT_CONNECT_DONE),
    [SW_IN_DISCONNECT] = GO(DISCONNECTING, SW_ACT_CLOSE | SW_ACT_DOWN),
    [SW_IN_LINK_UP] = IMPOSSIBLE(CONNECTED),
    [SW_IN_LINK_DOWN] = GO(DISCONNECTED, SW_ACT_DOWN | SW_ACT_ERROR),
  },
  [SIPWIRE_DISCONNECTING] = { /* a link that opens now is closing already */
    [SW_IN_CONNECT] = GO(CONNECTING, SW_ACT_RELEASE | SW_ACT_OPEN |
                                         SW_ACT_DISCONNECT_ABORTED),
    [SW_IN_DISCONNECT] = STAY(DISCONNECTING, 0),
    [SW_IN_LINK_UP] = STAY(DISCONNECTING, 0),
    [SW_IN_LINK_DOWN] = GO(DISCONNECTED, SW_ACT_DISCONNECT_DONE),
  },
};
/* clang-format on */

struct sw_step sw_fsm_step(enum sipwire_state state, enum sw_input input) {
  return table[state][input];
}
