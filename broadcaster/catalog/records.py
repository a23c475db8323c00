"""The records of the catalog: frozen data about runs, segments, playlists, recordings and clips."""

from __future__ import annotations

import errno
import hmac
import os
import secrets
import stat
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from broadcaster.errors import is_final
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist
from broadcaster.own_files import open_beneath, read_all

LARGEST = 256 * 2**20  # bytes of a segment: the limit of relays and exports; an upload holds it in memory


@dataclass(frozen=True, slots=True)
class Numbers:
    """What playlists have reached: the highest next media sequence number, and the highest discontinuity.

    ``end`` is that of the newest segment, in the time that viewers see. ``variants`` are those of the stream
    that is on, none after its end; None of a broadcaster that has listed nothing yet.
    """

    sequence: int = 1
    discontinuity: int = -1
    end: datetime | None = None
    variants: frozenset[str] | None = None

    def at_least(self, other: Numbers) -> Numbers:
        """The higher of both; the variants are the other's if there are none here."""
        return Numbers(
            max(self.sequence, other.sequence),
            max(self.discontinuity, other.discontinuity),
            max(filter(None, (self.end, other.end)), default=None),
            other.variants if self.variants is None else self.variants,
        )

    def plus(self, margin: int) -> Numbers:
        """Both numbers, raised."""
        return replace(self, sequence=self.sequence + margin, discontinuity=self.discontinuity + margin)


@dataclass(frozen=True, slots=True)
class Run:
    """One uninterrupted run of the encoder; a new run is a discontinuity in every variant."""

    number: int  # 0 for the first: the discontinuity number of all its segments (§6.2.4)
    id: str  # unique for all time; a part of the object keys
    identity: str  # how the source distinguishes runs: the encoder's ID, if any, # and a count

    @property
    def has_encoder_id(self) -> bool:
        """Whether the names of its segments have an ID that no other run has."""
        return not self.identity.startswith("#")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """Equal for two files if they are the same file, under any name, and it was not changed."""

    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A finished file. Its size in bytes and modification time in nanoseconds show a later change.

    Another inode under the same path is another file. 0 is unknown. ``content`` is that of an EXT-X-MAP, as
    encoders write the map of their next run into the same file; None if it has to be read.
    """

    name: str
    path: Path
    size: int
    modified_ns: int
    inode: int = 0
    content: bytes | None = field(default=None, compare=False, repr=False)

    @property
    def identity(self) -> FileIdentity:
        """The identity of the file."""
        return FileIdentity(self.inode, self.modified_ns, self.size)

    @property
    def modified(self) -> datetime:
        """When the file was finished."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)

    def open(self, *, exact: bool = True) -> int:
        """A descriptor of this file, which the caller closes.

        Raises FileNotFoundError if the file is gone or replaced, another OSError if that is unknown now. With
        ``exact=False`` the file may have grown.
        """
        try:
            descriptor = open_beneath(Path("/"), self.path)
        except OSError as error:
            if not is_final(error):
                raise
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
        status = os.fstat(descriptor)
        same = stat.S_ISREG(status.st_mode) and self.inode in (0, status.st_ino)
        if same and (not exact or self.is_unchanged(status)):
            return descriptor
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "the file is gone or replaced", str(self.path))

    def is_unchanged(self, status: os.stat_result) -> bool:
        """Whether the size is the same and the modification time is not later.

        Programs that copy files set the earlier time of the original at the end; a write sets a later time.
        """
        return status.st_size == self.size and status.st_mtime_ns <= self.modified_ns

    def read(self, most: int = LARGEST) -> bytes:
        """The first ``most`` bytes; raises as ``open`` does, also if the file changes meanwhile."""
        if self.content is not None:
            return self.content[:most]
        descriptor = self.open()
        try:
            body = read_all(descriptor, min(self.size, most))
            if not self.is_unchanged(os.fstat(descriptor)):
                raise FileNotFoundError(errno.ENOENT, "the file changed while it was read", str(self.path))
        finally:
            os.close(descriptor)
        return body


