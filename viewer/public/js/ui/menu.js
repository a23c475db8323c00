// A button with a menu: the keys are those of the ARIA Authoring Practices, "Menu Button".

const GAP = 6; // pixels between button and menu, and around it

/**
 * Makes `button` open `menu`, an element to which `fill` adds entries, and answers with what closes it. Both lie in the
 * top layer while it is open; an older browser without that shows the entries below the button.
 */
export function createMenu({ document, button, menu }) {
  const { defaultView: window, documentElement: root } = document;
  const entries = () => [...menu.querySelectorAll("[role=menuitem]")];
  const close = () => menu.matches(":popover-open") && menu.hidePopover();

  /** Beneath the button, above it where there is more room, and never beyond the side of the screen. */
  function place() {
    const { left, top, bottom } = button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const above = bottom + GAP + height > window.innerHeight && top - GAP - height > 0;
    menu.style.left = `${Math.max(GAP, Math.min(left, root.clientWidth - width - GAP)) + window.scrollX}px`;
    menu.style.top = `${(above ? top - GAP - height : bottom + GAP) + window.scrollY}px`;
  }

  window.addEventListener("resize", () => menu.matches(":popover-open") && place());
  menu.addEventListener("toggle", ({ newState }) => {
    const open = newState === "open";
    button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    place();
    entries()[0]?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    const all = entries();
    const at = all.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    event.stopPropagation(); // the page's own keys rest meanwhile
    if (event.key === "Tab") return void close();
    if (event.key === "Escape") close();
    else if (next === undefined) return;
    else all.at(next % all.length).focus();
    event.preventDefault();
  });
  return close;
}
