// What the stream has cost and saved so far, in words and dollars.
import { costOf, formatMoney, savedBy } from "../costs.js";
import { say } from "../intl.js";
import { formatBytes } from "../stats.js";

const CROWD = 1000; // viewers

export function createMoney(document, list, note, texts) {
  const { locale } = texts;
  const line = (name, strong) => {
    const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
    if (strong) row.className = "strong";
    term.textContent = name;
    row.append(term, value);
    list.append(row);
    return value;
  };
  const once = line(texts.moneyOnce);
  const reads = line(texts.moneyReads);
  const elsewhere = line(texts.moneyElsewhere);
  const saved = line(texts.moneySaved, true);
  const crowd = line(say(texts, "moneyCrowd", { count: CROWD }), true);

  return Object.freeze({
    draw(figures, costs) {
      const cost = costOf(figures, costs);
      once.textContent = formatMoney(cost.once, locale);
      reads.textContent = formatMoney(cost.reads, locale);
      elsewhere.textContent = formatMoney(cost.elsewhere, locale);
      saved.textContent = formatMoney(cost.saved, locale);
      crowd.textContent = formatMoney(savedBy(CROWD, cost), locale);
      const price = formatMoney(costs.compareEgressPerGb, locale);
      note.textContent = say(texts, "moneyNote", { size: formatBytes(figures.bytes, locale), count: figures.writes, price });
    },
  });
}
