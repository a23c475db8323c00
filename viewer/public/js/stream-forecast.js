// Whether anything is to come after an end: new playlists may follow at the same address.

const PATIENCE = 60000; // ms for what was announced

export function createStreamForecast({ now = () => performance.now() } = {}) {
  let answer = null;
  let since = 0;

  function say(said) {
    answer = said;
    since = now();
  }
  const react = {
    state: ({ state, goingOn }) => say(state === "live" || state === "starting" || goingOn === true),
    starting: () => say(true),
    started: () => say(true),
    ended: ({ goingOn }) => say(goingOn === true),
    lost: () => say(null),
  };

  return Object.freeze({
    /** Takes an event as events.js tells it. */
    hears: (name, data) => react[name]?.(data),
    /** By the server's last word: there is more or will be soon (true), it is over (false); null: not told. */
    goesOn: () => (answer === true && now() - since > PATIENCE ? null : answer),
  });
}
