"""The tables of ``journal.db``, their migrations, and opening the file.

Before a migration the file is copied, because an earlier release cannot read the new schema.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

from broadcaster.errors import CatalogError

# Times are microseconds. One row for each segment; a row without a key is a gap of its playlist.
SEGMENTS = """
CREATE TABLE segments (
    position INTEGER PRIMARY KEY,
    step TEXT NOT NULL CHECK (step IN ('noticed', 'stored', 'lost', 'listed', 'unlisted', 'deleted')),
    key TEXT UNIQUE,
    map_key TEXT,
    variant TEXT NOT NULL,
    run INTEGER REFERENCES runs (number),
    sequence INTEGER,
    uri TEXT,
    name TEXT,
    duration INTEGER,
    program_date_time INTEGER,
    target_duration INTEGER,
    independent INTEGER NOT NULL DEFAULT 1,
    noticed INTEGER,
    path TEXT,
    file_size INTEGER,
    modified_ns INTEGER,
    inode INTEGER NOT NULL DEFAULT 0,
    map_name TEXT,
    map_path TEXT,
    map_size INTEGER,
    map_modified_ns INTEGER,
    map_inode INTEGER NOT NULL DEFAULT 0,
    fault TEXT,
    url TEXT NOT NULL DEFAULT '',
    map_url TEXT,
    size INTEGER NOT NULL DEFAULT 0,
    sha256 TEXT,
    uploaded INTEGER,
    number INTEGER,
    discontinuity INTEGER,
    time INTEGER,
    availability INTEGER NOT NULL DEFAULT 0,
    unlisted INTEGER,
    delete_at INTEGER
) STRICT;
"""
INDEXES = """
CREATE INDEX segments_of_variant ON segments (variant, position);
CREATE INDEX pending_segments ON segments (position) WHERE step IN ('noticed', 'stored', 'lost');
CREATE UNIQUE INDEX listed_segments ON segments (variant, number) WHERE step = 'listed';
CREATE INDEX due_segments ON segments (delete_at) WHERE step = 'unlisted';
CREATE INDEX stored_segments ON segments (step, size) WHERE size > 0;
CREATE INDEX maps ON segments (map_key, step, delete_at) WHERE map_key IS NOT NULL;
"""
# Views beside the window: a segment is in a recording by its part, and in a clip by its time.
VIEWS = """
CREATE TABLE recordings (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    titled INTEGER NOT NULL,
    visibility TEXT NOT NULL CHECK (visibility IN ('listed', 'unlisted', 'hidden')),
    secret TEXT NOT NULL,
    started INTEGER NOT NULL,
    ended INTEGER,
    keep_until INTEGER,
    duration INTEGER NOT NULL,
    size INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT;
CREATE TABLE parts (
    number INTEGER PRIMARY KEY,
    recording TEXT NOT NULL REFERENCES recordings (id),
    variants TEXT NOT NULL,
    renditions TEXT NOT NULL
) STRICT;
CREATE TABLE clips (
    id TEXT PRIMARY KEY,
    title TEXT NOT NULL,
    made INTEGER NOT NULL,
    "begin" INTEGER NOT NULL, "end" INTEGER NOT NULL,
    variants TEXT NOT NULL,
    renditions TEXT NOT NULL,
    removed INTEGER NOT NULL,
    written INTEGER NOT NULL
) STRICT;
ALTER TABLE segments ADD COLUMN part INTEGER REFERENCES parts (number);
CREATE INDEX parts_of_recording ON parts (recording, number);
CREATE INDEX segments_of_part ON segments (part, variant, position) WHERE part IS NOT NULL;
CREATE INDEX segments_by_time ON segments (time) WHERE time IS NOT NULL;
-- What is looked for again and again must not take longer with every recording that is kept.
DROP INDEX stored_segments;
CREATE INDEX stored_segments ON segments (part, size) WHERE size > 0 AND step <> 'deleted';
CREATE INDEX deleted_segments ON segments (variant, position) WHERE step = 'deleted';
CREATE INDEX deleted_maps ON segments (map_key, delete_at) WHERE step = 'deleted' AND map_key IS NOT NULL;
"""
# Where in its object the key frame of a segment is, in bytes; of older segments nobody knows.
IFRAMES = """
ALTER TABLE segments ADD COLUMN iframe_offset INTEGER;
ALTER TABLE segments ADD COLUMN iframe_length INTEGER;
"""
# Which clips viewers have made: they are bounded, and not kept for ever.
VIEWERS_CLIPS = "ALTER TABLE clips ADD COLUMN viewer INTEGER NOT NULL DEFAULT 0;"
# A recording as one file, which the operator uploads in parts.
FILES = """
CREATE TABLE files (
    key TEXT PRIMARY KEY,
    recording TEXT NOT NULL,
    step TEXT NOT NULL CHECK (step IN ('uploading', 'stored', 'removed')),
    size INTEGER NOT NULL,
    type TEXT NOT NULL,
    begun INTEGER NOT NULL,
    upload TEXT NOT NULL DEFAULT '',
    part_size INTEGER NOT NULL DEFAULT 0,
    etag TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE UNIQUE INDEX files_of_recording ON files (recording, step) WHERE step <> 'removed';
"""
# Whether the bucket has pictures of them, and whether all were made that can be.
PICTURES = """
ALTER TABLE recordings ADD COLUMN poster INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recordings ADD COLUMN thumbnails INTEGER NOT NULL DEFAULT 0;
ALTER TABLE recordings ADD COLUMN pictured INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clips ADD COLUMN poster INTEGER NOT NULL DEFAULT 0;
ALTER TABLE clips ADD COLUMN pictured INTEGER NOT NULL DEFAULT 0;
"""
# What is deleted waits in a bin: since when (0: no longer), and a part of its address there. A viewer's clip
# has a time of its own to go. An object that several recordings list has a row for each: the first has its
# key, all others share it. Who has the link of an unlisted recording keeps it over the upgrade.
BIN = """
ALTER TABLE recordings ADD COLUMN deleted INTEGER;
ALTER TABLE recordings ADD COLUMN bin TEXT NOT NULL DEFAULT '';
ALTER TABLE clips ADD COLUMN deleted INTEGER;
ALTER TABLE clips ADD COLUMN bin TEXT NOT NULL DEFAULT '';
ALTER TABLE clips ADD COLUMN keep_until INTEGER;
ALTER TABLE files ADD COLUMN deleted INTEGER;
ALTER TABLE segments ADD COLUMN shared_key TEXT;
CREATE INDEX shared_segments ON segments (shared_key) WHERE shared_key IS NOT NULL;
UPDATE recordings SET secret = '' WHERE visibility = 'unlisted';
UPDATE recordings SET deleted = 1000000 * strftime('%s', 'now'), bin = lower(hex(randomblob(8))),
    keep_until = NULL WHERE keep_until = 0;
UPDATE clips SET deleted = 1000000 * strftime('%s', 'now'), bin = lower(hex(randomblob(8))), written = 0
    WHERE removed;
UPDATE clips SET keep_until = -1 WHERE viewer;
ALTER TABLE clips DROP COLUMN removed;
"""
# Of a private event, whether strangers can watch it.
OPENED = "ALTER TABLE recordings ADD COLUMN opened INTEGER NOT NULL DEFAULT 0;\n"
SCHEMA = f"""
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    identity TEXT NOT NULL UNIQUE,
    shift INTEGER
) STRICT;
{SEGMENTS}
CREATE TABLE playlists (
    variant TEXT PRIMARY KEY,
    current INTEGER NOT NULL,
    target_duration INTEGER NOT NULL,
    media_sequence INTEGER NOT NULL,
    next_media_sequence INTEGER NOT NULL,
    discontinuity_sequence INTEGER NOT NULL,
    current_discontinuity INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    peak_bandwidth INTEGER NOT NULL DEFAULT 0,
    end INTEGER
) STRICT;
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
{INDEXES}
{VIEWS}
{IFRAMES}
{VIEWERS_CLIPS}
{FILES}
{PICTURES}
{BIN}
{OPENED}
"""
# The scripts from the first schema to this schema, in order.
MIGRATIONS = (
    "ALTER TABLE playlists ADD COLUMN peak_bandwidth INTEGER NOT NULL DEFAULT 0;",
    "ALTER TABLE playlists ADD COLUMN end INTEGER;",
    """
    ALTER TABLE entries ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE removals ADD COLUMN size INTEGER NOT NULL DEFAULT 0;
    """,
    # Without the time of the multivariant playlist, which had no use.
    "UPDATE facts SET value = json_extract(value, '$[1]') WHERE name = 'variants';",
    """
    ALTER TABLE entries ADD COLUMN availability INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE removals ADD COLUMN delete_at INTEGER NOT NULL DEFAULT 0;
    UPDATE removals SET delete_at = removed + availability;
    CREATE INDEX due_removals ON removals (delete_at);
    """,
    # The facts of a segment were in three tables.
    f"""
    ALTER TABLE segments RENAME TO old;
    DROP INDEX pending_segments;
    DROP INDEX segments_of_variant;
    {SEGMENTS}
    INSERT INTO segments (
        position, step, key, map_key, variant, run, sequence, uri, name, duration, program_date_time,
        target_duration, independent, noticed, path, file_size, modified_ns, map_name, map_path, map_size,
        map_modified_ns, fault
    )
    SELECT position, iif(state = 'pending', 'noticed', 'deleted'), key,
        iif(state = 'pending', rtrim(key, replace(key, '/', '')) || map_name, NULL), variant, run, sequence,
        uri, name, duration, time, target_duration, independent, noticed, path, size, modified_ns, map_name,
        map_path, map_size, map_modified_ns, fault
    FROM old;
    INSERT INTO segments (
        step, key, map_key, variant, duration, independent, fault, url, map_url, size, number, discontinuity,
        time, availability
    )
    SELECT 'listed', iif(number = max(number) OVER same, key, NULL),
        iif(number = max(number) OVER same, map_key, NULL), entries.variant, duration, independent,
        iif(gap, 'was lost', NULL), uri, map_uri,
        iif(number = max(number) OVER same, max(size) OVER same, 0), number,
        playlists.discontinuity_sequence + sum(discontinuity) OVER earlier, time, availability
    FROM entries JOIN playlists USING (variant)
    WHERE true
    WINDOW same AS (PARTITION BY entries.variant, key),
        earlier AS (PARTITION BY entries.variant ORDER BY number)
    ORDER BY number
    ON CONFLICT (key) DO UPDATE SET step = 'listed', map_key = excluded.map_key, duration = excluded.duration,
        fault = excluded.fault, url = excluded.url, map_url = excluded.map_url, size = excluded.size,
        number = excluded.number, discontinuity = excluded.discontinuity, time = excluded.time,
        availability = excluded.availability;
    INSERT INTO segments (step, key, variant, size, availability, unlisted, delete_at)
    SELECT 'unlisted', key, '', size, availability, removed, delete_at FROM removals WHERE true
    ON CONFLICT (key) DO UPDATE SET step = 'unlisted', size = excluded.size,
        availability = excluded.availability, unlisted = excluded.unlisted, delete_at = excluded.delete_at;
    DROP TABLE old;
    DROP TABLE entries;
    DROP TABLE removals;
    {INDEXES}
    """,  # noqa: S608 - a constant
    VIEWS,
    IFRAMES,
    VIEWERS_CLIPS,
    FILES,
    PICTURES,
    BIN,
    OPENED,
)


def copy_of(path: Path, version: int) -> Path:
    """The path of the copy of the catalog at ``path`` with this version of the schema."""
    return path.with_name(f"{path.name}.schema{version}")


def keep(connection: sqlite3.Connection, path: Path, version: int) -> None:
    """Copy the catalog completely or not at all. Raises sqlite3.Error or OSError."""
    unfinished = path.with_name(f"{path.name}.part")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as copy:
        connection.backup(copy)
    unfinished.replace(copy_of(path, version))


APPLICATION_ID = 0x42524344  # "BRCD", so that a foreign database is recognised
BUSY_TIMEOUT = 2.0  # seconds: an earlier process may be about to end
# Bytes. With years of recordings the table of segments is larger: a check of it would delay the start.
LARGE = 2**28


def open_database(
    path: Path, schema: str = SCHEMA, migrations: Sequence[str] = MIGRATIONS
) -> sqlite3.Connection:
    """Open or create the catalog, and migrate an older schema.

    Raises CatalogError for a file that is foreign, broken, of a newer version, or in use.
    """
    try:
        with ExitStack() as stack:
            connection = sqlite3.connect(path, BUSY_TIMEOUT, isolation_level=None, check_same_thread=False)
            stack.callback(connection.close)
            _prepare(connection, path, schema, migrations)
            stack.pop_all()
            return connection
    except sqlite3.OperationalError as error:
        if "locked" in str(error):
            raise CatalogError(f"{path} is in use: another broadcaster runs on this state folder") from None
        raise CatalogError(f"{path} cannot be opened: {error}") from None
    except sqlite3.DatabaseError as error:
        raise CatalogError(
            f"{path} is not a catalog, or is broken ({error}); move it away to start with an empty one"
        ) from None


def _prepare(connection: sqlite3.Connection, path: Path, schema: str, migrations: Sequence[str]) -> None:
    # Exclusive: a second process on the state folder fails at once, and there is no shared memory file.
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    version = _one(connection, "PRAGMA user_version")
    tables = _one(connection, "SELECT count(*) FROM sqlite_schema")
    if tables and _one(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise CatalogError(f"{path} is a database of something else; move it away to start with an empty one")
    if version > len(migrations) + 1:
        raise CatalogError(f"{path} was written by a newer version of the broadcaster; upgrade to use it")
    _check_integrity(connection)
    # Nothing was written so far: a foreign or broken file stays as it is.
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode, NORMAL loses nothing when the process is killed; a power cut takes back the transactions
    # since the last checkpoint, a few seconds before.
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
    # In one transaction: a kill leaves no state between two versions.
    scripts = "".join(migrations[version - 1 :]) if version else schema
    connection.executescript(f"BEGIN; {scripts} PRAGMA user_version = {newest}; COMMIT;")
    for copy in path.parent.glob(f"{path.name}.schema*"):
        if copy != copy_of(path, version):  # of an earlier migration
            copy.unlink()


def _check_integrity(connection: sqlite3.Connection) -> None:
    """Raise sqlite3.DatabaseError if the file is damaged. Segments of a large file are not checked."""
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
