"""The state folder is nobody else's: it holds what is not yet public, and what was never to be."""

from __future__ import annotations

import logging
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from broadcaster.config import Settings
from broadcaster.errors import ConfigError

logger = logging.getLogger(__name__)

OWN = stat.S_IRWXU
JOURNAL = "journal.db"


def make_private(folder: Path) -> None:
    """Make the folder, or close the one that is there to others. Raises OSError where it cannot be made.

    One with other things in it is not ours alone, and is left as it is.
    """
    folder.mkdir(mode=OWN, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if not mode & ~OWN:
        return
    if (folder / JOURNAL).exists() or not any(folder.iterdir()):
        with suppress(PermissionError):  # it is another user's
            folder.chmod(OWN)
            logger.warning("%s was open to other users (mode %o); now it is not", folder, mode)
            return
    logger.warning("%s is open to other users (mode %o), and not ours alone: it stays so", folder, mode)


@contextmanager
def state_folder(settings: Settings) -> Iterator[None]:
    """Inside, what cannot be done with it is a ConfigError."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"BROADCASTER_STATE_DIR: {settings.state_dir}: {error.strerror}") from None
