// What this viewer chose, for the next visit, or for this one: on this device only.
import { SPEEDS } from "./pace.js";

const KEY = "broadcaster";
const sound = Object.freeze({
  volume: (value) => typeof value === "number" && value >= 0 && value <= 1,
  mode: (value) => value === "low-delay" || value === "sharing",
  bandwidth: (value) => Number.isFinite(value) && value > 0, // bits per second, as it was when the page was left
  quality: (value) => typeof value === "string" && /^(auto|\d+-\d+)$/.test(value),
  caption: (value) => value === null || (typeof value === "string" && /^\d+$/.test(value)),
  audioTrack: (value) => value === null || (typeof value === "string" && value.length <= 200),
  shortcuts: (value) => typeof value === "boolean",
  speed: (value) => SPEEDS.includes(value),
});

/** `reach` gives the storage; an iframe of another site may not have one, and then nothing is kept. */
export function createChoices(reach = () => window.localStorage) {
  function load() {
    try {
      const kept = withoutOldSwitch(JSON.parse(reach().getItem(KEY)) ?? {});
      return Object.fromEntries(Object.entries(sound).filter(([name, is]) => is(kept[name])).map(([name]) => [name, kept[name]]));
    } catch {
      return {};
    }
  }
  return Object.freeze({
    load,
    keep(patch) {
      try {
        reach().setItem(KEY, JSON.stringify({ ...load(), ...patch }));
      } catch {
        // no room or no right to keep anything: the choice holds until the page is left
      }
    },
  });
}

/** An earlier page had a switch of its own for who did not want to share. */
const withoutOldSwitch = ({ p2p, ...kept }) => (p2p === false ? { ...kept, mode: "low-delay" } : kept);
