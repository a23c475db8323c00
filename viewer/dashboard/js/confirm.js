// Asks once more before something goes for good.

/** Returns `confirm(text, go)`: `go()` is called when the operator means it. */
export function createConfirm({ find }) {
  const dialog = find("confirm");
  let go = null;
  find("confirm-no").addEventListener("click", () => dialog.close());
  find("confirm-yes").addEventListener("click", () => {
    dialog.close();
    find("desk-title").focus(); // what had the focus goes
    go();
  });
  return function confirm(text, then) {
    go = then;
    find("confirm-text").textContent = text;
    dialog.showModal();
  };
}
