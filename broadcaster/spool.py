"""Keeps a segment on disk until the bucket has it, whatever happens to the source folder.

A hard link costs nothing and outlives Owncast's cleanup; across file systems it has to be a copy.
"""

from __future__ import annotations

import asyncio
import errno
import os
import shutil
from pathlib import Path


class Spool:
    """A folder of our own. What an earlier process left there is removed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    async def keep(self, file: Path, key: str) -> Path:
        """Link ``file`` into the spool under its object key; returns where it is.

        Raises FileNotFoundError when the file is gone, OSError when there is no room.
        """
        kept = self._folder / key
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.unlink(missing_ok=True)
        try:
            os.link(file, kept)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
                raise
            await asyncio.to_thread(shutil.copy2, file, kept)
        return kept

    def drop(self, kept: Path) -> None:
        """The bucket has it."""
        kept.unlink(missing_ok=True)
