"""Events for pages: held requests, server-sent events at ``/live/events``, and the encoder's clock offset.

A held request is for the event after a serial, and waits until there is an event. All pages wait for the same
serial, so that a cache makes one request of all. A page asks again with the serial of the answer. So that no
cache can be asked in a loop, an answer's serial is greater than the serial in its key, also when nothing has
happened; a refusal may be kept for a second, and pages pause after it.

PROGRAM-DATE-TIME is the encoder's own count. Owncast's ffmpeg begins it too late: the end of a segment by
PROGRAM-DATE-TIME and EXTINF is 1.6 s or so after its file is complete. Pages subtract this offset from the
latency.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from typing import Any

from aiohttp import hdrs, web
from aiohttp_sse import EventSourceResponse

from broadcaster.http.connections import CONNECTIONS
from broadcaster.http.static import accepts, send
from broadcaster.ipc.messages import Ended, Listed, Started, View, ViewerProblem
from broadcaster.metrics import Metric
from broadcaster.viewer_server.admission import ADMISSION, NotAdmitted, RequestKind
from broadcaster.viewer_server.reports import REPORT_SECONDS, ReportSampling
from broadcaster.viewer_server.snapshots import GZIP_LEVEL, STREAM, ServedStream, StaggeredEvent

OFFSETS_REMEMBERED_SEGMENTS = 15  # of a run, over all variants: enough that a few late segments do not count
REMEMBERED_RUNS = 4


class EncoderClockOffset:
    """The clock offset of each encoder run: runs can differ."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}  # by run, oldest first

    def note(self, segment: Listed) -> timedelta | None:
        """Note a segment, and return the offset of its run; None while it is unknown.

        The offset is the median of PROGRAM-DATE-TIME + EXTINF minus the time when the file was complete, over
        the run's latest segments.
        """
        if segment.completed and segment.time:
            ahead = segment.time + segment.duration - segment.completed
            self._of(segment.run).append(ahead.total_seconds())
        known = self._seconds.get(segment.run)
        return timedelta(seconds=median(known)) if known else None

    def _of(self, run: str) -> deque[float]:
        known = self._seconds.setdefault(run, deque(maxlen=OFFSETS_REMEMBERED_SEGMENTS))
        for old in list(self._seconds)[:-REMEMBERED_RUNS]:
            del self._seconds[old]
        return known


HEARTBEAT = 10.0  # seconds; Cloudflare's tunnel cuts a connection that is silent for 100
SEND_TIMEOUT = 20.0  # seconds, for a client that does not read
VIEWERS_EVERY = 20.0  # seconds between two events with the number of viewers
RETRY = 2000  # ms until a page reconnects
REMEMBERED_SEGMENTS = 60
REMEMBERED_MESSAGES = 60  # a page that is further behind gets the present state


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """An event, ready to be sent."""

    serial: int
    name: str
    data: str


