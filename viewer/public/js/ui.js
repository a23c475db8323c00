// Shows the state, passes on what the viewer asks for. Decides nothing.
import { createBar } from "./ui/bar.js";
import { createClip } from "./ui/clip.js";
import { createElsewhere } from "./ui/elsewhere.js";
import { createEvent } from "./ui/event.js";
import { createHelp } from "./ui/help.js";
import { createPicks } from "./ui/picks.js";
import { createRecorded } from "./ui/recorded.js";
import { createRemind } from "./ui/remind.js";
import { watchPresence } from "./ui/presence.js";
import { createSeek } from "./ui/seek.js";
import { createSharing } from "./ui/sharing.js";
import { createOtherRecordings } from "./ui/other-recordings.js";
import { createStatus } from "./ui/status.js";
import { createTouch } from "./ui/touch.js";
import { translate } from "./texts.js";

const PARTS = [createStatus, createBar, createSeek, createPicks, createSharing, createEvent, createRemind, createElsewhere, createRecorded, createOtherRecordings, createTouch, createClip, createHelp];

/** `can` = abilities() of controls.js; `meter` and `history` are for the statistics. */
export function createUi({ document, store, requests, can, meter, history }) {
  const at = (id) => document.getElementById(id);
  const draw = PARTS.map((make) => make({ document, at, requests, can }));
  store.subscribe((state, before) => {
    if (state === before || state.texts !== before.texts) translate(document, state.texts);
    const changed = (...keys) => state === before || keys.some((key) => state[key] !== before[key]);
    for (const part of draw) part(state, changed, before);
  });
  watchPresence(at("main"), store, requests);
  followStats({ document, at, store, requests, meter, history });
}

/** The panel's code and its plot library come when somebody first wants to see it. */
function followStats({ document, at, store, requests, meter, history }) {
  let loading = null;
  let focused = null; // before the panel was opened
  const panel = at("stats");
  at("show-stats").addEventListener("click", requests.toggleStats);
  at("close-stats").addEventListener("click", requests.closeStats);

  /** Into the panel, so that it can be read and scrolled by key, and back to where the viewer was. */
  function moveFocus(open) {
    if (open) {
      focused = document.activeElement;
      panel.scrollIntoView({ block: "nearest" }); // below the picture on a narrow screen
      panel.focus({ preventScroll: true });
    } else if (panel.contains(document.activeElement)) {
      document.activeElement.blur();
      focused?.focus();
    }
  }

  store.subscribe(({ statsOpen }, before) => {
    if (statsOpen === before.statsOpen) return;
    if (!statsOpen) moveFocus(false); // as long as it is there
    document.body.toggleAttribute("data-stats", statsOpen);
    panel.hidden = !statsOpen;
    at("show-stats").setAttribute("aria-expanded", String(statsOpen));
    if (!statsOpen) return;
    moveFocus(true);
    loading ??= import("./stats-panel.js").then(({ createStatsPanel }) => {
      createStatsPanel({ document, at, store, meter, history });
    });
    loading.catch((error) => {
      console.error(error);
      loading = null; // the next opening tries again
    });
  });
}
