"""The live poster, the posters of recordings and clips, and the decoded frames of which they are made.

The first key frame of a segment is decoded every 10 seconds, while the segment is in the spool. Every second
frame becomes the live poster. While a stream is recorded, each frame is kept in the state folder. The poster
of a recording is one of these frames; without any, and for clips, a frame is decoded from a segment in the
bucket. A poster that ffmpeg cannot make is left out. If the bucket fails, the poster is tried again later.
Publishing never waits for a poster.
"""

from __future__ import annotations

import asyncio
import logging
import math
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

from broadcaster.aio import LogLimiter, Retrying
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import DEADLINE, PICTURE_AGE, ConditionalWriter
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import (
    ROUNDING,
    Clip,
    Part,
    Recording,
    RecordingSegment,
    Segment,
    unguessable,
)
from broadcaster.config import Settings
from broadcaster.errors import BroadcasterError, CatalogError, EncoderError, PictureError, StorageError
from broadcaster.events import Event, SegmentPublished, StreamEnded
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.ipc.messages import View
from broadcaster.metrics import Metric
from broadcaster.own_files import own_folder
from broadcaster.owncast import picture
from broadcaster.recordings.frame_grabber import Ffmpeg, variant_for_posters
from broadcaster.recordings.writer import POSTER, Recorder
from broadcaster.upload.spool import Spool

logger = logging.getLogger(__name__)

MOST = 10_000  # files: a recording of a day has 8,640
UNFINISHED = "unfinished"
EVERY = 10.0  # seconds between two passes
PAUSE, MAX_PAUSE, MAX_DOUBLINGS = 15.0, 3600.0, 8  # seconds before a poster is tried again
INTO_IT = timedelta(seconds=20)  # where the first poster of a recording is from
LARGEST = 2**25  # bytes of a segment that is read back
STEP = timedelta(seconds=10)  # one frame is decoded in each
RENEW = 15.0  # seconds; with one frame in ten seconds, the live poster is written every 20 seconds
AGE = 10  # seconds for which caches may keep the live poster
OWNCAST_AGE = 60.0  # seconds: Owncast renews its preview every 20 s, from a segment of before
HEAD = 2**22  # bytes of a segment; its first key frame is at the beginning
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


