// A file in parts, several at once, each to an address that the service gives for it. What is there is not sent again.
import { Complaint } from "./api.js";

const AT_ONCE = 3;
const FIRST_PAUSE = 500; // ms, doubled each time
const MAX_PAUSE = 20_000; // ms
const ATTEMPTS = 25; // at one part: some minutes
const FIRST_ATTEMPTS = 4; // as long as nothing has got through

const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
const parts = (size, partSize) => Math.ceil(size / partSize);

async function digestOf(part, md5) {
  const hash = md5.create();
  const reader = part.stream().getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return hash.digest();
    hash.update(value);
  }
}

/** The ETag of an object whose parts have these MD5s. */
export function etagOf(digests, md5) {
  const hash = md5.create();
  for (const digest of digests) hash.update(digest);
  return `${hex(hash.digest())}-${digests.length}`;
}

/** Whether what the bucket has, as the service tells it, are the bytes of this file. */
export async function isTheSame(file, known, md5) {
  if (known === null || known.partSize === 0 || known.size !== file.size) return false;
  const digests = [];
  for (let at = 0; at < file.size; at += known.partSize) {
    digests.push(await digestOf(file.slice(at, at + known.partSize), md5));
  }
  return etagOf(digests, md5) === known.etag;
}

/**
 * Sends what is missing of `upload`, as the service tells it; returns the ETag of all. `address(number)` gives that of
 * a part, `progress` is told how many bytes are there. Raises a Complaint, what `signal` was aborted with, or the
 * last of many failures.
 */
export async function sendFile({ file, upload, address, put, md5, progress, signal, pause = wait }) {
  const count = parts(file.size, upload.partSize);
  const digests = new Array(count);
  const moved = new Array(count).fill(0);
  const ended = new AbortController(); // one that fails ends the others
  const stopped = AbortSignal.any([signal, ended.signal]);
  let next = 0;
  let gotThrough = false;

  const note = (index, bytes) => {
    if (stopped.aborted) return; // a part may still arrive, of which nobody wants to hear
    moved[index] = bytes;
    progress(moved.reduce((sum, size) => sum + size, 0));
  };

  async function attempt(index, part) {
    const url = await address(index + 1);
    stopped.throwIfAborted();
    const etag = await put({ url, part, signal: stopped, progress: (bytes) => note(index, bytes) });
    if (etag === null) throw new Complaint("the bucket's CORS policy does not expose ETag");
    if (etag !== hex(digests[index])) throw new Error("the bucket has other bytes than were sent");
    gotThrough = true;
    note(index, part.size);
  }

  async function bring(index) {
    const part = file.slice(index * upload.partSize, (index + 1) * upload.partSize);
    digests[index] = await digestOf(part, md5);
    if (upload.parts[index + 1] === hex(digests[index])) return note(index, part.size);
    for (let failures = 0; ; ) {
      try {
        stopped.throwIfAborted();
        return await attempt(index, part);
      } catch (error) {
        if (stopped.aborted || (error instanceof Complaint && !error.again)) throw error;
        note(index, 0);
        failures += 1;
        if (failures >= (gotThrough ? ATTEMPTS : FIRST_ATTEMPTS)) throw error;
        await pause(Math.min(FIRST_PAUSE * 2 ** (failures - 1), MAX_PAUSE));
      }
    }
  }

  async function work() {
    while (next < count) await bring(next++);
  }

  try {
    await Promise.all(Array.from({ length: Math.min(AT_ONCE, count) }, work));
  } catch (error) {
    ended.abort(error);
    throw error;
  }
  return etagOf(digests, md5);
}

const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
