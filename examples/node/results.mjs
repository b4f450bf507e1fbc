// Prints the joined results of a group: node results.mjs nats://127.0.0.1:4222 GROUP [COUNT]
// Once: npm install
// Where the broker asks for credentials (hams-ctl init): HAMS_CREDENTIALS=app.creds node results.mjs tls://box1:4222 GROUP
import { readFileSync } from "node:fs";
import { connect, nkeyAuthenticator } from "@nats-io/transport-node";
import { decode } from "@msgpack/msgpack";

const [url, group, count] = process.argv.slice(2);
if (!url || !group) {
  console.error("usage: [HAMS_CREDENTIALS=FILE] node results.mjs nats://HOST:PORT GROUP [COUNT]");
  process.exit(2);
}

// A credentials file holds the broker's certificate authority, the user's name and the seed of its NKey.
function credentials(path) {
  const text = readFileSync(path, "utf8");
  const user = text.match(/^# HAMS credentials of (\S+)$/m)?.[1];
  const seed = text.match(/-----BEGIN USER NKEY SEED-----\s*(SU[A-Z2-7]{56})\s*-/)?.[1];
  const ca = text.match(/-----BEGIN CERTIFICATE-----[^]+?-----END CERTIFICATE-----/g)?.join("\n");
  if (!user || !seed || !ca) throw new Error(`${path} is no credentials file of hams-ctl init`);
  return { ca, inboxPrefix: `_INBOX_${user}`, authenticator: nkeyAuthenticator(new TextEncoder().encode(seed)) };
}

// With credentials, or by tls://, nothing is sent before TLS. The broker's first word, INFO, may come in clear text,
// and somebody between may take from it that the broker wants TLS. So the handshake comes first where the broker takes it
// so; else INFO comes first, and given `tls` nats.js refuses a broker whose INFO does not offer TLS.
async function connected() {
  const path = process.env.HAMS_CREDENTIALS;
  if (!path && !url.startsWith("tls://")) return connect({ servers: url });
  const { ca, ...who } = path ? credentials(path) : {};
  const tls = ca ? { ca } : {};
  try {
    return await connect({ servers: url, ...who, tls: { ...tls, handshakeFirst: true } });
  } catch {
    return connect({ servers: url, ...who, tls });
  }
}

let nats;
try {
  nats = await connected();
} catch (error) {
  console.error(`error: cannot connect to ${url}: ${error.cause?.message ?? error.message}`);
  process.exit(5);
}
console.error(`waiting for results of ${group}`);
let seen = 0;
for await (const message of nats.subscribe(`hams.v1.result.${group}.*`)) {
  // A group may say `results: json`; msgpack never begins a map with "{".
  const result = message.data[0] === 0x7b ? message.json() : decode(message.data);
  const { stream, frame, media_time_s, latency_ms, objects } = result;
  const found = objects.map((one) => `${one.label} ${one.score.toFixed(2)} at ${one.box.map(Math.round)}`);
  console.log(`${stream} #${frame} at ${media_time_s.toFixed(2)} s, ${latency_ms.toFixed(1)} ms: ${found.join("; ") || "nothing"}`);
  if (++seen == count) break;
}
await nats.close();
