"""Finds the playlists of the folder, selects those of the stream, and follows each; synchronous."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import NamedTuple

from broadcaster.aio import HoldTimer, LogLimiter
from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.errors import is_final
from broadcaster.events import SourceEvent, SourceFault, SourceIdle, SourceRefused, VariantsListed
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.own_files import open_beneath, status_beneath
from broadcaster.printable import printable
from broadcaster.source.encoder_runs import EncoderRunTracker
from broadcaster.source.file_checks import PlaylistFile
from broadcaster.source.follower import Follower
from broadcaster.source.owncast_names import VARIANT_NAME, named, variant_name, what_it_holds

logger = logging.getLogger(__name__)

# Seconds of a tick of the kernel's clock: a second change in one tick leaves the folder's time as it is. File
# systems whose times are multiples of so many ns (FAT, ext3, HFS+) have ticks of up to two seconds.
TICK, COARSE_TICK, COARSE = 0.02, 2.0, 10_000_000
# A folder that takes LONG seconds to list may take this share of a core: some writers never remove a segment,
# and each new segment changes the folder. Waiting for a disk or for a processor is no work of this thread: it
# only delays the next listing by PAUSES times as long.
LONG, SHARE, PAUSES = 0.01, 0.02, 2
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MEDIA_SUFFIXES = (".ts", ".m4s", ".mp4")


class _Contents(NamedTuple):
    playlists: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # of the root alone
    is_empty: bool = True
    has_media: bool = False


class Folder:
    """The contents of the folder ``root`` and of the folders in it; only changed folders are listed again.

    ``places`` are the names of folders that may be variants and have no playlist yet. ``fault`` is why a
    folder could not be read now: its contents are those of the look before.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.playlists: list[Path] = []
        self.places: set[str] = set()
        self.fault = ""
        self._contents: dict[Path, _Contents] = {}
        self._states: dict[Path, tuple[int, int]] = {}  # inode, and when it last changed
        self._changed: dict[Path, float] = {}  # monotonic: since when there may be unseen changes
        self._not_before: dict[Path, float] = {}  # monotonic: when a slow folder may be listed again
        self._forbidden: set[Path] = set()

    def scan(self, now: float) -> bool:
        """Look at ``now`` (monotonic, seconds); returns whether anything may have changed."""
        self.fault = ""
        try:
            changed = self._look_at(self.root, now)
        except OSError as error:
            self.fault = f"the folder cannot be read: {error.strerror}"
            return False
        inside = [self.root / name for name in self._contents.get(self.root, _Contents()).folders]
        for folder in self._states.keys() - {self.root, *inside}:
            self._forget(folder)
            changed = True
        for folder in inside:
            try:
                changed |= self._look_at(folder, now)
            except OSError as error:
                self._changed[folder], changed = now, True
                if isinstance(error, PermissionError):
                    self._warn_forbidden(folder)
                else:
                    self.fault = f"the folder {printable(folder.name)} cannot be read: {error.strerror}"
        if changed:
            self._sum_up()
        return changed

    def has(self, folder: Path) -> bool:
        """Whether this is the root or a folder in it."""
        return folder == self.root or folder in self._states

    def _look_at(self, folder: Path, now: float) -> bool:
        """List the folder if it has changed; returns whether it was listed, or is gone. Raises OSError."""
        try:
            status = status_beneath(self.root, folder)
            state = status.st_ino, status.st_mtime_ns
            before = self._states.get(folder)
            if state != before:
                self._changed[folder] = now
                if before is None or before[0] != state[0]:
                    self._not_before.pop(folder, None)  # another folder
            since = self._changed.get(folder)
            if since is None or now < self._not_before.get(folder, -math.inf):
                self._states[folder] = state
                return False
            contents = self._listed(folder, now)
        except OSError as error:
            if not is_final(error):
                raise
            was_there = folder in self._states
            self._forget(folder)
            return was_there
        self._states[folder], self._contents[folder] = state, contents
        if now - since > (TICK if state[1] % COARSE else COARSE_TICK):
            del self._changed[folder]
        return True

    def _listed(self, folder: Path, now: float) -> _Contents:
        begun, computed = time.perf_counter(), time.thread_time()
        playlists, folders = list[str](), list[str]()
        is_empty, has_media = True, False
        descriptor = open_beneath(self.root, folder, LIST)
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    is_empty = False
                    if entry.name.endswith(MEDIA_SUFFIXES):
                        has_media = True
                    elif entry.name.endswith(".m3u8"):
                        playlists.append(entry.name)
                    # A link may lead out of the folder.
                    if folder == self.root and entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        finally:
            os.close(descriptor)
        took, cost = time.perf_counter() - begun, time.thread_time() - computed
        if took > LONG:
            self._not_before[folder] = now + max(PAUSES * took, cost / SHARE)
        return _Contents(tuple(sorted(playlists)), tuple(sorted(folders)), is_empty, has_media)

    def _forget(self, folder: Path) -> None:
        for known in (self._states, self._contents, self._changed, self._not_before):
            known.pop(folder, None)

    def _sum_up(self) -> None:
        self.playlists, self.places = [], set()
        for folder in sorted(self._contents):
            found = self._contents[folder]
            self.playlists += [folder / name for name in found.playlists]
            may_be_variant = found.is_empty or found.has_media
            is_place = folder != self.root and may_be_variant and not found.playlists
            if is_place and VARIANT_NAME.fullmatch(folder.name):
                self.places.add(folder.name)

    def _warn_forbidden(self, path: Path) -> None:
        if path not in self._forbidden:
            self._forbidden.add(path)
            logger.warning(
                "the folder %s may not be read, and is left out: let this service's user, or its group, read"
                " and enter it (chmod g+rx)",
                printable(str(path.relative_to(self.root))),
            )


