// The parts of the editor that decide, on the real schema of group files.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { changesFor, regionsOf, streamsOf } from "../src/regions.js";
import { pathAt, place, plain } from "../src/place.js";
import { about, keys, values } from "../src/schema.js";

const schema = JSON.parse(readFileSync(new URL("../../../services/hams_services/models/group.schema.json", import.meta.url)));

/** What is offered at | in a text. */
function offered(marked) {
  const offset = marked.indexOf("|");
  const text = marked.replace("|", "");
  const here = place(text, offset);
  if (!here) return null;
  return here.key ? keys(schema, here.path, plain(text)).map((one) => one.key) : values(schema, here.path, plain(text));
}

for (const [text, wanted, not] of [
  ["na|", ["name", "nodes", "streams"], []],
  ["name: g\nnodes:\n  face:\n    mo|\n", ["model", "input", "task"], ["streams"]],
  ["name: g\nnodes:\n  face:\n    model: x\n    in|\nstreams:\n", ["input", "crop"], []],
  ["name: g\nnodes:\n  face: {model: x, in|}\n", ["input", "parent"], []],
  ["name: g\nnodes:\n  face:\n    input: {size: [8, 8], color: |}\n", ["rgb", "bgr", "gray"], []],
  ["name: g\nnodes:\n  face:\n    task: {type: |}\n", ["centerface", "yolo", "ssd"], []],
  ["name: g\nnodes:\n  face:\n    task:\n      type: yolo\n      |\n", ["version", "labels"], ["anchors"]],
  ["name: g\nstrategy: |\n", ["hfs", "optimal"], []],
  ["streams:\n  s:\n    source: x\n    mode: l|\n", ["live", "lossless"], []],
  ["streams:\n  s:\n    zo|", ["zones", "lines", "mask"], []],
]) {
  test(`offers at ${JSON.stringify(text)}`, () => {
    const found = offered(text) ?? [];
    for (const one of wanted) assert.ok(found.includes(one), `${one} of ${found}`);
    for (const one of not) assert.ok(!found.includes(one), `no ${one}`);
  });
}

test("nothing is offered in a comment", () => assert.equal(offered("# na|"), null));

test("what a key means", () => {
  const text = "name: g\nstreams:\n  s: {source: x, mode: live}\n";
  const path = pathAt(text, text.indexOf("mode") + 1);
  assert.deepEqual(path, ["streams", "s", "mode"]);
  assert.match(about(schema, path, plain(text)).text, /drops the oldest/);
});

/** The text after a change of regions. */
function after(text, stream, change) {
  const regions = change(structuredClone(regionsOf(text, stream)));
  let found = text;
  for (const { from, to, insert } of changesFor(text, stream, regions).reverse()) found = found.slice(0, from) + insert + found.slice(to);
  return found;
}
const zone = (name, points) => (r) => ({ ...r, zones: { ...r.zones, [name]: points } });
const P = [[0.1234567, 0], [1, 0.5], [0.3, 0.9996]];

for (const [what, text, change, wanted] of [
  ["a first zone goes behind the stream's last key", "streams:\n  s:\n    source: x  # mine\n  t: {source: y}\n", zone("yard", P),
    "streams:\n  s:\n    source: x  # mine\n    zones: {yard: [[0.123, 0], [1, 0.5], [0.3, 1]]}\n  t: {source: y}\n"],
  ["a stream in one line", "streams: {s: {source: x}} # c\n", zone("a", P),
    "streams: {s: {source: x, zones: {a: [[0.123, 0], [1, 0.5], [0.3, 1]]}}} # c\n"],
  ["a text without a last line end", "streams:\n  s:\n    source: x", zone("a", P),
    "streams:\n  s:\n    source: x\n    zones: {a: [[0.123, 0], [1, 0.5], [0.3, 1]]}\n"],
  ["a second zone in a block keeps its comments", "streams:\n  s:\n    zones:\n      a: [[0, 0], [1, 0], [1, 1]]  # left\n    source: x\n", zone("b", P),
    "streams:\n  s:\n    zones:\n      a: [[0, 0], [1, 0], [1, 1]]  # left\n      b: [[0.123, 0], [1, 0.5], [0.3, 1]]\n    source: x\n"],
  ["a zone is replaced where it stands", "streams:\n  s:\n    zones: {a: [[0, 0], [1, 0], [1, 1]]} # z\n    source: x\n", zone("a", P),
    "streams:\n  s:\n    zones: {a: [[0.123, 0], [1, 0.5], [0.3, 1]]} # z\n    source: x\n"],
  ["the last zone takes its key with it", "streams:\n  s:\n    zones: {a: [[0, 0], [1, 0], [1, 1]]}\n    source: x\n", (r) => ({ ...r, zones: {} }),
    "streams:\n  s:\n    source: x\n"],
  ["masks", "streams:\n  s: {source: x, mask: [[[0, 0], [1, 0], [1, 1]]], loop: true}\n", (r) => ({ ...r, mask: [] }),
    "streams:\n  s: {source: x, loop: true}\n"],
  ["points in a block", "streams:\n  s:\n    mask:\n      - - [0, 0]\n        - [1, 0]\n        - [1, 1]\n    source: x\n", (r) => ({ ...r, mask: [...r.mask, P] }),
    "streams:\n  s:\n    mask: [[[0, 0], [1, 0], [1, 1]], [[0.123, 0], [1, 0.5], [0.3, 1]]]\n    source: x\n"],
  ["two kinds at once", "streams:\n  s:\n    source: x\n", (r) => ({ ...r, zones: { a: P }, lines: { l: [[0, 0], [1, 1]] } }),
    "streams:\n  s:\n    source: x\n    zones: {a: [[0.123, 0], [1, 0.5], [0.3, 1]]}\n    lines: {l: [[0, 0], [1, 1]]}\n"],
  ["nothing changes", "streams:\n  s: {zones: {a: [[0, 0], [1, 0], [1, 1]]}}\n", (r) => r, "streams:\n  s: {zones: {a: [[0, 0], [1, 0], [1, 1]]}}\n"],
]) {
  test(what, () => {
    const found = after(text, "s", change);
    assert.equal(found, wanted);
    assert.deepEqual(regionsOf(found, "s").zones.a ?? null, regionsOf(wanted, "s").zones.a ?? null);
    assert.ok(streamsOf(found).includes("s"));
  });
}
