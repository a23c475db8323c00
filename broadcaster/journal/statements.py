"""The journal's SQL."""

from collections.abc import Sequence
from typing import Any

Statement = tuple[str, Sequence[Any]]

INSERT_RUN = "INSERT OR IGNORE INTO runs (number, id, identity) VALUES (?, ?, ?)"
INSERT_SEGMENT = """
INSERT OR IGNORE INTO segments (
    key, variant, run, sequence, uri, name, duration, time, target_duration, independent, noticed,
    path, size, modified_ns, fault, map_name, map_path, map_size, map_modified_ns, state
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 'pending')
"""
INSERT_ENTRY = "INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
SAVE_PLAYLIST = "INSERT OR REPLACE INTO playlists VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
# What leaves the window has to be deleted later. A map goes with the last segment that needs it.
REMOVE_KEYS = """
INSERT OR IGNORE INTO removals (key, availability, removed, size)
SELECT key, ?, ?, max(size) FROM entries AS gone WHERE variant = ? AND number < ?
AND NOT EXISTS (SELECT 1 FROM entries WHERE key = gone.key AND variant = gone.variant AND number >= ?)
GROUP BY key
"""
REMOVE_MAPS = """
INSERT OR IGNORE INTO removals (key, availability, removed)
SELECT DISTINCT map_key, ?, ? FROM entries AS gone WHERE variant = ? AND number < ? AND map_key IS NOT NULL
AND NOT EXISTS (
    SELECT 1 FROM entries WHERE map_key = gone.map_key AND variant = gone.variant AND number >= ?
)
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
