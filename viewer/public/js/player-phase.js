// What is true at the moment, as one word: the state's own, made exact by what the server knows; and what is on.
import { nameOf } from "./recordings.js";

const STILL = new Set(["connecting", "buffering", "waiting", "reconnecting", "offline"]);
const ON = new Set(["live", "starting"]);
const LATE = 3600000; // ms by which an event may begin later than it was announced
const OVER = new Set(["ended", "offline"]);

/**
 * connecting | starting | offline | soon (an event is announced) | ended | live | behind | rest (of a stream that is over) | gone (the window has left a paused viewer) | buffering |
 * slow (the connection, for any quality) | waiting (nobody knows for what) | encoder (it has paused) | delivery (the video cannot be had) | reconnecting (the
 * service does not answer) | blocked | unsupported | undecodable; of a recording: loading | recorded | over | missing. Each has its words in texts.js.
 */
export function phaseOf({ status, channel, trouble, behind, paused, gone, ended, slow, over = false, recording = null, startsAt = null }, now = Date.now()) {
  if (recording !== null && status === "live") return "recorded";
  if (recording !== null && status === "connecting") return "loading";
  if (status === "live" && gone) return "gone";
  if (status === "live" && over && !ON.has(channel)) return "rest";
  if (status === "live") return behind || paused ? "behind" : "live";
  if (status === "undecodable" && OVER.has(channel)) return channel;
  if (!STILL.has(status)) return status;
  if (status === "reconnecting") return trouble === "delivery" ? trouble : status;
  if (status === "offline" || status === "connecting") {
    if (channel === "starting") return "starting";
    const isOver = ended || channel === "ended";
    const soon = startsAt !== null && now < startsAt + (isOver ? 0 : LATE);
    if (status === "offline" && !ON.has(channel)) return soon ? "soon" : isOver ? "ended" : "offline";
  }
  if (trouble !== null) return trouble;
  if (status === "buffering" && slow) return "slow";
  return status === "offline" ? "connecting" : status; // what is on is never called offline
}

/** The title of what is on, in the page's words where nobody gave it one. */
export function titleOf({ title, recording, texts }) {
  return title ?? (recording === null ? texts.liveTitle : nameOf(recording, texts.locale));
}
