// The last two minutes, sampled once a second, in the columns that a plot wants.
import { behindLive } from "./stats.js";

const SECONDS = 120;
const MEAN = 12000; // ms; segments come in bursts, and those of 1, 2, 3, 4 or 6 s fill this evenly
const NAMES = Object.freeze(["at", "bucket", "peers", "count", "latency", "buffer"]);

/** `add(now, state)` once a second, in ms; `columns()` are arrays of one length, oldest first. */
export function createHistory(seconds = SECONDS) {
  const samples = [];
  const listeners = [];

  function rate(now, source, bytes) {
    const past = samples.findLast((sample) => now - sample.at >= MEAN) ?? samples[0];
    // kbit/s: eight bits per byte, and ms against thousands of bits
    return past && now > past.at ? (Math.max(0, bytes[source] - past.bytes[source]) * 8) / (now - past.at) : 0;
  }

  return Object.freeze({
    add(now, { bytes, p2p, delay, latency, buffer }) {
      samples.push({
        at: now,
        bytes,
        bucket: rate(now, "bucket", bytes),
        peers: rate(now, "peers", bytes),
        count: p2p.peers,
        latency: behindLive({ delay, latency }),
        buffer,
      });
      while (samples.length > seconds + 1) samples.shift();
      for (const listener of listeners) listener();
    },
    onSample: (listener) => listeners.push(listener),
    /** {at: seconds before the newest, bucket and peers: kbit/s, count: peers, latency and buffer: s or null}. */
    columns() {
      const columns = Object.fromEntries(NAMES.map((name) => [name, samples.map((sample) => sample[name])]));
      const newest = columns.at.at(-1);
      return { ...columns, at: columns.at.map((at) => (at - newest) / 1000) };
    },
  });
}
