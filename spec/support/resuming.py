#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Secure WebSocket servers that tell whether a TLS session was resumed.

usage: resuming.py CERTIFICATE KEY

Writes JSON, one object a line: {"ports": {"1.2": [port, port], "1.3": [...]}}
of 127.0.0.1, then for each connection {"version":, "reused":, "name": SNI}.
The ports of one version know the same sessions.  What becomes of a connection
is the request's path: /rst and /fin end it when a frame comes, else the
client's close frame is answered.  A line on stdin makes the servers forget
all sessions ({"forgot": true}).
"""

import base64
import hashlib
import json
import re
import socket
import ssl
import struct
import sys
import threading

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}

lock = threading.Lock()
contexts = {}


def say(**words):
    with lock:
        print(json.dumps(words), flush=True)


def renew():
    for name, version in VERSIONS.items():
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
        context.minimum_version = context.maximum_version = version
        context.sni_callback = note_name
        contexts[name] = context


names = {}


def note_name(tls, name, _):
    names[tls] = name


def upgrade(tls):
    head = b""
    while b"\r\n\r\n" not in head:
        data = tls.recv(4096)
        if not data:
            return b""
        head += data
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head).group(1)
    accept = base64.b64encode(hashlib.sha1(key + GUID).digest())
    tls.sendall(b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade"
                b"\r\nSec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: " +
                accept + b"\r\n\r\n")
    return head.split(b" ")[1]


def serve(sock, version):
    try:
        sock = tls = contexts[version].wrap_socket(sock, server_side=True)
        say(version=tls.version(), reused=tls.session_reused,
            name=names.pop(tls, None))
        path = upgrade(tls)
        if not path or not tls.recv(4096):
            return
        if path == b"/rst":
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                           struct.pack("ii", 1, 0))
        elif path != b"/fin":
            tls.sendall(b"\x88\x02\x03\xe8")
    except OSError:
        pass
    finally:
        sock.close()


def listen(version):
    server = socket.create_server(("127.0.0.1", 0))

    def accept():
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(sock, version),
                             daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()[1]


renew()
say(ports={name: [listen(name), listen(name)] for name in VERSIONS})
for line in sys.stdin:
    renew()
    say(forgot=True)
