#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A server that lets in whoever answers its Digest challenge (RFC 7616).

usage: digest.py CERTIFICATE KEY

Writes JSON, one object a line: {"ws": port, "wss": port} of 127.0.0.1, then
for each request {"secure":, "target":, "status":, "why": what was wrong with
it, "fields": the answer's}.  The request's query says what to ask for:
algorithm, qop, userhash, stale; all may be left out.  The user is alice.
"""

import base64
import hashlib
import json
import os
import re
import socket
import ssl
import sys
import threading
import urllib.parse
import urllib.request

USER = "alice"
PASSWORD = "op\u00e9n: \"ses\\ame\""
REALM = "sip, \u00fcber \"all\""
HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

lock = threading.Lock()
unused = set()  # nonces


def say(**words):
    with lock:
        print(json.dumps(words), flush=True)


def quote(text):
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


def hasher(wish):
    name = HASHES[wish.get("algorithm", "MD5").replace("-sess", "")]
    return lambda *parts: hashlib.new(
        name, ":".join(parts).encode()).hexdigest()


def expected(wish, method, fields):
    """The response that the right password gives; the realm is hashed as it
    was quoted."""
    h = hasher(wish)
    secret = h(USER, quote(REALM)[1:-1], PASSWORD)
    if wish.get("algorithm", "").endswith("-sess"):
        secret = h(secret, fields["nonce"], fields["cnonce"])
    what = [method, fields["uri"]]
    if wish.get("qop") == "auth-int":
        what.append(h(""))
    if "qop" not in wish:
        return h(secret, fields["nonce"], h(*what))
    return h(secret, fields["nonce"], fields["nc"], fields["cnonce"],
             fields["qop"], h(*what))


def fault(wish, method, target, fields):
    """None, or what is wrong with an answer."""
    user = USER
    if wish.get("userhash"):
        user = hasher(wish)(USER, quote(REALM)[1:-1])
    checks = {
        "username": user, "uri": target, "opaque": "o p,a=q",
        "algorithm": wish.get("algorithm"), "qop": wish.get("qop"),
        "nc": "00000001" if "qop" in wish else None,
        "userhash": wish.get("userhash"),
    }
    for name, value in checks.items():
        if fields.get(name) != value:
            return "%s is %r, not %r" % (name, fields.get(name), value)
    if fields["nonce"] not in unused:
        return "nonce is not fresh"
    unused.remove(fields["nonce"])
    if fields["response"] != expected(wish, method, fields):
        return "response is wrong"
    return None


def challenge(wish):
    nonce = base64.b64encode(os.urandom(18)).decode()
    unused.add(nonce)
    words = ["realm=" + quote(REALM), 'nonce="%s"' % nonce, 'opaque="o p,a=q"']
    for name in ("algorithm", "userhash", "stale"):
        if name in wish:
            words.append("%s=%s" % (name, wish[name]))
    if "qop" in wish:
        words.append('qop="%s"' % wish["qop"])
    return "WWW-Authenticate: Basic realm=\"x\"\r\n" \
        "WWW-Authenticate: Digest " + ", ".join(words) + "\r\n"


def judge(head):
    """The status, what is wrong, the answer's fields, the response."""
    lines = head.decode("latin-1").split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    given = [line[len("Authorization: Digest "):] for line in lines
             if line.startswith("Authorization: Digest ")]
    wish = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(target).query))
    fields, why = {}, "no answer"
    if given:
        fields = urllib.request.parse_keqv_list(
            urllib.request.parse_http_list(given[0]))
        why = fault(wish, method, target, fields)
    if why or "authorization" not in headers:
        return target, 401, why, fields, (
            "HTTP/1.1 401 Unauthorized\r\n" + challenge(wish) +
            "Content-Length: 9\r\nConnection: close\r\n\r\nNot you.\n")
    key = [line[19:] for line in lines
           if line.startswith("Sec-WebSocket-Key: ")][0]
    accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest())
    return target, 101, None, fields, (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n"
        "Sec-WebSocket-Accept: " + accept.decode() + "\r\n\r\n")


def serve(sock, context):
    try:
        if context:
            sock = context.wrap_socket(sock, server_side=True)
        head = b""
        while b"\r\n\r\n" not in head:
            data = sock.recv(4096)
            if not data:
                return
            head += data
        target, status, why, fields, response = judge(head)
        say(secure=bool(context), target=target, status=status, why=why,
            fields=fields)
        sock.sendall(response.encode("utf-8"))
        while status == 101:  # until the client's close frame
            data = sock.recv(4096)
            if not data or data[0] == 0x88:
                sock.sendall(b"\x88\x02\x03\xe8")
                break
    except OSError:
        pass
    finally:
        sock.close()


def listen(context):
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(sock, context),
                             daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]


def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    say(ws=listen(None), wss=listen(context))
    sys.stdin.read()


main()
