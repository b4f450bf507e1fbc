// Login: a person chooses their credentials file; its content goes to hams-web on this connection, and nowhere else.
import { current, login } from "./api.js";
import { h, update } from "./dom.js";

export default {
  id: "login",
  title: "Log in",
  need: "none",
  mount(root, context) {
    const file = h("input", { type: "file", id: "creds", accept: ".creds,text/plain", required: true, "aria-describedby": "creds-help" });
    const problem = h("div", { role: "alert" });
    const button = h("button", { type: "submit", class: "primary" }, "Log in");
    const refused = current().refused;
    const submit = async (event) => {
      event.preventDefault();
      if (!file.files.length) { update(problem, h("p", { class: "error" }, "Choose a file first.")); return; }
      button.disabled = true;
      update(problem);
      try {
        await login(await file.files[0].text());
        if (location.hash === "#login") history.replaceState(null, "", "#overview");
        await context.reload();
      } catch (error) {
        update(problem, h("p", { class: "error" }, String(error)));
        button.disabled = false;
      }
    };
    update(root, h("section", { class: "card narrow" },
      h("h1", {}, "Log in to HAMS"),
      refused
        ? h("p", { class: "error", role: "alert" }, `${refused[0].toUpperCase()}${refused.slice(1)}. Open it by https.`)
        : h("form", { onsubmit: submit },
          h("label", { for: "creds" }, "Credentials file"), file,
          h("p", { id: "creds-help", class: "quiet" },
            "Made by ", h("code", {}, "hams-ctl init"), ": ", h("code", {}, "dashboard.creds"), " to view, ",
            h("code", {}, "app.creds"), " to send images too, ", h("code", {}, "admin.creds"), " to change things. ",
            "hams-web keeps it in memory until you log out."),
          problem, button)));
    return {};
  },
};
