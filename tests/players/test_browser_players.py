"""hls.js, Shaka and video.js, as anybody may put them into a page of their own."""

from pathlib import Path

import pytest
from playwright.async_api import async_playwright

from broadcaster.demo.bucket import SeaweedBucket
from tests.players.browser_players import PLAYERS, BrowserPlayer
from tests.players.reconnect import SEGMENT_SECONDS, all_show_more, on_air, shown
from tests.support.length import SOAK
from tests.support.servers.chromium import FLAGS, find_chromium


@pytest.mark.skipif(not SOAK, reason="make soak runs it: the page meets reconnects in other tests")
async def test_browser_players_play_on_after_the_encoder_was_away(
    tmp_path: Path, bucket: SeaweedBucket
) -> None:
    """The encoder is away for 20 s: each plays the new run by itself, and none has given up.

    hls.js shows a picture of the I-frame playlist, as it does for a seek bar.
    """
    chromium = find_chromium()
    async with on_air(tmp_path, bucket) as on, async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium, headless=True, chromium_sandbox=False, args=list(FLAGS)
        )
        players = [await BrowserPlayer.start(browser, name, on.url) for name in PLAYERS]
        await all_show_more(players, await shown(players))
        width, away = await players[0].iframe()
        assert width > 0
        assert abs(away) <= SEGMENT_SECONDS
        run_id = await on.reconnect(players)
        await all_show_more(players, await shown(players))
        for player in players:
            fetched = {url for url in player.traffic.segments if f"/stream-{run_id}-" in url}
            assert len(fetched) >= 2, player.name
        await browser.close()
