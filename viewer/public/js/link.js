// Whether the connection carries the lowest quality at all. Pure.

const JUDGED = 2; // segments in a row: one alone may have had bad luck, or good

/** `note(segment)`: how long its bytes took, how long it plays (seconds), and whether a lower quality is left. */
export function createLink() {
  let slow = false;
  let against = 0; // segments in a row that say the contrary
  return Object.freeze({
    note({ took, duration, lowest }) {
      against = (lowest && took > duration) === slow ? 0 : against + 1;
      if (against < JUDGED) return;
      slow = !slow;
      against = 0;
    },
    isSlow: () => slow,
  });
}
