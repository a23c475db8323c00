"""The plan of an export: the request, the objects in order; and the options of the command."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

if TYPE_CHECKING:
    from broadcaster.download import FetchRequest

Kind = Literal["mp4", "m4a", "ts"]
PLAN_FILE = "plan.json"  # in the folder beside the file
CLOCK = re.compile(r"(?:(?:(\d{1,3}):)?(\d{1,4}):)?(\d{1,7}(?:\.\d{1,6})?)")


@dataclass(frozen=True, slots=True)
class Request:
    """An export request. ``begin`` and ``end`` are seconds from the start, or times in ISO 8601."""

    address: str
    kind: Kind
    variant: str = "best"
    part: int = 1
    begin: float | str | None = None
    end: float | str | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """An object or a byte range of an object: a segment with its duration, or an EXT-X-MAP without."""

    url: str
    seconds: float = 0.0
    offset: int = 0
    length: int | None = None

    @property
    def name(self) -> str:
        """The URL without its signature, which is new at each attempt."""
        address, _, query = self.url.partition("?")
        return address if "X-Amz-Signature=" in query else self.url

    @property
    def request(self) -> FetchRequest:
        """The request to fetch the item."""
        from broadcaster.download import FetchRequest  # noqa: PLC0415 - the process that writes the file fetches nothing

        return FetchRequest(self.url, offset=self.offset, length=self.length, name=self.name)


@dataclass(frozen=True, slots=True)
class ExportRun:
    """Segments between two discontinuities, in pieces that can be read alone; a map begins a piece.

    ``gap`` seconds are missing before the run.
    """

    pieces: tuple[tuple[Item, ...], ...]
    gap: float = 0.0


@dataclass(frozen=True, slots=True)
class ExportRendition:
    """The wanted part of a media playlist; ``sound``: audio for the video of another rendition."""

    runs: tuple[ExportRun, ...]
    sound: bool = False

    @property
    def items(self) -> list[Item]:
        """All items in order."""
        return [item for run in self.runs for piece in run.pieces for item in piece]


@dataclass(frozen=True, slots=True)
class ExportPlan:
    """A request and its renditions; the recording has ``more`` further parts."""

    request: Request
    renditions: tuple[ExportRendition, ...]
    more: int = 0

    @property
    def seconds(self) -> float:
        """The duration, gaps included."""
        first = self.renditions[0]
        return sum(item.seconds for item in first.items) + sum(run.gap for run in first.runs)

    @property
    def count(self) -> int:
        """The number of segments and maps."""
        return sum(len(rendition.items) for rendition in self.renditions)

    def with_addresses_of(self, other: ExportPlan) -> ExportPlan:
        """The same items, with the other plan's URLs where it has them."""
        urls = {item.name: item.url for rendition in other.renditions for item in rendition.items}

        def moved(piece: tuple[Item, ...]) -> tuple[Item, ...]:
            return tuple(replace(item, url=urls.get(item.name, item.url)) for item in piece)

        def moved_all(rendition: ExportRendition) -> ExportRendition:
            runs = (replace(run, pieces=tuple(map(moved, run.pieces))) for run in rendition.runs)
            return replace(rendition, runs=tuple(runs))

        return replace(self, renditions=tuple(map(moved_all, self.renditions)))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of an export: URL, file, time range, quality."""
    parser.add_argument(
        "address",
        help="of a playlist or of the page of a recording or clip; or its id (asks the service)",
    )
    parser.add_argument("file", type=_file, help="out.mp4, out.m4a (sound only) or out.ts")
    what = "1:02:03, seconds, or a time as 2026-11-22T20:15:03Z; whole segments"
    parser.add_argument("--from", dest="begin", type=_moment, metavar="TIME", help=f"where it begins: {what}")
    parser.add_argument("--to", dest="end", type=_moment, metavar="TIME", help="where it ends")
    parser.add_argument(
        "--variant", default="best", help="best (default), worst, 720p, or its place: 0, 1, ..."
    )
    parser.add_argument(
        "--part", type=int, default=1, help="of a recording whose qualities changed (default: 1)"
    )


def request_of(options: argparse.Namespace, address: str) -> Request:
    """The request of the command line's options, for this URL."""
    kind = cast(Kind, options.file.suffix[1:])
    return Request(address, kind, options.variant, max(options.part, 1), options.begin, options.end)


def _file(text: str) -> Path:
    path = Path(text)
    if path.suffix[1:] not in get_args(Kind):
        raise argparse.ArgumentTypeError("a file that ends in .mp4, .m4a or .ts")
    return path


def _moment(text: str) -> float | str:
    if match := CLOCK.fullmatch(text):
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return hours * 3600 + minutes * 60 + seconds
    try:
        if datetime.fromisoformat(text).tzinfo:
            return text
    except ValueError:
        pass
    raise argparse.ArgumentTypeError("1:02:03, seconds, or a time with its zone: 2026-11-22T20:15:03Z")
