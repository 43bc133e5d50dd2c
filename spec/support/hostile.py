#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""A server that does to its clients what no server should.

usage: hostile.py CERTIFICATE KEY

Reads commands from stdin, one a line, and ends when stdin does:
  listen ID ws|wss NAME [ARGUMENT...]   a port of 127.0.0.1 whose first client
      meets the behaviour NAME and whose later ones are served well
  open ID     ends what keeps everybody out of ID's port (refusing, full)
Writes JSON, one object a line:
  {"listening": ID, "port": }
  {"opened": ID}
  {"id": ID, "n": which client, "at": when it was last done something to
   (CLOCK_MONOTONIC), "close": code of the client's close frame (1005: none in
   it; absent: no such frame), "reason":, "end": "fin", "rst", "time", or
   "reset here", "count": {"text": , "pong": ...} of the client's frames,
   "texts": [...], "pongs": [...] (the first ones, Latin-1), "late": bytes
   behind the close frame, "unmasked": frames, "progress": [[when, bytes sent
   until then], ...], "error": of this program}
"""

import base64
import hashlib
import json
import os
import random
import select
import selectors
import socket
import ssl
import struct
import sys
import threading
import time
import traceback

SCALE = float(os.environ.get("SIPWIRE_TIME_SCALE") or 1)
LIMIT = 20 * SCALE  # seconds without a byte
KEPT = 40  # payloads that are reported
OPCODES = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9,
           "pong": 10}
NAMES = {code: name for name, code in OPCODES.items()}

behaviours = {}


def behaviour(fn):
    """Names its connection first, then what the command's words are."""
    behaviours[fn.__name__] = fn
    return fn


class Gone(Exception):
    """The client has left."""


# ---- Bytes ------------------------------------------------------------------

def frame(opcode, payload=b"", fin=True, rsv=0, mask=None, form=None,
          length=None):
    """A frame, right or wrong; form: 7, 16 or 64 bits of length; length: what
    to announce instead of the truth."""
    opcode = OPCODES.get(opcode, opcode)
    size = len(payload) if length is None else length
    form = form or (7 if size < 126 else 16 if size < 65536 else 64)
    bit = 0x80 if mask is not None else 0
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    if form == 7:
        head = struct.pack("!BB", first, bit | size)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    return head + mask + unmask(payload, mask)


def unmask(payload, mask):
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    number = int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")
    return number.to_bytes(size, "big")


def goodbye(code, reason=b""):
    return frame("close", struct.pack("!H", code) + reason)


def answer(request, replace=None, extra=(), status="101 Switching Protocols"):
    """The head of a 101; replace: lines instead of the one of that name."""
    key = request.get("sec-websocket-key", "").encode()
    magic = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
    accept = base64.b64encode(hashlib.sha1(key + magic).digest()).decode()
    lines = {"Upgrade": "websocket", "Connection": "Upgrade",
             "Sec-WebSocket-Accept": accept, "Sec-WebSocket-Protocol": "sip"}
    text = ["HTTP/1.1 " + status]
    for name, value in lines.items():
        if replace and name in replace:
            text += [f"{name}: {other.replace('%s', accept)}"
                     for other in replace[name]]
        else:
            text.append(f"{name}: {value}")
    return "\r\n".join(text + list(extra) + ["", ""]).encode("latin-1")


# ---- One connection ---------------------------------------------------------

