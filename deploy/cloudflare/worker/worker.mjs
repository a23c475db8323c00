/** The edge: what the service pushed last, for any number of viewers; no request of theirs reaches the service. */
import { WorkerEntrypoint } from "cloudflare:workers";
import { HTML, NO_STORE, age, answer, asked, bodyOf, busy, digested, gateOf, hex, json, negotiated, parsed, textOf, visitor } from "./http.mjs";
export { Stage } from "./stage.mjs";
export { Swarm, Tally } from "./peers.mjs";
const MOST_PUSH = 4 * 2 ** 20, MOST_REPORT = 1024, MOST_FORM = 4096, MOST_PASSPHRASE = 200, SHORTEST_KEY = 43; // bytes; the service knows the first, too; characters; those of 256 bits in Base64
const SHOWN = 48, NEWEST = 10, SILENT = 30_000, KEPT = ["_HLS_msn", "_HLS_part", "_HLS_skip"], WRONG = 3, OFTEN = 4, OUTSIDE = 7000; // recordings of a list; those that all pages ask for; ms until the service is said to be silent; of a query; of the pages that ask; ms for which a passphrase waits where too many do
const PATHS = /^\/(|config\.json|health|recordings|recordings\/[^/]+\.json|(oembed\/)?(watch|c)\/[^/]+|live\/.+\.m3u8|live\/(events|segments)\/[^/]+)$/;
const PAGES = /^\/(recordings|(watch|c)\/[\w.~%-]+)?$/, UNTOLD = /^\/(live\/|health)/; // that open in a window; that have no paths of guests in them
const OPENED = "edge-opened", OF_A_RECORDING = /^\/watch\/([\w-]+)$/, OF_THE_PAGE = /^\/(assets\/[\w.-]+|icon-\w+\.png|manifest\.json)$/, ORIGIN = /^\/origin\/v1\/([a-z]{1,20})\/?(.*)$/; // what strangers can ask for: the host at which a cache keeps it, and the paths; channel, and what of it
const REMEMBERED = 86_400, PREFLIGHT = { "access-control-allow-methods": "GET, HEAD, OPTIONS", "access-control-allow-headers": "*", "access-control-max-age": "86400" }, HIDDEN = { "cache-control": "private, no-store", "referrer-policy": "no-referrer" }; // seconds for which a browser keeps the cookie of an access that is over: the page says so
const takesPage = (headers) => headers.get("accept")?.includes("text/html"), MISSING = (what) => answer(404, `There is no such ${what}.\n`, age(5));
/** What viewers are shown. Workers Cache stands before it: of all who ask for the same thing, one is let through. */
export class Shown extends WorkerEntrypoint {
  async fetch(request) {
    const { hostname, pathname, search } = new URL(request.url), path = pathname.slice(1);
    if (path.startsWith("live/")) return asked(this.env, "live", path + search);
    if (path === "health") return this.health();
    const { settings, opened, tags, list, mark = "/" } = (await this.text("page")) ?? {}; // the last: of a private event, for the begin of a guest's paths
    if (!settings) return busy("The service has not told the edge anything yet.\n", age(1));
    if (path === "config.json") return json(settings, age(10));
    if (path === "") return this.page("index.html", settings, tags);
    if (!settings.recordings) return MISSING("page");
    const all = (await this.text("recordings")) ?? [], listed = all.filter((one) => one.listed).map((one) => one.told);
    const slice = (begin, end) => ({ recordings: listed.slice(begin, end), older: listed.length > end ? `${mark}recordings/${listed[end - 1].id}.json` : null });
    if (path === "recordings") return this.page("recordings.html", { ...settings, page: slice(0, SHOWN) }, list);
    if (path === "recordings/newest.json") return json({ ...slice(0, NEWEST), older: null }, age(5));
    const place = listed.findIndex(({ id }) => path === `recordings/${id}.json`) + 1;
    if (path.endsWith(".json")) return place ? json(slice(place, place + SHOWN), age(5)) : MISSING("recording");
    const one = all.find((found) => found.path === pathname.replace("/oembed/", "/"));
    if (path.startsWith("oembed/")) return one?.oembed ? json(one.oembed, age(5)) : MISSING("recording");
    return this.page("index.html", { ...(hostname === OPENED ? opened : settings), recording: one?.told ?? {} }, one?.tags, one ? 200 : 404);
  }
  async text(name) { return asked(this.env, "live", name).then((found) => (found.ok ? found.json() : null)); }
  /** A file of the page with settings, and what link previews show, put in. */
  async page(name, settings, tags, status = 200) {
    const html = await (await this.env.ASSETS.fetch(`https://assets/${name}`)).text(), block = '<script id="config" type="application/json">';
    const whole = html.replace(/\b(src|href)="(?![a-z]+:|[/#])/g, '$1="/').replace(/<title[^>]*>.*?<\/title>/is, (title) => tags || title)
      .replace(block, () => block + JSON.stringify(settings).replaceAll("<", "\\u003c"));
    return answer(status, whole, age(5), HTML, { etag: `"${hex(await digested(whole)).slice(0, 32)}"` });
  }
  async health() {
    const about = await (await asked(this.env, "live", "")).json(), told = await this.text("health"), counts = await this.env.SWARM.getByName("live").counts(), reason = "the service is silent", body = { status: "failing", stream: "offline", reason, warning: null, ...told, ...(told?.signaling && counts) };
    if (about.silent > SILENT) Object.assign(body, ["starting", "live"].includes(body.stream) ? { status: "failing", reason } : { warning: reason });
    return json(body, age(1), body.reason ? 503 : 200);
  }
}
/** What the service, and the operator's check, ask; the channel "view" is what viewers see, any other is a trial. */
async function origin(request, env, [, channel, path]) {
  const known = await isKnown(await digested(request.headers.get("authorization") ?? ""), [env.EDGE_KEY, env.EDGE_KEY_BEFORE]), body = await bodyOf(request, known ? MOST_PUSH : 0), stage = channel === "view" ? "live" : channel, { method, headers } = request;
  if (!known) return answer(401, "", NO_STORE);
  if (method === "DELETE" || (method === "GET" && path)) return asked(env, stage, path + new URL(request.url).search, { method });
  if (method === "GET") return json({ ...(await (await asked(env, stage, "")).json()), page: hex(await digested(await (await env.ASSETS.fetch("https://assets/index.html")).arrayBuffer())) }, NO_STORE);
  if (method !== "PUT" || body === null) return answer(method === "PUT" ? 413 : 405, "", NO_STORE);
  const found = await asked(env, stage, "", { method, headers, body });
  if (!found.ok || channel !== "view") return found;
  const [taken, counts] = await Promise.all([env.TALLY.getByName("live").take(), env.SWARM.getByName("live").counts()]);
  return json({ ...(await found.json()), ...counts, ...taken }, NO_STORE);
}
/** Whether the digest of what a request shows is that of a key: to compare digests takes as long for any two. */
const isKnown = async (shown, keys) =>
  (await Promise.all(keys.map(async (key) => key?.length >= SHORTEST_KEY && crypto.subtle.timingSafeEqual(shown, await digested(`Bearer ${key}`))))).includes(true);
/** A page's report, kept for the service. */
async function report(request, env, grant) {
  const body = await bodyOf(request, MOST_REPORT), text = await textOf(body, request.headers, MOST_REPORT), told = parsed(text);
  if (!Number.isFinite(told?.seconds) || !/^[0-9a-f]{16}$/.test(told.viewer ?? "0".repeat(16))) return answer(body ? 400 : 413, "This is no report.\n", NO_STORE);
  return (await env.TALLY.getByName("live").report(request.headers.get("cf-connecting-ip") ?? "", text, grant)) ? answer(204, null, NO_STORE) : answer(429, null, NO_STORE, undefined, { "retry-after": "30" });
}
/** What a viewer gets under a path, in public or as a guest. A cache has nothing of before the doors opened, or closed. */
async function shown(request, env, ctx, host, grant = "") {
  const url = new URL(request.url), { method, headers } = request, path = url.pathname;
  if (path === "/live/beacon" && method === "POST") return report(request, env, grant);
  const isSocket = headers.get("upgrade")?.toLowerCase() === "websocket" && !headers.has("sec-websocket-protocol");
  if (path === "/live/tracker") return isSocket ? env.SWARM.getByName("live").fetch(request) : answer(426, "A WebSocket without subprotocols.\n", NO_STORE, undefined, { upgrade: "websocket" });
  if (method === "OPTIONS" && path.startsWith("/live/")) return answer(204, null, NO_STORE, undefined, PREFLIGHT);
  if (method !== "GET" && method !== "HEAD") return answer(405, null, NO_STORE, undefined, { allow: "GET, HEAD" });
  if (!PATHS.test(path)) return env.ASSETS.fetch(request);
  const query = new URLSearchParams(KEPT.filter((name) => path.endsWith(".m3u8") && url.searchParams.has(name)).map((name) => [name, url.searchParams.get(name)]));
  const found = negotiated(request, await ctx.exports.Shown.fetch(`https://${host}${path}${query.size ? `?${query}` : ""}`));
  if (path === "/health") found.headers.set("x-client-address", headers.get("cf-connecting-ip") ?? "");
  return found;
}
/** What a stranger gets: the page that asks, in his language, as the service has made it; others for a token that is refused, and while the doors are closed. */
function asking({ headers }, { path, token, inPath, waits, fault }, { pages, plain, policy }) {
  if (path === "/health" && !inPath) return json({ status: "ok" }, NO_STORE);
  const isPage = takesPage(headers), language = headers.get("accept-language")?.split(",").map((one) => one.trim().slice(0, 2).toLowerCase()).find((one) => Object.hasOwn(pages, one)) ?? (pages.en ? "en" : Object.keys(pages)[0]);
  const more = { ...(fault === OFTEN ? { "retry-after": "60" } : { "www-authenticate": "Invitation" }), ...(waits && { refresh: "2" }), ...(isPage && { "content-security-policy": policy, "content-language": language }) };
  return answer(fault === OFTEN ? 429 : 401, isPage ? pages[language][fault ?? (waits ? 2 : token ? 1 : 0)].replace('name="to" value="/"', `name="to" value="${PAGES.test(path) ? path : "/"}"`) : plain, NO_STORE, isPage ? HTML : undefined, more);
}
/** Who types the passphrase gets the token that the service makes, as who opens a link has one. */
async function attempted(request, env, guest, gate) {
  const text = await textOf(await bodyOf(request, MOST_FORM), request.headers, MOST_FORM), given = new URLSearchParams(text ?? ""), told = given.get("passphrase") ?? "", path = PAGES.test(given.get("to") ?? "") ? given.get("to") : "/";
  let found = { full: told.length <= MOST_PASSPHRASE && request.headers.get("sec-fetch-site") !== "cross-site" };
  for (let times = 0, last = Date.now() + OUTSIDE; found.full && Date.now() < last; times += 1) found = await scheduler.wait(times && 250 + 500 * Math.random()).then(() => env.TALLY.getByName("live").attempt(request.headers.get("cf-connecting-ip") ?? "", told, times > 0));
  if (!found.token) return asking(request, { ...guest, path, fault: found.busy ? OFTEN : WRONG }, gate.asking);
  return request.headers.get("accept")?.includes("application/json") ? json({ path: `/t/${found.token}/` }, NO_STORE) : entered(request, found.token, path);
}
/** A browser has the token as a cookie from then on, and opens the page without it. */
const entered = ({ url }, token, location, seconds = Math.floor(parseInt(token, 16) - Date.now() / 1000) + REMEMBERED) =>
  answer(303, null, NO_STORE, undefined, { location, "set-cookie": `broadcaster_access=${token}; Max-Age=${seconds}; Path=/; HttpOnly; SameSite=Lax${url.startsWith("https:") ? "; Secure" : ""}` });
/** A private event: guests get what is under the path without their token, strangers the recordings that are opened; a browser that opens a page has it as a cookie from then on. */
async function gated(request, env, ctx, gate) {
  const { method, headers } = request, url = new URL(request.url), guest = await visitor(request, url.pathname, gate), { path, token, inPath, grant, expires } = guest, { opened = [], doors } = gate;
  const [, id] = path.match(OF_A_RECORDING) ?? [], isFree = !grant && !inPath && /^(GET|HEAD)$/.test(method) && (id ? opened.includes(id) : opened.length > 0 && OF_THE_PAGE.test(path));
  const isTry = gate.asking.takes && path === "/access" && !inPath && method === "POST", isEntered = inPath && method === "GET" && PAGES.test(path) && takesPage(headers) && (headers.get("sec-fetch-dest") ?? "document") === "document";
  const inner = new Request(Object.assign(url, { pathname: path }), request);
  inner.headers.set("x-guest", JSON.stringify({ grant, expires }));
  const found = isFree ? await shown(inner, env, ctx, OPENED) : isTry ? await attempted(inner, env, guest, gate) : !grant ? asking(request, guest, gate.asking) : isEntered ? (ctx.waitUntil(env.TALLY.getByName("live").open(grant)), entered(request, token, path)) : await shown(inner, env, ctx, `edge-${doors}`, grant);
  const hasPaths = grant && found.body && PATHS.test(path) && !UNTOLD.test(path), own = `/t/${token}/`;
  const told = hasPaths ? (await found.text()).replaceAll("/t/-/", own).replaceAll("/t/+/", inPath ? own : "/") : found.body;
  return found.webSocket ? found : new Response(told, { status: found.status, headers: [...new Map([...found.headers, ...Object.entries(HIDDEN)])] });
}
export default {
  async fetch(request, env, ctx) {
    const own = new URL(request.url).pathname.match(ORIGIN), gate = own ? null : await gateOf(env);
    return own ? origin(request, env, own) : gate === undefined ? busy("The edge is away.\n") : gate ? gated(request, env, ctx, gate) : shown(request, env, ctx, "edge");
  },
};
