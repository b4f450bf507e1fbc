// "What if": the scheduler's dry run with some devices switched off, and others added.
import { send } from "./api.js";
import { h, number, table } from "./dom.js";

const STRATEGIES = ["", "default", "mfs", "hfs", "optimal", "replicated"];

export class WhatIf {
  constructor(redraw, context) {
    this.redraw = redraw;
    this.context = context;
    this.without = new Set();
    this.added = []; // {like, host}
    this.like = "";
    this.host = "same";
    this.strategy = "";
    this.busy = false;
    this.answer = null;
    this.problem = "";
  }

  section(state) {
    const alive = state.devices.filter((d) => d.state === "alive").map((d) => d.device);
    if (!state.troubles.scheduler) {
      for (const name of this.without) if (!alive.includes(name)) this.without.delete(name);
      this.added = this.added.filter((one) => alive.includes(one.like));
    }
    const changed = this.without.size + this.added.length > 0 || this.strategy;
    return h("section", { "data-key": "whatif", "aria-labelledby": "whatif" },
      h("h2", { id: "whatif" }, "What if"),
      h("p", { class: "quiet small" }, "The scheduler's dry run: nothing changes. An added device has the measured speeds of the one that it is like."),
      h("form", { onsubmit: (event) => { event.preventDefault(); this.ask(); } },
        h("fieldset", {}, h("legend", {}, "Devices that are switched on"), h("div", { class: "choices" },
          alive.map((name) => h("label", { "data-key": name }, h("input", { type: "checkbox", checked: !this.without.has(name),
            onchange: (event) => this.change(() => (event.target.checked ? this.without.delete(name) : this.without.add(name))) }), ` ${name}`)),
          this.added.map((one, n) => h("span", { class: "chip", "data-key": `added-${n}` }, `+ like ${one.like}${one.host ? ", on another box" : ""} `,
            h("button", { type: "button", "aria-label": `Remove the added device like ${one.like}`,
              onclick: () => this.change(() => this.added.splice(n, 1)) }, "✕"))))),
        h("div", { class: "inline" },
          choice("like", "Add a device like", alive, alive.includes(this.like) ? this.like : alive[0], (value) => { this.like = value; }),
          choice("host", "on", ["same", "other"], this.host, (value) => { this.host = value; }, { same: "the same box", other: "another box" }),
          h("button", { type: "button", disabled: !alive.length, onclick: () => this.change(() =>
            this.added.push({ like: alive.includes(this.like) ? this.like : alive[0], host: this.host === "other" ? "other" : "" })) }, "Add"),
          choice("strategy", "Strategy", STRATEGIES, this.strategy, (value) => this.change(() => { this.strategy = value; }), { "": "the group's own" })),
        h("button", { type: "submit", class: "primary", disabled: this.busy || !changed || !state.groups.length }, this.busy ? "Asking…" : "Ask the scheduler")),
      h("div", { "data-key": "answer" }, this.problem ? h("p", { class: "error", role: "alert" }, this.problem) : null, this.answer ? this.shown() : null));
  }

  change(how) { how(); this.redraw(); }

  async ask() {
    this.busy = true;
    this.problem = "";
    this.redraw();
    try {
      this.answer = await send("what-if", { without: [...this.without], added: this.added, strategy: this.strategy });
      const { before, after } = this.answer;
      this.context.announce(after.error ? after.error.text : `${number(before.fps, 2)} FPS before, ${number(after.fps, 2)} FPS after`);
    } catch (error) {
      this.answer = null;
      this.problem = String(error);
    }
    this.busy = false;
    this.redraw();
  }

  shown() {
    const { before, after, strategy } = this.answer;
    if (after.error) return h("p", { class: "error" }, `There is no such placement: ${after.error.text}`);
    const rows = Object.keys({ ...before.group_fps, ...after.group_fps });
    const moved = Object.keys(after.shares).filter((node) => where(before.shares[node]) !== where(after.shares[node]));
    return h("div", {},
      table(`Predicted FPS before and after, by ${strategy}`, [
        { title: "Group", head: true, cell: (g) => g },
        { title: "Now, predicted FPS", number: true, cell: (g) => number(before.group_fps[g] ?? null, 2) },
        { title: "Then", number: true, cell: (g) => number(after.group_fps[g] ?? null, 2) },
        { title: "Change", number: true, cell: (g) => difference(before.group_fps[g], after.group_fps[g]) },
      ], rows),
      h("p", { class: "small" }, `Bottleneck now: ${before.bottleneck || "–"}; then: ${after.bottleneck || "–"}.`),
      moved.length
        ? [h("h3", {}, "What moves"), h("ul", { class: "small" }, moved.map((node) => h("li", {}, h("b", {}, node), `: ${where(before.shares[node])} → ${where(after.shares[node])}`)))]
        : h("p", { class: "small" }, "Nothing moves."));
  }
}

function choice(name, label, values, chosen, onchoice, words = {}) {
  const id = `whatif-${name}`;
  return h("span", { class: "field" }, h("label", { for: id }, label), h("select", { id, onchange: (event) => onchoice(event.target.value) },
    values.map((value) => h("option", { value, selected: value === chosen }, words[value] ?? value))));
}

const where = (places) => Object.entries(places ?? {}).map(([device, share]) =>
  (share < 0.999 ? `${device} (${Math.round(100 * share)} %)` : device)).join(", ") || "nowhere";

function difference(before, after) {
  if (!before || after === undefined) return "–";
  const part = Math.round(100 * (after / before - 1));
  return part === 0 ? "none" : `${part > 0 ? "+" : "−"}${Math.abs(part)} %`;
}
