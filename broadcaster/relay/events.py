"""Passes on what the origin tells of events, each as soon as what it tells of can be had here."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, get_args

from pydantic import BaseModel, Field, StringConstraints

from broadcaster.errors import OriginError, PlaylistError
from broadcaster.ipc import Ended, Listed, Started, State, Trouble, View
from broadcaster.relay.follower import Following
from broadcaster.relay.origin import EVENTS, Origin
from broadcaster.relay.url_map import Listed as Held
from broadcaster.relay.url_map import Listing

logger = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 0.5, 2.0  # seconds before it is asked again
SHOWN_WITHIN = 3.0  # seconds, for a playlist to have what was told of
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
FIRST_WITHIN, TOLD_WITHIN = 2.0, 0.25  # seconds, for its first word, and for the word of what is newest
REMEMBERED = 120  # what was told is told once

Word = Annotated[str, StringConstraints(max_length=200)]
Address = Annotated[str, StringConstraints(max_length=4096)]
Milliseconds = Annotated[float, Field(ge=0, le=7e12, allow_inf_nan=False)]  # since the epoch
Seconds = Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)]


class Segment(BaseModel):
    """As ``segment`` and ``state`` tell of one (``audience.event_stream``)."""

    variant: Word
    sequence: Annotated[int, Field(ge=0, lt=2**53)]
    run: Word
    url: Address | None = None
    mapUrl: Address | None = None  # noqa: N815 - as it is told
    duration: Seconds
    programDateTime: Milliseconds | None = None  # noqa: N815
    encoderOffset: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None  # noqa: N815 - milliseconds
    size: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    sha256: Word | None = None
    gap: bool = False
    noticed: Milliseconds | None = None
    uploaded: Milliseconds | None = None
    published: Milliseconds


class Start(BaseModel):
    """As ``started`` tells of it."""

    run: Word
    variants: Annotated[tuple[Word, ...], Field(max_length=30)]
    targetDuration: Annotated[int, Field(ge=1, le=600)]  # noqa: N815
    now: Milliseconds


class End(BaseModel):
    """As ``ended`` tells of it."""

    now: Milliseconds
    goingOn: bool = False  # noqa: N815


@dataclass(frozen=True, slots=True)
class Telling:
    """What is told once the view is so."""

    message: Listed | Started | Ended
    when: Callable[[View], bool]


class Words:
    """Listens to the origin; ``tell`` tells pages here, ``fresh`` is told of objects at once.

    ``trouble`` is what keeps the stream from the origin's own viewers, as it says; ``waiting`` is what is
    told once it can be had here.
    """

    def __init__(
        self,
        origin: Origin,
        following: Following,
        listing: Listing,
        tell: Callable[[Listed | Started | Ended], None],
        fresh: Callable[[list[Held]], None],
    ) -> None:
        self.trouble: Trouble | None = None
        self._origin = origin
        self._following = following
        self._listing = listing
        self._tell = tell
        self._fresh = fresh
        self.waiting: asyncio.Queue[Telling] = asyncio.Queue(REMEMBERED)
        self._told: deque[tuple[str, str, int]] = deque(maxlen=REMEMBERED)
        self._news = asyncio.Event()
        self._hears: bool | None = None  # the origin's events; None as long as there is hope for a first word
        self._on: bool | None = None  # whether a stream is on there; None before anything was heard

    async def run(self) -> None:
        """Listen until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass_on())
            pause = PAUSE
            while True:
                try:
                    async for name, data in self._origin.words():
                        pause = PAUSE
                        self.hear(name, data)
                except OriginError as error:
                    logger.debug("no events: %s", error)
                self.trouble = None  # nobody knows
                if self._hears:
                    self._hears = False
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)

    async def told(self, listed: Held) -> None:
        """Wait until the origin has said what it knows of an object, but not for long.

        At first it tells of all that is listed, then of what is newest as it is listed. Where no event comes,
        as something in front of the origin keeps them back, nobody waits for one.
        """
        try:
            async with asyncio.timeout(TOLD_WITHIN if self._hears else FIRST_WITHIN):
                while (found := self._listing.find(listed.token, listed.name)) and found.sha256 is None:
                    if self._hears is False or (self._hears and not self._listing.is_newest(listed)):
                        return
                    await self._news.wait()
        except TimeoutError:
            if self._hears is None:
                self._hears = False

    def hear(self, name: str, data: Any) -> None:  # noqa: ANN401 - JSON
        """Take one; what makes no sense is left out."""
        try:
            match name:
                case "state":
                    self._take_state(data)
                case "segment":
                    self._take_segment(Segment.model_validate(data))
                case "starting":
                    self._following.note_starting(starting=True)
                case "started":
                    self._take_start(Start.model_validate(data))
                case "ended":
                    self._take_end(End.model_validate(data))
                case "trouble":
                    self._take_trouble(data["trouble"])
        except (ValueError, LookupError, TypeError, PlaylistError) as error:
            logger.debug("the origin tells of %s what makes no sense (%s)", name, type(error).__name__)
        self._hears = True
        news, self._news = self._news, asyncio.Event()
        news.set()

    def _take_state(self, data: Any) -> None:  # noqa: ANN401 - JSON
        self._following.hurry()  # much may have happened since it was heard last
        self._take_trouble(data["trouble"])
        self._following.note_starting(starting=data["state"] == State.STARTING)
        for one in data["segments"]:
            self._take_segment(Segment.model_validate(one))
        if isinstance(run := data["run"], str):
            self._following.note_run(run)
        # What came while it could not be heard.
        on, self._on = self._on, data["state"] == State.LIVE
        if on and data["state"] == State.ENDED:
            self._take_end(End.model_validate(data))
        elif self._on and on is False:
            variants = tuple(self._following.view.playlists)
            self._take_start(Start.model_validate({**data, "variants": variants}))

    def _take_trouble(self, trouble: object) -> None:
        self.trouble = next((one for one in get_args(Trouble) if one == trouble), None)

    def _take_segment(self, told: Segment) -> None:
        segment = (told.run, told.variant, told.sequence)
        if segment in self._told:
            return
        self._told.append(segment)
        self._following.note_run(told.run, told.variant)
        base = self._origin.url(EVENTS)
        held = None
        if told.url and not told.gap:
            sha256 = told.sha256 if told.sha256 and SHA256.fullmatch(told.sha256) else None
            known = {"size": told.size, "sha256": sha256, "seconds": told.duration}
            held = self._listing.note(told.variant, told.url, base, **known)
        map_held = self._listing.note(told.variant, told.mapUrl, base) if told.mapUrl else None
        self._fresh([one for one in (map_held, held) if one])
        variant, number = told.variant, told.sequence

        def is_listed(view: View) -> bool:
            version = view.playlists.get(variant)
            return version is not None and version.playlist.last >= number

        message = _listed(told, held.path if held else None, map_held.path if map_held else None)
        self._put(Telling(message, is_listed))

    def _take_start(self, told: Start) -> None:
        only = told.variants[0] if len(told.variants) == 1 else None
        self._on = True
        self._following.note_run(told.run, only)
        self._following.hurry()
        message = Started(told.variants, told.targetDuration, told.run, _time(told.now))
        self._put(Telling(message, lambda view: view.state is State.LIVE))

    def _take_end(self, told: End) -> None:
        self._on = False
        self._following.hurry()
        message = Ended(_time(told.now), told.goingOn)
        self._put(Telling(message, lambda view: view.state is not State.LIVE))

    def _put(self, telling: Telling) -> None:
        if self.waiting.full():  # pages that miss one look at the playlist
            self.waiting.get_nowait()
        self.waiting.put_nowait(telling)

    async def _pass_on(self) -> None:
        """In order; a segment that is not listed in time is none that a page could look for."""
        while True:
            telling = await self.waiting.get()
            shown = await self._following.until(telling.when, SHOWN_WITHIN)
            if shown or not isinstance(telling.message, Listed):
                self._tell(telling.message)


def _listed(told: Segment, path: str | None, map_path: str | None) -> Listed:
    time, duration = _time_or_none(told.programDateTime), timedelta(seconds=told.duration)
    completed = None
    if time and told.encoderOffset is not None:  # as the origin has found it, so that it is found again
        completed = time + duration - timedelta(milliseconds=told.encoderOffset)
    return Listed(
        variant=told.variant,
        sequence=told.sequence,
        run=told.run,
        url=path,
        map_url=map_path,
        duration=duration,
        time=time,
        size=told.size,
        sha256=told.sha256,
        gap=told.gap,
        completed=completed,
        noticed=_time_or_none(told.noticed),
        uploaded=_time_or_none(told.uploaded),
        published=_time(told.published),
    )


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _time_or_none(milliseconds: float | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)
