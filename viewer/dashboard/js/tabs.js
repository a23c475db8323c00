// The parts of the dashboard: one is shown, and its name is in the address; no element has that name as its id.

const KEYS = { ArrowLeft: -1, ArrowRight: 1 };

/** The tab that has the focus after a key, of `count`; null for a key that does not move it. */
export function moved(key, index, count) {
  if (key === "Home") return 0;
  if (key === "End") return count - 1;
  return key in KEYS ? (index + KEYS[key] + count) % count : null;
}

/** `onShow(name)` is called for the tab that is shown, at first and later. Returns `{shown(), show(name)}`. */
export function createTabs({ list, onShow, place = window }) {
  const tabs = [...list.querySelectorAll("[role=tab]")];
  const nameOf = (tab) => tab.id.slice("tab-".length);
  const panelOf = (tab) => document.getElementById(tab.getAttribute("aria-controls"));
  let shown = null;

  /** Brings the chosen tab into view where the bar is narrower than its tabs; the page stays where it is. */
  function reveal() {
    const { offsetLeft, offsetWidth } = tabs.find((tab) => nameOf(tab) === shown);
    list.scrollLeft = offsetLeft - list.offsetLeft - (list.clientWidth - offsetWidth) / 2;
  }

  function show(name) {
    const chosen = tabs.find((tab) => nameOf(tab) === name) ?? tabs[0];
    if (nameOf(chosen) === shown) return;
    shown = nameOf(chosen);
    for (const tab of tabs) {
      tab.ariaSelected = tab === chosen;
      tab.tabIndex = tab === chosen ? 0 : -1;
      panelOf(tab).hidden = tab !== chosen;
    }
    reveal();
    onShow(shown);
  }

  /** Shows it now, as the focus is on it now: the address tells of its change later. */
  function choose(name) {
    place.location.hash = name;
    show(name);
  }

  for (const tab of tabs) tab.addEventListener("click", () => choose(nameOf(tab)));
  list.addEventListener("keydown", (event) => {
    const next = moved(event.key, tabs.indexOf(event.target), tabs.length);
    if (next === null) return;
    event.preventDefault();
    tabs[next].focus();
    tabs[next].click();
  });
  place.addEventListener("hashchange", () => show(place.location.hash.slice(1)));
  show(place.location.hash.slice(1));
  const sizes = new ResizeObserver(reveal); // the bar gets narrower, or a tab wider by its number
  for (const element of [list, ...tabs]) sizes.observe(element);
  return Object.freeze({ shown: () => shown, show: choose });
}
