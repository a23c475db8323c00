"""Opening the journal's file."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from broadcaster.catalog.copies import forget_older, keep
from broadcaster.catalog.schema import MIGRATIONS, SCHEMA
from broadcaster.errors import CatalogError

APPLICATION_ID = 0x42524344  # "BRCD", so that a foreign database is recognised
BUSY_TIMEOUT = 2.0  # seconds: a predecessor that is just ending
# Bytes. With years of recordings the table of segments is larger: to read it all would keep viewers waiting.
LARGE = 2**28


def open_database(
    path: Path, schema: str = SCHEMA, migrations: Sequence[str] = MIGRATIONS
) -> sqlite3.Connection:
    """Open the journal, make it if it is not there, and bring an older schema up to date.

    Raises CatalogError for a file that is not ours, is broken, is of a newer version, or is in use.
    """
    try:
        connection = sqlite3.connect(
            path, isolation_level=None, timeout=BUSY_TIMEOUT, check_same_thread=False
        )
        try:
            _prepare(connection, path, schema, migrations)
        except BaseException:
            connection.close()
            raise
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise CatalogError(f"{path} is in use: another broadcaster runs on this state folder") from None
        raise CatalogError(f"{path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise CatalogError(
            f"{path} is not a journal, or is broken ({error}); move it away to start with an empty one"
        ) from None
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, migrations: Sequence[str]) -> None:
    # Exclusive: the second process on a state folder is told at once, and there is no shared memory file.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = _one(connection, "PRAGMA user_version")
    tables = _one(connection, "SELECT count(*) FROM sqlite_schema")
    if tables and _one(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise CatalogError(f"{path} is a database of something else; move it away to start with an empty one")
    if version > len(migrations) + 1:
        raise CatalogError(f"{path} was written by a newer version of the broadcaster; upgrade to use it")
    _look_for_damage(connection)
    # Nothing was written so far: what is not ours, or broken, stays as it is.
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode NORMAL survives a killed process whole, and a power cut as of the last checkpoint, of which
    # there is one every few seconds.
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("BEGIN EXCLUSIVE")
    if not tables:  # a start on a full disk must not need to write
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute("COMMIT")
    newest = len(migrations) + 1
    if version == newest:
        return
    if tables:
        keep(connection, path, version)
    # All at once: nobody ever finds, nor copies, what is between two versions.
    scripts = "".join(migrations[version - 1 :]) if version else schema
    connection.executescript(f"BEGIN; {scripts} PRAGMA user_version = {newest}; COMMIT;")
    forget_older(path, version)


def _look_for_damage(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if there is some; in a large file it may be found later, in segments."""
    checks = ["PRAGMA quick_check(1)"]
    if _one(connection, "PRAGMA page_count") * _one(connection, "PRAGMA page_size") > LARGE:
        tables = "SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> 'segments'"
        checks = [f"PRAGMA quick_check('{name}')" for (name,) in connection.execute(tables)]
    for check in checks:
        verdict = connection.execute(check).fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(" ".join(verdict.split()))


def _one(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])
