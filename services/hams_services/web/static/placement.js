// The view placement: devices as columns with their nodes, prediction against measurement, "what if", the FPS matrix.
import { ask, may } from "./api.js";
import { bar, breaking, h, mark, number, percent, table, update } from "./dom.js";
import { STATES } from "./overview.js";
import { WhatIf } from "./whatif.js";

const MATRIX_MS = 15000;

export default {
  id: "placement",
  title: "Placement",
  need: "view",
  mount(root, context) {
    let matrix = null, problem = "", epochs = "", state = context.state(), ended = false;
    const asked = may("change") ? new WhatIf(() => draw(), context) : null;
    const draw = () => state && !ended && update(root, h("h1", {}, "Placement"), groups(state), columns(state),
      asked ? asked.section(state) : null, matrixSection(matrix, problem));
    const fetchMatrix = async () => {
      if (document.hidden) return;
      try { matrix = await ask("matrix"); problem = ""; } catch (error) { problem = String(error); }
      draw();
    };
    const timer = setInterval(fetchMatrix, MATRIX_MS);
    fetchMatrix();
    return {
      update(next) {
        state = next;
        const now = JSON.stringify([state.groups.map((g) => g.plan?.epoch), state.waiting_profiles]);
        if (epochs && now !== epochs) fetchMatrix();
        epochs = now;
        draw();
      },
      unmount() { ended = true; clearInterval(timer); },
    };
  },
};

function groups(state) {
  if (!state.groups.length && state.troubles.scheduler) {
    return h("section", { "data-key": "groups" }, h("p", { class: "last" }, "The groups are not known now: the scheduler does not answer."));
  }
  if (!state.groups.length) {
    return h("section", { "data-key": "groups" }, h("p", { class: "last" }, "No group is deployed. ", h("a", { href: "#deploy" }, "Deploy one"), "."));
  }
  return h("section", { "data-key": "groups" }, h("h2", {}, "Predicted and measured"), table("Predicted and measured FPS of the groups", [
    { title: "Group", head: true, cell: (g) => g.name },
    { title: "Predicted FPS", number: true, cell: (g) => number(g.predicted_fps || null, 2) },
    { title: "Measured FPS", number: true, cell: (g) => number(g.measured_fps, 2) },
    { title: "Measured / predicted", number: true, cell: (g) => (g.predicted_fps ? percent(g.measured_fps / g.predicted_fps) : "–") },
    { title: "Bound", number: true, cell: (g) => number(g.plan?.bound_fps || null, 2) },
    { title: "Target", number: true, cell: (g) => number(g.target_fps) },
    { title: "Bottleneck", cell: (g) => g.bottleneck || "–" },
    { title: "Plan", cell: (g) => (g.plan ? `${g.plan.epoch} by ${g.plan.strategy}` : "–") },
  ], state.groups), h("ul", { class: "quiet small plainlist" }, state.groups.flatMap((g) => remarks(g)).map((text) => h("li", {}, text))));
}

function remarks(group) {
  const found = [];
  if (group.plan?.reason) found.push(`${group.name}: plan ${group.plan.epoch} was made because ${group.plan.reason}.`);
  if (group.expected_why) found.push(`${group.name}: can reach ${number(group.expected_fps, 2)} FPS, ${group.expected_why}.`);
  if (group.next) found.push(`${group.name}: plan ${group.next.epoch} is being loaded (${group.next.reason}).`);
  if (group.state !== "serving") found.push(`${group.name}: ${group.state} ${group.text}`);
  return found;
}

function columns(state) {
  const limits = new Map();
  for (const g of state.groups) if (g.bottleneck) limits.set(g.bottleneck, [...(limits.get(g.bottleneck) ?? []), g.name]);
  const hosts = [...limits].filter(([name]) => !state.devices.some((d) => d.device === name));
  return h("section", { "data-key": "columns" }, h("h2", {}, "Devices and their nodes"),
    hosts.map(([name, names]) => h("p", {}, mark("warn", `Bottleneck of ${names.join(", ")}: ${name}`))),
    state.devices.length
      ? h("ul", { class: "columns" }, state.devices.map((device) => column(device, state, limits.get(device.device) ?? [])))
      : h("p", { class: "quiet" }, state.troubles.scheduler ? "The devices are not known now." : "No device is known."));
}

