// The Worker in workerd, as miniflare runs it, in a process of its own: node worker_rig.mjs FOLDER PORT STATE KEY DIST [bare]
// With "bare" it is the least that holds requests and wakes them: what the Worker is measured against.
// SIGUSR2 ends workerd and starts it again on the same state, SIGTERM ends all.
// Beside the Worker's own routes, POST /rig/evict throws the Stage out of memory, as Cloudflare does at will, and
// GET /rig/asked says how often the Stage was asked for what since then.
import { readFileSync, readdirSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, port, state, key, dist, bare] = process.argv.slice(2);
const { Miniflare, Log, LogLevel } = createRequire(join(folder, "package.json"))("miniflare");

const RIG = `
import worker, { Shown, Stage as Own, Swarm, Tally } from "./worker.mjs";
export { Shown, Swarm, Tally };
export class Stage extends Own {
  asked = {};
  evict() { this.ctx.abort("evicted"); }
  counts() { return this.asked; }
  fetch(request) {
    const { pathname, search } = new URL(request.url);
    this.asked[pathname + search] = (this.asked[pathname + search] ?? 0) + 1;
    return super.fetch(request);
  }
}
export default { async fetch(request, env, ctx) {
  const { pathname } = new URL(request.url), stage = env.STAGE.getByName("live");
  if (pathname === "/rig/asked") return Response.json(await stage.counts());
  if (pathname !== "/rig/evict") return worker.fetch(request, env, ctx);
  try { await stage.evict(); } catch {}
  return new Response(null, { status: 204 });
} };`;
const BARE = `
import { DurableObject } from "cloudflare:workers";
export class Tally extends DurableObject {}
export class Swarm extends DurableObject {}
export class Stage extends DurableObject {
  waiting = [];
  async fetch(request) {
    if (request.method === "PUT") {
      const text = await request.text();
      for (const wake of this.waiting.splice(0)) wake(text);
      return new Response();
    }
    if (new URL(request.url).pathname === "/held") return Response.json(this.waiting.length);
    return new Response(await new Promise((wake) => this.waiting.push(wake)));
  }
}
export default { fetch: (request, env) => env.STAGE.getByName("live").fetch(request) };`;
const own = readdirSync(folder).filter((name) => name.endsWith(".mjs")).map((name) => ({ type: "ESModule", path: name, contents: readFileSync(join(folder, name), "utf-8") }));
const options = {
  modules: [{ type: "ESModule", path: "rig.mjs", contents: bare ? BARE : RIG }, ...own],
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
