// Beneath what is watched: other recordings, the newest first.
import { cardOf } from "../cards.js";

const MOST = 8;

/** On a phone they come before what is said of the event, to the eye and in the order of reading. */
function placeOtherRecordings(at, narrow) {
  const place = () => at("more")[narrow.matches ? "before" : "after"](at("shelf"));
  narrow.addEventListener("change", place);
  place();
}

export function createOtherRecordings({ at, document }) {
  placeOtherRecordings(at, document.defaultView.matchMedia("(max-width: 40rem)"));
  return function draw({ shelf, recording, recordings, texts }, changed) {
    if (!changed("shelf", "recording", "texts") || document.documentElement.hasAttribute("data-embed")) return;
    const others = shelf.filter(({ id, ended }) => ended !== null && id !== recording?.id).slice(0, MOST);
    at("shelf").hidden = others.length === 0;
    at("shelf-list").replaceChildren(...others.map((other) => cardOf(other, { texts, watch: recordings.watch })));
  };
}
