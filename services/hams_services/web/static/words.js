// The words of an object on a picture: the outputs of child nodes, or its own label and score. As sinks draw them.

const RESERVED = new Set(["box", "score", "label", "points", "id", "objects", "track", "age_s", "velocity", "predicted", "zone",
  "zones", "identity", "skipped", "from_frame", "frame"]);
const UNITS = { years: "y", percent: "%", degrees: "°" };
const WHOLE = new Set(["years", "percent"]);
const SEEN = 0.5;

const isMap = (value) => value !== null && typeof value === "object" && !Array.isArray(value);

/** E.g. "female 97% · 31 y · happy 83%"; without children's outputs the object's own label and score. */
export function caption(one) {
  const found = children(one).map(words).filter(Boolean);
  if (!found.length) found.push(words({ ...one, identity: null, name: null }));
  found.push(who(one), ...deeper(one));
  return found.filter(Boolean).join(" · ");
}

const children = (one) => Object.entries(one).filter(([key, value]) => !RESERVED.has(key) && isMap(value)).map(([, value]) => value);

function* deeper(one) {
  for (const child of children(one)) {
    for (const inner of Array.isArray(child.objects) ? child.objects.filter(isMap) : []) {
      for (const output of children(inner)) yield words(output);
      yield* deeper(inner);
    }
  }
}

function words(item) {
  const text = [item.text, item.label].find((one) => typeof one === "string" && one);
  if (text) return Number.isFinite(item.score) ? `${text} ${Math.round(100 * item.score)}%` : text;
  if (Number.isFinite(item.value)) return quantity(item.value, item.unit ?? "");
  if (isMap(item.attributes)) return attributes(item.attributes).join(" ");
  return who(item);
}

function who(item) {
  if (typeof item.name === "string" && item.name) return item.name;
  return Number.isInteger(item.identity) ? `#${item.identity}` : "";
}

function attributes(values) {
  return Object.entries(values).flatMap(([name, value]) => {
    if (isMap(value)) return [String(value.label ?? "")];
    return Number.isFinite(value) && value >= SEEN ? [name] : [];
  });
}

function quantity(value, unit) {
  const digits = Math.abs(value) >= 10 || WHOLE.has(unit) ? value.toFixed(0) : String(Number(value.toPrecision(3)));
  return unit ? `${digits} ${UNITS[unit] ?? unit}` : digits;
}
