// Live pictures: one connection that carries those of all tiles that are visible now. Nothing is asked while none is.

const SETTLE_MS = 250; // scrolling shows and hides tiles in quick succession
const AGAIN_MS = 2000;
const SILENT_MS = 30000; // the server sends an empty record each 15 s

/** Pictures for tiles named GROUP/STREAM. `show(head, blob)` of a tile gets each; head is the result, see pictures.py. */
export class PictureFeed {
  #tiles = new Map(); // name -> show
  #visible = new Map(); // element -> name
  #observer;
  #timer = 0;
  #abort = null;
  #wanted = "";
  #ended = false;
  trouble = ""; // why no pictures come; empty: they do, or nothing is known

  constructor() {
    this.#observer = new IntersectionObserver((entries) => {
      for (const one of entries) {
        const name = one.target.dataset.tile;
        if (one.isIntersecting) this.#visible.set(one.target, name);
        else this.#visible.delete(one.target);
      }
      this.#later();
    }, { rootMargin: "50px" });
    document.addEventListener("visibilitychange", this.#later);
  }

  /** Show pictures of `name` in `element` while it is visible. */
  add(element, name, show) {
    element.dataset.tile = name;
    this.#tiles.set(name, show);
    this.#observer.observe(element);
  }

  remove(element) {
    this.#observer.unobserve(element);
    this.#visible.delete(element);
    this.#tiles.delete(element.dataset.tile);
    this.#later();
  }

  end() {
    this.#ended = true;
    this.#observer.disconnect();
    document.removeEventListener("visibilitychange", this.#later);
    clearTimeout(this.#timer);
    this.#abort?.abort();
  }

  #later = () => { clearTimeout(this.#timer); this.#timer = setTimeout(() => this.#open(), SETTLE_MS); };

  #open(again = false) {
    const names = document.hidden || this.#ended ? [] : [...new Set(this.#visible.values())].sort();
    const wanted = names.map((name) => `tile=${encodeURIComponent(name)}`).join("&");
    if (wanted === this.#wanted && !again) return;
    this.#wanted = wanted;
    this.#abort?.abort();
    this.#abort = null;
    if (!names.length) return;
    this.#abort = new AbortController();
    this.#read(wanted, this.#abort.signal);
  }

  async #read(query, signal) {
    let watch = 0; // a connection whose other end is gone gives no error
    const heard = () => { clearTimeout(watch); watch = setTimeout(() => { if (!signal.aborted) this.#open(true); }, SILENT_MS); };
    heard();
    try {
      const response = await fetch(`api/pictures?${query}`, { signal, credentials: "same-origin" });
      this.trouble = response.ok ? "" : (await response.json()).text;
      if (!response.ok) throw new Error(this.trouble);
      for await (const [head, jpeg] of records(response.body.getReader(), heard)) this.#tiles.get(`${head.group}/${head.stream}`)?.(head, jpeg);
    } catch { /* below */ }
    clearTimeout(watch);
    if (!signal.aborted && !this.#ended) setTimeout(() => { if (!signal.aborted) this.#open(true); }, AGAIN_MS);
  }
}

/** Records as they come: two lengths (u32, big endian), JSON, JPEG. An empty one only shows that the server lives. */
async function* records(reader, heard) {
  let buffer = new Uint8Array(0);
  while (true) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    buffer = joined(buffer, value);
    while (buffer.length >= 8) {
      const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
      const head = view.getUint32(0), size = view.getUint32(4), end = 8 + head + size;
      if (buffer.length < end) break;
      if (head) {
        const json = JSON.parse(new TextDecoder().decode(buffer.subarray(8, 8 + head)));
        yield [json, new Blob([buffer.slice(8 + head, end)], { type: "image/jpeg" })];
      }
      buffer = buffer.subarray(end);
    }
  }
}

function joined(a, b) {
  if (!a.length) return b;
  const both = new Uint8Array(a.length + b.length);
  both.set(a);
  both.set(b, a.length);
  return both;
}
