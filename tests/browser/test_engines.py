"""The page in WebKitGTK and in Firefox: what a viewer does and what befalls the stream, as in Chromium."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.browser.other_engines import Engine, firefox, until, webkit
from tests.support.fakes.playout import VARIANTS, Playout, made, playing_out
from tests.support.judges.page import LOOK
from tests.support.length import SOAK
from tests.support.servers.service import running_service

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from broadcaster.demo.bucket import SeaweedBucket

WATCHED = 60  # seconds
# The video element's own word, beside the page's.
ELEMENT = """(() => {
    const { paused, muted, currentTime, playbackRate } = document.querySelector("video");
    return { paused, muted, time: currentTime, rate: playbackRate };
})()"""


class Guest:
    """Somebody who watches in one engine."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    async def until(self, is_so: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Wait for a state of the page."""
        return await until(self.engine, LOOK, is_so)

    async def plays_on(self, more: float = 1) -> None:
        """The picture goes on for so many seconds, and nobody has paused it."""
        before = (await self.element())["time"]
        state = await self.until(lambda s: s["status"] == "live" and s["time"] > before + more)
        assert not state["paused"], self.engine.name
        assert not (await self.element())["paused"], self.engine.name

    async def element(self) -> dict[str, Any]:
        """How the video element stands."""
        return cast("dict[str, Any]", await self.engine.evaluate(ELEMENT))


@pytest.mark.skipif(not SOAK, reason="make soak runs it: other tests play in Chromium")
@pytest.mark.takes(55)
@pytest.mark.parametrize("sound", [False, True])
async def test_other_engines_play(tmp_path: Path, bucket: SeaweedBucket, *, sound: bool) -> None:
    """Start, pause, seek, live, gap, reconnect, end and recording, in both at the same time."""
    film = await asyncio.to_thread(made, tmp_path / "film", segment_seconds=1)
    playout = Playout(film, tmp_path / "hls", segment_seconds=1)
    settings = {
        "BROADCASTER_RECORDINGS": "keep",
        "BROADCASTER_END_GRACE_SECONDS": "12",
        "BROADCASTER_WINDOW_SECONDS": "30",
    }
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(
            running_service(tmp_path, tmp_path / "hls", bucket, **settings)
        )
        engines = [
            await stack.enter_async_context(webkit(sound=sound)),
            await stack.enter_async_context(firefox(tmp_path / "firefox", sound=sound)),
        ]
        guests = [Guest(engine) for engine in engines]
        async with playing_out(playout):
            await playout.until(5)
            await asyncio.gather(*(start(guest, service.address, sound=sound) for guest in guests))
            await asyncio.gather(*(choose(guest) for guest in guests))
            first = playout.number + 2
            playout.lost = {(variant, first) for variant in VARIANTS}
            await playout.until(first + 2)
            await asyncio.gather(*(guest.plays_on(2) for guest in guests))
        async with playing_out(playout):  # the encoder comes back
            await asyncio.gather(*(guest.plays_on(3) for guest in guests))
            states = [await guest.until(lambda s: s["status"] == "live") for guest in guests]
        assert [state["rebuilds"] for state in states] == [0, 0]
        await asyncio.gather(*(end(guest) for guest in guests))


async def start(guest: Guest, address: str, *, sound: bool) -> None:
    """It plays by itself, with sound where the engine allows it, and goes on; what is muted stays so."""
    await guest.engine.go(f"{address}/")
    await guest.until(lambda s: s["status"] == "live" and s["time"] > 0)
    assert (await guest.element())["muted"] is not sound, guest.engine.name
    await guest.plays_on(WATCHED)
    # WebKit unmutes and pauses what changes its rate; the page puts that right.
    for rate in (1.05, 1):
        await guest.engine.evaluate(f"(document.querySelector('video').playbackRate = {rate})")
        await guest.plays_on()
    assert (await guest.element())["muted"] is not sound


async def choose(guest: Guest) -> None:
    """A pause stays, a place is gone to, and live is one key away."""
    await guest.engine.press("k")
    paused = await guest.until(lambda s: s["paused"] and not s["following"])
    await asyncio.sleep(1)
    assert (await guest.element())["paused"]
    await guest.engine.press("k")
    await guest.until(lambda s: not s["paused"] and s["time"] > paused["time"])
    await guest.engine.press("\ue012")  # left
    await guest.until(lambda s: s["behind"] and s["phase"] == "behind")
    await guest.plays_on()
    await guest.engine.press("l")
    await guest.until(lambda s: s["following"] and s["phase"] == "live")
    await guest.plays_on()


async def end(guest: Guest) -> None:
    """The page says that the stream is over, and the recording plays."""
    await guest.until(lambda s: s["phase"] == "ended")
    state = await guest.until(lambda s: s["recorded"] is not None and s["recorded"]["ended"])
    await guest.engine.go(f"{state['recordings']['watch']}{state['recorded']['id']}")
    await guest.until(lambda s: s["recording"] is not None and s["status"] == "live" and s["time"] > 1)
    await guest.plays_on()
