// What has to be so before the event: findings of the service, as they are now.
import { isIdle, lackingOf, OFF } from "./headline.js";
import { make } from "./row.js";
import { forOperator } from "./format.js";

const NOT_YET = { sign: "–", word: "not yet", state: "off" };
const OUTCOMES = {
  ok: { sign: "✓", word: "yes", state: "ok" },
  warning: { sign: "!", word: "not quite", state: "warning" },
  failed: { sign: "✕", word: "no", state: "failing" },
  skipped: { sign: "–", word: "not known", state: "off" },
};

const ORDER = ["failed", "warning", "skipped", "ok"]; // what is to be done comes first

/** How many findings are to be dealt with, "✓" without any; and the state of the worst, no worse than the headline has it. */
export function badgeOf(checklist, isOff) {
  const lacking = lackingOf(checklist);
  if (lacking.length === 0) return { text: "✓", state: "ok" };
  const worst = lacking.some(({ outcome }) => outcome === "failed") ? "failing" : "warning";
  return { text: `${lacking.length} to do`, state: isOff && isIdle(lacking) ? "off" : worst };
}

/** How a finding is shown. That the encoder is not there yet is no fault. */
export const displayOf = ({ name, outcome }, isOff = false) => (isOff && outcome === "failed" && isIdle([{ name }]) ? NOT_YET : OUTCOMES[outcome]);

/** The state of what a finding is about; "" where nothing is wrong with it. */
export const stateOf = (finding) => (lackingOf([finding]).length > 0 ? OUTCOMES[finding.outcome].state : "");

function entry(finding, isOff) {
  const { sign, word, state } = displayOf(finding, isOff);
  const { title } = finding;
  const [message, remedy] = [finding.message, finding.remedy].map((text) => forOperator(text));
  const head = make("p", {}, make("strong", {}, title), make("span", { className: "unseen" }, `: ${word}`), make("span", { className: "message" }, message));
  const body = make("div", {}, head, ...(remedy ? [make("p", { className: "quiet" }, `→ ${remedy}`)] : []));
  const item = make("li", { className: "check" }, make("span", { className: "sign", ariaHidden: "true" }, sign), body);
  item.dataset.state = state;
  return item;
}

/** In its tab; and in the place of the plots while no stream is on. */
export function drawChecklist(find, { checklist, health }) {
  const isOff = OFF.has(health.stream);
  const { text, state } = badgeOf(checklist, isOff);
  find("checked").textContent = text;
  find("checked").dataset.state = state;
  const rank = ({ outcome }) => ORDER.indexOf(outcome);
  const sorted = [...checklist].sort((a, b) => rank(a) - rank(b));
  for (const id of ["checks", "now-checks"]) find(id).replaceChildren(...sorted.map((finding) => entry(finding, isOff)));
  find("before").hidden = !isOff;
  find("before-title").textContent = health.stream === "ended" ? "Before the next event" : "Before the event";
  find("plots-now").hidden = isOff;
}
