// How fast the picture plays. Some engines punish a change of rate: they unmute a muted video, and then pause it.

const BLAMED = 2000; // ms after a change of rate in which it is taken for the cause of a pause or an unmuting

/** WebKit does, which all browsers of Apple have: it makes its audio pipeline anew. */
const isPunishing = (navigator) => /^Apple/.test(navigator?.vendor ?? "");

/** `set(rate)` does nothing where a change of rate is punished; `blame()` hears of what no viewer asked for. */
export function createPace(video, { navigator = globalThis.navigator, now = () => performance.now() } = {}) {
  let free = !isPunishing(navigator);
  let changed = -Infinity;
  return Object.freeze({
    set(rate) {
      if (!free || video.playbackRate === rate) return;
      changed = now();
      video.playbackRate = rate;
    },
    blame() {
      if (!free || now() - changed > BLAMED) return;
      free = false;
      if (video.playbackRate !== 1) video.playbackRate = 1;
    },
  });
}
