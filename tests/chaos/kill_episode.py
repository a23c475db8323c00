"""A short stream whose broadcaster is killed once, at a boundary given by its number, and then judged.

Two variants, a run of the encoder, the folder made anew as Owncast does, and another run; segments of one
second of media come several times as fast. The process that is started after the kill runs to the end.
"""

import asyncio
import contextlib
import hashlib
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp

from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.demo.processes import poll
from broadcaster.errors import DemoError
from tests.chaos.kill_judge import Evidence, listed_now, objects, place
from tests.chaos.power_cut import Behind, cut_power, facts
from tests.support.fakes.hls_writer import PACKET, HlsWriter
from tests.support.judges.watcher import Watcher, watching
from tests.support.servers.end_to_end import VARIANTS
from tests.support.servers.service import Service
from tests.support.waiting import PATIENCE

MEMORY = Path("/dev/shm")  # another file system than that of temporary files, on Linux
PAUSE = 0.12  # seconds between two segments of the encoder
LISTED = 4  # segments in the source's playlists
QUIET = 10.0  # seconds without anything new after which nothing more is awaited: an empty file is, for 4
MULTIVARIANT = "#EXTM3U\n" + "".join(
    f"#EXT-X-STREAM-INF:BANDWIDTH={1000 * (2 - int(variant))}\n{variant}/stream.m3u8\n"
    for variant in VARIANTS
)


@dataclass(frozen=True, slots=True)
class Mode:
    """What kind of stream, and what becomes of it."""

    name: str
    with_ids: bool = True  # names have the encoder's run
    copied: bool = False  # the state folder is on another file system
    segments: int = 3  # of each run in each variant
    deleted: bool = False  # what leaves the window
    boundaries: int = 120  # at least


