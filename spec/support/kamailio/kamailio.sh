#!/bin/bash
# SPDX-License-Identifier: MIT
# A private Kamailio on loopback for specs and benches; runs as any user.
#
#   kamailio.sh start DIR [DEFINE|NAME=VALUE ...]   returns when it is ready
#   kamailio.sh stop DIR                            returns when all is gone
#   kamailio.sh run DIR [DEFINE|NAME=VALUE ...]     until stdin ends or SIGTERM
#   kamailio.sh rpc DIR METHOD [ARG ...]            e.g. ws.dump
#
# DIR (short: a unix socket lives in it) is made if need be.  "start" and
# "run" print one line when ready, with certs=, the directory of certs.sh:
#   ready pid=… ws=… wss=… mtls=… expired=… wrong_host=… sip=… certs=…
# Environment: KAMAILIO_PORT=BASE (six ports from there; default: free ones),
# KAMAILIO_CERTS=DIR (default: DIR/certs), KAMAILIO_SHM=MB (64).
# kamailio.cfg says which defines there are.
set -u

here=$(cd "$(dirname "$0")" && pwd)
PATH=$PATH:/usr/sbin:/sbin
ports=6
names=(ws wss mtls expired wrong_host sip)

die() { echo "kamailio.sh: $*" >&2; exit 1; }

# hex numbers of all local ports in use, whatever the protocol and state
ports_in_use() {
  cat /proc/net/{tcp,tcp6,udp,udp6} 2>/dev/null |
    awk '{ split($2, part, ":"); print part[2] }'
}

free_base() { # below the range that the kernel gives to clients
  local used base port ok
  used=" $(ports_in_use | tr '\n' ' ') "
  while :; do
    base=$((12000 + RANDOM % 19000)) ok=1
    for ((port = base; port < base + ports; port++)); do
      [[ $used == *" $(printf %04X "$port") "* ]] && ok=0
    done
    [ $ok = 1 ] && { echo "$base"; return; }
  done
}

profile() { # PORT CERTIFICATE [yes]: the last asks for a client certificate
  local ask=${3:-no}
  cat <<TLS
[server:127.0.0.1:$1]
method = TLSv1.2+
certificate = $certs/$2.pem
private_key = $certs/$2.key
ca_list = $certs/ca.pem
verify_certificate = $ask
require_certificate = $ask
TLS
}

write_tls() { # BASE
  profile $(($1 + 1)) server | sed 's/^\[.*/[server:default]/'
  profile $(($1 + 2)) server yes
  profile $(($1 + 3)) expired
  profile $(($1 + 4)) wrong-host
  echo '[client:default]'
}

# Members of process group $1 that are not zombies: an init that never reaps
# must not look like a Kamailio that never ends.
group_alive() {
  cat /proc/[0-9]*/stat 2>/dev/null | sed 's/^.*) //' |
    awk -v group="$1" '$3 == group && $1 !~ /[ZX]/ { found = 1 }
      END { exit !found }'
}

is_ready() { # BASE RUN_ID: is it ours, and does it speak HTTP?
  local answer
  exec 8<>"/dev/tcp/127.0.0.1/$1" || return 1
  printf 'GET /ready HTTP/1.1\r\nHost: localhost\r\n%s\r\n\r\n' \
    'Content-Length: 0' >&8
  answer=$(timeout 1 cat <&8)
  exec 8>&-
  [[ $answer == *"$2"* ]]
} 2>/dev/null

launch() { # BASE DEFINES...: sets pid
  local base=$1 run_id i arg=()
  shift
  run_id="run-$$-$RANDOM$RANDOM"
  write_tls "$base" >"$dir/tls.cfg"
  for i in "${!names[@]}"; do
    arg+=(-A "PORT_$(tr a-z A-Z <<<"${names[i]}")=$((base + i))")
  done
  arg+=(-A "TLS_FILE=\"$dir/tls.cfg\"" -A "CONTROL=\"unix:$dir/control\"")
  arg+=(-A "RUN_ID=\"$run_id\"")
  grep -q ' lo$' /proc/net/if_inet6 2>/dev/null && arg+=(-A IPV6)
  for i in "$@"; do arg+=(-A "$i"); done
  rm -f "$dir/control"
  "${session[@]}" kamailio -f "$here/kamailio.cfg" -DD -E -M 8 \
    -m "${KAMAILIO_SHM:-64}" -Y "$dir" -w "$dir" "${arg[@]}" \
    </dev/null >"$dir/log" 2>&1 8>&- &
  pid=$!
  for ((i = 0; i < 500; i++)); do
    kill -0 "$pid" 2>/dev/null || return 1
    is_ready "$base" "$run_id" && return 0
    sleep 0.02
  done
  return 1
}

begin() { # DEFINES...
  local base attempt i line
  mkdir -p "$dir" && dir=$(cd "$dir" && pwd) || exit 1
  [ ${#dir} -le 90 ] || die "$dir: too long for a unix socket"
  certs=${KAMAILIO_CERTS:-$dir/certs}
  "$here/../certs.sh" "$certs" || die "no certificates"
  certs=$(cd "$certs" && pwd)
  for attempt in 1 2 3 4 5; do
    base=${KAMAILIO_PORT:-$(free_base)}
    if launch "$base" "$@"; then
      echo "$pid" >"$dir/pid"
      line="ready pid=$pid"
      for i in "${!names[@]}"; do line+=" ${names[i]}=$((base + i))"; done
      echo "$line certs=$certs"
      return
    fi
    finish "$pid"
    grep -q 'Address already in use' "$dir/log" || break
  done
  tail -n 20 "$dir/log" >&2
  die "Kamailio did not become ready"
}

finish() { # PID
  local i
  kill -TERM "$1" 2>/dev/null
  for ((i = 0; i < 500; i++)); do
    group_alive "$1" || { rm -f "$dir/pid"; return 0; }
    sleep 0.02
  done
  kill -KILL -- "-$1"
  die "Kamailio $1 had to be killed"
}

[ $# -ge 2 ] || die "usage: kamailio.sh start|stop|run|rpc DIR ..."
command=$1 dir=$2
shift 2
session=(setsid)
case $command in
start)
  begin "$@"
  disown "$pid"
  ;;
stop)
  [ -f "$dir/pid" ] || exit 0
  finish "$(cat "$dir/pid")"
  ;;
run)
  # Kamailio goes with this shell, even if that is killed hard.
  session=(setsid setpriv --pdeathsig TERM --)
  pid=
  trap 'trap "" TERM; [ -z "$pid" ] || finish "$pid"; exit 0' TERM INT HUP
  begin "$@"
  while kill -0 "$pid" 2>/dev/null; do
    read -r -t 1 _
    [ $? -gt 128 ] || break
  done
  kill -0 "$pid" 2>/dev/null || { tail -n 20 "$dir/log" >&2; die "it died"; }
  finish "$pid"
  ;;
rpc)
  exec kamcmd -s "unix:$dir/control" "$@"
  ;;
*)
  die "unknown command $command"
  ;;
esac
