/* SPDX-License-Identifier: MIT */

/* The state machine against CONTRACT C10-C35: a literal table, properties of
   every pair, and every walk of a few steps with a model of what the
   transport keeps pending. */

#include "fsm.h"
#include "test.h"

#define D SIPWIRE_DISCONNECTED
#define CING SIPWIRE_CONNECTING
#define CED SIPWIRE_CONNECTED
#define DING SIPWIRE_DISCONNECTING

static const enum sipwire_state states[] = {D, CING, CED, DING};
static const enum sw_input inputs[] = {SW_IN_CONNECT, SW_IN_DISCONNECT,
                                       SW_IN_LINK_UP, SW_IN_LINK_DOWN};

static const struct {
  enum sipwire_state state;
  enum sw_input input;
  enum sipwire_state next;
  unsigned actions;
} expected[] = {
    /* C10: a link is opened; the completion comes later. */
    {D, SW_IN_CONNECT, CING, SW_ACT_OPEN},
    /* C24: nothing but the completion. */
    {D, SW_IN_DISCONNECT, D, SW_ACT_DISCONNECT_DONE},
    /* There is no link. */
    {D, SW_IN_LINK_UP, D, 0},
    {D, SW_IN_LINK_DOWN, D, 0},

    /* C11: joins the pending one. */
    {CING, SW_IN_CONNECT, CING, 0},
    /* C22: aborts the connect; neither UP nor DOWN. */
    {CING, SW_IN_DISCONNECT, DING, SW_ACT_CLOSE | SW_ACT_CONNECT_ABORTED},
    /* C14, C33 */
    {CING, SW_IN_LINK_UP, CED, SW_ACT_UP | SW_ACT_CONNECT_DONE},
    /* C15, C35: no DOWN, it was never up. */
    {CING, SW_IN_LINK_DOWN, D, SW_ACT_CONNECT_FAILED},

    /* C12: succeeds without contacting the server. */
    {CED, SW_IN_CONNECT, CED, SW_ACT_CONNECT_DONE},
    /* C21: DOWN now, without error. */
    {CED, SW_IN_DISCONNECT, DING, SW_ACT_CLOSE | SW_ACT_DOWN},
    /* It is up already. */
    {CED, SW_IN_LINK_UP, CED, 0},
    /* C35: DOWN with the error. */
    {CED, SW_IN_LINK_DOWN, D, SW_ACT_DOWN | SW_ACT_ERROR},

    /* C13: a new link; the old one finishes unseen. */
    {DING, SW_IN_CONNECT, CING,
     SW_ACT_RELEASE | SW_ACT_OPEN | SW_ACT_DISCONNECT_ABORTED},
    /* C23: joins the pending one. */
    {DING, SW_IN_DISCONNECT, DING, 0},
    /* C28, C33: not used; its close was ordered when Disconnecting began. */
    {DING, SW_IN_LINK_UP, DING, 0},
    /* C35: the disconnect succeeds, DOWN was said before. */
    {DING, SW_IN_LINK_DOWN, D, SW_ACT_DISCONNECT_DONE},
};

static void table_is_as_the_contract_says(void) {
  CHECK_INT(sizeof expected / sizeof *expected, SW_STATES * SW_INPUTS);
  for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
    struct sw_step step = sw_fsm_step(expected[i].state, expected[i].input);
    if (!CHECK_INT(step.next, expected[i].next) ||
        !CHECK_INT(step.actions, expected[i].actions))
      fprintf(stderr, "  in state %d, input %d\n", (int)expected[i].state,
              (int)expected[i].input);
  }
}

static const unsigned connect_ends =
    SW_ACT_CONNECT_DONE | SW_ACT_CONNECT_FAILED | SW_ACT_CONNECT_ABORTED;
static const unsigned disconnect_ends =
    SW_ACT_DISCONNECT_DONE | SW_ACT_DISCONNECT_ABORTED;

static bool at_most_one(unsigned bits) { return !(bits & (bits - 1)); }

static bool is_legal(enum sipwire_state from, enum sipwire_state to) {
  static const bool legal[SW_STATES][SW_STATES] = {
      [D] = {[D] = true, [CING] = true},
      [CING] = {[CING] = true, [CED] = true, [DING] = true, [D] = true},
      [CED] = {[CED] = true, [DING] = true, [D] = true},
      [DING] = {[DING] = true, [CING] = true, [D] = true},
  };
  return legal[from][to];
}

