"""The messages between ingest and the viewer server, and the view that they carry.

On the socket pair a message is four bytes of length, and JSON. With JSON neither process has to trust the
other: strangers talk to the viewer server, and ingest reads its answers.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, NamedTuple, TypeVar

from pydantic import AwareDatetime, Field, TypeAdapter

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant

# The media is not there (any more); viewers have made the allowed number of clips; clips cannot be made now.
ClipRefusal = Literal["gone", "full", "away"]


AccessMode = Literal["public", "passphrase", "invitation"]


@dataclass(frozen=True, slots=True)
class Grants:
    """Who may watch a private event: by grant, until when (seconds since the epoch; None: without end).

    ``waiting`` are the grants that will be valid when the doors open. ``doors`` is another text each time
    that they open or close.
    """

    secret: str = field(repr=False)  # hexadecimal: the key of tokens
    ends: Mapping[str, int | None]
    waiting: Mapping[str, int | None] = field(default_factory=dict)
    doors: str = "open"
    kind: Literal["grants"] = "grants"


@dataclass(frozen=True, slots=True)
class PassphraseTry:
    """A passphrase that a stranger has typed."""

    id: Annotated[str, Field(max_length=64)]  # random
    text: Annotated[str, Field(max_length=200)] = field(repr=False)


@dataclass(frozen=True, slots=True)
class PassphraseAnswer:
    """The token for a right passphrase; None for a wrong one, and if it was not looked at (``busy``)."""

    request: str  # its id
    token: str | None = field(default=None, repr=False)
    busy: bool = False
    kind: Literal["passphrase_answer"] = "passphrase_answer"


@dataclass(frozen=True, slots=True)
class GuestCount:
    """Of a grant: how often its link was opened since the last pong, and how many pages watch now."""

    grant: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    opened: Annotated[int, Field(ge=0, le=10**7)] = 0
    watching: Annotated[int, Field(ge=0, le=10**7)] = 0


@dataclass(frozen=True, slots=True)
class ClipRequest:
    """A viewer's request for a clip between two times, as the page shows them."""

    id: Annotated[str, Field(max_length=64)]  # random
    begin: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class ClipAnswer:
    """The answer to a clip request: the clip's id, or the reason why there is none."""

    request: str  # its id
    clip: str | None = None
    refusal: ClipRefusal | None = None
    kind: Literal["clip_answer"] = "clip_answer"


P = TypeVar("P", MediaPlaylist, MultivariantPlaylist)
MEGABIT = 1e6
MOST_GRANTS = 2001  # that a pong counts


class State(StrEnum):
    """The state of the stream, for viewers."""

    OFFLINE = "offline"  # since the start of the service
    STARTING = "starting"  # not all variants have a segment yet
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Version(Generic[P]):
    """One version of a playlist; ``modified`` is the wall time of its publication."""

    playlist: P
    modified: datetime
    target_duration: int  # seconds
    kept: MediaPlaylist | None = None  # the DVR playlist


AnyVersion = Version[MediaPlaylist] | Version[MultivariantPlaylist]


@dataclass(frozen=True, slots=True)
class View:
    """The playlists as viewers see them at a moment."""

    state: State = State.OFFLINE
    target_duration: int | None = None  # seconds; None before the first stream
    runs: tuple[str, ...] = ()  # ids of the latest encoder runs, newest last
    playlists: Mapping[str, Version[MediaPlaylist]] = field(default_factory=dict)  # by variant
    main: AnyVersion | None = None  # the multivariant playlist, or the media playlist of a single variant

    @property
    def qualities(self) -> tuple[str, ...]:
        """The variants for people: "720p, 2.5 Mbit/s"; empty with a single variant."""
        playlist = self.main and self.main.playlist
        return tuple(map(_quality, playlist.variants)) if isinstance(playlist, MultivariantPlaylist) else ()