class KeyFrameFolder:
    """A folder of decoded frames (JPEG), by time. All methods read or write files and raise OSError."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, time: datetime, picture: bytes) -> None:
        """Store a frame. Above 10,000 frames the oldest is deleted."""
        own_folder(self._folder)
        unfinished = self._folder / UNFINISHED
        unfinished.write_bytes(picture)
        unfinished.replace(self._path(time))
        self.drop(self.times()[:-MOST])

    def times(self) -> list[datetime]:
        """Times of all frames, oldest first."""
        names = (path.stem for path in self._folder.glob("*.jpg"))
        return sorted(_EPOCH + int(name) * _MILLISECOND for name in names if name.isdecimal())

    def read(self, time: datetime) -> bytes:
        """The frame of a time."""
        return self._path(time).read_bytes()

    def drop(self, times: Iterable[datetime]) -> None:
        """Delete the frames of these times."""
        for moment in times:
            self._path(moment).unlink(missing_ok=True)

    def drop_until(self, end: datetime, needed: Sequence[tuple[datetime, datetime]]) -> None:
        """Delete the frames up to ``end``, except those within a ``needed`` (begin, end) range."""
        past = [time for time in self.times() if time <= end]
        self.drop(time for time in past if not any(begin <= time <= last for begin, last in needed))

    def _path(self, time: datetime) -> Path:
        return self._folder / f"{(time - _EPOCH) // _MILLISECOND}.jpg"


class _GoneError(BroadcasterError):
    """The recording or clip was removed or moved meanwhile."""


class RecordingPosters:
    """Writes posters below ``recordings/`` and ``clips/`` of the ``prefix``.

    ``lock`` is the recorder's: while it is held, no recording is removed or moved. ``on_change`` is called
    after each change, so that the index is written.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        store: ObjectStore,
        catalog: Catalog,
        ffmpeg: Ffmpeg,
        frames: KeyFrameFolder,
        prefix: str,
        *,
        lock: asyncio.Lock,
        on_change: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._catalog, self._recordings, self._clips = catalog, catalog.recordings, catalog.clips
        self._ffmpeg = ffmpeg
        self._frames = frames
        self._prefix = prefix
        self._lock = lock
        self._on_change = on_change
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
                logger.warning("recordings get no posters now: %s", error)

    async def work(self) -> None:
        """Make the missing posters, of at most one ended recording a pass; raises CatalogError.

        There are none while the catalog is behind the bucket: the recording may get another ID.
        """
        if self._catalog.is_behind:
            return
        recordings = await self._recordings.all()
        for recording in recordings:
            if not (recording.ended or recording.poster):
                await self._try(recording, partial(self._begin, recording))
        for recording in recordings:
            is_due = recording.ended and not recording.pictured
            if is_due and await self._try(recording, partial(self._finish, recording)):
                break
        for clip in await self._clips.all():
            if not clip.pictured:
                await self._try(clip, partial(self._of_clip, clip))

    async def _try(self, view: Recording | Clip, work: Callable[[], Awaitable[None]]) -> bool:
        """Do the work, unless it failed a short time ago. Returns whether it was tried."""
        failures, again = self._failures.get(view.id, (0, 0.0))
        if self._clock() < again:
            return False
        try:
            await work()
        except _GoneError:
            pass
        except (StorageError, OSError) as error:
            pause = min(PAUSE * 2**failures, MAX_PAUSE)
            self._failures[view.id] = (min(failures + 1, MAX_DOUBLINGS), self._clock() + pause)
            logger.warning("%s gets its poster later: %s", view.id, error)
        else:
            self._failures.pop(view.id, None)
        return True

    async def _begin(self, recording: Recording) -> None:
        """Write the poster of a recording that is still going on."""
        for frame in await asyncio.to_thread(self._frames.times):
            if frame >= recording.started + INTO_IT:
                picture = await asyncio.to_thread(self._frames.read, frame)
                await self._put(recording, picture)
                await self._note(recording, poster=True)
                return

    async def _finish(self, recording: Recording) -> None:
        """Write the final poster, from a third of the length; delete frames that no other recording needs."""
        parts = (await self._recordings.parts())[recording.id]
        timeline = [segment for part in parts for segment in await self._timeline(part)]
        picture = await self._at_a_third(timeline)
        if picture:
            await self._put(recording, picture)
        self._objects.forget(f"{self._prefix}/{_folder(recording)}")
        poster = recording.poster or picture is not None
        await self._note(recording, poster=poster, pictured=True)
        end = recording.ended or recording.started
        every = (*await self._recordings.all(), *await self._recordings.bin())
        needed = [(other.started, other.ended or end) for other in every if not other.pictured]
        await asyncio.to_thread(self._frames.drop_until, end, needed)

    async def _at_a_third(self, timeline: Sequence[RecordingSegment]) -> bytes | None:
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
                    return await asyncio.to_thread(self._frames.read, nearest)
                return await self._picture_of(segment, None)
        return None

    async def _of_clip(self, clip: Clip) -> None:
        """Write the poster of a clip: its first frame."""
        variant = variant_for_posters(clip.described.variants)
        segments = [segment for segment in await self._clips.segments(clip) if not segment.gap]
        smallest = [segment for segment in segments if segment.variant == variant] or segments
        picture = None
        for segment in smallest:
            if segment.time + segment.duration > clip.begin + ROUNDING:
                picture = await self._picture_of(segment, max(clip.begin - segment.time, timedelta()))
                break
        if picture:
            await self._put(clip, picture)
        await self._note(clip, poster=picture is not None)

    async def _picture_of(self, segment: RecordingSegment, at: timedelta | None) -> bytes | None:
        """A frame of a segment in the bucket; None if ffmpeg cannot decode it."""
        if segment.size > LARGEST:
            return None
        keys = [key for key in (segment.map_key, segment.key) if key]
        media = b"".join([await self._store.get(key, deadline=DEADLINE) for key in keys])
        for moment in (at, None):  # there may be no frame so close to the end
            with suppress(PictureError):
                return await self._ffmpeg.frame(media, moment)
        return None

    async def _timeline(self, part: Part) -> list[RecordingSegment]:
        """Segments of the part, of one variant."""
        found: list[RecordingSegment] = []
        read: dict[str, int] = {}
        variant = variant_for_posters(part.described.variants)
        while more := await self._recordings.segments(part.number, read):
            read |= {segment.variant: segment.position for segment in more}
            variant = variant if variant in read else min(read)
            found += [segment for segment in more if segment.variant == variant]
        return found

    async def _put(self, view: Recording | Clip, content: bytes) -> None:
        """Write a poster; if its recording or clip is gone, delete the poster and raise _GoneError."""
        key = f"{self._prefix}/{_folder(view)}/{POSTER}"
        await self._objects.put(key, content, PICTURE_AGE)
        async with self._lock:
            if not await self._is_there(view):
                await self._objects.remove([key])
                raise _GoneError

    async def _note(self, view: Recording | Clip, *, poster: bool, pictured: bool = False) -> None:
        async with self._lock:
            if not await self._is_there(view):
                raise _GoneError
            if isinstance(view, Clip):
                await self._clips.pictured(view.id, poster=poster)
            else:
                await self._recordings.change(view.id, poster=poster, pictured=pictured)
        self._on_change()

    async def _is_there(self, view: Recording | Clip) -> bool:
        """Whether the recording or clip still exists in the same folder."""
        known = await (self._clips.all() if isinstance(view, Clip) else self._recordings.all())
        return any(other.id == view.id and other.folder == view.folder for other in known)