class EventStream:
    """The latest events, which ``most`` pages at most read at their own pace, without a queue for each.

    ``held`` and ``held_segments`` answer held requests. New segments are separate, because only pages that
    share video request them: other pages read the playlist.
    """

    def __init__(self, most: int, stream: ServedStream, sampling: ReportSampling) -> None:
        self.readers = 0
        self.refused = 0
        self.most = most
        self.closing = False
        self.held = HeldLog("events", self._whole, self._after, self._beat)
        self.held_segments = HeldLog("segments", self._all_segments, self._segments_after, remembered=240)
        self._stream = stream
        self._sampling = sampling
        # Serials of two processes must differ: a page that reconnects sends the last serial.
        self._serial = int(time.time()) * 1000
        self._messages: deque[ServerEvent] = deque(maxlen=REMEMBERED_MESSAGES)
        self._segments: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_SEGMENTS)
        self._offsets = EncoderClockOffset()
        self._going_on = False  # the playlists have ended, and new ones are about to follow
        self._trouble: ViewerProblem | None = None
        self._viewers = self._watching = 0  # as sent to pages, and the present number
        self._last_event = -math.inf  # monotonic
        self._changed = StaggeredEvent()

    def __call__(self, event: Listed | Started | Ended) -> None:
        """Handle an event of ingest."""
        match event:
            case Listed():
                segment = segment_fields(event, self._offsets.note(event))
                self._segments.append(segment)
                self._send("segment", segment)
                self.held_segments.add_soon(_json(segment))
            case Started(variants=variants, target_duration=target_duration, run=run, at=at):
                started = {"run": run, "variants": variants, "targetDuration": target_duration}
                self._going_on = False
                self._add("started", {**started, "now": milliseconds(at)})
            case Ended(at=at, going_on=going_on):
                self._going_on = going_on
                self._add("ended", {"now": milliseconds(at), "goingOn": going_on})

    def forget(self) -> None:
        """Forget all segments: viewers see none."""
        if self._segments:
            self._segments.clear()
            self._messages.clear()
            self.held_segments.forget()

    def send_problem(self, trouble: ViewerProblem | None, now: datetime) -> None:
        """Send the viewer problem, if it has changed."""
        if trouble != self._trouble:
            self._trouble = trouble
            self._add("trouble", {"now": milliseconds(now), "trouble": trouble})

    def send_viewers(self, count: int) -> None:
        """Send the number of viewers if it has changed, but seldom, as each event wakes all pages.

        A large change of the sample of reports is sent at once.
        """
        self._watching = count
        if self._sampling.adapt(count):
            self._add("reports", self.reports())
        elif count != self._viewers and time.monotonic() - self._last_event >= VIEWERS_EVERY:
            self._beat()

    def send_starting(self, now: datetime) -> None:
        """Send that the first segments have come, before there is a playlist."""
        self._add("starting", {"now": milliseconds(now)})

    @property
    def bandwidth(self) -> float:
        """The highest bit rate of the latest segments."""
        segments = (segment for segment in self._segments if segment["duration"])
        return max((8 * (segment["size"] or 0) / segment["duration"] for segment in segments), default=0.0)

    @property
    def serial(self) -> int:
        """The number of the latest event."""
        return self._serial

    def since(self, serial: int) -> list[ServerEvent] | None:
        """The events after a serial; None if some of them are no longer remembered."""
        missed = self._serial - serial
        if not 0 <= missed <= len(self._messages):
            return None
        return list(self._messages)[len(self._messages) - missed :]

    @property
    def is_sampled(self) -> bool:
        """Whether pages need the event ``reports``."""
        return self._sampling.share < 1 or self._sampling.every > REPORT_SECONDS

    def state(self) -> dict[str, Any]:
        """The data of the event ``state``, for a new page."""
        return {**self._state(), "segments": self._listed()}

    def _state(self) -> dict[str, Any]:
        fields = state_fields(
            self._stream.view, going_on=self._going_on, trouble=self._trouble, viewers=self._viewers
        )
        return {**fields, "now": self._now}

    def _listed(self) -> list[dict[str, Any]]:
        playlists = self._stream.view.playlists
        first = {name: version.playlist.media_sequence for name, version in playlists.items()}
        return [
            segment
            for segment in self._segments
            if segment["variant"] in first and segment["sequence"] >= first[segment["variant"]]
        ]

    def reports(self) -> dict[str, float]:
        """Which pages report, and how often: the data of the event ``reports``."""
        return {"share": round(self._sampling.share, 6), "every": round(self._sampling.every)}

    @property
    def _now(self) -> float | None:
        return milliseconds(self._stream.clock())

    def _head(self, serial: int) -> dict[str, Any]:
        offset = self._segments[-1]["encoderOffset"] if self._segments else None
        return {"serial": serial, **self.reports(), "encoderOffset": offset, "now": self._now}

    def _whole(self, serial: int) -> str:
        return _json({**self._head(serial), "state": self._state(), "events": []})

    def _after(self, serial: int, entries: list[str]) -> str:
        return f'{_json(self._head(serial))[:-1]},"events":[{",".join(entries)}]}}'

    def _all_segments(self, serial: int) -> str:
        return self._segments_after(serial, [_json(segment) for segment in self._listed()])

    def _segments_after(self, serial: int, entries: list[str]) -> str:
        return f'{{"serial":{serial},"now":{self._now},"segments":[{",".join(entries)}]}}'

    def _beat(self) -> None:
        """Send the number of viewers if it has changed, else the time to held requests."""
        if self._watching != self._viewers:
            self._viewers = self._watching
            self._add("viewers", {"viewers": self._viewers})
        else:
            self._hold("time", {"now": self._now})

    async def wait(self, seconds: float) -> bool:
        """Wait for the next event; returns whether it came in time."""
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def reader(self) -> Iterator[None]:
        """Count a reader while inside; raises NotAdmitted."""
        if self.closing or self.readers >= self.most:
            self.refused += 1
            raise NotAdmitted("full", "The service stops" if self.closing else "Too many are listening")
        self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1

    async def close(self, _: web.Application | None = None) -> None:
        """End all readers: the service stops."""
        self.closing = True
        self._changed.set()
        self.held.close()
        self.held_segments.close()

    def metrics(self) -> Iterator[Metric]:
        """Counts of readers and held requests."""
        yield Metric("event_readers", "Pages that read server-sent events", self.readers)
        yield Metric("event_readers_refused", "Pages that were refused", self.refused, is_counter=True)
        yield from self.held.metrics()
        yield from self.held_segments.metrics()

    def _add(self, name: str, data: dict[str, Any]) -> None:
        self._send(name, data)
        self._hold(name, data)

    def _hold(self, name: str, data: dict[str, Any]) -> None:
        self._last_event = time.monotonic()
        self.held.add(_json([name, data]))

    def _send(self, name: str, data: dict[str, Any]) -> None:
        self._serial += 1
        self._messages.append(ServerEvent(self._serial, name, _json(data)))
        changed, self._changed = self._changed, StaggeredEvent()
        changed.set()


