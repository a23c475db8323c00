// The pictures of a seek bar: key frames, each a part of a segment, decoded by the browser itself (WebCodecs).
import { decoderOf, frameAt, iframesOf, keyFrameIn, pictureInFragment, readIframes } from "./iframes.js";

const MOST = 60; // pictures that are kept, 14 MB
const SIDE = 320; // pixels of a picture's longer side
const FRESH = 2000; // ms in which a playlist is not read again, nor a picture asked for that did not come
const AGAIN = 30000; // ms until the next try where there is none
const PATIENCE = 5000; // ms for an answer

/**
 * Pictures of what is played at this address. One is asked for at a time, and what was wanted meanwhile is passed over
 * for what is wanted last.
 */
export function createSeekThumbnails({ playlist, get = fetch, describe = describeDecoder, decode = decodeKeyFrame, now = () => performance.now(), most = MOST }) {
  const pictures = new Map(); // by address, the one that was shown last at the end; null for what cannot be had
  let listed = { frames: [], ended: false };
  let header = null; // {map, decoder} that was needed last; its `decoder` is null where this browser has none
  let address = null; // of the I-frame playlist
  let notBefore = -Infinity; // the next reading
  let failed = { url: null, until: -Infinity }; // the picture that did not come last
  let wanted = null; // {date, draw}
  let busy = false;

  async function ask(url, headers = {}) {
    const answer = await get(url, { headers, signal: AbortSignal.timeout(PATIENCE) });
    if (!answer.ok) throw Object.assign(new Error(`status ${answer.status}`), { isFinal: answer.status < 500 });
    return answer;
  }

  const textOf = async (url) => (await ask(url)).text();

  async function read() {
    notBefore = now() + AGAIN;
    address ??= iframesOf(await textOf(playlist), playlist);
    if (address === null) return;
    listed = readIframes(await textOf(address), address);
    notBefore = now() + FRESH;
  }

  const bytesOf = async (answer) => new Uint8Array(await answer.arrayBuffer());

  async function fetchPicture({ url, first, last, map }) {
    if (map !== (header?.map ?? null)) header = map && { map, decoder: await describe(await bytesOf(await ask(map))) };
    if (header?.decoder === null) return null;
    const answer = await ask(url, { Range: `bytes=${first}-${last}` });
    const bytes = await bytesOf(answer);
    // Who knows no ranges sends all of it.
    try {
      return await decode(answer.status === 206 ? bytes : bytes.subarray(first, last + 1), header?.decoder);
    } catch (error) {
      // A busy machine may have had no decoder for it.
      throw Object.assign(new Error("not decoded", { cause: error }), { pause: AGAIN });
    }
  }

  function keep(url, picture) {
    pictures.delete(url);
    pictures.set(url, picture);
    if (pictures.size <= most) return;
    const [oldest] = pictures.keys();
    pictures.get(oldest)?.close();
    pictures.delete(oldest);
  }

  /** The picture for a time, null where there is none. */
  async function find(date) {
    if (frameAt(listed.frames, date) === null && !listed.ended && now() >= notBefore) await read().catch(() => {});
    const frame = frameAt(listed.frames, date);
    if (frame === null || (failed.url === frame.url && now() < failed.until)) return null;
    try {
      keep(frame.url, pictures.has(frame.url) ? pictures.get(frame.url) : await fetchPicture(frame));
    } catch (error) {
      if (error.isFinal) keep(frame.url, null);
      else failed = { url: frame.url, until: now() + (error.pause ?? FRESH) };
    }
    return pictures.get(frame.url) ?? null;
  }

  async function work() {
    if (busy) return;
    busy = true;
    try {
      while (wanted !== null) {
        const job = wanted;
        const picture = await find(job.date);
        if (wanted !== job) continue;
        wanted = null;
        job.draw(picture);
      }
    } finally {
      busy = false;
    }
  }

  return Object.freeze({
    /** Gives `draw` the picture of a time, in ms since the epoch: at once if it is there, else null first. */
    show(date, draw) {
      const frame = frameAt(listed.frames, date);
      const known = frame !== null && pictures.has(frame.url);
      draw(known ? pictures.get(frame.url) : null);
      wanted = known ? null : { date, draw };
      if (known) keep(frame.url, pictures.get(frame.url));
      else work();
    },
    /** Nobody looks any more. */
    forget() {
      wanted = null;
    },
  });
}

/** What decodes fragments with this map; null where the browser cannot. */
async function describeDecoder(header) {
  const decoder = decoderOf(header);
  return decoder !== null && (await VideoDecoder.isConfigSupported(decoder)).supported ? decoder : null;
}

/** A bitmap of the picture in these bytes, null where there is none; rejects where the browser cannot decode it. */
async function decodeKeyFrame(bytes, described) {
  const found = described ? { ...described, data: pictureInFragment(bytes) } : keyFrameIn(bytes);
  if (!found?.data) return null;
  const frames = [];
  const decoder = new VideoDecoder({ output: (frame) => frames.push(frame), error: () => {} });
  try {
    const { data, ...config } = found;
    decoder.configure({ ...config, optimizeForLatency: true });
    decoder.decode(new EncodedVideoChunk({ type: "key", timestamp: 0, data }));
    await decoder.flush();
    const { displayWidth, displayHeight } = frames[0];
    const scale = SIDE / Math.max(displayWidth, displayHeight);
    const [resizeWidth, resizeHeight] = [displayWidth, displayHeight].map((side) => Math.max(1, Math.round(scale * side)));
    return await createImageBitmap(frames[0], { resizeWidth, resizeHeight, resizeQuality: "medium" });
  } finally {
    for (const frame of frames) frame.close();
    if (decoder.state !== "closed") decoder.close();
  }
}
