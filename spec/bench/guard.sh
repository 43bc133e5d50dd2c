#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/bench/guard.sh [BUILD]           (build/release)
# Counts the instructions that a message of 500 bytes costs, which are the same
# on every machine, and compares them with the limits beside this file.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
out=$(mktemp -d)
server=
trap 'exec 9>&- 8<&-; [ -z "$server" ] || wait "$server"; rm -rf "$out"' EXIT

gcc -O2 -o "$out/echo_server" spec/bench/echo_server.c -lssl -lcrypto
mkfifo "$out/stdin" "$out/stdout"
"$out/echo_server" <"$out/stdin" >"$out/stdout" &
server=$!
exec 9>"$out/stdin" 8<"$out/stdout" # it ends when 9 is closed
read -r -t 10 port <&8
export LUA_PATH="lua/?.lua;;" LUA_CPATH="$build/lua/lua5.4/?.so;;"

# count COMMAND... prints the instructions of a run
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null "$@" 2>&1 >/dev/null |
    sed -n 's/.*Collected : \([0-9]*\)$/\1/p'
}

run() { # NAME COUNT
  case $1 in
  codec_in) count "$build/spec/bench_codec" in "$2" ;;
  codec_out) count "$build/spec/bench_codec" out "$2" ;;
  lua_burst) count lua5.4 spec/bench/client.lua burst "$port" "$2" 500 1 1 ;;
  lua_echo) count lua5.4 spec/bench/client.lua echo "$port" "$2" 500 1 64 ;;
  lua_turn) count lua5.4 spec/bench/client.lua echo "$port" "$2" 500 1 1 ;;
  *) echo "spec/bench/limits: no such count: $1" >&2 && exit 1 ;;
  esac
}

# What 10000 more messages cost: neither start nor end of the program.
status=0
while read -r name limit; do
  case $name in '#'* | '') continue ;; esac
  few=$(run "$name" 10000)
  many=$(run "$name" 20000)
  each=$(((many - few) / 10000))
  verdict=ok
  { [ "$each" -gt 0 ] && [ "$each" -le "$limit" ]; } || verdict=MISSED status=1
  printf '%-10s %6d instructions per message, limit %6d  %s\n' "$name" "$each" \
    "$limit" "$verdict"
done <spec/bench/limits
exit "$status"
