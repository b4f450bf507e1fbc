// The view overview: alarms, live pictures of the streams, groups, devices.
import { draw } from "./draw.js";
import { h, mark, number, percent, plural, table, total, update } from "./dom.js";
import { PictureFeed } from "./pictures.js";

export const STATES = { serving: "good", failed: "bad", waiting: "bad", alive: "good", lost: "bad", quarantined: "bad",
  gone: "bad", incompatible: "bad", playing: "good", paused: "plain", ended: "plain", reconnecting: "bad" };
const SHOWN = [["pictures", "Pictures"], ["boxes", "Boxes and tracks"], ["places", "Zones and lines"]];

export default {
  id: "overview",
  title: "Overview",
  need: "view",
  mount(root, context) {
    const view = new Overview(root, context);
    return { update: (state) => view.update(state), unmount: () => view.end() };
  },
};

class Overview {
  constructor(root, context) {
    this.root = root;
    this.context = context;
    this.feed = new PictureFeed();
    this.tiles = new Map(); // GROUP/STREAM -> {canvas, newest}
    this.alarms = null; // keys of those announced
    this.options = { pictures: true, boxes: true, places: true, ...saved() };
    this.state = null;
    this.ended = false;
  }

  update(state) {
    this.state = state;
    this.announce(state.alarms);
    for (const name of this.tiles.keys()) if (!state.streams.some((s) => `${s.group}/${s.name}` === name)) this.forget(name);
    update(this.root, h("h1", {}, "Overview"), alarms(state), this.streams(state), groups(state), devices(state));
    for (const [name, tile] of this.tiles) {
      if (!tile.watched && tile.canvas.isConnected && this.options.pictures) {
        tile.watched = true;
        this.feed.add(tile.canvas, name, (head, jpeg) => this.show(name, head, jpeg));
      }
    }
  }

  end() {
    this.ended = true;
    this.feed.end();
    for (const tile of this.tiles.values()) tile.newest?.bitmap.close();
  }

  announce(found) {
    const keys = new Set(found.map((one) => one.key));
    const fresh = this.alarms === null ? [] : found.filter((one) => !this.alarms.has(one.key));
    if (fresh.length) this.context.announce(fresh.map((one) => one.title).join(". "));
    else if (this.alarms?.size && !keys.size) this.context.announce("Nothing is wrong any more");
    this.alarms = keys;
  }

  streams(state) {
    const switches = h("fieldset", { class: "switches", "data-key": "switches" }, h("legend", { class: "unseen" }, "Show in tiles"),
      SHOWN.map(([key, text]) => h("label", {}, h("input", { type: "checkbox", checked: this.options[key],
        onchange: (event) => this.choose(key, event.target.checked) }), ` ${text}`)));
    return h("section", { "data-key": "streams", "aria-labelledby": "live" },
      h("div", { class: "head" }, h("h2", { id: "live" }, "Live streams"), state.streams.length ? switches : null),
      state.streams.length
        ? h("ul", { class: "tiles" }, state.streams.map((stream) => this.tile(stream)))
        : h("p", { class: "quiet" }, nothing(state)));
  }

  tile(stream) {
    const name = `${stream.group}/${stream.name}`;
    if (!this.tiles.has(name)) {
      const canvas = h("canvas", { class: "picture", role: "img", "data-own": "", width: 320, height: 180, "aria-label": `Live picture of ${name}` });
      this.tiles.set(name, { canvas, newest: null, watched: false, counts: "" });
    }
    const tile = this.tiles.get(name);
    const dropped = total(stream.dropped), failed = total(stream.failed);
    return h("li", { "data-key": name, class: "tile" },
      h("div", { class: "screen" }, tile.canvas.isConnected ? h("canvas", { "data-own": "" }) : tile.canvas,
        tile.newest ? null : h("p", { class: "quiet waiting" }, this.options.pictures ? this.feed.trouble || "waiting for a picture…" : "pictures are off")),
      h("div", { class: "facts" },
        h("h3", {}, name), mark(STATES[stream.state] ?? "warn", stream.state),
        h("p", { class: "figures" },
          fact("FPS", number(stream.fps)), fact("latency", `${number(stream.p50_ms, 0)} ms`),
          fact("dropped", dropped), fact("failed", failed, failed > 0), stream.gated ? fact("gated", stream.gated) : null),
        h("p", { class: "quiet small" }, this.options.pictures && stream.state === "playing" ? tile.counts || " " : stream.text || " "),
        places(stream)));
  }

  choose(key, on) {
    this.options[key] = on;
    localStorage.setItem("hams-tiles", JSON.stringify(this.options));
    for (const [name, tile] of this.tiles) {
      if (key === "pictures" && !on && tile.watched) {
        tile.watched = false;
        this.feed.remove(tile.canvas);
        tile.newest?.bitmap.close();
        tile.newest = null;
        tile.canvas.getContext("2d").clearRect(0, 0, tile.canvas.width, tile.canvas.height);
      } else if (tile.newest) this.paint(name);
    }
    this.update(this.state);
  }

