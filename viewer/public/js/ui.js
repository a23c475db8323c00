// Shows the state, passes on what the viewer asks for. Decides nothing.
import { levelKey } from "./quality.js";
import { formatBitrate, formatBytes, formatLatency, formatLevel } from "./stats.js";

/** For each status: the word on the badge, and the card over the picture (none: the picture speaks for itself). */
const texts = Object.freeze({
  connecting: { badge: "Connecting", card: ["Connecting…", "Getting the stream."] },
  offline: { badge: "Offline", card: ["The stream is offline", "Leave this page open: it starts by itself."] },
  live: { badge: "Live", said: "The stream is live." },
  buffering: { badge: "Buffering", card: ["One moment…", "The connection is slow; the stream goes on soon."] },
  waiting: { badge: "Paused", card: ["The stream is paused", "Waiting for it; it goes on by itself."] },
  reconnecting: { badge: "Reconnecting", card: ["Connection lost", "Trying again; nothing for you to do."] },
  blocked: { badge: "Ready", card: ["Ready to play", "Your browser wants a click before it starts."] },
  unsupported: { badge: "Sorry", card: ["No player for this browser", "A current version of any browser will do."] },
});

export function createUi(document, store, requests) {
  const at = (id) => document.getElementById(id);
  at("play").addEventListener("click", requests.play);
  at("unmute").addEventListener("click", requests.unmute);
  at("go-live").addEventListener("click", requests.goLive);
  at("quality").addEventListener("change", (event) => requests.chooseQuality(event.target.value));

  store.subscribe((state, before) => {
    const first = state === before;
    const changed = (...keys) => first || keys.some((key) => state[key] !== before[key]);
    if (changed("title", "status")) showTitle(document, at, state);
    if (changed("status")) showStatus(document, at, state);
    if (changed("levels", "quality")) showQualities(document, at("quality"), state);
    at("choice").hidden = state.levels.length < 2;
    at("unmute").hidden = !(state.muted && state.status === "live" && !state.paused);
    at("go-live").hidden = !state.behind;
    at("latency").textContent = formatLatency(state.latency);
    at("level").textContent = formatLevel(state.level);
    if (changed("bytesByHost")) showSources(document, at("sources"), state.bytesByHost);
  });
}

function showTitle(document, at, { title, status }) {
  at("title").textContent = title;
  document.title = status === "live" ? `● ${title}` : title;
}

function showStatus(document, at, { status }) {
  const { badge, card, said } = texts[status];
  document.body.dataset.status = status;
  at("badge").textContent = badge;
  at("card").hidden = !card;
  at("play").hidden = status !== "blocked";
  // Over a frozen picture the browser's own spinner would show through; in full screen it is all there is.
  const video = document.querySelector("video");
  video.controls = !card || document.fullscreenElement === video;
  if (card) [at("card-title").textContent, at("card-text").textContent] = card;
  // The one region that is read aloud: it changes with the status, not with every figure.
  at("said").textContent = said ?? card.join(" ");
}

function showQualities(document, select, { levels, quality }) {
  const best = [...levels].sort((a, b) => b.height - a.height || b.bitrate - a.bitrate);
  const options = best.map((level) => {
    const alone = best.filter(({ height }) => height === level.height).length === 1;
    const name = level.height && alone ? `${level.height}p` : formatLevel(level);
    return new Option(level.height ? name : formatBitrate(level.bitrate), levelKey(level));
  });
  select.replaceChildren(new Option("Auto", "auto"), ...options);
  select.value = quality;
  if (select.selectedIndex < 0) select.value = "auto"; // this stream has no such rendition
}

function showSources(document, list, bytesByHost) {
  const sources = Object.entries(bytesByHost).sort(([, a], [, b]) => b - a);
  const lines = sources.map(([host, bytes]) => {
    const line = document.createElement("span");
    const name = document.createElement("span");
    name.className = "host";
    name.textContent = host;
    name.title = host;
    line.className = "source";
    line.append(name, `· ${formatBytes(bytes)}`);
    return line;
  });
  list.replaceChildren(...(lines.length ? lines : ["–"]));
}
