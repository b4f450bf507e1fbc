// The view deploy: a group file is written, checked as one types, planned on trial, and deployed.
import { ask, may, send } from "./api.js";
import { bar, h, mark, number, table, update } from "./dom.js";
import { told } from "./progress.js";
import { uploadSection } from "./uploads.js";
import { drawPlaces } from "./zones.js";

const STEPS = [["import", "Import"], ["measure", "Measure"], ["place", "Place"], ["load", "Load"], ["stream", "Start streams"]];
let draft = null; // what was written, while the page is open
const made = new Map(); // by group: the version that the text was made from

/** What names the editor offers for values that the schema does not know. */
function namesFor(start, path, data) {
  const last = path.at(-1);
  if (last === "parent") return Object.keys(data.nodes ?? {});
  if (last === "model") return [...(start.uploads ?? []).map((one) => `uploaded:${one.name}`), ...start.files.filter((one) => /\.(onnx|xml|tflite)$/.test(one))];
  if (last === "source") return ["push", ...start.files.filter((one) => /\.(mp4|avi|mkv|mov|jpg|jpeg|png)$/i.test(one))];
  if (path.at(-2) === "zones" && path[0] === "events") return Object.values(data.streams ?? {}).flatMap((one) => Object.keys(one?.zones ?? {}));
  return [];
}

export default {
  id: "deploy",
  title: "Deploy",
  need: "view",
  mount(root, context) {
    const view = new DeployView(root, context);
    view.begin();
    return { update: (state) => view.groups(state.groups.map((one) => one.name)), unmount: () => view.end() };
  },
};

class DeployView {
  constructor(root, context) {
    Object.assign(this, { root, context, editor: null, schema: null, valid: null, names: [], start: { files: [], uploads: [], examples: [], groups: [] } });
    this.abort = new AbortController();
    this.host = h("div", { class: "editor", "data-own": "" });
    this.open = h("select", { id: "open", onchange: () => this.opened() });
    this.file = h("input", { type: "file", id: "group-file", accept: ".yaml,.yml,text/yaml", class: "unseen", onchange: () => this.fromFile(), tabindex: "-1", "aria-label": "Group file of this computer" });
    this.findings = h("div", { role: "status", class: "findings" });
    this.steps = h("div");
    this.outcome = h("div", { role: "status" });
    this.actions = h("div", { class: "row actions" });
    this.draw = h("div", { class: "row" });
    this.uploads = uploadSection(context, () => this.reload(), (name) => this.copied(`model: uploaded:${name}`));
    update(root, h("h1", {}, "Deploy"),
      may("change") ? null : h("p", { class: "quiet" }, "Your role may look at groups and check files here; deploying needs the role admin."),
      h("section", {},
        h("div", { class: "row" }, h("label", { for: "open" }, "Open"), this.open,
          h("button", { type: "button", onclick: () => this.file.click() }, "File of this computer…"), this.file),
        h("p", { class: "quiet small", id: "editor-help" }, "Ctrl-Space completes, Ctrl-] and Ctrl-[ indent; Tab leaves the editor. Point at a key to see what it means."),
        this.host, this.findings, this.draw, this.actions, this.steps, this.outcome),
      this.uploads.element);
  }

  async begin() {
    try {
      const [editor, schema] = await Promise.all([import("./vendor/editor.js"), ask("schema"), this.reload()]);
      if (this.abort.signal.aborted) return;
      this.schema = schema;
      this.module = editor;
      this.editor = editor.createEditor(this.host, {
        label: "Group file", readOnly: !may("change"), text: draft ?? this.start.examples[0]?.text ?? "",
        schema: () => this.schema, names: (path, data) => namesFor(this.start, path, data),
        check: (text) => this.check(text), onChange: (text) => { draft = text; this.valid = null; this.buttons(); },
      });
      this.editor.check();
      this.buttons();
    } catch (error) {
      update(this.outcome, h("p", { class: "error" }, String(error)));
    }
  }

  end() { this.abort.abort(); this.editor?.destroy(); }

  async reload() {
    this.start = await ask("deploy");
    this.uploads.show(this.start.uploads, this.start.upload_mib);
    this.groups(this.start.groups);
  }

  groups(names) {
    if (this.shown === names.join()) return;
    this.shown = names.join();
    this.names = names;
    const options = (label, entries) => (entries.length ? h("optgroup", { label }, entries.map(([value, text]) => h("option", { value }, text))) : null);
    update(this.open, h("option", { value: "" }, "Choose…"),
      options("Deployed groups", names.map((one) => [`group:${one}`, one])),
      options("Examples", this.start.examples.map((one, index) => [`example:${index}`, one.title])));
    this.buttons();
  }

