"""ffmpeg as others run it, restarted: stock hls.js plays on, however its segments are named and numbered."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import imageio_ffmpeg
import pytest
from playwright.async_api import async_playwright

from broadcaster.demo.bucket import SeaweedBucket
from tests.players.browser_players import BrowserPlayer
from tests.support.length import SOAK
from tests.support.servers.chromium import FLAGS, find_chromium
from tests.support.servers.service import running_service
from tests.support.waiting import eventually

AWAY, SEGMENT = 6.0, 2.0  # seconds
LOOK = 0.25  # seconds between two looks at the picture
FMP4 = ("-hls_segment_type", "fmp4")
DATED = ("-hls_flags", "program_date_time")
# The names of segments, and further settings of the first and of the second run.
FORMS: dict[str, tuple[str, Sequence[str], Sequence[str]]] = {
    "plain": ("seg%d.ts", (), ()),
    "plain, dated": ("seg%d.ts", DATED, DATED),
    "looks like an id": ("stream-main-%d.ts", (), ()),
    "date and time": ("stream-%Y%m%d-%H%M%S.ts", ("-strftime", "1"), ("-strftime", "1")),
    "number goes on": ("seg%d.ts", (), ("-start_number", "100")),
    "epoch": (
        "seg%d.ts",
        ("-hls_start_number_source", "epoch"),
        ("-hls_start_number_source", "epoch"),
    ),
    "fMP4": ("seg%d.m4s", FMP4, FMP4),
    "fMP4, number goes on": ("seg%d.m4s", FMP4, (*FMP4, "-start_number", "100")),
}


@asynccontextmanager
async def encoder(folder: Path, names: str, options: Sequence[str]) -> AsyncIterator[None]:
    """Write a test picture into the folder until the encoder is killed, as a lost machine would be."""
    process = await asyncio.create_subprocess_exec(
        *(imageio_ffmpeg.get_ffmpeg_exe(), "-nostdin", "-loglevel", "error", "-re", "-f", "lavfi"),
        *("-i", "testsrc2=size=160x90:rate=10", "-c:v", "libx264", "-preset", "ultrafast", "-g", "20"),
        *("-sc_threshold", "0", "-f", "hls", "-hls_time", str(SEGMENT), "-hls_list_size", "6", *options),
        *("-hls_segment_filename", str(folder / names), str(folder / "stream.m3u8")),
        stdin=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        await process.wait()


async def longest_stall(player: BrowserPlayer, seconds: float) -> float:
    """For how many seconds it shows the same picture, at most."""
    begun = changed = time.monotonic()
    longest, before = 0.0, await player.pictures()
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(LOOK)
        now = time.monotonic()
        if (pictures := await player.pictures()) != before:
            longest, changed, before = max(longest, now - changed), now, pictures
    return max(longest, time.monotonic() - changed)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: tests/unit/test_restart_forms has the forms")
@pytest.mark.parametrize("form", FORMS)
async def test_hls_js_plays_on(tmp_path: Path, bucket: SeaweedBucket, form: str) -> None:
    """It stands no longer than the encoder is away and a segment, and nothing is listed that never was."""
    names, first, second = FORMS[form]
    folder = tmp_path / "hls" / "0"
    folder.mkdir(parents=True)
    async with (
        running_service(tmp_path, folder.parent, bucket) as service,
        async_playwright() as playwright,
    ):
        url = f"{service.address}/live/playlist.m3u8"

        async def playlist() -> str:
            async with aiohttp.ClientSession() as session, session.get(url) as response:
                return await response.text() if response.status == 200 else ""

        browser = await playwright.chromium.launch(
            executable_path=find_chromium(), headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        async with encoder(folder, names, first):
            await eventually(playlist, lambda text: text.count("#EXTINF") >= 3)
            player = await BrowserPlayer.start(browser, "hls.js", url)
            await eventually(player.pictures, lambda pictures: pictures > 20)
            await asyncio.sleep(3 * SEGMENT)
        watching = asyncio.create_task(longest_stall(player, AWAY + 10 * SEGMENT))
        await asyncio.sleep(AWAY)
        async with encoder(folder, names, second):
            stall = await watching
            text = await playlist()
        await browser.close()
    assert stall <= AWAY + SEGMENT
    assert text.count("#EXT-X-DISCONTINUITY\n") == 1
    assert "#EXT-X-GAP" not in text
