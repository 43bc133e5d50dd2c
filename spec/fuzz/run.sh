#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a fuzzer on the inputs kept in spec/fuzz/corpus/SUBJECT: 200000 times
# ($SIPWIRE_FUZZ_RUNS), or for as long as is said, and then what it finds on
# the way stays in BUILD_DIR/spec/corpus/SUBJECT for the next time.  An input
# that fails is written to BUILD_DIR/spec/SUBJECT-crash-...
#   spec/fuzz/run.sh BUILD_DIR/spec/fuzz_SUBJECT [SECONDS [OPTION...]]
set -eu
program=$1
seconds=${2:-}
here=$(cd "$(dirname "$0")" && pwd)
subject=${program##*/fuzz_}
kept=$here/corpus/$subject
found=$(dirname "$program")/corpus/$subject
longest=320
[ "$subject" = session ] && longest=128 # they have to be many
options=(-timeout=10 -rss_limit_mb=2048 -max_len="$longest" -entropic=0
  -print_final_stats=1 -verbosity=0
  -artifact_prefix="$(dirname "$program")/$subject-")
[ -e "$here/$subject.dict" ] && options+=(-dict="$here/$subject.dict")
if [ -n "$seconds" ]; then
  shift 2
  options+=(-max_total_time="$seconds" "$@")
else
  found=$found.test # so that each such run is like the others
  rm -rf "$found"
  options+=(-seed=1 -runs="${SIPWIRE_FUZZ_RUNS:-200000}")
fi
mkdir -p "$found"
# Memory that was freed long ago is no more worth keeping than its traces.
export ASAN_OPTIONS=${ASAN_OPTIONS:-quarantine_size_mb=4:malloc_context_size=4}
exec "$program" "${options[@]}" "$found" "$kept"
