// The operator's dashboard: asks every few seconds, and draws.
import { money, peerShare, pollers, rate } from "./figures.js";
import { follow } from "./feed.js";
import { createPlots } from "./plots.js";
import { bytes, dollars, milliseconds, perSecond, percent, whole } from "./words.js";

const find = (id) => document.getElementById(id);
const drawPlots = createPlots(find("plots"));

function tiles(id, entries) {
  find(id).replaceChildren(
    ...entries.map(([name, value]) => {
      const tile = document.createElement("div");
      const term = document.createElement("dt");
      const text = document.createElement("dd");
      term.textContent = name;
      text.textContent = value;
      tile.append(term, text);
      return tile;
    }),
  );
}

function say(state, text, trouble) {
  find("status").dataset.state = state;
  find("status").textContent = text;
  find("trouble").hidden = !trouble;
  find("trouble").textContent = trouble ?? "";
}

const latest = (rows, name) => rows.findLast((row) => row[name] !== null)?.[name];

function draw(now) {
  if (now === null) {
    say("failing", "The service does not answer", "The figures below are the last that came.");
    return;
  }
  const { rows, health, variants, listed, prices, targetDuration } = now;
  const last = rows.at(-1);
  say(health.reason ? "failing" : "ok", `Stream: ${health.stream}`, health.reason ?? health.warning);
  if (!last) return;
  tiles("now", [
    ["Variants", variants.join(", ") || "–"],
    ["Segments listed", whole(listed)],
    ["Publish delay", milliseconds(latest(rows, "publishDelay"))],
    ["Upload time", milliseconds(latest(rows, "uploadTime"))],
    ["Waiting for the bucket", whole(last.backlog)],
    ["Failed attempts", whole(last.uploadFailures)],
    ["Listed as gaps", whole(last.lost)],
    ["Memory", bytes(last.memory)],
    ["CPU", percent(rate(rows, "cpu"))],
  ]);
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

await follow({ url: "data.json", draw });
