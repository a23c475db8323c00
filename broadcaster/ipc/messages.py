"""What ingest tells the audience process, and what that answers.

What a viewer's wish for a clip is told as, on its way to ingest and back.

What viewers may be shown of recordings and clips, and how the other process is told of it.

What viewers see, as data: decided by one process, shown by the other.

Messages as bytes on a socket pair: four bytes of length, and JSON.

JSON, because neither side has to trust the other: what ingest reads comes from a process that strangers
talk to.
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, Field, TypeAdapter

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant

# It is not there, or not any more; there are as many as there may be; nobody can make one at the moment.
Refusal = Literal["gone", "full", "away"]


@dataclass(frozen=True, slots=True)
class ClipWish:
    """Somebody wants to keep what lies between these times, as viewers were told them."""

    id: Annotated[str, Field(max_length=64)]  # that the answer has, and nobody's after a restart
    begin: AwareDatetime
    end: AwareDatetime


@dataclass(frozen=True, slots=True)
class ClipAnswer:
    """What has become of a wish: the clip that there is now, or why there is none."""

    wish: str  # its id
    clip: str | None = None  # its id
    refusal: Refusal | None = None
    kind: Literal["clip_answer"] = "clip_answer"


P = TypeVar("P", MediaPlaylist, MultivariantPlaylist)
MEGABIT = 1e6


class State(StrEnum):
    """Where the stream stands, for viewers."""

    OFFLINE = "offline"  # nothing has been served yet
    STARTING = "starting"  # segments come, but not yet of all variants
    LIVE = "live"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Version(Generic[P]):
    """One version of a playlist; ``modified`` is the wall time of its publication."""

    playlist: P
    modified: datetime
    target_duration: int  # seconds
    kept: MediaPlaylist | None = None  # a longer one for those who are behind, where they are seen to


AnyVersion = Version[MediaPlaylist] | Version[MultivariantPlaylist]


@dataclass(frozen=True, slots=True)
class View:
    """All that viewers see at a time."""

    state: State = State.OFFLINE
    target_duration: int | None = None  # seconds; None before the first stream
    runs: tuple[str, ...] = ()  # ids of the latest, newest last: who stays was told an earlier one
    playlists: Mapping[str, Version[MediaPlaylist]] = field(
        default_factory=dict
    )  # media playlists by variant
    main: AnyVersion | None = None  # the multivariant playlist, or that of an only variant

    @property
    def qualities(self) -> tuple[str, ...]:
        """The variants as people call them: "720p, 2.5 Mbit/s"; none where there is only one."""
        playlist = self.main and self.main.playlist
        if not isinstance(playlist, MultivariantPlaylist):
            return ()
        return tuple(_quality(one) for one in playlist.variants)


def _quality(variant: Variant) -> str:
    bits = variant.average_bandwidth or variant.bandwidth
    rate = f"{bits / 1e6:.1f} Mbit/s" if bits >= MEGABIT else f"{bits / 1e3:.0f} kbit/s"
    return f"{variant.resolution[1]}p, {rate}" if variant.resolution else rate


Amount = Annotated[int, Field(ge=0, le=10**7)]
# What keeps a stream that is on from viewers, as far as the world is told: what is finished does not reach
# them, or, where both are so, the one told second: nothing new comes from the encoder.
Trouble = Literal["delivery", "encoder"]
Severity = Literal["ok", "warning", "failing"]
Part = Literal["encoder", "service", "bucket", "viewers"]  # of the way that a segment takes
WELL: Mapping[str, str] = {
    State.OFFLINE: "no stream is on",
    State.STARTING: "a stream is starting",
    State.ENDED: "the stream has ended",
}


@dataclass(frozen=True, slots=True)
class Setup:
    """The first message: how to serve.

    The page in ``viewer_dir`` is served at ``/`` if it is there, and told ``page``. ``places`` bounds the
    connections, ``waiters`` the requests that wait for a later version of a playlist.
    """

    viewer_dir: Path
    page: Mapping[str, Any] = field(default_factory=dict)  # JSON
    waiters: int = 5000
    places: int = 10_000
    tracker: bool = False
    log: tuple[str, str] = ("info", "text")  # level and form
    recordings: bool = False  # whether there are pages of them
    clips: bool = False  # whether viewers may make some
    media: bool = False  # whether segments are served, too
    trusted_header: str | None = None  # that tells a viewer's address; "none" where no header does
    signed: bool = False  # whether their playlists are asked for by ``wanted``, as the bucket is private
    kind: Literal["setup"] = "setup"


@dataclass(frozen=True, slots=True)
class Tail:
    """A playlist with only those of its segments that are of number ``first`` or later."""

    playlist: MediaPlaylist
    first: int

    def onto(self, before: MediaPlaylist | None) -> MediaPlaylist:
        """All of it; raises ValueError when it does not continue ``before``."""
        new = self.playlist
        if self.first == new.media_sequence:
            return new
        skipped = new.media_sequence - before.media_sequence if before else -1
        if before is None or skipped < 0 or before.last + 1 != self.first:
            raise ValueError("a version does not continue the one before")
        return replace(new, segments=(*before.segments[skipped:], *new.segments))


@dataclass(frozen=True, slots=True)
class Update:
    """A new version of a media playlist, and of the longer one for those who are behind."""

    playlist: Tail
    modified: datetime
    kept: Tail | None = None

    def onto(self, before: Version[MediaPlaylist] | None) -> Version[MediaPlaylist]:
        """The whole version; raises ValueError when it does not continue ``before``."""
        new = self.playlist.onto(before.playlist if before else None)
        kept = self.kept.onto(before.kept if before else None) if self.kept else None
        return Version(new, self.modified, new.target_duration, kept)


@dataclass(frozen=True, slots=True)
class Change:
    """What viewers see from now on."""

    state: State
    target_duration: int | None  # seconds
    runs: tuple[str, ...]
    variants: tuple[str, ...]  # all that are served
    updates: Mapping[str, Update]  # by variant, of those that have a new version
    multivariant: MultivariantPlaylist | None
    modified: datetime | None  # of the multivariant playlist
    kind: Literal["change"] = "change"

    def onto(self, before: View) -> View:
        """The view that it makes of another; raises ValueError when it does not fit."""
        playlists = {name: before.playlists[name] for name in self.variants if name in before.playlists}
        for name, update in self.updates.items():
            playlists[name] = update.onto(playlists.get(name))
        main: AnyVersion | None = next(iter(playlists.values()), None)
        if self.multivariant and self.modified:
            main = Version(self.multivariant, self.modified, self.target_duration or 1)
        ordered = {name: playlists[name] for name in self.variants}
        return View(self.state, self.target_duration, self.runs, ordered, main)


def change(before: View, now: View) -> Change:
    """What has become of one view, as the least that tells the other process so."""
    updates = {
        name: _update(before.playlists.get(name), version)
        for name, version in now.playlists.items()
        if before.playlists.get(name) is not version
    }
    multivariant, modified = None, None
    if now.main and isinstance(now.main.playlist, MultivariantPlaylist):
        multivariant, modified = now.main.playlist, now.main.modified
    variants = tuple(now.playlists)
    return Change(now.state, now.target_duration, now.runs, variants, updates, multivariant, modified)


@dataclass(frozen=True, slots=True)
class Listed:
    """A segment is listed, or a gap in its place."""

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
    completed: datetime | None  # when it was complete on disk
    noticed: datetime | None
    uploaded: datetime | None
    published: datetime
    kind: Literal["listed"] = "listed"


@dataclass(frozen=True, slots=True)
class Started:
    """Playlists are served from now on."""

    variants: tuple[str, ...]
    target_duration: int  # seconds
    run: str
    at: datetime
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Ended:
    """The playlists carry EXT-X-ENDLIST. ``going_on``: new ones follow at the same address at once."""

    at: datetime
    going_on: bool = False
    kind: Literal["ended"] = "ended"


@dataclass(frozen=True, slots=True)
class HealthReport:
    """How the service is. ``reason`` is why a stream that is on does not get through.

    ``warning`` is what is wrong besides, or by no fault of ours. ``signaling`` is whether the tracker is on,
    ``torrents`` its swarms.
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
    qualities: tuple[str, ...] = ()  # the variants as people call them: "720p, 2.5 Mbit/s"
    target_duration: int | None = None  # seconds
    silence: float = 0.0  # seconds since the source brought its last segment
    viewers: int = 0  # pages that watch now
    trouble: Trouble | None = None
    parts: Mapping[Part, Severity] = field(default_factory=dict)  # those that are not well
    title: str | None = None  # the stream's own, as Owncast has it
    poster: str | None = None  # the address of a picture of it, which is renewed

    @property
    def severity(self) -> Severity:
        """How bad it is: "failing" when viewers do not get what is on, "warning" for all else."""
        return "failing" if self.reason else "warning" if self.warning else "ok"

    @property
    def sentence(self) -> str:
        """The one sentence that the operator has to read."""
        if self.stream == State.LIVE and self.severity == "ok":
            return f"LIVE: {self.viewers} viewer{'' if self.viewers == 1 else 's'}"
        return self.reason or self.warning or WELL.get(self.stream, self.stream)


