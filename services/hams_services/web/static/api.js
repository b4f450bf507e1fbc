// Requests to hams-web. All addresses are relative to the page, so that it works below any folder of a proxy.

/** An error that the server named: what is wrong, and what to do. */
export class ApiError extends Error {
  constructor(status, { code = "error", text = "", hint = "" } = {}) {
    super(text || `the server answered with ${status}`);
    this.status = status;
    this.code = code;
    this.hint = hint;
  }
  toString() { return this.hint ? `${this.message} (${this.hint})` : this.message; }
}

let session = { right: "none", role: "", csrf: "", login: true, refused: "" };
const order = ["none", "view", "send", "change"];

/** Who is logged in; see api_session.py. */
export const current = () => session;
export const may = (need) => order.indexOf(session.right) >= order.indexOf(need);

/** Ask `path` under api/; `body`: an object is sent as JSON, anything else (text, File, FormData) as it is. */
export async function ask(path, { method = "GET", body = undefined, signal = undefined } = {}) {
  const headers = {};
  let content = body;
  if (body !== undefined && body !== null && Object.getPrototypeOf(body) === Object.prototype) {
    content = JSON.stringify(body);
    headers["Content-Type"] = "application/json";
  }
  if (method !== "GET") headers["X-CSRF-Token"] = session.csrf;
  let response;
  try {
    response = await fetch(`api/${path}`, { method, headers, body: content, signal, credentials: "same-origin" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, { text: "hams-web does not answer", hint: "is it still running?" });
  }
  const data = (response.headers.get("Content-Type") ?? "").includes("json") ? await response.json() : await response.text();
  if (!response.ok) throw new ApiError(response.status, data);
  return data;
}

export const send = (path, body, method = "POST") => ask(path, { method, body });

/** Find out who is logged in. */
export async function refresh() { session = await ask("session"); return session; }
/** Log in with the text of a credentials file. */
export async function login(text) { session = await send("session", text); return session; }
export async function logout() { session = await send("session", undefined, "DELETE"); return session; }

const SILENT_MS = 10000; // the server sends a state each second, and each 5 s while parts do not answer
const WATCH_MS = 1000;

/** The system's state, each time it was read; no connection while the page is hidden. Returns a function that ends it. */
export function follow(onState, onTrouble) {
  let source = null, again = 0, heard = 0, stopped = false;
  const open = () => {
    if (stopped || source || document.hidden) return;
    heard = performance.now();
    source = new EventSource("api/live");
    source.addEventListener("state", (event) => { heard = performance.now(); onState(JSON.parse(event.data)); });
    source.addEventListener("open", () => onTrouble(""));
    source.addEventListener("error", () => {
      onTrouble("The connection to hams-web is lost. Trying again…");
      if (source?.readyState === EventSource.CLOSED) { close(); clearTimeout(again); again = setTimeout(open, 3000); }
    });
  };
  const close = () => { source?.close(); source = null; };
  const watch = setInterval(() => { // a connection whose other end is gone gives no error
    if (!source || performance.now() - heard < SILENT_MS) return;
    close();
    open();
    onTrouble("Nothing comes from hams-web. Trying again…");
  }, WATCH_MS);
  const onVisible = () => (document.hidden ? close() : open());
  document.addEventListener("visibilitychange", onVisible);
  addEventListener("pagehide", close);
  open();
  return () => {
    stopped = true;
    clearTimeout(again);
    clearInterval(watch);
    document.removeEventListener("visibilitychange", onVisible);
    removeEventListener("pagehide", close);
    close();
  };
}
