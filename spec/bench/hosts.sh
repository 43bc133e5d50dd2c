#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/bench/hosts.sh [ROUNDS [LUA...]]
# What it costs to run in somebody else's loop: medians of the time from send()
# to the answer's callback, one message of 500 bytes on its way, in sipwire's
# own loop (none), luv's and cqueues', in turn, round by round, and medians of
# the ratios to sipwire's own within a round. About 20 seconds. Ends with 1 if a ratio's
# median is above 1.5. $SIPWIRE_BUILD: a build folder instead of build/release.
set -eu
cd "$(dirname "$0")/../.."
rounds=${1:-7}
shift || true
luas=("$@")
[ ${#luas[@]} -eq 0 ] && luas=(lua5.4 luajit)
if [ -z "${SIPWIRE_BUILD-}" ]; then
  SIPWIRE_BUILD=build/release
  cmake --preset release '-DSIPWIRE_LUA=lua5.4;luajit' >/dev/null
  cmake --build --preset release >/dev/null
fi
mkdir -p "$SIPWIRE_BUILD/bench"
gcc -O2 -o "$SIPWIRE_BUILD/bench/echo_server" spec/bench/echo_server.c \
  -lssl -lcrypto
exec lua5.4 spec/bench/hosts.lua "$SIPWIRE_BUILD" "$rounds" "${luas[@]}"
