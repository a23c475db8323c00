"""The journal as it was before a migration: the release before this one cannot read what is made of it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path


def copy_of(path: Path, version: int) -> Path:
    """Where the copy of the journal at ``path`` is kept that has this version of the schema."""
    return path.with_name(f"{path.name}.schema{version}")


def keep(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy the journal, whole or not at all. Raises sqlite3.Error or OSError."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as copy:
        connection.backup(copy)
    unfinished.replace(copy_of(path, version))


def forget_older(path: Path, version: int) -> None:
    """Remove the copies of earlier migrations, whose releases nobody goes back to."""
    for copy in path.parent.glob(f"{path.name}.schema*"):
        if copy != copy_of(path, version):
            copy.unlink()
