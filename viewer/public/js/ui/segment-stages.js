// Draws what ../segment-stages.js laid out: a table, a row for each segment.
import { formatFixed, formatList, formatNumber, say } from "../intl.js";
import { layOut, STAGES } from "../segment-stages.js";

const NAMES = Object.freeze({ upload: "wayUpload", tell: "wayTell", fetch: "wayFetch", wait: "wayWait" });

export function createStages(document, box, texts) {
  const { locale } = texts;
  const ms = (value) =>
    value >= 1000 ? `${formatFixed(locale, value / 1000, 1)} s` : `${formatNumber(locale, Math.round(value))} ms`;
  const scale = (value) => (value >= 1000 ? `${formatNumber(locale, value / 1000)} s` : ms(value));
  const make = (tag, name, ...children) => {
    const element = document.createElement(tag);
    if (name) element.className = name;
    element.append(...children);
    return element;
  };

  const bar = (name, left, width) => {
    const part = make("i", `part ${name}`);
    part.style.left = `${left}%`;
    part.style.width = `${width}%`;
    return part;
  };
  const key = make(
    "ul",
    "key",
    ...[...STAGES.map(({ name }) => name), "wait"].map((name) =>
      make("li", "", make("i", name), texts[NAMES[name]]),
    ),
  );

  const track = (name, isCut, ...bars) => make("td", "", make("div", `track ${name} ${isCut ? "cut" : ""}`.trim(), ...bars));
  const row = ({ label, parts, total, isCut, wait }) => {
    const way = track("long", isCut, ...parts.map(({ name, left, width }) => bar(name, left, width)));
    way.title = formatList(locale, parts.map((part) => `${texts[NAMES[part.name]]} ${ms(part.ms)}`));
    const buffer = track("short", wait?.isCut, ...(wait ? [bar("wait", 0, wait.width)] : []));
    const head = make("th", "", label);
    head.scope = "row";
    const figures = make("td", "figure", total === null ? "–" : ms(total));
    return make("tr", "", head, way, figures, buffer, make("td", "figure", wait ? ms(wait.ms) : "–"));
  };

  return Object.freeze({
    draw(stages) {
      if (stages.length === 0) {
        box.replaceChildren(make("p", "fine", texts.wayNone));
        return;
      }
      const { rows, most, longest } = layOut(stages);
      const head = (text, span) => {
        const cell = make("th", "", text);
        cell.scope = "col";
        cell.colSpan = span;
        return cell;
      };
      const heads = [
        head(texts.wayNumber, 1),
        head(say(texts, "wayTotal", { time: scale(most) }), 2),
        head(say(texts, "wayBuffer", { time: scale(longest) }), 2),
      ];
      const table = make("table", "", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows.map(row)));
      box.replaceChildren(table, key);
    },
  });
}
