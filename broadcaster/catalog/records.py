"""The records: frozen facts about runs and segments, which everybody reads and nobody copies."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from broadcaster.errors import is_final
from broadcaster.hls import ByteRange, MediaSegment, MultivariantPlaylist
from broadcaster.own_files import open_beneath, read_all

LARGEST = 256 * 2**20  # bytes of a segment: what relays and exports take, and an upload has in memory


@dataclass(frozen=True, slots=True)
class Run:
    """One uninterrupted run of the encoder; a new run is a discontinuity in every variant."""

    number: int  # 0 for the first: the discontinuity number of all its segments (§6.2.4)
    id: str  # unique for all time; a part of the object keys
    identity: str  # what the source tells its runs apart by: the encoder's id, if any, # and a count

    @property
    def has_encoder_id(self) -> bool:
        """Whether the names of its segments carry an id that no other run has."""
        return not self.identity.startswith("#")


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells whether a file is the same, under whatever name: it is still there, and was not changed."""

    inode: int
    modified_ns: int
    size: int


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A finished file. Size in bytes and modification time in nanoseconds tell whether it changed later.

    Another inode under the same path is another file. 0 is unknown.
    """

    name: str
    path: Path
    size: int
    modified_ns: int
    inode: int = 0

    @property
    def identity(self) -> FileIdentity:
        """What tells whether another file is this one."""
        return FileIdentity(self.inode, self.modified_ns, self.size)

    @property
    def modified(self) -> datetime:
        """When the file was finished."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)

    def open(self, *, exact: bool = True) -> int:
        """A descriptor of this very file, which nobody can swap any more. The caller closes it.

        Raises FileNotFoundError where it is gone, or another one has its name; OSError where that cannot be
        told now. Unless it has to be ``exact``ly as it was, its writer may have gone on.
        """
        try:
            descriptor = open_beneath(Path("/"), self.path)
        except OSError as error:
            if not is_final(error):
                raise
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self.path)) from None
        status = os.fstat(descriptor)
        same = stat.S_ISREG(status.st_mode) and self.inode in (0, status.st_ino)
        if same and (not exact or self.is_as(status)):
            return descriptor
        os.close(descriptor)
        raise FileNotFoundError(errno.ENOENT, "it is gone, or another one has its name", str(self.path))

    def is_as(self, status: os.stat_result) -> bool:
        """Whether it has the size and the time that it had, or an earlier time.

        Those who copy files give them the times of the originals once they are written; who writes again
        makes a file newer.
        """
        return status.st_size == self.size and status.st_mtime_ns <= self.modified_ns

    def read(self, most: int = LARGEST) -> bytes:
        """Its first bytes, ``most`` of them; raises as ``open`` does, also where they change meanwhile."""
        descriptor = self.open()
        try:
            body = read_all(descriptor, min(self.size, most))
            if not self.is_as(os.fstat(descriptor)):
                raise FileNotFoundError(errno.ENOENT, "it changed while it was read", str(self.path))
        finally:
            os.close(descriptor)
        return body