  async show(name, head, jpeg) {
    const tile = this.tiles.get(name);
    if (!tile) return;
    let bitmap;
    try { bitmap = await createImageBitmap(jpeg); } catch { return; }
    if (this.ended || !tile.watched || this.tiles.get(name) !== tile) { bitmap.close(); return; } // meanwhile
    const first = !tile.newest;
    tile.newest?.bitmap.close();
    tile.newest = { head, bitmap };
    tile.counts = counted(head.objects);
    this.paint(name);
    if (first && this.state) this.update(this.state);
  }

  paint(name) {
    const { canvas, newest } = this.tiles.get(name);
    const [group, stream] = name.split("/");
    const places = this.state?.groups.find((one) => one.name === group)?.places[stream];
    draw(canvas, newest.bitmap, newest.head, places, this.options);
  }

  forget(name) {
    const tile = this.tiles.get(name);
    if (tile.watched) this.feed.remove(tile.canvas);
    tile.newest?.bitmap.close();
    this.tiles.delete(name);
  }
}

const saved = () => { try { return JSON.parse(localStorage.getItem("hams-tiles") ?? "{}"); } catch { return {}; } };

const fact = (name, value, bad = false) => h("span", { class: bad ? "fact bad" : "fact" }, h("b", {}, value), ` ${name}`);

/** Why there are no streams. */
function nothing({ groups: found, troubles }) {
  if (troubles.pipeline) return "The streams are not known now: the pipeline does not answer.";
  if (troubles.scheduler) return "There are no streams now.";
  if (found.length) return "No deployed group has a stream now.";
  return ["There are no streams: no group is deployed. ", h("a", { href: "#deploy" }, "Deploy one"), "."];
}

/** E.g. "2 faces in this frame". */
function counted(objects) {
  const labels = {};
  for (const one of objects) labels[one.label ?? "object"] = (labels[one.label ?? "object"] ?? 0) + 1;
  const parts = Object.entries(labels).map(([label, count]) => `${count} × ${label}`);
  return parts.length ? `in the picture: ${parts.join(", ")}` : "nothing is found in the picture";
}

function places(stream) {
  const zones = Object.entries(stream.zones).map(([name, z]) => `${name}: ${z.inside} inside, ${z.entries} entered`);
  const lines = Object.entries(stream.lines).map(([name, c]) => `${name}: ${c.in} in, ${c.out} out`);
  return zones.length + lines.length ? h("ul", { class: "quiet small plainlist" }, [...zones, ...lines].map((text) => h("li", {}, text))) : null;
}

function alarms(state) {
  return h("section", { "aria-labelledby": "alarms", "data-key": "alarms" },
    h("h2", { id: "alarms" }, "Alarms"),
    state.alarms.length
      ? h("ul", { class: "alarms" }, state.alarms.map((one) => h("li", { "data-key": one.key, class: one.level },
        mark(one.level === "alarm" ? "bad" : "warn", one.title), one.text && h("span", {}, one.text))))
      : h("p", { class: "last" }, mark("good", "Nothing is wrong")));
}

function groups(state) {
  if (!state.groups.length) return null;
  return h("section", { "data-key": "groups" }, h("h2", {}, "Groups"), table("Groups", [
    { title: "Group", head: true, cell: (g) => g.name },
    { title: "State", cell: (g) => [mark(STATES[g.state] ?? "warn", g.state),
      g.state !== "serving" && (g.total ? ` ${g.done} of ${g.total}` : g.text && ` ${g.text}`)] },
    { title: "FPS", number: true, cell: (g) => number(g.measured_fps) },
    { title: "Can reach", number: true, cell: (g) => number(g.expected_fps || g.predicted_fps || null) },
    { title: "Target", number: true, cell: (g) => number(g.target_fps) },
    { title: "Limited by", cell: (g) => g.bottleneck || "–" },
    { title: "Plan", cell: (g) => (g.plan ? `${g.plan.epoch}, ${g.plan.strategy}` : "–") },
  ], state.groups));
}

function devices(state) {
  const alive = state.devices.filter((one) => one.state === "alive").length;
  return h("section", { "data-key": "devices" }, h("h2", {}, "Devices"),
    h("p", { class: "quiet" }, `${alive} of ${plural(state.devices.length, "device")} alive`,
      state.losses ? `; plans are ready for the loss of ${state.losses_ready} of ${state.losses}` : "", "."),
    table("Devices", [
      { title: "Device", head: true, cell: (d) => [d.device, d.emulated && h("span", { class: "tag" }, "emulated")] },
      { title: "State", cell: (d) => mark(STATES[d.state] ?? "warn", d.state) },
      { title: "Busy", number: true, cell: (d) => percent(d.busy) },
      { title: "Queue", number: true, cell: (d) => d.queue },
      { title: "Memory", number: true, cell: (d) => `${number(d.memory_mib, 0)} MiB` },
      { title: "Hardware", cell: (d) => `${d.name}${d.limit ? `, ${d.limit}` : ""}` },
    ], state.devices));
}
