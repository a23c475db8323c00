// The list of keys, drawn from the table that acts on them.
import { shortcuts } from "../keyboard.js";

export function createHelp({ document, at, requests }) {
  const make = (tag, ...children) => {
    const element = document.createElement(tag);
    element.append(...children);
    return element;
  };
  const rows = shortcuts.map(({ label, what }) =>
    make("div", make("dt", ...label.map((key) => make("kbd", key))), make("dd", what)),
  );
  const conditional = shortcuts.map(({ needs }, index) => [needs, rows[index]]).filter(([needs]) => needs);
  at("help-list").append(...rows);
  at("show-help").addEventListener("click", requests.toggleHelp);
  at("close-help").addEventListener("click", requests.toggleHelp);
  at("shortcuts").addEventListener("change", ({ target }) => requests.setShortcuts(target.checked));
  // A click beside the list lands on the dialog itself: its inside is all covered by children.
  at("help").addEventListener("click", ({ target }) => {
    if (target === at("help")) requests.toggleHelp();
  });

  return function draw(state) {
    at("shortcuts").checked = state.shortcuts;
    for (const [needs, row] of conditional) row.hidden = state[needs] === null;
  };
}
