"""Finds the playlists of a folder and follows each: one synchronous look at a time."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from broadcaster.catalog.records import Segment, SourceMemory
from broadcaster.errors import is_final
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist
from broadcaster.ingest.folder import Folder
from broadcaster.ingest.lasting import Lasting
from broadcaster.ingest.names import named, what_it_holds
from broadcaster.ingest.playlists import Followed, Playlists
from broadcaster.ingest.reports import SourceEvent, SourceFault, SourceIdle, SourceRefused, VariantsListed
from broadcaster.ingest.runs import RunBook

logger = logging.getLogger(__name__)

# Seconds of the idle clip alone after which Owncast has no stream. A stream that starts beside the clip's
# transcoder, which goes on for up to 12 s, may need another 10 for its first segment.
IDLE_FOR = 30.0
LOG_EVERY = 60.0  # seconds between two tracebacks of one playlist
FAULT_AFTER = 5.0  # seconds of a fault of the machine after which it is told
LEFT_OVER = 60.0  # seconds after which a playlist that nobody writes is one of an earlier stream
TOLD = 3  # playlists that cannot be followed
CLIP_ALONE = 15.0  # seconds of it after which no stream's playlists are there


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
        self._listed = MultivariantPlaylist()  # names of variants in the place of their URIs
        self._clips = MultivariantPlaylist()  # the idle clip's: it is written over a stream's too
        self._folder = Folder(root)
        self._playlists = Playlists(self._folder, self._runs, clock, memory)
        self._told = VariantsListed()
        self._idle = Lasting(IDLE_FOR)  # the clip alone
        self._fault = Lasting(FAULT_AFTER)
        self._refused: str | None = None

    def scan(self, now: float) -> list[SourceEvent]:
        """All that is new at ``now`` (monotonic, seconds). Does not raise for anything in the folder."""
        if self._folder.look(now) or self._playlists.unsettled:
            self._playlists.discover()
            if not any(one.media is False and self._playlists.is_there(one) for one in self._playlists):
                self._listed = MultivariantPlaylist()
        events: list[SourceEvent] = []
        for followed in self._playlists:
            events += self._guarded_look(followed, now)
        pauses = [one.pause(now) for one in self._playlists]
        self.pause = min((pause for pause in pauses if pause is not None), default=None)
        self._know_clip(now)
        listed = VariantsListed(self._listed, self._present())
        if listed != self._told:
            self._told = listed
            events.insert(0, listed)
        busy = any(isinstance(event, Segment) for event in events)
        if self._idle.note(now, on=not busy and any(one.follower.idle for one in self._playlists)):
            logger.info("Owncast shows its idle clip alone: there is no stream")
            events.append(SourceIdle())
        return events + self._faults(now) + self._refusals()

    def _faults(self, now: float) -> list[SourceEvent]:
        """What is wrong with the machine, once that has lasted, and that it is over."""
        faults = [self._folder.fault, *(one.fault or one.follower.pending.fault for one in self._playlists)]
        fault = next(filter(None, faults), None)
        was_told = self._fault.counts
        if self._fault.note(now, on=fault is not None):
            logger.error("%s; nothing is given up, it is tried again", fault)
            return [SourceFault(fault)]
        if was_told and fault is None:
            logger.info("the HLS folder is no longer out of reach")
            return [SourceFault(None)]
        return []

    def _refusals(self) -> list[SourceEvent]:
        """Which playlists are being written and cannot be followed, when that has changed."""
        since = self._clock().timestamp() - LEFT_OVER
        written = [one for one in self._playlists if one.file.written > since]
        found = {one.file.name: one.refusal for one in written if one.refusal}
        found |= self._playlists.refused
        message = "; ".join(f"{name} {why}" for name, why in list(found.items())[:TOLD]) or None
        if message == self._refused:
            return []
        self._refused = message
        return [SourceRefused(message)]

    def _know_clip(self, now: float) -> None:
        """Note how the idle clip's multivariant playlist looks."""
        alone = self._idle.since is not None and now - self._idle.since > CLIP_ALONE
        followers = [one.follower for one in self._playlists]
        is_clips = alone or not any(follower.following for follower in followers)
        if is_clips and any(follower.hidden for follower in followers):
            self._clips = self._listed

    def _present(self) -> frozenset[str]:
        """The variants that there is a place for: Owncast makes their folders before anything else."""
        followed = {
            one.follower.variant
            for one in self._playlists
            if self._folder.has(one.file.path.parent)
            # In the root there is no folder to tell that it is of a variant.
            and (one.file.path.parent != self._root or one.media)
            and not (one.media is False or one.follower.over or one.left_out.since is not None)
        }
        return frozenset(self._folder.places | followed)

    def _stranger(self, followed: Followed, playlist: MediaPlaylist) -> str:
        """Why the playlist is no part of the stream, as one that the multivariant playlist leaves out, if so.

        One of the same run as those that are followed is: then that multivariant playlist is of another run,
        or of the idle clip, whose transcoder goes on for a while beside a stream's.
        """
        not_carried = dict(self._listed.not_carried).get(followed.follower.variant) or what_it_holds(playlist)
        if not_carried or followed.follower.following:
            return not_carried
        uris = {segment.uri for segment in playlist.segments}
        for one in self._playlists:
            beside = one is not followed and one.file.path.parent == followed.file.path.parent
            if beside and one.follower.known.has_any(uris) and self._playlists.is_there(one):
                return f"lists the same segments as {one.file.name}"
        followers = [one.follower for one in self._playlists]
        listed = [follower for follower in followers if follower.variant in self._listed.uris]
        if followed.follower in listed:
            return ""
        if not listed:
            return self._other_stream(followed, playlist)
        # Where the idle clip hides all that it names, it is the clip's as well.
        of_clip = all(follower.hidden for follower in listed)
        last = playlist.segments[-1] if playlist.segments else None
        encoder = self._runs.encoder(followed.follower.variant, last) if last else ""
        if encoder and (of_clip or encoder in {follower.encoder for follower in followers}):
            return ""
        return "is not listed in the multivariant playlist"

    def _other_stream(self, followed: Followed, playlist: MediaPlaylist) -> str:
        """Why it is another stream than the one that is on, where no multivariant playlist says what belongs.

        What was refused for that reason stays so: it does not take the place of the other one later on.
        """
        if followed.other_stream and followed.left_out.counts:
            return followed.other_stream
        since = self._clock().timestamp() - LEFT_OVER
        on = [
            one
            for one in self._playlists
            if one is not followed
            and one.follower.following
            and not (one.follower.closed or one.follower.hidden)
            and one.file.modified > since
            and self._playlists.is_there(one)
        ]
        last = playlist.segments[-1] if playlist.segments else None
        if last is None or not on:
            return ""
        encoder = self._runs.encoder(followed.follower.variant, last)
        if any(one.follower.is_beside(playlist, encoder, followed.file.path.parent) for one in on):
            return ""
        followed.other_stream = (
            f"is another stream than {on[0].file.name}: its segments have other numbers, times or media, and"
            " no multivariant playlist names both"
        )
        return followed.other_stream

    def _guarded_look(self, followed: Followed, now: float) -> Iterator[SourceEvent]:
        """One playlist that makes us fail must not stop the others, nor come back after every restart."""
        try:
            yield from self._look(followed, now)
        except Exception as error:
            followed.failure = f"cannot be followed ({type(error).__name__}); please report this"
            if now - followed.failure_logged > LOG_EVERY:
                followed.failure_logged = now
                logger.exception("%s %s", followed.file.name, followed.failure)
        else:
            followed.failure = ""

    def _look(self, followed: Followed, now: float) -> Iterator[SourceEvent]:
        file, follower, followed.fault = followed.file, followed.follower, ""
        try:
            playlist = file.read(now)
            if isinstance(playlist, MultivariantPlaylist):
                followed.media = False
                now_listed = named(self._root, file.path, playlist)
                # While it is written it may lack variants; the clip's tells nothing of a stream's.
                if not (file.unsettled or (self._listed.variants and now_listed == self._clips)):
                    self._listed = now_listed
            elif playlist:
                followed.media, followed.waiting = True, playlist
            if followed.waiting:
                why = self._stranger(followed, followed.waiting)
                followed.why = why
                if followed.left_out.note(now, on=bool(why)):
                    self._playlists.say(file.path, f"{why}; it is not followed")
                if not why:
                    follower.absorb(followed.waiting, file.modified, now, whole=not file.unsettled)
                    followed.waiting = None
            if file.unreadable or follower.hidden or follower.closed:  # it may not list all that is finished
                follower.take_unlisted(now)
        except OSError as error:
            file.read_again()
            if is_final(error):
                follower.miss()
                followed.waiting = None
            else:
                followed.fault = f"{file.name} cannot be read: {error.strerror}"
        yield from follower.settle(now)
