// Draws what stages.js laid out: a table, a row for each segment.
import { layOut, STAGES } from "../stages.js";

const ms = (value) => (value >= 1000 ? `${(value / 1000).toFixed(1)} s` : `${Math.round(value)} ms`);
const scale = (value) => ms(value).replace(".0", "");

export function createStages(document, box) {
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
      make("li", "", make("i", name), name === "wait" ? "in the buffer" : name),
    ),
  );

  const row = ({ label, parts, total, wait }) => {
    const way = make("td", "track", ...parts.map(({ name, left, width }) => bar(name, left, width)));
    way.title = parts.map((part) => `${part.name} ${ms(part.ms)}`).join(", ");
    const buffer = make("td", "track short", ...(wait ? [bar("wait", 0, wait.width)] : []));
    const head = make("th", "", label);
    head.scope = "row";
    const figures = make("td", "figure", total === null ? "–" : ms(total));
    return make("tr", "", head, way, figures, buffer, make("td", "figure", wait ? ms(wait.ms) : "–"));
  };

  return Object.freeze({
    draw(stages) {
      if (stages.length === 0) {
        box.replaceChildren(make("p", "fine", "No segment yet."));
        return;
      }
      const { rows, most, longest } = layOut(stages);
      const head = (text, span) => {
        const cell = make("th", "", text);
        cell.scope = "col";
        cell.colSpan = span;
        return cell;
      };
      const heads = [head("No.", 1), head(`To the browser (≤ ${scale(most)})`, 2), head(`Buffer (≤ ${scale(longest)})`, 2)];
      const table = make("table", "", make("thead", "", make("tr", "", ...heads)), make("tbody", "", ...rows.map(row)));
      box.replaceChildren(table, key);
    },
  });
}
