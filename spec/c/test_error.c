/* SPDX-License-Identifier: MIT */

/* The names of error.c: those are part of the contract, so they are spelled
   out here instead of being taken from the X-macro again. */

#include <errno.h>
#include <limits.h>

#include "sipwire.h"
#include "error.h"
#include "test.h"

static const struct {
  int error, value;
  const char *name;
} errors[] = {
    {SIPWIRE_OK, 0, "ok"},
    {SIPWIRE_ETIMEOUT, -1, "timeout"},
    {SIPWIRE_EREFUSED, -2, "refused"},
    {SIPWIRE_EUNREACHABLE, -3, "unreachable"},
    {SIPWIRE_EDNS, -4, "dns"},
    {SIPWIRE_ETLS, -5, "tls"},
    {SIPWIRE_EHTTP, -6, "http"},
    {SIPWIRE_ESUBPROTOCOL, -7, "subprotocol"},
    {SIPWIRE_ECLOSED, -8, "closed"},
    {SIPWIRE_ERESET, -9, "reset"},
    {SIPWIRE_EPROTOCOL, -10, "protocol"},
    {SIPWIRE_ETOO_BIG, -11, "too_big"},
    {SIPWIRE_EQUEUE_FULL, -12, "queue_full"},
    {SIPWIRE_EUTF8, -13, "utf8"},
    {SIPWIRE_ESTATE, -14, "state"},
    {SIPWIRE_EABORTED, -15, "aborted"},
    {SIPWIRE_EDISPOSED, -16, "disposed"},
    {SIPWIRE_ENOMEM, -17, "nomem"},
    {SIPWIRE_EINVALID, -18, "invalid"},
    {SIPWIRE_EFORK, -19, "fork"},
    {SIPWIRE_ESYSTEM, -20, "system"},
};

enum { COUNT = sizeof errors / sizeof *errors };

static void each_error_has_its_name(void) {
  CHECK_INT(COUNT, SIPWIRE_ORD_END);
  for (size_t i = 0; i < COUNT; i++) {
    CHECK_INT(errors[i].error, errors[i].value);
    CHECK_STR(sipwire_error_name(errors[i].error), errors[i].name);
  }
}

static void each_text_is_one_line_of_its_own(void) {
  for (int i = 0; i < COUNT; i++) {
    const char *text = sipwire_error_text(-i);
    CHECK(text && *text && strlen(text) < 80);
    for (const char *at = text; *at; at++)
      CHECK(*at >= ' ' && *at <= '~');
    CHECK(strcmp(text, sipwire_error_text(INT_MIN)));
    for (int j = 0; j < i; j++)
      CHECK(strcmp(text, sipwire_error_text(-j)));
  }
  CHECK_STR(sipwire_error_text(SIPWIRE_OK), "no error");
  CHECK_STR(sipwire_error_text(SIPWIRE_ETIMEOUT), "time limit reached");
  CHECK_STR(sipwire_error_text(SIPWIRE_ENOMEM), "out of memory or descriptors");
  CHECK_STR(sipwire_error_text(SIPWIRE_ESYSTEM),
            "the operating system or a library refused");
}

static void errno_becomes_an_error(void) {
  const struct {
    int number, error;
  } cases[] = {
    {0, SIPWIRE_ECLOSED},
    {ECONNREFUSED, SIPWIRE_EREFUSED},
    {EADDRINUSE, SIPWIRE_EREFUSED},
    {EACCES, SIPWIRE_EREFUSED},
    {ETIMEDOUT, SIPWIRE_ETIMEOUT},
    {ECONNRESET, SIPWIRE_ERESET},
    {EPIPE, SIPWIRE_ERESET},
    {EMFILE, SIPWIRE_ENOMEM},
    {ENOBUFS, SIPWIRE_ENOMEM},
    {ENETUNREACH, SIPWIRE_EUNREACHABLE},
    {EADDRNOTAVAIL, SIPWIRE_EUNREACHABLE},
    {12345, SIPWIRE_EUNREACHABLE},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
    CHECK_INT(sw_error_of_errno(cases[i].number), cases[i].error);
}

static void other_numbers_are_unknown(void) {
  const int others[] = {1, 20, INT_MAX, -COUNT, -COUNT - 1, INT_MIN};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    CHECK_STR(sipwire_error_name(others[i]), "unknown");
    CHECK_STR(sipwire_error_text(others[i]), "unknown error");
  }
}

static void states_have_names(void) {
  CHECK_STR(sipwire_state_name(SIPWIRE_DISCONNECTED), "Disconnected");
  CHECK_STR(sipwire_state_name(SIPWIRE_CONNECTING), "Connecting");
  CHECK_STR(sipwire_state_name(SIPWIRE_CONNECTED), "Connected");
  CHECK_STR(sipwire_state_name(SIPWIRE_DISCONNECTING), "Disconnecting");
  CHECK_STR(sipwire_state_name((enum sipwire_state)4), "unknown");
  CHECK_STR(sipwire_state_name((enum sipwire_state) - 1), "unknown");
}

static void phases_have_names(void) {
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_NONE), NULL);
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_DNS), "dns");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_TCP), "tcp");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_PROXY), "proxy");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_TLS), "tls");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_UPGRADE), "upgrade");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_OPEN), "open");
  CHECK_STR(sipwire_phase_name(SIPWIRE_PHASE_CLOSING), "closing");
  CHECK_STR(sipwire_phase_name((enum sipwire_phase)8), NULL);
  CHECK_STR(sipwire_phase_name((enum sipwire_phase) - 1), NULL);
}

int main(void) {
  RUN(each_error_has_its_name);
  RUN(each_text_is_one_line_of_its_own);
  RUN(errno_becomes_an_error);
  RUN(other_numbers_are_unknown);
  RUN(states_have_names);
  RUN(phases_have_names);
  return test_summary("test_error");
}