@dataclass(frozen=True, slots=True)
class Ping:
    """Asks the viewer server for a pong; carries the health of ingest."""

    report: HealthReport
    kind: Literal["ping"] = "ping"


@dataclass(frozen=True, slots=True)
class SentMetric:
    """A metric of the audience process (``broadcaster.metrics``)."""

    name: str
    text: str
    labels: tuple[str, ...]
    samples: tuple[tuple[tuple[str, ...], float], ...]
    is_counter: bool
    total: tuple[tuple[tuple[str, ...], float], ...] | None


@dataclass(frozen=True, slots=True)
class Pong:
    """The sign of life, the metrics as they are now, and what viewers have wished for since the last one.

    Strangers talk to the process that sends it: each field has its range.
    """

    metrics: Annotated[tuple[SentMetric, ...], Field(max_length=100)]
    viewers: Amount = 0
    peers: Amount = 0
    torrents: Amount = 0
    clips: Annotated[tuple[ClipWish, ...], Field(max_length=100)] = ()
    # Seconds behind live, of the page that is furthest.
    furthest: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 0.0
    # Playlists of recordings that have to be signed.
    wanted: Annotated[tuple[Annotated[str, Field(max_length=8192)], ...], Field(max_length=100)] = ()
    lit: Amount = 0  # pages that have a picture, as they say
    blind: Amount = 0  # pages that report errors, and have none


