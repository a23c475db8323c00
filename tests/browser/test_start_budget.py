"""What a viewer waits for: requests and bytes before the first picture, at a first and a second visit."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.async_api import Browser

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import NO_SOUND, until
from tests.support.judges.start_requests import Start, start_of
from tests.support.length import SOAK
from tests.support.servers.end_to_end import EndToEnd, end_to_end
from tests.support.servers.viewer_process import metrics
from tests.support.waiting import eventually

# What is complete before the first picture: page, files, playlists. Not counted are segments, and what the
# service holds open: the event stream, and requests for what is not there yet.
REQUESTS = 8
FILES = 'broadcaster_requests_total{route="viewer",status="200"}'
BYTES = 215_000  # of these, head and body as they came over the network
# A browser that needs longer is short of processor time, and may choose the variant anew before its picture.
SECONDS = 4
VISITS, WATCHED = 8, 30  # of a guest; seconds
ON_THE_WAY = {"connecting", "starting", "loading"}
# What the page has shown since when, in seconds.
SHOWN = """(() => {
    const shown = (window.shownPhases = []);
    const look = () => {
        const phase = window.broadcasterViewer?.phase;
        if (phase && shown.at(-1)?.[0] !== phase) shown.push([phase, performance.now() / 1000]);
        requestAnimationFrame(look);
    };
    look();
})()"""


def table(start: Start) -> str:
    """The requests, one a line."""
    lines = [
        f"{request.bytes:>8} {request.path} {'cached' if request.cached else ''}"
        f"{'video' if request.is_video else 'held' if request.is_held else ''}"
        for request in start.requests
    ]
    total = f"{len(start.page)} requests, {start.bytes} bytes, {start.seconds:.2f} s to the first picture"
    return "\n".join([*lines, total])


async def first_and_second(browser: Browser, on: EndToEnd) -> tuple[Start, Start, float]:
    """Two visits with one new profile, and how many files the service sent for the first."""
    context = await browser.new_context(viewport={"width": 1280, "height": 860})
    try:
        sent = (await metrics(on.service)).get(FILES, 0)
        first = await start_of(context, f"{on.service.address}/")
        assets = [request for request in first.page if request.path.startswith("/assets/")]
        found = await eventually(
            lambda: metrics(on.service), lambda found: found.get(FILES, 0) - sent >= len(assets)
        )
        files = found[FILES]
        again = await start_of(context, f"{on.service.address}/")
        assert (await metrics(on.service))[FILES] == files, "a revisit asked for files"
    finally:
        await context.close()
    print(f"{table(first)}\n{table(again)}")
    return first, again, files - sent


@pytest.mark.takes(15)
async def test_a_start_asks_for_little(tmp_path: Path, bucket: SeaweedBucket, browser: Browser) -> None:
    """At most 8 requests and 215 kB before the first picture; a revisit: page, state, playlists.

    The playlist is asked for before the page's script runs.
    """
    owncast = SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=2, idle_overlap=0)
    async with end_to_end(tmp_path, bucket, owncast=owncast) as on:
        await on.live_with(4)
        for _ in range(3):
            first, again, files = await first_and_second(browser, on)
            if max(first.seconds, again.seconds) < SECONDS:
                break
    is_short = max(first.seconds, again.seconds) >= SECONDS
    assert len(first.page) <= REQUESTS + (2 if is_short else 0), table(first)
    assert first.bytes <= BYTES, table(first)
    paths = [request.path for request in first.requests]
    by_script = next(number for number, path in enumerate(paths) if path.startswith("/assets/hls.worker-"))
    assert {"/live/events/now", "/live/playlist.m3u8"} < set(paths[:by_script]), table(first)
    assert files == len([request for request in first.page if request.path.startswith("/assets/")])
    for start in (first, again):  # none twice; the other variant's playlist may be wanted, too
        playlists = [request.path for request in start.page if request.path.endswith("/playlist.m3u8")]
        assert len(set(playlists)) >= 2, table(start)
        assert len(set(playlists)) == len(playlists) or is_short, table(start)
    others = {request.path for request in again.page if not request.path.endswith("/playlist.m3u8")}
    assert others == {"/", "/live/events/now"}, table(again)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: viewer/tests/phase.test.mjs has the rule")
@pytest.mark.takes(300)
async def test_what_a_guest_sees_first(tmp_path: Path, bucket: SeaweedBucket, browser: Browser) -> None:
    """In half a minute the page connects and is live, and says nothing else, also without sound allowed."""
    owncast = SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=2, idle_overlap=0)
    async with end_to_end(tmp_path, bucket, owncast=owncast) as on:
        await on.live_with(4)
        for visit in range(VISITS):
            context = await browser.new_context(viewport={"width": 1280, "height": 860})
            page = await context.new_page()
            if visit % 2:
                await page.add_init_script(f"({NO_SOUND})()")
            await page.add_init_script(SHOWN)
            await page.goto(f"{on.service.address}/")
            await until(page, lambda s: s["clock"] > WATCHED and s["time"] > WATCHED / 2)
            shown = [(phase, round(since, 2)) for phase, since in await page.evaluate("window.shownPhases")]
            print(f"visit {visit + 1}: {shown}")
            phases = [phase for phase, _ in shown]
            assert phases[-1] == "live"
            assert ON_THE_WAY.issuperset(phases[:-1])
            await context.close()