class Connection:
    def __init__(self, sock, secure, context):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.secure, self.context = sock, secure, context
        self.poll = select.poll()
        self.bytes = bytearray()  # received, in plain
        self.tls = None           # once it is up
        self.acting = True
        self.deaf = False
        self.open = False         # we said 101
        self.left = False         # we said FIN or RST
        self.sent = 0
        self.report = {"count": {}, "texts": [], "pongs": [], "late": 0,
                       "unmasked": 0, "progress": []}

    # -- the network

    def wait(self, events, limit):
        self.poll.register(self.sock, events)
        return self.poll.poll(limit * 1000)

    def fill(self):
        """Takes what is there; notes the end."""
        try:
            data = self.sock.recv(262144)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.report["end"] = "rst"
            return
        if not data:
            self.report["end"] = "fin"
        elif self.secure and self.incoming:
            self.incoming.write(data)
            self.decrypt()
        else:
            self.bytes += data

    incoming = None

    def decrypt(self):
        try:
            while self.tls:
                data = self.tls.read(262144)
                if not data:
                    break
                self.bytes += data
        except ssl.SSLError:  # for more, or the client's close_notify
            pass

    def ended(self):
        return self.report.get("end")

    def receive(self, limit=LIMIT):
        """Waits for some bytes; a client that says nothing is an end, too."""
        if not self.ended() and not self.wait(select.POLLIN, limit):
            self.report["end"] = "time"
        if not self.ended():
            self.fill()

    def write(self, data):
        """To the kernel; reads meanwhile, unless deaf, as a client may want
        its answers read."""
        view = memoryview(data)
        events = select.POLLOUT | (0 if self.deaf else select.POLLIN)
        while view:
            if self.ended():
                raise Gone
            if not self.wait(events, LIMIT):
                raise Gone
            if not self.deaf:
                self.fill()
            try:
                n = self.sock.send(view[:65536])
            except (BlockingIOError, InterruptedError):
                continue
            except OSError:
                self.report["end"] = "rst"
                raise Gone from None
            self.sent += n
            view = view[n:]
            self.note_progress()
        if self.acting:
            self.report["at"] = time.monotonic()

    def note_progress(self):
        now, progress = time.monotonic(), self.report["progress"]
        if not progress or now > progress[-1][0] + 0.01:
            progress.append([now, self.sent])

    def handshake(self):
        self.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.outgoing = outgoing
        tls = self.context.wrap_bio(self.incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.write(outgoing.read())
                self.receive()
                if self.ended():
                    raise Gone from None
        self.write(outgoing.read())
        self.tls = tls
        self.decrypt()

    def start(self):
        if self.secure:
            self.handshake()

    def send(self, data):
        if not self.tls:
            return self.write(data)
        for at in range(0, len(data), 65536):
            self.tls.write(data[at:at + 65536])
            self.write(self.outgoing.read())

    def fin(self, notify=True):
        if self.tls and notify:
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass
            self.write(self.outgoing.read())
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self.left = True
        if self.acting:
            self.report["at"] = time.monotonic()

    def rst(self):
        linger = struct.pack("ii", 1, 0)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()
        self.left = True
        self.report["end"] = "reset here"
        self.report["at"] = time.monotonic()

    def leave(self, how):
        getattr(self, how)()

    # -- HTTP

    def head(self):
        """The request's headers, names in lower case."""
        while b"\r\n\r\n" not in self.bytes:
            self.receive()
            if self.ended():
                raise Gone
        head, rest = bytes(self.bytes).split(b"\r\n\r\n", 1)
        self.bytes = bytearray(rest)
        lines = head.decode("latin-1").split("\r\n")[1:]
        return {name.lower(): value.strip() for name, _, value in
                (line.partition(":") for line in lines)}

    def request(self):
        self.start()
        return self.head()

    def upgrade(self, after=b"", **how):
        request = self.request()
        self.open = True
        self.send(answer(request, **how) + after)

    # -- frames

    def next_frame(self):
        """opcode, payload of the client's next frame, or None."""
        data = self.bytes
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < 2 + width:
                return None
            size, at = int.from_bytes(data[2:2 + width], "big"), 2 + width
        mask = b"\0\0\0\0"
        if data[1] & 0x80:
            mask, at = bytes(data[at:at + 4]), at + 4
        else:
            self.report["unmasked"] += 1
        if len(data) < at + size:
            return None
        opcode, payload = data[0] & 0xF, unmask(data[at:at + size], mask)
        del data[:at + size]
        self.note(opcode, payload)
        return opcode, payload

    def note(self, opcode, payload):
        report, name = self.report, NAMES.get(opcode, str(opcode))
        report["count"][name] = report["count"].get(name, 0) + 1
        if name == "close":
            code = struct.unpack("!H", payload[:2])[0] if payload else 1005
            report["close"] = code
            report["reason"] = payload[2:].decode("latin-1")
        kept = {"text": "texts", "pong": "pongs"}.get(name)
        if kept and len(report[kept]) < KEPT:
            report[kept].append(payload[:200].decode("latin-1"))

    def frames(self):
        """All until the close frame or the end; it comes once."""
        while self.open and "close" not in self.report:
            found = self.next_frame()
            if found:
                yield found
            elif self.ended():
                return
            else:
                self.receive()

    def rest(self):
        """Behind the close frame nothing may come but the end."""
        while not self.ended():
            self.receive()
        if "close" in self.report:
            self.report["late"] = len(self.bytes)

    def drain(self):
        """To be called last by who expects the client to leave."""
        self.acting = False
        for _ in self.frames():
            pass
        self.rest()

    def part(self):
        """The same, but a close frame of the client's ends it: we were the
        first to send one, or want none to be answered."""
        self.acting = False
        for _ in self.frames():
            pass
        if not self.left and not self.ended():
            self.fin()
        self.rest()

    def serve(self):
        """What a server should do."""
        self.acting = False
        for opcode, payload in self.frames():
            if opcode == OPCODES["close"]:
                self.send(frame("close", payload))
                self.fin()
            elif opcode == OPCODES["ping"]:
                self.send(frame("pong", payload))
            elif opcode < 8:
                self.send(frame(opcode, payload))
        self.rest()


# ---- Behaviours: before there is an upgrade ---------------------------------

@behaviour
def good(c):
    c.upgrade()
    c.serve()


@behaviour
def refusing(c):
    """Nobody listens."""


@behaviour
def full(c):
    """Nobody accepts, and there is no room to wait in: SYNs are dropped."""


@behaviour
def silent(c, stage):
    if stage == "request":
        c.request()
    elif stage == "tls":
        c.start()
    elif stage == "hello":
        some_hello(c)
    c.drain()


def some_hello(c):
    """A part of what should answer the ClientHello."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = c.context.wrap_bio(incoming, outgoing, server_side=True)
    while not outgoing.pending:
        c.receive()
        incoming.write(bytes(c.bytes))
        c.bytes.clear()
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
    c.write(outgoing.read()[:60])


@behaviour
def plain(c, how="answer"):
    """No TLS, whatever the URL says."""
    c.receive()
    if how == "answer":
        c.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    elif how == "garbage":
        c.write(random.Random(1).randbytes(300))
    elif how == "alert":
        c.write(b"\x15\x03\x03\x00\x02\x02\x28")
    c.drain()


@behaviour
def secure(c):
    """TLS, whatever the URL says: OpenSSL's alert for what is no hello."""
    c.incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = c.context.wrap_bio(c.incoming, outgoing, server_side=True)
    c.receive()
    c.incoming.write(bytes(c.bytes))
    try:
        tls.do_handshake()
    except ssl.SSLError:
        pass
    c.incoming = None
    # what OpenSSL does not send to those that speak HTTP
    c.write(outgoing.read() or b"\x15\x03\x01\x00\x02\x02\x46")
    c.drain()


@behaviour
def dripping(c, seconds):
    """The right answer, a byte at a time."""
    for byte in answer(c.request()):
        c.send(bytes([byte]))
        if c.wait(select.POLLIN, float(seconds) * SCALE):
            break
    c.drain()


@behaviour
def garbage(c, what):
    c.request()
    c.send({
        "zeros": bytes(1000), "ssh": b"SSH-2.0-OpenSSH_9.2\r\n",
        "smtp": b"220 mail.example ESMTP\r\n", "html": b"<html></html>\r\n\r\n",
        "frame": frame("text", b"hello"), "spaces": b" " * 100,
        "random": random.Random(2).randbytes(5000), "lines": b"\r\n" * 100,
        "sip": b"SIP/2.0 200 OK\r\n\r\n", "http2": b"HTTP/2 101\r\n\r\n",
    }[what])
    c.drain()


@behaviour
def status(c, code, end="open"):
    """No upgrade, with a body; and hangs up or does not."""
    c.request()
    body = f"<p>{code}</p>\n" * 20
    c.send((f"HTTP/1.1 {code} Because\r\nContent-Type: text/html\r\n"
            f"Content-Length: {len(body)}\r\nX-Seen: {code}\r\n"
            f"Location: http://127.0.0.1:1/{code}\r\n"
            f"WWW-Authenticate: Basic realm=\"here\"\r\n"
            f"Retry-After: 1\r\n\r\n{body}").encode())
    if end != "open":
        c.leave(end)
    c.drain()


HEADERS = {
    "accept": "Sec-WebSocket-Accept", "upgrade": "Upgrade",
    "connection": "Connection", "protocol": "Sec-WebSocket-Protocol",
}


@behaviour
def answering(c, header, *values):
    """An upgrade with these instead of the right header, "%s" being the right
    Accept; no value: none."""
    values = [value.replace("+", " ") for value in values]
    c.upgrade(replace={HEADERS[header]: values})
    c.serve()


@behaviour
def extension(c, value):
    c.upgrade(extra=["Sec-WebSocket-Extensions: " + value])
    c.drain()


@behaviour
def extras(c, what):
    """A right answer that says more than needed."""
    c.upgrade(extra={
        "length": ["Content-Length: 0"], "folding": ["X:", "Y:  \t "],
        "many": [f"X-{i}: {'x' * 100}" for i in range(100)],
        "kamailio": ["Sia: SIP/2.0/TCP 127.0.0.1:5060",
                     "Server: kamailio", "Content-Length: 0"],
        "chunked": ["Transfer-Encoding: chunked", "Connection: keep-alive",
                    "Date: Thu, 01 Jan 1970 00:00:00 GMT", "Set-Cookie: a=b"],
    }[what])
    c.serve()


@behaviour
def interim(c):
    request = c.request()
    c.open = True
    c.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nA: b\r\n\r\n" +
           answer(request))
    c.serve()


