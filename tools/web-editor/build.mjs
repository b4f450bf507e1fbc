// Bundles the editor into one file of hams-web, with the licences of all that is in it beside it.
import { readFile, readdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const vendor = path.join(here, "../../services/hams_services/web/static/vendor");

const result = await build({
  absWorkingDir: here,
  entryPoints: ["src/editor.js"],
  outfile: path.join(vendor, "editor.js"),
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  legalComments: "none",
  metafile: true,
  banner: { js: "// Made by tools/web-editor (npm ci && npm run build). Licences: LICENSES.txt" },
});

const names = new Set();
for (const input of Object.keys(result.metafile.inputs)) {
  const found = input.match(/node_modules\/((?:@[^/]+\/)?[^/]+)\//);
  if (found) names.add(found[1]);
}
const texts = [];
for (const name of [...names].sort()) {
  const folder = path.join(here, "node_modules", name);
  const { version, license } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((one) => /^licen[cs]e/i.test(one));
  texts.push(`${name} ${version} (${license})\n\n${file ? await readFile(path.join(folder, file), "utf8") : ""}`);
}
await writeFile(path.join(vendor, "LICENSES.txt"), texts.map((one) => one.trim()).join(`\n\n${"-".repeat(80)}\n\n`) + "\n");
const size = Object.values(result.metafile.outputs)[0].bytes;
console.log(`editor.js: ${(size / 1024).toFixed(0)} KiB, of ${[...names].length} packages`);
