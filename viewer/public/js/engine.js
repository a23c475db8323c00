// The one place that knows hls.js as a package and sets it up; peer-to-peer wraps the class here.
import Hls from "../vendor/hls.min.mjs";

export { Hls };

// The module build carries no worker of its own, and a file needs no "blob:" in a content security policy.
const workerPath = new URL("../vendor/hls.worker.js", import.meta.url).href;

/** Lets the browser have the worker at hand: hls.js asks for it when the first segment is there, and would wait. */
export const fetchWorker = () => fetch(workerPath).catch(() => {});

const patient = { maxNumRetry: 6, retryDelayMs: 1000, maxRetryDelayMs: 8000 };

export function createHls(overrides = {}) {
  // Catching up with live is place.js's: hls.js knows neither who chose a place nor a buffer that shrinks.
  return new Hls({
    enableWorker: true,
    workerPath,
    startFragPrefetch: true, // else the first segment waits until the video element is ready for it
    backBufferLength: 30,
    // Who was there before the stream must not start on a single segment and stall at the first hiccup.
    initialLiveManifestSize: 3,
    capLevelToPlayerSize: true,
    playlistLoadPolicy: {
      default: {
        // A blocking reload may take 3 × TARGETDURATION to answer.
        maxTimeToFirstByteMs: 25000,
        maxLoadTimeMs: 30000,
        timeoutRetry: patient,
        errorRetry: patient,
      },
    },
    ...overrides,
  });
}
