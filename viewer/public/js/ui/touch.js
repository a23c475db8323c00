// What a finger needs: large controls in the middle of the picture, and a sign of each double tap.

const DURATION = 600; // ms

export function createTouch({ at, requests }) {
  let timer = 0;
  at("centre-back").addEventListener("click", () => requests.seekBy(-10));
  at("centre-play").addEventListener("click", requests.togglePlay);
  at("centre-on").addEventListener("click", () => requests.seekBy(10));

  return function draw({ paused, leapt, texts }, changed) {
    if (changed("paused", "texts")) {
      at("centre-play").querySelector("use").setAttribute("href", paused ? "#i-play" : "#i-pause");
      at("centre-play").setAttribute("aria-label", paused ? texts.play : texts.pause);
    }
    if (!changed("leapt") || leapt === null) return;
    at("leapt").textContent = leapt.seconds < 0 ? "\u2212\u200a10" : "+\u200a10";
    at("leapt").dataset.way = leapt.seconds < 0 ? "back" : "on";
    at("leapt").hidden = false;
    clearTimeout(timer);
    timer = setTimeout(() => (at("leapt").hidden = true), DURATION);
  };
}
