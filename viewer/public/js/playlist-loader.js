// How hls.js gets its playlists.

/**
 * hls.js's `pLoader`: its own, but the answer's address is told without the directives of a blocking reload.
 * p2p-media-loader knows a playlist by that address, and would share nothing. `made(config)` hears of each loader.
 */
export function playlistLoader({ Base, made }) {
  return class extends Base {
    constructor(config) {
      super(config);
      made(config);
    }

    load(context, config, callbacks) {
      super.load(context, config, {
        ...callbacks,
        onSuccess: (response, ...rest) =>
          callbacks.onSuccess({ ...response, url: withoutDirectives(response.url) }, ...rest),
      });
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
