// The page's frame: which view is shown, who is logged in, and the state that all views share.
import { current, follow, logout, may, refresh } from "./api.js";
import { h, update } from "./dom.js";
import overview from "./overview.js";
import placement from "./placement.js";
import timeline from "./timeline.js";
import deploy from "./deploy.js";
import nco from "./nco.js";
import login from "./login.js";

// A view: {id, title, need, mount(root, context)} -> {update(state), unmount()}. `update` is called with each new state.
const VIEWS = [overview, placement, timeline, deploy, nco];
const main = document.getElementById("main");

let shown = null; // the view and what its mount returned
let state = null; // newest
let stopFollowing = null;

const context = {
  announce, // for screen readers: what has changed
  reload: start, // after login or logout
  state: () => state,
};

function announce(text) { document.getElementById("announce").textContent = text; }

function wanted() {
  const name = location.hash.slice(1).split("/")[0];
  if (current().right === "none" || name === "login") return login;
  return VIEWS.find((view) => view.id === name) ?? overview;
}

function show() {
  if (location.hash === "#main") return; // the link that skips the head
  const view = wanted();
  if (shown?.view !== view) {
    shown?.parts?.unmount?.();
    main.replaceChildren();
    document.title = `${view.title} – HAMS`;
    shown = { view, parts: null };
    if (view !== login && !may(view.need)) {
      update(main, h("h1", {}, view.title), h("p", {}, `Your role (${current().role}) may not use this view. `,
        h("a", { href: "#login" }, "Log in with other credentials"), "."));
    } else {
      shown.parts = view.mount(main, context);
      if (state) shown.parts?.update?.(state);
    }
    announce(view.title);
  }
  frame();
}

function frame() {
  const { login: hasLogin, role, right } = current();
  update(document.getElementById("nav"), right === "none" ? [] : h("ul", {}, VIEWS.map((view) =>
    h("li", {}, h("a", { href: `#${view.id}`, "aria-current": shown?.view === view ? "page" : null }, view.title)))));
  document.querySelector("#nav [aria-current]")?.scrollIntoView({ block: "nearest", inline: "nearest" });  // a phone's nav scrolls
  const account = right === "none" ? [] : [h("span", { class: "role" }, role)];
  if (hasLogin && current().user) account.push(h("button", { type: "button", onclick: leave }, "Log out"));
  else if (hasLogin && right !== "none") account.push(h("a", { href: "#login" }, "Log in"));
  update(document.getElementById("account"), account);
}

/** Ends the session, and shows the form for the next one once: what is chosen in it must not be lost. */
async function leave() {
  stopFollowing?.();
  stopFollowing = null;
  await logout();
  history.replaceState(null, "", location.pathname + location.search);
  await start();
}

function trouble(text) {
  update(document.getElementById("banner"), text ? h("p", {}, text) : []);
  if (text) refresh().then(() => { if (stopFollowing && current().right === "none") start(true); }, () => {});
}

async function start(known = false) {
  stopFollowing?.();
  stopFollowing = null;
  state = null;
  if (known !== true) {
    try { await refresh(); } catch (error) { update(main, h("p", { role: "alert" }, String(error))); setTimeout(start, 3000); return; }
  }
  shown?.parts?.unmount?.();
  shown = null;
  show();
  if (current().right !== "none") stopFollowing = follow((next) => { state = next; shown?.parts?.update?.(next); }, trouble);
  else update(document.getElementById("banner"));
}

addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); });
start();
