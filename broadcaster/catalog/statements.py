"""What the book asks of its tables when segments leave a window, are due, or are added up."""

from __future__ import annotations

from broadcaster.catalog.recordings import LEAVE

UNLIST = f"""
UPDATE segments SET step = 'unlisted', {LEAVE}
WHERE step = 'listed' AND variant = :variant AND number < :below
"""  # noqa: S608 - a constant
UNLIST_GAPS = """
DELETE FROM segments WHERE step = 'listed' AND variant = :variant AND number < :below AND key IS NULL
"""
# What an earlier process left, by a clock that may have been another, waits for its availability once more.
DUE = """
SELECT key FROM segments WHERE step = 'unlisted' AND delete_at <= :now
    AND (unlisted >= :opened OR availability <= :here)
ORDER BY delete_at, position LIMIT :most
"""
# A map goes when all the segments that need it are gone.
DUE_MAPS = """
SELECT map_key FROM segments INDEXED BY deleted_maps
WHERE step = 'deleted' AND map_key IS NOT NULL GROUP BY map_key
HAVING max(delete_at) <= :now AND NOT EXISTS (
    SELECT 1 FROM segments AS other WHERE other.map_key = segments.map_key AND other.step <> 'deleted'
) LIMIT :most
"""
FORGET = """
DELETE FROM segments WHERE step = 'deleted' AND variant = :variant AND position <= (
    SELECT position FROM segments WHERE variant = :variant ORDER BY position DESC LIMIT 1 OFFSET :remembered
) AND (map_key IS NULL OR EXISTS (
    SELECT 1 FROM segments AS later
    WHERE later.map_key = segments.map_key AND later.position > segments.position
))
"""
# A recording that has ended knows how much it is.
STORED_BYTES = """
SELECT coalesce((SELECT sum(size) FROM recordings WHERE ended IS NOT NULL), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE part IS NULL AND size > 0 AND step <> 'deleted'), 0) + coalesce((
    SELECT sum(size) FROM segments WHERE size > 0 AND step <> 'deleted' AND part IN (
        SELECT number FROM recordings JOIN parts ON recording = id WHERE ended IS NULL)), 0)
    + coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'kept_bytes'), 0)
"""
