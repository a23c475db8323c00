// The player that is on, if any: who asks something of it need not know which one it is.

const REQUESTS = ["seek", "goLive", "frame", "setQuality", "setCaption", "setAudioTrack", "setMode", "share", "news", "renew", "replaced"];

/** Each request goes to the player that was named by `use(player)` last; without one, or one that cannot, nothing. */
export function createPlayback() {
  let player = null;
  const ask = (name) => (...what) => player?.[name]?.(...what);
  return Object.freeze({
    ...Object.fromEntries(REQUESTS.map((name) => [name, ask(name)])),
    use(next) {
      player = next;
    },
  });
}