LEFT_OUT_FOR = 5.0  # seconds; a stream's multivariant playlist comes after its first segments
MAX_PLAYLISTS = 64  # keeps metrics labels and work bounded


@dataclass(slots=True)
class FollowedPlaylist:
    """A media playlist that is followed, or a multivariant playlist."""

    file: PlaylistFile
    follower: Follower
    waiting: MediaPlaylist | None = None  # the latest version, until it is known to belong to the stream
    media: bool | None = None  # whether it is a media playlist; None before it was read
    left_out: HoldTimer = field(default_factory=partial(HoldTimer, LEFT_OUT_FOR))
    why: str = ""  # it is left out
    other_stream: str = ""  # why it is another stream
    failure: str = ""  # exception of our own code at the latest look
    fault: str = ""  # of the machine: why it cannot be read now

    @property
    def refusal(self) -> str:
        """Why it is not followed, for some time already; empty while it is."""
        return self.file.refusal or self.failure or (printable(self.why) if self.left_out.counts else "")

    def pause(self, now: float) -> float | None:
        """Seconds from ``now`` until the next look, None if nothing is pending."""
        pauses = [self.follower.pending.pause, self.file.pause(now)]
        return min((pause for pause in pauses if pause is not None), default=None)


class FollowedPlaylists:
    """The playlists that are followed, one for each variant."""

    def __init__(
        self, folder: Folder, runs: EncoderRunTracker, clock: Callable[[], datetime], memory: SourceSnapshot
    ) -> None:
        self._folder = folder
        self._runs = runs
        self._clock = clock
        self._positions = dict(memory.positions)
        self._followed: dict[Path, FollowedPlaylist] = {}
        self._finished: dict[Path, float] = {}  # dropped for others; when modified, seconds since the epoch
        self._refused: dict[Path, bool] = {}  # and whether that was logged
        self.refused: dict[str, str] = {}  # by name: why a playlist is not followed at all

    def __iter__(self) -> Iterator[FollowedPlaylist]:
        return iter(self._followed.values())

    @property
    def unsettled(self) -> bool:
        """Whether a refused playlist may be followed at the next look."""
        return not all(self._refused.values())

    def is_there(self, followed: FollowedPlaylist) -> bool:
        """Whether its file was there at the latest look."""
        return followed.file.path in self._folder.playlists

    def discover(self) -> None:
        """Follow new playlists of the folder."""
        present = set(self._folder.playlists)
        self._finished = {path: modified for path, modified in self._finished.items() if path in present}
        refused, self._refused, self.refused = self._refused, {}, {}
        for path in self._folder.playlists:
            if path in self._followed or self._is_finished(path):
                continue
            why = self._follow(path, present)
            if why:
                # It is logged after the playlists in its way were looked at.
                self._refused[path] = path in refused
                if path in refused:
                    self.refused[printable(path.relative_to(self._folder.root).as_posix())] = why
                if refused.get(path) is False:
                    self.warn(path, f"{why}; it is not followed")

    def warn(self, path: Path, fault: str) -> None:
        """Log the fault of a playlist."""
        logger.warning("%s %s", printable(path.relative_to(self._folder.root).as_posix()), fault)

    def _is_finished(self, path: Path) -> bool:
        """Whether it was dropped for others, and has not changed since."""
        if path not in self._finished:
            return False
        try:
            return self._finished[path] == status_beneath(self._folder.root, path).st_mtime
        except OSError as error:
            return not is_final(error)

    def _follow(self, path: Path, present: set[Path]) -> str | None:
        """Follow another playlist; returns why it is refused, if it is."""
        variant = variant_name(path.relative_to(self._folder.root).as_posix())
        if variant is None:
            return "has a name that is not fit for a URL"
        media = (followed for followed in self if followed.media is not False)
        same = next((followed for followed in media if followed.follower.variant == variant), None)
        if same and same.file.path in present and not same.follower.is_stale_or_vod:
            return f"stands beside {same.file.name}, which is variant {variant} already"
        if same:
            del self._followed[same.file.path]
        if not self._has_room(present):
            return "is one playlist too many"
        if same and same.file.path.parent == path.parent:
            follower = same.follower
        else:
            follower = Follower(self._folder.root, path.parent, variant, self._runs, self._clock)
        if variant in self._positions:
            follower.restore(self._positions.pop(variant))
        self._followed[path] = FollowedPlaylist(PlaylistFile(self._folder.root, path), follower)
        return None

    def _has_room(self, present: set[Path]) -> bool:
        """Whether another playlist can be followed, for which a missing or finished one is dropped."""
        if len(self._followed) < MAX_PLAYLISTS:
            return True
        spare = [
            path
            for path, followed in self._followed.items()
            if path not in present or followed.follower.is_stale_or_vod
        ]
        if spare:
            gone = min(spare, key=lambda path: (self._followed[path].follower.following, path in present))
            self._finished[gone] = self._followed.pop(gone).file.modified
        return bool(spare)


