// Returns what is wrong with the places of the page's controls, and of the words on the picture: cut off, covered, too narrow, two in one place.
(withWords) => {
  const on = document.querySelector("dialog[open], :popover-open") ?? document.body; // what can be reached
  const controls = ":is(button, select, input, .filled), #edge-word, #behind-by, #badge";
  const words = "#card-title, #card-text, #countdown, [data-embed] h1";
  const seen = (one) => one.checkVisibility({ visibilityProperty: true }) && one.getBoundingClientRect().width > 0;
  const boxes = new Map(
    [...on.querySelectorAll(withWords ? `${controls}, ${words}` : controls)].filter(seen).map((one) => [one, one.getBoundingClientRect()]),
  );
  const name = (one) => one.id || one.textContent;
  const stage = document.querySelector(".stage");
  const found = [];

  function isCut(one, box) {
    const inside = on === document.body && stage?.contains(one);
    const around = (inside ? stage : document.documentElement).getBoundingClientRect();
    const aside = box.left < around.left - 0.5 || box.right > around.right + 0.5;
    return aside || (inside && (box.top < around.top - 0.5 || box.bottom > around.bottom + 0.5));
  }

  function isCovered(one) {
    if (on !== document.body) one.scrollIntoView({ block: "nearest" });
    const box = one.getBoundingClientRect();
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    if (y > innerHeight || x > innerWidth || !one.matches("button, select, input")) return false; // one scrolls to it
    const top = document.elementFromPoint(x, y);
    return !(top !== null && (one.contains(top) || (top.contains(one) && top.matches("label"))));
  }

  function meet(one, other) {
    if (one.contains(other) || other.contains(one)) return false;
    const [a, b] = [boxes.get(one), boxes.get(other)];
    const aside = a.right <= b.left + 1 || b.right <= a.left + 1;
    return !(aside || a.bottom <= b.top + 1 || b.bottom <= a.top + 1);
  }

  for (const [one, box] of boxes) {
    if (isCut(one, box)) found.push(`${name(one)} is cut off`);
    if (isCovered(one)) found.push(`${name(one)} is covered`);
    if (one.localName === "button" && one.scrollWidth > one.clientWidth + 1) found.push(`${name(one)} is too narrow`);
    for (const other of boxes.keys()) if (one !== other && meet(one, other)) found.push(`${name(one)} meets ${name(other)}`);
  }
  if (document.scrollingElement.scrollWidth > innerWidth) found.push("the page is too wide");
  return found;
}
