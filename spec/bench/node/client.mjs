// SPDX-License-Identifier: MIT
// The measurements of client.lua with SIP.js's own Transport on node.
//   node client.mjs MODE PORT COUNT SIZE CONNECTIONS WINDOW [CA_FILE]
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import WebSocket from "ws";

const require = createRequire(import.meta.url);
const { Transport } = require("sip.js/lib/platform/web/transport/transport.js");
const { LoggerFactory } = require("sip.js/lib/core/index.js");

const [mode, port, ...rest] = process.argv.slice(2);
const [count, size, connections, window] = rest.slice(0, 4).map(Number);
const ca = rest[4];
const server = `${ca ? "wss" : "ws"}://127.0.0.1:${port}/`;
const message = "x".repeat(size);
const inTurn = mode === "echo" && connections === 1 && window === 1;
const factory = new LoggerFactory();
factory.builtinEnabled = false;
const logger = factory.getLogger("bench");
const times = [];
let sent = 0, received = 0, asked, cpuStart, wallStart;

// SIP.js wants a browser's; this is what it gets on node.
globalThis.WebSocket = ca
  ? class extends WebSocket {
      constructor(url, protocol) { super(url, protocol, { ca: readFileSync(ca) }); }
    }
  : WebSocket;
globalThis.CloseEvent ??= class extends Event {};

const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

const memory = () => {
  globalThis.gc?.();
  return process.memoryUsage.rss() / 1024;
};

function report(values) {
  console.log(JSON.stringify(values));
  process.exit(0);
}

const percentile = (fraction) =>
  times[Math.max(0, Math.ceil(times.length * fraction) - 1)] ?? 0;

function reportMessages() {
  const used = cpu() - cpuStart, wall = performance.now() - wallStart;
  times.sort((a, b) => a - b);
  report({ cpu_us: (used * 1e6) / count, per_second: (count * 1e3) / wall,
           p50_us: percentile(0.5), p99_us: percentile(0.99) });
}

function send(transport) {
  sent++;
  if (inTurn) asked = performance.now();
  transport.send(message);
}

function onMessage(transport) {
  received++;
  if (inTurn) times.push((performance.now() - asked) * 1e3);
  if (received === count) reportMessages();
  else if (sent < count && mode === "echo") send(transport);
}

const create = () => new Transport(logger, { server, connectionTimeout: 60, traceSip: false });

async function open(total) {
  const all = [];
  while (all.length < total) {
    const some = Array.from({ length: Math.min(100, total - all.length) }, create);
    await Promise.all(some.map((transport) => transport.connect()));
    all.push(...some);
  }
  return all;
}

async function measureMessages() {
  const transports = await open(connections);
  for (const transport of transports)
    transport.onMessage = () => onMessage(transport);
  [cpuStart, wallStart] = [cpu(), performance.now()];
  if (mode === "burst") return transports[0].send(`BURST ${count} ${size}`);
  for (let i = 0; i < window; i++)
    for (const transport of transports) if (sent < count) send(transport);
}

async function measureMemory() {
  const kept = await open(200);
  const start = memory();
  kept.push(...(await open(connections)));
  report({ kilobytes: (memory() - start) / connections });
}

async function measureConnects() {
  let done = 0;
  cpuStart = cpu();
  const again = async () => {
    const transport = create();
    while (done + connections <= count) {
      await transport.connect();
      await transport.disconnect();
      done++;
    }
  };
  await Promise.all(Array.from({ length: connections }, again));
  report({ per_cpu_second: done / (cpu() - cpuStart) });
}

const modes = { echo: measureMessages, burst: measureMessages,
                idle: measureMemory, churn: measureConnects };
await modes[mode]();
