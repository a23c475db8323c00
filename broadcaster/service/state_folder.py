"""The state folder is nobody else's: it holds what is not yet public, and what was never to be."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broadcaster.config import Settings
from broadcaster.errors import ConfigError
from broadcaster.own_files import OTHERS, OTHERS_WRITE, PRIVATE, NotOursError, mode_of_own

logger = logging.getLogger(__name__)

JOURNAL = "journal.db"


def make_private(folder: Path) -> None:
    """Make the folder, or close the one that is there to others. Raises OSError where it cannot be made.

    One with other things in it is not ours alone, and is left as it is. Raises NotOursError where it is
    another user's, or others can go on writing into it.
    """
    mode = mode_of_own(Path(os.path.realpath(folder)))
    if not mode & OTHERS:
        return
    if (folder / JOURNAL).exists() or not any(folder.iterdir()):
        folder.chmod(PRIVATE)
        logger.warning("%s was open to other users (mode %o); now it is not", folder, mode)
        return
    if mode & OTHERS_WRITE:
        raise NotOursError(
            folder,
            f"other users can write into it (mode {mode:o}), and it has other things in it: choose another",
        )
    logger.warning("%s is open to other users (mode %o), and not ours alone: it stays so", folder, mode)


@contextmanager
def state_folder(settings: Settings) -> Iterator[None]:
    """Inside, what cannot be done with it is a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None
