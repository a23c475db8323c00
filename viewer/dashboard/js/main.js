// The operator's dashboard: asks every two seconds, draws, and says every second how old that is.
import { money, peerShare, pollers, rate } from "./figures.js";
import { follow } from "./feed.js";
import { age, headline, lamps, latest } from "./headline.js";
import { createPlots } from "./plots.js";
import { bytes, dollars, duration, milliseconds, perSecond, percent, whole } from "./words.js";

const find = (id) => document.getElementById(id);
const drawPlots = createPlots(find("plots"));

function tiles(id, entries) {
  find(id).replaceChildren(
    ...entries.map(([name, value, ago]) => {
      const tile = document.createElement("div");
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      if (ago) text.append(" ", small(ago));
      tile.append(term, text);
      return tile;
    }),
  );
}

function small(text) {
  const element = document.createElement("small");
  element.textContent = text;
  return element;
}

function lamp({ part, state, sign }) {
  const item = document.createElement("li");
  item.dataset.state = state;
  item.textContent = `${sign} ${part[0].toUpperCase()}${part.slice(1)}`;
  return item;
}

let answer = null; // the last there was
let failed = false; // the request after it

function say() {
  const moment = performance.now();
  const { state, label, text } = headline(answer, failed, moment);
  const before = find("status").dataset.state;
  find("status").dataset.state = document.body.dataset.state = state;
  find("verdict").textContent = label;
  find("sentence").textContent = text;
  find("lamps").replaceChildren(...lamps(answer, state).map(lamp));
  if (answer) drawNow(answer, moment);
  find("age").textContent = answer ? `Figures: ${duration(age(answer, moment))} old` : "";
  document.title = label ? `${label} – Broadcaster` : "Broadcaster";
  // Read out when it changes, and not with each second that is counted.
  if (state !== before) find("alarm").textContent = `${label} ${text}`;
}

function draw(now) {
  failed = now === null;
  answer = now ?? answer;
  say();
  if (now?.rows.length) drawFigures(now);
}

function drawNow({ rows, health, variants, listed, came }, moment) {
  const last = rows.at(-1);
  if (!last) return;
  const [delay, upload] = [latest(rows, "publishDelay"), latest(rows, "uploadTime")];
  tiles("now", [
    ["Stream", health.stream],
    ["Last segment", health.stream === "live" ? `${duration(health.silence + (moment - came) / 1000)} ago` : "–"],
    ["Variants", variants.join(", ") || "–"],
    ["Segments listed", whole(listed)],
    ["Publish delay", milliseconds(delay.value), delay.ago],
    ["Upload time", milliseconds(upload.value), upload.ago],
    ["Waiting for the bucket", whole(last.backlog)],
    ["Failed attempts", whole(last.uploadFailures)],
    ["Listed as gaps", whole(last.lost)],
    ["Memory", bytes(last.memory)],
    ["CPU", percent(rate(rows, "cpu"))],
  ]);
}

function drawFigures({ rows, prices, targetDuration }) {
  const last = rows.at(-1);
  tiles("audience", [
    ["Polling", whole(pollers(rows, targetDuration))],
    ["Waiting for a segment", whole(last.waiters)],
    ["Told of events", whole(last.eventReaders)],
    ["Sharing", whole(last.trackerSockets)],
    ["Requests", perSecond(rate(rows, "requests"))],
    ["Hours watched", (last.watchedSeconds / 3600).toFixed(1)],
    ["From each other", percent(peerShare(last))],
  ]);
  const { spent, compared, saved } = money(rows, prices);
  tiles("money", [
    ["Stored", bytes(last.storedBytes)],
    ["Uploaded", bytes(last.uploadedBytes)],
    ["Class A operations", whole(last.operationsA)],
    ["Class B operations", whole(last.operationsB)],
    ["Free operations", whole(last.operationsFree)],
    ["Spent on R2", dollars(spent)],
    [`At $${prices.compareEgressPerGb} per GB`, dollars(compared)],
    ["Saved", dollars(saved)],
  ]);
  drawPlots(rows);
}

setInterval(say, 1000);
await follow({ url: "data.json", draw });
