// Networks that people bring: choose or drop files, see how far they are sent, and what there is.
import { may, send } from "./api.js";
import { bar, h, table, update } from "./dom.js";
import { sendFiles } from "./progress.js";

const mib = (bytes) => (bytes < 1e6 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`);
const shapes = (ends) => Object.entries(ends ?? {}).map(([name, shape]) => `${name} ${shape}`).join(", ");

/** A section; `changed()` is called when there are others. Returns {element, show(uploads, limit)}. */
export function uploadSection(context, changed, use) {
  const input = h("input", { type: "file", id: "network", multiple: true, accept: ".onnx,.data,.onnx_data,.tflite,.xml,.bin", "aria-describedby": "network-help" });
  const state = h("div", { role: "status" });
  const list = h("div");
  const help = h("p", { id: "network-help", class: "quiet small" });
  const drop = h("div", { class: "drop" }, h("label", { for: "network" }, "Upload a network"), input, help, state);
  const take = async (files) => {
    if (!files.length) return;
    const sent = sendFiles("uploads", files, (part) => update(state, h("p", { class: "row" },
      bar(part, part === null ? "sending" : `${Math.round(100 * part)} % sent`), part === 1 ? "It is being read…" : "Sending…",
      h("button", { type: "button", onclick: () => sent.abort() }, "Stop"))));
    try {
      const done = await sent.answer;
      update(state, h("p", {}, `${done.name} is stored (${mib(done.size)}). Use it as `, h("code", {}, `model: ${done.source}`), "."));
      context.announce(`${done.name} is stored`);
      await changed();
    } catch (error) {
      update(state, h("p", { class: "error" }, String(error)));
    }
    input.value = "";
  };
  input.onchange = () => take([...input.files]);
  drop.ondragover = (event) => { event.preventDefault(); drop.classList.add("over"); };
  drop.ondragleave = () => drop.classList.remove("over");
  drop.ondrop = (event) => { event.preventDefault(); drop.classList.remove("over"); take([...event.dataTransfer.files]); };
  const remove = async (name) => {
    if (!confirm(`Forget the name ${name}? Groups that are deployed with it go on.`)) return;
    try { await send(`uploads/${name}`, undefined, "DELETE"); await changed(); } catch (error) { update(state, h("p", { class: "error" }, String(error))); }
  };
  const show = (uploads, limit) => {
    update(help, `ONNX (with its .data file if it has one), TensorFlow Lite, or OpenVINO's .xml with its .bin (choose both); up to ${limit} MiB. Or drop files here.`);
    update(list, uploads.length ? table("Uploaded networks", [
      { title: "Name", head: true, cell: (one) => one.name },
      { title: "Inputs", cell: (one) => shapes(one.inputs) },
      { title: "Outputs", cell: (one) => shapes(one.outputs) },
      { title: "Size", number: true, cell: (one) => mib(one.size) },
      { title: "", cell: (one) => h("span", { class: "row" },
        h("button", { type: "button", onclick: () => use(one.name), "aria-label": `Copy the line for ${one.name}` }, "Copy line"),
        h("button", { type: "button", onclick: () => remove(one.name), "aria-label": `Forget ${one.name}` }, "Forget")) },
    ], uploads) : []);
  };
  return { element: may("change") ? h("section", {}, h("h2", {}, "Networks of your own"), drop, list) : null, show };
}
