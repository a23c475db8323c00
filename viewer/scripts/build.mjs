// Makes of the page in public/ the one that viewers get, in dist/: one script and one style sheet for the start, and
// scripts of their own for what is loaded when it is wanted. Names change with what is in them, so that a browser
// keeps a file for ever; each is compressed once, here. public/ works as it is, too.
import { build, transform } from "esbuild";
import { createHash } from "node:crypto";
import { cp, mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { basename, extname, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";
import { icon } from "./icons.mjs";

const from = fileURLToPath(new URL("../public/", import.meta.url));
const to = fileURLToPath(new URL("../dist/", import.meta.url));
const ASSETS = "assets"; // beside index.html; the service lets browsers keep what is in it
const options = { bundle: true, minify: true, format: "esm", legalComments: "none", write: false, logLevel: "error" };

/** Writes a file under a name that is its own, and answers with that. */
async function asset(name, contents) {
  const bytes = Buffer.from(contents);
  const extension = extname(name);
  const hash = createHash("sha256").update(bytes).digest("hex").slice(0, 10);
  const hashed = `${basename(name, extension)}-${hash}${extension}`;
  const path = `${to}${ASSETS}/${hashed}`;
  await writeFile(path, bytes);
  await writeFile(`${path}.gz`, gzipSync(bytes, { level: 9 }));
  await writeFile(`${path}.br`, brotliCompressSync(bytes));
  return hashed;
}

const copied = async (path) => asset(path, await readFile(path));

/** What is imported when it is wanted has again what it shares with others: so the start stays one script. */
const onDemand = {
  name: "on-demand",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\./ }, async ({ path, kind, resolveDir }) =>
      kind === "dynamic-import" ? { path: `./${await script(resolve(resolveDir, path))}`, external: true } : null,
    );
    onLoad({ filter: /public[\\/]js[\\/].*\.js$/ }, async ({ path }) => {
      let contents = await readFile(path, "utf8");
      for (const [whole, name] of contents.matchAll(/new URL\("(\.[^"]+)", import\.meta\.url\)/g)) {
        const file = await copied(resolve(path, "..", name));
        contents = contents.replace(whole, `new URL("./${file}", import.meta.url)`);
      }
      return { contents };
    });
  },
};

async function script(path) {
  const { outputFiles } = await build({ ...options, entryPoints: [path], plugins: [onDemand] });
  return asset(path, outputFiles[0].contents);
}

/** All of them, in their order. */
async function style(paths) {
  const contents = paths.map((path) => `@import "./${path}";`).join("\n");
  const { outputFiles } = await build({ ...options, stdin: { contents, loader: "css", resolveDir: from } });
  return asset("style.css", outputFiles[0].contents);
}

/** One of the pages, which name their script, their sheets and the icon. */
async function page(file) {
  const html = await readFile(`${from}${file}`, "utf8");
  const sheets = [...html.matchAll(/<link rel="stylesheet" href="([^"]+)">\s*/g)];
  const [, main] = /<script type="module" src="([^"]+)"/.exec(html);
  const names = {
    [main]: await script(`${from}${main}`),
    [sheets[0][1]]: await style(sheets.map(([, path]) => path)),
  };
  if (html.includes('"js/embed.js"')) {
    const { outputFiles } = await build({ ...options, entryPoints: [`${from}js/embed.js`], format: "iife" });
    names["js/embed.js"] = await asset("embed.js", outputFiles[0].contents);
  }
  const icon = (await readFile(`${from}favicon.svg`)).toString("base64"); // smaller than a request for it
  let made = sheets.slice(1).reduce((text, [whole]) => text.replace(whole, ""), html);
  const places = Object.entries(names).map(([name, hashed]) => [name, `${ASSETS}/${hashed}`]);
  for (const [name, place] of [...places, ["favicon.svg", `data:image/svg+xml;base64,${icon}`]]) {
    if (!made.includes(`"${name}"`)) throw new Error(`${file} does not name ${name}`);
    made = made.replace(`"${name}"`, `"${place}"`);
  }
  await writeFile(`${to}${file}`, made);
}

/** The page for an unknown address speaks its reader's language on a host that cannot choose one, too. */
async function missingPage() {
  const html = await readFile(`${from}404.html`, "utf8");
  const names = ["direction", ...[...html.matchAll(/data-text="(\w+)"/g)].map(([, name]) => name)];
  const languages = {};
  for (const file of (await readdir(`${from}languages`)).sort()) {
    const words = JSON.parse(await readFile(`${from}languages/${file}`, "utf8"));
    languages[basename(file, ".json")] = Object.fromEntries(names.map((name) => [name, words[name]]));
  }
  const { code } = await transform(`{
    const languages = ${JSON.stringify(languages)}, html = document.documentElement;
    const wanted = navigator.languages.map((name) => name.slice(0, 2).toLowerCase()).find((name) => Object.hasOwn(languages, name));
    if (!html.dir && wanted) { // a service has said the direction with the language
      Object.assign(html, { lang: wanted, dir: languages[wanted].direction });
      for (const element of document.querySelectorAll("[data-text]")) element.textContent = languages[wanted][element.dataset.text];
    }
  }`, { minify: true });
  const script = code.trim();
  const hash = createHash("sha256").update(script).digest("base64");
  const places = [["default-src 'none';", `default-src 'none'; script-src 'sha256-${hash}';`], ["  </body>", `    <script>${script}</script>\n  </body>`]];
  await writeFile(`${to}404.html`, places.reduce((text, [place, more]) => text.replace(place, () => more), html));
}

await rm(to, { recursive: true, force: true });
await mkdir(`${to}${ASSETS}`, { recursive: true });
// The rest is as it was: settings, pictures, and of the libraries what the dashboard loads, and the licences.
const made = /^(index\.html|recordings\.html|js|vendor|favicon\.svg|.*\.css)$/;
const ours = (path) => !made.test(path.slice(from.length).split(/[\\/]/)[0]);
await cp(from, to, { recursive: true, filter: (path) => path.length <= from.length || ours(path) });
await cp(`${from}vendor`, `${to}vendor`, { recursive: true, filter: (path) => !/(hls|p2p|mediabunny)[^/\\]*js$/.test(path) });
const drawing = await readFile(`${from}favicon.svg`, "utf8");
for (const pixels of [192, 512]) await writeFile(`${to}icon-${pixels}.png`, icon(drawing, pixels));
// Systems cut these themselves.
await writeFile(`${to}icon-180.png`, icon(drawing, 180, { full: true }));
await writeFile(`${to}icon-full.png`, icon(drawing, 512, { full: true }));
await missingPage();
await page("recordings.html");
await page("index.html"); // at last: make knows by it that all is there
