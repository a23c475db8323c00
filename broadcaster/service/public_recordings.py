"""The recordings and clips that viewers may see, and the clips that viewers request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin

from broadcaster.catalog.clips import ClipTable
from broadcaster.catalog.records import Clip, Part, Recording, ViewerClipLimits, Visibility
from broadcaster.config import Settings
from broadcaster.errors import CatalogError, NotPossible, TooMany
from broadcaster.ipc.messages import ClipAnswer, ClipRequest, PublicRecording, RecordingFile
from broadcaster.recordings.writer import Show, clip_details, recording_summary
from broadcaster.service.viewer_process import ViewerProcess

SIGNED = "/recordings/"  # where the service itself has the playlists of a private bucket
# The newest of each kind: the process that serves viewers has them in its memory.
MOST = 2000


def showing(settings: Settings, audience: Callable[[], ViewerProcess | None]) -> Show | None:
    """What the recorder tells of all that the bucket has; None where viewers are shown nothing of it."""
    is_public = settings.urls == "public"
    base = f"{settings.public_url}/{settings.prefix}/recordings/" if is_public else SIGNED

    def show(
        recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip]
    ) -> None:
        if process := audience():
            process.show_recordings(public_recordings(recordings, parts, clips, base))

    return show if settings.has_pages else None


def public_recordings(
    recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], clips: Sequence[Clip], base: str
) -> dict[str, PublicRecording]:
    """All but the hidden ones, by their paths; ``base`` is the public address of the folder of recordings."""
    # What viewers make has a bound of its own, and takes no place from what the operator has made.
    ours, theirs = ([one for one in clips if one.viewer is viewer] for viewer in (False, True))
    kinds = (_recordings(recordings, parts, base), _clips(ours, base), _clips(theirs, base))
    newest = (sorted(kind, key=lambda one: one.started, reverse=True)[:MOST] for kind in kinds)
    return {one.path: one for kind in newest for one in kind}


def _recordings(
    recordings: Sequence[Recording], parts: Mapping[str, Sequence[Part]], base: str
) -> Iterator[PublicRecording]:
    for one in recordings:
        if one.visibility is not Visibility.HIDDEN:
            told = recording_summary(one, parts.get(one.id, ()))
            yield PublicRecording(
                one.folder,
                one.title,
                one.started,
                one.ended,
                one.duration.total_seconds(),
                tuple(urljoin(base, part) for part in told["parts"]),
                poster=_poster(told["poster"], base),
                listed=one.visibility is Visibility.LISTED,
                file=_file(told["file"], base),
            )


def _file(told: Mapping[str, Any] | None, base: str) -> RecordingFile | None:
    if not told or base == SIGNED:  # nobody signs it, nor a poster
        return None
    return RecordingFile(urljoin(base, told["url"]), told["size"], told["type"])


def _poster(path: str | None, base: str) -> str | None:
    return urljoin(base, path) if path and base != SIGNED else None


def _clips(clips: Sequence[Clip], base: str) -> Iterator[PublicRecording]:
    for one in clips:
        told = clip_details(one)
        poster = _poster(told["poster"], base)
        playlist = urljoin(base, told["playlist"])
        length = (one.end - one.begin).total_seconds()
        yield PublicRecording(
            one.id, one.title, one.begin, one.end, length, (playlist,), poster, listed=False, clip=True
        )


logger = logging.getLogger(__name__)

SHORTEST, LONGEST = timedelta(seconds=5), timedelta(seconds=90)
BOUNDS = ViewerClipLimits(of_a_stream=300, of_a_day=500, in_all=2000)
AT_ONCE = 20  # wishes that wait for their turn
PATIENCE = 5.0  # seconds after which nobody waits for an answer: what is made then is never found

Answer = Callable[[ClipAnswer], None]


class ViewersClips:
    """Call it with each wish, and with whom to answer; let ``run`` make them. ``tell`` says that one is made.

    What it is asked comes from a process that strangers talk to: its bounds hold whatever that lets through.
    """

    def __init__(
        self,
        clips: ClipTable,
        tell: Callable[[], None],
        bounds: ViewerClipLimits = BOUNDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clips = clips
        self._tell = tell
        self._bounds = bounds
        self._clock = clock
        self._full = False  # as was said
        self._wishes: asyncio.Queue[tuple[float, ClipRequest, Answer]] = asyncio.Queue(AT_ONCE)

    def __call__(self, wish: ClipRequest, answer: Answer) -> None:
        """Take note of a wish; past what may wait it is refused."""
        try:
            self._wishes.put_nowait((self._clock(), wish, answer))
        except asyncio.QueueFull:
            answer(ClipAnswer(wish.id, refusal="away"))

    async def run(self) -> None:
        """Make them, until cancelled."""
        while True:
            asked, wish, answer = await self._wishes.get()
            if self._clock() - asked < PATIENCE:
                try:
                    made = await self._make(wish)
                except Exception:
                    answer(ClipAnswer(wish.id, refusal="away"))
                    raise
                answer(made)

    async def _make(self, wish: ClipRequest) -> ClipAnswer:
        if not SHORTEST <= wish.end - wish.begin <= LONGEST:
            return ClipAnswer(wish.id, refusal="gone")
        try:
            clip = await self._clips.make("", wish.begin, wish.end, self._bounds)
        except TooMany as error:
            if not self._full:  # once, and not for each who asks
                logger.warning("a viewer gets no clip: %s", error)
            self._full = True
            return ClipAnswer(wish.id, refusal="full")
        except NotPossible:
            return ClipAnswer(wish.id, refusal="gone")
        except CatalogError:  # which the log tells of anyway
            return ClipAnswer(wish.id, refusal="away")
        self._full = False
        self._tell()
        return ClipAnswer(wish.id, clip.id)
