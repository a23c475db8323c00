// What to do about the worst fault, and the others: each is one line on a phone, with its remedy on demand.
import { make } from "./row.js";

export function createFaultLines(list, narrow = matchMedia("(max-width: 40rem)")) {
  let shape = ""; // as long as it stays, texts alone change: what was opened stays open, and keeps the focus

  function itemOf({ does, remedy }) {
    const cause = make(remedy ? "summary" : "span", { className: "cause" });
    const details = remedy && make("details", { open: !narrow.matches }, cause, make("p", { className: "remedy" }, remedy));
    return make("li", { className: does ? "remedy" : "" }, details || cause);
  }

  narrow.addEventListener("change", () => {
    for (const details of list.querySelectorAll("details")) details.open = !narrow.matches;
  });

  return function draw(lines) {
    const now = JSON.stringify(lines.map(({ does, remedy }) => [does, remedy]));
    if (now !== shape) list.replaceChildren(...lines.map(itemOf));
    shape = now;
    list.hidden = lines.length === 0;
    for (const [index, cause] of list.querySelectorAll(".cause").entries()) cause.textContent = lines[index].text;
  };
}
