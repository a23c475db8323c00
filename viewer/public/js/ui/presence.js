// The controls step aside while nobody needs them, and come back for a mouse, a finger or a key.

const AFTER = 3000; // ms without a sign of the viewer

/** Marks `root` with data-idle; clicks on the picture itself pause and fill the screen, as people expect. */
export function watchPresence(root, store, requests, after = AFTER) {
  let timer = 0;
  const rest = () => {
    clearTimeout(timer);
    const { status, paused } = store.get();
    root.toggleAttribute("data-idle", status === "live" && !paused);
  };
  const awake = () => {
    clearTimeout(timer);
    root.removeAttribute("data-idle");
    timer = setTimeout(rest, after);
  };

  root.addEventListener("pointermove", ({ pointerType }) => pointerType === "touch" || awake());
  root.addEventListener("pointerleave", ({ pointerType }) => pointerType === "touch" || rest());
  root.addEventListener("focusin", awake);
  root.ownerDocument.addEventListener("keydown", awake);
  store.subscribe(({ paused, status }, before) => {
    if (paused !== before.paused || status !== before.status) awake();
  });

  const video = root.querySelector("video");
  video.addEventListener("pointerup", ({ pointerType, button }) => {
    if (pointerType !== "touch") return button === 0 && requests.togglePlay();
    return root.hasAttribute("data-idle") ? awake() : rest(); // a finger has nothing to hover with
  });
  video.addEventListener("dblclick", requests.toggleFullscreen);
  root.querySelector(".controls").addEventListener("pointerdown", awake);
  awake();
}
