/* SPDX-License-Identifier: MIT */
#ifndef SW_FSM_H
#define SW_FSM_H

/* The transport's state machine: (state, input) -> (next state, actions).
   Holds nothing, does nothing.  Pure. */

#include "sipwire.h"

enum sw_input {
  SW_IN_CONNECT,    /* the user called connect() */
  SW_IN_DISCONNECT, /* the user called disconnect() */
  SW_IN_LINK_UP,    /* the upgrade is done */
  SW_IN_LINK_DOWN,  /* the link failed, was refused, timed out or closed */
  SW_INPUTS
};

enum { SW_STATES = SIPWIRE_DISCONNECTING + 1 };

/* What the transport is to do, in this order. */
enum sw_action {
  SW_ACT_RELEASE = 1 << 0,         /* let the old link finish unseen */
  SW_ACT_OPEN = 1 << 1,            /* open a new link */
  SW_ACT_CLOSE = 1 << 2,           /* close the link */
  SW_ACT_UP = 1 << 3,              /* on_connect is due */
  SW_ACT_DOWN = 1 << 4,            /* on_disconnect is due */
  SW_ACT_ERROR = 1 << 5,           /* with the link's error */
  SW_ACT_CONNECT_DONE = 1 << 6,    /* pending connects succeed */
  SW_ACT_CONNECT_FAILED = 1 << 7,  /* with the link's error */
  SW_ACT_CONNECT_ABORTED = 1 << 8, /* superseded */
  SW_ACT_DISCONNECT_DONE = 1 << 9, /* pending disconnects succeed */
  SW_ACT_DISCONNECT_ABORTED = 1 << 10
};

struct sw_step {
  enum sipwire_state next;
  unsigned actions; /* of enum sw_action */
};

/* sw_fsm_step looks the step up; total over all states and inputs. */
struct sw_step sw_fsm_step(enum sipwire_state state, enum sw_input input);

#endif
