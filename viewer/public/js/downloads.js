// A recording as one file: fetched several segments at a time, written as it comes.
import { openFile } from "./file-writer.js";
import { bytesOf, inOrder, segmentsOf } from "./segments.js";

const KINDS = { mp4: { type: "video/mp4", extension: ".mp4" }, ts: { type: "video/mp2t", extension: ".ts" } };
const named = (text) => text.replace(/[\\/:*?"<>|\p{Cc}]+/gu, " ").trim().slice(0, 100) || "recording";

/**
 * Whether it was saved; false when the viewer thinks better of it, or `signal` ends it, which leaves nothing. Rejects
 * with an Error that says why not; its cause is the name of a text, if viewers are to know. `url` is a playlist's, `bitrate` that of a variant; `onProgress` hears the share that is done, and bytes.
 */
export async function download({ url, bitrate, title, kind, signal, onProgress, window = globalThis, get = fetch }) {
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  const bytes = (segment) => bytesOf(segment, { signal, get, sleep });
  const file = await openFile({ name: named(title), ...KINDS[kind], window });
  if (file === null) return false;
  let transmuxer = null;
  try {
    const listed = await segmentsOf(url, async (address) => new TextDecoder().decode(await bytes({ url: address })), bitrate);
    const segments = passGaps(listed);
    if (kind === "mp4") transmuxer = (await import("./transmux.js")).createTransmuxer(file);
    else if (segments.some(({ map }) => map !== null)) throw new Error("its segments are MP4", { cause: "downloadMp4" });
    const maps = new Map(); // by address and place: one that many segments have is fetched once
    const mapOf = (map) => {
      const key = JSON.stringify(map);
      if (!maps.has(key)) maps.set(key, bytes(map));
      return maps.get(key);
    };
    const whole = async (segment) => (segment.map === null ? [await bytes(segment)] : Promise.all([mapOf(segment.map), bytes(segment)]));
    let [done, position] = [0, 0];
    for await (const parts of inOrder(segments, whole)) {
      const segment = segments[done];
      const data = parts.length === 1 ? parts[0] : new Uint8Array(await new Blob(parts).arrayBuffer());
      if (transmuxer === null) await file.write({ position, data });
      else await transmuxer.add(data, segment);
      signal.throwIfAborted();
      done += 1;
      position += data.byteLength;
      onProgress(done / segments.length, position);
    }
    await transmuxer?.finish();
    signal.throwIfAborted();
    await file.close();
    return true;
  } catch (error) {
    await transmuxer?.cancel().catch(() => {});
    await file.abort().catch(() => {});
    if (signal.aborted) return false;
    throw error;
  }
}

/** Those that there are; `gap` is for how many seconds there is nothing before one. */
function passGaps(listed) {
  let [gap, discontinuity] = [0, false];
  const found = [];
  for (const segment of listed) {
    discontinuity ||= segment.discontinuity;
    if (segment.gap) {
      gap += segment.seconds;
      continue;
    }
    found.push({ ...segment, gap, discontinuity });
    [gap, discontinuity] = [0, false];
  }
  return found;
}
