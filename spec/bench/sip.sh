#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/bench/sip.sh [BUILD]           (build/release)
# Microseconds for parsing a REGISTER and its 200 and reading their fields, with
# sipwire.sip, SIP.js and JsSIP in turn, the best of 3 rounds; one minute. Ends
# with 1 if a bar is missed.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:-build/release}
[ -e spec/bench/node/node_modules/jssip ] || spec/support/install.sh bench >&2

for _ in 1 2 3; do
  for lua in lua5.4 luajit; do
    LUA_PATH="lua/?.lua;./?.lua;;" LUA_CPATH="$build/lua/$lua/?.so;;" \
      "$lua" spec/bench/sip.lua 20000 | sed "s/^/$lua /"
  done
  for message in REGISTER 200; do
    for who in sipjs jssip; do
      time=$(LUA_PATH="./?.lua;;" lua5.4 -e \
        "io.write(require 'spec.bench.sip_messages'['$message'])" |
        node spec/bench/node/parse.mjs "$who" 2000)
      echo "$who all $message $time"
    done
  done
done | awk '
  {
    row = $1 " " $2 " " $3
    if (!(row in best)) rows[++count] = row
    if (!(row in best) || $4 < best[row]) best[row] = $4
  }
  END {
    bar["lua5.4 all"] = 12
    bar["luajit flow"] = 3
    for (i = 1; i <= count; i++) {
      split(rows[i], part, " ")
      what = part[1] " " part[2]
      verdict = what in bar ? "<= " bar[what] : ""
      if (what in bar && best[rows[i]] > bar[what]) {
        verdict = verdict " MISSED"
        missed = 1
      }
      printf "%-8s %-6s %-9s %8.2f us  %s\n", part[1], part[2], part[3],
        best[rows[i]], verdict
    }
    exit missed
  }'
