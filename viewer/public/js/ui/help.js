// The list of keys, drawn from the table that acts on them.
import { shortcuts } from "../keyboard.js";

export function createHelp({ document, at, requests }) {
  const make = (tag, ...children) => {
    const element = document.createElement(tag);
    element.append(...children);
    return element;
  };
  const rowsOf = (texts, state) =>
    shortcuts.map(({ label, what, needs }) => {
      const keys = label.map((key) => make("kbd", texts[key] ?? key));
      const row = make("div", make("dt", ...keys), make("dd", texts[what]));
      row.hidden = needs !== undefined && state[needs] === null;
      return row;
    });
  at("show-help").addEventListener("click", requests.toggleHelp);
  at("close-help").addEventListener("click", requests.toggleHelp);
  at("shortcuts").addEventListener("change", ({ target }) => requests.setShortcuts(target.checked));
  // A click beside the list lands on the dialog itself: its inside is all covered by children.
  at("help").addEventListener("click", ({ target }) => {
    if (target === at("help")) requests.toggleHelp();
  });

  return function draw(state, changed) {
    at("shortcuts").checked = state.shortcuts;
    if (changed("texts", "clipsUrl", "chatUrl")) at("help-list").replaceChildren(...rowsOf(state.texts, state));
  };
}
