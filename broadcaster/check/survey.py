"""What an HLS folder holds: the variants, their segments, and how many bytes a second they make."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broadcaster.catalog.records import SourceMemory
from broadcaster.errors import PlaylistError
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistReader
from broadcaster.ingest.completeness import OutsideError, open_inside
from broadcaster.ingest.folder import MEDIA_SUFFIXES, Folder
from broadcaster.ingest.names import is_offline_clip, local_name, variant_name
from broadcaster.ingest.playlist_file import MAX_BYTES, TORN_FOR, decoded
from broadcaster.ingest.playlists import LEFT_OUT_FOR
from broadcaster.ingest.reports import SourceRefused, VariantsListed
from broadcaster.ingest.scanner import Scanner
from broadcaster.printable import printable

LOOKS, PAUSE = 5, 0.2  # Owncast rewrites playlists in place: one may be met torn. Seconds between looks


@dataclass(frozen=True, slots=True)
class Variant:
    """One media playlist and what it lists."""

    name: str
    target_duration: int  # seconds
    modified: float  # seconds since the epoch
    ended: bool  # EXT-X-ENDLIST
    idle: bool  # nothing but Owncast's offline clip
    listed: int  # segments
    missing: int  # of them not there; the newest may come after its playlist and does not count
    size: int  # bytes of those that are there
    duration: float  # seconds of those that are there
    largest: int  # bytes
    sample: Path | None  # the newest that is there

    @property
    def rate(self) -> float:
        """Bytes per second of playing time."""
        return self.size / self.duration if self.duration else 0.0


@dataclass(frozen=True, slots=True)
class Survey:
    """One look at a folder."""

    variants: tuple[Variant, ...] = ()
    closing: tuple[str, ...] = ()  # variants whose playlist is Owncast's closing one, its user's alone
    refused: tuple[str, ...] = ()  # playlists that this user may not read for another reason
    absent: tuple[str, ...] = ()  # variants that the multivariant playlist names and that are not there
    faults: tuple[str, ...] = ()  # playlists that cannot be used, and why
    entries: int = 0  # files and folders in it

    @property
    def live(self) -> tuple[Variant, ...]:
        """The variants of a stream that is on."""
        return tuple(one for one in self.variants if not one.ended and not one.idle)

    @property
    def streamed(self) -> tuple[Variant, ...]:
        """The variants whose segments are a stream's, be it over or not."""
        return tuple(one for one in self.variants if not one.idle and one.size)

    @property
    def rate(self) -> float:
        """Bytes per second that the stream's variants make together."""
        return sum(one.rate for one in self.streamed)

    @property
    def sample(self) -> Path | None:
        """A segment that is there."""
        return next((one.sample for one in self.variants if one.sample), None)


def survey(root: Path) -> Survey:
    """Look at the folder, again where a playlist may just be torn or the folder just be made anew.

    One that is not there holds nothing. Raises OSError when it cannot be read.
    """
    for _ in range(LOOKS - 1):
        found = _look(root)
        if not found.faults and not found.absent:
            return found
        time.sleep(PAUSE)
    return _look(root)


def _look(root: Path) -> Survey:
    try:
        entries = len(list(root.iterdir()))
    except FileNotFoundError:
        return Survey()
    folder = Folder(root)
    folder.look(time.monotonic())
    variants: dict[str, Variant] = {}
    unread: set[str] = set()  # variants whose playlist is there all the same
    closing, refused, faults = [], [], []
    for path in folder.playlists:
        relative = path.relative_to(root).as_posix()
        name = variant_name(relative)
        try:
            playlist, modified = _read(root, path)
        except FileNotFoundError:
            continue  # a wipe, just now
        except PermissionError:
            if name and _is_closing(path):
                closing.append(name)
            else:
                refused.append(printable(relative))
            unread.add(name or "")
            continue
        except (PlaylistError, OutsideError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            faults.append(printable(f"{relative} {why}"))
            unread.add(name or "")
            continue
        if isinstance(playlist, MultivariantPlaylist):
            continue
        if name is None:
            faults.append(printable(f"{relative} has a name that is not followed"))
        else:
            variants[name] = _variant(name, path.parent, playlist, modified)
    listed, not_followed = _listed(root)
    named = {one.uri for one in listed.playlist.variants}
    faults += not_followed
    variants = {name: one for name, one in variants.items() if name in listed.present or not not_followed}
    absent = named - set(variants) - unread
    if named & {*variants, *closing}:  # the others are left over from earlier streams
        followed = named | listed.present
        variants = {name: one for name, one in variants.items() if name in followed}
        closing = [name for name in closing if name in followed]
    return Survey(
        variants=tuple(variants.values()),
        closing=tuple(closing),
        refused=tuple(refused),
        absent=tuple(printable(name) for name in sorted(absent)),
        faults=tuple(faults),
        entries=entries,
    )


def _listed(root: Path) -> tuple[VariantsListed, list[str]]:
    """The variants as the service would see them, and what is no part of their stream, and why."""
    scanner = Scanner(root, lambda: datetime.now(UTC), SourceMemory())
    now = time.monotonic()
    # At the second look what was being written is read; at the third what is left out is told.
    events = [one for at in (0, TORN_FOR, LEFT_OUT_FOR) for one in scanner.scan(now + at)]
    listed = next((one for one in reversed(events) if isinstance(one, VariantsListed)), VariantsListed())
    told = [one.message for one in events if isinstance(one, SourceRefused) and one.message]
    return listed, [] if listed.playlist.variants else told[-1:]  # beside named ones they are leftovers


def _read(root: Path, path: Path) -> tuple[MediaPlaylist | MultivariantPlaylist, float]:
    """The playlist, and when it was last modified, in seconds since the epoch."""
    with os.fdopen(open_inside(root, path), "rb") as file:
        modified = os.fstat(file.fileno()).st_mtime
        text = decoded(file.read(MAX_BYTES))
    return PlaylistReader().read(text, closed=True), modified


def _is_closing(path: Path) -> bool:
    """Whether a playlist that may not be read is the one that Owncast ends a stream with.

    It is made as a temporary file, for its user alone, and moved: the segments beside it can be read.
    """
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return False
        return any(_is_readable(one) for one in path.parent.iterdir() if one.suffix in MEDIA_SUFFIXES)
    except OSError:
        return False


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _variant(name: str, folder: Path, playlist: MediaPlaylist, modified: float) -> Variant:
    there: list[tuple[Path, int, float]] = []
    missing = 0
    for segment in playlist.segments:
        local = local_name(segment.uri)
        path = folder / local if local else None
        size = _size(path) if path else 0
        if path and size:
            there.append((path, size, segment.duration.total_seconds()))
        elif segment is not playlist.segments[-1]:
            missing += 1
    return Variant(
        name=name,
        target_duration=playlist.target_duration,
        modified=modified,
        ended=playlist.ended,
        idle=all(is_offline_clip(segment) for segment in playlist.segments),
        listed=len(playlist.segments),
        missing=missing,
        size=sum(size for _, size, _ in there),
        duration=sum(duration for _, _, duration in there),
        largest=max((size for _, size, _ in there), default=0),
        sample=there[-1][0] if there else None,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
