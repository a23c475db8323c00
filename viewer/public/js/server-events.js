// What the page knows of the stream beside its player: by the server's events, and by the playlists.
import { createCatalog } from "./catalog.js";
import { createChannel } from "./channel.js";
import { createClock } from "./clock.js";
import { LOW_DELAY, SHARING } from "./modes.js";
import { createStreamForecast } from "./stream-forecast.js";
import { isCapable, loadLibrary } from "./p2p.js";
import { variantIn } from "./playlist.js";
import { createPreconnect, createPrefetch } from "./prefetch.js";
import { createSegmentSource } from "./segment-source.js";
import { createSharing } from "./sharing.js";
import { hostOf } from "./stats.js";
import { createTimings } from "./timings.js";

/**
 * With a `native` player the page cannot share. `playback` hears of segments and of what is decided. `playlists` has the
 * playlists that were fetched before the player began.
 */
export function createServerEvents({ config, store, ledger, alarm, playback, playlists, native, document }) {
  const { trackerUrl, iceServers } = config;
  const clock = createClock();
  const catalog = createCatalog();
  const timings = createTimings({ store, clock });
  const forecast = createStreamForecast();
  const prefetch = createPrefetch({
    fetched(url, count) {
      timings.fetched(url);
      ledger.add("bucket", count, hostOf(url));
    },
  });
  const sharing = createSharing({
    store,
    offered: trackerUrl !== null,
    capable: !native && isCapable(),
    apply: (sharing) => playback.share(sharing),
  });
  const mode = () => (store.get().p2p.available ? store.get().mode : LOW_DELAY);

  /** Loads what sharing takes, which is much, only when it is wanted. Whether it has come just now. */
  let library = null;
  async function equip() {
    if (library !== null || mode() !== SHARING) return false;
    library = await loadLibrary();
    if (library === null) sharing.setCapable(false);
    return library !== null;
  }
  async function changeMode(chosen) {
    sharing.setMode(chosen);
    if (await equip()) playback.renew();
    else playback.setMode(mode(), store.get().following);
  }
  store.subscribe((state, before) => state.mode !== before.mode && changeMode(state.mode));

  const preconnect = createPreconnect(document);
  if (config.mediaUrl !== null) preconnect(config.mediaUrl);
  const channel = createChannel({
    config,
    store,
    clock,
    catalog,
    forecast,
    sharing,
    alarm,
    playback,
    note(segment, isNews) {
      catalog.note(segment);
      timings.told(segment, isNews);
      preconnect(segment.url);
      playback.news(segment);
    },
  });
  let blocks = true; // whether the server holds a request for a playlist until it has a new segment
  const decide = () => channel.wants(mode() === SHARING || store.get().statsOpen || !blocks);
  store.subscribe(decide);

  return Object.freeze({
    /** When the first player can be made. */
    ready: Promise.all([channel.firstWord, equip()]),
    serverTime: clock.now,
    /** Whether the server lets the page know of segments at once. */
    told: () => channel.told(blocks),
    /** When it told something last, of performance.now(). */
    heardAt: channel.heardAt,
    wake: channel.wake,
    goesOn: forecast.goesOn,
    /** How long its segments are, in seconds, null when it has not told. */
    duration: () => catalog.duration() ?? playlists.duration(),
    /** By how many ms the times of this segment are ahead of the server's clock. */
    encoderOffset: catalog.encoderOffset,
    /** There is a playlist, as hls.js has it. */
    listed({ url, fragments, canBlockReload, live }) {
      const { fallback, replay } = store.get();
      if (fallback || replay !== null || !live) return;
      timings.listed(variantIn(url), fragments);
      blocks = canBlockReload;
      decide();
    },
    played: timings.played,
    mode,
    /** Where a new player gets its segments. What plays the streamer's own server shares nothing: its numbers mean other things. */
    connect() {
      const { fallback, p2p } = store.get();
      return createSegmentSource({
        Engine: fallback ? null : library,
        swarm: { trackerUrl, iceServers, enabled: p2p.enabled, gives: p2p.gives },
        catalog,
        prefetch,
        playlists,
        timings,
        ledger,
        sharing,
        counts: !fallback,
      });
    },
  });
}
