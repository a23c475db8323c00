"""Receives the origin's events (``/live/events``) and repeats each once this relay serves its segment."""

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

from broadcaster.aio import Backoff, Signal
from broadcaster.errors import OriginError, PlaylistError
from broadcaster.ipc.messages import Ended, Listed, Started, State, View, ViewerProblem
from broadcaster.relay.follower import OriginFollower
from broadcaster.relay.origin import EVENTS, Origin
from broadcaster.relay.url_map import MappedObject, UrlMap

logger = logging.getLogger(__name__)

PAUSE, LONGEST_PAUSE = 0.5, 2.0  # seconds before a reconnection
SHOWN_WITHIN = 3.0  # seconds in which a playlist has to list an announced segment
SHA256 = re.compile(r"[0-9a-fA-F]{64}")
FIRST_WITHIN, METADATA_WITHIN = 2.0, 0.25  # seconds to wait for the first event, and for a newest segment's
REMEMBERED = 120  # events that wait, and segments whose event is not repeated

ShortText = Annotated[str, StringConstraints(max_length=200)]
EventUrl = Annotated[str, StringConstraints(max_length=4096)]
Milliseconds = Annotated[float, Field(ge=0, le=7e12, allow_inf_nan=False)]  # since the epoch
Seconds = Annotated[float, Field(ge=0, le=600, allow_inf_nan=False)]


class SegmentEvent(BaseModel):
    """A segment in the events ``segment`` and ``state`` (``viewer_server.events``)."""

    variant: ShortText
    sequence: Annotated[int, Field(ge=0, lt=2**53)]
    run: ShortText
    url: EventUrl | None = None
    mapUrl: EventUrl | None = None  # noqa: N815 - JSON
    duration: Seconds
    programDateTime: Milliseconds | None = None  # noqa: N815
    encoderOffset: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None  # noqa: N815 - milliseconds
    size: Annotated[int, Field(ge=0, lt=2**40)] | None = None
    sha256: ShortText | None = None
    gap: bool = False
    noticed: Milliseconds | None = None
    uploaded: Milliseconds | None = None
    published: Milliseconds


class StartedEvent(BaseModel):
    """The data of the event ``started``."""

    run: ShortText
    variants: Annotated[tuple[ShortText, ...], Field(max_length=30)]
    targetDuration: Annotated[int, Field(ge=1, le=600)]  # noqa: N815
    now: Milliseconds


class EndedEvent(BaseModel):
    """The data of the event ``ended``."""

    now: Milliseconds
    goingOn: bool = False  # noqa: N815


@dataclass(frozen=True, slots=True)
class DeferredEvent:
    """A message for pages that waits until the view fulfils a condition."""

    message: Listed | Started | Ended
    when: Callable[[View], bool]


