"""Stock players in a bare page: each as its maker's first example has it."""

from __future__ import annotations

from pathlib import Path
from typing import Self, cast

from playwright.async_api import Browser, Page

from tests.support.judges.page import Traffic

MODULES = Path(__file__).resolve().parents[2] / "viewer" / "node_modules"
BARE = "<!doctype html><video muted autoplay playsinline width=160></video>"
PLAYERS = {
    "hls.js": (
        "hls.js/dist/hls.min.js",
        """(url) => {
            const player = (window.player = new Hls());
            player.on(Hls.Events.ERROR, (_, error) => { if (error.fatal) failures.push(error.details); });
            player.loadSource(url);
            player.attachMedia(document.querySelector("video"));
        }""",
    ),
    "Shaka": (
        "shaka-player/dist/shaka-player.compiled.js",
        """async (url) => {
            shaka.polyfill.installAll();
            const player = new shaka.Player();
            const fatal = shaka.util.Error.Severity.CRITICAL;
            player.addEventListener("error", ({ detail }) => {
                if (detail.severity === fatal) failures.push(String(detail.code));
            });
            await player.attach(document.querySelector("video"));
            await player.load(url);
        }""",
    ),
    "video.js": (
        "video.js/dist/video.min.js",
        """(url) => {
            const player = videojs(document.querySelector("video"));
            player.on("error", () => failures.push(player.error().message));
            player.src({ src: url, type: "application/vnd.apple.mpegurl" });
        }""",
    ),
}
LOOK = """() => {
    const video = document.querySelector("video");
    return [failures, video.ended, video.getVideoPlaybackQuality().totalVideoFrames];
}"""

# The picture of a segment as hls.js shows it of its I-frame: its width, and how many seconds it is off.
IFRAMES = """async () => {
    const video = document.body.appendChild(document.createElement("video"));
    const iframes = player.createIFramePlayer();
    const attached = new Promise((resolve) => iframes.on(Hls.Events.MEDIA_ATTACHED, resolve));
    const shown = new Promise((resolve) => video.addEventListener("loadeddata", resolve, { once: true }));
    iframes.on(Hls.Events.ERROR, (_, error) => { if (error.fatal) failures.push(error.details); });
    iframes.attachMedia(video);
    await attached;
    const at = player.latestLevelDetails.fragments[1].start;
    iframes.loadMediaAt(at + 0.1);
    await shown;
    const found = [video.videoWidth, video.currentTime - at];
    iframes.destroy();
    return found;
}"""


class BrowserPlayer:
    """One of ``PLAYERS`` in a window of its own."""

    def __init__(self, name: str, page: Page) -> None:
        self.name = name
        self.traffic = Traffic(page)
        self._page = page

    @classmethod
    async def start(cls, browser: Browser, name: str, url: str) -> Self:
        """Let it play ``url``."""
        # A context each: pages behind another in one window are slowed down.
        context = await browser.new_context(viewport={"width": 320, "height": 180})
        player = cls(name, await context.new_page())
        script, begin = PLAYERS[name]
        await player._page.set_content(BARE)
        await player._page.evaluate("window.failures = []")
        await player._page.add_script_tag(path=MODULES / script)
        await player._page.evaluate(begin, url)
        return player

    async def iframe(self) -> tuple[int, float]:
        """A picture by hls.js of the I-frame playlist: its width, and how many seconds it is off."""
        width, away = await self._page.evaluate(IFRAMES)
        return width, away

    async def pictures(self) -> int:
        """How many were decoded; see ``Player``."""
        failures, ended, decoded = await self._page.evaluate(LOOK)
        assert failures == [], f"{self.name}: {failures}"
        assert not ended, f"{self.name} takes the stream for ended"
        return cast("int", decoded)
