// Copies what the page loads from node_modules to public/vendor, which git does not keep.
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";

const here = new URL("..", import.meta.url);
const target = new URL("public/vendor/", here);
const files = {
  // The full build, not the light one: captions may come. The worker is a file of its own in the module build.
  "hls.min.mjs": "hls.js/dist/hls.min.mjs",
  "hls.worker.js": "hls.js/dist/hls.worker.js",
  "hls.LICENSE": "hls.js/LICENSE",
  "p2p-media-loader-core.min.mjs": "p2p-media-loader-core/dist/p2p-media-loader-core.es.min.js",
  "p2p-media-loader.LICENSE": "p2p-media-loader-core/LICENSE",
  "uPlot.min.css": "uplot/dist/uPlot.min.css",
  "uPlot.LICENSE": "uplot/LICENSE",
};

await mkdir(target, { recursive: true });
for (const [name, source] of Object.entries(files)) {
  await copyFile(new URL(`node_modules/${source}`, here), new URL(name, target));
}

// uPlot's module comes unminified only, three times as large as this script, which leaves a variable `uPlot`.
const script = await readFile(new URL("node_modules/uplot/dist/uPlot.iife.min.js", here), "utf8");
await writeFile(new URL("uPlot.mjs", target), `${script}\nexport default uPlot;\n`);

// It imports the core by its name. An import map would be an inline script, which the content security policy
// refuses; a hash in the policy would have to follow every change. So it gets the file's address.
const glue = "p2p-media-loader-hlsjs/dist/p2p-media-loader-hlsjs.es.min.js";
const [before, after, ...more] = (await readFile(new URL(`node_modules/${glue}`, here), "utf8")).split('"p2p-media-loader-core"');
if (after === undefined || more.length > 0) throw new Error(`${glue} does not import the core as expected`);
await writeFile(new URL("p2p-media-loader-hlsjs.min.mjs", target), `${before}"./p2p-media-loader-core.min.mjs"${after}`);