static void check_pair(enum sipwire_state state, enum sw_input input) {
  struct sw_step step = sw_fsm_step(state, input);
  unsigned actions = step.actions;
  bool moved = step.next != state;
  CHECK(is_legal(state, step.next));
  CHECK(!(actions & ~((SW_ACT_DISCONNECT_ABORTED << 1) - 1u)));
  /* Only the user's wishes enter the two states that are on the way. */
  CHECK(!(moved && step.next == CING) || input == SW_IN_CONNECT);
  CHECK(!(moved && step.next == DING) || input == SW_IN_DISCONNECT);
  CHECK(!(moved && step.next == CED) || input == SW_IN_LINK_UP);
  CHECK(!(moved && step.next == D) || input == SW_IN_LINK_DOWN);
  CHECK(!!(actions & SW_ACT_UP) == (moved && step.next == CED));
  CHECK(!!(actions & SW_ACT_DOWN) == (moved && state == CED));
  CHECK(!!(actions & SW_ACT_ERROR) ==
        (state == CED && input == SW_IN_LINK_DOWN));
  CHECK(!!(actions & SW_ACT_OPEN) == (moved && step.next == CING));
  CHECK(!!(actions & SW_ACT_CLOSE) == (moved && step.next == DING));
  CHECK(!!(actions & SW_ACT_RELEASE) == (state == DING && step.next == CING));
  CHECK(at_most_one(actions & connect_ends));
  CHECK(at_most_one(actions & disconnect_ends));
}

static void every_pair_keeps_the_rules(void) {
  for (size_t s = 0; s < SW_STATES; s++)
    for (size_t i = 0; i < SW_INPUTS; i++)
      check_pair(states[s], inputs[i]);
}

/* An outcome says what has become of the call that it completes. */
static void outcomes_fit_what_happened(void) {
  for (size_t s = 0; s < SW_STATES; s++)
    for (size_t i = 0; i < SW_INPUTS; i++) {
      struct sw_step step = sw_fsm_step(states[s], inputs[i]);
      unsigned actions = step.actions;
      if (actions & SW_ACT_CONNECT_DONE)
        CHECK_INT(step.next, CED);
      if (actions & SW_ACT_CONNECT_FAILED)
        CHECK(step.next == D && inputs[i] == SW_IN_LINK_DOWN);
      if (actions & SW_ACT_CONNECT_ABORTED)
        CHECK_INT(inputs[i], SW_IN_DISCONNECT);
      if (actions & SW_ACT_DISCONNECT_DONE)
        CHECK_INT(step.next, D);
      if (actions & SW_ACT_DISCONNECT_ABORTED)
        CHECK_INT(inputs[i], SW_IN_CONNECT);
    }
}

/* The transport as far as the table can hurt it. */
struct model {
  enum sipwire_state state;
  unsigned connects, disconnects; /* pending calls */
  bool link, closing;             /* what the transport holds */
  bool up;                        /* what the user was told last */
};

static void model_link(struct model *model, unsigned actions) {
  if (actions & SW_ACT_RELEASE) {
    CHECK(model->link);
    model->link = false;
  }
  if (actions & SW_ACT_OPEN) {
    CHECK(!model->link);
    model->link = true;
    model->closing = false;
  }
  if (actions & SW_ACT_CLOSE) {
    CHECK(model->link && !model->closing);
    model->closing = true;
  }
}

static void model_told(struct model *model, unsigned actions) {
  if (actions & SW_ACT_UP) {
    CHECK(!model->up);
    model->up = true;
  }
  if (actions & SW_ACT_DOWN) {
    CHECK(model->up);
    model->up = false;
  }
}

static void model_step(struct model *model, enum sw_input input) {
  model->connects += input == SW_IN_CONNECT;
  model->disconnects += input == SW_IN_DISCONNECT;
  if (input == SW_IN_LINK_DOWN)
    model->link = false;
  struct sw_step step = sw_fsm_step(model->state, input);
  model->state = step.next;
  model_link(model, step.actions);
  model_told(model, step.actions);
  if (step.actions & connect_ends) {
    CHECK(model->connects);
    model->connects = 0;
  }
  if (step.actions & disconnect_ends) {
    CHECK(model->disconnects);
    model->disconnects = 0;
  }
}