def _quality(variant: Variant) -> str:
    bits = variant.average_bandwidth or variant.bandwidth
    rate = f"{bits / 1e6:.1f} Mbit/s" if bits >= MEGABIT else f"{bits / 1e3:.0f} kbit/s"
    return f"{variant.resolution[1]}p, {rate}" if variant.resolution else rate


Amount = Annotated[int, Field(ge=0, le=10**7)]
CodecName = Annotated[str, Field(pattern=r"^[A-Za-z0-9.-]{1,7}$")]
PlaylistPath = Annotated[str, Field(max_length=8192)]  # relative to the bucket's prefix
# The public cause why a running stream does not reach viewers: finished segments are not delivered, or the
# encoder brings nothing new. With both, it is the encoder.
ViewerProblem = Literal["delivery", "encoder"]
Severity = Literal["ok", "warning", "failing"]
HealthPart = Literal["encoder", "service", "bucket", "viewers"]  # in the order that a segment passes them
WELL: Mapping[str, str] = {
    State.OFFLINE: "no stream is on",
    State.STARTING: "a stream is starting",
    State.ENDED: "the stream has ended",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: the configuration of the viewer server.

    The page in ``viewer_dir`` is served at ``/`` if it exists; ``page`` has its settings.
    """

    viewer_dir: Path
    page: Mapping[str, Any] = field(default_factory=dict)  # JSON
    max_waiters: int = 5000  # blocked requests
    max_connections: int = 10_000
    tracker: bool = False
    log: tuple[str, str] = ("info", "text")  # level and format
    recordings: bool = False  # serve pages of recordings
    clips: bool = False  # let viewers make clips
    media: bool = False  # segments are served, too
    trusted_header: str | None = None  # with the viewer's address; "none" to trust no header
    signed: bool = False  # ask for signed playlists of recordings, as the bucket is private
    reports_per_second: float = 5.0  # of pages; 0: pages send no reports
    access: AccessMode = "public"  # else nobody passes before the first ``Grants``
    leader: str | None = None  # URL of the broadcaster that answers in the place of this one, which stands by
    fenced: bool = False  # the stream is shown while the service leads, and not before the first ``Ping``
    kind: Literal["setup"] = "setup"


@dataclass(frozen=True, slots=True)
class PlaylistDelta:
    """A playlist with the segments from number ``first`` on."""

    playlist: MediaPlaylist
    first: int

    def apply_to(self, before: MediaPlaylist | None) -> MediaPlaylist:
        """The whole playlist; raises ValueError when the delta does not continue ``before``."""
        new = self.playlist
        if self.first == new.media_sequence:
            return new
        skipped = new.media_sequence - before.media_sequence if before else -1
        if before is None or skipped < 0 or before.last + 1 != self.first:
            raise ValueError("a version does not continue the one before")
        return replace(new, segments=(*before.segments[skipped:], *new.segments))


@dataclass(frozen=True, slots=True)
class VariantDelta:
    """A new version of a variant's media playlist and of its DVR playlist."""

    playlist: PlaylistDelta
    modified: datetime
    kept: PlaylistDelta | None = None

    def apply_to(self, before: Version[MediaPlaylist] | None) -> Version[MediaPlaylist]:
        """The whole version; raises ValueError when the delta does not continue ``before``."""
        new = self.playlist.apply_to(before.playlist if before else None)
        kept = self.kept.apply_to(before.kept if before else None) if self.kept else None
        return Version(new, self.modified, new.target_duration, kept)


@dataclass(frozen=True, slots=True)
class ViewDelta:
    """The difference between two views."""

    state: State
    target_duration: int | None  # seconds
    runs: tuple[str, ...]
    variants: tuple[str, ...]  # all variants of the new view
    updates: Mapping[str, VariantDelta]  # of the variants that have a new version
    multivariant: MultivariantPlaylist | None
    modified: datetime | None  # of the multivariant playlist
    kind: Literal["view_delta"] = "view_delta"

    def apply_to(self, before: View) -> View:
        """The new view; raises ValueError when the delta does not fit ``before``."""
        playlists = {name: before.playlists[name] for name in self.variants if name in before.playlists}
        for name, update in self.updates.items():
            playlists[name] = update.apply_to(playlists.get(name))
        main: AnyVersion | None = next(iter(playlists.values()), None)
        if self.multivariant and self.modified:
            main = Version(self.multivariant, self.modified, self.target_duration or 1)
        ordered = {name: playlists[name] for name in self.variants}
        return View(self.state, self.target_duration, self.runs, ordered, main)


def view_delta(before: View, now: View) -> ViewDelta:
    """The smallest delta between two views."""
    updates = {
        name: _variant_delta(before.playlists.get(name), version)
        for name, version in now.playlists.items()
        if before.playlists.get(name) is not version
    }
    multivariant, modified = None, None
    if now.main and isinstance(now.main.playlist, MultivariantPlaylist):
        multivariant, modified = now.main.playlist, now.main.modified
    variants = tuple(now.playlists)
    return ViewDelta(now.state, now.target_duration, now.runs, variants, updates, multivariant, modified)


def _variant_delta(before: Version[MediaPlaylist] | None, now: Version[MediaPlaylist]) -> VariantDelta:
    kept = _playlist_delta(before.kept if before else None, now.kept) if now.kept else None
    playlist = _playlist_delta(before.playlist if before else None, now.playlist)
    return VariantDelta(playlist, now.modified, kept)


def _playlist_delta(old: MediaPlaylist | None, new: MediaPlaylist) -> PlaylistDelta:
    first = new.media_sequence
    if old and old.media_sequence <= first <= old.last + 1 <= new.last + 1:
        common = old.segments[first - old.media_sequence :]
        # Most segments are the same objects, so the comparison is quick.
        if common == new.segments[: len(common)]:
            first = old.last + 1
    return PlaylistDelta(replace(new, segments=new.segments[first - new.media_sequence :]), first)


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment or a gap was listed."""

    variant: str
    sequence: int
    run: str
    url: str | None
    map_url: str | None
    duration: timedelta
    time: datetime | None  # PROGRAM-DATE-TIME
    size: int | None  # bytes
    sha256: str | None
    gap: bool
    completed: datetime | None  # when the file was complete
    noticed: datetime | None
    uploaded: datetime | None
    published: datetime
    kind: Literal["listed"] = "listed"


@dataclass(frozen=True, slots=True)
class Started:
    """A stream has started: its playlists are served."""

    variants: tuple[str, ...]
    target_duration: int  # seconds
    run: str
    at: datetime
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Ended:
    """The playlists have EXT-X-ENDLIST. ``going_on``: new playlists follow at once at the same address."""

    at: datetime
    going_on: bool = False
    kind: Literal["ended"] = "ended"


class PartFault(NamedTuple):
    """What is wrong with a part between encoder and viewers, and what to do about it."""

    part: HealthPart
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True)
class HealthReport:
    """The health of the service. ``reason`` says why a running stream does not reach viewers.

    ``warning`` names other faults. ``signaling`` says if the tracker is on, ``torrents`` counts its swarms.
    ``faults`` are those of ``reason`` and ``warning``; beside a ``reason``, the first of each part.
    """

    stream: str
    backlog: int
    reason: str | None
    warning: str | None = None
    peers: int = 0
    torrents: int = 0
    signaling: bool = False
    published: int = 0  # segments since the start
    listed: int = 0  # segments in all playlists
    variants: tuple[str, ...] = ()
    qualities: tuple[str, ...] = ()  # ``View.qualities``
    target_duration: int | None = None  # seconds
    silence: float = 0.0  # seconds since the last segment of the source
    viewers: int = 0  # pages; an estimate where reports are sampled
    viewers_error: int = 0  # of that estimate: two standard deviations
    trouble: ViewerProblem | None = None
    parts: Mapping[HealthPart, Severity] = field(default_factory=dict)  # without parts that are "ok"
    title: str | None = None  # the stream's title in Owncast
    poster: str | None = None  # the URL of the live poster
    standby: bool = False  # another broadcaster leads, and viewers get what that one shows
    faults: tuple[PartFault, ...] = ()
    frozen: float | None = None  # seconds for which viewers have seen a still picture

    @property
    def severity(self) -> Severity:
        """Failing when viewers do not get the running stream, warning for other faults."""
        return "failing" if self.reason else "warning" if self.warning else "ok"

    @property
    def sentence(self) -> str:
        """The state of the service in one sentence, for the operator: the first of ``faults``, if any."""
        if self.stream == State.LIVE and self.severity == "ok":
            return f"LIVE: {self.viewers} viewer{'' if self.viewers == 1 else 's'}"
        if self.faults:
            return self.faults[0].cause
        return self.reason or self.warning or WELL.get(self.stream, self.stream)


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks for a pong, and has the health of ingest.

    ``leads_until`` is the end of the time for which the service surely leads (``boot_time``); None: it does
    not matter. ``others`` are the IP addresses of the other broadcaster's machine.
    """

    report: HealthReport
    leads_until: float | None = None
    others: tuple[str, ...] = ()
    kind: Literal["ping"] = "ping"


@dataclass(frozen=True, slots=True)
class EdgeReports:
    """Reports of pages that an edge has collected: each page's address, the text, and its guest's grant."""

    reports: tuple[tuple[str, str, str], ...]
    kind: Literal["edge_reports"] = "edge_reports"


@dataclass(frozen=True, slots=True)
class SentMetric:
    """A ``Metric`` of the viewer server as a message."""

    name: str
    text: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]
    is_counter: bool
    total: tuple[tuple[tuple[str, ...], float], ...] | None