@behaviour
def bundled(c, *parts):
    """Frames in the segment of the 101."""
    frames = {"message": frame("text", b"INVITE"), "close": goodbye(1001),
              "ping": frame("ping", b"early"),
              "masked": frame("text", b"x", mask=b"\1\2\3\4")}
    c.upgrade(after=b"".join(frames[part] for part in parts))
    if "close" in parts:
        c.part()
    elif "masked" in parts:
        c.drain()
    else:
        c.serve()


@behaviour
def leaving(c, stage, how):
    """FIN or RST, before the upgrade is done."""
    if stage == "hello":
        c.receive()
    elif stage == "half-hello":
        some_hello(c)
    elif stage == "tls":
        c.start()
    elif stage != "accept":
        text = answer(c.request())
        c.send({"request": b"", "status": text[:12], "headers": text[:60],
                "last": text[:-1],
                "interim": b"HTTP/1.1 100 Continue\r\n\r\n"}[stage])
    c.leave(how)
    c.drain()


# ---- Behaviours: once it is open --------------------------------------------

@behaviour
def cut(c, where, how):
    """FIN or RST, possibly in the middle of something."""
    c.upgrade()
    c.send({
        "open": b"", "header": b"\x81", "length": b"\x81\x7e\x01",
        "payload": frame("text", b"half", length=100),
        "fragment": frame("text", b"one", fin=False),
        "close": b"\x88\x02\x03", "message": frame("text", b"whole"),
        "ping": frame("ping", b"half", length=100),
    }[where])
    if how == "bare":
        c.fin(notify=False)
    else:
        c.leave(how)
    c.drain()


