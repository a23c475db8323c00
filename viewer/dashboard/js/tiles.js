// Figures with their names. The entries are pure: [name, value, a smaller text, the state of what it is about].
import { money, peerShare, rate } from "./rates.js";
import { lastSegment, latest } from "./headline.js";
import { make } from "./row.js";
import { bytes, dollars, megabits, milliseconds, most, perSecond, percent, seconds, span, whole } from "./format.js";

const RECORDING = { ok: "on", warning: "off", failed: "failing" };
const MANY = 10; // segments that wait

const withAge = (text, { ago }) => (ago ? `${text}, ${ago}` : text);
/** As pages have reported; while their picture stands still, at least for so long as that. */
function behindLive(rows, { stream, frozen }) {
  const late = latest(rows, "latency50");
  if (stream !== "live") return ["–", ""];
  if (frozen !== null) return [`≥ ${span(Math.max(frozen, late.value))}`, ""];
  return [seconds(late.value), withAge(most(seconds, latest(rows, "latency95").value), late)];
}

/** Whose picture stands still, pages with errors, and those whose browser cannot decode the stream. */
function noPicture({ failing, undecodable }, { viewers, frozen }) {
  const lacking = Object.values(undecodable).reduce((sum, count) => sum + count, 0);
  const still = frozen === null ? [] : [`frozen for ${span(frozen)}`];
  const cannot = lacking > 0 ? `${whole(lacking)} cannot play ${Object.keys(undecodable).join(", ")}` : "with errors";
  const why = failing + lacking > 0 || frozen === null ? [...still, cannot] : still;
  return [whole(failing + lacking + (frozen === null ? 0 : viewers)), why.join(", ")];
}

/** What the operator looks at during the event, each as well as the lamp of its part, or not. What the headline may name comes of the same answer, not of a row. */
export function nowTiles(now, moment) {
  const { rows, health, verdict, uplink, spool, pages, checklist } = now;
  const isLive = health.stream === "live";
  const outcome = (name) => checklist.find((finding) => finding.name === name).outcome;
  const warned = (name, ...outcomes) => (outcomes.includes(outcome(name)) ? "warning" : "");
  const ill = (part) => (verdict.parts[part] === "failing" ? "failing" : "warning");
  const lost = noPicture(pages, health);
  return [
    ["Viewers", whole(health.viewers), health.viewers_error ? `± ${whole(health.viewers_error)}` : ""],
    ["Behind live", ...behindLive(rows, health), health.frozen === null ? "" : ill("viewers")],
    ["No picture", ...lost, lost[0] === "0" && health.frozen === null ? "" : ill("viewers")],
    ["Last segment", isLive ? lastSegment(now, moment) : "–", "", isLive && verdict.parts.encoder !== "ok" ? ill("encoder") : ""],
    ["Uplink left", percent(uplink.left), uplink.needed ? `needs ${megabits(uplink.needed)}` : "", uplink.left === 0 ? ill("bucket") : ""],
    ["Waiting", whole(health.backlog), bytes(spool.bytes), health.backlog > MANY ? ill("bucket") : ""],
    ["Disk lasts", ...(spool.lasts === null ? ["–"] : [span(spool.lasts), "in an outage", warned("disk", "warning", "failed")])],
    ["Recording", RECORDING[outcome("recording")], "", warned("recording", "failed")],
  ];
}

export function viewerTiles({ rows, health }) {
  const last = rows.at(-1);
  const startup = latest(rows, "startup50");
  return [
    ["Start-up", seconds(startup.value), withAge(most(seconds, latest(rows, "startup95").value), startup)],
    ["Behind live", ...behindLive(rows, health)],
    ["Stalls", whole(last.stalls)],
    ["Player errors", whole(last.playerErrors)],
    ["Hours watched", (last.watchedSeconds / 3600).toFixed(1)],
    ["From each other", percent(peerShare(last))],
    ["Requests", perSecond(rate(rows, "requests"))],
  ];
}

export function serviceTiles({ rows, health, listed, epoch }) {
  const last = rows.at(-1);
  const [delay, upload] = [latest(rows, "publishDelay50"), latest(rows, "uploadTime50")];
  return [
    ["Stream", health.stream],
    ["Leads in the bucket", epoch === null ? "no" : "yes", epoch === null ? "" : `epoch ${epoch}`],
    ["Segments listed", whole(listed)],
    ["Publish delay", milliseconds(delay.value), withAge(most(milliseconds, latest(rows, "publishDelay95").value), delay)],
    ["Upload time", milliseconds(upload.value), withAge(most(milliseconds, latest(rows, "uploadTime95").value), upload)],
    ["Failed attempts", whole(last.uploadFailures)],
    ["Listed as gaps", whole(last.lost)],
    ["Memory", bytes(last.memory)],
    ["CPU", percent(rate(rows, "cpu"))],
  ];
}

export function moneyTiles({ rows, prices }) {
  const last = rows.at(-1);
  const { spent, compared, saved } = money(rows, prices);
  return [
    ["Spent on R2", dollars(spent)],
    [`At $${prices.compareEgressPerGb} per GB`, dollars(compared)],
    ["Saved", dollars(saved)],
    ["Stored", bytes(last.storedBytes)],
    ["Uploaded", bytes(last.uploadedBytes)],
    ["Class A operations", whole(last.operationsA)],
    ["Class B operations", whole(last.operationsB)],
    ["Free operations", whole(last.operationsFree)],
  ];
}

/** Draws entries into a <dl>. */
export function drawTiles(list, entries) {
  const tiles = entries.map(([name, value, more = "", state = ""]) => {
    const text = make("dd", {}, value, ...(more ? [" ", make("small", {}, more)] : []));
    const tile = make("div", {}, make("dt", {}, name), text);
    if (state) tile.dataset.state = state;
    return tile;
  });
  list.replaceChildren(...tiles);
}
