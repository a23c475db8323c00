"""How the process starts, stops, and dies: statuses, lines, and what systemd hears."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from pathlib import Path

import aiohttp
import pytest

from broadcaster.catalog.records import SourceSnapshot
from broadcaster.cli import main
from broadcaster.config import load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import Child
from broadcaster.events import SourceEvent
from broadcaster.service import serve
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.fakes.systemd import Ears
from tests.support.faults.hanging_mount import hanging_mount
from tests.support.servers.end_to_end import object_keys
from tests.support.servers.service import Service, running_service
from tests.support.suspending import resume, suspend
from tests.support.waiting import PATIENCE, eventually

STUCK = 3.0  # seconds, in the place of a minute: a busy machine may pause
MULTIVARIANT = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n"


def write(writer: HlsWriter, numbers: range) -> None:
    """What a stream of one variant has finished, and the multivariant playlist that makes it go live."""
    writer.write(numbers)
    (writer.folder.parent / "stream.m3u8").write_text(MULTIVARIANT)


async def until_reason(service: Service, reason: str) -> None:
    await eventually(service.health, lambda health: reason in str(health["reason"]))


async def test_sigterm_during_an_outage(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """What cannot be uploaded in time waits; the next start uploads it from the spool."""
    writer = HlsWriter(tmp_path / "hls/0")
    settings = {"BROADCASTER_DRAIN_SECONDS": "1", "BROADCASTER_RETENTION": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        write(writer, range(3))
        await service.until_health(manifestChunks=3)
        suspend(bucket.child)
        write(writer, range(6))
        await service.until_health(backlog=3)
        started = time.monotonic()
        assert await service.stop() == 0
        assert time.monotonic() - started >= 1
        log = service.log.read_text()
        assert "3 segments wait in the spool for the next start" in log
        assert "Traceback" not in log
        for number in range(6):
            (writer.folder / writer.name(number)).unlink()
        resume(bucket.child)
        await service.start()
        await service.until_health(backlog=0)
        await service.until_health(manifestChunks=6)
        keys = await object_keys(bucket)
        assert {key.rpartition("/")[2] for key in keys} == {writer.name(number) for number in range(6)}
        assert len({key.rpartition("/")[0] for key in keys}) == 1
        async with aiohttp.ClientSession() as session:
            for key in keys:
                async with session.get(f"{bucket.public_url}/{key}") as response:
                    assert await response.read() == PACKET * 3


async def test_sigterm_waits_for_uploads(tmp_path: Path, bucket: SeaweedBucket) -> None:
    """Uploads that get through within the drain time are finished before the process ends."""
    writer = HlsWriter(tmp_path / "hls/0")
    settings = {"BROADCASTER_DRAIN_SECONDS": "25", "BROADCASTER_RETENTION": "keep"}
    async with running_service(tmp_path, tmp_path / "hls", bucket, **settings) as service:
        suspend(bucket.child)
        write(writer, range(3))
        await service.until_health(backlog=3)
        stopping = asyncio.create_task(service.stop())
        await eventually(lambda: "stopping; uploading 3 segments" in service.log.read_text())
        resume(bucket.child)
        assert await stopping == 0
        assert "wait in the spool" not in service.log.read_text()
        assert len(await object_keys(bucket)) == 3
        assert not [path for path in (tmp_path / "state/spool").rglob("*") if path.is_file()]


@pytest.fixture
def nowhere(tmp_path: Path) -> SeaweedBucket:
    """A bucket that is not there, for tests that need none."""
    return SeaweedBucket(tmp_path / "bucket")


async def run_to_its_end(folder: Path, bucket: SeaweedBucket) -> tuple[int, str]:
    """Start the service, which must not last; returns its exit status and everything that it said."""
    service = Service(folder, folder / "hls", bucket)
    log = folder / "short.log"
    child = await Child.start("broadcaster", ["broadcaster", "run"], log, env=service.environment)
    try:
        async with asyncio.timeout(PATIENCE):
            status = await child.wait()
    finally:
        await child.kill()
    return status, log.read_text()


async def test_two_on_one_state_folder(tmp_path: Path, nowhere: SeaweedBucket) -> None:
    """The second process says in one line why it cannot start, and the first goes on undisturbed."""
    (tmp_path / "hls").mkdir()
    async with running_service(tmp_path, tmp_path / "hls", nowhere) as first:
        status, said = await run_to_its_end(tmp_path, nowhere)
        assert status == 2
        assert said.count("\n") == 1
        assert "in use: another broadcaster runs on this state folder" in said
        assert (await first.health())["warning"] is None


@pytest.mark.parametrize("content", [b"These are notes, not a journal.\n" * 200, b"SQLite format 3\0" * 500])
async def test_a_broken_journal(tmp_path: Path, nowhere: SeaweedBucket, content: bytes) -> None:
    """A journal that cannot be used is one line with what to do, status 2, and stays as it is."""
    (tmp_path / "hls").mkdir()
    catalog = tmp_path / "state/journal.db"
    catalog.parent.mkdir(0o700)
    catalog.write_bytes(content)
    status, said = await run_to_its_end(tmp_path, nowhere)
    assert status == 2
    assert said.count("\n") == 1
    assert str(catalog) in said
    assert "move it away" in said
    assert catalog.read_bytes() == content


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Ears]:
    ears = Ears(tmp_path / "notify")
    yield ears
    ears.close()


async def test_systemd_is_notified(tmp_path: Path, nowhere: SeaweedBucket, systemd: Ears) -> None:
    """Ready once the address is served, a sign of life again and again, stopping at the end.

    It asks for as much time as it may need to drain, which may be more than the unit's TimeoutStopSec.
    """
    settings = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
    settings["BROADCASTER_DRAIN_SECONDS"] = "90"
    service = Service(tmp_path, tmp_path / "hls", nowhere, **settings)
    starting = asyncio.create_task(service.start())
    try:
        assert await systemd.hear() == "READY=1"
        await service.health()
        for _ in range(3):
            assert await systemd.hear() == "WATCHDOG=1"
    finally:
        await starting
        assert await service.stop() == 0
    await systemd.until("STOPPING=1")
    name, _, microseconds = (await systemd.hear()).partition("=")
    assert name == "EXTEND_TIMEOUT_USEC"
    assert int(microseconds) > 90e6


@pytest.mark.takes(30)
async def test_a_folder_that_hangs(tmp_path: Path, bucket: SeaweedBucket, systemd: Ears) -> None:
    """Playlists go on, ``/health`` and not the watchdog tells; an end and a start are as ever."""
    hls = tmp_path / "hls"
    settings = {"NOTIFY_SOCKET": str(systemd.path), "WATCHDOG_USEC": "200000"}
    async with running_service(tmp_path, hls, bucket, **settings) as service:
        write(HlsWriter(hls / "0"), range(3))
        await service.until_health(manifestChunks=3)
        with hanging_mount(hls):
            for _ in range(2):
                await until_reason(service, "ingest is stuck: the HLS folder does not answer")
                for _ in range(20):  # more than wait in the socket
                    assert await systemd.hear()
                async with aiohttp.ClientSession() as session:
                    playlist = await session.get(f"{service.address}/live/0/playlist.m3u8")
                assert playlist.status == 200
                assert await service.stop() == 0
                await service.start()
        write(HlsWriter(hls / "0"), range(4))
        await service.until_health(manifestChunks=4)


class HangingSource:
    """A source that, by a fault of its own, looks at its folder until it is stopped."""

    hang: asyncio.Event

    def __init__(self, _: Path, __: Callable[[], datetime], ___: SourceSnapshot) -> None:
        self.last_scan = self.scanned_at = time.monotonic()
        self.scanning = False

    async def run(self, _: Callable[[SourceEvent], Awaitable[None]]) -> None:
        while not self.hang.is_set():
            self.last_scan = self.scanned_at = time.monotonic()
            await asyncio.sleep(0.01)
        await asyncio.Event().wait()


class DeadSource(HangingSource):
    """A source with a fault that nobody has thought of."""

    async def run(self, _: Callable[[SourceEvent], Awaitable[None]]) -> None:
        raise ZeroDivisionError("a fault nobody\nhas thought of")


@pytest.fixture
def environment(tmp_path: Path, nowhere: SeaweedBucket, monkeypatch: pytest.MonkeyPatch) -> Service:
    """The settings of a service in this process."""
    service = Service(tmp_path, tmp_path / "hls", nowhere)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    return service


@pytest.mark.takes(10)
async def test_the_watchdog_bites_when_ingest_is_stuck(
    environment: Service, systemd: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the source gives no sign of life, systemd hears nothing either, and ``/health`` says why."""
    HangingSource.hang = asyncio.Event()
    monkeypatch.setattr("broadcaster.service.components.FolderSource", HangingSource)
    monkeypatch.setattr("broadcaster.service.components.STUCK", STUCK)
    monkeypatch.setenv("NOTIFY_SOCKET", str(systemd.path))
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(serve(load(), stop))
        await systemd.until("READY=1")
        for _ in range(round(1.5 * STUCK / 0.1)):  # longer than STUCK: it is no single message
            assert await systemd.hear() == "WATCHDOG=1"
        await environment.until_health(http=200)
        HangingSource.hang.set()
        health = await environment.until_health(http=503)
        assert str(health["reason"]).startswith("ingest is stuck; restart")
        await systemd.until_silence(1.0)
        stop.set()


@pytest.mark.usefixtures("environment")
def test_a_dead_part_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """When ingest dies the process ends with status 1 and one line; systemd starts it again."""
    monkeypatch.setattr("broadcaster.service.components.FolderSource", DeadSource)
    assert main(["run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("broadcaster: ZeroDivisionError: a fault nobody has thought of")
    assert said.count("\n") == 1
    assert "Traceback" not in caplog.text
