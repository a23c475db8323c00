"""What an HLS folder holds: the variants, their segments, and how many bytes a second they make."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.errors import PlaylistError
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, parse
from broadcaster.ingest.folder import variant_name
from broadcaster.ingest.names import is_offline_clip, local_name
from broadcaster.ingest.playlist_file import MAX_BYTES, printable

SEGMENTS = {".ts", ".m4s", ".mp4"}
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
        with os.scandir(root) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
    except FileNotFoundError:
        return Survey()
    folders = [root, *(Path(entry.path) for entry in inside if entry.is_dir())]
    variants: dict[str, Variant] = {}
    named: set[str] = set()
    unread: set[str] = set()  # variants whose playlist is there all the same
    closing, refused, faults = [], [], []
    for path in [one for folder in folders for one in sorted(folder.glob("*.m3u8"))]:
        relative = path.relative_to(root).as_posix()
        name = variant_name(relative)
        try:
            playlist = _read(path)
            modified = path.stat().st_mtime
        except FileNotFoundError:
            continue  # a wipe, just now
        except PermissionError:
            if name and _is_closing(path):
                closing.append(name)
            else:
                refused.append(printable(relative))
            unread.add(name or "")
            continue
        except (PlaylistError, OSError) as error:
            why = error.strerror if isinstance(error, OSError) else error
            faults.append(printable(f"{relative} {why}"))
            unread.add(name or "")
            continue
        if isinstance(playlist, MultivariantPlaylist):
            named |= {_named(variant.uri) for variant in playlist.variants}
        elif name is None:
            faults.append(printable(f"{relative} has a name that is not followed"))
        else:
            variants[name] = _variant(name, path.parent, playlist, modified)
    absent = named - set(variants) - unread
    if named & {*variants, *closing}:  # the others are left over from earlier streams
        variants = {name: one for name, one in variants.items() if name in named}
        closing = [name for name in closing if name in named]
    return Survey(
        variants=tuple(variants.values()),
        closing=tuple(closing),
        refused=tuple(refused),
        absent=tuple(sorted(absent)),
        faults=tuple(faults),
        entries=len(inside),
    )


def _read(path: Path) -> MediaPlaylist | MultivariantPlaylist:
    with path.open("rb") as file:
        return parse(file.read(MAX_BYTES).decode("utf-8", errors="backslashreplace"))


def _is_closing(path: Path) -> bool:
    """Whether a playlist that may not be read is the one that Owncast ends a stream with.

    It is made as a temporary file, for its user alone, and moved: the segments beside it can be read.
    """
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return False
        return any(_is_readable(one) for one in path.parent.iterdir() if one.suffix in SEGMENTS)
    except OSError:
        return False


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _named(uri: str) -> str:
    """The variant that a multivariant playlist means, whose URIs may be absolute."""
    try:
        path = PurePosixPath(unquote(urlsplit(uri).path))
    except ValueError:
        return printable(uri)
    return variant_name("/".join(path.parts[-2:])) or printable(uri)


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
