// The address of a private event for other players, and for devices that know nothing of this page's cookie.
const THANKS = 3000; // ms

export function createElsewhere({ at, requests }) {
  let texts = null;
  let thanks = 0;

  function toggle() {
    const open = at("elsewhere-box").hidden;
    at("elsewhere-box").hidden = !open;
    at("elsewhere").setAttribute("aria-expanded", String(open));
    if (open) at("elsewhere-url").select();
  }
  at("elsewhere").addEventListener("click", toggle);
  at("elsewhere-copy").addEventListener("click", async () => {
    const copied = await requests.copyElsewhere();
    at("elsewhere-copy").textContent = copied ? texts.shareCopied : texts.elsewhereCopy;
    if (!copied) at("elsewhere-url").select();
    clearTimeout(thanks);
    thanks = setTimeout(() => (at("elsewhere-copy").textContent = texts.elsewhereCopy), THANKS);
  });

  return function draw({ elsewhere, recording, texts: words }, changed) {
    texts = words;
    if (!changed("elsewhere", "recording")) return;
    at("elsewhere").hidden = elsewhere === null || recording !== null; // the address is that of the live stream
    at("elsewhere-url").value = elsewhere ?? "";
  };
}
