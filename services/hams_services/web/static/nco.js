// The view nco: variants of networks, how they agree and how fast they are, and jobs that make them.
import { ask, may, send } from "./api.js";
import { bar, clock, h, mark, number, table, update } from "./dom.js";
import { chart } from "./chart.js";

const EVERY_MS = 2000;
const MATRIX_MS = 15000;
const KIND = { waiting: "plain", running: "warn", done: "good", failed: "bad", cancelled: "plain" };

export default {
  id: "nco",
  title: "Optimizer",
  need: "view",
  mount(root, context) {
    const view = new NcoView(root, context);
    view.begin();
    return { update: (state) => view.groups(state.groups.map((one) => one.name)), unmount: () => view.end() };
  },
};

class NcoView {
  constructor(root, context) {
    Object.assign(this, { root, context, names: [], jobs: [], over: new Set(), known: false, due: 0 });
    this.abort = new AbortController();
    this.device = h("select", { id: "chart-device", onchange: () => this.showVariants() });
    this.group = h("select", { id: "job-group", required: true });
    this.budget = h("input", { id: "job-budget", type: "number", min: 1, max: 1440, step: 1, value: "15" });
    this.frames = h("input", { id: "job-frames", type: "number", min: 3, max: 10000, step: 1, value: "120" });
    this.fresh = h("input", { id: "job-fresh", type: "checkbox" });
    this.problem = h("div", { role: "alert" });
    this.unread = h("div", { role: "status" }); // why the jobs cannot be read now
    this.unmeasured = h("div", { role: "status" }); // why the matrix cannot be read now
    this.variants = h("div");
    this.list = h("div");
    this.button = h("button", { type: "submit", class: "primary" }, "Optimize");
    update(root, h("h1", {}, "Optimizer"),
      h("section", {}, h("h2", {}, "Variants"), h("div", { class: "row" }, h("label", { for: "chart-device" }, "Device"), this.device), this.unmeasured, this.variants),
      h("section", {}, h("h2", {}, "Jobs"), may("change") ? this.form() : h("p", { class: "quiet" }, "Jobs are shown to the role admin."), this.problem, this.unread, this.list));
  }

  form() {
    return h("form", { class: "fields", onsubmit: (event) => this.start(event) },
      h("div", {}, h("label", { for: "job-group" }, "Group"), this.group),
      h("div", {}, h("label", { for: "job-budget" }, "Most time, minutes"), this.budget),
      h("div", {}, h("label", { for: "job-frames" }, "Frames"), this.frames),
      h("div", {}, h("label", { for: "job-fresh" }, this.fresh, " new frames")), this.button);
  }

  async begin() {
    while (!this.abort.signal.aborted) {
      if (!document.hidden && performance.now() >= this.due) await this.matrix();
      await this.read();
      await new Promise((done) => setTimeout(done, EVERY_MS));
    }
  }

  end() { this.abort.abort(); }

  groups(names) {
    if (this.shown === names.join()) return;
    this.shown = names.join();
    update(this.group, names.map((one) => h("option", { value: one }, one)));
    this.button.disabled = !names.length;
  }

  async matrix() {
    try {
      this.found = await ask("matrix", { signal: this.abort.signal });
      const { devices, variants } = this.found;
      const measured = devices.map((_, at) => variants.filter((one) => one.fps[at]).length);
      const chosen = devices.includes(this.device.value) ? this.device.value : devices[measured.indexOf(Math.max(...measured))];
      update(this.device, devices.map((one) => h("option", { value: one, selected: one === chosen }, one)));
      this.showVariants();
      update(this.unmeasured);
      this.due = performance.now() + MATRIX_MS;
    } catch (error) { if (error.name !== "AbortError") update(this.unmeasured, h("p", { class: "error" }, String(error))); }
  }

