// A button that opens a menu of entries, or of other controls.

const GAP = 6; // pixels between button and menu, and around it
const CONTROLS = "[role=menuitem], select, button";

/**
 * Makes `button` open `menu`, an element with controls, and answers with what closes it. Both lie in the top layer while
 * it is open; an older browser without that shows the controls beside the button. `above`: better above the button, to
 * which its end is aligned.
 */
export function createPopover({ document, button, menu, above = false }) {
  const { defaultView: window, documentElement: root } = document;
  let open = false;
  const close = () => open && menu.hidePopover();
  const within = (least, most, wanted) => Math.max(least, Math.min(wanted, most));

  /** Beneath the button or above it, by the wish and by the room that there is, and never beyond the screen. */
  function place() {
    const { left, right, top, bottom } = button.getBoundingClientRect();
    const { offsetWidth: width, offsetHeight: height } = menu;
    const goesUp = top - GAP - height > 0 && (above || bottom + GAP + height > window.innerHeight);
    const x = within(GAP, root.clientWidth - width - GAP, above ? right - width : left);
    const y = within(GAP, window.innerHeight - height - GAP, goesUp ? top - GAP - height : bottom + GAP);
    Object.assign(menu.style, { left: `${x}px`, top: `${y}px` });
  }

  for (const name of ["resize", "scroll"]) window.addEventListener(name, () => open && place());
  menu.addEventListener("toggle", ({ newState }) => {
    open = newState === "open";
    button.setAttribute("aria-expanded", String(open));
    if (!open) return;
    place();
    [...menu.querySelectorAll(CONTROLS)].find((one) => one.getClientRects().length > 0)?.focus();
  });
  menu.addEventListener("keydown", (event) => {
    event.stopPropagation(); // the page's own keys rest meanwhile
    if (event.key !== "Escape") return;
    close();
    event.preventDefault();
  });
  return close;
}

/** The same with entries that `menu` is filled with; the keys are those of the ARIA Authoring Practices, "Menu Button". */
export function createMenu({ document, button, menu }) {
  const close = createPopover({ document, button, menu });
  menu.addEventListener("keydown", (event) => {
    const all = [...menu.querySelectorAll("[role=menuitem]")];
    const at = all.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
    if (event.key === "Tab") return void close();
    if (next === undefined) return;
    all.at(next % all.length).focus();
    event.preventDefault();
  });
  return close;
}
