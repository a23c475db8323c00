// Decides whether this page shares, keeps the state's `p2p` true to it, and tells the player that is on.
import { judgeSharing } from "./modes.js";

const TRACKER_PAUSE = 60000; // ms until a tracker that was gone is tried again
const SILENCE = 10000; // ms without the server's events after which hashes are missing

/** Whether the viewer asked their browser to save data. */
export const isSaving = (connection) => connection?.saveData === true;

/** A mobile connection, as far as the browser says: it takes what peers have, and gives nothing. */
export const isMobile = (connection) => connection?.type === "cellular";

/** `apply({enabled, gives})` is told each change. */
export function createSharing({ store, offered, capable, connection = globalThis.navigator?.connection, apply }) {
  const look = () => ({ saving: isSaving(connection), mobile: isMobile(connection) });
  const facts = { offered, capable, ...look(), gone: false, told: null, mode: store.get().mode };
  let tracker = 0;
  let silence = 0;

  function judge() {
    const before = store.get().p2p;
    const { available, enabled, gives, reason } = judgeSharing(facts);
    const peers = enabled ? before.peers : 0;
    const is = { available, enabled, gives, reason };
    if (Object.keys(is).every((name) => is[name] === before[name])) return;
    store.set({ p2p: Object.freeze({ ...is, peers }) });
    if (before.enabled !== enabled || before.gives !== gives) apply({ enabled, gives });
  }

  function change(patch) {
    Object.assign(facts, patch);
    judge();
  }

  connection?.addEventListener?.("change", () => change(look()));
  judge();

  return Object.freeze({
    setMode: (mode) => change({ mode }),
    setCapable: (able) => change({ capable: able }),
    setPeers(peers) {
      const { p2p } = store.get();
      if (p2p.peers !== peers) store.set({ p2p: Object.freeze({ ...p2p, peers }) });
    },
    /** A peer has sent what the server has not stored. */
    rejected: () => store.set({ rejected: store.get().rejected + 1 }),
    /** The tracker does not answer. Who has peers keeps them: they do not need it any more. */
    trackerLost() {
      if (facts.gone || store.get().p2p.peers > 0) return;
      change({ gone: true });
      clearTimeout(tracker);
      tracker = setTimeout(() => change({ gone: false }), TRACKER_PAUSE);
    },
    /** The server tells of segments and their hashes, or has ceased to; null: it is not asked. */
    hears(told) {
      clearTimeout(silence);
      if (told !== false) change({ told });
      else silence = setTimeout(() => change({ told: false }), SILENCE);
    },
  });
}