class Step(StrEnum):
    """How far a segment has come."""

    NOTICED = "noticed"  # finished, and kept in the spool if that could be done
    STORED = "stored"  # the bucket has it
    LOST = "lost"  # it never will: a gap
    LISTED = "listed"  # viewers are told of it
    UNLISTED = "unlisted"  # they are told no more; to be deleted at its time, or kept
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment, in its turn, from the moment it is noticed until its object is deleted.

    Each step fills in what it has found out, in a copy, which takes the place of the one before.
    """

    # Noticed: what the source says of it.
    variant: str
    run: Run
    sequence: int  # media sequence number in the source playlist
    uri: str  # as the source playlist has it
    name: str
    duration: timedelta
    program_date_time: datetime  # by the encoder's clock
    target_duration: int  # seconds, of the source playlist
    independent: bool  # the source playlist has EXT-X-INDEPENDENT-SEGMENTS
    noticed: datetime
    file: SourceFile | None = None  # None when it is broken or never came
    fault: str | None = None  # why it is a gap
    map_file: SourceFile | None = None  # EXT-X-MAP
    key: str = ""  # of its object, used by no other
    map_key: str | None = None  # of its EXT-X-MAP's object
    # Stored, or lost.
    url: str = ""
    map_url: str | None = None
    size: int = 0  # bytes in the bucket
    sha256: str | None = None  # hexadecimal; None for what an earlier process uploaded
    uploaded: datetime | None = None  # when the bucket confirmed it
    iframe: ByteRange | None = None  # the key frame that it begins with, where one was found
    # Listed. Of one that is too long, and became several gaps, the last.
    number: int = 0  # media sequence number
    time: datetime | None = None  # as viewers are told

    def keyed(self, prefix: str) -> Segment:
        """The same with an object key that is never used twice, below ``prefix``, and one for its EXT-X-MAP.

        Owncast's names are unique in their run; other writers may use theirs in turn, so the number goes in.
        """
        name = self.name if self.run.has_encoder_id else f"{self.sequence}-{self.name}"
        folder = f"{prefix}/{self.run.id}/{self.variant}"
        map_key = f"{folder}/{self.map_file.name}" if self.map_file else None
        return replace(self, key=f"{folder}/{name}", map_key=map_key)

    @property
    def gap(self) -> bool:
        """Whether there is nothing of it to be seen."""
        return self.fault is not None

    @property
    def completed(self) -> datetime | None:
        """When its file was finished; None for a gap."""
        return self.file.modified if self.file and not self.gap else None

    @property
    def media(self) -> MediaSegment:
        """As a playlist has it, by the encoder's clock."""
        return MediaSegment(
            uri=self.url,
            duration=self.duration,
            map_uri=None if self.gap else self.map_url,
            program_date_time=self.program_date_time,
            gap=self.gap,
            iframe=self.iframe,
        )


Listed = tuple[int, MediaSegment, bool]  # media sequence number, segment, whether it is independent


@dataclass(frozen=True, slots=True)
class PlaylistState:
    """Where one variant's playlist stands, apart from the segments it lists."""

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
class Listing:
    """What listing one segment did to its playlist, to be remembered before anybody can see it.

    ``added`` are the segment's own line, the last, and the gaps that come before it. Segments below
    ``first`` are no longer listed, not even for those who are behind; they have to stay readable for
    ``availability``, the duration of the longest playlist plus their own (§6.2.2).
    """

    segment: Segment
    playlist: PlaylistState
    added: Sequence[Listed]
    first: int
    availability: timedelta
    shift: timedelta  # of the run's times


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """How far a variant had been followed: its latest segments by their numbers in the source playlist."""

    run: Run
    known: dict[int, tuple[str, datetime]]  # URI and program date time
    target_duration: int  # seconds, of the source playlist
    independent: bool  # it has EXT-X-INDEPENDENT-SEGMENTS
    files: Mapping[int, FileIdentity] = field(default_factory=dict)  # of those whose files are known


@dataclass(frozen=True, slots=True)
class SourceMemory:
    """What a source that starts again has to know to go on where it stood."""

    runs: tuple[Run, ...] = ()
    positions: dict[str, SourcePosition] = field(default_factory=dict)  # by variant


@dataclass(frozen=True, slots=True)
class ChannelMemory:
    """Everything that an earlier process served."""

    playlists: Sequence[tuple[PlaylistState, Sequence[Listed]]] = ()
    # What the source said of its variants, by their names.
    described: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)
    shifts: dict[int, timedelta] = field(default_factory=dict)  # by run number
    runs: Sequence[str] = ()  # ids of the latest, newest last
    # By variant: what has left its window, and was listed for those who are behind.
    kept: Mapping[str, Sequence[Listed]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Memory:
    """Everything that an earlier process left."""

    source: SourceMemory
    channel: ChannelMemory
    pending: Sequence[Segment]  # on their way, in order