class SegmentStep(StrEnum):
    """How far a segment has come."""

    NOTICED = "noticed"  # finished, and in the spool if possible
    STORED = "stored"  # in the bucket
    LOST = "lost"  # a gap: it will never be in the bucket
    LISTED = "listed"  # in a playlist for viewers
    UNLISTED = "unlisted"  # in no playlist; to be deleted at ``delete_at``, or kept
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, from the moment it is noticed until its object is deleted.

    Each step makes a copy with what it has found out, which replaces the former record.
    """

    # Noticed: what the source says of it.
    variant: str
    run: Run
    sequence: int  # media sequence number in the source playlist
    uri: str  # as in the source playlist
    name: str
    duration: timedelta
    program_date_time: datetime  # by the encoder's clock
    target_duration: int  # seconds, of the source playlist
    independent: bool  # the source playlist has EXT-X-INDEPENDENT-SEGMENTS
    noticed: datetime
    file: SourceFile | None = None  # None if it is broken or missing
    fault: str | None = None  # why it is a gap
    map_file: SourceFile | None = None  # EXT-X-MAP
    key: str = ""  # of its object; never used for another object
    map_key: str | None = None  # of its EXT-X-MAP's object
    # Stored, or lost.
    url: str = ""
    map_url: str | None = None
    size: int = 0  # bytes in the bucket
    sha256: str | None = None  # hexadecimal; None if an earlier process uploaded it
    uploaded: datetime | None = None  # when the bucket confirmed it
    iframe: ByteRange | None = None  # the key frame at its beginning, if one was found
    # Listed. A segment that is too long becomes several gaps: these are of the last gap.
    number: int = 0  # media sequence number
    time: datetime | None = None  # program date-time for viewers

    def keyed(self, prefix: str, secret: bytes = b"") -> Segment:
        """A copy with object keys below ``prefix`` for the segment and its EXT-X-MAP.

        Names with an encoder's ID are unique in their run. Other writers may reuse names, so that the key
        needs the number. With a ``secret``, keys cannot be guessed.
        """
        name = self.name if self.run.has_encoder_id else f"{self.sequence}-{self.name}"
        folder = f"{prefix}/{self.run.id}/{self.variant}"
        map_key = unguessable(f"{folder}/{self.map_file.name}", secret) if self.map_file else None
        return replace(self, key=unguessable(f"{folder}/{name}", secret), map_key=map_key)

    @property
    def gap(self) -> bool:
        """Whether its media cannot be had."""
        return self.fault is not None

    @property
    def completed(self) -> datetime | None:
        """When its file was finished; None for a gap."""
        return self.file.modified if self.file and not self.gap else None

    @property
    def media(self) -> MediaSegment:
        """Its playlist entry, by the encoder's clock."""
        return MediaSegment(
            uri=self.url,
            duration=self.duration,
            map_uri=None if self.gap else self.map_url,
            program_date_time=self.program_date_time,
            gap=self.gap,
            iframe=self.iframe,
        )


NumberedSegment = tuple[int, MediaSegment, bool]  # media sequence number, segment, whether it is independent


@dataclass(frozen=True, slots=True)
class PlaylistState:
    """The state of a variant's playlist, without its segments."""

    variant: str
    current: bool  # False: of an earlier stream, kept because its numbers must never fall
    target_duration: int  # seconds
    media_sequence: int  # of the first segment listed
    next_media_sequence: int
    discontinuity_sequence: int  # before the first segment listed
    current_discontinuity: int  # of the newest segment
    ended: bool
    peak_bandwidth: int  # bits per second, measured
    end: datetime | None = None  # of the newest segment there ever was


