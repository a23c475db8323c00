"""The records: frozen facts about runs and segments, which everybody reads and nobody copies."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path


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
    def modified(self) -> datetime:
        """When the file was finished."""
        return datetime.fromtimestamp(self.modified_ns / 1e9, UTC)


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment that a source playlist lists, in its turn, each once.

    ``file`` is None when the segment is broken or never came; ``fault`` then says why.
    """

    variant: str
    run: Run
    sequence: int  # media sequence number in the source playlist
    uri: str  # as the source playlist has it
    name: str
    duration: timedelta
    program_date_time: datetime
    target_duration: int  # seconds, of the source playlist
    independent: bool  # the source playlist has EXT-X-INDEPENDENT-SEGMENTS
    noticed: datetime
    file: SourceFile | None
    fault: str | None = None
    map_file: SourceFile | None = None  # EXT-X-MAP


@dataclass(frozen=True, slots=True)
class SourcePosition:
    """How far a variant had been followed: its latest segments by their numbers in the source playlist."""

    run: Run
    known: dict[int, tuple[str, datetime]]  # URI and program date time
    target_duration: int  # seconds, of the source playlist
    independent: bool  # it has EXT-X-INDEPENDENT-SEGMENTS


@dataclass(frozen=True, slots=True)
class SourceMemory:
    """What a source that starts again has to know to go on where it stood."""

    runs: tuple[Run, ...] = ()
    positions: dict[str, SourcePosition] = field(default_factory=dict)  # by variant
