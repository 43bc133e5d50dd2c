// SPDX-License-Identifier: MIT
// A WebSocket server on npm's ws, for specs that want another implementation
// as the peer.  It ends when its stdin does.
//
//   node server.mjs ['{"host": "127.0.0.1", "ws": {…}, "tls": {…}}']
//     ws   options for WebSocketServer   tls   options for https, where cert,
//     key and ca are file names; without it there is no wss port
//
// First line on stdout: {"event":"ready","ws":PORT,"wss":PORT|null}.  Then one
// line for each thing it saw; "id" counts connections:
//   open {path, headers, secure, client_cert, tls}   close {code, reason}
//   message {binary, size, sha256}   ping {data}   pong {data}
//   error {message}   refused {path, status}   client_error {message}
//
// A text message is a command if its first word is one of these; every other
// message is echoed with its opcode.
//   CLOSE [code [reason]]   TERMINATE (RST)   FIN (of TCP, nothing before it)
//   TEXT n   BINARY n   messages of n bytes: a..z again and again; 0..255
//   FRAGMENT n parts        as TEXT, in so many frames
//   MANY count n            so many TEXT n
//   PING [data]   PONG [data]
//   PAUSE ms                reads nothing meanwhile
//
// Paths: /refuse?status=n  /redirect  /hang (no answer)  /basic and
// /digest?algorithm=SHA-256&qop=auth (alice, "secret")  /noproto (101 without
// a subprotocol)  /proto?name=x  /sink (echoes nothing)  /mute (answers no
// ping)  /greet?n=3 (so many messages "hello 1" … behind the 101)

import { createHash, randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { createRequire } from "node:module";

const modules = process.env.SIPWIRE_NODE_MODULES;
const require = createRequire(modules ? `${modules}/x.js` : import.meta.url);
const { WebSocketServer } = require("ws");

const options = JSON.parse(process.argv[2] ?? "{}");
const host = options.host ?? "127.0.0.1";
const user = "alice";
const password = "secret";
let count = 0;

function report(event, fields = {}) {
  process.stdout.write(JSON.stringify({ event, ...fields }) + "\n");
}

function hash(algorithm, data) {
  return createHash(algorithm).update(data).digest("hex");
}

// ---- what is decided before the upgrade -----------------------------------

function refuse(socket, request, status, headers = []) {
  const reason = http.STATUS_CODES[status] ?? "As Asked";
  const lines = [`HTTP/1.1 ${status} ${reason}`, ...headers,
    "Content-Length: 7", "Connection: close"];
  socket.end(lines.join("\r\n") + "\r\n\r\nrefused");
  report("refused", { path: request.url, status,
    headers: request.headers });
}

function isBasic(request) {
  const wanted = Buffer.from(`${user}:${password}`).toString("base64");
  return request.headers.authorization === `Basic ${wanted}`;
}

const nonces = new Set();

function challenge(url) {
  const nonce = randomBytes(12).toString("hex");
  nonces.add(nonce);
  const parts = [`realm="spec, \\"quoted\\""`, `nonce="${nonce}"`,
    `opaque="opaque"`];
  for (const name of ["algorithm", "qop"]) {
    const value = url.searchParams.get(name);
    if (value) parts.push(`${name}=${name === "qop" ? `"${value}"` : value}`);
  }
  return `WWW-Authenticate: Digest ${parts.join(", ")}`;
}

function digestFields(header) {
  const fields = {};
  for (const m of header.matchAll(/(\w+)=(?:"((?:\\.|[^"])*)"|([^\s,]+))/g)) {
    fields[m[1].toLowerCase()] = m[3] ?? m[2].replace(/\\(.)/g, "$1");
  }
  return fields;
}

function isDigest(request, url) {
  const header = request.headers.authorization ?? "";
  if (!header.startsWith("Digest ")) return false;
  const f = digestFields(header.slice(7));
  const algorithm = url.searchParams.get("algorithm") ?? "MD5";
  if ((f.algorithm ?? "MD5") !== algorithm) return false;
  if (!nonces.delete(f.nonce) || f.opaque !== "opaque") return false;
  if (f.uri !== request.url || f.username !== user) return false;
  const name = algorithm === "MD5" ? "md5" : "sha256";
  const a1 = hash(name, `${user}:spec, "quoted":${password}`);
  const a2 = hash(name, `GET:${f.uri}`);
  const qop = url.searchParams.get("qop");
  const middle = qop ? `${f.nonce}:${f.nc}:${f.cnonce}:${f.qop}` : f.nonce;
  if (qop && (f.qop !== "auth" || !/^[0-9a-f]{8}$/i.test(f.nc) || !f.cnonce)) {
    return false;
  }
  return f.response === hash(name, `${a1}:${middle}:${a2}`);
}

