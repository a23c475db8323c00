"""The posters of recordings and clips, and the decoded frames of which they are made.

While a stream is recorded, one frame in ten seconds is kept in the state folder. The poster of a recording
is one of these frames; without any, and for clips, a frame is decoded from a segment in the bucket. A poster
that ffmpeg cannot make is left out. If the bucket fails, the poster is tried again later.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

from broadcaster.bucket.conditional import DEADLINE, PICTURE_AGE, ConditionalStore, ConditionalWriter
from broadcaster.catalog import Catalog
from broadcaster.catalog.references import ROUNDING, Clip, Part, Recorded, Recording
from broadcaster.errors import BroadcasterError, CatalogError, PictureError, StorageError
from broadcaster.own_files import own_folder
from broadcaster.recordings.frame_grabber import Ffmpeg, variant_for_posters
from broadcaster.recordings.writer import POSTER

MOST = 10_000  # files: a recording of a day has 8,640
UNFINISHED = "unfinished"
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


class KeptFrames:
    """A folder of JPEGs by the times of what they show. All of it reads or writes files; raises OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, time: datetime, picture: bytes) -> None:
        """Take one in. Past 10,000 the oldest goes."""
        own_folder(self._folder)
        unfinished = self._folder / UNFINISHED
        unfinished.write_bytes(picture)
        unfinished.replace(self._path(time))
        self.drop(self.times()[:-MOST])

    def times(self) -> list[datetime]:
        """What there is, oldest first."""
        names = (path.stem for path in self._folder.glob("*.jpg"))
        return sorted(_EPOCH + int(name) * _MILLISECOND for name in names if name.isdecimal())

    def read(self, times: Iterable[datetime]) -> list[bytes]:
        """These pictures."""
        return [self._path(time).read_bytes() for time in times]

    def drop(self, times: Iterable[datetime]) -> None:
        """Nobody needs these any more."""
        for taken in times:
            self._path(taken).unlink(missing_ok=True)

    def drop_until(self, end: datetime, needed: Sequence[tuple[datetime, datetime]]) -> None:
        """Drop what there is up to ``end``, but what lies between two times that are ``needed``."""
        past = [time for time in self.times() if time <= end]
        self.drop(time for time in past if not any(begin <= time <= last for begin, last in needed))

    def _path(self, time: datetime) -> Path:
        return self._folder / f"{(time - _EPOCH) // _MILLISECOND}.jpg"


logger = logging.getLogger(__name__)

EVERY = 10.0  # seconds between two passes
PAUSE, MAX_PAUSE, MAX_DOUBLINGS = 15.0, 3600.0, 8  # seconds before something is tried again
INTO_IT = timedelta(seconds=20)  # where the first poster of a recording is from
LARGEST = 2**25  # bytes of a segment that is read back


class _GoneError(BroadcasterError):
    """What the picture is of was removed, or moved, meanwhile."""


