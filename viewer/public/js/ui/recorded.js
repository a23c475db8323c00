// What the page says of recordings: the way to the start of the stream, to its recording after the end, and to all.
import { dateOf } from "../recordings.js";

export function createRecorded({ at, requests }) {
  at("start-over").addEventListener("click", requests.startOver);

  return function draw(state, changed) {
    const { recorded, recording, recordings, texts } = state;
    const { phase } = state;
    if (!changed("recorded", "recording", "recordings", "texts", "phase")) return;
    const on = recorded !== null && recorded.ended === null && (phase === "live" || phase === "behind");
    at("start-over").hidden = !on || recording !== null;
    at("watch-recording").hidden = !((phase === "ended" || phase === "rest") && recorded !== null && recordings !== null);
    const missing = phase === "missing";
    at("all-recordings").hidden = recordings === null || !(missing || (recorded ?? recording) !== null);
    at("to-live").hidden = recordings === null || !(missing || recording !== null);
    at("when").hidden = recording === null || !recording.title; // else the date is its name
    if (recording !== null) at("when").textContent = dateOf(recording, texts.locale);
    if (recordings !== null) {
      at("all-recordings").href = recordings.list;
      at("to-live").href = recordings.live;
      if (recorded !== null) at("watch-recording").href = recordings.watch + encodeURIComponent(recorded.id);
    }
    at("recorded").hidden = ["to-live", "when"].every((id) => at(id).hidden);
  };
}
