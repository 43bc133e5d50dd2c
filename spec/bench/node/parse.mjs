// SPDX-License-Identifier: MIT
// The measurements of ../sip.lua with the parsers of SIP.js and JsSIP.
//   node parse.mjs sipjs|jssip ROUNDS < MESSAGE
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const { LoggerFactory, Parser } =
  await import(require.resolve("sip.js/lib/core/index.js"));
const jssip = require("jssip/lib/Parser.js");

const factory = new LoggerFactory();
factory.builtinEnabled = false;
const logger = factory.getLogger("bench");
const [who, rounds] = process.argv.slice(2);
const text = readFileSync(0, "utf8");

const parsers = {
  sipjs: () => {
    const m = Parser.parseMessage(text, logger);
    const contact = m.parseHeader("contact").uri;
    return [m.statusCode, m.method, m.cseq, m.callId, m.viaBranch, m.fromTag,
            m.toTag, m.from.uri.user, contact.host,
            contact.getParam("transport")];
  },
  jssip: () => {
    const m = jssip.parseMessage(text, {});
    const contact = m.parseHeader("contact").uri;
    return [m.status_code, m.method, m.cseq, m.call_id, m.via_branch,
            m.from_tag, m.to_tag, m.from.uri.user, contact.host,
            contact.getParam("transport")];
  },
};

const parse = parsers[who];
const count = Math.max(1, Math.floor(rounds / 40));
let best = Infinity;
for (let i = 0; i < 40; i++) {
  const begin = process.cpuUsage();
  for (let j = 0; j < count; j++) parse();
  const { user, system } = process.cpuUsage(begin);
  best = Math.min(best, (user + system) / count);
}
console.log(best.toFixed(2));
