"""What a viewer sees of missing segments: for how long the picture stands, and what is said meanwhile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.players.browser_players import BARE, MODULES, PLAYERS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from playwright.async_api import Browser, Page

# `still` is the longest time (ms) for which a picture stood that was not paused, `said` what was said; `late`
# is the longest time for which nobody looked.
WATCH = """() => {
    const video = document.querySelector("video");
    const seen = (window.seen = { still: 0, late: 0, said: [] });
    let [place, since] = [video.currentTime, performance.now()];
    let looked = since;
    setInterval(() => {
        const now = performance.now();
        [seen.late, looked] = [Math.max(seen.late, now - looked), now];
        if (window.broadcasterViewer) {
            const card = document.getElementById("card");
            const words = [document.getElementById("badge").textContent, card.hidden ? "" : card.innerText];
            if (seen.said.at(-1)?.badge !== words[0]) seen.said.push({ badge: words[0], at: now, cards: [] });
            seen.said.at(-1).cards.push(words[1]);
        }
        if (video.paused || video.currentTime !== place) [place, since] = [video.currentTime, now];
        else seen.still = Math.max(seen.still, now - since);
    }, 25);
}"""
FALSE = ("connection", "slow", "no answer", "Reconnecting", "Behind")


@dataclass
class Viewer:
    """A page that plays."""

    page: Page

    async def watch(self) -> None:
        """From here on."""
        await self.page.evaluate(WATCH)

    async def seen(self) -> dict[str, Any]:
        """What was seen since then."""
        found: dict[str, Any] = await self.page.evaluate("window.seen")
        return found

    async def is_paused(self) -> bool:
        """Whether it is paused."""
        return bool(await self.page.evaluate("document.querySelector('video').paused"))

    async def plays(self) -> bool:
        """Whether the picture is ahead of its start."""
        return bool(await self.page.evaluate("document.querySelector('video').currentTime > 0"))


async def stock(browser: Browser, url: str) -> Viewer:
    """hls.js in a bare page, as its first example has it."""
    context = await browser.new_context(viewport={"width": 320, "height": 180})
    page = await context.new_page()
    script, begin = PLAYERS["hls.js"]
    await page.set_content(BARE)
    await page.evaluate("window.failures = []")
    await page.add_script_tag(path=MODULES / script)
    await page.evaluate(begin, url)
    return Viewer(page)


def false_words(said: Sequence[dict[str, Any]]) -> list[str]:
    """Of what was said, what a gap is no reason for."""
    words = [word for line in said for word in (line["badge"], *line["cards"])]
    return sorted({word for word in words if any(false in word for false in FALSE)})
