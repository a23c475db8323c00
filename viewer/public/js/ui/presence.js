// The controls step aside while nobody needs them, and come back for a mouse, a finger or a key.

const TWICE = 300; // ms between the taps of a double tap
const OPEN = '[popovertarget][aria-expanded="true"]'; // a menu's button
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
  let tapped = -Infinity;
  let touched = false;
  let closes = false; // a menu, and does nothing else
  video.addEventListener("pointerdown", () => (closes = root.querySelector(OPEN) !== null));
  video.addEventListener("pointerup", ({ pointerType, button, offsetX, timeStamp }) => {
    touched = pointerType === "touch";
    if (closes) return undefined;
    if (!touched) return button === 0 && requests.togglePlay();
    const twice = timeStamp - tapped < TWICE;
    tapped = timeStamp;
    const way = sideOf(offsetX, video.clientWidth);
    if (twice && way !== 0) {
      store.set({ leapt: Object.freeze({ seconds: 10 * way }) });
      return requests.seekBy(10 * way);
    }
    return root.hasAttribute("data-idle") ? awake() : rest(); // a finger has nothing to hover with
  });
  video.addEventListener("dblclick", () => touched || requests.toggleFullscreen());
  root.querySelector(".controls").addEventListener("pointerdown", awake);
  awake();
}

/** Which third of the picture: -1 left, 0 the middle, 1 right. */
export const sideOf = (x, width) => (x < width / 3 ? -1 : x > (2 * width) / 3 ? 1 : 0);
