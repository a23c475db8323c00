// A small picture of what is on, while there is one.

const STEP = 10_000; // ms; the service has another one no more often

/** Returns a function to be told each answer of data.json. */
export function createPicture(image) {
  image.addEventListener("error", () => (image.hidden = true));
  image.addEventListener("load", () => (image.hidden = false));
  return function draw({ picture, health, now }) {
    const source = picture && health.stream === "live" ? `picture.jpg?${Math.floor(now / STEP)}` : "";
    if (source === "") image.hidden = true;
    else if (image.getAttribute("src") !== source) image.src = source;
  };
}
