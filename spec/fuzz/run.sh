#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs a fuzzer for a while on the inputs kept in spec/fuzz/corpus/SUBJECT;
# what it finds stays in the build folder.
#   spec/fuzz/run.sh BUILD_DIR/spec/fuzz_SUBJECT [SECONDS]
set -eu
program=$1
seconds=${2:-${SIPWIRE_FUZZ_SECONDS:-10}}
here=$(cd "$(dirname "$0")" && pwd)
subject=${program##*/fuzz_}
found=$(dirname "$program")/corpus/$subject
corpora=("$found")
[ -d "$here/corpus/$subject" ] && corpora+=("$here/corpus/$subject")
mkdir -p "$found"
options=(-max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048
  -print_final_stats=1 -verbosity=0 -artifact_prefix="$found/../$subject-")
[ -e "$here/$subject.dict" ] && options+=(-dict="$here/$subject.dict")
exec "$program" "${options[@]}" "${corpora[@]}"