/* Whatever is pending, the state is one whose end completes it. */
static void check_model(const struct model *model) {
  CHECK(!model->connects || model->state == CING);
  CHECK(!model->disconnects || model->state == DING);
  CHECK(model->state != CING || model->connects);
  CHECK(model->state != DING || model->disconnects);
  CHECK(model->link == (model->state != D));
  CHECK(model->up == (model->state == CED));
  CHECK(!model->link || model->closing == (model->state == DING));
}

static void walk(struct model model, unsigned steps) {
  check_model(&model);
  for (size_t i = 0; steps && i < SW_INPUTS; i++) {
    bool from_link = inputs[i] == SW_IN_LINK_UP || inputs[i] == SW_IN_LINK_DOWN;
    if (from_link && !model.link)
      continue; /* nobody is there to say it */
    struct model next = model;
    model_step(&next, inputs[i]);
    walk(next, steps - 1);
  }
}

static void no_walk_leaves_anything_hanging(void) {
  walk((struct model){.state = D}, 7);
}

static void unexpected_inputs_change_nothing(void) {
  const struct {
    enum sipwire_state state;
    enum sw_input input;
  } pairs[] = {{D, SW_IN_LINK_UP}, {D, SW_IN_LINK_DOWN}, {CED, SW_IN_LINK_UP}};
  for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
    struct sw_step step = sw_fsm_step(pairs[i].state, pairs[i].input);
    CHECK_INT(step.next, pairs[i].state);
    CHECK_INT(step.actions, 0);
  }
}

/* Runs |count| inputs and compares the states passed through. */
static unsigned run(const enum sw_input *script, size_t count,
                    const enum sipwire_state *path) {
  enum sipwire_state state = D;
  unsigned said = 0;
  for (size_t i = 0; i < count; i++) {
    struct sw_step step = sw_fsm_step(state, script[i]);
    said |= step.actions;
    state = step.next;
    CHECK_INT(state, path[i]);
  }
  return said;
}

static void connect_then_disconnect_in_one_go(void) { /* C18 */
  const enum sw_input script[] = {SW_IN_CONNECT, SW_IN_DISCONNECT,
                                  SW_IN_LINK_UP, SW_IN_LINK_DOWN};
  const enum sipwire_state path[] = {CING, DING, DING, D};
  unsigned said = run(script, 4, path);
  CHECK_INT(said, SW_ACT_OPEN | SW_ACT_CLOSE | SW_ACT_CONNECT_ABORTED |
                      SW_ACT_DISCONNECT_DONE);
}

static void connect_disconnect_connect_in_one_go(void) { /* C19 */
  const enum sw_input script[] = {SW_IN_CONNECT, SW_IN_DISCONNECT,
                                  SW_IN_CONNECT, SW_IN_LINK_UP};
  const enum sipwire_state path[] = {CING, DING, CING, CED};
  unsigned said = run(script, 4, path);
  CHECK_INT(said, SW_ACT_OPEN | SW_ACT_CLOSE | SW_ACT_CONNECT_ABORTED |
                      SW_ACT_RELEASE | SW_ACT_DISCONNECT_ABORTED | SW_ACT_UP |
                      SW_ACT_CONNECT_DONE);
}

static void disconnect_then_connect_in_one_go(void) { /* C25 */
  const enum sw_input script[] = {SW_IN_CONNECT, SW_IN_LINK_UP,
                                  SW_IN_DISCONNECT, SW_IN_CONNECT,
                                  SW_IN_LINK_UP};
  const enum sipwire_state path[] = {CING, CED, DING, CING, CED};
  unsigned said = run(script, 5, path);
  CHECK(said & SW_ACT_DOWN);
  CHECK(!(said & SW_ACT_ERROR));
  CHECK(said & SW_ACT_DISCONNECT_ABORTED);
  CHECK(!(said & SW_ACT_DISCONNECT_DONE));
}

int main(void) {
  RUN(table_is_as_the_contract_says);
  RUN(every_pair_keeps_the_rules);
  RUN(outcomes_fit_what_happened);
  RUN(no_walk_leaves_anything_hanging);
  RUN(unexpected_inputs_change_nothing);
  RUN(connect_then_disconnect_in_one_go);
  RUN(connect_disconnect_connect_in_one_go);
  RUN(disconnect_then_connect_in_one_go);
  return test_summary("test_fsm");
}
