"""Which of the folder's playlists are followed."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path

from broadcaster.catalog.records import SourceMemory
from broadcaster.descriptors import status_beneath
from broadcaster.errors import is_final
from broadcaster.hls import MediaPlaylist
from broadcaster.ingest.folder import Folder
from broadcaster.ingest.follower import Follower
from broadcaster.ingest.lasting import Lasting
from broadcaster.ingest.names import variant_name
from broadcaster.ingest.playlist_file import PlaylistFile
from broadcaster.ingest.runs import RunBook
from broadcaster.printable import printable

logger = logging.getLogger(__name__)

LEFT_OUT_FOR = 5.0  # seconds; a stream's multivariant playlist comes after its first segments
MAX_PLAYLISTS = 64  # keeps metrics labels and work bounded


@dataclass(slots=True)
class Followed:
    """A playlist that is followed, or a multivariant one that is read."""

    file: PlaylistFile
    follower: Follower
    waiting: MediaPlaylist | None = None  # the latest version, while it is not known to belong to the stream
    media: bool | None = None  # a media playlist, not a multivariant one; None as long as it was not read
    left_out: Lasting = field(default_factory=partial(Lasting, LEFT_OUT_FOR))
    why: str = ""  # it is left out
    other_stream: str = ""  # why it was found to be another stream
    failure: str = ""  # what our own code raised at the latest look
    failure_logged: float = -math.inf  # monotonic, seconds
    fault: str = ""  # of the machine: why it could not be looked at now

    @property
    def refusal(self) -> str:
        """Why it is not followed, once that has lasted; empty while it is."""
        return self.file.refusal or self.failure or (printable(self.why) if self.left_out.counts else "")

    def pause(self, now: float) -> float | None:
        """How many seconds from ``now`` to look again, None when nothing is about to be finished."""
        pauses = [self.follower.pending.pause, self.file.pause(now)]
        return min((pause for pause in pauses if pause is not None), default=None)


class Playlists:
    """Those that are followed, one for each variant; ``folder`` tells what there is."""

    def __init__(
        self, folder: Folder, runs: RunBook, clock: Callable[[], datetime], memory: SourceMemory
    ) -> None:
        self._folder = folder
        self._runs = runs
        self._clock = clock
        self._positions = dict(memory.positions)
        self._followed: dict[Path, Followed] = {}
        self._finished: dict[Path, float] = {}  # gave way; when last modified, in seconds since the epoch
        self._refused: dict[Path, bool] = {}  # and whether that was said
        self.refused: dict[str, str] = {}  # by name: why, of those that are not followed at all

    def __iter__(self) -> Iterator[Followed]:
        return iter(self._followed.values())

    @property
    def unsettled(self) -> bool:
        """Whether one was refused that may have its turn at the next look."""
        return not all(self._refused.values())

    def is_there(self, one: Followed) -> bool:
        """Whether its file was there at the latest look."""
        return one.file.path in self._folder.playlists

    def discover(self) -> None:
        """Follow what is new in the folder."""
        present = set(self._folder.playlists)
        self._finished = {path: modified for path, modified in self._finished.items() if path in present}
        refused, self._refused, self.refused = self._refused, {}, {}
        for path in self._folder.playlists:
            if path in self._followed or self._is_finished(path):
                continue
            why = self._follow(path, present)
            if why:
                # Before it is said, those that are in its way have been looked at.
                self._refused[path] = path in refused
                if path in refused:
                    self.refused[printable(path.relative_to(self._folder.root).as_posix())] = why
                if refused.get(path) is False:
                    self.say(path, f"{why}; it is not followed")

    def say(self, path: Path, what: str) -> None:
        """Log what is wrong with a playlist."""
        logger.warning("%s %s", printable(path.relative_to(self._folder.root).as_posix()), what)

    def _is_finished(self, path: Path) -> bool:
        """Whether it was finished when it had to give way, and is as it was then."""
        if path not in self._finished:
            return False
        try:
            return self._finished[path] == status_beneath(self._folder.root, path).st_mtime
        except OSError as error:
            return not is_final(error)

    def _follow(self, path: Path, present: set[Path]) -> str | None:
        """Follow one more playlist; returns why not, if so."""
        variant = variant_name(path.relative_to(self._folder.root).as_posix())
        if variant is None:
            return "has a name that is not fit for a URL"
        media = (one for one in self if one.media is not False)
        same = next((one for one in media if one.follower.variant == variant), None)
        if same and same.file.path in present and not same.follower.over:
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
            follower.recall(self._positions.pop(variant))
        self._followed[path] = Followed(PlaylistFile(self._folder.root, path), follower)
        return None

    def _has_room(self, present: set[Path]) -> bool:
        """Whether another playlist can be followed; one that is away or finished gives way.

        First of all those that brought nothing. As long as there is room, one that is away is remembered: its
        run may go on, or the next one begin.
        """
        if len(self._followed) < MAX_PLAYLISTS:
            return True
        spare = [path for path, one in self._followed.items() if path not in present or one.follower.over]
        if spare:
            gone = min(spare, key=lambda path: (self._followed[path].follower.following, path in present))
            self._finished[gone] = self._followed.pop(gone).file.modified
        return bool(spare)