@dataclass(frozen=True, slots=True)
class PlaylistUpdate:
    """What the listing of a segment changed in its playlist; it is written before viewers see it.

    ``added`` are the gaps before the segment, and last its own entry. Segments below ``first`` are no longer
    listed, not even in the DVR playlist. They stay readable for ``availability``, the duration of the longest
    playlist plus their own (§6.2.2).
    """

    segment: Segment
    playlist: PlaylistState
    added: Sequence[NumberedSegment]
    first: int
    availability: timedelta
    shift: timedelta  # of the run's times


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """The latest segments of a variant, by their numbers in the source playlist."""

    run: Run
    known: dict[int, tuple[str, datetime]]  # URI and program date-time
    target_duration: int  # seconds, of the source playlist
    independent: bool  # the source playlist has EXT-X-INDEPENDENT-SEGMENTS
    files: Mapping[int, FileIdentity] = field(default_factory=dict)  # as far as they are known


@dataclass(frozen=True, slots=True)
class SourceSnapshot:
    """The state of the source at the end of an earlier process."""

    runs: tuple[Run, ...] = ()
    positions: dict[str, SourcePosition] = field(default_factory=dict)  # by variant
    next_run: int = 0  # no new run has a lower number


@dataclass(frozen=True, slots=True)
class StreamSnapshot:
    """The playlists at the end of an earlier process."""

    playlists: Sequence[tuple[PlaylistState, Sequence[NumberedSegment]]] = ()
    described: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)  # the source's variants
    shifts: dict[int, timedelta] = field(default_factory=dict)  # by run number
    runs: Sequence[str] = ()  # IDs of the latest runs, newest last
    # By variant: segments that have left the window, and were in the DVR playlist.
    kept: Mapping[str, Sequence[NumberedSegment]] = field(default_factory=dict)
    first: Numbers = Numbers()
    end: datetime | None = None  # of what another broadcaster had listed: no run begins before
    expected: AbstractSet[str] = frozenset()  # the variants of its stream, which goes on here


@dataclass(frozen=True, slots=True)
class CatalogSnapshot:
    """The state at the end of an earlier process."""

    source: SourceSnapshot
    stream: StreamSnapshot
    pending: Sequence[Segment]  # not listed yet, in order


class Visibility(StrEnum):
    """Which viewers find a recording."""

    LISTED = "listed"  # all: it is in the index
    UNLISTED = "unlisted"  # those with the link of its page, which cannot be guessed
    HIDDEN = "hidden"  # none: it has no page, and an address that cannot be guessed


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A recording as one file. ``address`` is relative to the folder of all recordings."""

    key: str
    address: str
    size: int  # bytes
    type: str  # media type
    part_size: int  # bytes of the parts in which it was uploaded; 0 if unknown
    etag: str


@dataclass(frozen=True, slots=True)
class MultipartUpload:
    """A recording's file from the beginning of its multipart upload to its deletion."""

    key: str
    recording: str  # ID
    size: int  # bytes
    type: str  # media type
    begun: datetime
    upload: str  # the bucket's upload ID; empty for a restored file
    part_size: int  # bytes
    deleted: datetime | None = None  # since when it is in the bin

    @property
    def parts(self) -> int:
        """Number of parts."""
        return -(-self.size // self.part_size)


@dataclass(frozen=True, slots=True)
class Recording:
    """A stream from its start to its end: a view of its segments, in one part or more."""

    id: str
    title: str
    visibility: Visibility
    secret: str  # a part of its address unless it is listed
    started: datetime
    ended: datetime | None  # None while the stream is on
    keep_until: datetime | None  # None: for ever
    duration: timedelta
    size: int  # bytes
    revision: int  # rises with each change that has to be written into the bucket
    file: StoredFile | None = None
    poster: bool = False  # the bucket has one
    thumbnails: bool = False  # recordings of version 0.1.0 have WebVTT thumbnails beside each part
    pictured: bool = False  # no more posters are to be made
    opened: bool = False  # strangers to a private event can watch it, unless it is hidden
    deleted: datetime | None = None  # since when it is in the bin
    bin: str = ""  # a part of its address in the bin

    @property
    def folder(self) -> str:
        """Where its playlists are, below ``recordings/``."""
        if self.deleted is not None:
            return f"{self.id}-{self.bin}"
        is_open = self.visibility is Visibility.LISTED or not self.secret  # unlisted by an older version
        return self.id if is_open else f"{self.id}-{self.secret}"


@dataclass(frozen=True, slots=True)
class Part:
    """The piece of a recording with the same variants."""

    number: int  # in the catalog; the parts of a recording are in this order
    recording: str  # ID
    described: MultivariantPlaylist  # the source's variants, by their names


@dataclass(frozen=True, slots=True)
class Clip:
    """The piece of a stream between two times, as viewers saw them; it keeps its segments."""

    id: str
    title: str
    made: datetime
    begin: datetime
    end: datetime
    described: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)  # the source's variants
    viewer: bool = False  # made by a viewer
    poster: bool = False  # the bucket has one
    pictured: bool = False  # no more posters are to be made
    keep_until: datetime | None = None  # None: for ever
    deleted: datetime | None = None  # since when it is in the bin
    bin: str = ""  # a part of its address in the bin

    @property
    def folder(self) -> str:
        """Where its playlists are, below ``clips/``."""
        return self.id if self.deleted is None else f"{self.id}-{self.bin}"


