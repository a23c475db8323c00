// How hls.js gets its segments: from peers, else from what was fetched ahead, else as it always does.

/**
 * hls.js's `fLoader`. `Base` is its own loader; `prefetch` that of prefetch.js. `peers()` gives the loader class
 * of p2p.js while video is shared, else null. `asked(frag)` hears what hls.js wants, `arrived(frag, bytes)` what it
 * got, with bytes = null where others have counted them.
 */
export function fragmentLoader({ Base, prefetch, peers, asked, arrived }) {
  return class {
    #config;
    #own;
    #entry = null;
    #callbacks = null;

    constructor(config) {
      this.#config = config;
      this.#own = new Base(config);
      this.stats = this.#own.stats; // hls.js takes hold of them before it calls load
    }

    load(context, config, callbacks) {
      this.context = context;
      this.#callbacks = callbacks;
      asked(context.frag);
      const Peers = peers();
      if (Peers) this.#loadFromPeers(Peers, config);
      else if (this.#wholeFile() && (this.#entry = prefetch.take(context.url))) this.#await(this.#entry, config);
      else this.#loadAsUsual(config);
    }

    abort() {
      if (this.#entry) {
        const { onAbort } = this.#callbacks;
        this.stats.aborted = true;
        this.#letGo();
        onAbort?.(this.stats, this.context, null);
      } else this.#own.abort();
    }

    destroy() {
      this.#letGo();
      this.#own.destroy();
    }

    #wholeFile() {
      return !this.context.rangeEnd;
    }

    #letGo() {
      if (this.#entry) prefetch.drop(this.context.url);
      this.#entry = null;
      this.#callbacks = null;
    }

    #loadAsUsual(config) {
      const { context } = this;
      const { onSuccess } = this.#callbacks;
      this.#own.load(context, config, {
        ...this.#callbacks,
        onSuccess: (response, stats, same, details) => {
          arrived(context.frag, response.data.byteLength);
          onSuccess(response, stats, same, details);
        },
      });
    }

    #loadFromPeers(Peers, config) {
      const { context } = this;
      const { onSuccess } = this.#callbacks;
      this.#own = new Peers(this.#config);
      this.#own.stats = this.stats;
      // So that hls.js does not judge the progress: the library decides where from and when it loads.
      this.stats.total = this.stats.loaded = 1;
      this.#own.load(context, config, {
        ...this.#callbacks,
        onSuccess: (response, stats, same, details) => {
          // Without details the library has loaded it, which counts its bytes itself. It keeps the very buffer
          // for other viewers, and hls.js's worker would take it away.
          arrived(context.frag, details ? response.data.byteLength : null);
          onSuccess({ ...response, data: response.data.slice(0) }, stats, same, details);
        },
      });
    }

    async #await(entry, config) {
      const { stats, context } = this;
      const there = entry.end > 0;
      const progress = () => {
        stats.loading.start = entry.start;
        stats.loading.first = entry.first;
        stats.loaded = entry.loaded;
        stats.total = entry.total;
      };
      if (!there) {
        progress();
        entry.progress = progress; // hls.js gives up a segment that is too slow, and takes a smaller one
      }
      const data = await entry.done;
      if (this.#entry !== entry) return; // aborted meanwhile
      this.#entry = null;
      const callbacks = this.#callbacks;
      if (data === null) {
        stats.loading.start = stats.loading.first = 0;
        stats.loaded = stats.total = 0;
        this.#loadAsUsual(config);
        return;
      }
      progress();
      stats.loaded = stats.total = data.byteLength;
      // The time it lay here says nothing about the connection.
      const idle = there ? performance.now() - entry.end : 0;
      stats.loading = { start: entry.start + idle, first: entry.first + idle, end: entry.end + idle };
      prefetch.drop(context.url);
      arrived(context.frag, null);
      callbacks.onSuccess({ url: context.url, data, code: 200 }, stats, context, null);
    }
  };
}
