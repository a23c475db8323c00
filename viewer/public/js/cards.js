// A recording as a card with its picture: in the list of all, and beneath what is watched.
import { dateOf, nameOf } from "./recordings.js";
import { formatSpan, saySpan } from "./timeline.js";

const make = (tag, name, ...children) => {
  const element = document.createElement(tag);
  element.className = name;
  element.append(...children);
  return element;
};

/** A list item that links to the recording's page; `watch` is that page's address without the id. */
export function cardOf(recording, { texts, watch }) {
  const { id, title, duration, ended, poster } = recording;
  const picture = make("span", "picture");
  if (poster !== null) {
    const image = make("img", "");
    image.alt = "";
    image.loading = "lazy";
    image.addEventListener("error", () => image.remove());
    image.src = poster;
    picture.append(image);
  }
  const length = make("span", "length figure", ended === null ? texts.liveBadge : formatSpan(duration));
  length.classList.toggle("on", ended === null);
  if (ended !== null) length.setAttribute("aria-label", saySpan(duration, texts.locale));
  if (ended !== null) length.setAttribute("role", "img");
  picture.append(length);
  const card = make("a", "recording", picture, make("span", "name", nameOf(recording, texts.locale)));
  if (title) card.append(make("span", "notice", dateOf(recording, texts.locale)));
  card.href = watch + encodeURIComponent(id);
  return make("li", "", card);
}
