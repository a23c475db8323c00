// What to do about an error hls.js could not get over by itself. Never "give up", never a tight loop.
import { noteRefusal } from "./access.js";
import { backoff } from "./backoff.js";
import { undecodableIn } from "./codecs.js";
import { Hls } from "./engine.js";

const MEMORY = 60000; // ms after which an old error no longer counts

/**
 * Returns `next(error, now)` for error = {type, details, status}, which answers {step, delay} with
 * step "load" (start loading again), "media" (reset the decoder) or "rebuild" (a new player, by way of a new look).
 */
export function createRecovery(random = Math.random) {
  let past = [];
  return function next({ type, details, status }, now) {
    past = past.filter((entry) => now - entry.at < MEMORY);
    const before = past.filter((entry) => entry.type === type).length;
    past.push({ type, at: now });
    if (type === "mediaError") return before < 2 ? { step: "media", delay: before * 1000 } : rebuild;
    if (type !== "networkError") return rebuild;
    const gone = status === 404 || status === 410;
    // Without its playlist the player has nothing to go on with: it went, or was never understood.
    if (details.startsWith("manifest") || (details.startsWith("level") && gone)) return rebuild;
    // A segment that stays away is left behind: a new player starts at the live edge.
    if (before >= (details.startsWith("frag") ? 2 : 4)) return rebuild;
    return { step: "load", delay: backoff(before, { first: 1000, most: 8000 }, random) };
  };
}

const rebuild = Object.freeze({ step: "rebuild", delay: 0 });

const NO_BUFFER = new Set(["bufferAddCodecError", "bufferIncompatibleCodecsError"]);

const isPlaylist = (details) => /^(manifest|level)/.test(details);

/**
 * Does what createRecovery() says to an `hls` that plays in `video`; `over(reason)` hears that a new player is due,
 * with "undecodable" also which codecs this browser lacks; `resume()` starts to play again.
 */
export function createRepair({ hls, video, over, resume, now }) {
  const recovery = createRecovery();
  let replaced = false; // by new playlists: those that end cannot be read any more, which is no failure
  let retry = 0;
  let offered = []; // CODECS of the variants
  const refused = []; // those of buffers that could not be made
  hls.on(Hls.Events.MANIFEST_LOADED, (_event, { levels }) => (offered = levels.map(({ attrs }) => attrs.CODECS ?? "")));
  hls.on(Hls.Events.ERROR, (_event, { mimeType }) => mimeType && refused.push(mimeType.split("codecs=")[1] ?? ""));

  /** The codecs without a decoder, where an error is for want of one; else "". */
  function undecodableBy(details) {
    if (details === "manifestIncompatibleCodecsError") return undecodableIn(offered);
    return NO_BUFFER.has(details) ? undecodableIn(refused) : "";
  }

  /** A decoder that is reset leaves the video paused, which the viewer may not have been. */
  function resetDecoder() {
    const { paused } = video;
    hls.recoverMediaError();
    if (!paused) resume();
  }
  return Object.freeze({
    fatal({ type, details, response }) {
      noteRefusal(response?.code);
      if (replaced && isPlaylist(details)) return over(video.paused ? "switched" : "ended"); // a pause goes on
      const lacking = undecodableBy(details);
      if (lacking !== "") return over("undecodable", lacking);
      const { step, delay } = recovery({ type, details, status: response?.code }, now());
      if (step === "rebuild") return over("failed");
      clearTimeout(retry);
      retry = setTimeout(() => (step === "media" ? resetDecoder() : hls.startLoad()), delay);
    },
    replaced() {
      replaced = true;
    },
    stop: () => clearTimeout(retry),
  });
}
