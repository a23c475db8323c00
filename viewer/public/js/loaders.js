// One player's way to its bytes: the loaders for hls.js, and what is fetched before it asks.
import { fragmentLoader } from "./fragment-loader.js";
import { playlistLoader } from "./playlist-loader.js";

const AHEAD = 2; // segments that may be fetched before hls.js asks for them

/**
 * `Base` is hls.js's own loader, `peers` that of p2p.js or null. `arrived(frag, bytes)` hears of each, with
 * bytes = null where others have counted them.
 */
export function createLoaders({ Base, catalog, prefetch, playlists, peers, arrived }) {
  let hls = null;
  let asked = null; // the number that hls.js wanted last
  let asking = false; // whether that is on its way
  let ahead = null; // the number that was fetched ahead last
  const sharing = () => peers?.loader() ?? null;

  return Object.freeze({
    /** What hls.js is set up with. */
    config: {
      fLoader: fragmentLoader({
        Base,
        prefetch,
        peers: sharing,
        asked: ({ sn }) => {
          asking = true;
          if (Number.isInteger(sn)) asked = sn;
        },
        arrived: (...what) => {
          asking = false;
          arrived(...what);
        },
      }),
      pLoader: playlistLoader({ Base, playlists, made: (config) => peers?.listen(config) }),
    },
    bind(made) {
      hls = made;
      peers?.bind(made);
    },
    /**
     * The server tells of a segment: it is fetched now if hls.js will want it next. Peers see to it themselves, and
     * beside another it would only make that one late.
     */
    news(segment) {
      const wants = { asked, ahead, variant: variantOf(hls.levels[hls.nextLoadLevel], catalog) };
      if (sharing() || asking || prefetch.isLoading() || !isNext(segment, wants)) return;
      ahead = segment.sequence;
      prefetch.start(segment.url);
    },
  });
}

/** Whether the segment follows what hls.js has asked for last, or what was fetched ahead since. */
export function isNext({ gap, variant, sequence }, wants) {
  if (gap || wants.asked === null || variant !== wants.variant) return false;
  const last = Math.max(wants.asked, wants.ahead ?? 0);
  return sequence === last + 1 && sequence <= wants.asked + AHEAD;
}

/** The server's name for a level of hls.js: that of a segment that both know. Null as long as there is none. */
export function variantOf(level, catalog) {
  for (const { url } of [...(level?.details?.fragments ?? [])].reverse()) {
    const known = catalog.find(url);
    if (known) return known.variant;
  }
  return null;
}
