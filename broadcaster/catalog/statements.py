"""The journal's SQL."""

from collections.abc import Sequence
from typing import Any

from broadcaster.catalog.load import to_microseconds
from broadcaster.catalog.memory import PlaylistState
from broadcaster.catalog.records import SourceFile

Statement = tuple[str, Sequence[Any]]

INSERT_RUN = "INSERT OR IGNORE INTO runs (number, id, identity) VALUES (?, ?, ?)"
INSERT_SEGMENT = """
INSERT OR IGNORE INTO segments (
    key, variant, run, sequence, uri, name, duration, time, target_duration, independent, noticed,
    path, size, modified_ns, fault, map_name, map_path, map_size, map_modified_ns, state
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')
"""
INSERT_ENTRY = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SAVE_PLAYLIST = "INSERT OR REPLACE INTO playlists VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# What leaves the window has to be deleted later. A map goes with the last segment that needs it. What an
# earlier process listed in a longer playlist stays readable for that one's time. Variant, first number that
# stays, now, availability, retention.
REMOVE_KEYS = """
INSERT OR IGNORE INTO removals (key, availability, removed, size, delete_at)
SELECT key, max(?4, max(availability)), ?3, max(size), ?3 + max(?4, ?5, max(availability))
FROM entries AS gone WHERE variant = ?1 AND number < ?2
AND NOT EXISTS (SELECT 1 FROM entries WHERE key = gone.key AND variant = gone.variant AND number >= ?2)
GROUP BY key
"""
REMOVE_MAPS = """
INSERT OR IGNORE INTO removals (key, availability, removed, delete_at)
SELECT map_key, max(?4, max(availability)), ?3, ?3 + max(?4, ?5, max(availability))
FROM entries AS gone WHERE variant = ?1 AND number < ?2 AND map_key IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM entries WHERE map_key = gone.map_key AND variant = gone.variant AND number >= ?2
)
GROUP BY map_key
"""
LAST_REMOVAL = "SELECT coalesce(max(position), 0) FROM removals"
# Now, the last position of an earlier process, how long this one has been there, and how many at most.
DUE = """
SELECT key FROM removals WHERE delete_at <= ? AND (position > ? OR availability <= ?)
ORDER BY delete_at, position LIMIT ?
"""
REMOVE_ENTRIES = "DELETE FROM entries WHERE variant = ? AND number < ?"
FORGET_SEGMENTS = """
DELETE FROM segments WHERE state = 'published' AND variant = ? AND position <= (
    SELECT position FROM segments WHERE variant = ? ORDER BY position DESC LIMIT 1 OFFSET ?
)
"""
# Objects that are kept for ever are remembered by their sum alone.
KEEP_BYTES = """
INSERT INTO facts SELECT 'kept_bytes', size FROM removals WHERE key = ?
ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + CAST(excluded.value AS INTEGER)
"""
# Kept up in memory: to add up the objects of a week takes longer than a viewer may wait.
COUNT_BYTES = """
PRAGMA temp_store = MEMORY;
CREATE TEMP TABLE sizes (bytes INTEGER);
INSERT INTO sizes
SELECT (SELECT coalesce(sum(size), 0) FROM entries) + (SELECT coalesce(sum(size), 0) FROM removals);
CREATE TEMP TRIGGER listed AFTER INSERT ON main.entries
BEGIN UPDATE sizes SET bytes = bytes + new.size; END;
CREATE TEMP TRIGGER unlisted AFTER DELETE ON main.entries
BEGIN UPDATE sizes SET bytes = bytes - old.size; END;
CREATE TEMP TRIGGER leaving AFTER INSERT ON main.removals
BEGIN UPDATE sizes SET bytes = bytes + new.size; END;
CREATE TEMP TRIGGER gone AFTER DELETE ON main.removals
BEGIN UPDATE sizes SET bytes = bytes - old.size; END;
"""
STORED_BYTES = """
SELECT bytes + coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'kept_bytes'), 0) FROM sizes
"""


def state_statement(state: PlaylistState) -> Statement:
    """What remembers a playlist."""
    values = (
        state.variant,
        state.current,
        state.target_duration,
        state.media_sequence,
        state.next_media_sequence,
        state.discontinuity_sequence,
        state.current_discontinuity,
        state.ended,
        state.peak_bandwidth,
        None if state.end is None else to_microseconds(state.end),
    )
    return SAVE_PLAYLIST, values


def file_columns(file: SourceFile | None) -> tuple[str | None, str | None, int | None, int | None]:
    """A file as name, path, size and time."""
    if file is None:
        return (None, None, None, None)
    path = str(file.path).encode(errors="backslashreplace").decode()  # a path need not be UTF-8
    return (file.name, path, file.size, file.modified_ns)
