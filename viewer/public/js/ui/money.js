// What the stream has cost and saved so far, in words and dollars.
import { costOf, formatMoney, savedBy } from "../costs.js";
import { formatBytes } from "../stats.js";

const CROWD = 1000; // viewers

export function createMoney(document, list, note) {
  const line = (name, strong) => {
    const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    if (strong) row.className = "strong";
    term.textContent = name;
    row.append(term, value);
    list.append(row);
    return value;
  };
  const once = line("Writing and storing, once for all");
  const reads = line("Your reads from R2");
  const elsewhere = line("Your video from a paid server");
  const saved = line("Saved by you", true);
  const crowd = line(`Saved by ${CROWD.toLocaleString("en")} viewers like you`, true);

  return Object.freeze({
    draw(figures, costs) {
      const cost = costOf(figures, costs);
      once.textContent = formatMoney(cost.once);
      reads.textContent = formatMoney(cost.reads);
      elsewhere.textContent = formatMoney(cost.elsewhere);
      saved.textContent = formatMoney(cost.saved);
      crowd.textContent = formatMoney(savedBy(CROWD, cost));
      note.textContent =
        `Estimated since you came, from ${formatBytes(figures.bytes)} and ${figures.writes} written objects; ` +
        `egress from R2 is free, a paid server’s is taken at $${costs.compareEgressPerGb} per GB.`;
    },
  });
}
