"""The service's tracker, met by the client library that the page uses."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.servers.service import Service, running_service
from tests.support.waiting import PATIENCE, eventually

VIEWER = Path(__file__).parents[2] / "viewer/tests/support/swarm-viewer.mjs"
ATTRIBUTES = (
    'BANDWIDTH=2340800,RESOLUTION=1280x720,CODECS="avc1.64001f,mp4a.40.2",FRAME-RATE=30.000',
    'BANDWIDTH=1020800,AVERAGE-BANDWIDTH=900000,RESOLUTION=640x360,CODECS="avc1.42c01e,mp4a.40.2"',
)


class Viewer:
    """hls.js's parser and p2p-media-loader in Node, at the service's tracker. WebRTC is a fake."""

    def __init__(self, child: Child) -> None:
        self._child = child

    @classmethod
    async def join(cls, name: str, folder: Path, service: Service, run: str) -> "Viewer":
        tracker = service.address.replace("http", "ws") + "/live/tracker"
        flags = ["--experimental-websocket", "--conditions=p2pml:core-as-bundle"]
        command = ["node", *flags, str(VIEWER), name, service.address, tracker, run]
        return cls(await Child.start(name, command, folder / f"{name}.log"))

    async def message(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait until the viewer says what is wanted."""
        found = eventually(lambda: [line for line in self.lines() if wanted(line)])
        return (await self._child.until(found, within=PATIENCE))[0]

    def lines(self) -> list[dict[str, Any]]:
        text = self._child.log.read_text()
        return [
            json.loads(line) for line in text.splitlines(keepends=True) if line[0] == "{" and line[-1] == "\n"
        ]

    async def leave(self) -> None:
        await self._child.stop()


@asynccontextmanager
async def live(
    folder: Path, bucket: SeaweedBucket, variants: int, **settings: str
) -> AsyncIterator[tuple[Service, str]]:
    """A service with three segments of so many variants, and the id of their run."""
    async with running_service(folder, folder / "hls", bucket, **settings) as service:
        text = "#EXTM3U\n"
        for index in range(variants):
            HlsWriter(folder / f"hls/{index}").write(range(3))
            text += f"#EXT-X-STREAM-INF:{ATTRIBUTES[index]}\n{index}/stream.m3u8\n"
        (folder / "hls/stream.m3u8").write_text(text)
        await service.until_health(chunks=3 * variants)
        playlist = await fetched(f"{service.address}/live/0/playlist.m3u8")
        yield service, playlist.split(f"{bucket.public_url}/live/")[1].split("/")[0]


async def fetched(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


@pytest.mark.parametrize("variants", [1, 2])
async def test_viewers_meet(tmp_path: Path, bucket: SeaweedBucket, variants: int) -> None:
    """Two pages find each other by offer and answer; they stay, and are gone when they leave."""
    async with live(tmp_path, bucket, variants) as (service, run), AsyncExitStack() as stack:
        ada = await Viewer.join("ada", tmp_path, service, run)
        stack.push_async_callback(ada.leave)
        await service.until_health(peers=1, torrents=1, signaling=True)
        bob = await Viewer.join("bob", tmp_path, service, run)
        stack.push_async_callback(bob.leave)
        offer = await ada.message(lambda line: line["type"] == "offer")
        answer = await bob.message(lambda line: line["type"] == "answer")
        assert offer["sdp"].endswith(" of bob")
        assert answer["sdp"] == f"answer of ada to {offer['sdp']}"
        for viewer in (ada, bob):
            loaded = await viewer.message(lambda line: line["type"] == "loaded")
            assert loaded["bytes"] == len(PACKET * 3)
        await service.until_health(peers=2)
        await bob.leave()
        await service.until_health(peers=1, torrents=1)
        assert not [line for line in ada.lines() + bob.lines() if line["type"].startswith("onTracker")]
        metrics = await fetched(f"{service.admin_address}/metrics")
        assert 'broadcaster_tracker_messages_total{action="answer"} 1.0' in metrics


async def test_another_swarm(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """The tracker refuses a page of another stream with a reason."""
    async with live(tmp_path, bucket, 1) as (service, _), AsyncExitStack() as stack:
        stranger = await Viewer.join("stranger", tmp_path, service, "20200101T000000Z-0-abcdef")
        stack.push_async_callback(stranger.leave)
        warning = await stranger.message(lambda line: line["type"] == "onTrackerWarning")
        assert warning["message"] == "this tracker does not serve that swarm"
        await service.until_health(peers=0, torrents=0)


async def test_restart(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """After a crash the swarms are the same, before anything new is published."""
    async with live(tmp_path, bucket, 2) as (service, run), AsyncExitStack() as stack:
        await service.kill()
        await service.start()
        viewer = await Viewer.join("viewer", tmp_path, service, run)
        stack.push_async_callback(viewer.leave)
        await service.until_health(peers=1, torrents=1)


@pytest.mark.parametrize(
    ("settings", "url"),
    [
        ({"BROADCASTER_TRACKER": "false"}, None),
        ({"BROADCASTER_TRACKER_URL": "wss://tracker.example.com/"}, "wss://tracker.example.com/"),
        ({}, "/live/tracker"),
    ],
)
async def test_which_tracker(
    tmp_path: Path, bucket: SeaweedBucket, settings: dict[str, str], url: str | None
) -> None:
    """The page's settings name the tracker; with another tracker or none, ours is not there."""
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        assert json.loads(await fetched(f"{service.address}/config.json"))["trackerUrl"] == url
        assert (await service.health())["signaling"] is (url == "/live/tracker")
        tracker = f"{service.address}/live/tracker"
        async with aiohttp.ClientSession() as session, session.get(tracker) as response:
            assert response.status == (426 if url == "/live/tracker" else 404)
