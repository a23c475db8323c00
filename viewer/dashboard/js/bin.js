// What was deleted, until it goes for good: it can be restored.
import { binOf, factsOf, nameOf } from "./records.js";
import { createList, make } from "./row.js";

/** A row; `asks` = {restore(one), remove(one)}. */
function createBinned(asks) {
  let one = null;
  const title = make("p", { className: "binned-title" });
  const facts = make("p", { className: "facts" });
  const restore = make("button", { type: "button" }, "Restore");
  const remove = make("button", { type: "button", className: "danger" }, "Delete now");
  restore.addEventListener("click", () => asks.restore(one));
  remove.addEventListener("click", () => asks.remove(one));
  function update(now) {
    one = now;
    title.textContent = one.title;
    facts.textContent = factsOf(one, Date.now()).join(" · ");
    for (const [field, what] of [[restore, "Restore"], [remove, "Delete now"]]) field.ariaLabel = `${what}: ${one.title}`;
  }
  return { element: make("li", { className: "record" }, title, facts, make("div", { className: "does" }, restore, remove)), update };
}

/** Returns a function to be told what is there. `act` does something and says so, `confirm` asks before that. */
export function createBin({ find, ask, act, confirm }) {
  const asks = {
    restore: (one) => act("It is back.", () => ask("POST", `bin/${one.id}/restore`)),
    remove: (one) => {
      confirm(`${nameOf(one)} is deleted for good.`, () => act("It is being deleted.", () => ask("DELETE", `bin/${one.id}`)));
    },
  };
  const draw = createList(find("bin-list"), asks, createBinned);
  return function show(bin) {
    const found = binOf(bin);
    draw(found);
    find("bin").hidden = found.length === 0;
  };
}