@dataclass(frozen=True, slots=True)
class Pong:
    """The answer to a ping: the present metrics, and the requests of viewers since the last pong.

    Strangers talk to the sender: each field has a range.
    """

    metrics: Annotated[tuple[SentMetric, ...], Field(max_length=100)]
    viewers: Amount = 0
    peers: Amount = 0
    torrents: Amount = 0
    clip_requests: Annotated[tuple[ClipRequest, ...], Field(max_length=100)] = ()
    max_viewer_delay: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0  # seconds
    playlists_to_sign: Annotated[tuple[PlaylistPath, ...], Field(max_length=100)] = ()
    pages_with_picture: Amount = 0
    pages_without_picture: Amount = 0  # that report errors
    # Without a decoder, by the codec.
    pages_undecodable: Annotated[dict[CodecName, Amount], Field(max_length=10)] = field(default_factory=dict)
    viewers_error: Amount = 0
    share: Annotated[float, Field(ge=0, le=1)] = 1.0  # of pages that report
    every: Annotated[float, Field(ge=1, le=3600)] = 25.0  # seconds between two reports of a page
    passphrases: Annotated[tuple[PassphraseTry, ...], Field(max_length=100)] = ()
    guests: Annotated[tuple[GuestCount, ...], Field(max_length=MOST_GRANTS)] = ()


