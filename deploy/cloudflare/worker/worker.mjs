/** The edge: what the service pushed last, for any number of viewers; no request of theirs reaches the service. */
import { WorkerEntrypoint } from "cloudflare:workers";
import { NO_STORE, age, answer, bodyOf, busy, digested, hex, json, negotiated, parsed, textOf } from "./http.mjs";

export { Stage } from "./stage.mjs";
export { Swarm, Tally } from "./peers.mjs";

const MOST_PUSH = 4 * 2 ** 20, MOST_REPORT = 1024; // bytes; the service knows the first, too
const SHORTEST_KEY = 43; // characters of 256 bits in Base64
const SHOWN = 48, SILENT = 30_000; // recordings that a list shows at once; ms after which the service is said to be silent
const KEPT = ["_HLS_msn", "_HLS_part", "_HLS_skip"]; // of a query: all else says nothing
const PATHS = /^\/(|config\.json|health|recordings|recordings\/[^/]+\.json|(watch|c)\/[^/]+|live\/.+\.m3u8|live\/(events|segments)\/[^/]+)$/;
const ORIGIN = /^\/origin\/v1\/([a-z]{1,20})\/?(.*)$/; // channel, and what of it
const PREFLIGHT = { "access-control-allow-methods": "GET, HEAD, OPTIONS", "access-control-allow-headers": "*", "access-control-max-age": "86400" };
const MISSING = (what) => answer(404, `There is no such ${what}.\n`, age(5));
/** Asks a Stage; one that is moved, or deployed anew, lets its requests down, and they ask once more. */
async function asked(env, channel, path, init) {
  for (let tries = 0; ; tries += 1) {
    try { return await env.STAGE.getByName(channel).fetch(`https://stage/${path}`, init); }
    catch { if (tries === 1) return busy("The edge is away.\n", age(1)); }
  }
}
/** What viewers are shown. Workers Cache stands before it: of all who ask for the same thing, one is let through. */
export class Shown extends WorkerEntrypoint {
  async fetch(request) {
    const { pathname, search } = new URL(request.url), path = pathname.slice(1);
    if (path.startsWith("live/")) return asked(this.env, "live", path + search);
    if (path === "health") return this.health();
    const { settings, tags, list } = (await this.text("page")) ?? {};
    if (!settings) return busy("The service has not told the edge anything yet.\n", age(1));
    if (path === "config.json") return json(settings, age(10));
    if (path === "") return this.page("index.html", settings, tags);
    if (!settings.recordings) return MISSING("page");
    const all = (await this.text("recordings")) ?? [], listed = all.filter((one) => one.listed).map((one) => one.told);
    const slice = (begin, end) => ({ recordings: listed.slice(begin, end), older: listed.length > end ? `/recordings/${listed[end - 1].id}.json` : null });
    if (path === "recordings") return this.page("recordings.html", { ...settings, page: slice(0, SHOWN) }, list);
    if (path === "recordings/newest.json") return json({ ...slice(0, 1), older: null }, age(5));
    const place = listed.findIndex(({ id }) => path === `recordings/${id}.json`) + 1;
    if (path.endsWith(".json")) return place ? json(slice(place, place + SHOWN), age(5)) : MISSING("recording");
    const one = all.find((found) => found.path === pathname);
    return this.page("index.html", { ...settings, recording: one?.told ?? {} }, one?.tags, one ? 200 : 404);
  }
  async text(name) { return asked(this.env, "live", name).then((found) => (found.ok ? found.json() : null)); }
  /** A file of the page with settings, and what link previews show, put in. */
  async page(name, settings, tags, status = 200) {
    const html = await (await this.env.ASSETS.fetch(`https://assets/${name}`)).text(), block = '<script id="config" type="application/json">';
    const whole = html.replace(/\b(src|href)="(?![a-z]+:|[/#])/g, '$1="/').replace(/<title>.*?<\/title>/is, (title) => tags || title)
      .replace(block, () => block + JSON.stringify(settings).replaceAll("<", "\\u003c"));
    return answer(status, whole, age(5), "text/html; charset=utf-8", { etag: `"${hex(await digested(whole)).slice(0, 32)}"` });
  }
  async health() {
    const asking = [asked(this.env, "live", "").then((one) => one.json()), this.text("health"), this.env.SWARM.getByName("live").counts()];
    const [about, told, counts] = await Promise.all(asking), reason = "the service is silent";
    const body = { status: "failing", stream: "offline", reason, warning: null, ...told, ...(told?.signaling && counts) };
    if (about.silent > SILENT) Object.assign(body, ["starting", "live"].includes(body.stream) ? { status: "failing", reason } : { warning: reason });
    return json(body, age(1), body.reason ? 503 : 200);
  }
}
/** What the service, and the operator's check, ask; the channel "view" is what viewers see, any other is a trial. */
async function origin(request, env, [, channel, path]) {
  const known = await isKnown(request, [env.EDGE_KEY, env.EDGE_KEY_BEFORE]), body = await bodyOf(request, known ? MOST_PUSH : 0);
  const stage = channel === "view" ? "live" : channel, { method, headers } = request;
  if (!known) return answer(401, "", NO_STORE);
  if (method === "DELETE" || (method === "GET" && path)) return asked(env, stage, path + new URL(request.url).search, { method });
  if (method === "GET") {
    const page = hex(await digested(await (await env.ASSETS.fetch("https://assets/index.html")).arrayBuffer()));
    return json({ ...(await (await asked(env, stage, "")).json()), page }, NO_STORE);
  }
  if (method !== "PUT" || body === null) return answer(method === "PUT" ? 413 : 405, "", NO_STORE);
  const found = await asked(env, stage, "", { method, headers, body });
  if (!found.ok || channel !== "view") return found;
  const [reports, counts] = await Promise.all([env.TALLY.getByName("live").take(), env.SWARM.getByName("live").counts()]);
  return json({ ...(await found.json()), ...counts, reports }, NO_STORE);
}
/** Whether a request has one of these keys: digests are compared, which takes as long for any two. */
async function isKnown(request, keys) {
  const shown = await digested(request.headers.get("authorization") ?? "");
  const same = keys.filter((key) => key?.length >= SHORTEST_KEY).map(async (key) => crypto.subtle.timingSafeEqual(shown, await digested(`Bearer ${key}`)));
  return (await Promise.all(same)).includes(true);
}
/** A page's report, kept for the service. */
async function report(request, env) {
  const body = await bodyOf(request, MOST_REPORT), text = await textOf(body, request.headers, MOST_REPORT), told = parsed(text);
  if (!Number.isFinite(told?.seconds) || !/^[0-9a-f]{16}$/.test(told.viewer ?? "0".repeat(16))) return answer(body ? 400 : 413, "This is no report.\n", NO_STORE);
  const taken = await env.TALLY.getByName("live").report(request.headers.get("cf-connecting-ip") ?? "", text);
  return taken ? answer(204, null, NO_STORE) : answer(429, null, NO_STORE, undefined, { "retry-after": "30" });
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url), { method, headers } = request, path = url.pathname, own = path.match(ORIGIN);
    if (own) return origin(request, env, own);
    if (path === "/live/beacon" && method === "POST") return report(request, env);
    if (path === "/live/tracker") {
      const is = headers.get("upgrade")?.toLowerCase() === "websocket" && !headers.has("sec-websocket-protocol");
      return is ? env.SWARM.getByName("live").fetch(request) : answer(426, "A WebSocket without subprotocols.\n", NO_STORE, undefined, { upgrade: "websocket" });
    }
    if (method === "OPTIONS" && path.startsWith("/live/")) return answer(204, null, NO_STORE, undefined, PREFLIGHT);
    if (method !== "GET" && method !== "HEAD") return answer(405, null, NO_STORE, undefined, { allow: "GET, HEAD" });
    if (!PATHS.test(path)) return env.ASSETS.fetch(request);
    const query = new URLSearchParams(KEPT.filter((name) => path.endsWith(".m3u8") && url.searchParams.has(name)).map((name) => [name, url.searchParams.get(name)]));
    const found = negotiated(request, await ctx.exports.Shown.fetch(`https://edge${path}${query.size ? `?${query}` : ""}`));
    if (path === "/health") found.headers.set("x-client-address", headers.get("cf-connecting-ip") ?? "");
    return found;
  },
};