class Album:
    """Writes pictures below ``recordings/`` and ``clips/`` of the ``prefix``.

    ``lock`` is the recorder's: while it is held, nothing is removed or moved. ``tell`` has the recorder write
    what is new; ``sleep`` lets seconds pass.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        store: ConditionalStore,
        catalog: Catalog,
        ffmpeg: Ffmpeg,
        frames: KeptFrames,
        prefix: str,
        *,
        lock: asyncio.Lock,
        tell: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._recordings, self._clips = catalog.recordings, catalog.clips
        self._ffmpeg = ffmpeg
        self._frames = frames
        self._prefix = prefix
        self._lock = lock
        self._tell = tell
        self._clock = clock
        self._sleep = sleep
        self._objects = ConditionalWriter(store)
        self._failures: dict[str, tuple[int, float]] = {}  # by id: how many, and when it may be tried again

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._sleep(EVERY)
            try:
                await self.work()
            except CatalogError as error:
                logger.warning("recordings get no pictures now: %s", error)

    async def work(self) -> None:
        """Make what is missing, of one recording that has ended at most; raises CatalogError."""
        recordings = await self._recordings.all()
        for recording in recordings:
            if not (recording.ended or recording.poster):
                await self._try(recording, partial(self._begin, recording))
        for recording in (one for one in recordings if one.ended and not one.pictured):
            if await self._try(recording, partial(self._finish, recording)):
                break
        for clip in await self._clips.all():
            if not clip.pictured:
                await self._try(clip, partial(self._of_clip, clip))

    async def _try(self, one: Recording | Clip, work: Callable[[], Awaitable[None]]) -> bool:
        """Do it, unless it failed a short time ago: that holds up no other. Returns whether it was tried."""
        failures, again = self._failures.get(one.id, (0, 0.0))
        if self._clock() < again:
            return False
        try:
            await work()
        except _GoneError:
            pass
        except (StorageError, OSError) as error:
            pause = min(PAUSE * 2**failures, MAX_PAUSE)
            self._failures[one.id] = (min(failures + 1, MAX_DOUBLINGS), self._clock() + pause)
            logger.warning("%s gets its pictures later: %s", one.id, error)
        else:
            self._failures.pop(one.id, None)
        return True

    async def _begin(self, recording: Recording) -> None:
        """A poster for the time while it is on."""
        for frame in await asyncio.to_thread(self._frames.times):
            if frame >= recording.started + INTO_IT:
                (picture,) = await asyncio.to_thread(self._frames.read, [frame])
                await self._put(recording, f"{_folder(recording)}/{POSTER}", picture)
                await self._note(recording, poster=True)
                return

    async def _finish(self, recording: Recording) -> None:
        """Its poster is from a third of its length; frames that no other recording needs are deleted."""
        parts = (await self._recordings.parts())[recording.id]
        timeline = [segment for part in parts for segment in await self._timeline(part)]
        picture = await self._at_a_third(timeline)
        if picture:
            await self._put(recording, f"{_folder(recording)}/{POSTER}", picture)
        self._objects.forget(f"{self._prefix}/{_folder(recording)}")
        poster = recording.poster or picture is not None
        await self._note(recording, poster=poster, pictured=True)
        end = recording.ended or recording.started
        every = (*await self._recordings.all(), *await self._recordings.bin())
        others = [one for one in every if not one.pictured]
        needed = [(one.started, one.ended or end) for one in others]
        await asyncio.to_thread(self._frames.drop_until, end, needed)

    async def _at_a_third(self, timeline: Sequence[Recorded]) -> bytes | None:
        """The kept frame of the recording that is nearest to a third of it, else a frame of that segment."""
        third = sum((segment.duration for segment in timeline), timedelta()) / 3
        passed = timedelta()
        for segment in timeline:
            passed += segment.duration
            if passed > third and not segment.gap:
                begin, end = timeline[0].time, timeline[-1].time + timeline[-1].duration
                times = await asyncio.to_thread(self._frames.times)
                frames = [time for time in times if begin <= time < end]
                if frames:
                    nearest = min(frames, key=lambda time: abs(time - segment.time))
                    return (await asyncio.to_thread(self._frames.read, [nearest]))[0]
                return await self._picture_of(segment, None)
        return None

    async def _of_clip(self, clip: Clip) -> None:
        """Its poster is what it begins with."""
        variant = variant_for_posters(clip.described.variants)
        segments = [one for one in await self._clips.segments(clip) if not one.gap]
        ours = [one for one in segments if one.variant == variant] or segments
        for one in ours:
            if one.time + one.duration > clip.begin + ROUNDING:
                picture = await self._picture_of(one, max(clip.begin - one.time, timedelta()))
                break
        else:
            picture = None
        if picture:
            await self._put(clip, f"{_folder(clip)}/{POSTER}", picture)
        await self._note(clip, poster=picture is not None)

    async def _picture_of(self, one: Recorded, at: timedelta | None) -> bytes | None:
        """Of a segment in the bucket; None where there can be none."""
        if one.size > LARGEST:
            return None
        keys = [key for key in (one.map_key, one.key) if key]
        media = b"".join([await self._store.get(key, deadline=DEADLINE) for key in keys])
        for moment in (at, None):  # there may be no frame so near to its end
            with suppress(PictureError):
                return await self._ffmpeg.frame(media, moment)
        return None

    async def _timeline(self, part: Part) -> list[Recorded]:
        """The part by one of its variants."""
        found: list[Recorded] = []
        read: dict[str, int] = {}
        variant = variant_for_posters(part.described.variants)
        while more := await self._recordings.segments(part.number, read):
            read |= {one.variant: one.position for one in more}
            variant = variant if variant in read else min(read)
            found += [one for one in more if one.variant == variant]
        return found

    async def _put(self, one: Recording | Clip, name: str, content: bytes) -> None:
        """Write it; raises _GoneError, and leaves nothing, where nobody would find it."""
        key = f"{self._prefix}/{name}"
        await self._objects.put(key, content, PICTURE_AGE)
        async with self._lock:
            if not await self._is_there(one):
                await self._objects.remove([key])
                raise _GoneError

    async def _note(self, one: Recording | Clip, *, poster: bool, pictured: bool = False) -> None:
        async with self._lock:
            if not await self._is_there(one):
                raise _GoneError
            if isinstance(one, Clip):
                await self._clips.pictured(one.id, poster=poster)
            else:
                await self._recordings.change(one.id, poster=poster, pictured=pictured)
        self._tell()

    async def _is_there(self, one: Recording | Clip) -> bool:
        """Whether it is still there, and where it was."""
        known = await (self._clips.all() if isinstance(one, Clip) else self._recordings.all())
        return any(other.id == one.id and _folder(other) == _folder(one) for other in known)


def _folder(one: Recording | Clip) -> str:
    return f"clips/{one.folder}" if isinstance(one, Clip) else f"recordings/{one.folder}"
