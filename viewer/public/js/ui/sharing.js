// Low delay or sharing; what sharing means for the viewer, with its switch beside it.

export function createSharing({ document, at, requests }) {
  const modes = [...document.querySelectorAll('input[name="mode"]')];
  for (const radio of modes) radio.addEventListener("change", () => requests.setMode(radio.value));
  at("p2p").addEventListener("change", ({ target }) => requests.setP2p(target.checked));

  return function draw({ mode, p2p, texts }, changed) {
    if (!changed("mode", "p2p", "texts")) return;
    const sharing = mode === "sharing";
    at("sharing").hidden = !p2p.available; // without a tracker, or a browser that can, there is nothing to choose
    for (const radio of modes) radio.checked = radio.value === mode;
    at("sharing-switch").hidden = !sharing;
    at("p2p").checked = p2p.reason !== "off" && p2p.reason !== "metered";
    at("p2p").disabled = p2p.reason === "metered";
    at("sharing-notice").textContent = sharing ? notice(p2p, texts) : texts.lowDelayNotice;
  };
}

export function notice({ enabled, peers, reason }, texts) {
  if (reason === "tracker") return texts.sharingTracker;
  if (reason === "metered") return texts.sharingMetered;
  return enabled && peers > 0 ? `${texts.sharingNotice} ${texts.sharingPeers} ${peers}` : texts.sharingNotice;
}
