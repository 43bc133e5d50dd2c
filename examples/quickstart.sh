#!/bin/sh
# SPDX-License-Identifier: MIT
# From a bare Debian 12 to SIP messages on the screen. May be run again.
# test: examples/quickstart.sh
set -eu
unset CDPATH
cd "$(dirname "$0")/.."

say() { printf '\nquickstart: %s\n' "$*"; }

say "installing the Debian packages that are missing"
spec/support/install.sh build

say "building for Lua 5.4 in build/release"
cmake --preset release -DSIPWIRE_LUA=lua5.4
cmake --build --preset release --target sipwire_lua5.4 sipwire_shared embed

say "lua5.4 examples/quickstart.lua"
unset LUA_INIT LUA_INIT_5_4 LUA_PATH_5_4 LUA_CPATH_5_4
LUA_PATH="lua/?.lua;;" LUA_CPATH="build/release/lua/lua5.4/?.so;;" \
  lua5.4 examples/quickstart.lua

say "done; the README tells what else there is"