def _folder(view: Recording | Clip) -> str:
    return f"clips/{view.folder}" if isinstance(view, Clip) else f"recordings/{view.folder}"


@dataclass(frozen=True, slots=True)
class _DueFrame:
    """A segment of which a frame is due. Its open file stays readable after the spool deletes it."""

    time: datetime
    map_key: str | None
    hidden: bool  # from viewers
    file: Future[BinaryIO] | None  # as the spool opens it


class LivePoster:
    """Writes the poster of the running stream. Call it with each event; ``run`` does the work.

    ``url`` is the public URL of the bucket, ``view`` returns the current playlists. Frames for recordings are
    kept in ``frames``. While ``hidden`` nothing of the stream is for viewers, who may know the poster's
    address from an earlier time. ``owncast_picture`` fetches Owncast's preview, which is preferred, and the
    only source without ``ffmpeg``; not for a minute after ``hidden``, as it may be of before. A private
    event, which has ``names``, may have been hidden until the process began.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        store: ObjectStore,
        spool: Spool,
        ffmpeg: Ffmpeg | None,
        frames: KeyFrameFolder | None,
        *,
        prefix: str,
        url: str,
        names: bytes = b"",
        view: Callable[[], View],
        hidden: Callable[[], bool] = lambda: False,
        owncast_picture: Callable[[], Awaitable[bytes]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.poster: str | None = None  # URL of the live poster, while there is one
        self._store = store
        self._spool = spool
        self._ffmpeg = ffmpeg
        self._frames = frames
        self._key = unguessable(f"{prefix}/{POSTER}", names)
        self._url = f"{url}/{self._key}"
        self._view = view
        self._hidden = hidden
        self._owncast_picture = owncast_picture
        self._clock = clock
        self._objects = ConditionalWriter(store)
        self._retrying = Retrying("writes of the live poster")
        self._last: datetime | None = None  # the time of the latest segment that was taken
        self._due: _DueFrame | None = None
        self._changed = asyncio.Event()
        self._renewed = float("-inf")  # by the clock
        self._was_hidden = clock() if names else float("-inf")  # the last time, by the clock
        self.picture: bytes | None = None  # the poster itself (JPEG)
        self.pictured: datetime | None = None  # the time of its frame
        self._is_on = False
        self._streams = 0  # that have ended
        self._map: tuple[str | None, bytes] = (None, b"")  # the latest EXT-X-MAP
        self._log = LogLimiter(math.inf)  # later failures are only counted

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if self._hidden():
            self._was_hidden = self._clock()
        match event:
            case SegmentPublished(segment=segment) if segment.time and not segment.gap:
                self._is_on = True
                if is_due(segment.time, self._last):
                    self._take(segment, segment.time)
            case StreamEnded(going_on=False):
                self._is_on, self.poster, self.picture = False, None, None
                self._streams += 1

    async def run(self) -> None:
        """Work until cancelled. Failures are logged, not raised."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self.work()
            except StorageError as error:
                self._retrying.failed(error)
            except OSError as error:
                self._note_failure(error)
            else:
                self._retrying.worked()

    async def work(self) -> None:
        """Make the frame that is due; raises StorageError or OSError."""
        due, self._due = self._due, None
        if due is None:
            return
        streams = self._streams
        is_turn = self._clock() - self._renewed >= RENEW
        is_of_now = self._hidden() or self._clock() - self._was_hidden > OWNCAST_AGE
        picture = await self._from_owncast() if is_turn and is_of_now else None
        media = await asyncio.to_thread(_head, due.file) if due.file else b""
        if media and self._ffmpeg and (self._frames or (is_turn and picture is None)):
            made = await self._frame(self._ffmpeg, due, media)
            picture = picture or made
        if is_turn and picture:
            self._renewed = self._clock()
            self.picture, self.pictured = picture, due.time
            if due.hidden or self._hidden():
                return
            await self._objects.put(self._key, picture, AGE)
            self.poster = self._url if self._is_on and streams == self._streams else None

    def _take(self, segment: Segment, when: datetime) -> None:
        """Open the file of a segment. The spool keeps it until all observers have handled the event."""
        main = self._view().main
        if main and poster_variant(main.playlist) not in (None, segment.variant):
            return
        file = self._spool.open(segment.key) if self._ffmpeg else None
        if file is None and self._owncast_picture is None:
            return
        if self._due and self._due.file:
            self._due.file.add_done_callback(_close)
        self._last, self._due = when, _DueFrame(when, segment.map_key, self._hidden(), file)
        self._changed.set()

    async def _from_owncast(self) -> bytes | None:
        with suppress(EncoderError):
            picture = await self._owncast_picture() if self._owncast_picture else b""
            return picture if picture.startswith(b"\xff\xd8") else None
        return None

    async def _frame(self, ffmpeg: Ffmpeg, due: _DueFrame, media: bytes) -> bytes | None:
        """Decode a frame, and keep it for recordings. Returns None if that fails."""
        made = None
        try:
            if due.map_key and due.map_key != self._map[0]:
                self._map = due.map_key, await self._store.get(due.map_key, deadline=DEADLINE)
            made = await ffmpeg.frame((self._map[1] if due.map_key else b"") + media)
            if self._frames:
                await asyncio.to_thread(self._frames.keep, due.time, made)
        except (PictureError, OSError) as error:
            self._note_failure(error)
        return made

    def _note_failure(self, error: PictureError | OSError) -> None:
        if self._log.allows("frame"):
            logger.warning("the stream has no poster now, and goes on without: %s", error)


