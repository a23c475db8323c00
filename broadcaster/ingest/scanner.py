"""Finds the playlists of a folder and follows each: one synchronous look at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path, PurePosixPath
from urllib.parse import unquote, urlsplit

from broadcaster.catalog.records import Segment, SourceMemory
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant
from broadcaster.ingest.folder import Folder, variant_name
from broadcaster.ingest.follower import Follower
from broadcaster.ingest.playlist_file import PlaylistFile, printable
from broadcaster.ingest.reports import SourceEvent, SourceIdle, VariantsListed
from broadcaster.ingest.runs import RunBook

logger = logging.getLogger(__name__)

MAX_PLAYLISTS = 64  # finished ones of earlier days included: keeps metrics labels and work bounded
LEFT_OUT_FOR = 5.0  # seconds; a stream's multivariant playlist comes after its first segments
# Seconds of the idle clip alone after which Owncast has no stream. A stream that starts beside the clip's
# transcoder, which goes on for up to 12 s, may need another 10 for its first segment.
IDLE_FOR = 30.0
CLIP_ALONE = 15.0  # seconds of it after which no stream's playlists are there


@dataclass(slots=True)
class _Followed:
    file: PlaylistFile
    follower: Follower
    waiting: MediaPlaylist | None = None  # the latest version, while it is not known to belong to the stream
    media: bool | None = None  # a media playlist, not a multivariant one; None as long as it was not read
    left_out_since: float | None = None  # monotonic
    reported: bool = False
    failed: bool = False

    def pause(self, now: float) -> float | None:
        pauses = [self.follower.pause, self.file.pause(now)]
        return min((pause for pause in pauses if pause is not None), default=None)


class Scanner:
    """Looks at the folder ``root``: which playlists are there, and what is new in them.

    ``clock`` gives the wall time, ``memory`` is where an earlier process stood. ``pause`` is how
    many seconds from now to look again, None when nothing is about to be finished.
    """

    def __init__(self, root: Path, clock: Callable[[], datetime], memory: SourceMemory) -> None:
        self.pause: float | None = None
        self._root = root
        self._clock = clock
        self._runs = RunBook(clock, memory)
        self._positions = dict(memory.positions)
        self._followed: dict[Path, _Followed] = {}
        self._refused: set[Path] = set()
        self._variants: tuple[Variant, ...] = ()  # of the multivariant playlist, if there is one
        self._clip_variants: tuple[Variant, ...] = ()  # of the idle clip's
        self._folder = Folder(root)
        self._told = VariantsListed(())
        self._idle_since: float | None = None  # monotonic
        self._idle_told = False

    def scan(self, now: float) -> list[SourceEvent]:
        """All that is new at ``now`` (monotonic, seconds). Does not raise for anything in the folder."""
        if self._folder.look(now):
            self._discover()
        events: list[SourceEvent] = []
        for followed in self._followed.values():
            events += self._guarded_look(followed, now)
        pauses = [one.pause(now) for one in self._followed.values()]
        self.pause = min((pause for pause in pauses if pause is not None), default=None)
        self._know_clip(now)
        listed = VariantsListed(self._variants, self._present())
        if listed != self._told:
            self._told = listed
            events.insert(0, listed)
        if self._is_idle(now, busy=any(isinstance(event, Segment) for event in events)):
            events.append(SourceIdle())
        return events

    def _is_idle(self, now: float, *, busy: bool) -> bool:
        """Whether the idle clip has just been alone for long enough to mean something; true once."""
        if busy or not any(one.follower.idle for one in self._followed.values()):
            self._idle_since, self._idle_told = None, False
            return False
        self._idle_since = now if self._idle_since is None else self._idle_since
        if self._idle_told or now - self._idle_since < IDLE_FOR:
            return False
        logger.info("Owncast shows its idle clip alone: there is no stream")
        self._idle_told = True
        return True

    def _know_clip(self, now: float) -> None:
        """Note how the idle clip's multivariant playlist looks: it is written over a stream's too."""
        alone = self._idle_since is not None and now - self._idle_since > CLIP_ALONE
        followers = [one.follower for one in self._followed.values()]
        is_clips = alone or not any(follower.following for follower in followers)
        if is_clips and any(follower.hidden for follower in followers):
            self._clip_variants = self._variants

    def _present(self) -> frozenset[str]:
        """The variants that there is a place for: Owncast makes their folders before anything else."""
        followed = {
            one.follower.variant
            for path, one in self._followed.items()
            if self._folder.has(path.parent)
            # In the root there is no folder to tell that it is of a variant.
            and (path.parent != self._root or one.media)
            and not (one.media is False or one.follower.over or one.left_out_since is not None)
        }
        return frozenset(self._folder.places | followed)

    def _belongs(self, followed: _Followed, playlist: MediaPlaylist, now: float) -> bool:
        """Whether the playlist is part of the stream: what the multivariant playlist leaves out is not.

        Unless it is of the same run as those that are followed: then that multivariant playlist is of another
        one, or of the idle clip, whose transcoder goes on for a while beside a stream's.
        """
        followers = [one.follower for one in self._followed.values()]
        named = {variant.uri for variant in self._variants}
        listed = [follower for follower in followers if follower.variant in named]
        # Where the idle clip hides all that it names, it is the clip's as well.
        of_clip = all(follower.hidden for follower in listed)
        encoder = ""
        if playlist.segments:
            encoder = self._runs.encoder(followed.follower.variant, playlist.segments[-1])
        if (
            not listed
            or followed.follower.variant in named
            or followed.follower.following
            or (encoder and (of_clip or encoder in {follower.encoder for follower in followers}))
        ):
            followed.left_out_since = None
            return True
        if followed.left_out_since is None:
            followed.left_out_since = now
        elif not followed.reported and now - followed.left_out_since > LEFT_OUT_FOR:
            followed.reported = True
            logger.warning(
                "%s is not listed in the multivariant playlist; it is not followed", followed.file.name
            )
        return False

    def _guarded_look(self, followed: _Followed, now: float) -> Iterator[SourceEvent]:
        """One playlist that makes us fail must not stop the others, nor come back after every restart."""
        try:
            yield from self._look(followed, now)
        except Exception:
            if not followed.failed:
                logger.exception("%s cannot be followed; please report this", followed.file.name)
            followed.failed = True

    def _look(self, followed: _Followed, now: float) -> Iterator[SourceEvent]:
        file, follower = followed.file, followed.follower
        try:
            playlist = file.read(now)
        except OSError:  # gone, or not to be reached
            follower.miss()
            file.unsettled, followed.waiting = False, None
        else:
            if isinstance(playlist, MultivariantPlaylist):
                followed.media = False
                named = self._named(file, playlist)
                # While it is written it may lack variants; the clip's tells nothing of a stream's.
                if not (file.unsettled or (self._variants and named == self._clip_variants)):
                    self._variants = named
            elif playlist:
                followed.media, followed.waiting = True, playlist
            if followed.waiting and self._belongs(followed, followed.waiting, now):
                follower.absorb(followed.waiting, file.modified, now, whole=not file.unsettled)
                followed.waiting = None
            if file.unreadable or follower.hidden or follower.closed:  # it may not list all that is finished
                follower.take_unlisted(now)
        yield from follower.settle(now)

    def _discover(self) -> None:
        present = set(self._folder.playlists)
        if not any(one.media is False for path, one in self._followed.items() if path in present):
            self._variants = ()
        for path in self._folder.playlists:
            if path in self._followed:
                continue
            variant = variant_name(path.relative_to(self._root).as_posix())
            if variant is None or not self._has_room(present):
                why = "has a name that is not followed" if variant is None else "is one playlist too many"
                if path not in self._refused:
                    logger.warning("%s %s", printable(path.relative_to(self._root).as_posix()), why)
                self._refused.add(path)
                continue
            follower = Follower(self._root, path.parent, variant, self._runs, self._clock)
            if variant in self._positions:
                follower.recall(self._positions.pop(variant))
            self._followed[path] = _Followed(PlaylistFile(self._root, path), follower)

    def _has_room(self, present: set[Path]) -> bool:
        """Whether another playlist can be followed; one that is away, and brought nothing, gives way first.

        As long as there is room, one that is away is remembered: its run may go on, or the next one begin.
        """
        if len(self._followed) < MAX_PLAYLISTS:
            return True
        away = [path for path in self._followed if path not in present]
        if away:
            del self._followed[min(away, key=lambda path: self._followed[path].follower.following)]
        return bool(away)

    def _named(self, file: PlaylistFile, playlist: MultivariantPlaylist) -> tuple[Variant, ...]:
        """The variants of a multivariant playlist, each with its name in the place of its URI."""
        named = ((one, variant_name(self._local_path(one.uri, file.path))) for one in playlist.variants)
        return tuple(replace(variant, uri=name) for variant, name in named if name)

    def _local_path(self, uri: str, multivariant: Path) -> str:
        """The path below the root that a variant's URI means."""
        try:
            parts = urlsplit(uri)
        except ValueError:
            return ""
        path = PurePosixPath(unquote(parts.path).lstrip("/"))
        if not parts.netloc and not parts.path.startswith("/"):
            return path.as_posix()
        # With a serving endpoint configured Owncast's URIs are absolute: the end of the path is ours.
        nested, flat = PurePosixPath(*path.parts[-2:]), path.name
        beside = self._root / flat
        try:
            flat_is_meant = not (self._root / nested).exists() and beside.exists() and beside != multivariant
        except OSError:  # no name of a file
            flat_is_meant = False
        return flat if flat_is_meant else nested.as_posix()
