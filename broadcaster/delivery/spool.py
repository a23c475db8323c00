"""Keeps a segment on disk until the bucket has it, and a power cut cannot make us forget that.

A hard link costs nothing and outlives Owncast's cleanup; across file systems it has to be a copy.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import shutil
from collections.abc import Iterable
from pathlib import Path

UNFINISHED = ".part"
SHORT = 100_000_000  # bytes: more than is let go of at any time
NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP}


class Spool:
    """A folder of our own. ``size`` is how many bytes wait; ``limit``, in bytes, is for others to heed."""

    def __init__(self, folder: Path, limit: int) -> None:
        self.limit = limit
        self._folder = folder
        self.size = 0
        self._sizes: dict[Path, int] = {}
        self._let_go: dict[Path, tuple[int, int]] = {}  # what the catalog was told by then, and the bytes
        folder.mkdir(parents=True, exist_ok=True)

    def resume(self, keys: Iterable[str]) -> list[str]:
        """Take over what an earlier process kept; returns the keys of what is there and not among these."""
        known, others = set(keys), []
        for path in sorted(self._folder.rglob("*"), reverse=True):  # files before their folders
            if path.is_dir() and not path.is_symlink():
                if not any(path.iterdir()):
                    path.rmdir()
            elif path.is_symlink() or path.name.endswith(UNFINISHED) or not path.stat().st_size:
                path.unlink()
            else:
                self._note(path)
                key = path.relative_to(self._folder).as_posix()
                others += [] if key in known else [key]
        return others

    @property
    def free(self) -> float:
        """Bytes that are left on its file system; NaN where the system will not tell."""
        try:
            return shutil.disk_usage(self._folder).free
        except OSError:
            return math.nan

    def find(self, key: str) -> Path | None:
        """Return what is kept under a key, None when there is nothing."""
        path = self._folder / key
        return path if path in self._sizes else None

    async def keep(self, file: Path, key: str, *, copy: bool = False) -> Path:
        """Link ``file`` into the spool under its object key, or copy it; returns where it is.

        Raises FileNotFoundError when the file is gone, OSError when there is no room.
        """
        kept = self._folder / key
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.unlink(missing_ok=True)
        self._let_go.pop(kept, None)
        try:
            if not copy:
                os.link(file, kept)
        except OSError as error:
            if error.errno not in NOT_LINKABLE:
                raise
            copy = True
        if copy:
            await asyncio.to_thread(_copy, file, kept)
        self._note(kept)
        return kept

    def drop(self, kept: Path) -> None:
        """Let go of a file: the bucket has it, or it is given up. What cannot be removed now is so later."""
        with contextlib.suppress(OSError):
            kept.unlink()
        self.size -= self._sizes.pop(kept, 0)  # its folder stays: the next one may just be on its way there

    def let_go(self, kept: Path, told: int) -> None:
        """Drop it once a power cut cannot take back what the catalog was ``told`` so far."""
        size = self._sizes.pop(kept, 0)
        self.size -= size
        self._let_go[kept] = told, size
        self._make_room()

    def settle(self, synced: float) -> None:
        """A power cut can take back nothing of the first so many transactions."""
        for kept in [one for one, (told, _) in self._let_go.items() if told <= synced]:
            del self._let_go[kept]
            self.drop(kept)

    def _make_room(self) -> None:
        """What is let go of takes none from what waits; a disk that is nearly full is for the catalog."""
        if self.free < SHORT or self.size + sum(size for _, size in self._let_go.values()) > self.limit:
            self.settle(math.inf)

    def _note(self, kept: Path) -> None:
        self.size -= self._sizes.get(kept, 0)
        self._sizes[kept] = kept.stat().st_size
        self.size += self._sizes[kept]
        self._make_room()


def _copy(file: Path, kept: Path) -> None:
    """Copy under another name first: neither a killed process nor a power cut leaves half a segment."""
    unfinished = kept.with_name(kept.name + UNFINISHED)
    try:
        shutil.copy2(file, unfinished)
        _sync(unfinished, os.O_RDONLY)
        unfinished.replace(kept)
        _sync(kept.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
