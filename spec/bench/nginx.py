#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""usage: spec/bench/nginx.py [BUILD]

sipwire inside an nginx worker, by nginx's own events and by a thread, beside
a cosocket that reads lines in the same worker: how long a message needs to a Lua
callback, what an idle link costs, and how much longer other requests take while
10,000 messages a second come in.  BUILD (build/release) has the modules,
build/nginx-lua is made by install.sh.  About 40 s; ends with 1 if the default
way misses a bar."""

import base64, hashlib, http.client, os, pathlib, shutil, socket, statistics
import subprocess, sys, tempfile, threading, time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build/release")
NGINX = pathlib.Path(os.environ.get("SIPWIRE_NGINX_LUA",
                                    ROOT / "build/nginx-lua/usr"))
EVENTS, RATE, ROUNDS, IDLE = 1500, 10000, 5, 3
BARS = {"latency": 1.5, "idle": 0.1, "load": 2.0}

CONF = """
daemon off; worker_processes 1; pid %(dir)s/pid; error_log stderr error;
load_module %(nginx)s/lib/nginx/modules/ndk_http_module.so;
load_module %(nginx)s/lib/nginx/modules/ngx_http_lua_module.so;
%(user)s
events { }
http {
  access_log off; keepalive_requests 1000000;
  client_body_temp_path %(dir)s; proxy_temp_path %(dir)s;
  fastcgi_temp_path %(dir)s; uwsgi_temp_path %(dir)s; scgi_temp_path %(dir)s;
  lua_package_path "%(root)s/lua/?.lua;%(nginx)s/share/lua/5.1/?.lua;;";
  lua_package_cpath "%(build)s/lua/lua5.1/?.so;;";
  init_by_lua_block {
    require "sipwire.nginx".native = %(native)s
    local ffi = require "ffi"
    ffi.cdef "typedef struct { long s, n; } moment; int clock_gettime(int, moment *);"
    local at = ffi.new "moment"
    function now()
      ffi.C.clock_gettime(1, at)
      return tonumber(at.s) * 1e9 + tonumber(at.n)
    end
    by_sipwire, by_cosocket, counted = {}, {}, 0
  }
  server {
    listen 127.0.0.1:%(port)d;
    location /start { content_by_lua_block {
      local t = require "sipwire".new { server = "ws://127.0.0.1:%(peer)d" }
      t.on_message = function(_, text)
        if #text == 20 then
          by_sipwire[#by_sipwire + 1] = (now() - tonumber(text)) / 1e3
        else
          counted = counted + 1
        end
      end
      t:connect()
      ngx.timer.at(0, function()
        local socket = ngx.socket.tcp()
        assert(socket:connect("127.0.0.1", %(peer)d))
        socket:settimeout(600000)
        socket:send "lines"
        while true do
          local text = socket:receive()
          if not text then return end
          by_cosocket[#by_cosocket + 1] = (now() - tonumber(text)) / 1e3
        end
      end)
    } }
    location /latency { content_by_lua_block {
      for _, list in ipairs { by_sipwire, by_cosocket } do
        table.sort(list)
        ngx.say(#list, " ", list[math.ceil(#list / 2)], " ",
          list[math.ceil(#list * 0.99)])
      end
    } }
    location /quick { content_by_lua_block { ngx.print "quick" } }
    location /counted { content_by_lua_block { ngx.print(counted) } }
  }
}
"""


def frame(text):
    size = len(text)
    head = bytes([0x81, size]) if size < 126 else b"\x81\x7e" + size.to_bytes(2, "big")
    return head + text


def upgrade(c):
    head = b""
    while b"\r\n\r\n" not in head:
        head += c.recv(4096)
    key = next(line.split(b":", 1)[1].strip() for line in head.split(b"\r\n")
               if line.lower().startswith(b"sec-websocket-key:"))
    accept = base64.b64encode(hashlib.sha1(
        key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
              b"Connection: Upgrade\r\nSec-WebSocket-Protocol: sip\r\n"
              b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")


def accept_both(listener):
    """The link of sipwire and the cosocket, in whatever order they come."""
    link = lines = None
    while not (link and lines):
        c, _ = listener.accept()
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if c.recv(1, socket.MSG_PEEK) == b"G":
            upgrade(c)
            link = c
        else:
            lines = c
    return link, lines


class Worker:
    def __init__(self, native):
        self.dir = tempfile.mkdtemp(prefix="sipwire-bench-")
        os.chmod(self.dir, 0o755)
        listener = socket.create_server(("127.0.0.1", 0))
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        conf = os.path.join(self.dir, "nginx.conf")
        with open(conf, "w") as f:
            f.write(CONF % {
                "dir": self.dir, "nginx": NGINX, "root": ROOT, "port": self.port,
                "build": BUILD.resolve(), "native": "true" if native else "false",
                "user": "user nobody nogroup;" if os.getuid() == 0 else "",
                "peer": listener.getsockname()[1]})
        self.master = subprocess.Popen(
            ["/usr/sbin/nginx", "-p", self.dir, "-c", conf, "-e", "stderr"],
            env={**os.environ,
                 "LD_LIBRARY_PATH": str(NGINX / "lib/x86_64-linux-gnu")})
        self.get("/start", tries=100)
        self.link, self.lines = accept_both(listener)
        children = f"/proc/{self.master.pid}/task/{self.master.pid}/children"
        self.tasks = f"/proc/{open(children).read().split()[0]}/task"

    def get(self, path, tries=1):
        while True:
            try:
                c = http.client.HTTPConnection("127.0.0.1", self.port)
                c.request("GET", path)
                return c.getresponse().read().decode()
            except ConnectionRefusedError:
                tries -= 1
                if tries <= 0:
                    raise
                time.sleep(0.05)

    def sum(self, file, pick):
        return sum(pick(open(f"{self.tasks}/{task}/{file}").read())
                   for task in os.listdir(self.tasks))

    def cpu_ns(self):
        return self.sum("schedstat", lambda text: int(text.split()[0]))

    def switches(self):
        return self.sum("status", lambda text: int(
            text.split("voluntary_ctxt_switches:")[1].split()[0]))

    def stop(self):
        self.master.terminate()
        self.master.wait()
        shutil.rmtree(self.dir)


def latency(worker):
    for i in range(EVENTS):
        both = (worker.link, worker.lines)
        for c in both if i % 2 else both[::-1]:
            time.sleep(0.002)
            stamp = b"%020d" % time.clock_gettime_ns(time.CLOCK_MONOTONIC)
            c.sendall(frame(stamp) if c is worker.link else stamp + b"\n")
    time.sleep(0.1)
    return [[float(word) for word in line.split()]
            for line in worker.get("/latency").splitlines()]


def idle(worker):
    time.sleep(0.5)
    cpu, switches = worker.cpu_ns(), worker.switches()
    time.sleep(IDLE)
    return ((worker.cpu_ns() - cpu) / (IDLE * 1e9) * 100,
            (worker.switches() - switches) / IDLE)


def requests_p99(worker, seconds):
    c = http.client.HTTPConnection("127.0.0.1", worker.port)
    times, end = [], time.monotonic() + seconds
    while time.monotonic() < end:
        begin = time.monotonic()
        c.request("GET", "/quick")
        c.getresponse().read()
        times.append(time.monotonic() - begin)
        time.sleep(0.002)
    c.close()
    return sorted(times)[int(len(times) * 0.99)] * 1e6


def flood(link, stop, sent):
    """RATE messages a second of 500 bytes, every 2 ms as many as are due."""
    one, begin = frame(b"x" * 500), time.monotonic()
    while not stop.is_set():
        due = int((time.monotonic() - begin) * RATE) - sent[0]
        link.sendall(one * due)
        sent[0] += due
        time.sleep(0.002)


def load(worker):
    quiet, busy = [], []
    before, sent_all, seconds = int(worker.get("/counted")), 0, 0
    cpu = 0
    for _ in range(ROUNDS):
        quiet.append(requests_p99(worker, 1))
        stop, sent = threading.Event(), [0]
        sender = threading.Thread(target=flood, args=(worker.link, stop, sent))
        begin, cpu_begin = time.monotonic(), worker.cpu_ns()
        sender.start()
        busy.append(requests_p99(worker, 1))
        stop.set()
        sender.join()
        seconds += time.monotonic() - begin
        cpu += worker.cpu_ns() - cpu_begin
        sent_all += sent[0]
    time.sleep(0.3)
    arrived = int(worker.get("/counted")) - before
    ratio = statistics.median(b / q for b, q in zip(busy, quiet))
    return (ratio, statistics.median(quiet), statistics.median(busy),
            arrived, sent_all, arrived / seconds, cpu / 1e7 / seconds)


def measure(native):
    worker = Worker(native)
    try:
        (count, ours, ours_p99), (_, theirs, theirs_p99) = latency(worker)
        cpu, switches = idle(worker)
        ratio, quiet, busy, arrived, sent, rate, share = load(worker)
    finally:
        worker.stop()
    print("by nginx's events (the default)" if native else "by a thread")
    print(f"  message to callback   {ours:.0f} us, p99 {ours_p99:.0f};  cosocket "
          f"{theirs:.0f}, p99 {theirs_p99:.0f}  ({count:.0f} each)   "
          f"ratio {ours / theirs:.2f}, bar {BARS['latency']}")
    print(f"  idle                  {cpu:.4f} % CPU, {switches:.1f} wake-ups/s   "
          f"bar {BARS['idle']} %")
    print(f"  {rate:.0f} messages/s     {arrived} of {sent} arrived, "
          f"{share:.0f} % CPU; others' p99 {quiet:.0f} -> {busy:.0f} us   "
          f"ratio {ratio:.2f}, bar {BARS['load']}", flush=True)
    return (ours / theirs <= BARS["latency"] and cpu < BARS["idle"] and
            ratio <= BARS["load"] and arrived == sent)


def main():
    default = measure(True)
    measure(False)
    sys.exit(0 if default else 1)


main()
