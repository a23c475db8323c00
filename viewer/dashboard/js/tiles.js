// Figures with their names. The entries are pure: [name, value, a smaller text, the state of what it is about].
import { stateOf } from "./checklist.js";
import { money, peerShare, rate } from "./rates.js";
import { lastSegment, latest } from "./headline.js";
import { make } from "./row.js";
import { bytes, dollars, megabits, milliseconds, most, perSecond, percent, seconds, span, whole } from "./format.js";

const MANY = 10; // segments that wait

const withAge = (text, { ago }) => (ago ? `${text}, ${ago}` : text);

/** As pages have reported; while their picture stands still, at least for so long as that, and then as they have reported since. */
function behindLive({ rows, health: { stream, frozen }, pages }) {
  if (stream !== "live") return ["–", ""];
  if (frozen !== null) return [`≥ ${span(Math.max(frozen, latest(rows, "latency50").value))}`, ""];
  if (pages.playing === 0 && lackingOf(pages) > 0) return ["–", "no page plays"];
  const since = rows.slice(rows.findLastIndex((row) => row.frozen > 0) + 1);
  const late = latest(since, "latency50");
  if (late.value === null) return ["–", since.length < rows.length ? "no report since" : ""];
  return [seconds(late.value), withAge(most(seconds, latest(since, "latency95").value), late)];
}

/** The delay of viewers with its state. */
const behindTile = (now) => ["Behind live", ...behindLive(now), now.health.frozen === null ? "" : illOf(now, "viewers")];

const illOf = ({ verdict }, part) => (verdict.parts[part] === "failing" ? "failing" : "warning");

/** How many pages have no picture, with errors or without a decoder. */
const lackingOf = ({ failing, undecodable }) => Object.values(undecodable).reduce((sum, count) => sum + count, failing);

/** When the source brought it, or, while viewers are frozen, when they got it; and the part that is at fault. */
function newestSegment(now, moment) {
  const { health, verdict } = now;
  if (health.stream !== "live") return ["–", ""];
  const came = lastSegment(now, moment);
  const isIll = verdict.parts.encoder !== "ok";
  if (health.frozen === null) return [came, "", isIll ? "encoder" : ""];
  const seen = `${span(health.frozen)} ago`;
  return [seen, seen === came ? "" : `encoder: ${came}`, isIll ? "encoder" : "viewers"];
}

/** Whose picture stands still, pages with errors, and those whose browser cannot decode the stream. */
function noPicture(pages, { viewers, frozen }) {
  const lacking = lackingOf(pages);
  const still = frozen === null ? [] : [`frozen for ${span(frozen)}`];
  const cannot = lacking > pages.failing ? `${whole(lacking - pages.failing)} cannot play ${Object.keys(pages.undecodable).join(", ")}` : "with errors";
  const why = lacking > 0 ? [...still, cannot] : still;
  return [whole(lacking + (frozen === null ? 0 : viewers)), why.join(", ")];
}

/** What the operator looks at during the event, each as well as the lamp of its part, or not. What the headline may name comes of the same answer, not of a row. */
export function nowTiles(now, moment) {
  const { health, uplink, spool, pages, checklist } = now;
  const [disk, recording] = ["disk", "recording"].map((wanted) => checklist.find(({ name }) => name === wanted));
  const ill = (part) => illOf(now, part);
  const [last, source, at] = newestSegment(now, moment);
  const lost = noPicture(pages, health);
  return [
    ["Viewers", whole(health.viewers), health.viewers_error ? `± ${whole(health.viewers_error)}` : ""],
    behindTile(now),
    ["No picture", ...lost, lost[0] === "0" && health.frozen === null ? "" : ill("viewers")],
    ["Last segment", last, source, at ? ill(at) : ""],
    ["Uplink left", percent(uplink.left), uplink.needed ? `needs ${megabits(uplink.needed)}` : "", uplink.left === 0 ? ill("bucket") : ""],
    ["Waiting", whole(health.backlog), bytes(spool.bytes), health.backlog > MANY ? ill("bucket") : ""],
    ["Disk lasts", ...(spool.lasts === null ? ["–"] : [span(spool.lasts), "in an outage", stateOf(disk)])],
    ["Recording", recording.word, "", stateOf(recording)],
  ];
}

export function viewerTiles(now) {
  const { rows } = now;
  const last = rows.at(-1);
  const startup = latest(rows, "startup50");
  return [
    ["Start-up", seconds(startup.value), withAge(most(seconds, latest(rows, "startup95").value), startup)],
    behindTile(now),
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
