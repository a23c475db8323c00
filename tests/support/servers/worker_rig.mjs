// The Worker in workerd, as miniflare runs it, in a process of its own: node worker_rig.mjs FOLDER PORT STATE KEY DIST
// SIGUSR2 ends workerd and starts it again on the same state, SIGTERM ends all.
// Beside the Worker's own routes, POST /rig/evict throws the Stage out of memory, as Cloudflare does at will.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, port, state, key, dist] = process.argv.slice(2);
const { Miniflare, Log, LogLevel } = createRequire(join(folder, "package.json"))("miniflare");

const RIG = `
import worker, { Shown, Stage as Own, Swarm, Tally } from "./worker.mjs";
export { Shown, Swarm, Tally };
export class Stage extends Own { evict() { this.ctx.abort("evicted"); } }
export default { async fetch(request, env, ctx) {
  if (new URL(request.url).pathname !== "/rig/evict") return worker.fetch(request, env, ctx);
  try { await env.STAGE.getByName("live").evict(); } catch {}
  return new Response(null, { status: 204 });
} };`;
const own = readdirSync(folder).filter((name) => name.endsWith(".mjs")).map((name) => ({ type: "ESModule", path: name, contents: readFileSync(join(folder, name), "utf-8") }));
const options = {
  modules: [{ type: "ESModule", path: "rig.mjs", contents: RIG }, ...own],
  host: "127.0.0.1",
  port: +port,
  compatibilityDate: "2026-04-01",
  durableObjects: Object.fromEntries(["Stage", "Tally", "Swarm"].map((name) => [name.toUpperCase(), { className: name, useSQLite: true }])),
  durableObjectsPersist: state,
  bindings: { EDGE_KEY: key, EDGE_KEY_BEFORE: key.split("").reverse().join("") },
  assets: {
    directory: dist,
    binding: "ASSETS",
    routerConfig: { has_user_worker: true, invoke_user_worker_ahead_of_assets: true },
    assetConfig: { html_handling: "none", not_found_handling: "none" },
  },
  log: new Log(LogLevel.WARN),
  cf: false,
  telemetry: { enabled: false },
};
let running = null;
async function start() {
  await running?.dispose();
  running = new Miniflare(options);
  await running.ready;
}
process.on("SIGUSR2", start);
process.on("SIGTERM", () => running.dispose().finally(() => process.exit(0)));
await start();
