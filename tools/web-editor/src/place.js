// Where in a YAML text the cursor is: the path of keys around it, and whether a key or a value is being written. Pure.
import { isMap, isPair, isScalar, isSeq, parseDocument } from "yaml";

const MARK = "hamscursor";

/** {path, key, word, from}: `path` leads to the map (key: true) or to the value that is written. */
export function place(text, offset) {
  const before = text.slice(0, offset);
  const word = /[\w.:/@=-]*$/.exec(before)[0].replace(/^.*[:,[{]\s*(?=\S*$)/, "");
  const from = offset - word.length;
  const start = text.lastIndexOf("\n", from - 1) + 1;
  const lead = text.slice(start, from);
  if (/(^|\s)#/.test(lead)) return null;
  const end = from + (/^[\w-]*/.exec(text.slice(from))[0].length);
  const inFlow = depth(before) > 0;
  const isValue = inFlow ? /:\s*$/.test(lead) : /:\s+(\S.*)?$/.test(lead) || /-\s+$/.test(lead);
  const rest = text.slice(end);
  const filler = isValue || /^\s*:/.test(rest) ? MARK : `${MARK}: 0`;
  const doc = parseDocument(text.slice(0, from) + filler + rest, { strict: false, uniqueKeys: false });
  const found = find(doc.contents, []);
  return found ? { ...found, word, from } : null;
}

/** How deep in [ and { the end of a text is. */
function depth(text) {
  let found = 0;
  let quote = "";
  for (const one of text.replace(/(^|\s)#.*$/gm, "")) {
    if (quote) { if (one === quote) quote = ""; continue; }
    if (one === '"' || one === "'") quote = one;
    else if (one === "[" || one === "{") found += 1;
    else if (one === "]" || one === "}") found -= 1;
  }
  return found;
}

function find(node, path) {
  if (isScalar(node)) return node.value === MARK ? { path, key: false } : null;
  if (isMap(node)) {
    for (const pair of node.items) {
      if (!isPair(pair)) continue;
      const name = String(pair.key?.value ?? pair.key);
      if (name === MARK) return { path, key: true };
      const inner = find(pair.value, [...path, name]);
      if (inner) return inner;
    }
  }
  if (isSeq(node)) {
    for (const [index, one] of node.items.entries()) {
      const inner = find(one, [...path, index]);
      if (inner) return inner;
    }
  }
  return null;
}

/** The path of the key or value that stands at `offset`. */
export function pathAt(text, offset) {
  const doc = parseDocument(text, { strict: false, uniqueKeys: false });
  return covering(doc.contents, offset, []);
}

function covering(node, offset, path) {
  if (isMap(node)) {
    for (const { key, value } of node.items) {
      const inner = [...path, String(key?.value ?? key)];
      if (within(key, offset)) return inner;
      if (value && within(value, offset)) return covering(value, offset, inner) ?? inner;
    }
  }
  if (isSeq(node)) {
    for (const [index, one] of node.items.entries()) {
      if (within(one, offset)) return covering(one, offset, [...path, index]) ?? [...path, index];
    }
  }
  return isScalar(node) && within(node, offset) ? path : null;
}

const within = (node, offset) => node?.range && node.range[0] <= offset && offset <= node.range[1];

/** A file as plain values, as far as it can be read. */
export function plain(text) {
  try { return parseDocument(text, { strict: false, uniqueKeys: false, logLevel: "silent" }).toJS({ maxAliasCount: 100 }) ?? {}; } catch { return {}; }
}