@behaviour
def closing(c, code, reason=""):
    """A close frame; |reason| is hexadecimal."""
    c.upgrade(goodbye(int(code), bytes.fromhex(reason)))
    c.part()


@behaviour
def closing_wrongly(c, code, reason=""):
    c.upgrade()
    c.send(goodbye(int(code), bytes.fromhex(reason)) + frame("ping", b"more"))
    c.drain()


@behaviour
def closing_with(c, payload=""):
    c.upgrade()
    c.send(frame("close", bytes.fromhex(payload)))
    if payload:
        c.drain()
    else:
        c.part()


@behaviour
def mute(c):
    """No close frame is answered; nor is anything else."""
    c.upgrade()
    c.drain()


@behaviour
def breaking(c, rule, *words):
    """A frame that breaks a rule, and what a client that has not noticed
    would answer."""
    c.upgrade()
    bait = frame("ping", b"bait") + frame("text", b"bait") + goodbye(1000)
    c.send(broken[rule](*words) + bait)
    c.drain()


begun = frame("text", b"a", fin=False)
broken = {
    "masked": lambda opcode: frame(opcode, struct.pack("!H", 1000),
                                   mask=b"\1\2\3\4"),
    "zero-masked": lambda opcode: frame(opcode, b"", mask=b"\0\0\0\0"),
    "rsv": lambda opcode, bits: frame(opcode, struct.pack("!H", 1000),
                                      rsv=int(bits)),
    "rsv-continued": lambda bits: begun + frame(0, b"b", rsv=int(bits)),
    "opcode": lambda opcode: frame(int(opcode), b"what"),
    "opcode-inside": lambda opcode: begun + frame(int(opcode), b"what"),
    "length": lambda form, size: frame("text", b"x" * int(size),
                                       form=int(form)),
    "announced": lambda size: frame("binary", b"x" * 1000, form=64,
                                    length=int(size)),
    "announced-later": lambda size: begun + frame(0, b"x" * 1000, form=64,
                                                  length=int(size)),
    "long": lambda opcode: frame(opcode, b"\x03\xe8" + b"x" * 124),
    "long-announced": lambda opcode, form: frame(opcode, b"\x03\xe8",
                                                 form=int(form), length=2000),
    "control-form": lambda opcode: frame(opcode, b"\x03\xe8", form=16),
    "control-cut": lambda opcode: frame(opcode, b"\x03\xe8", fin=False),
    "continued-nothing": lambda: frame(0, b"x"),
    "continued-after": lambda: begun + frame(0, b"b") + frame(0, b"c"),
    "begun-twice": lambda opcode: begun + frame(opcode, b"b"),
}


