// How hls.js gets its playlists.

/**
 * hls.js's `pLoader`: its own, but the answer's address is told without the directives of a blocking reload.
 * p2p-media-loader knows a playlist by that address, and would share nothing. `made(config)` hears of each loader.
 * `playlists` (playlist-prefetch.js) has what need not be asked for.
 */
export function playlistLoader({ Base, made, playlists }) {
  return class extends Base {
    #known = null;

    constructor(config) {
      super(config);
      made(config);
    }

    load(context, config, callbacks) {
      this.#known = playlists.take(context.url);
      if (this.#known) {
        this.context = context;
        this.#tell(this.#known, callbacks);
        return;
      }
      super.load(context, config, {
        ...callbacks,
        onSuccess: (response, ...rest) =>
          callbacks.onSuccess({ ...response, url: withoutDirectives(response.url) }, ...rest),
      });
    }

    getCacheAge() {
      return this.#known ? this.#known.age : super.getCacheAge();
    }

    destroy() {
      this.#known = null;
      super.destroy();
    }

    /** A moment later, as hls.js expects it of a network. */
    async #tell(known, { onSuccess }) {
      const { url, answer, text, start, first, end } = known;
      await null;
      if (this.#known !== known) return; // destroyed meanwhile
      this.stats.loaded = this.stats.total = text.length;
      this.stats.loading = { start, first, end };
      // The answer goes along: p2p-media-loader takes the playlist's address from it.
      onSuccess({ url: withoutDirectives(url), data: text, code: 200 }, this.stats, this.context, answer);
    }
  };
}

export function withoutDirectives(address) {
  if (!address?.includes("_HLS_")) return address;
  const url = new URL(address);
  for (const name of [...url.searchParams.keys()]) {
    if (name.startsWith("_HLS_")) url.searchParams.delete(name);
  }
  return url.href;
}
