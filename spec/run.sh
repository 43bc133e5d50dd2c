#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs, builds and tests everything.  All stages, or only those named:
#   spec/run.sh [STAGE...]
# Goes on after a failing stage; logs are in build/log.  What specs can rely
# on in their environment is said at run_specs.
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
logs=$root/build/log
luas=(lua5.1 luajit lua5.3 lua5.4)
workers=2

declare -A about=(
  [install]="what Debian and npm have to bring"
  [build]="presets dev, asan, tsan (gcc), release, fuzz (clang), warnings are errors"
  [layers]="which file may use what"
  [c]="C tests, symbols, use of an installed copy"
  [c-asan]="C tests under ASan, LSan, UBSan"
  [c-tsan]="C tests with threads under ThreadSanitizer"
  [c-valgrind]="C tests under valgrind"
  [fuzz]="200,000 runs of each fuzzer"
  [specs]="specs on each Lua"
  [specs-asan]="specs but #text (#slow: on lua5.4) under ASan, UBSan; LSan but for LuaJIT"
  [specs-valgrind]="specs but #slow, #text on lua5.4 under valgrind"
  [specs-gc]="specs under ASan with a garbage collection at every turn"
  [soak]="connections under faults for a short while, memory of failed ones"
  [bench]="instructions per message"
  [examples]="examples, as their 'test:' line says"
)
all_stages=(install build layers c c-asan c-tsan c-valgrind fuzz specs
  specs-asan specs-valgrind specs-gc soak bench examples)

# ---- Jobs: two at a time or so, judged by how they end and by what they print ----

passed=0 failed=0 # of the current stage
jobs_judge=() jobs_name=() pids=() # by job number
declare -A busy=()                 # slot -> job number

cancel() {
  local slot
  for slot in "${!busy[@]}"; do kill "${pids[${busy[$slot]}]}" 2>/dev/null; done
  exit 130
}
trap cancel INT TERM HUP

log_of() { echo "$logs/$stage${jobs_name[$1]:+.${jobs_name[$1]}}.log"; }

reap() {
  local pid slot
  wait -n -p pid "${pids[@]}" 2>/dev/null
  for slot in "${!busy[@]}"; do
    [ "${pids[${busy[$slot]}]}" = "$pid" ] && unset "busy[$slot]"
  done
}

