// What the lock screen, a headset's buttons and the system's own player show and ask for.
import { titleOf } from "./player-phase.js";

const STEP = 10; // seconds

/** `session` and `Metadata` are the browser's; one without them has nothing to show. */
export function createMediaSession({
  store,
  requests,
  session = globalThis.navigator?.mediaSession,
  Metadata = globalThis.MediaMetadata,
}) {
  if (!session || !Metadata) return;
  const actions = {
    play: requests.play,
    pause: requests.pause,
    stop: requests.pause,
    seekbackward: ({ seekOffset }) => requests.seekBy(-(seekOffset || STEP)),
    seekforward: ({ seekOffset }) => requests.seekBy(seekOffset || STEP),
  };
  for (const [name, act] of Object.entries(actions)) {
    try {
      session.setActionHandler(name, act);
    } catch {
      // this browser does not know the action
    }
  }
  store.subscribe((state, before) => {
    const { performer, poster, paused } = state;
    const title = titleOf(state);
    session.playbackState = paused ? "paused" : "playing";
    if (session.metadata && title === titleOf(before) && performer === before.performer && poster === before.poster) return;
    const artwork = poster === null ? [] : [{ src: poster }];
    session.metadata = new Metadata({ title, artist: performer ?? "", artwork });
  });
}
