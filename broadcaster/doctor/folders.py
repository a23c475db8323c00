"""Checks of the HLS folder and the state folder, and a survey of the HLS folder's variants and bit rate."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from broadcaster.access.keeper import PASSPHRASE, passphrase_in
from broadcaster.catalog.records import SourceSnapshot
from broadcaster.doctor.report import rate_text, time_text
from broadcaster.errors import PlaylistError
from broadcaster.events import SourceRefused, VariantsListed
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistParser
from broadcaster.own_files import NotOursError
from broadcaster.printable import printable
from broadcaster.service.health import (
    CheckFinding,
    disk_finding,
    failed,
    ok,
    passphrase_finding,
    skipped,
    warning,
)
from broadcaster.source.file_checks import MAX_BYTES, TORN_FOR, OutsideError, decoded, open_inside
from broadcaster.source.owncast_names import is_offline_clip, local_name, variant_name
from broadcaster.source.scanner import LEFT_OUT_FOR, MEDIA_SUFFIXES, Folder, Scanner

READS, PAUSE = 5, 0.2  # Owncast rewrites playlists in place: a read may be torn. Seconds between reads


@dataclass(frozen=True, slots=True)
class SurveyedVariant:
    """A media playlist in the HLS folder, and its segments."""

    name: str
    target_duration: int  # seconds
    modified: float  # seconds since the epoch
    ended: bool  # EXT-X-ENDLIST
    idle: bool  # nothing but Owncast's offline clip
    listed: int  # segments
    missing: int  # listed segments without a file, except the newest: its file may come after the playlist
    size: int  # bytes of the files
    duration: float  # seconds of the files
    largest: int  # bytes
    sample: Path | None  # the newest file

    @property
    def rate(self) -> float:
        """Bytes per second of media."""
        return self.size / self.duration if self.duration else 0.0


@dataclass(frozen=True, slots=True)
class Survey:
    """The variants in the HLS folder at one moment."""

    variants: tuple[SurveyedVariant, ...] = ()
    closing: tuple[str, ...] = ()  # variants with Owncast's closing playlist, which only its user may read
    refused: tuple[str, ...] = ()  # playlists that this user may not read for another reason
    absent: tuple[str, ...] = ()  # variants of the multivariant playlist without a playlist of their own
    faults: tuple[str, ...] = ()  # unusable playlists with the reason
    entries: int = 0  # files and folders in the folder

    @property
    def live(self) -> tuple[SurveyedVariant, ...]:
        """The variants of a live stream."""
        return tuple(variant for variant in self.variants if not variant.ended and not variant.idle)

    @property
    def streamed(self) -> tuple[SurveyedVariant, ...]:
        """The variants of a stream, live or ended."""
        return tuple(variant for variant in self.variants if not variant.idle and variant.size)

    @property
    def rate(self) -> float:
        """Bytes per second of all variants of the stream."""
        return sum(variant.rate for variant in self.streamed)

    @property
    def sample(self) -> Path | None:
        """The path of a segment that exists, or None."""
        return next((variant.sample for variant in self.variants if variant.sample), None)


def survey(root: Path) -> Survey:
    """The state of the folder, read again while a playlist may be torn or the folder is being recreated.

    A folder that does not exist is empty. Raises OSError when the folder cannot be read.
    """
    for _ in range(READS - 1):
        found = _survey_once(root)
        if not found.faults and not found.absent:
            return found
        time.sleep(PAUSE)
    return _survey_once(root)


def _survey_once(root: Path) -> Survey:
    try:
        entries = len(list(root.iterdir()))
    except FileNotFoundError:
        return Survey()
    folder = Folder(root)
    folder.scan(time.monotonic())
    variants: dict[str, SurveyedVariant] = {}
    unread: set[str] = set()  # variants whose playlist exists but cannot be read
    closing, refused, faults = [], [], []
    for path in folder.playlists:
        relative = path.relative_to(root).as_posix()
        name = variant_name(relative)
        try:
            playlist, modified = _read(root, path)
        except FileNotFoundError:
            continue  # deleted just now
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
    named = {variant.uri for variant in listed.playlist.variants}
    faults += not_followed
    variants = {name: found for name, found in variants.items() if name in listed.present or not not_followed}
    absent = named - set(variants) - unread
    if named & {*variants, *closing}:  # all other variants are left over from earlier streams
        followed = named | listed.present
        variants = {name: found for name, found in variants.items() if name in followed}
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
    """The variants that the service would follow, and the reasons for which others are ignored."""
    scanner = Scanner(root, lambda: datetime.now(UTC), SourceSnapshot())
    now = time.monotonic()
    # The second scan reads files that were being written; the third reports files that are left out.
    events = [event for at in (0, TORN_FOR, LEFT_OUT_FOR) for event in scanner.scan(now + at)]
    lists = [event for event in events if isinstance(event, VariantsListed)]
    reasons = [event.message for event in events if isinstance(event, SourceRefused) and event.message]
    listed = lists[-1] if lists else VariantsListed()
    # Beside a multivariant playlist, playlists that are not followed are leftovers.
    return listed, [] if listed.playlist.variants else reasons[-1:]


def _read(root: Path, path: Path) -> tuple[MediaPlaylist | MultivariantPlaylist, float]:
    """The parsed playlist and its modification time, in seconds since the epoch."""
    with os.fdopen(open_inside(root, path), "rb") as file:
        modified = os.fstat(file.fileno()).st_mtime
        text = decoded(file.read(MAX_BYTES))
    return PlaylistParser().read(text, closed=True), modified


def _is_closing(path: Path) -> bool:
    """Whether an unreadable playlist is the one with which Owncast ends a stream.

    Owncast makes it as a temporary file, private to its user, and moves it: the segments beside are readable.
    """
    try:
        if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
            return False
        return any(_is_readable(file) for file in path.parent.iterdir() if file.suffix in MEDIA_SUFFIXES)
    except OSError:
        return False


def _is_readable(path: Path) -> bool:
    try:
        with path.open("rb"):
            return True
    except OSError:
        return False


def _variant(name: str, folder: Path, playlist: MediaPlaylist, modified: float) -> SurveyedVariant:
    files: list[tuple[Path, int, float]] = []
    missing = 0
    for segment in playlist.segments:
        local = local_name(segment.uri)
        path = folder / local if local else None
        size = _size(path) if path else 0
        if path and size:
            files.append((path, size, segment.duration.total_seconds()))
        elif segment is not playlist.segments[-1]:
            missing += 1
    return SurveyedVariant(
        name=name,
        target_duration=playlist.target_duration,
        modified=modified,
        ended=playlist.ended,
        idle=all(is_offline_clip(segment) for segment in playlist.segments),
        listed=len(playlist.segments),
        missing=missing,
        size=sum(size for _, size, _ in files),
        duration=sum(duration for _, _, duration in files),
        largest=max((size for _, size, _ in files), default=0),
        sample=files[-1][0] if files else None,
    )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


WRITTEN = 65_536  # bytes of the file that tests whether the folder is writable
STALE_TARGET_DURATIONS, STALE = 3, 15.0  # age of the playlists of a stream that is not on: the longer of both
STARTING = 60.0  # seconds for the start of a transcoder; long key frame distances take 10 and more
OTHERS = stat.S_IRWXG | stat.S_IRWXO
OWNCAST = "owncast.db"  # beside the HLS folder in Owncast's data folder
WHERE = "name the folder into which the encoder writes, Owncast's data/hls (BROADCASTER_HLS_DIR)"
NO_LINK = {
    errno.EXDEV: (
        "it is on another file system: every segment is copied",
        "put the state folder on its file system (BROADCASTER_STATE_DIR); a bind mount counts as another one",
    ),
    errno.EPERM: (
        "the kernel refuses links to another user's files: every segment is copied",
        "run the service as Owncast's user",
    ),
}


def env_file(path: Path) -> CheckFinding:
    """The ``.env`` file, which holds keys, cannot be read by other users."""
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & (stat.S_IRGRP | stat.S_IROTH):
        return warning(f"{path} can be read by other users (mode {mode:o})", f"chmod 600 {path}")
    return ok(f"only its owner can read {path}")


def hls_folder(folder: Path) -> CheckFinding:
    """The HLS folder exists and can be read. Retried: Owncast removes the folder and makes it again."""
    for _ in range(READS - 1):
        if _exists(folder):
            break
        time.sleep(PAUSE)
    try:
        with os.scandir(folder) as entries:
            count = sum(1 for _ in entries)
    except FileNotFoundError:
        if _exists(folder.parent / OWNCAST):
            return skipped(
                f"{folder} is not there now: Owncast is between two streams, or does not run",
                "check again with Owncast running; it makes the folder anew each time its transcoder starts",
            )
        return failed(f"{folder} is not there", f"{WHERE}; in a container, mount it")
    except NotADirectoryError:
        return failed(f"{folder} is a file", WHERE)
    except PermissionError:
        if closed := _closed(folder):
            return failed(
                f"{closed} may not be entered by this user (id {os.geteuid()})",
                f"chmod g+x {closed}, and run the service, and this check, in its group: "
                "Owncast makes its data folder for its own user alone",
            )
        return failed(
            f"{folder} may not be read by this user (id {os.geteuid()})",
            "run the service, and this check, as Owncast's user or in its group",
        )
    return ok(f"{folder} is there, {count} files and folders")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except PermissionError:  # of a parent folder; reading the folder reports it
        return True


def _closed(folder: Path) -> Path | None:
    """The first parent folder that may not be entered."""
    parents = reversed(folder.absolute().parents)
    return next((path for path in parents if not os.access(path, os.X_OK, effective_ids=True)), None)


def playlists(folder: Path, found: Survey) -> CheckFinding:
    """The folder holds HLS playlists that the service can follow."""
    if not (found.variants or found.closing or found.refused or found.absent):
        return _no_playlists(folder, found)
    if fault := _fault(found):
        return fault
    if found.closing:
        names = ", ".join(found.closing)
        return ok(
            f"the stream is over: Owncast's closing playlist can be read by its user alone ({names}), as "
            "after every end; the service takes the last segment by its file, and nothing is lost"
        )
    seconds = max(variant.target_duration for variant in found.variants)
    rate = f", {rate_text(found.rate)} together" if found.rate else ""
    return ok(f"{len(found.variants)} variant(s), segments of up to {seconds} s{rate}")


def _fault(found: Survey) -> CheckFinding | None:
    if found.refused:
        return failed(
            f"{', '.join(found.refused)} may not be read by this user (id {os.geteuid()})",
            "run the service, and this check, as Owncast's user; its umask may make files for it alone",
        )
    if found.absent:
        names = ", ".join(found.absent)
        return failed(f"the multivariant playlist names variants that do not exist: {names}", WHERE)
    missing = sum(variant.missing for variant in found.variants)
    if missing:
        return warning(
            f"{missing} of {sum(variant.listed for variant in found.variants)} listed segments are not there",
            "switch Owncast's own S3 storage off; its files have to stay in the folder",
        )
    if found.faults:
        return warning(f"a playlist cannot be used: {found.faults[0]}", "see that its writer is the only one")
    return None


def _no_playlists(folder: Path, found: Survey) -> CheckFinding:
    if found.faults:
        return failed(f"no playlist can be used: {found.faults[0]}", WHERE)
    if _is_starting(folder):
        return skipped(
            f"no playlists yet: Owncast starts its transcoder, for which it makes {folder} anew",
            "check again in a minute",
        )
    if not found.entries:
        return warning(f"{folder} is empty", "start Owncast; if it runs, it writes elsewhere")
    likely = next((path for path in (folder / "hls", folder / "data/hls") if path.is_dir()), None)
    hint = f"{WHERE}; perhaps it is {likely}" if likely else WHERE
    return failed(f"{folder} has no playlist (.m3u8) in it: it is not an HLS folder", hint)


def _is_starting(folder: Path) -> bool:
    """Whether Owncast has just prepared the folder for a transcoder: variants without playlists."""
    try:
        variants = list(folder.iterdir())
        newest = max(path.stat().st_mtime for path in (folder, *variants))
        files = [file for variant in variants for file in variant.iterdir()]
    except FileNotFoundError:
        return True  # Owncast is recreating the folder
    except OSError:  # a file in a folder's place
        return False
    return time.time() - newest < STARTING and all(file.suffix in MEDIA_SUFFIXES for file in files)


def writing(found: Survey, now: float) -> CheckFinding:
    """The stream's playlists are being updated; ``now`` in seconds since the epoch."""
    if not found.live:
        return skipped("no stream is on; check again during one")
    newest = max(found.live, key=lambda variant: variant.modified)
    age = max(0.0, now - newest.modified)
    if age > max(STALE, STALE_TARGET_DURATIONS * newest.target_duration):
        return warning(
            f"the stream has no end, and was last written {time_text(age)} ago",
            "see that the encoder runs and that Owncast writes into this very folder",
        )
    return ok(f"last written {time_text(age)} ago")