class Reader:
    """Sends events to a page until it leaves."""

    def __init__(self, event_stream: EventStream, response: EventSourceResponse) -> None:
        self._event_stream = event_stream
        self._response = response

    async def run(self, clock: Callable[[], datetime]) -> None:
        """Send until the service stops. Cancelled when the page leaves."""
        seen = await self._send_state()
        while not self._event_stream.closing:
            # Events that came during the last send did not wake this task.
            if seen == self._event_stream.serial and not await self._event_stream.wait(HEARTBEAT):
                await self._response.send(json.dumps({"now": milliseconds(clock())}), event="time")
            new = self._event_stream.since(seen)
            if new is None:
                seen = await self._send_state()
                continue
            for event in new:
                await self._response.send(event.data, id=str(event.serial), event=event.name)
                seen = event.serial

    async def _send_state(self) -> int:
        stream = self._event_stream
        serial, reports = stream.serial, stream.reports() if stream.is_sampled else None
        await self._response.send(json.dumps(stream.state()), id=str(serial), event="state", retry=RETRY)
        if reports:
            await self._response.send(_json(reports), event="reports")
        return serial


class _Response(EventSourceResponse):
    """Waits before each event until the client has read the earlier events, for ``SEND_TIMEOUT`` at most."""

    def __init__(self, request: web.Request) -> None:
        cors: dict[str, str] = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
        super().__init__(headers=cors, sep="\n", send_timeout=SEND_TIMEOUT)
        self._request = request

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        await super().write(data)
        await self._request.app[CONNECTIONS].drained(self._request)


EVENT_STREAM = web.AppKey("EVENT_STREAM", EventStream)


async def events(request: web.Request) -> web.StreamResponse:
    """Server-sent events (WHATWG HTML, 9.2)."""
    event_stream, stream = request.app[EVENT_STREAM], request.app[STREAM]
    cors: dict[str, str] = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*"}
    try:
        with event_stream.reader(), request.app[ADMISSION].take(request, RequestKind.EVENTS):
            response = _Response(request)
            await response.prepare(request)
            with suppress(ConnectionResetError, TimeoutError):  # the page has left, or does not read
                async with response:
                    await Reader(event_stream, response).run(stream.clock)
            return response
    except NotAdmitted as reason:
        headers = {**cors, hdrs.CACHE_CONTROL: "no-store", hdrs.RETRY_AFTER: "10"}
        return web.Response(status=503, text=f"{reason}.\n", headers=headers)


def _json(data: object) -> str:
    return json.dumps(data, separators=(",", ":"))


def state_fields(
    view: View, *, going_on: bool, trouble: ViewerProblem | None, viewers: int
) -> dict[str, Any]:
    """The fields of the event ``state`` without the time."""
    return {
        "state": view.state,
        "goingOn": going_on,
        "trouble": trouble,
        "viewers": viewers,
        "run": view.runs[-1] if view.runs else None,
        "targetDuration": view.target_duration,
    }


def segment_fields(segment: Listed, offset: timedelta | None) -> dict[str, Any]:
    """A segment as pages get it; ``offset`` is how far its run is ahead of the clock."""
    return {
        "variant": segment.variant,
        "sequence": segment.sequence,
        "run": segment.run,
        "url": segment.url,
        "mapUrl": segment.map_url,
        "duration": segment.duration.total_seconds(),
        "programDateTime": milliseconds(segment.time),
        # Milliseconds.
        "encoderOffset": None if offset is None else round(offset.total_seconds() * 1000, 1),
        "size": segment.size,
        "sha256": segment.sha256,
        "gap": segment.gap,
        "noticed": milliseconds(segment.noticed),
        "uploaded": milliseconds(segment.uploaded),
        "published": milliseconds(segment.published),
    }


def milliseconds(time: datetime | None) -> float | None:
    """A time as pages get it; None where it is not known."""
    return None if time is None else round(time.timestamp() * 1000, 1)


HOLD = 20.0  # seconds for which a request is held at most; Cloudflare's tunnel cuts what is silent for 100
KEPT, KEPT_STATE = 60, 1  # seconds for which a cache may keep what came after a serial, and the state
REFUSED = 2  # seconds until a page asks again that was refused
WORTH_GZIP = 600  # bytes
TOGETHER = 0.05  # seconds in which several entries get one serial, so that requests are woken once