function column(device, state, limited) {
  const nodes = placed(device, state);
  return h("li", { "data-key": device.device, class: limited.length ? "column limit" : "column" },
    h("h3", {}, breaking(device.device), device.emulated ? h("span", { class: "tag" }, "emulated") : null),
    h("p", { class: "quiet small" }, `${device.name} · ${device.runtime}${device.lanes > 1 ? ` · ${device.lanes} lanes` : ""}`),
    h("p", {}, mark(STATES[device.state] ?? "warn", device.state),
      limited.length ? h("span", {}, " ", mark("warn", `bottleneck of ${limited.join(", ")}`)) : null),
    device.reason ? h("p", { class: "quiet small" }, device.reason) : null,
    h("p", { class: "load" }, h("span", {}, "busy"), bar(device.busy, `busy ${percent(device.busy)}`, limited.length ? "limit" : ""),
      h("b", {}, percent(device.busy))),
    nodes.length
      ? h("ul", { class: "nodes" }, nodes.map(node))
      : h("p", { class: "quiet small" }, "serves no node"),
    state.profiling[device.device] ? h("p", { class: "quiet small" }, `measures ${state.profiling[device.device]}`) : null);
}

/** The nodes that plans place on a device, with what was measured of them. */
function placed(device, state) {
  const found = [];
  for (const g of state.groups) {
    for (const [name, places] of Object.entries(g.plan?.shares ?? {})) {
      if (!(device.device in places)) continue;
      const all = Object.values(places).reduce((sum, one) => sum + one, 0) || 1;
      const seen = device.nodes.find((one) => one.group === g.name && one.node === name);
      const variant = g.plan.variants[name]?.[device.device];
      found.push({ name: `${g.name}/${name}`, share: places[device.device] / all, busy: seen?.busy ?? null,
        perSecond: seen?.inferences_per_s ?? null, variant, why: g.plan.explanation[name] ?? "" });
    }
  }
  return found;
}

function node(one) {
  const details = [one.perSecond !== null ? `${number(one.perSecond)} inferences/s` : null,
    one.share < 0.999 ? `${percent(one.share)} of its frames` : null,
    one.variant ? `variant ${one.variant.label}, agreement ${number(one.variant.agreement, 3)}` : null].filter(Boolean);
  return h("li", { "data-key": one.name },
    h("p", { class: "load" }, h("span", { class: "name" }, breaking(one.name)), bar(one.busy, `${percent(one.busy)} of the device's time`), h("span", {}, percent(one.busy))),
    h("div", { class: "meta small" }, details.length ? h("span", { class: "quiet" }, details.join(" · ")) : null,
      one.why ? h("details", {}, h("summary", {}, "why here", h("span", { class: "unseen" }, ` ${one.name}`)), h("p", { class: "quiet" }, one.why)) : null));
}

function matrixSection(matrix, problem) {
  const title = h("h2", {}, "FPS matrix");
  if (!matrix) return h("section", { "data-key": "matrix" }, title, h("p", { class: problem ? "error" : "quiet" }, problem || "Loading…"));
  if (!matrix.models.length) return h("section", { "data-key": "matrix" }, title, h("p", { class: "quiet last" }, "Nothing is measured yet: deploy a group."));
  const rows = matrix.models.map((model, row) => ({ model, fps: matrix.fps[row], weight: matrix.weights?.[row] ?? null }));
  const value = (fps) => number(fps, 1);
  const columns = [{ title: "Model", head: true, cell: (r) => r.model }];
  matrix.devices.forEach((device, n) => columns.push({ title: breaking(device), number: true,
    cell: (r) => [value(r.fps[n]), matrix.doubts[`${r.model} @ ${device}`] ? h("span", { class: "doubt" }, " ?") : null] }));
  if (matrix.weights) columns.push({ title: "Inferences per frame", number: true, cell: (r) => number(r.weight, 2) });
  return h("section", { "data-key": "matrix" }, title,
    h("p", { class: "quiet small" }, "Inferences per second of each model alone on each device. – means: it does not run there; ? means: the figure may be wrong."),
    table("FPS matrix", columns, rows), notes("Why a model does not run, or a figure may be wrong", { ...matrix.reasons, ...matrix.doubts }),
    variants(matrix, value));
}

function notes(title, texts) {
  const found = Object.entries(texts);
  return found.length ? h("details", { class: "small", "data-key": "notes" }, h("summary", {}, `${title} (${found.length})`),
    h("ul", {}, found.map(([name, text]) => h("li", {}, h("b", {}, name), `: ${text}`)))) : null;
}

function variants(matrix, value) {
  if (!matrix.variants.length) return null;
  const columns = [
    { title: "Node", head: true, cell: (v) => v.node },
    { title: "Network", cell: (v) => v.label },
    { title: "Agreement", number: true, cell: (v) => number(v.agreement, 3) },
    { title: "Floor", number: true, cell: (v) => number(v.floor, 3) },
  ];
  matrix.devices.forEach((device, n) => columns.push({ title: breaking(device), number: true,
    cell: (v) => [value(v.fps[n] ?? null), v.serves.includes(device) ? h("span", { class: "serves" }, " serves") : null] }));
  columns.push({ title: "Why not", cell: (v) => v.excluded });
  return h("div", { "data-key": "variants" }, h("h3", {}, "Variants"), table("Variants of networks", columns, matrix.variants));
}