  showVariants() {
    const { devices, variants } = this.found;
    const at = Math.max(0, devices.indexOf(this.device.value));
    if (!variants.length) {
      update(this.variants, h("p", { class: "quiet" }, "No network has variants yet. A job below makes them: INT8, bf16, pruned, on smaller input."));
      return;
    }
    const nodes = [...new Set(variants.map((one) => one.node))];
    const rows = variants.map((one) => ({ ...one, speed: one.fps[at] ?? null, serving: one.serves.includes(devices[at]) }));
    update(this.variants, chart(rows, nodes, devices[at]), table(`Variants on ${devices[at]}`, [
      { title: "Node", head: true, cell: (one) => one.node },
      { title: "Variant", cell: (one) => one.label },
      { title: "Agreement", number: true, cell: (one) => (one.label === "source" ? "1" : number(one.agreement, 4)) },
      { title: "At least", number: true, cell: (one) => number(one.floor, 2) },
      { title: "Images/s", number: true, cell: (one) => number(one.speed) },
      { title: "State", cell: (one) => (one.serving ? mark("good", "serves") : one.excluded ? h("span", {}, mark("bad", "refused"), ` ${one.excluded}`)
        : one.speed === null ? h("span", {}, mark("plain", "no number"), ` ${one.reasons[devices[at]] ?? ""}`) : mark("plain", "may serve")) },
    ], rows));
  }

  async read() {
    if (!may("change") || document.hidden) return;
    try {
      const { jobs } = await ask("nco/jobs", { signal: this.abort.signal });
      const ended = jobs.filter((one) => one.over && !this.over.has(one.id));
      for (const one of ended) { this.over.add(one.id); if (this.known) this.context.announce(`Job ${one.id} is ${one.state}`); }
      if (ended.length && this.known) await this.matrix();
      this.known = true;
      this.showJobs(jobs);
      update(this.unread);
    } catch (error) { if (error.name !== "AbortError") update(this.unread, h("p", { class: "error" }, String(error))); }
  }

  showJobs(jobs) {
    update(this.list, jobs.length ? h("ul", { class: "plainlist" }, jobs.map((one) => h("li", { class: "card", "data-key": one.id },
      h("div", { class: "head" }, h("h3", {}, `${one.kind} ${one.group} ${one.node}`.trim()), h("span", {}, mark(KIND[one.state], one.state), h("span", { class: "quiet small" }, ` ${one.id} · ${clock(one.created_at)}${one.host ? ` · ${one.host}` : ""}`))),
      one.over || !one.total ? null : h("p", { class: "row" }, bar(one.done / one.total, `${Math.round((100 * one.done) / one.total)} % of its time`), `${Math.round((100 * one.done) / one.total)} %`),
      one.text && !one.error ? h("p", {}, one.text) : one.state === "waiting" ? h("p", { class: "quiet" }, "It waits for an optimizer.") : null,
      one.warning ? h("p", {}, mark("warn", one.warning)) : null,
      one.error ? h("p", { class: "error" }, `${one.error.text} ${one.error.hint}`.trim()) : null,
      one.report ? h("details", { "data-key": "report" }, h("summary", {}, "What it did, and why variants were refused"), h("pre", { class: "report", tabindex: "0" }, one.report)) : null,
      one.over ? null : h("button", { type: "button", onclick: () => this.cancel(one), "aria-label": `Cancel job ${one.id}` }, "Cancel"))))
      : may("change") ? h("p", { class: "quiet" }, "No jobs yet.") : []);
  }

  async start(event) {
    event.preventDefault();
    update(this.problem);
    this.button.disabled = true;
    const job = { kind: "optimize", group: this.group.value, budget_s: 60 * Number(this.budget.value), frames: Number(this.frames.value), fresh: this.fresh.checked };
    try { const made = await send("nco/jobs", job); this.context.announce(`Job ${made.id} is submitted`); await this.read(); } catch (error) { update(this.problem, h("p", { class: "error" }, String(error))); }
    this.button.disabled = false;
  }

  async cancel(job) {
    if (!confirm(`Cancel job ${job.id}? Variants that are finished are kept.`)) return;
    update(this.problem);
    try { await send(`nco/jobs/${job.id}`, undefined, "DELETE"); await this.read(); } catch (error) { update(this.problem, h("p", { class: "error" }, String(error))); }
  }
}
