"""Restores the journal of a stopped service as it was before a newer release migrated it.

    restore_journal.py SINCE SERVED

SINCE is the time of the newer release (seconds since the epoch), SERVED is "yes" if that release may have
served viewers. install.sh has the service's unit run this before the older release starts: as the service's
own user and in its sandbox, because that user decides what the names in the state folder lead to. Only the
standard library is needed.
"""

import os
import re
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

JOURNAL = "journal.db"
COPY = re.compile(r"journal\.db\.schema([0-9]{1,9})", re.ASCII)  # broadcaster/catalog/schema.py
MARK = "INSERT OR REPLACE INTO facts VALUES ('boot', 'before a migration')"


def main(since: float, *, served: bool) -> int:
    """Restore the newest copy; returns the exit status."""
    folder = Path(os.environ.get("BROADCASTER_STATE_DIR") or "state").expanduser()
    if not folder.is_dir():
        return 0  # the service has never run
    if os.geteuid() == 0 != folder.stat().st_uid:
        sys.stderr.write(f"{folder} is another user's: root restores nothing in it\n")
        return 1
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := COPY.fullmatch(path.name))]
    copies = [path for _, path in sorted(found) if _is_plain_and_newer(path, since)]
    if not copies:
        return 0
    journal, copy = folder / JOURNAL, copies[-1]
    if served:
        # Numbers that viewers have seen must not be used again: as after a power cut, they are raised.
        with (
            closing(sqlite3.connect(f"{copy.absolute().as_uri()}?mode=rw", uri=True)) as connection,
            connection,
        ):
            connection.execute(MARK)
    for ending in ("-wal", "-shm"):
        journal.with_name(JOURNAL + ending).unlink(missing_ok=True)
    copy.replace(journal)
    sys.stdout.write(f"{JOURNAL} is again what it was before the new release\n")
    return 0


def _is_plain_and_newer(path: Path, since: float) -> bool:
    """Whether it is a regular file with one name, written after ``since``."""
    status = path.lstat()
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_mtime > since


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), served=sys.argv[2] == "yes"))
