"""Pushes what viewers see to the edge's Worker: playlists, events, recordings, and the page's settings.

The publisher is fed as the viewers' process is, and nothing waits for it. One push is under way at a time;
what changes meanwhile goes into the next one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http import HTTPStatus
from itertools import chain, repeat
from typing import Any

from broadcaster.access import opened_of
from broadcaster.access.gate import TryLimits
from broadcaster.aio import Backoff, LogLimiter, Signal, wait_at_most
from broadcaster.edge.client import VERSION, EdgeAnswer, EdgeClient, EdgeStatus, encode, open_edge
from broadcaster.errors import EdgeError, Problem
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.http.server import health_fields
from broadcaster.ipc.messages import (
    Ended,
    Grants,
    HealthReport,
    Listed,
    PassphraseAnswer,
    PassphraseTry,
    Pong,
    PublicRecording,
    Started,
    State,
    View,
    ViewerProblem,
)
from broadcaster.metrics import Metric
from broadcaster.tracker.tracker import Tracker
from broadcaster.viewer_server.admission import NO_HEADER, client_network
from broadcaster.viewer_server.events import EncoderClockOffset, milliseconds, segment_fields, state_fields
from broadcaster.viewer_server.pages import PageTexts
from broadcaster.viewer_server.reports import LEAP
from broadcaster.viewer_server.snapshots import ServedStream, Snapshot

logger = logging.getLogger(__name__)

LEASE_EVERY = 0.1  # seconds between two looks whether this broadcaster leads
LOOK_EVERY = 1.0  # seconds between two looks at viewers and health
HEARTBEAT = 10.0  # seconds without a push after which an empty push says that the service lives
ASKED_EVERY = 1.5  # seconds without a push, where strangers wait to hear of their passphrase
TOGETHER = 0.02  # seconds in which changes go into one push
VIEWERS_EVERY = 20.0  # seconds, at most so often pages get the number of viewers
FIRST_PAUSE, LONGEST_PAUSE = (
    0.5,
    15.0,
)  # seconds after a failed push; doubled each time, of which a random part
BEHIND = 10.0  # seconds of failing pushes after which health says so
ABANDONED = 60.0  # seconds without a push after which a later epoch counts no more
REMEMBERED_SEGMENTS = 60
DELTA = "+delta"  # of the name of a playlist: its delta update
PROBE_CHARACTERS = 200  # of a text's end, by which its continuation is found
REFUSED = {
    HTTPStatus.UNAUTHORIZED: Problem(
        "the edge refuses the key",
        "give service and Worker the same key (BROADCASTER_EDGE_KEY, and the Worker's secret EDGE_KEY)",
    ),
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: Problem(
        "the view is too large for the edge",
        "choose a shorter window (BROADCASTER_WINDOW_SECONDS, BROADCASTER_RETENTION_MAX_MINUTES)",
    ),
    HTTPStatus.UNPROCESSABLE_ENTITY: Problem(
        "the edge has later segments than this service",
        "if the state folder was replaced, let the edge forget its view (docs/scaling.md)",
    ),
}


@dataclass(frozen=True, slots=True)
class EdgeText:
    """A text that viewers can ask for, with what the Worker has to know of it; ``render`` makes it."""

    source: object  # the same object has the same text, and so has an equal one that is text
    render: Callable[[], str]
    about: Mapping[str, Any] = field(default_factory=dict)


def texts_of(stream: ServedStream) -> dict[str, EdgeText]:
    """All playlists of a stream by their paths."""
    found: dict[str, EdgeText] = {}
    for variant in (None, *stream.view.playlists):
        folder = "live" if variant is None else f"live/{variant}"
        found.update(_playlist_texts(folder, stream.snapshot(variant), stream.dvr_snapshot(variant)))
    return found


def _playlist_texts(
    folder: str, snapshot: Snapshot | None, kept: Snapshot | None
) -> Iterator[tuple[str, EdgeText]]:
    for name, media in (("playlist", snapshot), ("kept", kept)):
        if media:
            yield f"{folder}/{name}.m3u8", EdgeText(media.version, media.playlist.render, _about(media))
        if media and isinstance(media.playlist, MediaPlaylist) and media.playlist.skippable:
            yield f"{folder}/{name}.m3u8{DELTA}", EdgeText(media.version, media.playlist.render_delta)
    if snapshot and isinstance(snapshot.playlist, MediaPlaylist) and snapshot.playlist.has_iframes:
        about = {key: value for key, value in _about(snapshot).items() if key != "last"}
        yield f"{folder}/iframes.m3u8", EdgeText(snapshot.version, snapshot.playlist.render_iframes, about)


def _about(snapshot: Snapshot) -> dict[str, Any]:
    """How long a playlist may be kept, and what can be waited for."""
    playlist, target = snapshot.playlist, snapshot.target_duration
    about = {"target": target, "modified": milliseconds(snapshot.modified)}
    if isinstance(playlist, MultivariantPlaylist):
        return {**about, "keep": target}
    seconds = playlist.segments[-1].duration.total_seconds() if playlist.segments else 0.0
    return {**about, "last": playlist.last, "live": snapshot.is_live, "seconds": seconds}


def splice(before: str, now: str) -> list[str | list[int]]:
    """The pieces that make ``now`` of the text before: new pieces, and begins and ends of old pieces."""
    if not (before.isascii() and now.isascii()):  # the Worker counts characters in another way
        return [now]
    end = now.rfind(before[-PROBE_CHARACTERS:]) + len(before[-PROBE_CHARACTERS:])
    if before and end >= len(before[-PROBE_CHARACTERS:]):  # a playlist that goes on
        same = _longest(len(before), end, lambda size: before.endswith(now[end - size : end]))
        kept = [len(before) - same, len(before)]
        return [piece for piece in (now[: end - same], kept, now[end:]) if piece]
    begin = _longest(len(before), len(now), lambda size: before.startswith(now[:size]))
    rest = _longest(
        len(before) - begin, len(now) - begin, lambda size: before.endswith(now[len(now) - size :])
    )
    pieces: list[str | list[int]] = [now[begin : len(now) - rest]]
    if begin:
        pieces.insert(0, [0, begin])
    if rest:
        pieces.append([len(before) - rest, len(before)])
    return [piece for piece in pieces if piece]


def _longest(first: int, second: int, fits: Callable[[int], bool]) -> int:
    """The largest size that fits; with each size, all that are less fit."""
    low, high = 0, min(first, second)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


class EdgeEvents:
    """Events for pages since the latest push, and the state for a page that has just come."""

    def __init__(self) -> None:
        self.events: list[list[object]] = []  # name and data
        self.new: list[dict[str, Any]] = []  # segments
        self.segments: deque[dict[str, Any]] = deque(maxlen=REMEMBERED_SEGMENTS)
        self._offsets = EncoderClockOffset()
        self._going_on = False
        self._trouble: ViewerProblem | None = None
        self._viewers = 0
        self._viewers_told = 0.0  # monotonic
        self._share = 1.0  # of pages that report

    def __call__(self, message: Listed | Started | Ended) -> None:
        """Take note of an event."""
        match message:
            case Listed():
                segment = segment_fields(message, self._offsets.note(message))
                self.segments.append(segment)
                self.new.append(segment)
            case Started(variants=variants, target_duration=target_duration, run=run, at=at):
                self._going_on = False
                fields = {"run": run, "variants": variants, "targetDuration": target_duration}
                self.events.append(["started", {**fields, "now": milliseconds(at)}])
            case Ended(at=at, going_on=going_on):
                self._going_on = going_on
                self.events.append(["ended", {"now": milliseconds(at), "goingOn": going_on}])

    def starting(self, now: datetime) -> None:
        """The first segments have come."""
        self.events.append(["starting", {"now": milliseconds(now)}])

    def note(self, trouble: ViewerProblem | None, pong: Pong, now: datetime) -> None:
        """Note the problem that viewers are shown, their number, and their share of reports."""
        viewers, share = pong.viewers, pong.share
        if trouble != self._trouble:
            self._trouble = trouble
            self.events.append(["trouble", {"now": milliseconds(now), "trouble": trouble}])
        if viewers != self._viewers and time.monotonic() - self._viewers_told >= VIEWERS_EVERY:
            self._viewers, self._viewers_told = viewers, time.monotonic()
            self.events.append(["viewers", {"viewers": viewers}])

        if max(share, self._share) > LEAP * min(share, self._share):
            self.events.append(["reports", {"share": share, "every": pong.every}])
        self._share = share

    def state(self, view: View) -> dict[str, Any]:
        """The state; the Worker adds the time."""
        return state_fields(view, going_on=self._going_on, trouble=self._trouble, viewers=self._viewers)

    @property
    def encoder_offset(self) -> float | None:
        """By how much the encoder's times are ahead of ours, in milliseconds."""
        return self.segments[-1]["encoderOffset"] if self.segments else None


