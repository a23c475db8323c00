// One player from its start to its end: watches it, keeps the state up to date, says how it ended.
import { createPlace } from "./place.js";
import { bufferAhead, playerHealth } from "./player-health.js";
import { createWatch, isFresh } from "./watch.js";

const TICK = 500;
const NONE = Object.freeze([]);
const NOWHERE = Object.freeze({ playlist: null, timeline: null, position: null, gone: false, missed: null });

/** What a verdict of watch.js means for the page; null leaves the status as it is. */
export function statusAfter(verdict, status, started) {
  if (status === "blocked") return verdict === "playing" ? "live" : null;
  if (verdict === "playing") return "live";
  if (verdict === "buffering") return started ? "buffering" : "connecting";
  if (verdict === "waiting" || verdict === "reconnecting") return verdict;
  return null;
}

/**
 * Plays until the stream is over ("ended"), the player is of no more use ("failed"), this browser lacks a decoder
 * ("undecodable") or `stop` is aborted ("switched").
 */
export function runSession({ video, url, store, pace, ledger, playback, makePlayer, start = null, recorded = false, autoplay, patience, stop }) {
  return new Promise((resolve) => {
    const watch = createWatch(patience);
    const place = createPlace({ video, store, pace });
    let started = false;
    let done = false;

    /** By the viewer: what else pauses is put right (controls.js). */
    const isPaused = () => video.paused && store.get().paused;

    const over = (reason, undecodable = null) => {
      if (done) return;
      done = true;
      clearInterval(timer);
      // Told from inside a player's own event: let it finish before the player goes.
      queueMicrotask(() => {
        // Paused by the viewer, which the next player keeps to, and not by a failure to start or by the end.
        const chosen = isPaused() && !video.ended && store.get().status !== "blocked";
        playback.use(null);
        player.destroy();
        video.removeAttribute("src");
        video.load();
        ledger.flush();
        store.set({ latency: null, delay: null, behind: false, over: false, slow: false, level: null, buffer: null, audioTracks: NONE, undecodable, ...NOWHERE, paused: chosen });
        resolve({ reason, started });
      });
    };

    const player = makePlayer({
      video,
      url,
      start,
      recorded,
      quality: store.get().quality,
      caption: store.get().caption,
      audioTrack: store.get().audioTrack,
      bandwidth: store.get().bandwidth,
      on: {
        levels: (levels) => store.set({ levels }),
        level: (level) => store.set({ level: keep(store.get().level, level) }),
        error: () => store.set({ errors: store.get().errors + 1 }),
        stall() {
          if (!player.facts().lost) place.stall(performance.now());
          store.set({ stalls: store.get().stalls + 1 });
        },
        bandwidth: (bandwidth) => store.set({ bandwidth }),
        captions: (captions) => store.set({ captions }),
        audioTracks: (audioTracks) => store.set({ audioTracks }),
        resume: () => startPlaying(video, store),
        changed: () => place.isHolding() && !done && tick(),
        over,
      },
    });
    playback.use(player);
    stop?.addEventListener("abort", () => over("switched"));
    store.set({ sessions: store.get().sessions + 1, playlist: url });

    function tick() {
      const { currentTime, readyState, seeking } = video;
      const paused = isPaused();
      const facts = player.facts();
      const now = performance.now();
      const filled = currentTime + (bufferAhead(video) ?? 0);
      const whole = facts.whole || store.get().replay !== null; // what has ended stays, and is worth waiting for
      const verdict = watch({ ...facts, whole, now, currentTime, seeking, filled, paused, hidden: document.hidden });
      started ||= verdict === "playing" && !place.isReturning();
      const { status } = store.get();
      const ready = paused && readyState >= 2 && status !== "blocked"; // a viewer's own pause
      const latency = tenths(facts.latency);
      ledger.flush();
      store.set({
        ...playerHealth(video, store.get().frames),
        status: ready ? "live" : (statusAfter(verdict, status, started) ?? status),
        latency,
        delay: tenths(facts.delay),
        slow: facts.slow === true && facts.exhausted !== true, // where all is here, nothing waits for the connection
        over: facts.live === false && !facts.whole,
        ...place.tick({ player, facts, playing: verdict === "playing", fresh: isFresh({ ...facts, now }), now }),
      });
      // A stream that ends before the viewer's first click has nothing left to click for.
      if (verdict === "finished" || (status === "blocked" && !facts.live && !facts.whole)) over("ended");
      if (verdict === "stuck") over("failed");
    }
    const timer = setInterval(tick, TICK);
    if (autoplay) startPlaying(video, store);
  });
}

const tenths = (seconds) => (seconds === null ? null : Math.round(10 * seconds) / 10);

/** The same object as before when nothing about it is different, so that nobody redraws. */
const keep = (before, after) =>
  before && before.height === after.height && before.bitrate === after.bitrate ? before : after;

/** Starts to play: with sound where the browser allows it, else without; one that wants a click gets its button. */
export async function startPlaying(video, store) {
  if (!(await isRefused(video))) return;
  const loud = !video.muted;
  video.muted = true;
  if (!loud || (await isRefused(video))) store.set({ status: "blocked", paused: true });
}

async function isRefused(video) {
  try {
    await video.play();
    return false;
  } catch (error) {
    return error.name === "NotAllowedError";
  }
}
