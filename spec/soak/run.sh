#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# usage: spec/soak/run.sh [MINUTES [CONNECTIONS [SEED]]]     (1, 100, a new one)
#        spec/soak/run.sh faulty [COUNT [SEED]]                        (100000)
#        spec/soak/run.sh calls [USERS [CALLS]]                     (1000 500)
# Connections under random faults, or that all fail, or users that register and
# call each other through a Kamailio; soak.lua, faulty.lua and calls.lua say
# what must hold. MINUTES may be 0.2. LUA is the Lua to use (lua5.4),
# SIPWIRE_BUILD the build (build/release, made if it is not there). On a machine,
# or with a sanitizer, that is n times slower than usual: SIPWIRE_TIME_SCALE=n.
set -eu
cd "$(dirname "$0")/../.."
lua=${LUA:-lua5.4}
build=${SIPWIRE_BUILD:-build/release}
build=${build#"$PWD/"}
name=${lua##* }

if [ ! -e "$build/lua/$name/sipwire/core.so" ]; then
  cmake --preset "${build##*/}" >/dev/null
  cmake --build --preset "${build##*/}" >/dev/null
fi
certs=${SIPWIRE_CERTS:-$PWD/build/certs}
spec/support/certs.sh "$certs"
export LUA="$lua" LUA_PATH="$PWD/lua/?.lua;$PWD/?.lua;;"
export LUA_CPATH="$PWD/$build/lua/$name/?.so;;"
# shellcheck disable=SC2086
if [ "${1-}" = calls ]; then
  kamailio=spec/support/kamailio/kamailio.sh
  dir=$(mktemp -d /tmp/sipwire-XXXXXX)
  trap '$kamailio stop "$dir" >/dev/null; rm -rf "$dir"' EXIT
  port=$(KAMAILIO_CERTS=$certs KAMAILIO_SHM=256 $kamailio start "$dir" |
    sed 's/.* ws=\([0-9]*\).*/\1/')
  $lua spec/soak/calls.lua "$port" "${@:2}"
elif [ "${1-}" = faulty ]; then
  exec $lua spec/soak/faulty.lua "$certs" "${@:2}"
else
  exec $lua spec/soak/soak.lua "${1:-1}" "${2:-100}" "${3:-$RANDOM}" "$certs"
fi
