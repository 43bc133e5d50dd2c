// SPDX-License-Identifier: MIT
// What SIP.js and JsSIP make of messages.  Reads JSON strings from stdin, one
// a line; writes for each a line {"sipjs": {…}|null, "jssip": {…}|null}, null
// if it was rejected, else (what is not there is left out):
//   method  uri | status  reason   via: {transport, host, port, branch,
//   received}   vias (how many)   from, to: {display, uri, tag}   call_id
//   cseq: {number, method}   contacts: [{display, uri, expires}]   body
//   max_forwards  expires  content_type  realm  nonce  qop  algorithm
//
// uri: {scheme, user, host, port, params}

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const modules = process.env.SIPWIRE_NODE_MODULES;
const require = createRequire(modules ? `${modules}/x.js` : import.meta.url);
const jssip = require("jssip/lib/Parser.js");
const { Parser: sipjs, LoggerFactory } =
  await import(require.resolve("sip.js/lib/core/index.js"));

const factory = new LoggerFactory();
factory.builtinEnabled = false;
const logger = factory.getLogger("parsers");

function text(value) {
  return value === undefined || value === null ? undefined : String(value);
}

// JsSIP has "_scheme", SIP.js has "raw".
function uri(value) {
  if (!value) return undefined;
  const of = (name) => value[name] ?? value[`_${name}`];
  return { scheme: of("scheme").toLowerCase(), user: text(of("user")),
    host: text(of("host")).toLowerCase(), port: of("port") ?? undefined,
    params: Object.fromEntries(Object.entries(of("parameters") ?? {})
      .map(([name, v]) => [name.toLowerCase(), text(v) ?? ""])) };
}

function address(value) {
  if (!value) return undefined;
  const display = value.display_name ?? value.displayName;
  return { display: display || undefined, uri: uri(value.uri),
    tag: text(value.getParam("tag")), expires: value.getParam("expires") };
}

function via(value) {
  return value && { transport: value.transport, host: value.host,
    port: value.port || undefined, branch: text(value.branch),
    received: text(value.received) };
}

const number = (value) => value === undefined ? undefined : Number(value);

function common(m, names) {
  const challenge = m.hasHeader("www-authenticate")
    ? m.parseHeader("www-authenticate") : undefined;
  const start = m[names.status] !== undefined
    ? { status: m[names.status], reason: m[names.reason] }
    : { method: m.method, uri: uri(m.ruri) };
  return { ...start, via: via(m.via), vias: m.getHeaders("via").length,
    from: address(m.from), to: address(m.to), call_id: m[names.call_id],
    cseq: { number: Number(names.cseq(m)),
      method: m.parseHeader("cseq").method },
    contacts: m.getHeaders("contact").map((_, i) =>
      address(m.parseHeader("contact", i))),
    body: m.body, max_forwards: number(m.getHeader("max-forwards")),
    expires: number(m.getHeader("expires")),
    content_type: m.getHeader("content-type"), realm: challenge?.realm,
    nonce: challenge?.nonce, algorithm: text(challenge?.algorithm),
    qop: challenge?.qop && [].concat(challenge.qop).join(",") };
}

const parsers = {
  sipjs: (data) => sipjs.parseMessage(data, logger),
  jssip: (data) => jssip.parseMessage(data, {}),
};
const names = {
  sipjs: { status: "statusCode", reason: "reasonPhrase", call_id: "callId",
    cseq: (m) => m.cseq },
  jssip: { status: "status_code", reason: "reason_phrase", call_id: "call_id",
    cseq: (m) => m.cseq },
};

// A parser that throws rejects, too.
function look(who, data) {
  try {
    const message = parsers[who](data);
    return message ? common(message, names[who]) : null;
  } catch (error) {
    return null;
  }
}

createInterface({ input: process.stdin }).on("line", (line) => {
  const data = JSON.parse(line);
  process.stdout.write(JSON.stringify({ sipjs: look("sipjs", data),
    jssip: look("jssip", data) }) + "\n");
});
