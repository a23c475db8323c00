"""The journal's first schema, as it once was made: older state folders have it, and go on."""

from pathlib import Path

from broadcaster.catalog.schema import MIGRATIONS, open_database

FIRST_SCHEMA = """
CREATE TABLE runs (
    number INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    identity TEXT NOT NULL UNIQUE,
    shift INTEGER
) STRICT;
CREATE TABLE segments (
    position INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,
    variant TEXT NOT NULL,
    run INTEGER NOT NULL REFERENCES runs (number),
    sequence INTEGER NOT NULL,
    uri TEXT NOT NULL,
    name TEXT NOT NULL,
    duration INTEGER NOT NULL,
    time INTEGER NOT NULL,
    target_duration INTEGER NOT NULL,
    independent INTEGER NOT NULL,
    noticed INTEGER NOT NULL,
    path TEXT,
    size INTEGER,
    modified_ns INTEGER,
    fault TEXT,
    map_name TEXT,
    map_path TEXT,
    map_size INTEGER,
    map_modified_ns INTEGER,
    state TEXT NOT NULL CHECK (state IN ('pending', 'published'))
) STRICT;
CREATE INDEX pending_segments ON segments (position) WHERE state = 'pending';
CREATE INDEX segments_of_variant ON segments (variant, position);
CREATE TABLE playlists (
    variant TEXT PRIMARY KEY,
    current INTEGER NOT NULL,
    target_duration INTEGER NOT NULL,
    media_sequence INTEGER NOT NULL,
    next_media_sequence INTEGER NOT NULL,
    discontinuity_sequence INTEGER NOT NULL,
    current_discontinuity INTEGER NOT NULL,
    ended INTEGER NOT NULL
) STRICT;
CREATE TABLE entries (
    variant TEXT NOT NULL,
    number INTEGER NOT NULL,
    key TEXT NOT NULL,
    map_key TEXT,
    uri TEXT NOT NULL,
    duration INTEGER NOT NULL,
    time INTEGER,
    discontinuity INTEGER NOT NULL,
    map_uri TEXT,
    gap INTEGER NOT NULL,
    independent INTEGER NOT NULL,
    PRIMARY KEY (variant, number)
) STRICT;
CREATE TABLE removals (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    availability INTEGER NOT NULL,
    removed INTEGER NOT NULL
) STRICT;
CREATE TABLE facts (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT;
"""


def old_journal(path: Path, version: int) -> None:
    """Make an empty journal of that version."""
    open_database(path, FIRST_SCHEMA, ()).close()
    open_database(path, FIRST_SCHEMA, MIGRATIONS[: version - 1]).close()
