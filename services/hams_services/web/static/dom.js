// Elements, and how a live view changes them without losing focus, selection or a screen reader's place.

/** h("p", {class: "quiet", onclick: f}, "text", element, [more]) -> element. Null and false children are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  set(element, attributes);
  element.append(...nodes(children));
  return element;
}

function set(element, attributes) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element[name] = value;
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else if (["value", "checked", "disabled", "selected"].includes(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
}

function nodes(children) {
  return children.flat(Infinity).filter((one) => one !== null && one !== undefined && one !== false)
    .map((one) => (one instanceof Node ? one : document.createTextNode(String(one))));
}

/** Make the children of `parent` like `children`, with as few changes as possible. Elements match by `data-key`. */
export function update(parent, ...children) {
  const wanted = nodes(children);
  const keyed = new Map();
  for (const one of parent.children) if (one.dataset.key) keyed.set(one.dataset.key, one);
  let at = parent.firstChild;
  for (const one of wanted) {
    const key = one.dataset?.key;
    const old = key ? keyed.get(key) : at;
    if (old && old !== at) parent.insertBefore(old, at);
    if (old && alike(old, one)) {
      if (old !== one) morph(old, one);
      at = old.nextSibling;
    } else {
      parent.insertBefore(one, at);
      if (old && !key) { const next = old.nextSibling; old.remove(); at = next; }
    }
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
}

function alike(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.dataset?.key ?? "") === (b.dataset?.key ?? "");
}

function morph(old, wanted) {
  if (old.nodeType === Node.TEXT_NODE) { if (old.data !== wanted.data) old.data = wanted.data; return; }
  if (old.dataset?.own !== undefined) return; // it changes itself: a canvas, an open form
  for (const { name } of [...old.attributes]) {
    if (!wanted.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of wanted.attributes) {
    if (old.getAttribute(name) === value) continue;
    if (name === "style") old.style.cssText = value; // the page's policy refuses the attribute
    else old.setAttribute(name, value);
  }
  for (const name of ["onclick", "onchange", "oninput", "onsubmit", "onkeydown", "ontoggle"]) {
    if (old[name] !== wanted[name]) old[name] = wanted[name];
  }
  for (const name of ["checked", "disabled", "selected"]) if (name in wanted && old[name] !== wanted[name]) old[name] = wanted[name];
  if ("value" in wanted && old.value !== wanted.value && old !== document.activeElement) old.value = wanted.value;
  update(old, ...wanted.childNodes);
}

/** A table with a caption and headers. columns: [{title, cell(row), number?, head?}]; `head` cells name their row. */
export function table(caption, columns, rows, { key = null, hidden = true } = {}) {
  const cell = (column, row) => h(column.head ? "th" : "td",
    { class: column.number ? "number" : null, scope: column.head ? "row" : null }, column.cell(row));
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: hidden ? "unseen" : null }, caption),
      h("thead", {}, h("tr", {}, columns.map((c) => h("th", { scope: "col", class: c.number ? "number" : null }, c.title)))),
      h("tbody", {}, rows.map((row) => h("tr", { "data-key": key ? key(row) : null }, columns.map((c) => cell(c, row)))))));
}

/** A bar that is filled to `part` (0–1; null: unknown), with words for those who do not see it. */
export function bar(part, text, kind = "") {
  const width = `${Math.round(1000 * Math.min(1, Math.max(0, part ?? 0))) / 10}%`;
  return h("span", { class: `bar ${kind}`, role: "img", "aria-label": text }, h("span", { style: { width } }));
}

/** A mark with a word and a sign of its own: never colour alone. kind: good, warn, bad, plain. */
export function mark(kind, text) {
  const sign = { good: "●", warn: "▲", bad: "✖", plain: "○" }[kind] ?? "○";
  return h("span", { class: `mark ${kind}` }, h("span", { "aria-hidden": "true" }, `${sign} `), text);
}

/** A long name that may break behind its dots. */
export const breaking = (name) => String(name).split(/(?<=[./])/).flatMap((part, n) => (n ? [h("wbr"), part] : [part]));

export const number = (value, digits = 1) =>
  (value === null || value === undefined ? "–" : Number(value).toFixed(digits));
export const percent = (value) => (value === null || value === undefined ? "–" : `${Math.round(100 * value)}\u00a0%`);
export const total = (counts) => Object.values(counts ?? {}).reduce((sum, one) => sum + one, 0);
export const clock = (unix) => new Date(unix * 1000).toLocaleTimeString([], { hour12: false });
export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

let nextId = 0;
/** An id that no other element has. */
export const id = (prefix) => `${prefix}-${++nextId}`;
