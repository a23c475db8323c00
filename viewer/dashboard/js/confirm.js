// Asks once more before something goes for good.

/** Returns `confirm(text, go)`: `go()` is called when the operator means it. What had the focus goes: `focus` gets it. */
export function createConfirm({ find }) {
  const dialog = find("confirm");
  let go = null;
  let next = "tab-recordings";
  find("confirm-no").addEventListener("click", () => dialog.close());
  find("confirm-yes").addEventListener("click", () => {
    dialog.close();
    find(next).focus();
    go();
  });
  return function confirm(text, then, { yes = "Delete it", no = "Keep it", focus = "tab-recordings" } = {}) {
    go = then;
    next = focus;
    find("confirm-yes").textContent = yes;
    find("confirm-no").textContent = no;
    find("confirm-text").textContent = text;
    dialog.showModal();
  };
}
