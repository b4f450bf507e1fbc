// Prints the joined results of a group: node results.mjs nats://127.0.0.1:4222 GROUP [COUNT]
// Once: npm install
import { connect } from "@nats-io/transport-node";
import { decode } from "@msgpack/msgpack";

const [url, group, count] = process.argv.slice(2);
if (!url || !group) {
  console.error("usage: node results.mjs nats://HOST:PORT GROUP [COUNT]");
  process.exit(2);
}
const nats = await connect({ servers: url });
console.error(`waiting for results of ${group}`);
let seen = 0;
for await (const message of nats.subscribe(`hams.v1.result.${group}.*`)) {
  // A group may say `results: json`; msgpack never begins a map with "{".
  const result = message.data[0] === 0x7b ? message.json() : decode(message.data);
  const { stream, frame, latency_ms, objects } = result;
  const found = objects.map((one) => `${one.label} ${one.score.toFixed(2)} at ${one.box.map(Math.round)}`);
  console.log(`${stream} #${frame} ${latency_ms.toFixed(1)} ms: ${found.join("; ") || "nothing"}`);
  if (++seen == count) break;
}
await nats.close();
