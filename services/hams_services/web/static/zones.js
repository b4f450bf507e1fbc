// Zones, lines and masks of a stream are drawn on a picture of it: with a pointer, or by keyboard and numbers.
import { ApiError, current } from "./api.js";
import { h, update } from "./dom.js";
import { Shapes, valid } from "./shapes.js";

const KINDS = { zones: "zone", lines: "line", mask: "mask" };
const SVG = "http://www.w3.org/2000/svg";
const NEAR = 12; // pixels
const GRAB = 8;

/** Let a person draw; resolves with the regions, or null where they changed nothing. */
export function drawPlaces({ text, stream, regions, announce }) {
  return new Promise((resolve) => new Drawing(text, stream, regions, announce, resolve).open());
}

async function stillOf(text, stream) {
  const response = await fetch("api/still", {
    method: "POST", credentials: "same-origin", body: JSON.stringify({ text, stream }),
    headers: { "Content-Type": "application/json", "X-CSRF-Token": current().csrf },
  });
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  return URL.createObjectURL(await response.blob());
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element[name] = value; else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

class Drawing {
  constructor(text, stream, regions, announce, resolve) {
    Object.assign(this, { text, stream, announce, resolve, kind: "zones", drawing: null, source: "" });
    this.shapes = new Shapes(regions);
    this.image = h("img", { alt: `A picture of ${stream}` });
    this.overlay = svg("svg", { role: "group", "aria-label": "Places in the picture" });
    this.canvas = h("div", { class: "canvas" }, this.image, this.overlay);
    this.problem = h("div", { role: "alert" });
    this.tools = h("div", { class: "row" });
    this.list = h("div");
    this.points = h("div");
    this.name = h("input", { id: "place-name", size: 14, maxlength: 48, autocomplete: "off", onchange: () => this.renamed() });
    this.dialog = h("dialog", { class: "draw", "aria-labelledby": "draw-title", onclose: () => this.closed() },
      h("h2", { id: "draw-title" }, `Places in the picture of ${stream}`), this.problem, this.tools, this.canvas, this.list, this.points,
      h("div", { class: "row" },
        h("button", { type: "button", class: "primary", onclick: () => this.use() }, "Put into the group file"),
        h("button", { type: "button", onclick: () => this.dialog.close() }, "Cancel")));
    this.overlay.onpointerdown = (event) => this.down(event);
    this.overlay.onpointermove = (event) => this.move(event);
    this.overlay.onpointerup = (event) => this.up(event);
    this.overlay.onpointercancel = () => { this.held = null; };
    this.dialog.onkeydown = (event) => this.key(event);
  }

  async open() {
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.image.onload = () => this.show();
    this.show();
    await this.still();
  }

  async still() {
    update(this.problem, h("p", { class: "quiet" }, "A picture is taken…"));
    try {
      const source = await stillOf(this.text, this.stream);
      if (this.source) URL.revokeObjectURL(this.source);
      this.source = source;
      this.image.src = source;
      update(this.problem);
    } catch (error) {
      this.image.removeAttribute("src");
      update(this.problem, h("p", { class: "error" }, `There is no picture: ${error}. You can draw without one.`));
      this.blank = true;
      this.show();
    }
  }

  closed() {
    if (this.source) URL.revokeObjectURL(this.source);
    this.dialog.remove();
    this.resolve(this.result ?? null);
  }

  use() {
    if (this.drawing) this.finish();
    const wrong = this.shapes.all.map((one) => valid(one)).find(Boolean);
    if (wrong) { update(this.problem, h("p", { class: "error" }, wrong)); return; }
    this.result = this.shapes.regions();
    this.dialog.close();
  }

  // ── what is shown ──

  get size() {
    const [width, height] = [this.image.naturalWidth || 16, this.image.naturalHeight || 9];
    return [1000, (1000 * height) / width];
  }

  show() {
    const [width, height] = this.size;
    this.canvas.style.setProperty("aspect-ratio", `${width} / ${height}`);
    this.canvas.style.setProperty("--ratio", String(width / height));
    this.overlay.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const focus = document.activeElement?.dataset?.point;
    this.overlay.replaceChildren(...this.shapes.all.flatMap((one) => this.drawn(one)), ...this.draft());
    if (focus) this.overlay.querySelector(`[data-point="${focus}"]`)?.focus();
    this.showTools();
    this.showList();
    this.showPoints();
  }

  xy([x, y]) { const [width, height] = this.size; return [x * width, y * height]; }

  drawn(shape) {
    const points = shape.points.map((one) => this.xy(one));
    const chosen = shape === this.shapes.chosen;
    const found = [svg(shape.kind === "lines" ? "polyline" : "polygon", { class: `shape ${shape.kind}${chosen ? " chosen" : ""}`, points: points.map((p) => p.join()).join(" ") })];
    if (shape.kind === "lines" && points.length === 2) found.push(svg("path", { class: "arrow", d: arrow(...points) }));
    const [x, y] = points[0];
    found.push(svg("text", { class: "name", x: x + 8, y: Math.max(18, y - 8), "aria-hidden": "true" }, document.createTextNode(shape.name || "mask")));
    if (chosen) found.push(...shape.points.map((point, index) => this.handle(shape, point, index)));
    return found;
  }

  handle(shape, point, index) {
    const [x, y] = this.xy(point);
    return svg("circle", {
      class: "handle", cx: x, cy: y, r: 9, tabindex: "0", role: "button", "data-point": index,
      "aria-label": `Point ${index + 1} of ${shape.name || "the mask"}: ${point.map((one) => one.toFixed(3)).join(", ")}; arrow keys move it`,
      onkeydown: (event) => this.moveBy(event, index),
    });
  }

  draft() {
    if (!this.drawing) return [];
    const points = this.drawing.map((one) => this.xy(one));
    return [svg("polyline", { class: `shape ${this.kind} chosen`, points: points.map((p) => p.join()).join(" ") }),
      ...points.map(([x, y], index) => svg("circle", { class: index ? "handle" : "handle on", cx: x, cy: y, r: 8 }))];
  }

  showTools() {
    const word = KINDS[this.kind];
    update(this.tools, h("label", { for: "place-kind" }, "Kind"),
      h("select", { id: "place-kind", onchange: (event) => { this.kind = event.target.value; this.drawing = null; this.show(); } },
        Object.entries(KINDS).map(([value, text]) => h("option", { value, selected: value === this.kind }, text))),
      h("button", { type: "button", "aria-pressed": this.drawing ? "true" : "false", onclick: () => this.begin() }, `Draw a ${word}`),
      h("button", { type: "button", onclick: () => this.insert() }, `Insert a ${word}`),
      h("button", { type: "button", disabled: !this.shapes.canUndo, onclick: () => { this.shapes.undo(); this.drawing = null; this.show(); } }, "Undo"),
      h("button", { type: "button", onclick: () => this.still() }, "New picture"),
      h("span", { class: "quiet small" }, this.drawing
        ? (this.kind === "lines" ? "Click its two ends." : "Click the corners; Enter or a click on the first ends it, Escape gives up.")
        : "Drag points, or move them by arrow keys; Delete removes one."));
  }

  showList() {
    update(this.list, this.shapes.all.length ? h("div", { class: "row", role: "group", "aria-label": "Places" }, this.shapes.all.map((one) =>
      h("button", { type: "button", "aria-pressed": one === this.shapes.chosen ? "true" : "false", class: one === this.shapes.chosen ? "primary" : "",
        onclick: () => { this.shapes.choose(one); this.show(); } }, `${KINDS[one.kind]} ${one.name}`.trim())))
      : h("p", { class: "quiet" }, "Nothing is drawn yet."));
  }

  showPoints() {
    const shape = this.shapes.chosen;
    if (!shape) { update(this.points); return; }
    this.name.value = shape.name;
    const field = (index, axis) => h("input", {
      type: "number", min: 0, max: 1, step: 0.001, value: shape.points[index][axis].toFixed(3), "aria-label": `${"xy"[axis]} of point ${index + 1}`,
      onchange: (event) => this.typed(index, axis, event.target),
    });
    update(this.points,
      h("div", { class: "row" }, shape.kind === "mask" ? null : [h("label", { for: "place-name" }, "Name"), this.name],
        shape.kind === "lines" ? h("button", { type: "button", onclick: () => { this.shapes.turn(); this.show(); } }, "Turn around") : null,
        h("button", { type: "button", onclick: () => { this.shapes.remove(); this.announce("Removed"); this.show(); } }, `Delete this ${KINDS[shape.kind]}`)),
      h("details", { "data-key": "points" }, h("summary", {}, `Its ${shape.points.length} points as numbers`),
        h("table", { class: "points" }, h("caption", { class: "unseen" }, "Points"),
          h("thead", {}, h("tr", {}, ["Point", "x", "y", "Change"].map((one) => h("th", { scope: "col" }, one)))),
          h("tbody", {}, shape.points.map((_, index) => h("tr", {}, h("th", { scope: "row" }, String(index + 1)), h("td", {}, field(index, 0)), h("td", {}, field(index, 1)),
            h("td", {}, shape.kind === "lines" ? "" : [
              h("button", { type: "button", "aria-label": `Add a point behind point ${index + 1}`, onclick: () => { this.shapes.addAfter(index); this.show(); } }, "Add"), " ",
              h("button", { type: "button", disabled: shape.points.length <= 3, "aria-label": `Remove point ${index + 1}`, onclick: () => { this.shapes.removePoint(index); this.show(); } }, "Remove")])))))));
  }

  // ── what people do ──

  begin() { this.drawing = []; this.shapes.choose(null); this.announce("Drawing begins"); this.show(); }

  insert() {
    const box = this.kind === "lines" ? [[0.5, 0.3], [0.5, 0.7]] : [[0.35, 0.35], [0.65, 0.35], [0.65, 0.65], [0.35, 0.65]];
    this.drawing = null;
    this.shapes.add(this.kind, box);
    this.announce(`A ${KINDS[this.kind]} is inserted`);
    this.show();
    this.overlay.querySelector("[data-point]")?.focus();
  }

  finish() {
    const least = this.kind === "lines" ? 2 : 3;
    const points = this.drawing;
    this.drawing = null;
    if (points.length >= least) { this.shapes.add(this.kind, points); this.announce(`The ${KINDS[this.kind]} is drawn`); }
    this.show();
  }

  key(event) {
    if (event.key === "Escape" && this.drawing) { event.preventDefault(); this.drawing = null; this.show(); }
    else if (event.key === "Enter" && this.drawing && !["BUTTON", "SELECT", "INPUT"].includes(event.target.tagName)) { event.preventDefault(); this.finish(); }
    else if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); this.shapes.undo(); this.show(); }
  }

  moveBy(event, index) {
    const step = event.shiftKey ? 0.001 : 0.01;
    const by = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] }[event.key];
    if (by) { event.preventDefault(); const [x, y] = this.shapes.chosen.points[index]; this.shapes.move(index, [x + by[0], y + by[1]], "keys"); this.show(); }
    if (event.key === "Delete" && this.shapes.chosen.points.length > 3) { event.preventDefault(); this.shapes.removePoint(index); this.show(); }
  }

  typed(index, axis, field) {
    const value = Number(field.value);
    if (!Number.isFinite(value)) return;
    const point = [...this.shapes.chosen.points[index]];
    point[axis] = value;
    this.shapes.move(index, point);
    this.show();
  }

  renamed() {
    const wrong = this.shapes.rename(this.name.value.trim());
    update(this.problem, wrong ? h("p", { class: "error" }, wrong) : []);
    this.show();
  }

  at(event) {
    const box = this.overlay.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }

  near(event, point, pixels) {
    const box = this.overlay.getBoundingClientRect();
    const [x, y] = this.at(event);
    return Math.hypot((x - point[0]) * box.width, (y - point[1]) * box.height) <= pixels;
  }

  down(event) {
    if (event.button) return;
    if (this.drawing) { this.addPoint(event); return; }
    const grab = event.pointerType === "touch" ? 2 * NEAR : NEAR;
    const index = this.shapes.chosen?.points.findIndex((one) => this.near(event, one, grab)) ?? -1;
    if (index >= 0) {
      event.preventDefault();
      this.held = index;
      this.overlay.setPointerCapture(event.pointerId);
      this.shapes.keep();
      return;
    }
    const found = this.shapes.at(this.at(event), (point) => this.near(event, point, GRAB));
    this.shapes.choose(found);
    this.show();
  }

  addPoint(event) {
    event.preventDefault();
    const first = this.drawing[0];
    if (first && this.drawing.length >= 3 && this.kind !== "lines" && this.near(event, first, NEAR)) { this.finish(); return; }
    this.drawing.push(this.at(event));
    if (this.kind === "lines" && this.drawing.length === 2) this.finish(); else this.show();
  }

  move(event) {
    if (this.held === null || this.held === undefined) return;
    this.shapes.move(this.held, this.at(event), "drag");
    this.show();
  }

  up() { this.held = null; }
}

/** An arrow from the middle of a line to where `in` is: the right, seen along the line. */
function arrow([x0, y0], [x1, y1]) {
  const length = Math.hypot(x1 - x0, y1 - y0) || 1;
  const [mx, my] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const [ux, uy] = [-(y1 - y0) / length, (x1 - x0) / length];
  const [ex, ey] = [mx + 34 * ux, my + 34 * uy];
  return `M${mx} ${my}L${ex} ${ey}M${ex - 9 * ux - 7 * uy} ${ey - 9 * uy + 7 * ux}L${ex} ${ey}L${ex - 9 * ux + 7 * uy} ${ey - 9 * uy - 7 * ux}`;
}
