// Keys: which one asks for what. The list of help is drawn from the same table; its words are names of texts.

export const shortcuts = Object.freeze([
  { keys: ["k", " "], label: ["capSpace", "K"], what: "keyPlay", ask: (requests) => requests.togglePlay() },
  { keys: ["ArrowLeft"], label: ["←"], what: "keyBack", repeats: true, ask: (requests) => requests.seekBy(-10) },
  { keys: ["ArrowRight"], label: ["→"], what: "keyOn", repeats: true, ask: (requests) => requests.seekBy(10) },
  { keys: ["Home"], label: ["capHome"], what: "keyFirst", ask: (requests) => requests.seekPart(0) },
  { keys: ["l", "End"], label: ["L", "capEnd"], what: "goLive", ask: (requests) => requests.goLive() },
  { keys: [..."0123456789"], label: ["0", "…", "9"], what: "keyTenths", ask: (requests, key) => requests.seekPart(key / 10) },
  { keys: [","], label: [","], what: "keyFrameBack", repeats: true, ask: (requests) => requests.stepFrames(-1) },
  { keys: ["."], label: ["."], what: "keyFrameOn", repeats: true, ask: (requests) => requests.stepFrames(1) },
  { keys: ["<"], label: ["<"], what: "keySlower", ask: (requests) => requests.changeSpeed(-1) },
  { keys: [">"], label: [">"], what: "keyFaster", ask: (requests) => requests.changeSpeed(1) },
  { keys: ["m"], label: ["M"], what: "keyMute", ask: (requests) => requests.toggleMute() },
  { keys: ["ArrowUp"], label: ["↑"], what: "keyLouder", repeats: true, ask: (requests) => requests.changeVolume(0.05) },
  { keys: ["ArrowDown"], label: ["↓"], what: "keyQuieter", repeats: true, ask: (requests) => requests.changeVolume(-0.05) },
  { keys: ["c"], label: ["C"], what: "captions", ask: (requests) => requests.nextCaption() },
  { keys: ["x"], label: ["X"], what: "keyClip", needs: "clipsUrl", ask: (requests) => requests.clip() },
  { keys: ["f"], label: ["F"], what: "fullscreen", ask: (requests) => requests.toggleFullscreen() },
  { keys: ["t"], label: ["T"], what: "theatre", needs: "chatUrl", ask: (requests) => requests.toggleTheatre() },
  { keys: ["p"], label: ["P"], what: "pip", ask: (requests) => requests.togglePip() },
  { keys: ["i"], label: ["I"], what: "stats", ask: (requests) => requests.toggleStats() },
  { keys: ["Escape"], label: ["capEscape"], what: "statsClose", ask: (requests) => requests.closeStats() },
  { keys: ["?"], label: ["?"], what: "keyList", ask: (requests) => requests.toggleHelp() },
]);

const CHOOSING = new Set(["radio", "range"]); // inputs to which the arrow keys belong
const MOVES = /^(Arrow|Home$|End$)/;
const BUTTONS = new Set(["button", "checkbox", "radio", "submit"]); // and those that Space presses

/**
 * The shortcut that a key press stands for, or null. event = {key, ctrlKey, altKey, metaKey, repeat,
 * defaultPrevented}; focus = {tag, type, editable, dialog, scrolls, seeks} of what has the focus: it gets the keys it
 * needs. The seek bar needs none: the table's move it.
 */
export function shortcutFor(event, focus) {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey) return null;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (focus.editable || focus.tag === "textarea" || focus.tag === "select") return null;
  if (focus.dialog && key !== "?") return null;
  const type = focus.tag === "button" ? "button" : focus.tag === "input" ? focus.type : "";
  if (focus.tag === "input" && !CHOOSING.has(type) && !BUTTONS.has(type)) return null;
  if (key === " " && BUTTONS.has(type)) return null;
  if (MOVES.test(key) && ((CHOOSING.has(type) && !focus.seeks) || focus.scrolls)) return null;
  const found = shortcuts.find(({ keys }) => keys.includes(key));
  return found && (found.repeats || !event.repeat) ? found : null;
}

/** Listens on the whole page; `wanted()` is false for viewers who switched single keys off (WCAG 2.2, 2.1.4). */
export function listenToKeys(document, requests, wanted) {
  document.addEventListener("keydown", (event) => {
    // A dialog that is just closed has the focus until the next frame.
    const at = event.target.closest?.("dialog:not([open])") ? document.body : event.target;
    const focus = {
      tag: at.localName ?? "",
      type: at.type ?? "",
      editable: at.isContentEditable === true,
      dialog: at.closest?.("dialog") != null,
      scrolls: at.closest?.("aside") != null,
      seeks: at.id === "seek",
    };
    const found = shortcutFor(event, focus);
    const always = event.key === "Escape" || (focus.seeks && MOVES.test(event.key));
    if (found === null || !(wanted() || always)) return;
    event.preventDefault();
    found.ask(requests, event.key);
  });
}