class OriginEvents:
    """Receives events of the origin and sends them to this relay's pages with ``send``.

    ``on_new_objects`` is called at once with announced objects. ``trouble`` is the problem that the origin
    reports to its viewers; ``waiting`` has the messages that wait for the view.
    """

    def __init__(
        self,
        origin: Origin,
        follower: OriginFollower,
        url_map: UrlMap,
        send: Callable[[Listed | Started | Ended], None],
        on_new_objects: Callable[[list[MappedObject]], None],
    ) -> None:
        self.trouble: ViewerProblem | None = None
        self._origin = origin
        self._follower = follower
        self._url_map = url_map
        self._send = send
        self._on_new_objects = on_new_objects
        self.waiting: asyncio.Queue[DeferredEvent] = asyncio.Queue(REMEMBERED)
        self._announced: deque[tuple[str, str, int]] = deque(maxlen=REMEMBERED)
        self._received = Signal()
        self._connected: bool | None = None  # whether events arrive; None while the first may still come
        self._is_live: bool | None = None  # whether the origin is live; None before the first event

    async def run(self) -> None:
        """Receive events until cancelled; reconnect after failures."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._send_deferred())
            backoff = Backoff(PAUSE, LONGEST_PAUSE)
            while True:
                try:
                    async for name, data in self._origin.events():
                        backoff.reset()
                        self.receive(name, data)
                except OriginError as error:
                    logger.debug("no events: %s", error)
                self.trouble = None  # unknown
                if self._connected:
                    self._connected = False
                await asyncio.sleep(backoff.next())

    async def wait_for_metadata(self, target: MappedObject) -> None:
        """Wait a short time until an event has given the size and SHA-256 of an object.

        The first event describes all listed segments, later events the newest one. If no events arrive, for
        example because a proxy holds them back, requests do not wait.
        """
        try:
            async with asyncio.timeout(METADATA_WITHIN if self._connected else FIRST_WITHIN):
                while (found := self._url_map.find(target.token, target.name)) and found.sha256 is None:
                    if self._connected is False or (self._connected and not self._url_map.is_newest(target)):
                        return
                    await self._received.next().wait()
        except TimeoutError:
            if self._connected is None:
                self._connected = False

    def receive(self, name: str, data: Any) -> None:  # noqa: ANN401 - JSON
        """Handle an event; malformed data is ignored."""
        try:
            match name:
                case "state":
                    self._take_state(data)
                case "segment":
                    self._take_segment(SegmentEvent.model_validate(data))
                case "starting":
                    self._follower.note_starting(starting=True)
                case "started":
                    self._take_start(StartedEvent.model_validate(data))
                case "ended":
                    self._take_end(EndedEvent.model_validate(data))
                case "trouble":
                    self._take_trouble(data["trouble"])
        except (ValueError, LookupError, TypeError, PlaylistError) as error:
            logger.debug("the origin sent a malformed event %r (%s)", name, type(error).__name__)
        self._connected = True
        self._received.notify()

    def _take_state(self, data: Any) -> None:  # noqa: ANN401 - JSON
        self._follower.poll_now()  # events may have been missed
        self._take_trouble(data["trouble"])
        self._follower.note_starting(starting=data["state"] == State.STARTING)
        for segment in data["segments"]:
            self._take_segment(SegmentEvent.model_validate(segment))
        if isinstance(run := data["run"], str):
            self._follower.note_run(run)
        # Events that were missed during the interruption.
        was_live, self._is_live = self._is_live, data["state"] == State.LIVE
        if was_live and data["state"] == State.ENDED:
            self._take_end(EndedEvent.model_validate(data))
        elif self._is_live and was_live is False:
            variants = tuple(self._follower.view.playlists)
            self._take_start(StartedEvent.model_validate({**data, "variants": variants}))

    def _take_trouble(self, trouble: object) -> None:
        self.trouble = next((known for known in get_args(ViewerProblem) if known == trouble), None)

    def _take_segment(self, event: SegmentEvent) -> None:
        segment = (event.run, event.variant, event.sequence)
        if segment in self._announced:
            return
        self._announced.append(segment)
        self._follower.note_run(event.run, event.variant)
        base = self._origin.url(EVENTS)
        media = None
        if event.url and not event.gap:
            sha256 = event.sha256 if event.sha256 and SHA256.fullmatch(event.sha256) else None
            metadata = {"size": event.size, "sha256": sha256, "seconds": event.duration}
            media = self._url_map.note(event.variant, event.url, base, **metadata)
        init = self._url_map.note(event.variant, event.mapUrl, base) if event.mapUrl else None
        self._on_new_objects([target for target in (init, media) if target])
        variant, number = event.variant, event.sequence

        def is_listed(view: View) -> bool:
            version = view.playlists.get(variant)
            return version is not None and version.playlist.last >= number

        message = _listed(event, media.path if media else None, init.path if init else None)
        self._put(DeferredEvent(message, is_listed))

    def _take_start(self, event: StartedEvent) -> None:
        only = event.variants[0] if len(event.variants) == 1 else None
        self._is_live = True
        self._follower.note_run(event.run, only)
        self._follower.poll_now()
        message = Started(event.variants, event.targetDuration, event.run, _time(event.now))
        self._put(DeferredEvent(message, lambda view: view.state is State.LIVE))

    def _take_end(self, event: EndedEvent) -> None:
        self._is_live = False
        self._follower.poll_now()
        message = Ended(_time(event.now), event.goingOn)
        self._put(DeferredEvent(message, lambda view: view.state is not State.LIVE))

    def _put(self, deferred: DeferredEvent) -> None:
        if self.waiting.full():  # pages that miss an event read the playlist
            self.waiting.get_nowait()
        self.waiting.put_nowait(deferred)

    async def _send_deferred(self) -> None:
        """Send messages in order; a segment that no playlist lists in time is not announced."""
        while True:
            deferred = await self.waiting.get()
            shown = await self._follower.until(deferred.when, SHOWN_WITHIN)
            if shown or not isinstance(deferred.message, Listed):
                self._send(deferred.message)


def _listed(event: SegmentEvent, path: str | None, map_path: str | None) -> Listed:
    time, duration = _time_or_none(event.programDateTime), timedelta(seconds=event.duration)
    completed = None
    if time and event.encoderOffset is not None:  # so that this relay computes the offset of the origin
        completed = time + duration - timedelta(milliseconds=event.encoderOffset)
    return Listed(
        variant=event.variant,
        sequence=event.sequence,
        run=event.run,
        url=path,
        map_url=map_path,
        duration=duration,
        time=time,
        size=event.size,
        sha256=event.sha256,
        gap=event.gap,
        completed=completed,
        noticed=_time_or_none(event.noticed),
        uploaded=_time_or_none(event.uploaded),
        published=_time(event.published),
    )


def _time(milliseconds: float) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _time_or_none(milliseconds: float | None) -> datetime | None:
    return None if milliseconds is None else _time(milliseconds)
