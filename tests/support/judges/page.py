"""The viewer's page as a test sees it: its own state, its video element, and what it asks the network for."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from playwright.async_api import Page, Request, Response

from tests.support.length import SOAK
from tests.support.waiting import changes, eventually

AXE = Path(__file__).resolve().parents[3] / "viewer" / "node_modules" / "axe-core" / "axe.min.js"
LOOK = """() => {
    const video = document.querySelector("video");
    return {
        status: null, // until the page's script has run
        recording: null,
        ...window.broadcasterViewer,
        clock: performance.now() / 1000,
        time: video.currentTime,
        frames: video.getVideoPlaybackQuality().totalVideoFrames,
        dropped: video.getVideoPlaybackQuality().droppedVideoFrames,
    };
}"""

# As browsers do for a page that nobody has touched yet; the tests' own lets everything play.
NO_SOUND = """() => {
    let touched = false;
    addEventListener("pointerdown", () => (touched = true), true);
    const play = HTMLMediaElement.prototype.play;
    HTMLMediaElement.prototype.play = function () {
        if (this.muted || touched) return play.call(this);
        return Promise.reject(new DOMException("", "NotAllowedError"));
    };
}"""

# How far the page's own doing moves what is seen (layout-shift), and what moved.
SHIFTS = """(() => {
    const noted = window.layoutShifts = [];
    const note = ({ value, hadRecentInput, sources }) => {
        if (hadRecentInput) return;
        noted.push([value, sources.map(({ node }) => node?.id || node?.className || "")]);
    };
    const observer = new PerformanceObserver((list) => list.getEntries().forEach(note));
    observer.observe({ type: "layout-shift", buffered: true });
})()"""
# Of a page that does not come into a state: short enough for the line that a CI shows.
BRIEF = ("status", "phase", "paused", "position", "time", "sessions", "rebuilds", "errors", "stalls")
MAX_SHIFT = 0.02 if SOAK else 0.05  # a busy machine paints in several frames what comes at once

SETTLED = """async () => {
    const ends = (one) => one.effect.getComputedTiming().endTime !== Infinity;
    await Promise.allSettled(document.getAnimations().filter(ends).map((one) => one.finished));
    for (let times = 0; times < 2; times += 1) await new Promise(requestAnimationFrame);
}"""


async def settled(page: Page) -> None:
    """Fades are over (those that never end do not count), and what follows from them is drawn."""
    await page.evaluate(SETTLED)


async def check_shifts(page: Page) -> None:
    """Nothing has jumped since the last check, or the opening, of a page that was opened with ``SHIFTS``."""
    shifts = await page.evaluate("window.layoutShifts.splice(0)")
    assert sum(value for value, _ in shifts) <= MAX_SHIFT, shifts


async def seen(page: Page) -> dict[str, Any]:
    """Read the page's state, where its picture is, and the page's own clock in seconds."""
    return cast("dict[str, Any]", await page.evaluate(LOOK))


async def until(page: Page, what: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """Wait for a state; when it does not come, the failure shows the one that was there."""
    try:
        return await eventually(lambda: seen(page), what)
    except AssertionError as error:
        state = await seen(page)
        brief = {name: state.get(name) for name in BRIEF}
        raise AssertionError(f"{page.url} does not come into the state: {brief}") from error


def is_played(state: dict[str, Any]) -> bool:
    """The picture goes on, at a place that is known."""
    return state["status"] == "live" and state["position"] is not None and not state["paused"]


async def play_on(page: Page, seconds: float) -> dict[str, Any]:
    """Wait until the page has played so much more, by the same player."""
    first = await seen(page)
    last = await until(page, lambda s: s["status"] == "live" and s["time"] >= first["time"] + seconds)
    check_played(first, last)
    return last


def check_played(first: dict[str, Any], last: dict[str, Any]) -> None:
    """The same player has gone on from the one state to the other.

    That it never paused is asked at full length alone: it takes a machine that decodes video in time.
    """
    assert last["status"] == "live"
    assert last["time"] > first["time"]
    assert last["frames"] > first["frames"]
    assert (last["sessions"], last["rebuilds"]) == (first["sessions"], first["rebuilds"])
    if SOAK:
        assert (last["stalls"], last["errors"]) == (first["stalls"], first["errors"])
        assert last["time"] - first["time"] >= last["clock"] - first["clock"] - 1


async def barriers(page: Page) -> list[dict[str, Any]]:
    """What axe-core finds that keeps people out: its serious and critical violations."""
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE.read_text())
    found = await page.evaluate("async () => (await axe.run({ resultTypes: ['violations'] })).violations")
    return [violation for violation in found if violation["impact"] in ("serious", "critical")]


def is_(status: str) -> Callable[[dict[str, Any]], bool]:
    return lambda state: state["status"] == status


@contextlib.contextmanager
def no_complaints(page: Page) -> Iterator[None]:
    """Fail on any script error and on anything that the content security policy refused."""
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if "Security Policy" in line.text else None)
    yield
    assert complaints == []


class Traffic:
    """Every request of a page, and what came of it, from here on."""

    def __init__(self, page: Page) -> None:
        self.requested: list[str] = []
        self.refused: list[tuple[int, str]] = []
        self.loads = 0  # of the page itself
        self._another = asyncio.Event()
        page.on("request", self._asked)
        page.on("response", self._note)
        page.on("domcontentloaded", self._loaded)

    @property
    def segments(self) -> list[str]:
        """The addresses of the segments that were asked for, in order."""
        return [url for url in self.requested if url.partition("?")[0].endswith(".ts")]

    @property
    def elsewhere(self) -> list[str]:
        """All the other addresses."""
        segments = set(self.segments)
        return [url for url in self.requested if url not in segments]

    async def until_asked_for(self, part: str) -> None:
        """Wait for a request whose address contains ``part``, from the beginning on."""
        await changes(self._another, lambda: any(part in url for url in self.requested))

    def _asked(self, request: Request) -> None:
        self.requested.append(request.url)
        self._another.set()

    def _note(self, response: Response) -> None:
        if response.status >= 400:
            self.refused.append((response.status, response.url))

    def _loaded(self, _: Page) -> None:
        self.loads += 1