  async opened() {
    const [kind, name] = this.open.value.split(":");
    this.open.value = "";
    if (!kind || !this.replaces()) return;
    try {
      const found = kind === "example" ? this.start.examples[Number(name)] : await ask(`groups/${name}`);
      const { text } = found;
      made.clear();
      if (kind === "group") made.set(name, found.version);
      this.editor.set(text);
      this.context.announce(`${kind === "example" ? "The example" : name} is opened`);
    } catch (error) { this.failed(error); }
  }

  async fromFile() {
    const [file] = this.file.files;
    this.file.value = "";
    if (!file || !this.replaces()) return;
    if (file.size > 1 << 20) { this.failed(new Error(`${file.name} is larger than 1 MiB`)); return; }
    made.clear();
    this.editor.set(await file.text());
  }

  /** Whether the text may be replaced: it is one that was opened, or the person agrees. */
  replaces() {
    const text = this.editor.text();
    const opened = !text.trim() || this.start.examples.some((one) => one.text === text) || text.startsWith("# As the broker has it");
    return opened || confirm("Replace the text in the editor?");
  }

  async check(text) {
    try {
      const found = await ask("validate", { method: "POST", body: { text }, signal: this.abort.signal });
      if (this.editor?.text() !== text) return [];
      this.valid = found.ok ? found : null;
      const wrong = found.ok ? [] : found.findings.length ? found.findings : [{ line: 1, column: 1, path: "", text: found.hint ? `${found.text} (${found.hint})` : found.text }];
      this.showFindings(wrong, found);
      this.buttons();
      return wrong;
    } catch (error) {
      if (error.name !== "AbortError") update(this.findings, h("p", { class: "error" }, String(error)));
      return [];
    }
  }

  showFindings(wrong, found) {
    update(this.findings, found.ok
      ? h("p", {}, mark("good", "No mistakes"), ` in group ${found.name}.`)
      : [h("p", {}, mark("bad", wrong.length === 1 ? "One mistake" : `${wrong.length} mistakes`)),
        h("ul", { class: "plainlist" }, wrong.map((one) => h("li", {},
          h("button", { type: "button", class: "link", onclick: () => this.editor.goTo(one.line ?? 1, one.column ?? 1) },
            one.line ? `Line ${one.line}${one.column ? `, column ${one.column}` : ""}` : "The file"),
          ` ${one.path ? `${one.path}: ` : ""}${one.text}`)))]);
  }

  buttons() {
    if (!may("change")) { update(this.actions); update(this.draw); return; }
    const busy = Boolean(this.busy);
    const name = this.valid?.name;
    const known = name && this.names.includes(name);
    update(this.actions,
      h("button", { type: "button", class: "primary", disabled: busy || !name, onclick: () => this.deploy() }, known ? `Deploy ${name} again` : name ? `Deploy ${name}` : "Deploy"),
      h("button", { type: "button", disabled: busy || !name, onclick: () => this.dryRun() }, "Try without deploying"),
      known ? h("button", { type: "button", disabled: busy, onclick: () => this.undeploy(name) }, `Undeploy ${name}`) : null,
      busy ? h("button", { type: "button", onclick: () => this.busy.abort() }, "Stop waiting") : null);
    const streams = this.editor ? this.streams() : [];
    this.stream = streams.includes(this.stream) ? this.stream : streams[0];
    update(this.draw, streams.length ? [h("label", { for: "draw-stream" }, "Zones, lines, masks of"),
      h("select", { id: "draw-stream", onchange: (event) => { this.stream = event.target.value; } }, streams.map((one) => h("option", { value: one, selected: one === this.stream }, one))),
      h("button", { type: "button", onclick: () => this.drawing() }, "Draw on a picture…")] : []);
  }

  streams() { try { return this.module.streamsOf(this.editor.text()); } catch { return []; } }

  async drawing() {
    const text = this.editor.text();
    const regions = await drawPlaces({ text, stream: this.stream, regions: this.module.regionsOf(text, this.stream), announce: this.context.announce });
    if (!regions) return;
    try {
      this.editor.change(this.module.changesFor(this.editor.text(), this.stream, regions));
      this.context.announce("The group file has the places now");
    } catch (error) { this.failed(error); }
    this.editor.focus();
  }

