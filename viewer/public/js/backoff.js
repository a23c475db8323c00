// How long to wait before the next try. Random on purpose: ten thousand viewers must not come back at once.

/** Pause number `attempt` (from 0): `first` growing by `factor` up to `most`, give or take `spread` of it, in ms. */
export function backoff(attempt, { first, factor = 2, most, spread = 0.3 }, random = Math.random) {
  const steady = Math.min(most, first * factor ** Math.min(attempt, 64));
  return Math.round(steady * (1 + spread * (2 * random() - 1)));
}

/** A sleep that somebody else may cut short: a tab that comes to the front, later a message from the server. */
export function createAlarm() {
  let ring = () => {};
  return Object.freeze({
    sleep: (ms) =>
      new Promise((resolve) => {
        const timer = setTimeout(resolve, ms);
        ring = () => {
          clearTimeout(timer);
          resolve();
        };
      }),
    wake: () => ring(),
  });
}