@dataclass(frozen=True, slots=True)
class PublicFile:
    """A whole recording as one file."""

    url: str
    size: int  # bytes
    type: str  # media type


@dataclass(frozen=True, slots=True)
class PublicRecording:
    """A recording or clip that viewers can watch."""

    id: str
    title: str
    started: datetime
    ended: datetime | None  # None while it is recorded
    duration: float  # seconds
    playlists: tuple[str, ...]  # URLs, one for each part
    poster: str | None = None
    listed: bool = True  # False: only viewers with its address find it
    clip: bool = False
    file: PublicFile | None = None
    opened: bool = False  # strangers to a private event can watch it

    @property
    def path(self) -> str:
        """The path of its page. A recording and a clip can have the same id, but not the same path."""
        return f"/{'c' if self.clip else 'watch'}/{self.id}"


@dataclass(frozen=True, slots=True)
class RecordingsDelta:
    """Delta of the list of recordings: changed entries and removed paths."""

    changed: tuple[PublicRecording, ...] = ()
    gone: tuple[str, ...] = ()  # paths
    kind: Literal["recordings"] = "recordings"

    def apply_to(self, before: Mapping[str, PublicRecording]) -> dict[str, PublicRecording]:
        """The new list, by path."""
        kept = {path: recording for path, recording in before.items() if path not in self.gone}
        return kept | {recording.path: recording for recording in self.changed}


