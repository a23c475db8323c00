// What was deleted, until it goes for good: it can be restored.
import { binOf, metaOf, nameOf } from "./records.js";
import { createList, make } from "./row.js";

/** A row; `asks` = {restore(one), remove(one)}. */
function createBinned(asks) {
  let entry = null;
  const title = make("p", { className: "binned-title" });
  const facts = make("p", { className: "facts" });
  const restore = make("button", { type: "button" }, "Restore");
  const remove = make("button", { type: "button", className: "danger" }, "Delete now");
  restore.addEventListener("click", () => asks.restore(entry));
  remove.addEventListener("click", () => asks.remove(entry));
  function update(now) {
    entry = now;
    title.textContent = entry.title;
    facts.textContent = metaOf(entry, Date.now()).join(" · ");
    for (const [field, what] of [[restore, "Restore"], [remove, "Delete now"]]) field.ariaLabel = `${what}: ${entry.title}`;
  }
  return { element: make("li", { className: "record" }, title, facts, make("div", { className: "does" }, restore, remove)), update };
}

/** Returns a function to be told what is there. `act` does something and says so, `confirm` asks before that. */
export function createBin({ find, ask, act, confirm }) {
  const asks = {
    restore: (entry) => act("It is back.", () => ask("POST", `bin/${entry.id}/restore`)),
    remove: (entry) => {
      confirm(`${nameOf(entry)} is deleted for good.`, () => act("It is being deleted.", () => ask("DELETE", `bin/${entry.id}`)));
    },
  };
  const draw = createList(find("bin-list"), asks, createBinned);
  return function show(bin) {
    const found = binOf(bin);
    draw(found);
    find("bin").hidden = found.length === 0;
  };
}
