// Agreement against images/s, a mark per variant; the table beside it has the same figures.
import { h } from "./dom.js";

const SVG = "http://www.w3.org/2000/svg";
const [WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM] = [720, 340, 62, 16, 14, 46];
const SHAPES = [(x, y) => `M${x - 6} ${y}a6 6 0 1 0 12 0a6 6 0 1 0-12 0`, (x, y) => `M${x - 6} ${y - 6}h12v12h-12z`, (x, y) => `M${x} ${y - 7}l7 12h-14z`,
  (x, y) => `M${x} ${y - 8}l8 8l-8 8l-8-8z`, (x, y) => `M${x} ${y + 7}l7-12h-14z`];

function svg(tag, attributes, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round steps of a logarithmic axis. */
export function ticks(least, most) {
  const found = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power += 1) {
    for (const one of most / least < 30 ? [1, 1.5, 2, 3, 5, 7] : [1, 3]) {
      const value = one * 10 ** power;
      if (value >= least && value <= most) found.push(value);
    }
  }
  return found;
}

/** A chart of rows {node, label, agreement, floor, speed, serving}; nodes have colour and shape. */
export function chart(rows, nodes, device) {
  const shown = rows.filter((one) => one.speed && (one.agreement !== null || one.label === "source"));
  if (!shown.length) return h("p", { class: "quiet" }, `Nothing is measured on ${device} yet.`);
  const agreement = (one) => (one.label === "source" ? 1 : one.agreement);
  const speeds = shown.map((one) => one.speed);
  const [least, most] = [Math.min(...speeds) / 1.3, Math.max(...speeds) * 1.3];
  const floor = Math.min(...shown.map((one) => one.floor));
  const low = Math.max(0, Math.min(floor, ...shown.map(agreement)) - 0.01);
  const x = (value) => LEFT + ((WIDTH - LEFT - RIGHT) * Math.log(value / least)) / Math.log(most / least);
  const y = (value) => TOP + ((HEIGHT - TOP - BOTTOM) * (1.005 - value)) / (1.005 - low);
  const text = (content, at) => svg("text", at, document.createTextNode(content));
  const step = (1 - low) / 4;
  const drawn = svg("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `Agreement against images a second on ${device}; the table below has the figures` },
    ...[0, 1, 2, 3, 4].flatMap((n) => [svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(1 - n * step), y2: y(1 - n * step) }),
      text((1 - n * step).toFixed(3), { x: LEFT - 8, y: y(1 - n * step) + 4, "text-anchor": "end" })]),
    ...ticks(least, most).flatMap((one) => [svg("line", { class: "grid", x1: x(one), x2: x(one), y1: TOP, y2: HEIGHT - BOTTOM }),
      text(one >= 10 ? Math.round(one) : one.toFixed(1), { x: x(one), y: HEIGHT - BOTTOM + 18, "text-anchor": "middle" })]),
    svg("line", { class: "floor", x1: LEFT, x2: WIDTH - RIGHT, y1: y(floor), y2: y(floor) }),
    text("images/s", { x: (LEFT + WIDTH) / 2, y: HEIGHT - 8, "text-anchor": "middle" }),
    text("agreement", { x: 14, y: HEIGHT / 2, transform: `rotate(-90 14 ${HEIGHT / 2})`, "text-anchor": "middle" }),
    ...shown.map((one) => {
      const node = nodes.indexOf(one.node);
      const mark = svg("path", { class: `dot c${node % 6}${one.serving ? "" : " open"}`, d: SHAPES[node % SHAPES.length](x(one.speed), y(agreement(one))) });
      mark.append(svg("title", {}, document.createTextNode(`${one.node} ${one.label}: ${one.speed.toFixed(1)} images/s, agreement ${agreement(one).toFixed(4)}`)));
      return mark;
    }));
  const legend = h("p", { class: "small row" }, nodes.map((one, n) => h("span", { class: "row" }, key(n), one)), h("span", { class: "quiet" }, "filled: it serves; dashed: the floor"));
  return h("div", {}, drawn, legend);
}

function key(n) {
  return svg("svg", { width: 18, height: 18, viewBox: "0 0 18 18", "aria-hidden": "true" }, svg("path", { class: `dot c${n % 6}`, d: SHAPES[n % SHAPES.length](9, 9) }));
}