def _update(before: Version[MediaPlaylist] | None, now: Version[MediaPlaylist]) -> Update:
    kept = _tail(before.kept if before else None, now.kept) if now.kept else None
    return Update(_tail(before.playlist if before else None, now.playlist), now.modified, kept)


def _tail(old: MediaPlaylist | None, new: MediaPlaylist) -> Tail:
    first = new.media_sequence
    if old and old.media_sequence <= first <= old.last + 1 <= new.last + 1:
        kept = old.segments[first - old.media_sequence :]
        # Most of them are the same objects, which makes it quick.
        if kept == new.segments[: len(kept)]:
            first = old.last + 1
    return Tail(replace(new, segments=new.segments[first - new.media_sequence :]), first)


@dataclass(frozen=True, slots=True)
class File:
    """All of a recording as one file."""

    url: str
    size: int  # bytes
    type: str  # media type


@dataclass(frozen=True, slots=True)
class Recording:
    """A recording that can be watched, or a clip."""

    id: str
    title: str
    started: datetime
    ended: datetime | None  # None while it is on
    duration: float  # seconds
    playlists: tuple[str, ...]  # the address of each part's
    poster: str | None = None
    listed: bool = True  # else it is for those who have its address
    clip: bool = False
    file: File | None = None

    @property
    def path(self) -> str:
        """Where it is watched: its name, too, as a clip may be called like a recording."""
        return f"/{'c' if self.clip else 'watch'}/{self.id}"


@dataclass(frozen=True, slots=True)
class Recordings:
    """What has become of those that there are: these are new or other than they were, those are gone."""

    changed: tuple[Recording, ...] = ()
    gone: tuple[str, ...] = ()  # their paths
    kind: Literal["recordings"] = "recordings"

    def onto(self, before: Mapping[str, Recording]) -> dict[str, Recording]:
        """All that there are now, by their paths."""
        after = {path: one for path, one in before.items() if path not in self.gone}
        return after | {one.path: one for one in self.changed}


@dataclass(frozen=True, slots=True)
class SignedPlaylist:
    """A playlist in a private bucket, with signed addresses, for ``max_age`` seconds."""

    path: str  # relative to the bucket's prefix
    gzipped: str | None  # in Base64; None where there is none
    max_age: int
    kind: Literal["signed"] = "signed"


def difference(before: Mapping[str, Recording], now: Mapping[str, Recording]) -> Recordings:
    """The least that tells the other process so."""
    changed = tuple(one for path, one in now.items() if before.get(path) != one)
    return Recordings(changed, tuple(before.keys() - now.keys()))


LENGTH = struct.Struct("!I")
MAX_PONG = 2**20  # bytes

Message = Setup | Change | Listed | Started | Ended | Recordings | SignedPlaylist | ClipAnswer | Ping

_messages: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])
_pongs: TypeAdapter[Pong] = TypeAdapter(Pong)


def encode(message: Message) -> bytes:
    """For the audience process."""
    return _framed(_messages.dump_json(message))


def encode_pong(pong: Pong) -> bytes:
    """For ingest."""
    return _framed(_pongs.dump_json(pong))


def decode(body: bytes) -> Message:
    """A message without its length; raises ValueError."""
    return _messages.validate_json(body)


async def receive(reader: asyncio.StreamReader) -> Message:
    """The next message for the audience process; raises EOFError when ingest has gone or is done."""
    return decode(await _frame(reader))


async def receive_pong(reader: asyncio.StreamReader) -> Pong:
    """The next answer of the audience process.

    Raises EOFError when that has gone, ValueError for what is no answer, or one of more than 1 MiB.
    """
    return _pongs.validate_json(await _frame(reader, MAX_PONG))


def _framed(body: bytes) -> bytes:
    return LENGTH.pack(len(body)) + body


async def _frame(reader: asyncio.StreamReader, most: int | None = None) -> bytes:
    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
    if most is not None and length > most:
        raise ValueError(f"a message of {length} bytes")
    return await reader.readexactly(length)
