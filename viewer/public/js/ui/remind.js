// The reminder of the start: its date for a calendar, and where the guest allows it a notification as the stream begins.
import { addressOf, calendarOf } from "../share.js";
import { titleOf } from "../player-phase.js";

const REVOKE_AFTER = 3000; // ms in which a browser has taken the file

/** Browsers of phones show none of a page that is open, but of a service worker, and iPhones have none at all. */
const notifications = ({ Notification, navigator }) => (/Android/.test(navigator.userAgent) ? undefined : Notification);

export function createRemind({ document, at, notify = notifications(document.defaultView) }) {
  let shown = null; // the state
  let reminded = false;
  let allowed = false;

  function saveDate() {
    const { startsAt, texts } = shown;
    const link = document.createElement("a");
    const date = calendarOf(titleOf(shown), startsAt, addressOf(shown, document.location));
    link.href = URL.createObjectURL(new Blob([date], { type: "text/calendar" }));
    link.download = `${texts.liveTitle}.ics`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), REVOKE_AFTER);
  }

  function say() {
    at("reminded").textContent = reminded ? shown.texts[allowed ? "remindedHere" : "reminded"] : "";
  }

  at("remind").addEventListener("click", async () => {
    saveDate();
    reminded = true;
    say();
    allowed = (await notify?.requestPermission()) === "granted";
    say();
  });

  return function draw(state, changed) {
    shown = state;
    if (changed("texts")) say();
    if (!reminded || !changed("phase") || state.phase !== "live") return;
    reminded = false;
    say();
    if (!allowed || !document.hidden) return;
    try {
      const note = new notify(titleOf(state), { body: state.texts.liveText });
      note.onclick = () => document.defaultView.focus();
    } catch {
      // a phone's browser that passes for another one
    }
  };
}
