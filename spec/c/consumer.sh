#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Installs a build into a new folder and uses it as others would: by pkg-config
# and CMake, shared and static, and from Lua; then once more after moving it.
#   spec/c/consumer.sh BUILD_DIR CC CMAKE
set -u
build=$1 cc=$2 cmake=$3
passed=0 failed=0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# try WHAT COMMAND...
try() {
  local what=$1 output
  shift
  if output=$("$@" 2>&1); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    printf 'consumer: %s: failed\n%s\n' "$what" "$output"
  fi
}

mkdir "$work/src"
cat >"$work/src/main.c" <<'END'
#include <sipwire.h>
#include <stdio.h>
int main(void) {
  struct sipwire_loop *loop;
  int error = sipwire_loop_new(NULL, &loop);
  if (error || sipwire_loop_alive(loop) || sipwire_loop_step(loop, 0))
    return 1;
  sipwire_loop_free(loop);
  return puts(sipwire_error_name(SIPWIRE_EUTF8)) < 0;
}
END
cat >"$work/src/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(consumer C)
find_package(sipwire 0.1 REQUIRED)
foreach(kind sipwire static)
  add_executable(${kind} main.c)
  target_link_libraries(${kind} PRIVATE sipwire::${kind})
endforeach()
END

# run PROGRAM [SHARED]: it works, and needs libsipwire.so only if SHARED
run() {
  readelf -d "$1" | grep -q 'libsipwire\.so\.0' && found=shared || found=static
  [ "$found" = "$2" ] || { echo "$1 is linked $found"; return 1; }
  [ "$(LD_LIBRARY_PATH=$libdir "$1")" = utf8 ]
}

by_pkg_config() {
  local out=$work/by-pkg-config kind=$1 flags
  export PKG_CONFIG_PATH=$libdir/pkgconfig
  if [ "$kind" = static ]; then
    flags="-Wl,-Bstatic -lsipwire -Wl,-Bdynamic $(pkg-config --static --libs \
      sipwire | sed 's/-lsipwire//')"
    flags="$(pkg-config --libs-only-L sipwire) $flags"
  else
    flags=$(pkg-config --libs sipwire)
    case $flags in *uv* | *ssl*) echo "too much: $flags"; return 1 ;; esac
  fi
  # shellcheck disable=SC2046,SC2086
  "$cc" -std=c11 "$work/src/main.c" -o "$out" \
    $(pkg-config --cflags sipwire) $flags && run "$out" "$kind"
}

by_cmake() {
  local out=$work/by-cmake
  rm -rf "$out"
  "$cmake" -G Ninja -S "$work/src" -B "$out" -DCMAKE_C_COMPILER="$cc" \
    -DCMAKE_PREFIX_PATH="$prefix" && "$cmake" --build "$out" &&
    run "$out/sipwire" shared && run "$out/static" static
}

from_lua() { # from_lua LUA X.Y
  env -u LUA_INIT LUA_PATH="$prefix/share/lua/$2/?.lua" \
    LUA_CPATH="$libdir/lua/$2/?.so" "$1" -e 'assert(require "sipwire".new)'
}

no_old_name() {
  ! grep -rIl -e "$work/first" -e "$build" "$prefix"
}

use() {
  libdir=$(dirname "$(find "$prefix" -name pkgconfig)")
  try "shared by pkg-config ($1)" by_pkg_config shared
  try "static by pkg-config ($1)" by_pkg_config static
  try "both by CMake ($1)" by_cmake
  local lua version
  for lua in "$build"/lua/*; do
    lua=${lua##*/} version=${lua#lua}
    [ "$lua" = luajit ] && version=5.1
    command -v "$lua" >/dev/null || continue
    try "$lua ($1)" from_lua "$lua" "$version"
  done
  try "no path of the build is in text files ($1)" no_old_name
}

prefix=$work/first
try install "$cmake" --install "$build" --prefix "$prefix"
use installed
mv "$prefix" "$work/second"
prefix=$work/second
use moved

echo "consumer: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
