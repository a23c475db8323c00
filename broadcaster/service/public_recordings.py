"""The recordings and clips that viewers may see, and the clips that viewers request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol
from urllib.parse import urljoin

from broadcaster.catalog.clips import ClipTable
from broadcaster.catalog.records import Clip, Part, Recording, ViewerClipLimits, Visibility
from broadcaster.config import Settings
from broadcaster.errors import CatalogError, NotPossible, TooMany
from broadcaster.ipc.messages import ClipAnswer, ClipRequest, PublicFile, PublicRecording
from broadcaster.recordings.writer import Show, clip_details, recording_summary

logger = logging.getLogger(__name__)

SIGNED = "/recordings/"  # address of the playlists of a private bucket, which the service itself has
MOST = 2000  # of recordings, of clips, and of viewers' clips: the viewer server has them in memory
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=90)
BOUNDS = ViewerClipLimits(of_a_stream=300, of_a_day=500, in_all=2000)
MAX_REQUESTS = 20  # in the queue
PATIENCE = 5.0  # seconds for which a viewer waits: a clip that is made later would never be found


class ShowsRecordings(Protocol):
    """Shows recordings and clips to viewers: the viewer server, the edge."""

    def show_recordings(self, found: Mapping[str, PublicRecording]) -> None:
        """Show these from now on, by their paths."""


def publisher(settings: Settings, audiences: Callable[[], Iterable[ShowsRecordings]]) -> Show | None:
    """A function that sends all public recordings to ``audiences``; None if recordings have no pages."""
    is_public = settings.urls == "public"
    base = f"{settings.public_url}/{settings.prefix}/recordings/" if is_public else SIGNED

    def publish(
        recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip]
    ) -> None:
        found = public_recordings(recordings, parts, clips, base)
        for audience in audiences():
            audience.show_recordings(found)

    return publish if settings.has_pages else None


def public_recordings(
    recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip], base: str
) -> dict[str, PublicRecording]:
    """The recordings and clips that are not hidden, by path; ``base`` is the address of their folder."""
    visible = (recording for recording in recordings if recording.visibility is not Visibility.HIDDEN)
    kinds = (
        (_public_recording(recording, parts.get(recording.id, ()), base) for recording in visible),
        (_public_clip(clip, base) for clip in clips if not clip.viewer),
        (_public_clip(clip, base) for clip in clips if clip.viewer),
    )
    newest = (sorted(kind, key=lambda item: item.started, reverse=True)[:MOST] for kind in kinds)
    return {item.path: item for kind in newest for item in kind}


def _public_recording(recording: Recording, parts: Sequence[Part], base: str) -> PublicRecording:
    index = recording_summary(recording, parts)
    file = index["file"]
    return PublicRecording(
        recording.folder,
        recording.title,
        recording.started,
        recording.ended,
        recording.duration.total_seconds(),
        tuple(urljoin(base, path) for path in index["parts"]),
        poster=_unsigned(index["poster"], base),
        listed=recording.visibility is Visibility.LISTED,
        opened=recording.opened,
        file=PublicFile(urljoin(base, file["url"]), file["size"], file["type"])
        if file and base != SIGNED
        else None,
    )


def _public_clip(clip: Clip, base: str) -> PublicRecording:
    index = clip_details(clip)
    return PublicRecording(
        clip.id,
        clip.title,
        clip.begin,
        clip.end,
        (clip.end - clip.begin).total_seconds(),
        (urljoin(base, index["playlist"]),),
        _unsigned(index["poster"], base),
        listed=False,
        clip=True,
    )


def _unsigned(path: str | None, base: str) -> str | None:
    """The URL of an object that is not signed; None in a private bucket."""
    return urljoin(base, path) if path and base != SIGNED else None


class ViewerClips:
    """Makes the clips that viewers request; call it with a request and the function that takes the answer.

    Requests come through the viewer server, which may be compromised: ``bounds`` hold for all its requests.
    ``on_clip`` is called after each new clip. While ``hidden`` there is nothing that viewers may keep.
    """

    def __init__(
        self,
        clips: ClipTable,
        on_clip: Callable[[], None],
        bounds: ViewerClipLimits = BOUNDS,
        clock: Callable[[], float] = time.monotonic,
        hidden: Callable[[], bool] = lambda: False,
    ) -> None:
        self._clips = clips
        self._on_clip = on_clip
        self._bounds = bounds
        self._clock = clock
        self._hidden = hidden
        self._is_full = False  # the bounds are reached, and the log has said so
        self._queue: asyncio.Queue[tuple[float, ClipRequest, Callable[[ClipAnswer], None]]]
        self._queue = asyncio.Queue(MAX_REQUESTS)

    def __call__(self, request: ClipRequest, answer: Callable[[ClipAnswer], None]) -> None:
        """Queue a request, or refuse it if the queue is full."""
        try:
            self._queue.put_nowait((self._clock(), request, answer))
        except asyncio.QueueFull:
            answer(ClipAnswer(request.id, refusal="away"))

    async def run(self) -> None:
        """Make clips until cancelled."""
        while True:
            requested, request, answer = await self._queue.get()
            if self._clock() - requested < PATIENCE:
                try:
                    made = await self._make(request)
                except Exception:
                    answer(ClipAnswer(request.id, refusal="away"))
                    raise
                answer(made)

    async def _make(self, request: ClipRequest) -> ClipAnswer:
        if self._hidden() or not SHORTEST <= request.end - request.begin <= LONGEST:
            return ClipAnswer(request.id, refusal="gone")
        try:
            clip = await self._clips.make("", request.begin, request.end, self._bounds)
        except TooMany as error:
            if not self._is_full:
                logger.warning("a viewer gets no clip: %s", error)
            self._is_full = True
            return ClipAnswer(request.id, refusal="full")
        except NotPossible:
            return ClipAnswer(request.id, refusal="gone")
        except CatalogError:  # the catalog logs it
            return ClipAnswer(request.id, refusal="away")
        self._is_full = False
        self._on_clip()
        return ClipAnswer(request.id, clip.id)
