"""What is in the folder: its playlists, and the places where variants will be."""

from __future__ import annotations

import logging
import math
import os
import time
from pathlib import Path
from typing import NamedTuple

from broadcaster.descriptors import open_beneath, status_beneath
from broadcaster.errors import is_final
from broadcaster.ingest.names import VARIANT_NAME
from broadcaster.printable import printable

logger = logging.getLogger(__name__)

# Seconds that cover a tick of the kernel, by which it dates folders: what comes later in the same tick as a
# change that was seen leaves the folder's time as it was.
TICK = 0.02
COARSE, COARSE_TICK = (
    10_000_000,
    2.0,
)  # ns: file systems that date by whole seconds, or by two (FAT, ext3, HFS+)
# A folder that takes long to list is listed no more often than makes this share of a core: some writers never
# remove a segment, and each new one changes the folder.
LONG, SHARE = 0.01, 0.02  # seconds
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MEDIA_SUFFIXES = (".ts", ".m4s", ".mp4")


class _Contents(NamedTuple):
    """What a folder holds, as far as it matters here."""

    playlists: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()  # of the root alone
    is_empty: bool = True
    has_media: bool = False


class Folder:
    """The folder ``root`` and those in it, as they were when they were looked at last.

    ``playlists`` are the root's first; ``places`` are the names of folders that may be variants and have no
    playlist yet. ``fault`` is why they could not be looked at now: then all is as it was. Only what has
    changed is listed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.playlists: list[Path] = []
        self.places: set[str] = set()
        self.fault = ""
        self._contents: dict[Path, _Contents] = {}
        self._states: dict[Path, tuple[int, int]] = {}  # inode, and when it last changed
        self._changed: dict[Path, float] = {}  # monotonic: since when something may have come unseen
        self._not_before: dict[Path, float] = {}  # monotonic: when one that takes long may be listed again
        self._forbidden: set[Path] = set()

    def look(self, now: float) -> bool:
        """Look at ``now`` (monotonic, seconds); returns whether anything may have come or gone."""
        self.fault = ""
        try:
            changed = self._look_at(self.root, now)
        except OSError as error:
            self.fault = f"the folder cannot be read: {error.strerror}"
            return False
        inside = [self.root / name for name in self._contents.get(self.root, _Contents()).folders]
        for folder in [one for one in self._states if one != self.root and one not in inside]:
            self._forget(folder)
            changed = True
        for folder in inside:
            try:
                changed |= self._look_at(folder, now)
            except PermissionError:
                self._changed[folder] = now
                self._say_forbidden(folder)
                changed = True
            except OSError as error:
                self._changed[folder] = now
                self.fault = f"the folder {printable(folder.name)} cannot be read: {error.strerror}"
                changed = True
        if changed:
            self._sum_up()
        return changed

    def has(self, folder: Path) -> bool:
        """Whether that is the root or one of the folders in it."""
        return folder == self.root or folder in self._states

    def _look_at(self, folder: Path, now: float) -> bool:
        """List it where it has changed; returns whether that was done, or it has gone.

        Raises OSError where it cannot be looked at now.
        """
        try:
            status = status_beneath(self.root, folder)
            state = status.st_ino, status.st_mtime_ns
            before = self._states.get(folder)
            if state != before:
                self._changed[folder] = now
                if before is None or before[0] != state[0]:
                    self._not_before.pop(folder, None)  # it is another folder
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
        begun = time.perf_counter()
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
                    # What a link leads to is not of this folder.
                    if folder == self.root and entry.is_dir(follow_symlinks=False):
                        folders.append(entry.name)
        finally:
            os.close(descriptor)
        cost = time.perf_counter() - begun
        if cost > LONG:
            self._not_before[folder] = now + cost / SHARE
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

    def _say_forbidden(self, path: Path) -> None:
        if path not in self._forbidden:
            self._forbidden.add(path)
            logger.warning(
                "the folder %s may not be read, and is left out: let this service's user, or its group, read"
                " and enter it (chmod g+rx)",
                printable(str(path.relative_to(self.root))),
            )
