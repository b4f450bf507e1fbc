// The view timeline: what happened and why, newest first; new entries come as they happen.
import { h, mark, plural, update } from "./dom.js";

const SPANS = [["3600", "the last hour"], ["86400", "the last day"], ["604800", "the last week"], ["2592000", "the last 30 days"]];
const KINDS = { "device-lost": "bad", quarantine: "bad", "job-failed": "bad", unplaced: "bad", "network-out": "bad", "benchmark-failed": "warn", refused: "warn",
  "plan-dropped": "warn", "plan-withdrawn": "warn", "device-back": "good", "device-here": "good", resumed: "good", "plan-active": "good",
  "job-done": "good", variant: "good" };
const MOST = 2000; // entries that are kept

export default {
  id: "timeline",
  title: "Timeline",
  need: "view",
  mount(root, context) {
    const view = new Timeline(root, context);
    return { unmount: () => view.end() };
  },
};

class Timeline {
  constructor(root, context) {
    this.root = root;
    this.context = context;
    this.entries = []; // oldest first
    this.since = "86400";
    this.words = "";
    this.kind = "";
    this.problem = "";
    this.source = null;
    this.timer = 0;
    this.again = 0;
    this.ended = false;
    this.opened = 0;
    this.onVisible = () => (document.hidden ? this.close() : this.open());
    document.addEventListener("visibilitychange", this.onVisible);
    this.open();
    this.draw();
  }

  open() {
    if (this.ended || this.source || document.hidden) return;
    this.entries = [];
    this.opened = performance.now();
    this.source = new EventSource(`api/history?since=${this.since}`);
    this.source.addEventListener("entry", (event) => this.take(JSON.parse(event.data)));
    this.source.addEventListener("open", () => { this.problem = ""; this.later(); });
    this.source.addEventListener("trouble", (event) => { this.problem = JSON.parse(event.data).text; this.later(); });
    this.source.addEventListener("error", () => {
      if (this.source?.readyState !== EventSource.CLOSED) return;
      this.problem ||= "The history cannot be read now. Trying again…";
      this.close();
      clearTimeout(this.again);
      this.again = setTimeout(() => this.open(), 3000);
      this.later();
    });
  }

  close() { this.source?.close(); this.source = null; }

  end() {
    this.ended = true;
    this.close();
    clearTimeout(this.timer);
    clearTimeout(this.again);
    document.removeEventListener("visibilitychange", this.onVisible);
  }

  take(entry) {
    if (this.entries.some((one) => one.id === entry.id)) return;
    this.entries.push(entry);
    if (this.entries.length > MOST) this.entries.shift();
    if (performance.now() - this.opened > 3000) this.context.announce(entry.text);
    this.later();
  }

  later() { this.timer ||= setTimeout(() => { this.timer = 0; this.draw(); }, 100); }

  choose(how) { how(); this.draw(); }

  draw() {
    const kinds = [...new Set(this.entries.map((one) => one.kind))].sort();
    const words = this.words.toLowerCase();
    const shown = this.entries.filter((one) => (!this.kind || one.kind === this.kind)
      && (!words || `${one.text} ${one.reason} ${one.group} ${one.device} ${one.devices}`.toLowerCase().includes(words))).reverse();
    update(this.root, h("h1", {}, "Timeline"), h("section", {},
      h("form", { class: "inline", onsubmit: (event) => event.preventDefault() },
        field("since", "Show", h("select", { id: "since", onchange: (event) => { this.since = event.target.value; this.close(); this.open(); this.draw(); } },
          SPANS.map(([value, text]) => h("option", { value, selected: value === this.since }, text)))),
        field("kind", "Kind", h("select", { id: "kind", onchange: (event) => this.choose(() => { this.kind = event.target.value; }) },
          h("option", { value: "", selected: !this.kind }, "all"), kinds.map((kind) => h("option", { value: kind, selected: kind === this.kind }, spoken(kind))))),
        field("words", "Containing", h("input", { id: "words", type: "search", value: this.words, placeholder: "a group, a device, a word",
          oninput: (event) => this.choose(() => { this.words = event.target.value; }) }))),
      this.problem ? h("p", { class: "error", role: "status" }, this.problem) : null,
      h("p", { class: "quiet small" }, plural(shown.length, "entry", "entries"), ", newest first"),
      shown.length ? h("ol", { class: "timeline" }, days(shown)) : h("p", { class: "last" }, "Nothing of that kind has happened.")));
  }
}

const spoken = (kind) => kind.replaceAll("-", " ");
const field = (id, label, control) => h("span", { class: "field" }, h("label", { for: id }, label), control);

function days(entries) {
  const found = [];
  let day = "";
  for (const one of entries) {
    const at = new Date(one.at * 1000), mine = at.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
    if (mine !== day) { day = mine; found.push(h("li", { class: "day", "data-key": `day ${mine}` }, h("h2", {}, mine))); }
    found.push(h("li", { "data-key": one.id },
      h("time", { datetime: at.toISOString() }, at.toLocaleTimeString([], { hour12: false })),
      h("div", {}, h("p", {}, mark(KINDS[one.kind] ?? "plain", spoken(one.kind)), " ", one.text),
        one.reason ? h("p", { class: "quiet small" }, one.reason) : null)));
  }
  return found;
}
