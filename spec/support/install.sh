#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs what sipwire needs on Debian 12, and only what is missing.
#   spec/support/install.sh build   what README's first steps need, one Lua
#   spec/support/install.sh test    everything that spec/run.sh needs
#   spec/support/install.sh bench   what spec/bench/run.sh needs
set -eu
here=$(cd "$(dirname "$0")" && pwd)

# "a|b": either will do; a is what gets installed.
build=(gcc libc6-dev cmake ninja-build pkg-config\|pkgconf libuv1-dev libssl-dev
  lua5.4 liblua5.4-dev)
test=("${build[@]}" lua5.1 liblua5.1-0-dev lua5.3 liblua5.3-dev
  luajit\|luajit2 libluajit-5.1-dev\|libluajit2-5.1-dev
  lua-busted lua-filesystem lua-dkjson
  lua-luv lua-cqueues lua-http lua-copas prosody
  clang libclang-rt-14-dev\|libclang-rt-dev valgrind libc6-dbg binutils
  python3 openssl ca-certificates curl procps
  kamailio kamailio-websocket-modules kamailio-tls-modules sip-tester
  nginx tinyproxy-bin)

bench=("${build[@]}" luajit\|luajit2 libluajit-5.1-dev\|libluajit2-5.1-dev
  lua-luv lua-http lua-dkjson openssl strace)

say() { echo "install: $*"; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo "$@"; fi
}

installed() {
  [ "$(dpkg-query -W -f='${db:Status-Abbrev}' "$1" 2>/dev/null)" = "ii " ]
}

# missing PACKAGE|OTHER... prints the first of each that has none installed
missing() {
  local choice name
  for choice; do
    for name in ${choice//|/ }; do
      installed "$name" && continue 2
    done
    echo "${choice%%|*}"
  done
}

# Debian starts a service as soon as it is installed, unless this file says 101.
policy=/usr/sbin/policy-rc.d
mark='sipwire: no service is started while its tests are being installed'

forbid_services() {
  allow_services # one that was left behind by a killed run
  if [ -x "$policy" ]; then
    local status=0
    "$policy" kamailio start >/dev/null 2>&1 || status=$?
    [ "$status" -eq 101 ] && return
    as_root mv "$policy" "$policy.sipwire"
  fi
  printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" | as_root tee "$policy" >/dev/null
  as_root chmod 755 "$policy"
}

allow_services() {
  if grep -qsF "$mark" "$policy"; then
    as_root rm -f "$policy"
  fi
  if [ -e "$policy.sipwire" ] && [ ! -e "$policy" ]; then
    as_root mv "$policy.sipwire" "$policy"
  fi
}

apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq \
    -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 "$@" </dev/null
}

packages() {
  local names
  mapfile -t names < <(missing "$@")
  if [ ${#names[@]} -eq 0 ]; then
    say "all packages are here"
    return
  fi
  say "apt-get install ${names[*]}"
  log=$(mktemp)
  trap 'allow_services; rm -f "$log"' EXIT
  trap 'exit 1' INT TERM HUP
  forbid_services
  if ! { apt update && apt install --no-install-recommends "${names[@]}"; } \
    >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
  fi
  allow_services
}

# nginx with Lua wants OpenResty's LuaJIT, which cannot be installed beside
# Debian's: its packages are only unpacked, into build/nginx-lua.
nginx_lua() {
  local folder=$here/../../build/nginx-lua names=(libnginx-mod-http-lua
    libnginx-mod-http-ndk lua-resty-core lua-resty-lrucache libluajit2-5.1-2)
  if [ -e "$folder/complete" ]; then
    say "nginx-lua is here"
    return
  fi
  say "unpacking ${names[*]}"
  rm -rf "$folder" && mkdir -p "$folder/packages"
  (
    cd "$folder/packages"
    apt-get -qq download "${names[@]}" 2>"$folder/log" || {
      apt update && apt-get -qq download "${names[@]}"
    }
    for package in *.deb; do dpkg -x "$package" "$folder"; done
  )
  rm -r "$folder/packages"
  touch "$folder/complete"
}

# node_peers FOLDER
node_peers() {
  cd "$here/../$1"
  if cmp -s package-lock.json node_modules/.sipwire-lock; then
    say "node peers are here"
    return
  fi
  say "npm ci in spec/$1"
  npm ci --loglevel=error --no-audit --no-fund --ignore-scripts </dev/null
  cp package-lock.json node_modules/.sipwire-lock
}

# need_node LIST adds node's packages to it, unless node is here from elsewhere.
need_node() {
  local -n list=$1
  command -v node >/dev/null || list+=(nodejs)
  command -v npm >/dev/null || list+=(npm)
}

case ${1-} in
build)
  packages "${build[@]}"
  ;;
test)
  need_node test
  packages "${test[@]}"
  nginx_lua
  node_peers support/node
  ;;
bench)
  need_node bench
  packages "${bench[@]}"
  node_peers bench/node
  ;;
*)
  sed -n 's/^#  /usage:/p' "$0" >&2
  exit 2
  ;;
esac
say "done"
