// Brings what the page loads from node_modules to public/vendor, which git does not keep.
import { build } from "esbuild";
import { copyFile, mkdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const here = new URL("..", import.meta.url);
const target = new URL("public/vendor/", here);
const files = {
  "hls.LICENSE": "hls.js/LICENSE",
  "noble-hashes.LICENSE": "@noble/hashes/LICENSE",
  "p2p-media-loader-core.min.mjs": "p2p-media-loader-core/dist/p2p-media-loader-core.es.min.js",
  "mediabunny.LICENSE": "mediabunny/LICENSE",
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

// MD5, which browsers do not have, is what a bucket tells of each part of an upload: of the package that one module.
await build({
  stdin: { contents: 'export { md5 } from "@noble/hashes/legacy.js";', resolveDir: fileURLToPath(here) },
  outfile: fileURLToPath(new URL("md5.mjs", target)),
  bundle: true,
  minify: true,
  format: "esm",
});

// hls.js is built from its source, by its own switches: its light build lacks captions, sound with a playlist of its
// own and CMCD, and the full one has parts that no stream of ours needs, a seventh of all bytes of a start.
const { version } = JSON.parse(await readFile(new URL("node_modules/hls.js/package.json", here), "utf8"));
const switches = {
  __USE_ALT_AUDIO__: true,
  __USE_CMCD__: true,
  __USE_CONTENT_STEERING__: false,
  __USE_EME_DRM__: false,
  __USE_IFRAMES__: false, // seek-thumbnails.js decodes key frames itself, and when somebody wants to see one
  __USE_INTERSTITIALS__: false,
  __USE_M2TS_ADVANCED_CODECS__: true,
  __USE_MEDIA_CAPABILITIES__: true,
  __USE_SUBTITLES__: true,
  __USE_VARIABLE_SUBSTITUTION__: false,
  __HLS_WORKER_BUNDLE__: undefined, // the worker is a file of its own, which needs no "blob:" in a policy
  __VERSION__: version,
};

async function buildHls(source, name, format, inWorker) {
  const given = Object.entries({ ...switches, __IN_WORKER__: inWorker });
  await build({
    entryPoints: [fileURLToPath(new URL(`node_modules/hls.js/src/${source}`, here))],
    outfile: fileURLToPath(new URL(name, target)),
    define: Object.fromEntries(given.map(([key, value]) => [key, JSON.stringify(value) ?? "undefined"])),
    // As its own build has it: a field without a value is a type, and does not wipe out what its parent has set.
    tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } },
    bundle: true,
    minify: true,
    legalComments: "none",
    format,
  });
}
await buildHls("exports-default.ts", "hls.min.mjs", "esm", false);
await buildHls("demux/transmuxer-worker.ts", "hls.worker.js", "iife", true);

// Of mediabunny only what takes packets out of segments and puts them into an MP4.
await build({
  stdin: {
    contents: `export { BufferSource, EncodedAudioPacketSource, EncodedPacketSink, EncodedVideoPacketSource, Input, MP4, MPEG_TS,
      Mp4OutputFormat, Output, StreamTarget } from "mediabunny";`,
    resolveDir: fileURLToPath(here),
  },
  outfile: fileURLToPath(new URL("mediabunny.mjs", target)),
  bundle: true,
  minify: true,
  legalComments: "none",
  format: "esm",
});
