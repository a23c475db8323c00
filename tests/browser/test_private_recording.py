"""The page plays a recording from a bucket that answers nobody without a signature."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import Traffic, is_, no_complaints, until
from tests.support.length import SOAK
from tests.support.servers.service import running_service

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.async_api import Page


def is_played(state: dict[str, Any]) -> bool:
    return bool(state["status"] == "live" and state["timeline"] and state["time"] > 1)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: signed playlists have tests with a real bucket")
@pytest.mark.takes(40)
async def test_a_recording_in_a_private_bucket(tmp_path: Path, page: Page) -> None:
    """While the stream is on and after its end; every object is asked for with a signature."""
    settings = {
        "BROADCASTER_URLS": "presigned",
        "R2_PUBLIC_URL": "",
        "BROADCASTER_RECORDINGS": "keep",
        "BROADCASTER_END_GRACE_SECONDS": "4",
    }
    async with (
        SeaweedBucket(tmp_path / "bucket", anonymous=False) as bucket,
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast") as owncast,
        running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service,
    ):
        await owncast.go_live()
        await owncast.wait_for_segments(5)
        traffic = Traffic(page)
        with no_complaints(page):
            await page.goto(f"{service.address}/")
            await page.get_by_role("button", name="Watch from the start").click()
            state = await until(page, lambda s: s["replay"] is not None and is_played(s))
            assert state["timeline"]["start"] == 0
            await owncast.stop_streaming()
            await page.get_by_role("link", name="Watch the recording").click()
            await page.wait_for_url("**/watch/*")
            await until(page, is_played)
            await page.keyboard.press("9")
            await until(page, is_("over"))
        assert traffic.refused == []
        assert traffic.segments
        assert all("X-Amz-Signature=" in url for url in traffic.segments)
        playlist = f"{service.address}/recordings/{page.url.rpartition('/')[2]}/0/playlist.m3u8"
        async with aiohttp.ClientSession() as session:
            assert (await get(session, traffic.segments[0].partition("?")[0]))[0] == 403
            one, same = await get(session, playlist), await get(session, playlist)
        assert one == same
        assert "#EXT-X-ENDLIST" in one[1]


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, str]:
    async with session.get(url) as response:
        return response.status, await response.text()
