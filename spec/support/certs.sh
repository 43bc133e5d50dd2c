#!/bin/sh
# SPDX-License-Identifier: MIT
# usage: certs.sh DIR
#
# Makes the test PKI in DIR, once: a second run finds it complete and does
# nothing; several at the same time wait for each other.  All keys are P-256.
# NAME.pem is a certificate, NAME.key its key.
#
#   ca            trusted root              capath/   the same as a hashed dir
#   server        localhost, 127.0.0.1, ::1, example.test
#   wildcard      *.example.test            cn-only   localhost as CN, no SAN
#   expired       since 2021                future    valid from 2090 on
#   wrong-host    other.test                wrong-ip  127.0.0.9, ::9, and names:
#                                           localhost, "127.0.0.1"
#   wrong-usage   clientAuth only           self-signed
#   other-ca      a root nobody trusts      other     server names, from it
#   inter         server names, from intermediate.pem; inter-chain.pem holds
#                 leaf and intermediate, inter.pem the leaf alone
#   client        alice, clientAuth         client-encrypted.key: the same key,
#                 password "secret"         client-other: alice, from other-ca
set -eu

dir=${1:?usage: certs.sh DIR}
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
stamp=$(cksum <"$0")

complete() {
  [ "$(cat "$dir/.complete" 2>/dev/null)" = "$stamp" ] &&
    openssl x509 -in "$dir/server.pem" -noout -checkend 86400 >/dev/null
}

complete && exit 0
exec 9>"$dir/.lock"
flock 9
complete && exit 0
rm -f "$dir/.complete"
cd "$dir"
umask 077

names='DNS:localhost,IP:127.0.0.1,IP:::1,DNS:example.test'
serial=4096
log=$dir/.log
: >"$log"
trap 'status=$?; [ $status = 0 ] || cat "$log" >&2; exit $status' EXIT

# request NAME COMMON_NAME: a new key and a signing request for it
request() {
  openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
    -keyout "$1.key" -subj "/CN=$2" -out "$1.csr" 2>>"$log"
}

# "openssl ca" is the one tool here that lets dates be chosen.
# sign NAME ISSUER EXTENSIONS FROM TO
sign() {
  serial=$((serial + 1))
  : >index.txt
  echo "unique_subject = no" >index.txt.attr
  printf '%x\n' "$serial" >serial.txt
  cat >ca.cnf <<CNF
[ca]
default_ca = test
[test]
database = index.txt
serial = serial.txt
new_certs_dir = .
default_md = sha256
policy = any
[any]
commonName = supplied
[ext]
$3
CNF
  issuer="-cert $2.pem"
  [ "$1" != "$2" ] || issuer=-selfsign
  # shellcheck disable=SC2086
  openssl ca -batch -config ca.cnf -in "$1.csr" -out "$1.pem" -notext \
    $issuer -keyfile "$2.key" -extensions ext \
    -startdate "$4" -enddate "$5" 2>>"$log"
}

since=20200101000000Z
until=20891231235959Z

authority='basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash'

# leaf USAGE [SAN]
leaf() {
  echo 'basicConstraints = critical, CA:FALSE'
  echo 'keyUsage = critical, digitalSignature'
  echo "extendedKeyUsage = $1"
  [ $# -lt 2 ] || echo "subjectAltName = $2"
}

# certificate NAME COMMON_NAME ISSUER EXTENSIONS [FROM TO]; an issuer of the
# same name: self-signed
certificate() {
  request "$1" "$2"
  sign "$1" "$3" "$4" "${5:-$since}" "${6:-$until}"
}

certificate ca 'sipwire test CA' ca "$authority"
certificate other-ca 'sipwire stranger CA' other-ca "$authority"
certificate intermediate 'sipwire test intermediate' ca "$authority"

certificate server localhost ca "$(leaf serverAuth "$names")"
certificate wildcard '*.example.test' ca \
  "$(leaf serverAuth 'DNS:*.example.test')"
certificate cn-only localhost ca "$(leaf serverAuth)"
certificate expired localhost ca "$(leaf serverAuth "$names")" \
  20200101000000Z 20210101000000Z
certificate future localhost ca "$(leaf serverAuth "$names")" \
  20900101000000Z 20910101000000Z
certificate wrong-host other.test ca "$(leaf serverAuth DNS:other.test)"
certificate wrong-ip localhost ca \
  "$(leaf serverAuth DNS:localhost,DNS:127.0.0.1,IP:127.0.0.9,IP:::9)"
certificate wrong-usage localhost ca "$(leaf clientAuth "$names")"
certificate other localhost other-ca "$(leaf serverAuth "$names")"
certificate inter localhost intermediate "$(leaf serverAuth "$names")"
cat inter.pem intermediate.pem >inter-chain.pem

certificate self-signed localhost self-signed "$(leaf serverAuth "$names")"

certificate client alice ca "$(leaf clientAuth URI:sip:alice@example.test)"
certificate client-other alice other-ca \
  "$(leaf clientAuth URI:sip:alice@example.test)"
openssl pkcs8 -topk8 -v2 aes-256-cbc -iter 2048 -in client.key \
  -passout pass:secret -out client-encrypted.key 2>>"$log"

rm -rf capath
mkdir capath
cp ca.pem "capath/$(openssl x509 -in ca.pem -noout -hash).0"

rm -f ./*.csr ca.cnf index.txt* serial.txt* 10*.pem "$log"
printf '%s\n' "$stamp" >.complete