def _head(opened: Future[BinaryIO]) -> bytes:
    try:
        file = opened.result()
    except OSError:
        return b""  # the spool has deleted the file
    with file:
        return file.read(HEAD)


def _close(opened: Future[BinaryIO]) -> None:
    if opened.exception() is None:
        opened.result().close()


class Posters:
    """The live poster and the posters of recordings, as far as settings and ffmpeg allow them.

    Call it with each event; ``run`` does the work.
    """

    def __init__(  # noqa: PLR0913 - all parts that it connects
        self,
        settings: Settings,
        store: ObjectStore,
        catalog: Catalog,
        spool: Spool,
        recorder: Recorder,
        *,
        view: Callable[[], View],
        hidden: Callable[[], bool],
        names: bytes = b"",
    ) -> None:
        program = program_of(settings)
        self._ffmpeg = Ffmpeg(program) if program else None
        self._recordings: RecordingPosters | None = None
        self._live: LivePoster | None = None
        if not is_enabled(settings):
            return
        if program is None:
            logger.info("no pictures are made: there is no %s (BROADCASTER_PICTURES)", settings.pictures)
        frames = KeyFrameFolder(settings.state_dir / "pictures")
        self._live = LivePoster(
            store,
            spool,
            self._ffmpeg,
            frames if settings.recordings != timedelta() else None,
            prefix=settings.prefix,
            url=str(settings.public_url),
            names=names,
            view=view,
            hidden=hidden,
            owncast_picture=partial(picture, settings.owncast_url) if settings.owncast_url else None,
        )
        if self._ffmpeg:
            self._recordings = RecordingPosters(
                store,
                catalog,
                self._ffmpeg,
                frames,
                settings.prefix,
                lock=recorder.lock,
                on_change=recorder.write_soon,
            )

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        if self._live:
            self._live(event)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            if self._live:
                group.create_task(self._live.run(), name="live pictures")
            if self._recordings:
                group.create_task(self._recordings.run(), name="pictures of recordings")

    @property
    def poster(self) -> str | None:
        """URL of the live poster; None without one."""
        return self._live.poster if self._live else None

    @property
    def picture(self) -> bytes | None:
        """The live poster itself (JPEG), also while the bucket does not take it; None without one."""
        return self._live.picture if self._live else None

    @property
    def pictured(self) -> float | None:
        """The time of the live poster, milliseconds since the epoch; None without one."""
        live = self._live
        return 1000 * live.pictured.timestamp() if live and live.picture and live.pictured else None

    def metrics(self) -> Iterator[Metric]:
        """Metrics of ffmpeg."""
        if self._ffmpeg:
            yield from self._ffmpeg.metrics()


def is_due(time: datetime, last: datetime | None) -> bool:
    """Whether a segment at ``time`` is the first of its 10 seconds, after a frame at ``last``."""
    return last is None or (time - _EPOCH) // STEP != (last - _EPOCH) // STEP


def poster_variant(playlist: MediaPlaylist | MultivariantPlaylist | None) -> str | None:
    """The name of the variant of which posters are made; None if any variant will do."""
    if not isinstance(playlist, MultivariantPlaylist):
        return None
    uri = variant_for_posters(playlist.variants)
    return uri and uri.rpartition("/")[0]


def is_enabled(settings: Settings) -> bool:
    """Whether posters are made. Not for a private bucket: viewers could not read them."""
    return settings.pictures != "off" and settings.urls == "public"


def program_of(settings: Settings) -> str | None:
    """Path of ffmpeg; None if posters are off or there is no ffmpeg."""
    return shutil.which(settings.pictures) if is_enabled(settings) else None
