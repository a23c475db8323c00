/** What all modules use: answers with their headers, bodies, read within bounds, and the gate of private events. */
export const HLS = "application/vnd.apple.mpegurl", JSON_TYPE = "application/json; charset=utf-8", HTML = "text/html; charset=utf-8", NO_STORE = "no-store";
const OPEN = { "access-control-allow-origin": "*", "x-content-type-options": "nosniff", "access-control-expose-headers": "Age, Content-Length, Date, ETag, Last-Modified" };
const GZIP = /(^|[,\s])gzip\s*(;\s*q=(?!0(\.0*)?\s*(,|$))[\d.]+\s*)?(,|$)/i; // in Accept-Encoding, not refused (q=0)
/** A shared cache keeps an answer for so many seconds, and, by the last words, no longer while the edge fails. */
export const age = (seconds) => `public, max-age=${seconds}, stale-if-error=0`;
export const answer = (status, body, cache, type = "text/plain; charset=utf-8", more = {}) =>
  new Response(body, { status, headers: { ...OPEN, date: new Date().toUTCString(), "cache-control": cache, "content-type": type, ...more } });
export const json = (value, cache, status = 200) => answer(status, JSON.stringify(value), cache, JSON_TYPE), busy = (text, cache = NO_STORE) => answer(503, text, cache, undefined, { "retry-after": "1" });
export const tried = (make) => { try { return make(); } catch { return null; } }, parsed = (text) => tried(() => JSON.parse(text));
export const hex = (digest) => new Uint8Array(digest).toHex(), digested = (text) => crypto.subtle.digest("SHA-256", typeof text === "string" ? new TextEncoder().encode(text) : text);
/** The answer as this client wants it: 304 for what it has, gzip if it takes that, no body for HEAD. */
export function negotiated({ cf, method, headers }, found) {
  const out = new Headers(found.headers), tag = out.get("etag");
  const gzip = tag && GZIP.test(cf?.clientAcceptEncoding ?? headers.get("accept-encoding") ?? "");
  const own = gzip ? `${tag.slice(0, -1)}-gz"` : tag, known = headers.get("if-none-match")?.split(",") ?? [];
  const has = tag && known.some((one) => [own, "*"].includes(one.trim().replace(/^W\//, "")));
  if (tag) out.set("etag", own), out.set("vary", "Accept-Encoding");
  if (has) out.delete("content-type"), out.delete("last-modified");
  else if (gzip) out.set("content-encoding", "gzip"); // the runtime compresses
  return new Response(has || method === "HEAD" ? null : found.body, { status: has ? 304 : found.status, headers: out });
}
/** A body, or null when it is longer than `most`. It is read to its end: else its sender sees a reset, no answer. */
export async function bodyOf({ body }, most, chunks = [], size = 0) {
  for await (const chunk of body ?? []) if ((size += chunk.byteLength) <= most) chunks.push(chunk);
  return size > most ? null : new Blob(chunks);
}
/** The text of a body, unpacked; null for none, for more than `most` bytes, and for what cannot be unpacked. */
export async function textOf(blob, headers, most, size = 0) {
  if (!blob || headers.get("content-encoding") !== "gzip") return blob && blob.text();
  const transform = (chunk, out) => ((size += chunk.byteLength) > most ? out.error("too long") : out.enqueue(chunk));
  const stream = blob.stream().pipeThrough(new DecompressionStream("gzip")).pipeThrough(new TransformStream({ transform }));
  return new Response(stream).text().catch(() => null);
}
/** Asks a Stage, twice: one that is moved or deployed anew lets requests down, in the middle of an answer as well. */
export const asked = (env, channel, path, init, ask = async () => { const found = await env.STAGE.getByName(channel).fetch(`https://stage/${path}`, init); return new Response(await found.arrayBuffer(), found); }) =>
  ask().catch(ask).catch(() => busy("The edge is away.\n", age(1)));
const LOOK = 1000, TOKEN = /^([0-9a-f]{8,10})\.([0-9a-f]{16})([0-9a-f]{64})$/, IN_PATH = /^\/t\/([^/]*)(\/.*)?$/s, COOKIE = /(?:^|;\s*)broadcaster_access=([^;\s]*)/;
let gate, looked = 0, known = 0;
/** Who may watch a private event; null for a public one, undefined while that is unknown. One request asks in a second; the others go by what was known in the last two, and all do while the Stage is away. */
export async function gateOf(env) {
  const now = Date.now(), found = gate !== undefined && now < Math.min(looked + LOOK, known + 2 * LOOK) ? null : ((looked = now), await asked(env, "live", "gate"));
  if (found) [gate, known] = [found.ok ? await found.json() : found.status === 404 ? null : gate, Date.now()];
  return gate;
}
const isOf = (ends = {}, { grant, expires }, now = Date.now() / 1000) => now < expires && grant in ends && now < (ends[grant] ?? Infinity);
/** Whether a guest, of whom grant and end are known, still is one. */
export const admits = (found, guest) => !found || isOf(found.grants, guest);
/** Whose request it is, by a token in the path or a cookie: path is the one without it. A stranger has no grant; who waits for the doors is one. */
export async function visitor({ headers }, pathname, found) {
  const inPath = pathname.match(IN_PATH), token = inPath ? inPath[1] : headers.get("cookie")?.match(COOKIE)?.[1], path = inPath ? inPath[2] ?? "/" : pathname;
  const [, expiry, grant, mac] = token?.match(TOKEN) ?? [], expires = parseInt(expiry, 16), guest = { token, path, inPath: Boolean(inPath), grant, expires };
  const key = mac && (await crypto.subtle.importKey("raw", Uint8Array.fromHex(found.secret), { name: "HMAC", hash: "SHA-256" }, false, ["verify"]));
  const isOurs = key && (await crypto.subtle.verify("HMAC", key, Uint8Array.fromHex(mac), new TextEncoder().encode(`broadcaster access ${expiry} ${grant}`)));
  return isOurs && admits(found, guest) ? guest : { token, path, inPath: guest.inPath, waits: isOurs && isOf(found.waiting, guest) };
}
