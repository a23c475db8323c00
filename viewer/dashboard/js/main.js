// The operator's dashboard: asks every two seconds, draws, and says every second how old that is.
import { createApi } from "./api.js";
import { createConfirm } from "./confirm.js";
import { createDesk } from "./desk.js";
import { money, peerShare, rate } from "./figures.js";
import { follow } from "./feed.js";
import { createGuests } from "./guests.js";
import { age, headline, lamps, lastSegment, latest } from "./headline.js";
import { createPlots } from "./plots.js";
import { createSound } from "./sound.js";
import { bytes, clock, dollars, duration, megabits, milliseconds, pair, perSecond, percent, seconds, whole } from "./words.js";

const find = (id) => document.getElementById(id);
const drawPlots = createPlots(find("plots"));
const sound = createSound({ button: find("sound") });
const parts = { find, api: createApi(), confirm: createConfirm({ find }) };
const noteDesk = createDesk(parts);
createGuests(parts);

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

const small = (text) => Object.assign(document.createElement("small"), { textContent: text });

function lamp({ part, state, sign }) {
  const item = document.createElement("li");
  item.dataset.state = state;
  item.textContent = `${sign} ${part[0].toUpperCase()}${part.slice(1)}`;
  return item;
}

// Owncast's own is of the last 20 seconds. Where there is none, there is no place for it.
find("picture").addEventListener("error", () => (find("picture").hidden = true));
find("picture").addEventListener("load", () => (find("picture").hidden = false));

function drawPicture({ picture, health, now }) {
  const source = picture && health.stream === "live" ? `picture.jpg?${Math.floor(now / 10_000)}` : "";
  if (source === "") find("picture").hidden = true;
  else if (find("picture").getAttribute("src") !== source) find("picture").src = source;
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
  find("age").textContent = answer ? `${clock(Date.now())} · figures: ${duration(age(answer, moment))} old` : "";
  document.title = label ? `${label} – Broadcaster` : "Broadcaster";
  sound(state, moment);
  // Read out when it changes, and not with each second that is counted.
  if (state !== before) find("alarm").textContent = `${label} ${text}`;
}

function draw(now) {
  failed = now === null;
  answer = now ?? answer;
  say();
  if (now) {
    drawPicture(now);
    drawQualities(now);
    noteDesk(now);
  }
  if (now?.rows.length) drawFigures(now);
}

function drawNow(now, moment) {
  const { rows, health, variants, listed } = now;
  const last = rows.at(-1);
  if (!last) return;
  const [delay, delays] = [latest(rows, "publishDelay50"), latest(rows, "publishDelay95")];
  const [upload, uploads] = [latest(rows, "uploadTime50"), latest(rows, "uploadTime95")];
  tiles("now", [
    ["Viewers", whole(health.viewers)],
    ["Stream", health.stream],
    ["Last from the encoder", health.stream === "live" ? lastSegment(now, moment) : "–"],
    ["Qualities", variants.join(" · ") || "–"],
    ["Segments listed", whole(listed)],
    ["Publish delay", pair(milliseconds, delay.value, delays.value), delay.ago],
    ["Upload time", pair(milliseconds, upload.value, uploads.value), upload.ago],
    ["Waiting for the bucket", `${whole(last.backlog)} (${bytes(last.spoolBytes)})`],
    ["Failed attempts", whole(last.uploadFailures)],
    ["Listed as gaps", whole(last.lost)],
    ["Memory", bytes(last.memory)],
    ["CPU", percent(rate(rows, "cpu"))],
  ]);
}

/** Each quality in a line, where the operator's own listener tells of them. */
function drawQualities({ table = [], health }) {
  document.querySelector(".scrolls").hidden = table.length === 0 || health.stream !== "live";
  find("qualities").replaceChildren(
    ...table.map(({ quality, bitrate, age: seconds, waiting, gaps }) => {
      const cells = [megabits(bitrate), seconds === null ? "–" : `${duration(seconds)} ago`, whole(waiting), whole(gaps)];
      const line = document.createElement("tr");
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: quality });
      line.append(head, ...cells.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
      return line;
    }),
  );
}

function drawFigures({ rows, prices }) {
  const last = rows.at(-1);
  const [startup, startups] = [latest(rows, "startup50"), latest(rows, "startup95")];
  tiles("audience", [
    ["Start-up", pair(seconds, startup.value, startups.value), startup.ago],
    ["Behind live", pair(seconds, last.latency50, last.latency95)],
    ["Stalls", whole(last.stalls)],
    ["Player errors", whole(last.playerErrors)],
    ["Hours watched", (last.watchedSeconds / 3600).toFixed(1)],
    ["From each other", percent(peerShare(last))],
    ["Requests", perSecond(rate(rows, "requests"))],
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
