// A small picture of what is on, while there is one, and how old it is, where the service knows that.
import { duration } from "./format.js";

const STEP = 10_000; // ms; the service has another one no more often

/** Returns a function to be told each answer of data.json. The age goes on while none comes. */
export function createPicture(figure, { clock = Date.now, tick = setInterval } = {}) {
  const [image, caption] = ["img", "figcaption"].map((tag) => figure.querySelector(tag));
  let taken = null; // ms, by the browser's clock
  image.addEventListener("error", () => (figure.hidden = true));
  image.addEventListener("load", () => (figure.hidden = false));
  function showAge() {
    caption.hidden = taken === null;
    if (taken !== null) caption.textContent = `${duration((clock() - taken) / 1000)} ago`;
  }
  tick(showAge, 1000);
  return function draw({ picture, pictured = null, health, now }) {
    const source = picture && health.stream === "live" ? `picture.jpg?${Math.floor(now / STEP)}` : "";
    if (source === "") figure.hidden = true;
    else if (image.getAttribute("src") !== source) image.src = source;
    taken = pictured === null ? null : clock() - (now - pictured);
    showAge();
  };
}
