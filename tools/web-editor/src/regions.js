// Zones, lines and masks of a stream, read from a group file and written back; all else of the text stays as it is. Pure.
import { isMap, isScalar, isSeq, parseDocument } from "yaml";

/** Names of the streams of a group file. */
export function streamsOf(text) {
  const streams = parseDocument(text).get("streams");
  return isMap(streams) ? streams.items.map((one) => String(one.key?.value ?? one.key)) : [];
}

/** {zones: {name: [[x, y], …]}, lines: {…}, mask: [[[x, y], …], …]} of a stream. */
export function regionsOf(text, stream) {
  const found = parseDocument(text).getIn(["streams", stream])?.toJSON?.() ?? {};
  const map = (value) => (value && typeof value === "object" && !Array.isArray(value) ? value : {});
  return { zones: map(found.zones), lines: map(found.lines), mask: Array.isArray(found.mask) ? found.mask : [] };
}

const rounded = (points) => points.map((point) => point.map((one) => Math.round(one * 1000) / 1000));
const flow = (points) => `[${rounded(points).map(([x, y]) => `[${x}, ${y}]`).join(", ")}]`;
const key = (name) => (/^(y|n|yes|no|on|off|true|false|null|~)$/i.test(name) ? JSON.stringify(name) : name);

function written(kind, value) {
  if (kind === "mask") return `[${value.map(flow).join(", ")}]`;
  return `{${Object.entries(value).map(([name, points]) => `${key(name)}: ${flow(points)}`).join(", ")}}`;
}

const isEmpty = (value) => (Array.isArray(value) ? !value.length : !Object.keys(value).length);
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);

/** The changes of `text` that give `stream` these regions: [{from, to, insert}]; only what differs is touched. */
export function changesFor(text, stream, regions) {
  const doc = parseDocument(text, { keepSourceTokens: true });
  const node = doc.getIn(["streams", stream]);
  if (!isMap(node)) throw new Error(`the text has no stream ${stream}`);
  const before = regionsOf(text, stream);
  const changes = [];
  for (const kind of ["zones", "lines", "mask"]) {
    const wanted = kind === "mask" ? regions.mask.map(rounded) : Object.fromEntries(Object.entries(regions[kind]).map(([n, p]) => [n, rounded(p)]));
    if (same(before[kind], wanted)) continue;
    const pair = node.items.find((one) => (one.key?.value ?? one.key) === kind);
    changes.push(...(pair ? replaced(text, node, pair, kind, before[kind], wanted) : added(text, node, kind, wanted)));
  }
  return joined(changes);
}

/** Changes at one place become one. */
function joined(changes) {
  const found = [];
  for (const one of changes.sort((a, b) => a.from - b.from || a.to - b.to)) {
    const last = found.at(-1);
    if (last && last.from === one.from && last.to === one.to && one.from === one.to) last.insert += one.insert;
    else found.push(one);
  }
  return found;
}

function replaced(text, parent, pair, kind, before, wanted) {
  if (isEmpty(wanted)) return [removed(text, parent, pair)];
  const value = pair.value;
  if (kind !== "mask" && isMap(value) && !value.flow) { // a block: each zone has its own lines and comments
    const changes = [];
    for (const one of value.items) {
      const name = String(one.key?.value ?? one.key);
      if (!(name in wanted)) changes.push(removed(text, value, one));
      else if (!same(before[name], wanted[name])) changes.push(exchanged(text, one.value, flow(wanted[name])));
    }
    const indent = column(text, value.items[0].key.range[0]);
    const more = Object.entries(wanted).filter(([name]) => !(name in before)).map(([name, points]) => `${" ".repeat(indent)}${key(name)}: ${flow(points)}\n`);
    if (more.length) changes.push(atEndOf(text, value, more.join("")));
    return changes;
  }
  if (!value || (isScalar(value) && value.value === null && value.range[0] === value.range[1])) {
    const at = colonAfter(text, pair.key.range[1]);
    return [{ from: at, to: at, insert: ` ${written(kind, wanted)}` }];
  }
  if (isSeq(value) && !value.flow) { // the block's lines begin behind the key
    const from = colonAfter(text, pair.key.range[1]);
    return [{ from, to: trimmed(text, value.range[1]), insert: ` ${written(kind, wanted)}` }];
  }
  return [exchanged(text, value, written(kind, wanted))];
}

const colonAfter = (text, offset) => text.indexOf(":", offset) + 1;

function exchanged(text, value, insert) {
  const block = (isSeq(value) || isMap(value)) && !value.flow;
  if (!block) return { from: value.range[0], to: value.range[1], insert };
  const from = text.lastIndexOf(":", value.range[0]) + 1;
  return { from, to: trimmed(text, value.range[1]), insert: ` ${insert}` };
}

function added(text, node, kind, wanted) {
  if (isEmpty(wanted)) return [];
  if (node.flow) {
    const end = text.lastIndexOf("}", node.range[1] - 1);
    const last = node.items.at(-1);
    const at = last ? trimmed(text, (last.value ?? last.key).range[1]) : end;
    return [{ from: at, to: at, insert: `${last ? ", " : ""}${kind}: ${written(kind, wanted)}` }];
  }
  const indent = column(text, node.items[0].key.range[0]);
  return [atEndOf(text, node, `${" ".repeat(indent)}${kind}: ${written(kind, wanted)}\n`)];
}

/** Insert lines behind the last entry of a block, after a comment in its line. */
function atEndOf(text, node, lines) {
  const last = node.items.at(-1);
  const end = trimmed(text, (last.value ?? last.key).range[1]);
  const eol = text.indexOf("\n", end);
  return eol < 0 ? { from: text.length, to: text.length, insert: `\n${lines}` } : { from: eol + 1, to: eol + 1, insert: lines };
}

function removed(text, parent, pair) {
  const from = pair.key.range[0];
  const to = trimmed(text, (pair.value ?? pair.key).range[1]);
  if (!parent.flow) {
    const eol = text.indexOf("\n", to);
    return { from: text.lastIndexOf("\n", from - 1) + 1, to: eol < 0 ? text.length : eol + 1, insert: "" };
  }
  const after = /^\s*,\s*/.exec(text.slice(to));
  if (after) return { from, to: to + after[0].length, insert: "" };
  const before = /,\s*$/.exec(text.slice(0, from));
  return { from: from - (before ? before[0].length : 0), to, insert: "" };
}

const trimmed = (text, offset) => offset - (text.slice(0, offset).length - text.slice(0, offset).trimEnd().length);
const column = (text, offset) => offset - (text.lastIndexOf("\n", offset - 1) + 1);
