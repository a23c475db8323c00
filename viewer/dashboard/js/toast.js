// What has come of what the operator did, and the way back.

/** Returns `say(text, {bad, undo})`; `undo()` is called when the operator wants it back. */
export function createToast({ find }) {
  let back = null;
  find("undo").addEventListener("click", () => {
    const undo = back;
    say("");
    undo();
  });
  function say(text, { bad = false, undo = null } = {}) {
    find("said").textContent = text;
    find("toast").classList.toggle("bad", bad);
    if (undo === null && document.activeElement === find("undo")) find("tabs").querySelector("[tabindex='0']").focus();
    find("undo").hidden = undo === null;
    back = undo;
  }
  return say;
}