# Seconds of the idle clip alone after which Owncast has no stream. A stream that starts beside the clip's
# transcoder, which goes on for up to 12 s, may need another 10 s for its first segment.
IDLE_FOR = 30.0
FAULT_AFTER = 5.0  # seconds after which a fault of the machine is reported
LEFT_OVER = 60.0  # seconds without a write after which a playlist is of an earlier stream
REPORTED = 3  # playlists that cannot be followed
CLIP_ALONE = 15.0  # seconds of the idle clip after which there are no playlists of a stream


class Scanner:
    """Finds the playlists of the folder ``root``, and what is new in them."""

    def __init__(self, root: Path, clock: Callable[[], datetime], memory: SourceSnapshot) -> None:
        self.pause: float | None = None  # seconds until the next scan, None if nothing is pending
        self._root = root
        self._clock = clock
        self._runs = EncoderRunTracker(clock, memory)
        self._listed = MultivariantPlaylist()  # with names of variants as URIs
        self._clips = MultivariantPlaylist()  # the idle clip's, which may overwrite a stream's
        self._folder = Folder(root)
        self._playlists = FollowedPlaylists(self._folder, self._runs, clock, memory)
        self._reported = VariantsListed()
        self._idle = HoldTimer(IDLE_FOR)  # the clip alone
        self._fault = HoldTimer(FAULT_AFTER)
        self._tracebacks = LogLimiter()  # by name of the playlist
        self._refused: str | None = None

    def scan(self, now: float) -> list[SourceEvent]:
        """The new events at ``now`` (monotonic, seconds). Nothing in the folder makes it raise."""
        if self._folder.scan(now) or self._playlists.unsettled:
            self._playlists.discover()
            if not any(
                followed.media is False and self._playlists.is_there(followed) for followed in self._playlists
            ):
                self._listed = MultivariantPlaylist()
        events: list[SourceEvent] = []
        for followed in self._playlists:
            events += self._guarded_look(followed, now)
        pauses = [followed.pause(now) for followed in self._playlists]
        self.pause = min((pause for pause in pauses if pause is not None), default=None)
        self._know_clip(now)
        codecs = {followed.follower.variant: followed.follower.pending.codecs for followed in self._playlists}
        listed = VariantsListed(self._listed.with_codecs(codecs), self._present())
        if listed != self._reported:
            self._reported = listed
            events.insert(0, listed)
        busy = any(isinstance(event, Segment) for event in events)
        if self._idle.note(now, on=not busy and any(followed.follower.idle for followed in self._playlists)):
            logger.info("Owncast shows its idle clip alone: there is no stream")
            events.append(SourceIdle())
        return events + self._faults(now) + self._refusals()

    def _faults(self, now: float) -> list[SourceEvent]:
        """A fault of the machine that lasts, or its end."""
        faults = [
            self._folder.fault,
            *(followed.fault or followed.follower.pending.fault for followed in self._playlists),
        ]
        fault = next(filter(None, faults), None)
        was_reported = self._fault.counts
        if self._fault.note(now, on=fault is not None):
            logger.error("%s; nothing is given up, it is tried again", fault)
            return [SourceFault(fault)]
        if was_reported and fault is None:
            logger.info("the HLS folder is no longer out of reach")
            return [SourceFault(None)]
        return []

    def _refusals(self) -> list[SourceEvent]:
        since = self._clock().timestamp() - LEFT_OVER
        written = [followed for followed in self._playlists if followed.file.written > since]
        found = {followed.file.name: followed.refusal for followed in written if followed.refusal}
        found |= self._playlists.refused
        message = "; ".join(f"{name} {why}" for name, why in list(found.items())[:REPORTED]) or None
        if message == self._refused:
            return []
        self._refused = message
        return [SourceRefused(message)]

    def _know_clip(self, now: float) -> None:
        alone = self._idle.since is not None and now - self._idle.since > CLIP_ALONE
        followers = [followed.follower for followed in self._playlists]
        is_clips = alone or not any(follower.following for follower in followers)
        if is_clips and any(follower.overwritten for follower in followers):
            self._clips = self._listed

    def _present(self) -> frozenset[str]:
        """The variants with a place in the folder: Owncast makes their folders first."""
        followed = {
            followed.follower.variant
            for followed in self._playlists
            if self._folder.has(followed.file.path.parent)
            # In the root no folder shows that it is a variant.
            and (followed.file.path.parent != self._root or followed.media)
            and not (
                followed.media is False
                or followed.follower.is_stale_or_vod
                or followed.left_out.since is not None
            )
        }
        return frozenset(self._folder.places | followed)

    def _stranger(self, followed: FollowedPlaylist, playlist: MediaPlaylist) -> str:
        """Why the playlist is no part of the stream, such as a playlist that no multivariant playlist names.

        A playlist of a followed encoder run is: the multivariant playlist is of another run, then, or of the
        idle clip, whose transcoder goes on for a while beside a stream's.
        """
        not_carried = dict(self._listed.not_carried).get(followed.follower.variant) or what_it_holds(playlist)
        if not_carried or followed.follower.following:
            return not_carried
        uris = {segment.uri for segment in playlist.segments}
        for other in self._playlists:
            beside = other is not followed and other.file.path.parent == followed.file.path.parent
            if beside and other.follower.known.has_any(uris) and self._playlists.is_there(other):
                return f"lists the same segments as {other.file.name}"
        followers = [other.follower for other in self._playlists]
        listed = [follower for follower in followers if follower.variant in self._listed.uris]
        if followed.follower in listed:
            return ""
        if not listed:
            return self._other_stream(followed, playlist)
        # If all named playlists are overwritten by the idle clip, the multivariant playlist is, too.
        of_clip = all(follower.overwritten for follower in listed)
        last = playlist.segments[-1] if playlist.segments else None
        encoder = self._runs.encoder(followed.follower.variant, last) if last else ""
        if encoder and (of_clip or encoder in {follower.encoder for follower in followers}):
            return ""
        return "is not listed in the multivariant playlist"

    def _other_stream(self, followed: FollowedPlaylist, playlist: MediaPlaylist) -> str:
        """Why it is another stream than the followed stream, for ever, without a multivariant playlist."""
        if followed.other_stream and followed.left_out.counts:
            return followed.other_stream
        since = self._clock().timestamp() - LEFT_OVER
        on = [
            other
            for other in self._playlists
            if other is not followed
            and other.follower.following
            and not (other.follower.closed or other.follower.overwritten)
            and other.file.modified > since
            and self._playlists.is_there(other)
        ]
        last = playlist.segments[-1] if playlist.segments else None
        if last is None or not on:
            return ""
        encoder = self._runs.encoder(followed.follower.variant, last)
        if any(other.follower.is_beside(playlist, encoder, followed.file.path.parent) for other in on):
            return ""
        followed.other_stream = (
            f"is another stream than {on[0].file.name}: its segments have other numbers, times or media, and"
            " no multivariant playlist names both"
        )
        return followed.other_stream

    def _guarded_look(self, followed: FollowedPlaylist, now: float) -> Iterator[SourceEvent]:
        """Events of a playlist; an exception must not stop other playlists, nor recur at each restart."""
        try:
            yield from self._look(followed, now)
        except Exception as error:
            followed.failure = f"cannot be followed ({type(error).__name__}); please report this"
            if self._tracebacks.allows(followed.file.name):
                logger.exception("%s %s", followed.file.name, followed.failure)
        else:
            followed.failure = ""

    def _look(self, followed: FollowedPlaylist, now: float) -> Iterator[SourceEvent]:
        file, follower, followed.fault = followed.file, followed.follower, ""
        try:
            playlist = file.read(now)
            if isinstance(playlist, MultivariantPlaylist):
                followed.media = False
                now_listed = named(self._root, file.path, playlist)
                # An unfinished version may lack variants; the idle clip's is not the stream's.
                if not (file.unsettled or (self._listed.variants and now_listed == self._clips)):
                    self._listed = now_listed
            elif playlist:
                followed.media, followed.waiting = True, playlist
            if followed.waiting:
                why = self._stranger(followed, followed.waiting)
                followed.why = why
                if followed.left_out.note(now, on=bool(why)):
                    self._playlists.warn(file.path, f"{why}; it is not followed")
                if not why:
                    follower.update(followed.waiting, file.modified, now, whole=not file.unsettled)
                    followed.waiting = None
            if (
                file.unreadable or follower.overwritten or follower.closed
            ):  # it may not list all that is finished
                follower.take_unlisted(now)
        except OSError as error:
            file.read_again()
            if is_final(error):
                follower.on_missing()
                followed.waiting = None
            else:
                followed.fault = f"{file.name} cannot be read: {error.strerror}"
        yield from follower.collect_ready(now)