  async run(path, what, stages, onDone, more = {}) {
    this.busy = new AbortController();
    this.buttons();
    update(this.outcome);
    let at = -1;
    let last = null;
    const show = (state) => this.showSteps(stages, at, last, state);
    try {
      const done = await told(path, { text: this.editor.text(), ...more }, (step) => {
        const [stage, ...rest] = step.step.split(": ");
        const index = stages.findIndex(([key]) => key === stage);
        if (index > at) { at = index; this.context.announce(stages[index][1]); }
        last = { ...step, text: rest.join(": ") };
        show("");
      }, this.busy.signal);
      at = stages.length;
      show("good");
      onDone(done);
    } catch (error) {
      if (error.name === "AbortError") update(this.outcome, h("p", {}, `Stopped waiting. ${what}`));
      else { show("bad"); this.failed(error); if (error.findings?.length) { this.editor.show(error.findings); this.showFindings(error.findings, { ok: false }); } }
    }
    this.busy = null;
    this.buttons();
  }

  showSteps(stages, at, last, state) {
    update(this.steps, h("ol", { class: "steps" }, stages.map(([, title], index) => {
      const now = index === at;
      const kind = index < at ? "good" : now ? (state === "bad" ? "bad" : "warn") : "plain";
      const word = index < at ? "done" : now ? (state === "bad" ? "failed" : "under way") : "to come";
      return h("li", { "aria-current": now ? "step" : null }, mark(kind, title), h("span", { class: "unseen" }, `: ${word}`),
        now && last && !state ? h("span", { class: "small quiet" }, ` ${last.text}`) : null,
        now && last?.total && !state ? bar(last.done / last.total, `${Math.round((100 * last.done) / last.total)} %`) : null);
    })));
  }

  deploy() {
    return this.run("deploy", "A group that was sent already goes on: see Overview.", STEPS, (done) => {
      made.set(done.name, done.version);
      const failed = done.streams.filter((one) => one.state === "failed");
      update(this.outcome,
        h("p", {}, mark("good", `${done.name} serves`), done.changed ? "" : `, nothing changed: version ${done.version} runs on`, `: predicted ${number(done.fps)} FPS by ${done.strategy}. `, h("a", { href: "#overview" }, "See it in the overview")),
        failed.map((one) => h("p", { class: "error" }, `Stream ${one.name} failed: ${one.text}`)));
      this.context.announce(`${done.name} serves`);
      this.reload();
    }, { version: made.get(this.valid?.name) ?? null });
  }

  dryRun() {
    return this.run("dry-run", "Nothing is deployed.", STEPS.slice(0, 3), (done) => {
      update(this.outcome, h("h2", {}, "What each strategy would do"), table("Plans by strategy", [
        { title: "Strategy", head: true, cell: (one) => (one.strategy === done.strategy ? `${one.strategy} (the file's)` : one.strategy) },
        { title: "FPS", number: true, cell: (one) => (one.error ? "–" : number(one.fps)) },
        { title: "At most", number: true, cell: (one) => (one.error || !one.bound_fps ? "–" : number(one.bound_fps)) },
        { title: "Slowest part", cell: (one) => (one.error ? "" : one.bottleneck) },
        { title: "Placement", cell: (one) => (one.error ? h("span", { class: "error" }, `${one.error.text} ${one.error.hint}`.trim()) : places(one.shares)) },
      ], done.answers), h("p", { class: "quiet small" }, "Predicted for this group alone on all devices. Nothing is deployed."));
    });
  }

  async undeploy(name) {
    if (!confirm(`Undeploy ${name}? Its streams end, and its networks are unloaded.`)) return;
    try {
      await send(`groups/${name}`, undefined, "DELETE");
      made.delete(name);
      update(this.outcome, h("p", {}, `${name} is undeployed.`));
      update(this.steps);
      await this.reload();
    } catch (error) { this.failed(error); }
  }

  async copied(line) {
    try { await navigator.clipboard.writeText(line); this.context.announce("Copied"); } catch { prompt("Copy this line", line); }
  }

  failed(error) { update(this.outcome, h("p", { class: "error", role: "alert" }, String(error))); }
}

function places(shares) {
  return h("ul", { class: "plainlist small" }, Object.entries(shares).map(([node, devices]) => h("li", {}, h("b", {}, node), ` ${Object.entries(devices)
    .map(([device, share]) => (share < 0.995 ? `${device} ${Math.round(100 * share)} %` : device)).join(", ")}`)));
}
