// What a recording consists of: its segments, as its playlist has them, and their bytes, in order.
import { backoff } from "./backoff.js";
import { judgePlaylist, variantWith } from "./playlist.js";

const TRIES = 6;
const AT_ONCE = 6; // as many as a browser opens connections to one host
const TRANSIENT = new Set([408, 425, 429]); // as all from 500 on

/** `url` and its bytes from `begin` to `end` (both included), or all where these are undefined. */
const place = (url, range, ends) => {
  const [, length, offset] = /^"?(\d+)(?:@(\d+))?"?$/.exec(range ?? "") ?? [];
  if (length === undefined) return { url };
  const begin = offset === undefined ? (ends.get(url) ?? 0) : Number(offset); // RFC 8216bis, 4.4.4.2
  ends.set(url, begin + Number(length));
  return { url, begin, end: begin + Number(length) - 1 };
};

/**
 * [{url, begin, end, map (of the same form, or null), seconds, discontinuity, gap}] of a playlist, with several
 * variants of the best one, or the variant with so many bits per second. `get` answers with the text at an address. Throws an Error for what cannot be one file.
 */
export async function segmentsOf(url, get, bitrate = Infinity) {
  const text = await get(url);
  const kind = judgePlaylist(text);
  if (kind === "multivariant") {
    if (/^#EXT-X-MEDIA:.*TYPE=AUDIO.*URI=/m.test(text)) throw new Error("the sound has a playlist of its own");
    return segmentsOf(variantWith(text, url, bitrate), get);
  }
  if (kind === "invalid") throw new Error("there is no playlist");
  const found = [];
  const ends = new Map();
  let [next, map] = [{}, null];
  for (const line of text.split(/\r?\n/).map((text) => text.trim())) {
    const value = line.slice(line.indexOf(":") + 1);
    if (line.startsWith("#EXTINF:")) next.seconds = Number.parseFloat(value) || 0;
    else if (line === "#EXT-X-DISCONTINUITY") next.discontinuity = true;
    else if (line === "#EXT-X-GAP") next.gap = true;
    else if (line.startsWith("#EXT-X-BYTERANGE:")) next.range = value;
    else if (line.startsWith("#EXT-X-KEY:") && !/METHOD=NONE/.test(value)) throw new Error("it is encrypted");
    else if (line.startsWith("#EXT-X-MAP:")) {
      const [, uri] = /URI="([^"]+)"/.exec(value) ?? [];
      map = place(new URL(uri, url).href, /BYTERANGE="([^"]+)"/.exec(value)?.[1], new Map());
    } else if (line !== "" && !line.startsWith("#")) {
      const { range, seconds = 0, discontinuity = false, gap = false } = next;
      found.push({ ...place(new URL(line, url).href, range, ends), map, seconds, discontinuity, gap });
      next = {};
    }
  }
  return found;
}

/** The bytes of a place. Passing faults are tried again; rejects with what is final, and when `signal` says so. */
export async function bytesOf({ url, begin, end }, { signal, get = fetch, sleep }) {
  const headers = begin === undefined ? {} : { Range: `bytes=${begin}-${end}` };
  for (let tries = 1; ; tries += 1) {
    try {
      const answer = await get(url, { signal, headers });
      if (answer.ok) {
        const bytes = new Uint8Array(await answer.arrayBuffer());
        return begin === undefined || answer.status === 206 ? bytes : bytes.subarray(begin, end + 1);
      }
      if (answer.status < 500 && !TRANSIENT.has(answer.status)) tries = TRIES;
      throw new Error(`status ${answer.status}`);
    } catch (error) {
      if (signal.aborted || tries >= TRIES) throw error;
      await sleep(backoff(tries - 1, { first: 300, most: 10000 }));
    }
  }
}

/** What `get` brings for each item, in order, with `atOnce` of them on their way. */
export async function* inOrder(items, get, atOnce = AT_ONCE) {
  const begun = [];
  for (let next = 0; next < items.length || begun.length > 0; ) {
    while (next < items.length && begun.length < atOnce) {
      const item = get(items[next]);
      item.catch(() => {}); // it is told in its turn, if that comes
      begun.push(item);
      next += 1;
    }
    yield await begun.shift();
  }
}
