// Draws a frame and its result on a canvas: boxes (predicted ones dashed), track ids, words, points, zones, lines.
import { caption } from "./words.js";

const ZONE = "#ffd166", LINE = "#4cc9f0", MASK = "rgb(0 0 0 / 45%)", PLATE = "rgb(10 16 24 / 82%)";

const SEEN = 0.5; // a point is drawn from this visibility on
const LIMBS = { // which points of a body are joined, by how many there are: COCO's and mediapipe's, as draw_shapes.py has them
  17: [[0, 1], [0, 2], [1, 3], [2, 4], [5, 6], [5, 7], [7, 9], [6, 8], [8, 10], [5, 11], [6, 12], [11, 12], [11, 13], [13, 15], [12, 14], [14, 16]],
  33: [[11, 12], [11, 13], [13, 15], [12, 14], [14, 16], [11, 23], [12, 24], [23, 24], [23, 25], [25, 27], [24, 26], [26, 28], [27, 31], [28, 32], [15, 19], [16, 20]],
};

/** A colour that stays with a track, else with a label; all are light enough on a dark edge. */
export function colour(one) {
  const seed = one.track ?? [...(one.label ?? "")].reduce((sum, c) => sum + c.codePointAt(0), 3);
  return `hsl(${Math.round((seed * 137.508) % 360)} 85% 62%)`;
}

/** Draw `bitmap`, and over it what `options` (boxes, places) want of `head` and `places`. */
export function draw(canvas, bitmap, head, places, options) {
  const ratio = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  const height = Math.max(1, Math.round((width * head.height) / head.width));
  if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
  canvas.style.aspectRatio = `${head.width} / ${head.height}`;
  const pen = canvas.getContext("2d");
  pen.drawImage(bitmap, 0, 0, width, height);
  const unit = Math.max(1, ratio * Math.min(2, canvas.clientWidth / 420 + 0.4));
  if (options.places && places) drawPlaces(pen, places, width, height, unit);
  if (options.boxes) for (const one of head.objects) drawObject(pen, one, width / head.width, unit, head);
}

function drawPlaces(pen, places, width, height, unit) {
  const path = (points) => { pen.beginPath(); points.forEach(([x, y], n) => pen[n ? "lineTo" : "moveTo"](x * width, y * height)); };
  pen.lineWidth = 2 * unit;
  for (const points of places.mask ?? []) { path(points); pen.closePath(); pen.fillStyle = MASK; pen.fill(); }
  for (const [name, points] of Object.entries(places.zones ?? {})) {
    path(points);
    pen.closePath();
    pen.strokeStyle = ZONE;
    pen.fillStyle = "rgb(255 209 102 / 14%)";
    pen.fill();
    pen.stroke();
    plate(pen, name, points[0][0] * width, points[0][1] * height, unit, ZONE);
  }
  for (const [name, [from, to]] of Object.entries(places.lines ?? {})) {
    path([from, to]);
    pen.strokeStyle = LINE;
    pen.stroke();
    arrow(pen, from, to, width, height, unit);
    plate(pen, name, from[0] * width, from[1] * height, unit, LINE);
  }
}

/** A small arrow at a line's middle: from left to right, seen along the line, is `in`. */
function arrow(pen, from, to, width, height, unit) {
  const dx = (to[0] - from[0]) * width, dy = (to[1] - from[1]) * height, length = Math.hypot(dx, dy) || 1;
  const x = ((from[0] + to[0]) * width) / 2, y = ((from[1] + to[1]) * height) / 2;
  const nx = -dy / length, ny = dx / length, size = 9 * unit;
  pen.beginPath();
  pen.moveTo(x + nx * size * 1.6, y + ny * size * 1.6);
  pen.lineTo(x + (dx / length) * size * 0.7, y + (dy / length) * size * 0.7);
  pen.lineTo(x - (dx / length) * size * 0.7, y - (dy / length) * size * 0.7);
  pen.closePath();
  pen.fillStyle = LINE;
  pen.fill();
}

/** Draw the path's line on a dark edge. */
function stroke(pen, unit, colour) {
  for (const [width, style] of [[4, "rgb(0 0 0 / 55%)"], [2, colour]]) { pen.lineWidth = width * unit; pen.strokeStyle = style; pen.stroke(); }
}

function drawObject(pen, one, scale, unit, head) {
  const [x0, y0, x1, y1] = one.box.map((value) => value * scale);
  const mine = colour(one);
  pen.setLineDash(one.predicted ? [6 * unit, 4 * unit] : []);
  const whole = one.box[0] <= 0 && one.box[1] <= 0 && one.box[2] >= head.width && one.box[3] >= head.height;
  const points = (one.points ?? []).map(([x, y]) => [x * scale, y * scale]), turned = typeof one.angle === "number" && points.length === 4;
  if (!whole) {
    pen.beginPath();
    if (turned) { points.forEach(([x, y], n) => pen[n ? "lineTo" : "moveTo"](x, y)); pen.closePath(); }
    else pen.rect(x0, y0, x1 - x0, y1 - y0);
    stroke(pen, unit, mine);
  }
  pen.setLineDash([]);
  pen.fillStyle = mine;
  const seen = points.map((_, n) => (one.visibility?.[n] ?? 1) >= SEEN);
  const joined = one.skeleton ?? (one.visibility ? LIMBS[points.length] : null) ?? [];
  pen.beginPath();
  for (const [a, b] of joined) if (seen[a] && seen[b]) { pen.moveTo(...points[a]); pen.lineTo(...points[b]); }
  stroke(pen, unit, mine);
  points.forEach(([x, y], n) => { if (seen[n] && !turned) { pen.beginPath(); pen.arc(x, y, 2 * unit, 0, 7); pen.fill(); } });
  const track = one.track ? `${one.label ?? ""} ${one.track}`.trim() : "";
  const words = caption(one);
  plate(pen, [track, words].filter(Boolean).join(" · "), x0, y0, unit, mine, true);
}

/** Words on a dark plate, kept inside the canvas; `above` puts it over the point where there is room. */
function plate(pen, text, x, y, unit, edge, above = false) {
  if (!text) return;
  pen.font = `600 ${Math.round(11.5 * unit)}px system-ui, sans-serif`;
  const pad = 3 * unit, high = 16 * unit, most = pen.canvas.width;
  const wide = Math.min(most, pen.measureText(text).width + 2 * pad);
  const left = Math.max(0, Math.min(x, most - wide));
  const top = Math.max(0, Math.min(above && y >= high ? y - high : y, pen.canvas.height - high));
  pen.fillStyle = PLATE;
  pen.fillRect(left, top, wide, high);
  pen.fillStyle = edge;
  pen.fillRect(left, top, 2.5 * unit, high);
  pen.fillStyle = "#fff";
  pen.textBaseline = "middle";
  pen.fillText(text, left + pad + unit, top + high / 2, wide - 2 * pad);
}
