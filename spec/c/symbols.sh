#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Checks what the built files show to others and want from others.
#   spec/c/symbols.sh BUILD_DIR PURE_OBJECT[;PURE_OBJECT...]
set -u
export LC_ALL=C
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$1
IFS=';' read -ra pure <<<"$2"
passed=0 failed=0

# same WHAT EXPECTED ACTUAL compares two sorted lists, one name a line.
same() {
  local difference
  if difference=$(diff <(echo "$2") <(echo "$3")); then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "symbols: $1 (< expected, > found):"
    echo "$difference" | grep '^[<>]'
  fi
}

# SIPWIRE_API functions, comments taken away
declared() {
  tr '\n' ' ' <"$root/include/sipwire.h" |
    sed 's@/\*[^*]*\*\+\([^/*][^*]*\*\+\)*/@@g' |
    grep -oE 'SIPWIRE_API [^;(]*\(' | grep -oE 'sipwire_[a-z0-9_]+\($' |
    tr -d '(' | sort -u
}

exported() { nm -D --defined-only "$1" | awk '{ print $NF }' | sort; }
defined() { nm -g --defined-only "$@" | awk 'NF == 3 { print $3 }' | sort -u; }
undefined() { nm -u "$@" | awk 'NF == 2 { print $2 }' | sort -u; }
needed() { readelf -d "$1" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p'; }
flags() { readelf -d "$1" | grep -o NODELETE | sort -u; }

shared=$build/libsipwire.so
static=$build/libsipwire.a

[ "$(declared | wc -l)" -gt 30 ] || echo "symbols: cannot read the header"
same "exports of libsipwire.so are the functions of sipwire.h" \
  "$(declared)" "$(exported "$shared")"
same "soname" "libsipwire.so.0" \
  "$(readelf -d "$shared" | sed -n 's/.*(SONAME).*\[\(.*\)\]/\1/p')"
same "libsipwire.so stays loaded" NODELETE "$(flags "$shared")"
same "global names in libsipwire.a begin with sipwire_ or sw_" "" \
  "$(defined "$static" | grep -vE '^(sipwire|sw)_')"
same "the library never ends the process or prints" "" \
  "$(undefined "$static" | grep -xE \
    '_?exit|_Exit|quick_exit|abort|__assert_fail|(__)?v?printf(_chk)?|puts|putchar|perror|stdout|stderr|s?rand(om)?')"

# What C11 gives without asking an operating system.
libc='malloc|calloc|realloc|free|explicit_bzero|(mem|str)[a-z]+|__(mem|str)[a-z]+_chk'
libc+='|inet_pton|(__)?v?snprintf(_chk)?|__ctype_[a-z_]+|isalnum|tolower|toupper'
libc+='|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__isoc[0-9]+_[a-z]+'
same "pure objects want nothing but memory and strings" "" \
  "$(comm -23 <(undefined "${pure[@]}") <(defined "${pure[@]}") |
    grep -vxE "$libc")"

for module in "$build"/lua/*/sipwire/core.so; do
  [ -e "$module" ] || continue
  name=${module#"$build/"}
  same "exports of $name" luaopen_sipwire_core "$(exported "$module")"
  same "$name stays loaded" NODELETE "$(flags "$module")"
  same "$name is linked with no Lua and no libsipwire.so" "" \
    "$(needed "$module" | grep -iE 'lua|sipwire')"
done

echo "symbols: $passed passed, $failed failed"
[ "$failed" -eq 0 ]
