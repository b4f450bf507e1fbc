// The places that are being drawn, which of them is chosen, and how a change is taken back. Pure.

const NAME = /^[a-z][a-z0-9_-]{0,47}$/;
const inside = (one) => Math.min(1, Math.max(0, one));

/** What is wrong with a shape; empty: nothing. */
export function valid({ kind, name, points }) {
  const least = kind === "lines" ? 2 : 3;
  if (points.length < least) return `${name || "a mask"} needs ${least} points`;
  return kind === "mask" || NAME.test(name) ? "" : `${name || "a place"}: a name is lower case letters, digits, - and _, a letter first`;
}

export class Shapes {
  constructor({ zones, lines, mask }) {
    const named = (kind, map) => Object.entries(map).map(([name, points]) => ({ kind, name, points }));
    this.all = [...named("zones", zones), ...named("lines", lines), ...mask.map((points) => ({ kind: "mask", name: "", points }))];
    this.chosen = null;
    this.past = [];
  }

  get canUndo() { return this.past.length > 0; }

  /** Note what is, before it is changed; `by` the same gesture is noted once. */
  keep(by = "") {
    if (by && this.gesture === by) return;
    this.gesture = by;
    this.past.push({ all: structuredClone(this.all), chosen: this.all.indexOf(this.chosen) });
    if (this.past.length > 100) this.past.shift();
  }

  undo() {
    const before = this.past.pop();
    if (!before) return;
    this.gesture = "";
    this.all = before.all;
    this.chosen = this.all[before.chosen] ?? null;
  }

  choose(shape) { this.gesture = ""; this.chosen = shape ?? null; }

  add(kind, points) {
    this.keep();
    const word = { zones: "zone", lines: "line", mask: "" }[kind];
    let name = word;
    for (let n = 1; word && this.all.some((one) => one.name === name); n += 1) name = `${word}-${n + 1}`;
    this.chosen = { kind, name, points: points.map((point) => point.map(inside)) };
    this.all.push(this.chosen);
  }

  remove() { this.keep(); this.all = this.all.filter((one) => one !== this.chosen); this.chosen = null; }

  /** Name the chosen place; returns what is wrong. */
  rename(name) {
    const wrong = valid({ ...this.chosen, name });
    if (wrong) return wrong;
    if (this.all.some((one) => one !== this.chosen && one.name === name)) return `there is a place ${name} already`;
    this.keep();
    this.chosen.name = name;
    return "";
  }

  move(index, point, by = "") { if (by !== "drag") this.keep(by && `${by} ${index}`); this.chosen.points[index] = point.map(inside); }
  turn() { this.keep(); this.chosen.points.reverse(); }
  removePoint(index) { this.keep(); this.chosen.points.splice(index, 1); }

  addAfter(index) {
    this.keep();
    const { points } = this.chosen;
    const [a, b] = [points[index], points[(index + 1) % points.length]];
    points.splice(index + 1, 0, [(a[0] + b[0]) / 2, (a[1] + b[1]) / 2]);
  }

  /** The place at a point: one of whose points is near, or that holds it; the newest first. */
  at(point, near) {
    const found = [...this.all].reverse();
    return found.find((one) => one.points.some(near)) ?? found.find((one) => one.kind !== "lines" && holds(one.points, point)) ?? null;
  }

  /** As regionsOf() gives them, coordinates rounded to 3 decimals. */
  regions() {
    const rounded = (points) => points.map((point) => point.map((one) => Math.round(one * 1000) / 1000));
    const of = (kind) => Object.fromEntries(this.all.filter((one) => one.kind === kind).map((one) => [one.name, rounded(one.points)]));
    return { zones: of("zones"), lines: of("lines"), mask: this.all.filter((one) => one.kind === "mask").map((one) => rounded(one.points)) };
  }
}

/** Whether a polygon holds a point, by the even-odd rule. */
function holds(points, [x, y]) {
  let found = false;
  points.forEach(([x0, y0], i) => {
    const [x1, y1] = points[(i + 1) % points.length];
    if ((y0 > y) !== (y1 > y) && x < ((x1 - x0) * (y - y0)) / (y1 - y0) + x0) found = !found;
  });
  return found;
}
