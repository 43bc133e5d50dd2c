#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/bench/sip.sh [BUILD]           (build/release)
# Microseconds for parsing a REGISTER and its 200 and reading their fields, with
# sipwire.sip, SIP.js and JsSIP, in one run of half a minute. Ends with 1 if a
# bar is missed.
set -eu
cd "$(dirname "$0")/../.."
build=${1:-build/release}
[ -e spec/bench/node/node_modules/jssip ] || spec/support/install.sh bench >&2

missed=0
row() { # WHO WHAT MESSAGE TIME [BAR]
  local verdict=
  if [ -n "${5-}" ]; then
    verdict="<= $5"
    awk "BEGIN { exit !($4 > $5) }" && verdict="$verdict MISSED" && missed=1
  fi
  printf '%-8s %-6s %-9s %8.2f us  %s\n' "$1" "$2" "$3" "$4" "$verdict"
}

for lua in lua5.4 luajit; do
  while read -r what message time; do
    bar=
    [ "$lua $what" = "lua5.4 all" ] && bar=12
    [ "$lua $what" = "luajit flow" ] && bar=3
    row "$lua" "$what" "$message" "$time" "$bar"
  done < <(LUA_PATH="lua/?.lua;./?.lua;;" LUA_CPATH="$build/lua/$lua/?.so;;" \
    "$lua" spec/bench/sip.lua 20000)
done
for message in REGISTER 200; do
  for who in sipjs jssip; do
    time=$(LUA_PATH="./?.lua;;" lua5.4 -e \
      "io.write(require 'spec.bench.sip_messages'['$message'])" |
      node spec/bench/node/parse.mjs "$who" 2000)
    row "$who" all "$message" "$time"
  done
done
exit "$missed"
