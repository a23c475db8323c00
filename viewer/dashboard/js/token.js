// The operator's token: asked for where it is needed, and not before.

const NEEDED = new Set(["recordings", "clips", "uploads", "guests"]); // tabs

/** `currentTab()` is the tab; `onToken` is called with each token, and without one. Returns a function that draws. */
export function createToken({ find, api, say, currentTab, onToken }) {
  function draw() {
    const isAsked = NEEDED.has(currentTab()) && !api.knows();
    find("token-form").hidden = !isAsked;
    find("token-known").hidden = !(NEEDED.has(currentTab()) && api.knows());
    find(`panel-${currentTab()}`).hidden = isAsked;
  }
  find("token-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    say("");
    api.remember(find("token").value);
    find("token").value = "";
    await onToken();
    if (api.knows()) find(`tab-${currentTab()}`).focus();
  });
  find("forget-token").addEventListener("click", () => {
    api.forget();
    say("This tab does not know the token any more.");
    onToken();
    find("token").focus();
  });
  return draw;
}
