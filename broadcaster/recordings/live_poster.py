"""Small pictures of the stream that is on: one each ten seconds, of which every second is the live poster.

Each is the first key frame of a segment, taken while its bytes are in the spool. Nothing waits for them, and
without them all else is as it was.

Who makes pictures, as far as the settings and this machine allow it.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import BinaryIO

from broadcaster.aio import Retrying
from broadcaster.bucket import ObjectStore
from broadcaster.bucket.conditional import DEADLINE, ConditionalStore, ConditionalWriter
from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment
from broadcaster.config import Settings
from broadcaster.errors import OwncastError, PictureError, StorageError
from broadcaster.events import Event, SegmentPublished, StreamEnded
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.ipc import View
from broadcaster.metrics import Metric
from broadcaster.owncast import picture
from broadcaster.recordings.frame_grabber import Ffmpeg, variant_for_posters
from broadcaster.recordings.thumbnails import Album, KeptFrames
from broadcaster.recordings.writer import POSTER, Recorder
from broadcaster.upload.spool import Spool

logger = logging.getLogger(__name__)

STEP = timedelta(seconds=10)  # one frame is decoded in each
RENEW = 15.0  # seconds; with one frame in ten seconds, the live poster is written every 20 seconds
AGE = 10  # seconds for which caches may keep the live poster
HEAD = 2**22  # bytes of a segment; its first key frame is at the beginning
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class _Taken:
    """A segment that is to have a picture: its file stays readable when the spool lets go of it."""

    time: datetime
    map_key: str | None
    file: Future[BinaryIO] | None  # as the spool opens it


class Pictures:
    """Call it with each event, and let ``run`` work.

    ``url`` is where viewers find what is under ``prefix``, ``view`` what they see. Pictures are kept in
    ``frames``, where there is a recording that needs them. ``theirs`` asks Owncast for its own picture, which
    comes first; without ``ffmpeg`` it is the only one.
    """

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        store: ConditionalStore,
        spool: Spool,
        ffmpeg: Ffmpeg | None,
        frames: KeptFrames | None,
        *,
        prefix: str,
        url: str,
        view: Callable[[], View],
        theirs: Callable[[], Awaitable[bytes]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.poster: str | None = None  # the address of the live one, while there is one
        self._store = store
        self._spool = spool
        self._ffmpeg = ffmpeg
        self._frames = frames
        self._key, self._url = f"{prefix}/{POSTER}", f"{url}/{prefix}/{POSTER}"
        self._view = view
        self._theirs = theirs
        self._clock = clock
        self._objects = ConditionalWriter(store)
        self._retrying = Retrying("writes of the live poster")
        self._last: datetime | None = None  # the time of the latest segment that was taken
        self._taken: _Taken | None = None
        self._news = asyncio.Event()
        self._renewed = float("-inf")  # by the clock
        self._is_on = False
        self._map: tuple[str | None, bytes] = (None, b"")  # the latest EXT-X-MAP
        self._complained = False

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentPublished(segment=segment) if segment.time and not segment.gap:
                self._is_on = True
                if is_due(segment.time, self._last):
                    self._take(segment, segment.time)
            case StreamEnded(going_on=False):
                self._is_on, self.poster = False, None

    async def run(self) -> None:
        """Work until cancelled; what cannot be done is left out."""
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.work()
            except StorageError as error:
                self._retrying.failed(error)
            except OSError as error:
                self._complain(error)
            else:
                self._retrying.worked()

    async def work(self) -> None:
        """Make the picture that is due; raises StorageError or OSError."""
        taken, self._taken = self._taken, None
        if taken is None:
            return
        is_turn = self._clock() - self._renewed >= RENEW
        picture = await self._from_owncast() if is_turn else None
        media = await asyncio.to_thread(_head, taken.file) if taken.file else b""
        if media and self._ffmpeg and (self._frames or (is_turn and picture is None)):
            made = await self._frame(self._ffmpeg, taken, media)
            picture = picture or made
        if is_turn and picture:
            self._renewed = self._clock()
            await self._objects.put(self._key, picture, AGE)
            self.poster = self._url if self._is_on else None

    def _take(self, segment: Segment, when: datetime) -> None:
        """Open its file, which is where it is until everybody has been told of the segment."""
        wanted, main = None, self._view().main
        if main:
            wanted = poster_variant(main.playlist)
        if wanted not in (None, segment.variant):
            return
        file = self._spool.open(segment.key) if self._ffmpeg else None
        if file is None and self._theirs is None:
            return
        if self._taken and self._taken.file:
            self._taken.file.add_done_callback(_close)
        self._last, self._taken = when, _Taken(when, segment.map_key, file)
        self._news.set()

    async def _from_owncast(self) -> bytes | None:
        if self._theirs is None:
            return None
        try:
            picture = await self._theirs()
        except OwncastError:
            return None
        return picture if picture.startswith(b"\xff\xd8") else None

    async def _map_of(self, taken: _Taken) -> bytes:
        if taken.map_key and taken.map_key != self._map[0]:
            self._map = taken.map_key, await self._store.get(taken.map_key, deadline=DEADLINE)
        return self._map[1] if taken.map_key else b""

    async def _frame(self, ffmpeg: Ffmpeg, taken: _Taken, media: bytes) -> bytes | None:
        """Make one, and keep it; the live poster needs neither."""
        made = None
        try:
            made = await ffmpeg.frame(await self._map_of(taken) + media)
            if self._frames:
                await asyncio.to_thread(self._frames.keep, taken.time, made)
        except (PictureError, OSError) as error:
            self._complain(error)
        return made

    def _complain(self, error: PictureError | OSError) -> None:
        """Once: what is not made now is counted."""
        if not self._complained:
            logger.warning("the stream has no picture now, and goes on without: %s", error)
        self._complained = True


def _head(opened: Future[BinaryIO]) -> bytes:
    try:
        file = opened.result()
    except OSError:
        return b""  # the spool has it no more
    with file:
        return file.read(HEAD)


def _close(opened: Future[BinaryIO]) -> None:
    if opened.exception() is None:
        opened.result().close()


class Picturing:
    """Call it with each event, and let ``run`` work; makes none where that is switched off, or cannot be."""

    def __init__(  # noqa: PLR0913 - what it works with
        self,
        settings: Settings,
        store: ObjectStore,
        catalog: Catalog,
        spool: Spool,
        recorder: Recorder,
        *,
        view: Callable[[], View],
    ) -> None:
        program = program_of(settings)
        self._ffmpeg = Ffmpeg(program) if program else None
        self._album: Album | None = None
        self._live: Pictures | None = None
        if not is_wanted(settings):
            return
        if program is None:
            logger.info("no pictures are made: there is no %s (BROADCASTER_PICTURES)", settings.pictures)
        frames = KeptFrames(settings.state_dir / "pictures")
        self._live = Pictures(
            store,
            spool,
            self._ffmpeg,
            frames if settings.recordings != timedelta() else None,
            prefix=settings.prefix,
            url=str(settings.public_url),
            view=view,
            theirs=partial(picture, settings.owncast_url) if settings.owncast_url else None,
        )
        if self._ffmpeg:
            self._album = Album(
                store,
                catalog,
                self._ffmpeg,
                frames,
                settings.prefix,
                lock=recorder.lock,
                tell=recorder.tell,
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
            if self._album:
                group.create_task(self._album.run(), name="pictures of recordings")

    @property
    def poster(self) -> str | None:
        """The address of the picture of the stream that is on."""
        return self._live.poster if self._live else None

    def metrics(self) -> Iterator[Metric]:
        """What was made."""
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


def is_wanted(settings: Settings) -> bool:
    """Whether there are to be pictures: in a private bucket nobody could look at them."""
    return settings.pictures != "off" and settings.urls == "public"


def program_of(settings: Settings) -> str | None:
    """The ffmpeg that makes them, None where there is none."""
    return shutil.which(settings.pictures) if is_wanted(settings) else None