class HeldLog:
    """The latest ``remembered`` entries (JSON), by serials that rise.

    ``whole`` makes the answer with the state, ``after`` that with these entries; both take the serial.
    ``beat`` is called when nothing has come for ``HOLD``, and may add an entry.
    """

    def __init__(
        self,
        name: str,
        whole: Callable[[int], str],
        after: Callable[[int, list[str]], str],
        beat: Callable[[], None] = lambda: None,
        remembered: int = 60,
    ) -> None:
        # Begun at the clock, so that no serial of a process before is used again.
        self.serial = self._oldest = int(time.time()) * 1000
        self.waiting = 0
        self._name = name
        self._whole, self._after, self._beat = whole, after, beat
        self._remembered = remembered
        self._entries: deque[tuple[int, str]] = deque()
        self._soon: list[str] = []
        self._answers: dict[int, bytes] = {}  # to what comes after a serial, until there is another entry
        self._changed = StaggeredEvent()
        self._closing = False

    def add(self, *entries: str) -> None:
        """Add entries with one serial, and wake all requests."""
        self.serial += 1
        self._entries.extend((self.serial, entry) for entry in entries)
        while len(self._entries) > self._remembered:
            self._oldest = self._entries.popleft()[0]
        self._answers.clear()
        changed, self._changed = self._changed, StaggeredEvent()
        changed.set()

    def forget(self) -> None:
        """Forget all entries: who asks for what came after an earlier serial gets the whole state."""
        self._entries.clear()
        self._soon.clear()
        self.add()
        self._oldest = self.serial

    def add_soon(self, entry: str) -> None:
        """Add an entry together with those that follow at once."""
        if not self.waiting:
            self.add(entry)
            return
        if not self._soon:
            asyncio.get_running_loop().call_later(TOGETHER, self._add_all)
        self._soon.append(entry)

    def close(self) -> None:
        """Refuse all requests: the service stops."""
        self._closing = True
        self._changed.set()

    def metrics(self) -> Iterator[Metric]:
        """How many requests wait."""
        yield Metric(f"held_{self._name}", f"Requests that wait for the next {self._name}", self.waiting)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """What came after the serial in the path, as soon as there is something; for ``now``, the state."""
        if (key := request.match_info["serial"]) == "now":
            return await _send(request, self._whole(self.serial).encode(), KEPT_STATE)
        serial = int(key)
        if serial > self.serial:
            return _refuse(404, "There is no such serial")
        if serial == self.serial:
            try:
                with request.app[ADMISSION].take(request, RequestKind.EVENTS):
                    request.app[CONNECTIONS].complete(request)
                    await self._next()
            except NotAdmitted as reason:
                return _refuse(503, str(reason))
        if serial < self._oldest:
            return await _send(request, self._whole(self.serial).encode(), KEPT_STATE)
        return await _send(request, self._rendered(serial), KEPT)

    async def _next(self) -> None:
        serial = self.serial
        self.waiting += 1
        try:
            async with asyncio.timeout(HOLD):
                await self._changed.wait()
        except TimeoutError:
            if serial == self.serial and not self._closing:
                self._beat()
            if serial == self.serial and not self._closing:
                self.add()
        finally:
            self.waiting -= 1
        if self._closing:
            raise NotAdmitted("full", "The service stops")

    def _add_all(self) -> None:
        entries, self._soon = self._soon, []
        self.add(*entries)

    def _rendered(self, serial: int) -> bytes:
        if serial not in self._answers:
            entries = [entry for number, entry in self._entries if number > serial]
            self._answers[serial] = self._after(self.serial, entries).encode()
        return self._answers[serial]


async def _send(request: web.Request, body: bytes, max_age: int) -> web.StreamResponse:
    headers: dict[str, str] = {
        hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*",
        hdrs.CACHE_CONTROL: f"public, max-age={max_age}",
        hdrs.CONTENT_TYPE: "application/json",
        hdrs.VARY: "Accept-Encoding",
    }
    if len(body) > WORTH_GZIP and accepts(request.headers.get(hdrs.ACCEPT_ENCODING, ""), "gzip"):
        body = gzip.compress(body, GZIP_LEVEL, mtime=0)
        headers[hdrs.CONTENT_ENCODING] = "gzip"
    return await send(request, body, headers)


def _refuse(status: int, reason: str) -> web.Response:
    headers: dict[str, str] = {hdrs.ACCESS_CONTROL_ALLOW_ORIGIN: "*", hdrs.CACHE_CONTROL: "public, max-age=1"}
    if status == web.HTTPServiceUnavailable.status_code:
        headers[hdrs.RETRY_AFTER] = str(REFUSED)
    return web.Response(status=status, text=f"{reason}.\n", headers=headers)
