// A sound for who does not look: off until it is switched on, which is the click that browsers ask for.

const AGAIN = 10; // seconds from one alarm to the next while it is bad
const BAD = new Set(["failing", "old"]);
const TONES = [880, 660, 880]; // Hz, each for a fifth of a second

/** `note(state, moment)` is told how it stands, moment in ms; `beep` makes the sound. */
export function createSound({ button, beep = beeper() }) {
  let at = -Infinity;
  button.addEventListener("change", () => {
    if (button.checked) beep(TONES.slice(0, 1)); // what it will sound like, and whether it is allowed
    at = -Infinity;
  });
  return function note(state, moment) {
    if (!BAD.has(state)) at = -Infinity;
    else if (button.checked && moment - at >= 1000 * AGAIN) {
      at = moment;
      beep(TONES);
    }
  };
}

function beeper() {
  let audio = null;
  return (tones) => {
    audio ??= new AudioContext();
    tones.forEach((tone, index) => {
      const oscillator = new OscillatorNode(audio, { frequency: tone, type: "triangle" });
      oscillator.connect(new GainNode(audio, { gain: 0.2 })).connect(audio.destination);
      oscillator.start(audio.currentTime + index / 5);
      oscillator.stop(audio.currentTime + (index + 1) / 5);
    });
  };
}