@dataclass(frozen=True, slots=True)
class ViewerClipLimits:
    """How many clips of viewers there may be."""

    of_a_stream: int
    of_a_day: int  # 24 hours
    in_all: int


@dataclass(frozen=True, slots=True)
class RecordingSegment:
    """A segment of a recording or a clip. ``position`` gives the order among all variants."""

    position: int
    variant: str
    key: str
    map_key: str | None
    duration: timedelta
    time: datetime
    target_duration: int  # seconds, of the source playlist
    discontinuity: int
    independent: bool
    gap: bool
    size: int  # bytes
    iframe: ByteRange | None = None  # the key frame at its beginning, if known


ROUNDING = timedelta(milliseconds=1)  # of times in playlists


def complete_variants(segments: Sequence[RecordingSegment], clip: Clip) -> set[str]:
    """The variants that have segments for all of the clip's time."""
    of_variant: dict[str, list[RecordingSegment]] = {}
    for segment in segments:
        of_variant.setdefault(segment.variant, []).append(segment)
    return {
        variant
        for variant, found in of_variant.items()
        if found[0].time - ROUNDING <= clip.begin
        and clip.end <= found[-1].time + found[-1].duration + ROUNDING
        and not any(map(_is_hole, found, found[1:]))
    }


def _is_hole(before: RecordingSegment, after: RecordingSegment) -> bool:
    """Whether media of the same run is missing between the two; between two runs there may be a break."""
    missing = after.time - before.time - before.duration
    return before.discontinuity == after.discontinuity and missing > before.duration / 2


MINUTE = timedelta(minutes=1)
LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"  # without letters that look alike
LENGTH, LONG = 14, 27  # letters: 69 and 133 bits
# IDs of all versions (4 letters at first); and a part of an address that cannot be guessed.
ID = rf"\d{{4}}-\d\d-\d\d-\d{{4}}-[{LETTERS}]{{4,32}}"
SECRET = r"[0-9a-f]{4,64}"  # noqa: S105 - a pattern


def new_secret() -> str:
    """A part of an address that cannot be guessed: 64 bits."""
    return secrets.token_hex(8)


def unguessable(key: str, secret: bytes) -> str:
    """The key with 128 bits in its name that only the ``secret`` tells; the same key without a secret.

    The same key has the same bits each time, also after a restart; no key tells the bits of another one.
    """
    if not secret:
        return key
    folder, _, name = key.rpartition("/")
    return f"{folder}/{hmac.new(secret, key.encode(), 'sha256').hexdigest()[:32]}-{name}"


def free_id(time: datetime, is_taken: Callable[[str], object], letters: int = LENGTH) -> str:
    """A new ID of a recording or a clip: its time, for people, and letters that cannot be guessed."""
    while True:
        name = f"{time:%Y-%m-%d-%H%M}-" + "".join(secrets.choice(LETTERS) for _ in range(letters))
        if not is_taken(name):
            return name
        time += MINUTE  # with fewer letters, all IDs of a minute may be taken
