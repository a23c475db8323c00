// What is said above all, and how old the figures are. Pure.
import { duration, forOperator, span } from "./format.js";

const STALE = 15; // seconds; the service adds a row every five

const SIGNS = { ok: "✓", warning: "!", failing: "✕", unknown: "?", off: "–" };
export const OFF = new Set(["offline", "ended"]); // streams without an encoder
const ALWAYS = new Set(["service"]); // there is something to say of it without a stream
const LABELS = { ok: "✓ OK", warning: "! Warning", failing: "✕ Failing", old: "✕ No answer" };
const LACKING = new Set(["warning", "failed"]); // outcomes of a check

/** Seconds since the newest figures: by the service's own clock when they came at `came`, and by ours since then. */
export function age({ now, rows, came }, moment) {
  return (now - (rows.at(-1)?.time ?? now) + moment - came) / 1000;
}

/**
 * The service's own sentence and lines below it: what to do (`does`), and further faults, each with its remedy.
 * Or, from the first request on that `failed`, that there is no word of it; without a stream, what is not ready.
 */
export function headline(answer, failed, moment) {
  if (answer === null && !failed) return { state: "waiting", label: "", text: "Connecting…", lines: [] };
  if (answer === null) return old("No word from the service");
  const seconds = age(answer, moment);
  if (failed || seconds > STALE) return old(`No word from the service for ${duration(seconds)}: these figures are old`);
  const { severity, faults } = answer.verdict;
  const text = forOperator(answer.verdict.sentence);
  if (severity === "ok" && OFF.has(answer.health.stream)) return readiness(text, answer);
  const running = severity === "ok" && answer.health.stream === "live";
  const [worst = { remedy: "" }, ...others] = faults.map((fault) => ({ text: forOperator(fault.cause), remedy: forOperator(fault.remedy) }));
  return {
    state: severity,
    label: LABELS[severity],
    text: running ? `${text}, last segment ${lastSegment(answer, moment)}` : text,
    lines: [...(worst.remedy ? [{ text: worst.remedy, does: true }] : []), ...others],
  };
}

/** What is not well of a checklist. */
export const lackingOf = (checklist) => checklist.filter(({ outcome }) => LACKING.has(outcome));

/** Between two streams: that the encoder is not there yet is no warning. */
export const isIdle = (lacking) => lacking.every(({ name }) => name === "encoder");

/** Between two streams: no better than the checklist. */
function readiness(sentence, { checklist, health }) {
  const lacking = lackingOf(checklist);
  const [state, label] = lacking.length === 0 ? ["ok", "✓ Ready"] : isIdle(lacking) ? ["off", "– Off"] : ["warning", "! Not ready"];
  const isOver = health.stream === "ended" && isIdle(lacking); // nobody waits for the encoder
  const text = lacking.length === 0 || isOver ? sentence : `${sentence}; not yet: ${lacking.map(({ title }) => title).join(", ")}`;
  return { state, label, text, lines: [] };
}

/** How long ago the source brought it: that goes on while nothing is heard of the service. In trouble it is what the sentence beside it says. */
export function lastSegment({ health, came, verdict }, moment) {
  if ((verdict?.severity ?? "ok") !== "ok") return `${span(health.silence)} ago`;
  const seconds = health.silence + (moment - came) / 1000;
  return `${seconds < 10 ? `${seconds.toFixed(1)} s` : duration(seconds)} ago`;
}

/** Each part of the way to viewers, and a sign of how it is; none is known by what is old, or well where nothing goes through it. */
export function lamps(answer, state) {
  if (answer === null) return [];
  const isOff = OFF.has(answer.health.stream);
  const isUnused = (part) => isOff && !ALWAYS.has(part) && !(part === "bucket" && answer.health.backlog > 0);
  return Object.entries(answer.verdict.parts).map(([part, severity]) => {
    const known = severity === "ok" && isUnused(part) ? "off" : severity;
    const now = state === "old" ? (part === "service" ? "failing" : "unknown") : known;
    return { part, state: now, sign: SIGNS[now] };
  });
}

/** The newest figure of a name, and its age in words where that is more than the others have. */
export function latest(rows, name) {
  const row = rows.findLast((candidate) => candidate[name] !== null);
  const seconds = row ? (rows.at(-1).time - row.time) / 1000 : 0;
  return { value: row?.[name] ?? null, ago: seconds > STALE ? `${duration(seconds)} ago` : "" };
}

const old = (text) => ({ state: "old", label: LABELS.old, text, lines: [{ text: "See whether the service runs, and what its log says", does: true }] });
