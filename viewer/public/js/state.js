// One frozen state: requests change it in one place, everybody else subscribes.
import { defaults } from "./config.js";
import { defaultTexts } from "./texts.js";

/** What the page knows before it has looked at anything. */
export const initialState = Object.freeze({
  // connecting | offline | live | buffering | waiting (nothing new comes) | reconnecting | blocked | unsupported
  // | undecodable (this browser has no decoder for any variant)
  // and of a recording: over | missing
  status: "connecting",
  title: null, // the operator's, or a recording's; null: words of the page's own
  engine: null, // "hls.js" or "native"
  paused: true, // by the viewer, from one player to the next; or nothing has begun
  muted: true,
  latency: null, // seconds behind the end of the playlist
  delay: null, // seconds from the camera to the screen, where the stream tells its time
  behind: false, // further back than live viewers are: by choice, or by much
  following: true, // live; false for a viewer who paused or chose a place
  playlist: null, // the address of what is played
  timeline: null, // what can be played, of timeline.js
  position: null, // in it
  date: null, // clock time of what is on screen, ms since the epoch
  gone: false, // the window has left what is paused
  missed: null, // what an outage took, and can be watched: {seconds, date}
  phase: "connecting", // what is shown of all this, in one word of player-phase.js; phase.js keeps it
  over: false, // what is played has an end: nothing will be added to it
  ended: false, // the stream that was played here is over
  channel: null, // the server's word: null | offline | starting | live | ended
  undecodable: null, // the names of the codecs that the last player had no decoder for: "HEVC"
  slow: false, // the connection carries less than the lowest quality
  trouble: null, // the server's word: null | encoder | delivery
  viewers: null, // the server's word of how many watch
  reports: Object.freeze({ share: 1, every: 25 }), // which pages are to report, and how often, in seconds
  levels: Object.freeze([]), // {height, bitrate}, best first
  level: null, // the one on screen
  quality: "auto", // "auto" or the key of a level
  bytesByHost: Object.freeze({}),
  bandwidth: null, // of this viewer, bits per second: as it was at the last visit, until it is known better
  stalls: 0, // times the buffer ran dry
  errors: 0, // of hls.js, those it got over by itself included
  rebuilds: 0, // times the player was thrown away and made anew after a failure
  sessions: 0, // players made so far
  mode: "low-delay", // or "sharing": a few seconds more delay, and viewers pass video on to each other
  // reason: why it is not on, or takes only: null | "tracker" | "saving" | "unsupported" | "mobile"
  p2p: Object.freeze({ available: false, enabled: false, gives: true, peers: 0, reason: null }),
  bytes: Object.freeze({ bucket: 0, peers: 0, uploaded: 0 }), // got from the bucket and from peers, given to peers
  rejected: 0, // segments from peers that were not what the server has stored
  buffer: null, // seconds ahead of what is on screen
  frames: Object.freeze({ dropped: 0, total: 0 }),
  // newest last, at most 12: {variant, sequence, noticed, uploaded, told, fetched, played}, ms since the epoch or null
  stages: Object.freeze([]),
  fallback: false, // playing fallbackUrl, because the playlist cannot be had
  captions: Object.freeze([]), // {id, label}
  caption: null, // the id of the one shown
  audioTracks: Object.freeze([]), // {id, lang, name, on}, where the sound has playlists of its own
  audioTrack: null, // the id of the chosen one
  volume: 1, // 0 to 1
  pip: false,
  fullscreen: false,
  speed: 1, // of the picture, where the viewer can choose one
  statsOpen: false,
  shortcuts: true, // single keys do something
  texts: defaultTexts,
  costs: null, // prices, where they are known
  colors: defaults.colors,
  logo: null, // the address of the host's
  performer: null,
  startsAt: null, // when it is to begin, ms since the epoch
  pageUrl: null, // what is passed on; null: the address in the bar
  chatUrl: null, // a page with the stream's chat, shown below the picture
  castable: false, // to a television or a loudspeaker nearby
  poster: null, // the address of a picture for when there is no stream
  recordings: null, // where they are, of config.js; null where there are none
  recorded: null, // of the stream that is on, or was: as recordings.js has it
  replay: null, // the playlists of what is watched in the place of the stream: from its start, or what is kept of it
  kept: null, // the playlist of what is kept for those who are behind
  recording: null, // the one that this page is for
  part: 0, // of it, that is on
  shelf: Object.freeze([]), // recordings, the newest first
  leapt: null, // {seconds} of the latest double tap
  theatre: false, // the picture is as large as the window, and the chat beneath it
  description: null, // of the event, the operator's
  links: Object.freeze([]), // {name, url}, the operator's
  elsewhere: null, // of a private event: the address for other players
  clipsUrl: null, // where clips are asked for; null: viewers make none
  clip: null, // what becomes of the latest: {stage: "making" | "made" | the name of a text, url}
});

export function createStore(initial = initialState) {
  let state = Object.freeze({ ...initial });
  const listeners = new Set();
  return Object.freeze({
    get: () => state,
    /** Merges `patch`; listeners hear of it only when something is different. */
    set(patch) {
      const before = state;
      if (Object.keys(patch).every((key) => Object.is(before[key], patch[key]))) return state;
      state = Object.freeze({ ...before, ...patch });
      for (const listener of [...listeners]) listener(state, before);
      return state;
    },
    /** Calls `listener(state, before)` now and after each change; returns the way out. */
    subscribe(listener) {
      listeners.add(listener);
      listener(state, state);
      return () => listeners.delete(listener);
    },
  });
}
