// How fast the picture plays: the viewer's speed, and what the page does to it. Some engines punish a change of rate by
// the page: they unmute a muted video, and then pause it.

const BLAMED = 2000; // ms after a change of rate in which it is taken for the cause of a pause or an unmuting

/** What viewers can choose. */
export const SPEEDS = Object.freeze([0.5, 0.75, 1, 1.25, 1.5, 1.75, 2]);

/** Whether there is a choice: at live there is none. */
export const hasSpeed = ({ recording, behind, following }) => recording !== null || (behind && !following);

/** The next one that is faster or slower, by `steps`. */
export const speedBy = (speed, steps) => SPEEDS.at(Math.min(SPEEDS.length - 1, Math.max(0, SPEEDS.indexOf(speed) + steps)));

/** WebKit does, which all browsers of Apple have: it makes its audio pipeline anew. */
const isPunishing = (navigator) => /^Apple/.test(navigator?.vendor ?? "");

/**
 * `set(rate, speed)`: the page's own `rate` has no effect where a change of it is punished, the viewer's `speed` has;
 * `blame()` hears of what no viewer asked for.
 */
export function createPace(video, { navigator = globalThis.navigator, now = () => performance.now() } = {}) {
  let free = !isPunishing(navigator);
  let changed = -Infinity;
  return Object.freeze({
    set(rate, speed = 1) {
      const wanted = (free ? rate : 1) * speed;
      if (video.playbackRate === wanted) return;
      if (speed === 1) changed = now();
      video.playbackRate = wanted;
    },
    blame() {
      if (!free || now() - changed > BLAMED) return;
      free = false;
      if (video.playbackRate !== 1) video.playbackRate = 1;
    },
  });
}
