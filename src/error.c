/* SPDX-License-Identifier: MIT */

/* Names and texts of the numbers in sipwire.h.  Decides nothing; returns
   static storage only, also for numbers that do not exist. */

#include "error.h"

#include <errno.h>

#include "sipwire.h"

#define NAME(NAME_, name, text) name,
#define TEXT(NAME_, name, text) text,

static const char *const error_names[] = {"ok", SIPWIRE_ERRORS(NAME)};
static const char *const error_texts[] = {"no error", SIPWIRE_ERRORS(TEXT)};

/* Not by negation first: -INT_MIN does not exist. */
static bool known(int error) {
  return error <= 0 && error > -SIPWIRE_ORD_END;
}

const char *sipwire_error_name(int error) {
  return known(error) ? error_names[-error] : "unknown";
}

const char *sipwire_error_text(int error) {
  return known(error) ? error_texts[-error] : "unknown error";
}

const char *sipwire_state_name(enum sipwire_state state) {
  static const char *const names[] = {
      [SIPWIRE_DISCONNECTED] = "Disconnected",
      [SIPWIRE_CONNECTING] = "Connecting",
      [SIPWIRE_CONNECTED] = "Connected",
      [SIPWIRE_DISCONNECTING] = "Disconnecting",
  };
  size_t index = (size_t)state;
  return index < sizeof names / sizeof *names ? names[index] : "unknown";
}

const char *sipwire_phase_name(enum sipwire_phase phase) {
  static const char *const names[] = {
      [SIPWIRE_PHASE_NONE] = NULL,   [SIPWIRE_PHASE_DNS] = "dns",
      [SIPWIRE_PHASE_TCP] = "tcp",   [SIPWIRE_PHASE_PROXY] = "proxy",
      [SIPWIRE_PHASE_TLS] = "tls",   [SIPWIRE_PHASE_UPGRADE] = "upgrade",
      [SIPWIRE_PHASE_OPEN] = "open", [SIPWIRE_PHASE_CLOSING] = "closing",
  };
  size_t index = (size_t)phase;
  return index < sizeof names / sizeof *names ? names[index] : NULL;
}

int sw_error_of_errno(int number) {
  switch (number) {
  case 0:
    return SIPWIRE_ECLOSED;
  case EACCES:
  case EADDRINUSE:
  case ECONNREFUSED:
  case EPERM:
    return SIPWIRE_EREFUSED;
  case ETIMEDOUT:
    return SIPWIRE_ETIMEOUT;
  case ECONNRESET:
  case EPIPE:
    return SIPWIRE_ERESET;
  case EMFILE:
  case ENFILE:
  case ENOBUFS:
  case ENOMEM:
    return SIPWIRE_ENOMEM;
  default:
    return SIPWIRE_EUNREACHABLE;
  }
}
