// What has to be so before the event: findings of the service, as they are now.
import { OFF } from "./headline.js";
import { make } from "./row.js";
import { forOperator } from "./format.js";

const UNKNOWN = { sign: "–", word: "not known", state: "off" };
const OUTCOMES = {
  ok: { sign: "✓", word: "yes", state: "ok" },
  warning: { sign: "!", word: "no", state: "warning" },
  failed: { sign: "✕", word: "no", state: "failing" },
  skipped: UNKNOWN,
};

/** "4 of 6": how many are well. */
export const countOf = (checklist) => `${checklist.filter(({ outcome }) => outcome === "ok").length} of ${checklist.length}`;

const ORDER = ["failed", "warning", "skipped", "ok"]; // what is to be done comes first

/** The state of the worst finding. */
export const worstOf = (checklist) => OUTCOMES[ORDER.find((outcome) => checklist.some((finding) => finding.outcome === outcome))].state;

/** How a finding is shown; what is `old` is not known. */
export const displayOf = ({ outcome }, old = false) => (old ? UNKNOWN : OUTCOMES[outcome]);

function entry(finding) {
  const { sign, word, state } = displayOf(finding);
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
  find("checked").textContent = countOf(checklist);
  find("checked").dataset.state = worstOf(checklist);
  const rank = ({ outcome }) => ORDER.indexOf(outcome);
  const sorted = [...checklist].sort((a, b) => rank(a) - rank(b));
  for (const id of ["checks", "now-checks"]) find(id).replaceChildren(...sorted.map(entry));
  find("before").hidden = !OFF.has(health.stream);
  find("plots-now").hidden = OFF.has(health.stream);
}
