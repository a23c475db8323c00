// Lists every module that the page starts with in index.html, so that a browser fetches them all at once and not
// one layer of imports after the other. `--check` only says whether the list is up to date.
import { readFileSync, writeFileSync } from "node:fs";

const root = new URL("../public/", import.meta.url);
const page = new URL("index.html", root);
const BLOCK = /( *)<!-- preload: npm run preload -->[\s\S]*?<!-- \/preload -->/;
const IMPORT = /^(?:import|export)\b[^"';]*?(?:from )?"([^"]+)";/gm;

function modules() {
  const found = new Set([new URL("js/main.js", root).href]);
  for (const address of found) {
    if (address.startsWith(new URL("vendor/", root).href)) continue; // a bundle of its own
    for (const [, name] of readFileSync(new URL(address), "utf8").matchAll(IMPORT)) {
      if (name.startsWith(".")) found.add(new URL(name, address).href);
    }
  }
  const names = [...found].slice(1).map((address) => address.slice(root.href.length)).sort();
  return [...names.filter((name) => name.startsWith("vendor/")), ...names.filter((name) => !name.startsWith("vendor/"))];
}

const before = readFileSync(page, "utf8");
const after = before.replace(BLOCK, (_, indent) => {
  const links = modules().map((name) => `<link rel="modulepreload" href="${name}">`);
  return ["<!-- preload: npm run preload -->", ...links, "<!-- /preload -->"].map((line) => indent + line).join("\n");
});

if (process.argv.includes("--check")) {
  if (after !== before) {
    console.error("public/index.html does not list the page's modules: npm run preload");
    process.exitCode = 1;
  }
} else if (after !== before) writeFileSync(page, after);