# job JUDGE NAME SECONDS COMMAND... starts it when a slot is free.
job() {
  local judge=$1 name=$2 limit=$3 number=${#jobs_name[@]} slot=0 log
  shift 3
  while [ ${#busy[@]} -ge "$workers" ]; do reap; done
  while [ -n "${busy[$slot]-}" ]; do slot=$((slot + 1)); done
  jobs_judge+=("$judge") jobs_name+=("$name")
  log=$(log_of "$number")
  rm -f "$log.end"
  (
    begin=$EPOCHSECONDS
    timeout -k 10 "$limit" "$@" </dev/null >"$log" 2>&1 &
    trap 'kill %% 2>/dev/null' TERM
    wait $!
    echo "$? $((EPOCHSECONDS - begin))" >"$log.end"
  ) &
  pids+=($!)
  busy[$slot]=$number
}

# Judges print "PASSED FAILED" for a log.
judge_busted() { # TAP
  awk '/^ok / && !/^ok [0-9]+ - # SKIP/ { p++ } /^not ok / { f++ }
    END { print p + 0, f + 0 }' "$1"
}
judge_ctest() {
  sed -nE 's@.*tests passed, ([0-9]+) tests? failed out of ([0-9]+)@\1 \2@p' "$1" |
    awk '{ p = $2 - $1; f = $1 } END { print p + 0, f + 0 }'
}
judge_program() { [ "$2" -eq 0 ] && echo 1 0 || echo 0 1; }
judge_step() { [ "$2" -eq 0 ] && echo 0 0 || echo 0 1; }

# finish waits for all jobs and judges them.
finish() {
  local number log code time good bad verdict
  while [ ${#busy[@]} -gt 0 ]; do reap; done
  for number in "${!jobs_name[@]}"; do
    log=$(log_of "$number")
    code=137 time=0 # unless it came to its end
    [ -e "$log.end" ] && read -r code time <"$log.end"
    read -r good bad < <("judge_${jobs_judge[$number]}" "$log" "$code")
    verdict=ok
    if [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; then
      bad=1 # it crashed, leaked, or took too long
    elif [ "$good" -eq 0 ] && [ "$bad" -eq 0 ] &&
      [ "${jobs_judge[$number]}" != step ]; then
      bad=1 verdict="FAILED: ran no test"
    fi
    [ "$code" -eq 124 ] && verdict="FAILED: time limit"
    [ "$bad" -gt 0 ] && [ "$verdict" = ok ] && verdict="FAILED (exit $code)"
    passed=$((passed + good)) failed=$((failed + bad))
    printf '   %-24s %6d passed %4d failed %4d s  %s\n' \
      "${jobs_name[$number]:-$stage}" "$good" "$bad" "$time" "$verdict"
    [ "$verdict" = ok ] || show "$log"
  done
  jobs_judge=() jobs_name=() pids=()
}

# show prints a failed job's log without what went well: passed tests of ctest
# and of TAP (but what valgrind said meanwhile), compiler calls.
show() {
  echo "   --- $1"
  grep -vE -e '^ *[0-9]+/[0-9]+ .* Passed ' -e '^ +Start +[0-9]+: ' \
    -e '^\[[0-9]+/[0-9]+\] ' -e '^-- ' -e '^(Could not find|Looked in)' \
    -e '^/?[^ :]+/(test|fuzz)_[a-z0-9_]+$' "$1" | awk '
      function flush(only, i) {
        for (i = 0; i < n; i++) if (held[i] ~ only) print held[i]
        n = 0
      }
      /^ok /                { flush("^==[0-9]+==") ; next }
      /^# .+ @ [0-9]+: /    { flush("") }
                            { held[n++] = $0 }
      END                   { flush("") }
    ' | tail -n 120 | sed 's/^/   | /'
}

need_build() {
  [ -e "build/$1/build.ninja" ] && return
  echo "   build/$1 is missing: run spec/run.sh build"
  return 1
}

# ---- Stages ----------------------------------------------------------------

stage_install() {
  job step "" 900 spec/support/install.sh test
}

# SIPWIRE_LUA is given so that a Lua that was not found is an error.  No Lua is
# run under ThreadSanitizer.
stage_build() {
  local preset
  for preset in dev asan release fuzz; do
    job step "$preset" 600 sh -c \
      'cmake --preset "$1" "$2" && cmake --build --preset "$1" -- -k 0' build "$preset" \
      "-DSIPWIRE_LUA=$(IFS=';' && echo "${luas[*]}")"
  done
  job step tsan 600 sh -c \
    'cmake --preset tsan && cmake --build --preset tsan -- -k 0'
}

stage_layers() {
  job busted "" 60 lua5.4 /usr/bin/busted --run=layers -o TAP
}

stage_c() {
  need_build dev && job ctest "" 600 ctest --preset dev
}

stage_c-asan() {
  need_build asan && job ctest "" 600 ctest --preset asan
}

# It wants memory where it is without much randomness.
stage_c-tsan() {
  local plain=()
  setarch -R true 2>/dev/null && plain=(setarch -R)
  need_build tsan && job ctest "" 300 "${plain[@]}" ctest --preset tsan
}

# Optimised, as some of them try millions of inputs.  Memory that is possibly
# lost is that of ended threads, which libc keeps for the next ones.
stage_c-valgrind() {
  local program
  need_build release || return
  for program in build/release/spec/test_*; do
    [ -x "$program" ] || continue
    job program "${program##*/}" 480 env SIPWIRE_TIME_SCALE=20 \
      SIPWIRE_VALGRIND=1 valgrind -q \
      --leak-check=full --errors-for-leak-kinds=definite,indirect \
      --error-exitcode=99 "$program"
  done
}

stage_fuzz() {
  compgen -G 'spec/fuzz/fuzz_*.c' >/dev/null || return 0
  need_build fuzz && job ctest "" 600 ctest --preset fuzz
}

# some_files PART PARTS prints every PARTS-th spec file.
some_files() {
  printf '%s\n' spec/*_spec.lua spec/regress/*_spec.lua |
    awk -v part="$1" -v parts="$2" 'NR % parts == part'
}

# each_file COMMAND... runs it with each of $FILES as its last argument.
each_file() {
  local file status=0
  for file in $FILES; do
    "$@" "$file" || status=1
  done
  return "$status"
}
export -f each_file

# run_specs NAME SECONDS LUA PRESET [VARIABLE=VALUE...] -- [BUSTED-ARGUMENT...]
# A spec finds in its environment:
#   LUA                  command (maybe several words) that runs a Lua script
#                        with this build's modules
#   LUA_PATH, LUA_CPATH  for it
#   SIPWIRE_BUILD        build folder
#   SIPWIRE_CERTS        where certificates are kept from run to run
#   SIPWIRE_TIME_SCALE   by how much everything is slower than usual
#   SIPWIRE_GC_STRESS    1: collect garbage all the time
run_specs() {
  local name=$1 limit=$2 lua=$3 build=$root/build/$4 variables=() wrapper=()
  local variable command=$3 each=()
  shift 4
  need_build "${build##*/}" || return
  while [ "$1" != -- ]; do variables+=("$1") && shift; done
  shift
  [ "${build##*/}" = asan ] && command="env LD_PRELOAD=$preload $lua"
  [[ $name == *valgrind* ]] && wrapper=("${valgrind[@]}")
  # a full collection takes the longer the more files have been read
  [[ " ${variables[*]} " == *" SIPWIRE_GC_STRESS=1 "* ]] &&
    each=(bash -c 'each_file "$@"' each_file)
  local unset=(-u LD_PRELOAD -u LUA_INIT)
  for variable in LUA_INIT LUA_PATH LUA_CPATH; do
    unset+=(-u "${variable}_5_3" -u "${variable}_5_4")
  done
  # shellcheck disable=SC2086
  job busted "$name" "$limit" env "${unset[@]}" SIPWIRE_BUILD="$build" \
    SIPWIRE_CERTS="$root/build/certs" \
    LUA="$command" LUA_PATH="$root/lua/?.lua;$root/?.lua;;" \
    LUA_CPATH="$build/lua/$lua/?.so;;" "${variables[@]}" \
    "${each[@]}" "${wrapper[@]}" $command /usr/bin/busted -o TAP --verbose "$@"
}

asan_options=strict_string_checks=1:detect_stack_use_after_return=1
valgrind=(valgrind -q --leak-check=full --errors-for-leak-kinds=definite
  --show-leak-kinds=definite --error-exitcode=99 --child-silent-after-fork=yes)

stage_specs() {
  local lua
  for lua in "${luas[@]}"; do
    run_specs "$lua" 600 "$lua" dev --
  done
}

# asan_environment LUA sets $environment and $preload.
asan_environment() {
  local leaks=1 unpreload=$root/build/asan/unpreload.so
  [ "$1" = luajit ] && leaks=0 # its objects are out of LSan's sight
  environment=("ASAN_OPTIONS=$asan_options:detect_leaks=$leaks"
    UBSAN_OPTIONS=print_stacktrace=1)
  preload=$(gcc -print-file-name=libasan.so):$unpreload
  [ "$unpreload" -nt spec/support/unpreload.c ] ||
    gcc -shared -fPIC -o "$unpreload" spec/support/unpreload.c
}

# In these three specs wait more than they compute, and their limits are long.

# The longest first.  What the binding does for Lua 5.3 it does for 5.4.
stage_specs-asan() {
  local lua environment preload leave_out=text workers=3
  for lua in lua5.4 lua5.1 luajit; do
    asan_environment "$lua"
    run_specs "$lua" 800 "$lua" asan "${environment[@]}" SIPWIRE_TIME_SCALE=4 \
      -- --exclude-tags="$leave_out"
    leave_out=text,slow
  done
}

# What is tagged #timing is about moments that so slow a run misses; #text is
# about Lua alone.
stage_specs-valgrind() {
  local part files workers=3
  for part in 0 1 2 3 4 5; do
    mapfile -t files < <(some_files "$part" 6)
    run_specs "valgrind-$part" 900 lua5.4 dev SIPWIRE_TIME_SCALE=20 -- \
      --exclude-tags=slow,timing,text "${files[@]}"
  done
}

stage_specs-gc() {
  local lua part environment preload workers=3
  for lua in lua5.1 lua5.4; do
    asan_environment "$lua"
    for part in 0 1 2; do
      run_specs "$lua-$part" 900 "$lua" asan "${environment[@]}" \
        SIPWIRE_GC_STRESS=1 SIPWIRE_TIME_SCALE=20 \
        FILES="$(some_files "$part" 3)" -- --exclude-tags=slow,timing,text
    done
  done
}

# Memory errors are looked for in the first, growth in the second.
stage_soak() {
  local environment preload
  { need_build asan && need_build release; } || return
  asan_environment lua5.4
  job program asan 120 env "${environment[@]}" SIPWIRE_TIME_SCALE=2 \
    SIPWIRE_BUILD=build/asan LUA="env LD_PRELOAD=$preload lua5.4" \
    spec/soak/run.sh 0.15 40
  job program faulty 120 env LUA=luajit spec/soak/run.sh faulty 12000
  job program calls 60 env LUA=luajit spec/soak/run.sh calls
}

stage_bench() {
  need_build release && job program "" 120 spec/bench/guard.sh build/release
}

# An example says in its first ten lines how it is run to its end,
# "test: COMMAND"; COMMAND sees $LUA and $SIPWIRE_BUILD.
stage_examples() {
  local file command
  need_build dev || return
  for file in examples/*; do
    [ -f "$file" ] || continue
    command=$(sed -nE '1,10s@^(--|/\*|#|//) test: (.*[^ ])( \*/)?$@\2@p' "$file" |
      sed 's@ *\*/$@@')
    [ -n "$command" ] || continue
    job program "${file##*/}" 60 env LUA=lua5.4 SIPWIRE_BUILD=build/dev \
      LUA_PATH="$root/lua/?.lua;;" LUA_CPATH="$root/build/dev/lua/lua5.4/?.so;;" \
      bash -c "$command"
  done
}

# ---- All of it -------------------------------------------------------------

stages=("${@:-}")
[ $# -eq 0 ] && stages=("${all_stages[@]}")
for stage in "${stages[@]}"; do
  if [ -z "${about[$stage]-}" ]; then
    echo "no stage '$stage'; there are: ${all_stages[*]}" >&2
    exit 2
  fi
done

mkdir -p "$logs"
table=() total_passed=0 total_failed=0 begin=$SECONDS
for stage in "${stages[@]}"; do
  echo "== $stage: ${about[$stage]}"
  passed=0 failed=0 start=$SECONDS verdict=ok
  "stage_$stage" || failed=1
  finish
  case $stage in
  install | build) ;;
  fuzz) compgen -G 'spec/fuzz/fuzz_*.c' >/dev/null || verdict="ok (no fuzzer)" ;;
  *)
    if [ $((passed + failed)) -eq 0 ]; then
      failed=1 && echo "   ran no test"
    fi
    ;;
  esac
  [ "$failed" -gt 0 ] && verdict=FAILED
  total_passed=$((total_passed + passed))
  total_failed=$((total_failed + failed))
  line=$(printf '%-16s %6d passed %4d failed %4d s  %s' "$stage" "$passed" \
    "$failed" $((SECONDS - start)) "$verdict")
  echo "== $line"
  table+=("$line")
done

printf '\n'
printf '%s\n' "${table[@]}"
printf 'in %d s\n\n' $((SECONDS - begin))
echo "$total_passed passed, $total_failed failed"
[ "$total_failed" -eq 0 ]
