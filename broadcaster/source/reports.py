"""What a source reports, apart from the segments themselves."""

from __future__ import annotations

from dataclasses import dataclass, field

from broadcaster.catalog.records import Segment
from broadcaster.hls import MultivariantPlaylist


@dataclass(frozen=True, slots=True)
class VariantsListed:
    """What the source says of its variants, by their names.

    The multivariant playlist may be of another run, or of Owncast's idle clip: it is written at any time, and
    says nothing of its age. What there is a place for in the folder is true at this moment. The segments of a
    rendition with a playlist of its own come as those of a variant of its name.
    """

    playlist: MultivariantPlaylist = field(default_factory=MultivariantPlaylist)  # names in the place of URIs
    present: frozenset[str] = frozenset()  # those with a folder, or a playlist that is followed


@dataclass(frozen=True, slots=True)
class SourceEnded:
    """A variant's playlist says ENDLIST. Provisional: the same stream may go on."""

    variant: str


@dataclass(frozen=True, slots=True)
class SourceIdle:
    """Owncast's idle clip has been alone for so long that no transcoder of a stream can be beside it."""


@dataclass(frozen=True, slots=True)
class SourceFault:
    """Why nothing can be read in the folder, for some seconds already; None once it can be."""

    message: str | None


@dataclass(frozen=True, slots=True)
class SourceRefused:
    """Which playlists are written and cannot be followed, and why; None when all are followed."""

    message: str | None


SourceEvent = Segment | VariantsListed | SourceEnded | SourceIdle | SourceFault | SourceRefused
