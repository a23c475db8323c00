// Copies what the page loads from node_modules to public/vendor, which git does not keep.
import { copyFile, mkdir } from "node:fs/promises";

const here = new URL("..", import.meta.url);
const target = new URL("public/vendor/", here);
// The full build, not the light one: captions may come. The worker is a file of its own in the module build.
const files = ["hls.min.mjs", "hls.worker.js"];

await mkdir(target, { recursive: true });
for (const name of files) {
  await copyFile(new URL(`node_modules/hls.js/dist/${name}`, here), new URL(name, target));
}
await copyFile(new URL("node_modules/hls.js/LICENSE", here), new URL("hls.LICENSE", target));
