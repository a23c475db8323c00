// Where one player's segments come from: from the bucket and, where viewers share, from peers.
import { createLoaders } from "./loaders.js";
import { Hls } from "./engine.js";
import { createPeers } from "./p2p.js";
import { variantIn } from "./playlist.js";
import { hostOf } from "./stats.js";

/**
 * `Engine` is the library of p2p.js, null where this player is not to share; `swarm` its {trackerUrl, iceServers,
 * enabled, gives}. `counts` is false for what does not come from the bucket.
 */
export function createSegmentSource({ Engine, swarm, catalog, prefetch, playlists, timings, ledger, sharing, counts }) {
  const bucket = (url, count) => ledger.add(counts ? "bucket" : null, count, hostOf(url));
  const peers =
    Engine &&
    createPeers({
      Engine,
      ...swarm,
      catalog,
      run: catalog.run(),
      on: {
        loaded(url, count, source) {
          timings.fetched(url);
          if (source === "peers") ledger.add(source, count);
          else bucket(url, count);
        },
        rejected: sharing.rejected,
        uploaded: (count) => ledger.add("uploaded", count),
        peers: sharing.setPeers,
        trackerLost: sharing.trackerLost,
      },
    });
  const loaders = createLoaders({
    Base: Hls.DefaultConfig.loader,
    catalog,
    prefetch,
    playlists,
    peers,
    arrived({ url, sn, baseurl }, count) {
      if (Number.isInteger(sn)) timings.fetched(url, sn, variantIn(baseurl));
      bucket(url, count);
    },
  });
  return Object.freeze({
    config: loaders.config,
    bind: loaders.bind,
    isShared: () => Boolean(peers?.loader()),
    share: (sharing) => peers?.share(sharing),
    /** The server tells of a segment. */
    news(segment) {
      peers?.follow(catalog.run());
      loaders.news(segment);
    },
    close() {
      prefetch.clear();
      sharing.setPeers(0);
    },
  });
}
