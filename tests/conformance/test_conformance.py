"""The suite against the service: a real process and a real bucket, from before a stream to after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import free_ports
from tests.conformance import delta, rules
from tests.conformance.checks import name_of, run_all
from tests.conformance.subject import State, subject_at
from tests.conformance.verdicts import Outcome
from tests.support.fakes import mpegts as packets
from tests.support.fakes.hls_writer import START, HlsWriter
from tests.support.fakes.owncast_transcoder import CLIP, NOTHING, closing
from tests.support.length import SOAK
from tests.support.servers.service import Service, push_settings, push_url, running_service
from tests.support.servers.worker import running_worker
from tests.support.waiting import eventually

LISTED = 10  # segments, by the encoder
WITHIN = 120.0  # seconds, for what should take one or two
DELAY = 30.0  # seconds that a busy machine may take: how quick the service is, make bench says
DELTA_CHECKS = {
    name_of(check)
    for check in (
        delta.a_long_playlist_is_skipped,
        delta.a_delta_update_declares_version_9,
        delta.the_skip_boundary_is_kept,
        delta.a_delta_update_has_its_numbers,
        delta.merging_gives_the_full_playlist,
        delta.a_blocking_delta_update_is_whole,
    )
}

NEEDS_VARIANTS = {
    name_of(check)
    for check in (
        rules.variants_agree,
        rules.bandwidth_is_the_peak,
        rules.iframe_playlists_are_well_formed,
        rules.iframes_are_key_frames,
    )
}


class Encoder:
    """Writes segments of one second in so many variants; ``push`` is where it sends them, if it does."""

    push = ""

    def __init__(self, hls_dir: Path, variants: int) -> None:
        self._hls_dir = hls_dir
        self._sent: dict[Path, bytes] = {}
        self._folders = [hls_dir / str(index) for index in range(variants)]
        self._writers: list[HlsWriter] = []
        self._number = self._total = 0
        hls_dir.mkdir()
        lines = [f"#EXT-X-STREAM-INF:BANDWIDTH=1000\n{folder.name}/stream.m3u8\n" for folder in self._folders]
        (hls_dir / "stream.m3u8").write_text("#EXTM3U\n" + "".join(lines))

    def start(self, run: str) -> None:
        """Begin a run, numbered from 0, that takes up the time of the one before."""
        self._writers, self._number = [HlsWriter(folder, run) for folder in self._folders], 0
        for writer in self._writers:
            writer.seconds, writer.start = 1.0, START + timedelta(seconds=self._total)

    def write(self, count: int = 1) -> None:
        """List so many segments more, all at once."""
        first, self._number = self._number, self._number + count
        self._total += count
        for writer in self._writers:
            for number in range(first, self._number):
                writer.segment(number).write_bytes(packets.segment())
            writer.playlist(range(max(0, min(first, self._number - LISTED)), self._number))

    async def send(self) -> None:
        """Push what has changed: segments before the playlists that list them."""
        if not self.push:
            return
        files = {path: path.read_bytes() for path in self._hls_dir.rglob("*.*")}
        changed = [path for path, content in files.items() if self._sent.get(path) != content]
        async with aiohttp.ClientSession() as session:
            for path in sorted(changed, key=lambda path: path.suffix == ".m3u8"):
                url = f"{self.push}/{path.relative_to(self._hls_dir).as_posix()}"
                async with session.put(url, data=files[path]) as answer:
                    assert answer.status == 201
        self._sent = files

    def idle(self) -> None:
        """Leave nothing but the offline clip, as Owncast does some minutes after a stream."""
        for writer in self._writers:
            (writer.folder / "stream.m3u8").write_text(NOTHING + closing(CLIP))

    @asynccontextmanager
    async def live(self) -> AsyncIterator[None]:
        """Inside, a segment is written every second."""

        async def write_for_ever() -> None:
            while True:
                await asyncio.sleep(1)
                self.write()
                await self.send()

        writing = asyncio.create_task(write_for_ever())
        try:
            yield
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)


@asynccontextmanager
async def server(
    through: str, folder: Path, bucket: SeaweedBucket, encoder: Encoder, **settings: str
) -> AsyncIterator[tuple[Service, str]]:
    """A service that runs, and its playlist's address: at the service, or at the edge's Worker.

    With ``push`` the encoder sends its files to the service.
    """
    async with AsyncExitStack() as stack:
        if through == "push":
            (port,) = free_ports(1)
            encoder.push = push_url(port)
            settings |= push_settings(port)
        worker = await stack.enter_async_context(running_worker(folder)) if through == "edge" else None
        settings |= worker.settings if worker else {}
        service = await stack.enter_async_context(running_service(folder, folder / "hls", bucket, **settings))
        yield service, f"{(worker or service).address}/live/playlist.m3u8"


async def until(service: Service, url: str, **wanted: object) -> None:
    """Wait until the service says so, and what stands at ``url`` as well."""

    async def health() -> dict[str, object]:
        async with aiohttp.ClientSession() as session, session.get(URL(url).join(URL("/health"))) as response:
            found: dict[str, object] = await response.json()
            return found

    await eventually(service.health, lambda found: wanted.items() <= found.items())
    await eventually(health, lambda found: wanted.items() <= found.items())


async def not_ok(url: str, state: State) -> dict[str, str]:
    """The checks that were not ok, with what became of them."""
    async with subject_at(url, state, delay=DELAY) as subject:
        verdicts = await run_all(subject)
    failed = [str(verdict) for verdict in verdicts if verdict.outcome is Outcome.FAILED]
    assert failed == []
    return {verdict.check: verdict.reason for verdict in verdicts if verdict.outcome is not Outcome.OK}


@pytest.mark.takes(50)
@pytest.mark.parametrize("through", ["service", "edge"] if SOAK else ["service"])
async def test_a_stream_of_two_variants(tmp_path: Path, bucket: SeaweedBucket, through: str) -> None:
    """Before a stream, live with a short window across two encoder runs, paused, ended: no rule is broken."""
    encoder = Encoder(tmp_path / "hls", variants=2)
    settings = {"BROADCASTER_WINDOW_SEGMENTS": "6", "BROADCASTER_TARGET_DURATION": "2"}
    async with server(through, tmp_path, bucket, encoder, **settings) as (service, url):
        assert await not_ok(url, State.OFFLINE) == {}
        encoder.start("first")
        encoder.write(5)
        await until(service, url, chunks=10)
        encoder.start("second")
        encoder.write(5)
        await until(service, url, chunks=20)
        async with encoder.live():
            assert (await not_ok(url, State.LIVE)).keys() == DELTA_CHECKS
        assert await not_ok(url, State.PAUSED) == {}
        encoder.idle()
        await until(service, url, stream="ended")
        assert await not_ok(url, State.ENDED) == {}


@pytest.mark.parametrize("through", ["push", "edge"])
async def test_a_window_of_minutes(tmp_path: Path, bucket: SeaweedBucket, through: str) -> None:
    """With one variant and a window that pays for delta updates, no rule is broken either."""
    encoder = Encoder(tmp_path / "hls", variants=1)
    settings = {"BROADCASTER_WINDOW_SECONDS": "120", "BROADCASTER_TARGET_DURATION": "2"}
    async with server(through, tmp_path, bucket, encoder, **settings) as (service, url):
        encoder.start("first")
        encoder.write(110)
        await encoder.send()
        await until(service, url, chunks=110)
        encoder.start("second")
        encoder.write(20)
        await encoder.send()
        await until(service, url, manifestChunks=120)
        async with encoder.live():
            assert (await not_ok(url, State.LIVE)).keys() == NEEDS_VARIANTS
