"""A real Chromium that gets everything from the bucket: the playlists too, or nothing without a signature."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, Response
from prometheus_client.parser import text_string_to_metric_families

from broadcaster.bucket import Bucket, open_store
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.hls import MediaPlaylist, parse
from broadcaster.own_files import VIEWER_DIR
from tests.support.fakes.simulated_owncast import SimulatedOwncast
from tests.support.judges.page import Traffic, is_, no_complaints, play_on, until
from tests.support.length import SOAK, seconds
from tests.support.servers.end_to_end import taken_in
from tests.support.servers.service import Service, running_service
from tests.support.servers.static_site import static_site
from tests.support.waiting import eventually

WATCHED = seconds(30, 8)


async def watch(page: Page) -> None:
    """Play for a while."""
    await until(page, lambda s: s["status"] == "live" and s["time"] > 0)
    last = await play_on(page, WATCHED)
    assert (last["rebuilds"], last["sessions"]) == (0, 1)


async def metrics(service: Service) -> str:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{service.admin_address}/metrics") as response,
    ):
        return await response.text()


@pytest.mark.takes(35)
@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_mirror has the bucket alone without browsers")
async def test_page_plays_from_the_bucket_and_the_service_sees_nobody(
    tmp_path: Path, bucket: SeaweedBucket, page: Page
) -> None:
    """With the mirror on, a page on any static server plays to the end; no request reaches the service."""
    site = tmp_path / "site"
    shutil.copytree(VIEWER_DIR, site)
    settings = {"playlistUrl": f"{bucket.public_url}/live/playlist.m3u8", "eventsUrl": None}
    (site / "config.json").write_text(json.dumps(settings))
    async with (
        static_site(site) as address,
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=2) as owncast,
        running_service(
            tmp_path,
            tmp_path / "hls",
            bucket,
            BROADCASTER_MIRROR="true",
            BROADCASTER_END_GRACE_SECONDS="10",
        ) as service,
    ):
        traffic = Traffic(page)
        with no_complaints(page):
            await page.goto(f"{address}/")
            await until(page, is_("offline"))
            await owncast.go_live()
            await owncast.wait_for_segments(4)
            await watch(page)
            await page.screenshot(path=tmp_path / "live.png")
            await owncast.stop_streaming()
            await taken_in(owncast, bucket.public_url)
            await until(page, is_("offline"))
        families = text_string_to_metric_families(await metrics(service))
        (requests,) = (family for family in families if family.name == "broadcaster_requests")
        routes = {
            sample.labels["route"]: sample.value for sample in requests.samples if "route" in sample.labels
        }
        assert routes.keys() <= {"health"}  # by which the test finds out that the service has started
    playlists = [url for url in traffic.requested if ".m3u8" in url]
    assert len(playlists) > WATCHED / 4
    assert len(traffic.segments) >= WATCHED // 2
    assert all(url.startswith(f"{bucket.public_url}/live/") for url in playlists + traffic.segments)
    assert all(url.startswith((f"{bucket.public_url}/", f"{address}/")) for url in traffic.requested)
    print(f"{len(playlists)} requests for playlists, {len(traffic.segments)} for segments, 0 to the service")


class Versions:
    """Every version of the media playlists that a page got: which URL each number had."""

    def __init__(self, page: Page) -> None:
        self.count = 0
        self.urls: dict[tuple[str, int], set[str]] = {}
        self._reading: list[asyncio.Task[None]] = []
        page.on("response", self._note)

    async def all_read(self) -> None:
        await asyncio.gather(*self._reading)

    def _note(self, response: Response) -> None:
        if "/playlist.m3u8" in response.url and response.status == 200:
            self._reading.append(asyncio.create_task(self._read(response)))

    async def _read(self, response: Response) -> None:
        playlist = parse(await response.text())
        if isinstance(playlist, MediaPlaylist):
            self.count += 1
            for number, segment in enumerate(playlist.segments, playlist.media_sequence):
                path = response.url.partition("?")[0]
                self.urls.setdefault((path, number), set()).add(segment.uri)


@pytest.mark.skipif(not SOAK, reason="make soak runs it: test_presigned has private buckets without browsers")
@pytest.mark.takes(30)
async def test_page_plays_from_a_private_bucket(tmp_path: Path, page: Page) -> None:
    """Signed URLs play, are the same in every version, and are refused when they expire; no log has them."""
    async with (
        SeaweedBucket(tmp_path / "bucket", anonymous=False) as bucket,
        SimulatedOwncast(tmp_path / "hls", tmp_path / "owncast", segment_seconds=2) as owncast,
        running_service(
            tmp_path,
            tmp_path / "hls",
            bucket,
            BROADCASTER_URLS="presigned",
            BROADCASTER_LOG_LEVEL="debug",
            R2_PUBLIC_URL="",
        ) as service,
    ):
        traffic, versions = Traffic(page), Versions(page)
        await owncast.go_live()
        await owncast.wait_for_segments(4)
        with no_complaints(page):
            await page.goto(f"{service.address}/")
            await watch(page)
        await page.screenshot(path=tmp_path / "live.png")
        await versions.all_read()
        assert versions.count > WATCHED / 3
        assert len(versions.urls) >= WATCHED // 2
        assert all(len(urls) == 1 for urls in versions.urls.values())
        assert traffic.refused == []
        segments = traffic.segments
        assert len(segments) >= WATCHED // 2
        assert len(set(segments)) == len(segments)
        assert all(url.startswith(f"{bucket.public_url}/live/") for url in segments)
        assert all("X-Amz-Signature=" in url for url in segments)
        await check_refusals(page, bucket, segments[-1])
        said = [service.log.read_text(), await metrics(service), str(await service.health())]
    assert " DEBUG " in said[0]
    signatures = [url.rpartition("X-Amz-Signature=")[2] for url in segments]
    for text in said:
        for secret in (bucket.access_key_id, bucket.secret_access_key, "X-Amz-", *signatures):
            assert secret not in text


async def check_refusals(page: Page, bucket: SeaweedBucket, url: str) -> None:
    """The bucket gives the page a segment with its signature, and not without, nor with one that is over."""

    async def status(of: str) -> object:
        return await page.evaluate("async (url) => (await fetch(url, {cache: 'no-store'})).status", of)

    plain = url.partition("?")[0]
    key = plain.removeprefix(f"{bucket.public_url}/")
    ours = Bucket(bucket.endpoint_url, bucket.bucket, bucket.access_key_id, bucket.secret_access_key, None)
    async with open_store(replace(ours, signed_for=timedelta(seconds=2))) as store:
        short = await store.url(key)
    assert await status(url) == 200
    assert await status(plain) == 403
    await eventually(lambda: status(short), lambda found: found == 403)
