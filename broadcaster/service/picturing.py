"""Who makes pictures, as far as the settings and this machine allow it."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

from broadcaster.catalog import Catalog
from broadcaster.config import Settings
from broadcaster.delivery.album import Album
from broadcaster.delivery.frames import Ffmpeg
from broadcaster.delivery.kept_frames import KeptFrames
from broadcaster.delivery.pictures import Pictures
from broadcaster.delivery.recorder import Recorder
from broadcaster.delivery.spool import Spool
from broadcaster.events import Event
from broadcaster.feed import View
from broadcaster.figures import Figure
from broadcaster.owncast import picture
from broadcaster.storage import ObjectStore

logger = logging.getLogger(__name__)


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

    def figures(self) -> Iterator[Figure]:
        """What was made."""
        if self._ffmpeg:
            yield from self._ffmpeg.figures()


def is_wanted(settings: Settings) -> bool:
    """Whether there are to be pictures: in a private bucket nobody could look at them."""
    return settings.pictures != "off" and settings.urls == "public"


def program_of(settings: Settings) -> str | None:
    """The ffmpeg that makes them, None where there is none."""
    return shutil.which(settings.pictures) if is_wanted(settings) else None