def recordings_delta(
    before: Mapping[str, PublicRecording], now: Mapping[str, PublicRecording]
) -> RecordingsDelta:
    """The smallest delta between two lists."""
    changed = tuple(recording for path, recording in now.items() if before.get(path) != recording)
    return RecordingsDelta(changed, tuple(before.keys() - now.keys()))


@dataclass(frozen=True, slots=True)
class SignedPlaylist:
    """A playlist of a private bucket with signed URLs, valid for ``max_age`` seconds."""

    path: str  # relative to the bucket's prefix
    gzipped: str | None  # in Base64; None if there is no such playlist
    max_age: int
    kind: Literal["signed"] = "signed"


LENGTH = struct.Struct("!I")
MAX_PONG = 2**20  # bytes

Update = (
    ViewDelta
    | Listed
    | Started
    | Ended
    | RecordingsDelta
    | SignedPlaylist
    | ClipAnswer
    | EdgeReports
    | Grants
    | PassphraseAnswer
    | Ping
)
Message = Setup | Update

_messages: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
_pongs: TypeAdapter[Pong] = TypeAdapter(Pong)


def encode(message: Message) -> bytes:
    """A message to the viewer server."""
    return _framed(_messages.dump_json(message))


def encode_pong(pong: Pong) -> bytes:
    """A message to ingest."""
    return _framed(_pongs.dump_json(pong))


def decode(body: bytes) -> Message:
    """A message without its length; raises ValueError."""
    return _messages.validate_json(body)


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message to the viewer server; raises EOFError at the end of ingest."""
    return decode(await _frame(reader))


async def receive_pong(reader: asyncio.StreamReader) -> Pong:
    """The next answer of the viewer server.

    Raises EOFError at the end of that process, ValueError for a malformed answer or an answer of more than
    1 MiB.
    """
    return _pongs.validate_json(await _frame(reader, MAX_PONG))


def _framed(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


async def _frame(reader: asyncio.StreamReader, most: int | None = None) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if most is not None and length > most:
        raise ValueError(f"a message of {length} bytes")
    return await reader.readexactly(length)


DELAY_MEMORY = 90  # seconds for which a report counts: a browser lets a background page send one a minute


class MaxViewerDelay:
    """How far the most delayed viewer is behind live, from the reports of the last 90 seconds.

    A paused viewer falls behind further until the next report. ``now`` is monotonic, in seconds.
    """

    def __init__(self) -> None:
        # By second of the report: the earliest position, as the time at which it was live.
        self._positions: deque[tuple[int, float]] = deque(maxlen=DELAY_MEMORY)

    def note(self, seconds: float, now: float) -> None:
        """Note that a viewer is ``seconds`` behind live; 0 means that no viewer is."""
        if seconds <= 0:
            return
        second, position = int(now), now - seconds
        if self._positions and self._positions[-1][0] == second:
            position = min(position, self._positions.pop()[1])
        self._positions.append((second, position))

    def seconds(self, now: float) -> float:
        """The largest delay; 0 if no viewer is behind."""
        while self._positions and self._positions[0][0] < now - DELAY_MEMORY:
            self._positions.popleft()
        return now - min((position for _, position in self._positions), default=now)
