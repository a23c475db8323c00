"""What is in the folder: its playlists, and the places where variants will be."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from broadcaster.descriptors import open_beneath
from broadcaster.errors import is_final
from broadcaster.ingest.names import VARIANT_NAME
from broadcaster.printable import printable

logger = logging.getLogger(__name__)

# Seconds that cover a tick of the kernel, by which it dates folders: what comes later in the same tick as a
# change that was seen leaves the folder's time as it was.
TICK = 0.02
LIST = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
MEDIA_SUFFIXES = (".ts", ".m4s", ".mp4")


class Folder:
    """The folder ``root`` and those in it, as they were when they were looked at last.

    ``playlists`` are the root's first; ``places`` are the names of folders that may be variants and have no
    playlist yet. ``fault`` is why they could not be looked at now: then all is as it was.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.playlists: list[Path] = []
        self.places: set[str] = set()
        self.fault = ""
        self._times: dict[str, int] = {}
        self._changed_at: float | None = None  # monotonic; None when nothing can have come unseen since
        self._names: dict[str, list[str]] = {}  # of what is in each folder
        self._forbidden: set[Path] = set()

    def look(self, now: float) -> bool:
        """Look at ``now`` (monotonic, seconds); returns whether anything may have come or gone."""
        self.fault = ""
        try:
            times = self._look_at_times()
        except OSError as error:
            self.fault = f"the folder cannot be read: {error.strerror}"
            return False
        if times != self._times:
            self._times, self._changed_at = times, now
        elif self._changed_at is None:
            return False
        elif now - self._changed_at > TICK:
            self._changed_at = None
        self._list(now)
        return True

    def has(self, folder: Path) -> bool:
        """Whether that is the root or one of the folders in it."""
        return folder == self.root or str(folder) in self._times

    def _look_at_times(self) -> dict[str, int]:
        """The root and its folders with their modification times: a new file changes its folder's."""
        try:
            descriptor = open_beneath(self.root, self.root, LIST)
            try:
                with os.scandir(descriptor) as entries:
                    # What a link leads to is not of this folder.
                    inside = {
                        str(self.root / entry.name): entry.stat(follow_symlinks=False).st_mtime_ns
                        for entry in entries
                        if entry.is_dir(follow_symlinks=False)
                    }
                return {"": os.fstat(descriptor).st_mtime_ns, **inside}
            finally:
                os.close(descriptor)
        except OSError as error:
            if not is_final(error):
                raise
            return {}

    def _list(self, now: float) -> None:
        """By scandir: pathlib's glob takes a millisecond."""
        known, self._names = self._names, {}
        self.playlists, self.places = [], set()
        for folder in ("", *sorted(path for path in self._times if path)):
            path = Path(folder) if folder else self.root
            try:
                descriptor = open_beneath(self.root, path, LIST)
                try:
                    with os.scandir(descriptor) as entries:
                        names = sorted(entry.name for entry in entries)
                finally:
                    os.close(descriptor)
            except OSError as error:
                if is_final(error):  # it vanished just now, which changes its parent: we look again
                    continue
                self._changed_at = now
                if isinstance(error, PermissionError):
                    self._say_forbidden(path)
                else:
                    self.fault = f"the folder {printable(path.name)} cannot be read: {error.strerror}"
                if folder not in known:
                    continue
                names = known[folder]
            self._names[folder] = names
            found = [path / name for name in names if name.endswith(".m3u8")]
            self.playlists += found
            may_be_variant = not names or any(name.endswith(MEDIA_SUFFIXES) for name in names)
            if folder and may_be_variant and not found and VARIANT_NAME.fullmatch(path.name):
                self.places.add(path.name)

    def _say_forbidden(self, path: Path) -> None:
        if path not in self._forbidden:
            self._forbidden.add(path)
            logger.warning(
                "the folder %s may not be read, and is left out: let this service's user, or its group, read"
                " and enter it (chmod g+rx)",
                printable(str(path.relative_to(self.root))),
            )
