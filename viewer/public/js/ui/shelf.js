// Beneath what is watched: other recordings, the newest first.
import { cardOf } from "../cards.js";

const MOST = 8;

export function createShelf({ at, document }) {
  return function draw({ shelf, recording, recordings, texts }, changed) {
    if (!changed("shelf", "recording", "texts") || document.documentElement.hasAttribute("data-embed")) return;
    const others = shelf.filter(({ id, ended }) => ended !== null && id !== recording?.id).slice(0, MOST);
    at("shelf").hidden = others.length === 0;
    at("shelf-list").replaceChildren(...others.map((other) => cardOf(other, { texts, watch: recordings.watch })));
  };
}
