"""Who can write into the HLS folder, and swaps files while they are taken in, publishes no other file."""

# ruff: noqa: ASYNC240 - nothing else runs in these tests that could be held up

import asyncio
import errno
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from broadcaster import own_files as descriptors
from broadcaster.catalog import Catalog
from broadcaster.events import Event, SegmentPublished
from broadcaster.source import FolderSource
from broadcaster.stream import Instant, StreamLimits, StreamMachine
from broadcaster.upload import Pipeline, Uploader
from broadcaster.upload.spool import Spool
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.fakes.pipeline_parts import FakeStore
from tests.support.faults.other_user import open_folder
from tests.support.length import SOAK
from tests.support.waiting import changes
from tests.unit.upload.racer import EVIL, HARD_LINK, NOBODY, clear, exchange

SEGMENTS = 40
PACE = 0.02  # seconds from one segment to the next
SECRET = b"\x47" + b"the operator's token".ljust(187)  # as whole as a packet, and as long as a segment
MAIN = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/stream.m3u8\n"
ROUNDS = 7 if SOAK else 1

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="another user can be only by root's rights"),
    pytest.mark.skipif(sys.platform != "linux", reason="names are exchanged at once on Linux alone"),
]


class Encoder(HlsWriter):
    """Moves whole files into a folder of another user's, and lists them; with ``fragments``, of MP4."""

    def __init__(self, folder: Path, encoder: str, *, fragments: bool) -> None:
        super().__init__(folder, encoder)
        self.fragments = fragments
        self.written: set[bytes] = set()  # playlists too: the racer may give one a segment's name
        (folder.parent / "stream.m3u8").write_text(MAIN)
        os.chown(folder, NOBODY, NOBODY)
        os.chown(folder.parent, NOBODY, NOBODY)

    def name(self, number: int) -> str:
        return super().name(number).replace(".ts", ".m4s" if self.fragments else ".ts")

    def put(self, name: str, body: bytes) -> None:
        """Move it over whatever is there: to write into that would be to write through a link."""
        made = self.folder.parent.parent / "made"
        made.write_bytes(body)
        self.written.add(body)
        os.chown(made, NOBODY, NOBODY)
        for _ in range(1000):
            with suppress(OSError):  # a folder has its name at the moment
                made.replace(self.folder / name)
                return

    def write_all(self, number: int) -> None:
        """The segment with this number, and the playlist that lists it."""
        body = PACKET[:-8] + number.to_bytes(8)
        if self.fragments and not number:
            self.put("init.mp4", PACKET)
        self.put(self.name(number), body)
        text = self.text(range(max(0, number - 5), number + 1))
        begins = '#EXT-X-MAP:URI="init.mp4"\n#EXTINF' if self.fragments else "#EXTINF"
        self.put("stream.m3u8", text.replace("#EXTINF", begins, 1).encode())


@contextmanager
def racing(folder: Path, vault: Path) -> Iterator[None]:
    command = [sys.executable, "-m", "tests.unit.upload.racer", str(folder), str(vault)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as racer:
        try:
            assert racer.stdout
            assert racer.stdout.readline() == b"racing\n"
            yield
            assert racer.poll() is None
        finally:
            racer.kill()
            racer.wait()
            if folder.is_symlink():
                exchange(folder, folder.parent / EVIL)
            clear(folder / "stream.m3u8")


async def taken(encoder: Encoder, state: Path, vault: Path) -> tuple[dict[str, bytes], int]:
    """All that is in the bucket when a stream was taken in beside the racer, and how many were no gaps."""
    published: dict[str, bool] = {}  # by name, whether it is no gap
    changed, stop = asyncio.Event(), asyncio.Event()

    def observe(event: Event) -> None:
        if isinstance(event, SegmentPublished):
            published[event.segment.name] = not event.segment.gap
            changed.set()

    def now() -> datetime:
        return datetime.now(UTC)

    store = FakeStore()
    catalog = Catalog(state, now)
    stream = StreamMachine(StreamLimits(SEGMENTS), Instant(now(), time.monotonic()))
    spool = Spool(state / "spool", 10**9)
    pipeline = Pipeline(
        stream, Uploader(store, observe, now), spool, catalog, observe, clock=now, prefix="live"
    )
    source = FolderSource(encoder.folder.parent, now)
    with closing(catalog):
        async with catalog.writer:
            encoder.write_all(0)
            running = asyncio.create_task(pipeline.run(source.run, stop, 5))
            await changes(changed, lambda: published)
            with racing(encoder.folder, vault):
                for number in range(1, SEGMENTS - 1):
                    encoder.write_all(number)
                    await asyncio.sleep(PACE)
            if encoder.fragments:  # the racer may have been killed while something else had its name
                encoder.put("init.mp4", PACKET)
            for number in (SEGMENTS - 1, SEGMENTS):  # of those before, the racer may have hidden some
                encoder.write_all(number)
                await changes(changed, lambda: encoder.name(number) in published)  # noqa: B023 - awaited here
            stop.set()
            await running
    return store.objects_, sum(published.values())


@pytest.mark.parametrize("kernel", ["new", "old"])
@pytest.mark.parametrize(
    ("name", "fragments"), [("abc", False), ("", False), ("abc", True)], ids=["links", "copies", "maps"]
)
async def test_what_was_checked_is_published(
    monkeypatch: pytest.MonkeyPatch, name: str, kernel: str, *, fragments: bool
) -> None:
    """Links, second names, pipes, folders and devices in the place of files bring nothing into the bucket."""
    if kernel == "old":

        def lacks(*_: object) -> int:
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

        monkeypatch.setattr(descriptors, "_openat2", lacks)
    for _ in range(ROUNDS):
        with open_folder() as outside, tempfile.TemporaryDirectory() as inside:
            vault = Path(inside, "vault")
            vault.mkdir()
            encoder = Encoder(outside / "hls/0", name, fragments=fragments)
            for file in ("init.mp4", "stream.m3u8", *map(encoder.name, range(SEGMENTS + 1))):
                (vault / file).write_bytes(SECRET)
                (vault / file).chmod(0o600)
            (encoder.folder / HARD_LINK).hardlink_to(vault / "init.mp4")
            async with asyncio.timeout(60):
                objects, whole = await taken(encoder, Path(inside, "state"), vault)
        others = {key: body for key, body in objects.items() if body not in encoder.written}
        print(f"{len(objects)} objects, {whole} of {SEGMENTS + 1} segments whole")
        assert not others
        assert whole > 0