PLAIN = Mode("plain")
WITHOUT_IDS = Mode("without-ids", with_ids=False)
COPIED = Mode("copied", copied=True)
DELETED = Mode("deleted", segments=6, deleted=True, boundaries=200)
MODES = (PLAIN, WITHOUT_IDS, COPIED, DELETED)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was wrong; ``where`` names the boundary, None when the stream was over before it."""

    where: str | None
    boundaries: int
    faults: list[str]


class Writer(HlsWriter):
    """One variant of one run; no two segments have the same bytes."""

    def __init__(self, folder: Path, mode: Mode, run: int, start: datetime) -> None:
        super().__init__(folder, f"run{run}")
        self._with_ids = mode.with_ids
        self.seconds, self.start = 1.0, start

    def name(self, number: int) -> str:
        return super().name(number) if self._with_ids else f"seg{number}.ts"

    def segment(self, number: int, packets: int = 3) -> Path:
        path = self.folder / self.name(number)
        own = f"{self.encoder} {self.folder.name} {number}".encode().ljust(187, b" ")
        path.write_bytes(PACKET * (packets - 1) + b"\x47" + own)
        return path


class Episode:
    """One such stream in ``folder``, below a prefix of its own in ``bucket``, killed ``at`` which boundary.

    With ``behind`` the power is cut.
    """

    def __init__(
        self, folder: Path, bucket: SeaweedBucket, mode: Mode, at: int, behind: Behind | None
    ) -> None:
        self._mode = mode
        self._at = at
        self._behind = behind
        self._bucket = bucket
        self._hls = folder / "hls"
        self._record = folder / "record"
        self._prefix = f"live/{folder.name}"
        state = Path(tempfile.mkdtemp(dir=MEMORY)) if mode.copied else folder
        self._state = state / "state"
        self._service = Service(
            folder,
            self._hls,
            bucket,
            BROADCASTER_STATE_DIR=str(self._state),
            BROADCASTER_TRACKER="false",
            BROADCASTER_RETENTION="window" if mode.deleted else "keep",
            BROADCASTER_RETENTION_MAX_MINUTES="0",  # who restarts waits for reports before it deletes
            BROADCASTER_WINDOW_SEGMENTS="6" if mode.deleted else "20",
            R2_PREFIX=self._prefix,
        )
        self._finished: dict[str, str] = {}  # by SHA-256: run, variant and name
        self._perished: set[str] = set()  # SHA-256 of what nobody could know of any more
        self._faults: list[str] = []
        self._where: str | None = None
        self._up = asyncio.Event()  # or killed before

    async def play(self) -> Verdict:
        """The whole story."""
        try:
            async with watching(self._service.address, patient=True) as watcher, asyncio.TaskGroup() as group:
                supervisor = group.create_task(self._supervise())
                await self._up.wait()
                await self._write(watcher)
                await self._settle(watcher)
                supervisor.cancel()
            evidence = await self._evidence(watcher)
            forgot = bool(self._behind and Behind.LOG in self._behind)
            cut = self._behind is not None
            found = evidence.faults(deleted=self._mode.deleted, cut=cut, forgot=forgot)
            if "Traceback" in self._service.log.read_text():
                self._faults.append("a traceback in the log")
            return Verdict(self._where, len(self._passed()), [*self._faults, *found])
        finally:
            if self._service.child:
                await self._service.child.kill()
            if self._mode.copied:
                shutil.rmtree(self._state.parent)

    async def _supervise(self) -> None:
        """Start it, and once more after its kill."""
        for at, boot in ((self._at, "before"), (0, "before" if self._behind is None else "after")):
            self._service.command = [
                *(sys.executable, "-m", "tests.chaos.kill_points", str(at)),
                *("--record", str(self._record), "--boot-id", boot),
            ]
            with contextlib.suppress(DemoError):  # killed before it was ready
                await self._service.start()
            self._up.set()
            child = self._service.child
            assert child
            status = await child.wait()
            if status != -signal.SIGKILL or not at:
                self._faults.append(f"ended with status {status}: {child.log_tail(1)}")
                return
            self._where = self._passed()[-1]
            if self._behind is not None:
                cut_power(self._state, self._record, self._behind)
                # An object that nobody had seen yet, and of which no disk has a word, is nobody's to find.
                known = {} if Behind.LOG in self._behind else await objects(self._bucket, self._prefix)
                left = dict(_digests(self._hls, self._state))
                self._perished = self._finished.keys() - known.keys() - left.keys()

    def _passed(self) -> list[str]:
        return [fact["what"] for fact in facts(self._record) if "what" in fact]

    async def _write(self, watcher: Watcher) -> None:
        """Be the encoder, and what makes the folder anew between its runs."""
        begin = datetime.now(UTC) - timedelta(seconds=30)
        for run in range(2):
            if run:
                await self._taken_in(watcher)
                shutil.rmtree(self._hls)
            start = begin + timedelta(seconds=run * (self._mode.segments + 2))
            writers = [Writer(self._hls / variant, self._mode, run, start) for variant in VARIANTS]
            (self._hls / "stream.m3u8").write_text(MULTIVARIANT)
            for number in range(self._mode.segments):
                for writer in writers:
                    body = writer.segment(number).read_bytes()
                    writer.playlist(range(max(0, number + 1 - LISTED), number + 1))
                    name = f"run {run}/{writer.folder.name}/{writer.name(number)}"
                    self._finished[hashlib.sha256(body).hexdigest()] = name
                await asyncio.sleep(PAUSE)

    def _be_live(self) -> None:
        """Touch its playlists, as an encoder does: what is left alone for long is no live stream when met."""
        for playlist in self._hls.glob("*/stream.m3u8"):
            playlist.touch()

    async def _taken_in(self, watcher: Watcher) -> None:
        """Wait until all of it is in the spool or listed: nobody can save what the next start removes."""

        async def has_all() -> bool:
            self._be_live()
            spooled = {(digest, place(path)) for digest, path in _digests(self._state / "spool")}
            listed = {place(url) for url in watcher.listed.values()}
            wanted = {
                (variant, place(name))
                for variant, name in self._finished.items()
                if variant not in self._perished
            }
            return all(name in listed for _, name in wanted - spooled)

        if not await _in_time(has_all):
            self._faults.append("not taken in before the next run")

    async def _evidence(self, watcher: Watcher) -> Evidence:
        stored = await objects(self._bucket, self._prefix)
        return Evidence(watcher, list(facts(self._record)), stored, self._finished, self._perished)

    async def _backlog(self) -> object:
        """How many segments are on their way; None while the service does not answer."""
        with contextlib.suppress(aiohttp.ClientError, ConnectionError, TimeoutError):
            return (await self._service.health())["backlog"]
        return None

    async def _settle(self, watcher: Watcher) -> None:
        """Wait until everything is listed, or nothing new has come for a while."""
        loop = asyncio.get_running_loop()
        seen, since = -1, loop.time()

        async def is_still() -> bool:
            nonlocal seen, since
            self._be_live()
            numbers = [(fact["variant"], fact["number"]) for fact in facts(self._record) if "listed" in fact]
            listed = len(numbers)
            busy = await self._backlog() != 0 or not watcher.is_answered  # viewers come later than /health
            if busy or listed != seen:
                seen, since = listed, loop.time()
            if busy:
                return False
            # Numbers decide nothing: what perished on the disks may have been shown before the cut.
            evidence = await self._evidence(watcher)
            is_seen = all(watcher.last(variant) >= number for variant, number in numbers)
            return loop.time() - since > QUIET or (is_seen and not evidence.lost(deleted=self._mode.deleted))

        async def only_listed_is_left() -> bool:
            stored = await objects(self._bucket, self._prefix)
            return {url for urls in stored.values() for url in urls} <= listed_now(watcher)

        if not await _in_time(is_still):
            self._faults.append("something is still on its way")
        if self._mode.deleted:
            await _in_time(only_listed_is_left)


async def _in_time(probe: Callable[[], Awaitable[bool]]) -> bool:
    """Whether it came true."""
    try:
        async with asyncio.timeout(PATIENCE):
            await poll(probe)
    except TimeoutError:
        return False
    return True


def _digests(*folders: Path) -> Iterator[tuple[str, str]]:
    """SHA-256 and path of every file that is there."""
    for folder, _, names in itertools.chain.from_iterable(map(os.walk, folders)):
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                yield hashlib.sha256(path.read_bytes()).hexdigest(), str(path)