def state_folder(folder: Path) -> CheckFinding:
    """The state folder can be written, or made by the service at its first start."""
    try:
        with tempfile.TemporaryFile(prefix=".check-", dir=existing(folder)) as file:
            file.write(bytes(WRITTEN))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        remedies = {
            errno.ENOSPC: "make room on its disk",
            errno.EDQUOT: "raise its user's quota",
            errno.EROFS: "choose a state folder that is not mounted read-only (BROADCASTER_STATE_DIR)",
            errno.ENOTDIR: "choose a folder for the state, not a file (BROADCASTER_STATE_DIR)",
        }
        remedy = remedies.get(error.errno or 0, f"let the user with id {os.geteuid()} write there")
        return failed(f"{folder} cannot be written: {error.strerror}", remedy)
    if not folder.exists():
        return ok(f"{folder} can be made; the service does so at its first start")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & OTHERS:
        return warning(
            f"{folder} is open to other users (mode {mode:o})",
            f"chmod 700 {folder}; the service does so at its start, if nothing but its own is there",
        )
    return ok(f"{folder} can be written, and is nobody else's")


def passphrase(folder: Path, peppers: Sequence[bytes]) -> CheckFinding:
    """The passphrase in the state folder is set, and is known by its digest under one of the secrets."""
    try:
        is_set, is_known = passphrase_in(folder, peppers)
        if not is_set and (folder / PASSPHRASE).exists():
            raise NotOursError(folder / PASSPHRASE, "it is not this user's alone")
    except OSError as error:
        return skipped(f"it cannot be read: {error.strerror}", "run the check as the service's user")
    return passphrase_finding(is_set=is_set, is_unconfirmed=not is_known)


def links(folder: Path, hls: Path, sample: Path | None) -> CheckFinding:
    """Segments can be hard-linked from the HLS folder into the state folder; tried with ``sample``."""
    try:
        with tempfile.TemporaryDirectory(prefix=".check-", dir=existing(folder)) as probe:
            if sample is None:
                if hls.stat().st_dev != Path(probe).stat().st_dev:
                    return warning(*NO_LINK[errno.EXDEV])
                return ok("the same file system; there is no segment yet to try a link with")
            os.link(sample, Path(probe, "link"))
    except FileNotFoundError:
        return skipped("the segment was deleted meanwhile")
    except OSError as error:
        usual = (f"no links ({error.strerror}): every segment is copied", "choose another file system")
        return warning(*NO_LINK.get(error.errno or 0, usual))
    return ok("segments are kept as links, not copies")


def disk_space(folder: Path, limit: int, rate: float) -> CheckFinding:
    """The disk has room for the spool: ``limit`` in bytes, ``rate`` in bytes per second, 0 if unknown."""
    free = shutil.disk_usage(existing(folder)).free
    return disk_finding(free, limit, 0, rate)


def existing(folder: Path) -> Path:
    """The folder, or its nearest parent that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
