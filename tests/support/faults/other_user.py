"""Another user on this machine, for tests of what files a service may read."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from broadcaster.printable import printable

NOBODY = 65534
OWNCASTS_GROUP = 54321  # which a service of another user is in


@contextmanager
def open_folder() -> Iterator[Path]:
    """A folder that others may enter: pytest's own are its user's alone."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def give(path: Path, mode: int) -> None:
    """Set the mode as Owncast does, of Owncast's user and group; without root's rights the mode has to do."""
    if os.geteuid() == 0:
        os.chown(path, -1, OWNCASTS_GROUP)
        path.chmod(mode)
    else:  # ours are not Owncast's: what its user alone may do, nobody may
        path.chmod(mode if mode & 0o077 else 0)


@contextmanager
def another_user(*groups: int) -> Iterator[None]:
    """Be a user who is not Owncast's but in these groups; whoever is not root stays who they are."""
    if os.geteuid() != 0:
        yield
        return
    printable("")  # Python's own files may be root's alone: what it loads late has to be there before
    own, group = os.getgroups(), os.getegid()
    os.setgroups(groups)
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(own)