@behaviour
def text(c, hexes, how, at="0"):
    """Text that is not UTF-8.  frame: as it is; fragments: cut before byte
    |at|, a ping between; bytes: cut there by the network; early: much of the
    frame is still to come."""
    c.upgrade()
    data, at = bytes.fromhex(hexes), int(at)
    if how == "frame":
        c.send(frame("text", data))
    elif how == "early":
        c.send(frame("text", data, length=60000))
    elif how == "fragments":
        c.send(frame("text", data[:at], fin=False) + frame("pong", b"\xff") +
               frame(0, data[at:]))
    elif how == "bytes":
        whole = frame("text", data)
        c.send(whole[:2 + at])
        c.wait(select.POLLIN, 0.002)
        c.send(whole[2 + at:])
    c.drain()


@behaviour
def interleaving(c):
    """A message in fragments, pings and pongs in between."""
    c.upgrade()
    text = "INVITE \u00e4\U0001f600!".encode()
    for i in range(len(text)):
        c.send(frame("text" if i == 0 else 0, text[i:i + 1], fin=False) +
               frame("ping", b"%d" % i) + frame("pong", b"unasked"))
    c.send(frame(0, b"", fin=True))
    c.serve()


# ---- Behaviours: too much ---------------------------------------------------

def flood(c, chunk, total):
    """|chunk| again and again; the client may leave."""
    count = max(1, 65536 // len(chunk))
    many = chunk * count
    while total > 0:
        c.send(many[:len(chunk) * min(count, total)])
        total -= count


@behaviour
def endless(c, what):
    """A head that never ends: 2 GB are as good as that."""
    c.request()
    c.send(b"HTTP/1.1 101 Switching Protocols\r\n")
    if what == "line":
        c.send(b"X: ")
    chunk = {"headers": b"X-Header: some value\r\n", "line": b"x" * 1000,
             "interim": b"\r\nHTTP/1.1 102 Processing\r\nA: b\r\n"}[what]
    if what == "interim":
        c.send(b"A: b\r\n")
        chunk = b"\r\nHTTP/1.1 102 Processing\r\nA: b\r\n"
    flood(c, chunk, 2 ** 31 // len(chunk))
    c.drain()


@behaviour
def hints(c):
    """Interim responses without end, where an answer is awaited."""
    c.request()
    chunk = b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\n"
    flood(c, chunk, 2 ** 31 // len(chunk))
    c.drain()


@behaviour
def pinging(c, count):
    c.upgrade()
    flood(c, frame("ping", b"p" * 20), int(count))
    c.send(frame("text", b"last"))
    c.serve()


@behaviour
def pinging_deaf(c):
    """Asks and asks, and reads no answer."""
    c.upgrade()
    c.deaf = True
    chunk = frame("ping", b"p" * 125)
    flood(c, chunk, 2 ** 31 // len(chunk))


@behaviour
def fragmenting(c, count):
    """A message of two bytes, and much nothing in between."""
    c.upgrade()
    c.send(frame("text", b"a", fin=False))
    flood(c, frame(0, b"", fin=False), int(count))
    c.send(frame(0, b"b"))
    c.serve()


@behaviour
def flooding(c, count, size):
    """Numbered messages; the client's close frame is awaited."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    c.upgrade()
    body = b"x" * (int(size) - 8)
    for i in range(int(count)):
        c.send(frame("text", b"%08d" % i + body))
    c.serve()


@behaviour
def announcing(c, size, how):
    """A message announced, the begin of it sent, and that is all."""
    c.upgrade()
    c.send(frame("binary", b"x" * 65536, form=64, length=int(size)))
    c.leave(how)
    c.drain()


@behaviour
def deaf(c):
    """Reads nothing any more, and stays."""
    c.upgrade()
    c.deaf = True
    while not c.ended():  # the client's end is all that can be seen
        if c.wait(0, 0.05):
            c.report["end"] = "rst"
        elif c.wait(select.POLLRDHUP, 0.05):
            c.report["end"] = "fin"


# ---- The server -------------------------------------------------------------

output = threading.Lock()


def tell(report):
    with output:
        sys.stdout.write(json.dumps(report) + "\n")
        sys.stdout.flush()


class Listener:
    def __init__(self, name, scheme, words, context):
        self.name, self.scheme, self.words = name, scheme, words
        self.context, self.accepted, self.fillers = context, 0, {}
        if words[0] not in behaviours:
            raise ValueError("no behaviour " + words[0])
        self.sock = socket.socket()
        self.sock.bind(("127.0.0.1", 0))
        if words[0] == "full":
            self.fill()
        elif words[0] != "refusing":
            self.open()

    def open(self):
        self.sock.listen(128)
        self.sock.setblocking(False)
        selector.register(self.sock, selectors.EVENT_READ, self.accept)

    def fill(self):
        self.sock.listen(0)
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self.sock.getsockname())
            self.fillers[filler.getsockname()[1]] = filler

    def reopen(self):
        """The first client got what it should."""
        self.accepted += 1
        for filler in self.fillers.values():
            filler.close()
        self.open()

    def accept(self):
        try:
            sock, _ = self.sock.accept()
        except OSError:
            return
        if sock.getpeername()[1] in self.fillers:
            return sock.close()
        self.accepted += 1
        threading.Thread(target=self.run, args=(sock, self.accepted),
                         daemon=True).start()

    def run(self, sock, number):
        c = Connection(sock, self.scheme == "wss", self.context)
        words = self.words if number == 1 else ["good"]
        try:
            behaviours[words[0]](c, *words[1:])
        except Gone:  # in the middle of what we said; its last words count
            c.report.setdefault("end", "time")
            c.drain()
        except Exception:
            c.report["error"] = traceback.format_exc()
        c.report.update(id=self.name, n=number)
        sock.close()
        tell(c.report)


selector = selectors.DefaultSelector()
listeners = {}


def command(line, context):
    words = line.split()
    if words[0] == "listen":
        listener = Listener(words[1], words[2], words[3:], context)
        listeners[words[1]] = listener
        tell({"listening": words[1], "port": listener.sock.getsockname()[1]})
    elif words[0] == "open":
        listeners[words[1]].reopen()
        tell({"opened": words[1]})


def main(certificate, key):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    rest = b""
    selector.register(0, selectors.EVENT_READ)
    while True:
        for entry, _ in selector.select():
            if entry.data:
                entry.data()
                continue
            data = os.read(0, 65536)
            if not data:
                os._exit(0)  # threads may be in the middle of something
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                command(line.decode(), context)


main(*sys.argv[1:])
