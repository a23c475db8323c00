/** What all modules use: answers with their headers, and bodies, read within bounds. */
export const HLS = "application/vnd.apple.mpegurl", JSON_TYPE = "application/json; charset=utf-8", NO_STORE = "no-store";
const OPEN = { "access-control-allow-origin": "*", "x-content-type-options": "nosniff",
  "access-control-expose-headers": "Age, Content-Length, Date, ETag, Last-Modified" };
const GZIP = /(^|[,\s])gzip\s*(;\s*q=(?!0(\.0*)?\s*(,|$))[\d.]+\s*)?(,|$)/i; // of Accept-Encoding, unless it is refused (q=0)
/** A shared cache may keep an answer for so many seconds. Without the last words Workers Cache serves it after that, on errors. */
export const age = (seconds) => `public, max-age=${seconds}, stale-if-error=0`;
export const answer = (status, body, cache, type = "text/plain; charset=utf-8", more = {}) =>
  new Response(body, { status, headers: { ...OPEN, date: new Date().toUTCString(), "cache-control": cache, "content-type": type, ...more } });
export const json = (value, cache, status = 200) => answer(status, JSON.stringify(value), cache, JSON_TYPE);
export const busy = (text, cache = NO_STORE) => answer(503, text, cache, undefined, { "retry-after": "1" });
export const tried = (make) => { try { return make(); } catch { return null; } };
export const parsed = (text) => tried(() => JSON.parse(text));
export const hex = (digest) => new Uint8Array(digest).toHex();
export const digested = (text) => crypto.subtle.digest("SHA-256", typeof text === "string" ? new TextEncoder().encode(text) : text);
/** The answer as this client wants it: 304 for what it has, gzip if it takes that, no body for HEAD. */
export function negotiated(request, found) {
  const headers = new Headers(found.headers), tag = headers.get("etag");
  if (tag) {
    const gzip = GZIP.test(request.cf?.clientAcceptEncoding ?? request.headers.get("accept-encoding") ?? ""), own = gzip ? `${tag.slice(0, -1)}-gz"` : tag;
    headers.set("etag", own);
    headers.set("vary", "Accept-Encoding");
    const known = (request.headers.get("if-none-match") ?? "").split(",").map((one) => one.trim().replace(/^W\//, ""));
    if (known.includes(own) || known.includes("*")) {
      for (const name of ["content-type", "last-modified"]) headers.delete(name);
      return new Response(null, { status: 304, headers });
    }
    if (gzip) headers.set("content-encoding", "gzip"); // the runtime compresses
  }
  return new Response(request.method === "HEAD" ? null : found.body, { status: found.status, headers });
}
/** A body as a Blob, or null when it is longer than `most`. It is read to its end: else a client that sends sees a reset, not the answer. */
export async function bodyOf({ body }, most, chunks = [], size = 0) {
  for await (const chunk of body ?? []) if ((size += chunk.byteLength) <= most) chunks.push(chunk);
  return size > most ? null : new Blob(chunks);
}
/** The text of a body, unpacked; null when there is none, when it is longer than `most`, or when it cannot be unpacked. */
export async function textOf(blob, headers, most, size = 0) {
  const bounded = { transform: (chunk, out) => ((size += chunk.byteLength) > most ? out.error(new RangeError("too long")) : out.enqueue(chunk)) };
  let stream = blob?.stream() ?? null;
  if (headers.get("content-encoding") === "gzip") stream = stream?.pipeThrough(new DecompressionStream("gzip")).pipeThrough(new TransformStream(bounded));
  try { return stream && (await new Response(stream).text()); } catch { return null; }
}
