// A recording or a clip in its list: what it is, and what can be done with it.
import { dayOf, metaOf, isGoing, isLocal, keepWish, tomorrow } from "./records.js";

const VISIBLE = [["listed", "Listed"], ["unlisted", "Unlisted: by its link"], ["hidden", "Hidden"]];

export function make(tag, given = {}, ...children) {
  const element = Object.assign(document.createElement(tag), given);
  element.append(...children);
  return element;
}

/** {element, update(one)}; `asks` = {change(one, patch), remove(one), copy(one), complain(text)}. */
function createRow(asks) {
  let entry = null;
  const title = make("input", { className: "record-title", maxLength: 200, placeholder: "Without a title", autocomplete: "off" });
  const facts = make("p", { className: "facts" });
  const visible = make("select", {}, ...VISIBLE.map(([value, text]) => make("option", { value }, text)));
  const open = make("input", { type: "checkbox" });
  const opened = make("label", { className: "keep" }, open, " Open to everybody"); // of a private event
  const until = make("input", { type: "date" });
  const forever = make("span", { className: "quiet" });
  const keep = make("label", { className: "keep" }, "Keep until ", until, " ", forever);
  const watch = make("a", { target: "_blank", rel: "noopener" }, "Watch");
  const copy = make("button", { type: "button" }, "Copy link");
  const remove = make("button", { type: "button", className: "danger" }, "Delete");
  const element = make("li", { className: "record" }, title, facts, make("div", { className: "does" }, visible, opened, keep, watch, copy, remove));

  title.addEventListener("change", () => asks.change(entry, { title: title.value }));
  visible.addEventListener("change", () => asks.change(entry, { visibility: visible.value }));
  open.addEventListener("change", () => asks.change(entry, { open: open.checked }));
  // Each digit that is typed is a date of its own, so nothing is asked before the operator is done.
  let shown = "";
  const keepUntil = () => {
    const wish = keepWish({ value: until.value, badInput: until.validity.badInput }, shown, Date.now());
    if (wish === null) return;
    if (wish.complaint) {
      until.value = shown;
      asks.complain(wish.complaint);
      return;
    }
    shown = until.value;
    asks.change(entry, wish);
  };
  until.addEventListener("blur", keepUntil);
  until.addEventListener("keydown", ({ key }) => key === "Enter" && keepUntil());
  copy.addEventListener("click", () => asks.copy(entry));
  remove.addEventListener("click", () => asks.remove(entry));

  /** What is being edited is not written over. */
  const put = (field, value) => {
    if (document.activeElement !== field && field.value !== value) field.value = value;
  };

  function update(now) {
    entry = now;
    const isClip = entry.begin !== undefined;
    const name = entry.title || entry.id;
    const [going, on] = [isGoing(entry, Date.now()), entry.ended === null];
    const text = metaOf(entry, Date.now()).join(" · ");
    if (facts.textContent !== text) facts.textContent = text;
    put(title, entry.title);
    for (const [field, what] of [[title, "Title"], [visible, "Who finds it"], [open, "Open to everybody"], [until, "Keep until"], [watch, "Watch"], [copy, "Copy link"], [remove, "Delete"]]) {
      field.ariaLabel = `${what}: ${name}`;
    }
    visible.hidden = keep.hidden = isClip;
    opened.hidden = (entry.open ?? null) === null;
    open.checked = entry.open === true;
    if (!isClip) {
      put(visible, entry.visibility);
      if (document.activeElement !== until) until.min = tomorrow(Date.now()); // Chromium forgets half a date at this
      shown = going ? "" : dayOf(entry.keepUntil);
      put(until, shown);
      forever.textContent = entry.keepUntil === null ? (on ? "is set at its end" : "for ever") : "";
    }
    title.disabled = visible.disabled = open.disabled = going;
    until.disabled = remove.disabled = going || on;
    watch.hidden = entry.address === null || going;
    copy.hidden = watch.hidden || isLocal(entry.address);
    if (entry.address !== null) watch.href = entry.address;
  }
  return { element, update };
}

/** Puts a row for each of `found` into a list, in order; those that stay keep the focus. */
export function createList(list, asks, create = createRow) {
  const rows = new Map(); // by id
  return function draw(found) {
    for (const [id, { element }] of rows) {
      if (found.some((entry) => entry.id === id)) continue;
      element.remove();
      rows.delete(id);
    }
    found.forEach((entry, index) => {
      if (!rows.has(entry.id)) rows.set(entry.id, create(asks));
      const { element, update } = rows.get(entry.id);
      update(entry);
      if (list.children[index] !== element) list.insertBefore(element, list.children[index] ?? null);
    });
  };
}
