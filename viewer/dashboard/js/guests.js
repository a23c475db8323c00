// Guests of a private event: who is invited, how often each link was opened, and how many watch with it.
import { isLocal, localTime, when } from "./records.js";
import { createList, make } from "./row.js";

const AGAIN = 5000; // ms
const MONTH = 30 * 24 * 3600 * 1000; // ms, as `broadcaster invite` has it

export const metaOfGuest = ({ until, opened, watching }) => [
  `until ${when(until)}`,
  opened === 0 ? "not opened yet" : `opened ${opened === 1 ? "once" : `${opened} times`}`,
  `${watching} watching`,
];

/** A row; `asks` = {copy(one), code(one), revoke(one)}. */
function createGuest(asks) {
  let guest = null;
  const [name, crew] = [make("span"), make("span", { className: "badge" }, "Crew")];
  const facts = make("p", { className: "facts" });
  const code = make("div", { className: "code", hidden: true });
  const buttons = Object.entries({ copy: "Copy link", code: "QR code", revoke: "Revoke" }).map(([ask, text]) => {
    const button = make("button", { type: "button", className: ask === "revoke" ? "danger" : "" }, text);
    button.addEventListener("click", () => asks[ask](guest, code));
    return [button, text];
  });
  function update(now) {
    guest = now;
    name.textContent = guest.name;
    crew.hidden = !guest.crew;
    facts.textContent = metaOfGuest(guest).join(" · ");
    for (const [button, what] of buttons) button.ariaLabel = `${what}: ${guest.name}`;
  }
  const does = make("div", { className: "does" }, ...buttons.map(([button]) => button));
  return { element: make("li", { className: "record" }, make("p", { className: "binned-title" }, name, " ", crew), facts, does, code), update };
}

/** What a guest is sent beside the link: the picture of its code, and files of it and of the date. */
function drawCode(box, { name, png, svg, ics }) {
  const file = (text, href, download) => make("a", { href, download }, text);
  const text = (type, content) => `data:${type};charset=utf-8,${encodeURIComponent(content)}`;
  const picture = `data:image/png;base64,${png}`;
  const files = [file("PNG", picture, "invitation.png"), file("SVG", text("image/svg+xml", svg), "invitation.svg")];
  if (ics !== null) files.push(file("Date for calendars", text("text/calendar", ics), "invitation.ics"));
  box.replaceChildren(make("img", { src: picture, alt: `QR code of the link: ${name}`, width: 200, height: 200 }), make("p", { className: "does" }, ...files));
  box.hidden = false;
}

/** Returns a function that asks for them and shows them. */
export function createGuests({ find, api, confirm, say, currentTab }) {
  async function act(go) {
    try {
      await go();
    } catch (error) {
      say(error.message, { bad: true });
    }
    await refresh();
  }
  async function copy({ link }) {
    try {
      await navigator.clipboard.writeText(link);
      say("Link copied.");
    } catch {
      say(`Copy it by hand: ${link}`);
    }
  }
  async function code({ id }, box) {
    if (!box.hidden) box.hidden = true;
    else {
      await act(async () => drawCode(box, await api.ask("GET", `access/invitations/${id}`)));
      box.scrollIntoView({ block: "nearest" });
    }
  }
  function revoke({ id, name, watching }) {
    const text = `“${name}” opens nothing any more${watching > 0 ? `, and ${watching} who watch are stopped` : ""}.`;
    const go = () => act(() => api.ask("DELETE", `access/invitations/${id}`).then(() => say("Revoked.")));
    confirm(text, go, { yes: "Revoke it", focus: "tab-guests" });
  }
  const draw = createList(find("guest-list"), { copy, code, revoke }, createGuest);
  find("invite-until").value = localTime(Date.now() + MONTH).slice(0, 16);

  let isOpen = true; // the doors
  function drawDoors({ doors, opens }) {
    isOpen = doors === "open";
    const until = opens === null ? "" : ` They open on ${when(opens)}.`;
    find("doors-state").textContent = isOpen ? "The doors are open." : `The doors are closed: only the crew can watch.${until}`;
    find("doors").textContent = isOpen ? "Close the doors" : "Open the doors";
  }
  function turn() {
    const [text, yes] = isOpen
      ? ["All guests but the crew are stopped.", "Close the doors"]
      : ["All guests are let in. They see nothing of before.", "Open the doors"];
    const go = () => act(() => api.ask("PUT", "access/doors", { open: !isOpen }).then(() => say("")));
    confirm(text, go, { yes, no: "Not now", focus: "tab-guests" });
  }

  async function refresh() {
    if (document.hidden || !api.knows() || currentTab() !== "guests") return;
    let invitations = [];
    let event = null;
    try {
      event = await api.ask("GET", "access");
      if (event.access !== "public") ({ invitations } = await api.ask("GET", "access/invitations"));
    } catch (error) {
      return say(error.message, { bad: true });
    }
    drawDoors(event);
    find("private").hidden = event.access === "public";
    find("is-public").hidden = event.access !== "public";
    find("no-guests").hidden = invitations.length > 0;
    find("address-note").hidden = !invitations.some(({ link }) => isLocal(link));
    draw(invitations);
  }

  find("invite-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const until = new Date(find("invite-until").value).toISOString();
    const wanted = { name: find("invite-name").value, until, crew: find("invite-crew").checked };
    act(async () => {
      await copy(await api.ask("POST", "access/invitations", wanted));
      find("invite-name").value = "";
    });
  });
  find("doors").addEventListener("click", turn);
  setInterval(refresh, AGAIN);
  return refresh;
}
