"""Keeps the playlists of recordings, and their index, in the bucket as the catalog has the recordings.

What the bucket does not have yet, the catalog knows: after a failure or a restart it is written then. Nothing
waits for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import posixpath
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

from broadcaster.catalog import Catalog
from broadcaster.catalog.index import details, of_clip, pages
from broadcaster.catalog.recordings import Recordings
from broadcaster.catalog.views import Clip, Part, Recorded, Recording, covering
from broadcaster.delivery.rendering import multivariant_of, rendered
from broadcaster.delivery.shelf import Shelf, ShelfStore
from broadcaster.errors import CatalogError, StorageError
from broadcaster.events import Event, StreamEnded, StreamStarted
from broadcaster.hls import MediaSegment
from broadcaster.hls.recorded import RecordedPlaylist
from broadcaster.live.attributes import PLAYLIST
from broadcaster.retrying import Retrying

logger = logging.getLogger(__name__)

EVERY = 14.0  # seconds between two versions while a stream is on
INTERVAL = 1.0  # seconds between two writes of one key: R2 takes no more (429)
MAX_PAUSE, MAX_DOUBLINGS = 15.0, 4  # seconds between two attempts
EVENT_AGE, VOD_AGE, INDEX_AGE = 2, 60, 5  # seconds for which caches may keep it

Show = Callable[[Sequence[Recording], Mapping[str, Sequence[Part]], Sequence[Clip]], None]


class _Growing:
    """The playlists of a part or a clip by variant, as far as its segments were read.

    Addresses are relative to a media playlist in the folder that is given.
    """

    def __init__(self) -> None:
        self.playlists: dict[str, RecordedPlaylist] = {}
        # The position of each one's newest segment: what was noticed first need not be listed first.
        self._read: dict[str, int] = {}
        self._first: int | None = None  # discontinuity number

    async def grow(self, book: Recordings, part: int, folder: str) -> None:
        """Read what is new."""
        while found := await book.segments(part, self._read):
            self._read |= {one.variant: one.position for one in found}
            self.add(found, folder)

    def add(self, found: Sequence[Recorded], folder: str) -> None:
        """Add the next segments of their variants."""
        if self._first is None:  # a variant may have begun in an earlier run than the one that was met first
            self._first = min((one.discontinuity for one in found), default=0)
        for one in found:
            self._add(one, f"{folder}/{one.variant}", self._first)

    def _add(self, one: Recorded, folder: str, first: int) -> None:
        if one.variant not in self.playlists:
            self.playlists[one.variant] = RecordedPlaylist(one.target_duration, first)
        segment = MediaSegment(
            uri=_address(one.key, folder),
            duration=one.duration,
            map_uri=_address(one.map_key, folder) if one.map_key and not one.gap else None,
            program_date_time=one.time,
            gap=one.gap,
            iframe=one.iframe,
        )
        self.playlists[one.variant].append(
            segment, discontinuity=one.discontinuity, independent=one.independent, size=one.size
        )


class Recorder:
    """Writes below ``{prefix}/recordings/`` and ``clips/``; call it with each event, and let ``run`` work.

    ``title`` is what the stream is called that is on, where that is known; ``show`` is told of all that the
    bucket has, newest first; ``sleep`` lets seconds pass.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        store: ShelfStore,
        catalog: Catalog,
        prefix: str,
        *,
        title: Callable[[], str | None] = lambda: None,
        show: Show | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.lock = asyncio.Lock()  # while it is held, nothing is removed or moved
        self._book, self._clips = catalog.recordings, catalog.clips
        self._prefixes = catalog.prefixes(prefix)
        self._folder, self._clip_folder = f"{prefix}/recordings", f"{prefix}/clips"
        self._title = title
        self._show = show
        self._sleep = sleep
        self._shelf = Shelf(store)
        self._retrying = Retrying("writes of recordings", sleep=sleep)
        self._growing: dict[int, _Growing] = {}  # by part
        self._placed: dict[str, str] = {}  # folders outside which nothing is left, of what is on
        self._news = asyncio.Event()
        self._broken = False

    def __call__(self, event: Event) -> None:
        """Take note of an event: what begins or ends is written at once."""
        if isinstance(event, StreamStarted | StreamEnded):
            self.tell()

    def tell(self) -> None:
        """Something was changed that has to be written."""
        self._news.set()

    @property
    def fault(self) -> str | None:
        """Why recordings cannot be written at the moment."""
        told = self._retrying.fault.message if self._retrying.fault else None
        return "see the log" if self._broken else told

    async def run(self) -> None:
        """Write until cancelled; first what an earlier process has left."""
        failures = 0
        while True:
            self._news.clear()
            try:
                async with self.lock:
                    await self.write()
            except StorageError as error:
                self._retrying.failed(error)
                await self._retrying.pause(min(INTERVAL * 2**failures, MAX_PAUSE))
                failures = min(failures + 1, MAX_DOUBLINGS)
                continue
            except CatalogError as error:
                logger.warning("recordings are not written now: %s", error)
            except Exception:
                if not self._broken:  # and never is a stream ended for it
                    logger.exception("recordings cannot be written; please report this")
                self._broken = True
            else:
                self._retrying.worked()
                failures, self._broken = 0, False
            await self._sleep(INTERVAL)
            news = asyncio.ensure_future(self._news.wait())
            pause = asyncio.ensure_future(self._sleep(EVERY - INTERVAL))
            try:
                await asyncio.wait((news, pause), return_when=asyncio.FIRST_COMPLETED)
            finally:
                news.cancel()
                pause.cancel()

    async def write(self) -> None:
        """Bring the bucket up to date; raises StorageError or CatalogError."""
        await self._write_recordings()
        for clip in await self._clips.unwritten():
            await self._write_clip(clip)
            await self._clips.written(clip)
        for clip in await self._clips.removed():
            await self._clear(f"clips/{clip.id}/")
            await self._clips.release(clip)
        if self._show:
            self._show(await self._book.all(), await self._book.parts(), await self._clips.all())

    async def _write_recordings(self) -> None:
        await self._book.measure(self._title())
        over = {one.id: one for one in await self._book.expired()}
        # What begins from here on has its turn next time: the index names nothing before it is there.
        listed = {one.id: one for one in await self._book.all() if one.id not in over}
        written = [one for one in await self._book.unwritten() if one.id in listed]
        if not written and not over:
            return
        parts = await self._book.parts()
        for recording in written:
            await self._write(recording, parts[recording.id])
        listed |= {one.id: one for one in written}
        for name, text in reversed(pages(list(listed.values()), parts).items()):
            await self._shelf.put(f"{self._folder}/{name}", text, INDEX_AGE)
        for recording in over.values():
            await self._clear(f"recordings/{recording.id}")
            await self._book.remove(recording)
            logger.info("recording %s is removed", recording.id)
        for recording in written:
            await self._book.written(recording)
            if recording.ended:
                logger.info("recording %s is in the bucket: %s", recording.id, recording.duration)

    async def _write(self, recording: Recording, parts: Sequence[Part]) -> None:
        folder, keys = f"{self._folder}/{recording.folder}", set[str]()

        async def put(key: str, text: str, max_age: int) -> None:
            keys.add(key)
            await self._shelf.put(key, text, max_age)

        for count, part in enumerate(parts, 1):
            ended = recording.ended is not None or part is not parts[-1]
            base = folder if count == 1 else f"{folder}/part-{count}"
            growing = self._growing.setdefault(part.number, _Growing())
            await growing.grow(self._book, part.number, base)
            age = VOD_AGE if ended else EVENT_AGE
            main = multivariant_of(part, growing.playlists)
            for variant, recorded in growing.playlists.items():
                playlist = recorded.playlist(ended=ended)
                for name, text in (await asyncio.to_thread(rendered, variant, playlist, main)).items():
                    await put(f"{base}/{name}", text, age)
            await put(f"{base}/{PLAYLIST}", main.render(), age)
        await put(f"{folder}/recording.json", details(recording, parts), VOD_AGE)
        is_elsewhere = self._placed.get(recording.id) != folder
        if recording.ended or recording.folder != recording.id or is_elsewhere:
            await self._clear(f"recordings/{recording.id}", keys, folder)
            self._placed[recording.id] = folder
        if recording.ended:
            del self._placed[recording.id]
            self._shelf.forget(folder)
            for part in parts:
                del self._growing[part.number]

    async def _write_clip(self, clip: Clip) -> None:
        """A clip is VOD of whole segments, which begins at the exact point (EXT-X-START, §4.4.2.2)."""
        folder, growing = f"{self._clip_folder}/{clip.id}", _Growing()
        segments = await self._clips.segments(clip)
        whole = covering(segments, clip)
        growing.add([one for one in segments if one.variant in whole], folder)
        main = multivariant_of(clip, growing.playlists)
        for variant, recorded in growing.playlists.items():
            first = next(one.time for one in segments if one.variant == variant)
            playlist = recorded.playlist(ended=True, start=clip.begin - first)
            for name, text in rendered(variant, playlist, main).items():
                await self._shelf.put(f"{folder}/{name}", text, VOD_AGE)
        await self._shelf.put(f"{folder}/{PLAYLIST}", main.render(), VOD_AGE)
        await self._shelf.put(f"{folder}/clip.json", json.dumps(of_clip(clip)), VOD_AGE)
        for prefix in self._prefixes[:-1]:
            await self._shelf.clear(f"{prefix}/clips/{clip.id}/", album=folder)
        self._shelf.forget(folder)

    async def _clear(self, name: str, keep: Iterable[str] = (), album: str | None = None) -> None:
        """Delete what begins so, under whichever prefix it was written, but pictures that an album takes."""
        for prefix in self._prefixes:
            await self._shelf.clear(f"{prefix}/{name}", keep, album)


def _address(key: str, folder: str) -> str:
    return quote(posixpath.relpath(key, folder))