@dataclass(slots=True)
class _Push:
    """A push that is made: what it says, and what the edge has once it has taken the push."""

    message: dict[str, Any]
    sources: dict[str, EdgeText]
    before: Mapping[str, str]
    texts: dict[str, str] = field(default_factory=dict)  # by name: as rendered

    def encode(self) -> bytes:
        """Render and compress it, in a thread of its own: a window of hours takes a while."""
        spliced: dict[str, Any] = dict.fromkeys(self.before.keys() - self.texts.keys() - self.sources.keys())
        for name, text in self.sources.items():
            self.texts[name] = now = text.render()
            old = self.before.get(name, "")
            spliced[name] = {**text.about, "ops": splice(old, now)}
        self.message["texts"] = spliced
        return encode(self.message)


class EdgePublisher:
    """Keeps the edge's view equal to that of ``show``. Call it with each event; ``run`` pushes.

    ``report`` returns the health as the public may see it, ``pong`` the latest answer of the viewers'
    process, ``wall`` the wall time. ``on_reports`` takes the reports of pages that the edge has collected:
    address, text, and the guest's grant. ``on_opened`` takes how often links were opened, by grant.
    ``epoch`` gives the epoch of the lease, None while this broadcaster does not lead: then it pushes nothing.
    ``outbid`` takes an epoch that the edge has and the lease has not reached. ``passphrase`` answers a
    stranger's try; None where the event takes no passphrase.
    """

    def __init__(  # noqa: PLR0913 - the seams to all its neighbours
        self,
        url: str,
        key: str,
        page: PageTexts,
        *,
        report: Callable[[], HealthReport],
        pong: Callable[[], Pong],
        on_reports: Callable[[Sequence[tuple[str, str, str]]], None],
        epoch: Callable[[], int | None],
        outbid: Callable[[int], None],
        wall: Callable[[], datetime],
        grants: Grants | None = None,
        passphrase: Callable[[PassphraseTry, Callable[[PassphraseAnswer], None]], None] | None = None,
        on_opened: Callable[[Mapping[str, int]], None] = lambda _: None,
    ) -> None:
        self.status = EdgeStatus()
        self._connect = partial(open_edge, url, key)
        self._page = page
        self._report = report
        self._pong = pong
        self._on_reports, self._on_opened = on_reports, on_opened
        self._wall = wall
        self._grants = grants  # of a private event
        self._passphrase, self._limits = passphrase, TryLimits()
        self._answers: list[tuple[str, str | None, bool]] = []  # that the edge does not have yet
        self._heartbeat = ASKED_EVERY if passphrase else HEARTBEAT
        self._stream = ServedStream(wall)
        self._view = View()
        self._recordings: Mapping[str, PublicRecording] = {}
        self._tracker = Tracker()
        self._events = EdgeEvents()
        self._changed = Signal()
        self._changes = 0  # since the start
        self._waiting: deque[float] = deque()  # monotonic: when each change was made that the edge lacks
        self._lease_epoch, self._outbid = epoch, outbid
        self._epoch = 0  # of the latest push
        self._serial = 0
        self._known: int | None = None  # the serial that the edge surely has; None: push everything
        self._forget = False  # the next push says everything, so that the edge forgets segments
        self._sent: dict[str, EdgeText] = {}
        self._texts: dict[str, str] = {}
        self._pushed = 0.0  # monotonic: when the latest push was taken
        self._failing_since: float | None = None
        self._refusal: Problem | None = None
        self._log = LogLimiter()
        self._pushes = Counter(done=0, failed=0)
        self._bytes = self._woken = self._reports = 0

    def show(self, view: View) -> None:
        """Viewers see this from now on."""
        if view.state is State.STARTING is not self._view.state:
            self._events.starting(self._wall())
        if self._events.segments and not view.playlists:
            self._events.segments.clear()
            self._events.new.clear()
            self._forget = True
        self._view = view
        self._change()

    def show_recordings(self, found: Mapping[str, PublicRecording]) -> None:
        """There are these to be watched, by their paths."""
        if found != self._recordings:
            self._recordings = found
            self._change()

    def send(self, message: Listed | Started | Ended) -> None:
        """Send an event to pages, but no segment that viewers do not see."""
        if isinstance(message, Listed):
            if not self._view.playlists:
                return
            if not self._events.segments:  # the edge forgets earlier ones with a push of everything
                self._known = None
        self._events(message)
        self._change()

    def admit(self, grants: Grants) -> None:
        """Let these watch a private event, from now on."""
        self._grants = grants
        self._change()

    @property
    def fault(self) -> Problem | None:
        """Why viewers at the edge do not see what they should, and what to do; None where they do."""
        if self._lease_epoch() is None:
            return None
        if self._refusal:
            return self._refusal
        if self.status.v not in {0, VERSION}:
            return _other_version(self.status.v)
        if self._failing_since is not None and (late := time.monotonic() - self._failing_since) > BEHIND:
            act = "look at Cloudflare's status and the uplink"
            return Problem(f"the edge is {late:.0f} s behind: pushes fail", act)
        return None

    def metrics(self) -> Iterator[Metric]:
        """What is pushed, and what the edge says."""
        text = "Pushes to the edge by outcome: done or failed"
        yield Metric("edge_pushes", text, dict(self._pushes), labels=("outcome",), is_counter=True)
        yield Metric("edge_pushed_bytes", "Bytes pushed to the edge", self._bytes, is_counter=True)
        yield Metric("edge_behind_versions", "Changes that the edge does not have", len(self._waiting))
        late = time.monotonic() - self._waiting[0] if self._waiting else 0.0
        yield Metric("edge_behind_seconds", "Age of the oldest change that the edge does not have", late)
        yield Metric("edge_held", "Requests of viewers that wait at the edge", self.status.held)
        yield Metric("edge_woken", "Requests that waited at the edge, answered", self._woken, is_counter=True)
        yield Metric("edge_reports", "Reports of pages that came by the edge", self._reports, is_counter=True)
        yield Metric("edge_refusing", "1 while the edge does not take pushes", self._refusal is not None)

    async def run(self) -> None:
        """Push until cancelled."""
        backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        self._known = None  # whatever an earlier run had begun
        async with self._connect() as edge:
            while True:
                changed = self._changed.next()
                self._look()
                epoch = self._lease_epoch()
                if epoch is None:
                    await asyncio.sleep(LEASE_EVERY)
                    continue
                if epoch != self._epoch:
                    self._epoch, self._known = epoch, None
                if self._waiting or self._known is None or time.monotonic() - self._pushed > self._heartbeat:
                    if await self._push(edge):
                        backoff.reset()
                    else:
                        await asyncio.sleep(backoff.next() * random.uniform(0.5, 1))  # noqa: S311 - no secret
                        continue
                await wait_at_most(LOOK_EVERY, changed)
                if changed.is_set():
                    await asyncio.sleep(TOGETHER)

    def _change(self) -> None:
        self._changes += 1
        self._waiting.append(time.monotonic())
        self._changed.notify()

    def _look(self) -> None:
        count = len(self._events.events)
        self._events.note(self._report().trouble, self._pong(), self._wall())
        if len(self._events.events) > count:
            self._change()

    async def _push(self, edge: EdgeClient) -> bool:
        """Make one push; returns whether the edge has taken it."""
        changes = len(self._waiting)
        taken = self._events.events, self._events.new
        self._events.events, self._events.new = [], []
        push = await self._prepared(*taken)
        body = await asyncio.to_thread(push.encode)
        try:
            answer = await edge.push(body)
        except EdgeError as error:
            self._failed(str(error))
        else:
            self.status, woken = answer.status, answer.status.woken - self.status.woken
            self._woken += woken if woken >= 0 else answer.status.woken
            if answer.is_taken:
                self._took(push, changes, len(body), answer)
                return True
            self._refused(answer)
        self._known = None  # whether the edge has it is not known: the next push has everything
        return False

    async def _prepared(self, events: list[list[object]], segments: list[dict[str, Any]]) -> _Push:
        whole, self._forget = self._known is None or self._forget, False
        self._serial += 1
        self._stream.show(self._view)
        sources = {**texts_of(self._stream), **await self._other_texts()}
        pong = self._pong()
        message = {
            "v": VERSION,
            "epoch": self._epoch,
            "serial": self._serial,
            "base": None if whole else self._known,
            "now": milliseconds(self._wall()),
            "state": self._events.state(self._view),
            "sampling": {
                "share": pong.share,
                "every": pong.every,
                "encoderOffset": self._events.encoder_offset,
            },
            "events": [] if whole else events,
            "segments": list(self._events.segments) if whole else segments,
            **({"answers": list(self._answers)} if self._answers else {}),
        }
        if whole:
            return _Push(message, sources, {})
        same = {name: self._texts[name] for name, text in sources.items() if self._is_sent(name, text)}
        new = {name: text for name, text in sources.items() if name not in same}
        return _Push(message, new, self._texts, same)

    def _is_sent(self, name: str, text: EdgeText) -> bool:
        sent = self._sent.get(name)
        if sent is None or isinstance(text.source, str):
            return sent is not None and sent.source == text.source
        return sent.source is text.source

    async def _other_texts(self) -> dict[str, EdgeText]:
        """Texts besides the playlists; each is JSON, and its own source."""
        report, main = self._report(), self._view.main
        variants = main.playlist.variants if main and isinstance(main.playlist, MultivariantPlaylist) else ()
        self._tracker.admit(self._view.runs, variants)
        stream = {"title": report.title, "poster": report.poster}
        page, recordings = await self._page.texts(stream, self._recordings)
        found = {"health": health_fields(report), "page": page, "recordings": recordings}
        if self._grants:
            asking = await self._page.asking(takes_passphrase=self._passphrase is not None)
            found["gate"] = {
                "secret": self._grants.secret,
                "grants": dict(self._grants.ends),
                "waiting": dict(self._grants.waiting),
                "doors": self._grants.doors,
                "opened": opened_of(self._recordings),
                "asking": asking,
            }
        if report.signaling:
            found["swarms"] = sorted(self._tracker.admitted)
        texts = {name: json.dumps(value, separators=(",", ":")) for name, value in found.items()}
        return {name: EdgeText(text, partial(str, text)) for name, text in texts.items()}

    def _took(self, push: _Push, changes: int, size: int, answer: EdgeAnswer) -> None:
        self._pushes["done"] += 1
        self._bytes += size
        self._texts = push.texts
        self._sent = {**{name: self._sent[name] for name in push.texts if name in self._sent}, **push.sources}
        self._known, self._pushed = self._serial, time.monotonic()
        for _ in range(changes):
            self._waiting.popleft()
        del self._answers[: len(push.message.get("answers", ()))]
        if self._failing_since is not None:
            logger.info("the edge takes pushes again")
        self._failing_since = self._refusal = None
        if reports := answer.status.reports:
            self._reports += len(reports)
            grants = chain(answer.status.grants, repeat(""))
            self._on_reports([(*report, grant) for report, grant in zip(reports, grants, strict=False)])
        if answer.status.opened:
            self._on_opened(answer.status.opened)
        for attempt in answer.status.tries:
            self._try(*attempt)

    def _try(self, name: str, address: str, text: str) -> None:
        """Have a stranger's passphrase answered, unless there were too many of that client network."""
        network = client_network(address, {}, NO_HEADER) or "unknown"

        def answer(found: PassphraseAnswer) -> None:
            if found.token:
                self._limits.give_back(network)
            self._answers.append((name, found.token, found.busy))
            self._change()

        if self._passphrase and not self._limits.take(network):
            self._passphrase(PassphraseTry(name, text), answer)
        else:
            answer(PassphraseAnswer(name, busy=True))

    def _failed(self, why: str) -> None:
        self._pushes["failed"] += 1
        if self._failing_since is None:
            self._failing_since = time.monotonic()
        if self._log.allows("edge"):
            logger.warning("a push to the edge fails, and is made again: %s", why)

    def _refused(self, answer: EdgeAnswer) -> None:
        status = answer.status
        if answer.http == HTTPStatus.CONFLICT and status.reason == "base":
            return  # another push says everything
        if answer.http == HTTPStatus.CONFLICT:
            if status.silent > 1000 * ABANDONED:  # whoever was later than us is gone, or a clock was wrong
                self._outbid(status.epoch)
                return
            cause = "another broadcaster pushes to the edge, from another bucket or prefix"
            refusal: Problem | None = Problem(cause, "stop one of the two")
        elif status.reason == "version":
            refusal = _other_version(status.v)
        else:
            refusal = REFUSED.get(HTTPStatus(answer.http))
        self._failed(str(refusal or f"it is answered {answer.http} {status.reason}".rstrip()))
        self._refusal = refusal


def _other_version(version: int) -> Problem:
    """The problem of an edge with this version of the protocol."""
    act = (
        "upgrade the service" if version > VERSION else "deploy the Worker of this release (docs/scaling.md)"
    )
    return Problem(f"the edge has version {version} of the protocol, the service {VERSION}", act)