// True if the request was answered here, or is never to be.
function isDenied(request, socket, url) {
  switch (url.pathname) {
    case "/refuse":
      refuse(socket, request, Number(url.searchParams.get("status") ?? 403));
      return true;
    case "/redirect":
      refuse(socket, request, 302, ["Location: ws://localhost/elsewhere"]);
      return true;
    case "/hang":
      report("refused", { path: request.url, status: 0 });
      return true;
    case "/basic":
      if (isBasic(request)) return false;
      refuse(socket, request, 401, [`WWW-Authenticate: Basic realm="spec"`]);
      return true;
    case "/digest":
      if (isDigest(request, url)) return false;
      refuse(socket, request, 401, [challenge(url)]);
      return true;
  }
  return false;
}

function subprotocol(offered, request) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname === "/noproto") return false;
  if (url.pathname === "/proto") return url.searchParams.get("name");
  return offered.has("sip") ? "sip" : false;
}

// ---- connections -----------------------------------------------------------

const letters = Buffer.from("abcdefghijklmnopqrstuvwxyz");
const bytes = Buffer.from(Uint8Array.from({ length: 256 }, (_, i) => i));

function sendParts(ws, payload, parts) {
  const size = Math.ceil(payload.length / parts) || 1;
  for (let i = 0; i < parts; i++) {
    const piece = payload.subarray(i * size, (i + 1) * size);
    ws.send(piece, { binary: false, fin: i === parts - 1 });
  }
}

const commands = {
  CLOSE: (ws, [code, ...reason]) =>
    code ? ws.close(Number(code), reason.join(" ")) : ws.close(),
  TERMINATE: ({ _socket: socket }) => {
    const parent = socket._parent ?? socket;
    let told = false;
    socket.once("close", () => { told = true; });
    parent.once("close", () => setImmediate(() => {
      if (!told) socket.emit("close"); // of TLS; node 18 forgets it
    }));
    parent.resetAndDestroy();
  },
  FIN: (ws) => ws._socket.end(),
  TEXT: (ws, [n]) => ws.send(Buffer.alloc(Number(n), letters),
    { binary: false }),
  BINARY: (ws, [n]) => ws.send(Buffer.alloc(Number(n), bytes),
    { binary: true }),
  FRAGMENT: (ws, [n, parts]) =>
    sendParts(ws, Buffer.alloc(Number(n), letters), Number(parts)),
  MANY: (ws, [times, n]) => {
    for (let i = 0; i < Number(times); i++) commands.TEXT(ws, [n]);
  },
  PING: (ws, words) => ws.ping(words.join(" ")),
  PONG: (ws, words) => ws.pong(words.join(" ")),
  PAUSE: (ws, [ms]) => {
    ws.pause();
    setTimeout(() => ws.resume(), Number(ms));
  },
};

function onMessage(ws, path, data, binary) {
  const [word, ...words] = binary ? [] : data.toString().split(" ");
  if (Object.hasOwn(commands, word)) return commands[word](ws, words);
  if (path !== "/sink") ws.send(data, { binary });
}

function watch(ws, request, url) {
  const id = ++count;
  const socket = request.socket;
  report("open", { id, path: request.url, headers: request.headers,
    secure: Boolean(socket.encrypted),
    tls: socket.getProtocol?.(), server_name: socket.servername || undefined,
    client_cert: socket.getPeerCertificate?.()?.subject?.CN });
  ws.on("message", (data, binary) => {
    report("message", { id, binary, size: data.length,
      sha256: hash("sha256", data) });
    onMessage(ws, url.pathname, data, binary);
  });
  ws.on("ping", (data) => report("ping", { id, data: data.toString() }));
  ws.on("pong", (data) => report("pong", { id, data: data.toString() }));
  ws.on("error", (error) => report("error", { id, message: error.message }));
  ws.on("close", (code, reason) =>
    report("close", { id, code, reason: reason.toString() }));
  if (url.pathname === "/greet") {
    const n = Number(url.searchParams.get("n") ?? 1);
    for (let i = 1; i <= n; i++) ws.send(`hello ${i}`);
  }
}

// ---- servers ---------------------------------------------------------------

function upgrader(server) {
  const common = { noServer: true, handleProtocols: subprotocol,
    clientTracking: false, ...options.ws };
  const answering = new WebSocketServer(common);
  const mute = new WebSocketServer({ ...common, autoPong: false });
  server.on("upgrade", (request, socket, head) => {
    const url = new URL(request.url, "http://localhost");
    socket.on("error", () => {});
    if (isDenied(request, socket, url)) return;
    const wss = url.pathname === "/mute" ? mute : answering;
    wss.handleUpgrade(request, socket, head,
      (ws) => watch(ws, request, url));
  });
  server.on("tlsClientError", (error) =>
    report("client_error", { message: error.message, code: error.code }));
}

function listen(server) {
  upgrader(server);
  return new Promise((resolve, reject) => {
    server.on("error", reject);
    server.listen(0, host, () => resolve(server.address().port));
  });
}

function secureServer() {
  const tls = { ...options.tls };
  for (const name of ["cert", "key", "ca"]) {
    if (tls[name]) tls[name] = readFileSync(tls[name]);
  }
  return https.createServer(tls);
}

const ws = await listen(http.createServer());
const wss = options.tls ? await listen(secureServer()) : null;
process.stdin.on("end", () => process.exit(0));
process.stdin.resume();
report("ready", { ws, wss });
