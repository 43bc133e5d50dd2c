#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/bench/run.sh [--json] [--rounds N] [WORKLOAD...]
# Installs and builds what the bench needs, and runs it: about 10 minutes, on
# two cores that should have nothing else to do. WORKLOAD: a part of a
# workload's name, such as "wss". Ends with 1 if a bar is missed.
set -eu
cd "$(dirname "$0")/../.."
build=build/release
spec/support/install.sh bench >&2
cmake --preset release '-DSIPWIRE_LUA=lua5.4;luajit' >/dev/null
cmake --build --preset release >/dev/null
mkdir -p "$build/bench"
for program in echo_server client_raw; do
  gcc -O2 -o "$build/bench/$program" "spec/bench/$program.c" -lssl -lcrypto
done
spec/support/certs.sh build/certs >&2
ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)"
exec lua5.4 spec/bench/bench.lua "$build" build/certs "$@"
