"""What the book asks of its tables: of recordings, of what leaves a window, and of what is due."""

from __future__ import annotations

MOST = 1000  # segments that are read at once: who writes waits meanwhile
# Times that were read back from a playlist are cut to milliseconds: a neighbour is not in it for that.
IN_A_CLIP = """EXISTS (
    SELECT 1 FROM clips WHERE segments.time + 1000 < clips."end"
        AND segments.time + segments.duration - 1000 > clips."begin"
)"""
DELETE_AT = ":now + max(:availability, availability, :retention)"
SHARED = "EXISTS (SELECT 1 FROM segments AS other WHERE other.shared_key = segments.key)"
# What leaves its last view is to be deleted later. What an earlier process listed in a longer playlist stays
# readable for that one's time.
LEAVE = f"""
unlisted = :now, availability = max(availability, :availability),
    delete_at = iif(part IS NOT NULL OR {IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
"""
OF_RECORDING = "part IN (SELECT number FROM parts WHERE recording = :id)"
# A part lasts as long as its longest variant.
MEASURE = f"""
UPDATE recordings SET revision = revision + 1,
    size = (SELECT coalesce(sum(size), 0) FROM segments WHERE {OF_RECORDING}),
    duration = (
        SELECT coalesce(sum(longest), 0) FROM (
            SELECT max(total) AS longest FROM (
                SELECT part, sum(duration) AS total FROM segments WHERE {OF_RECORDING} GROUP BY part, variant
            ) GROUP BY part
        )
    )
WHERE id = :id
"""  # noqa: S608 - a constant
END = f"""
UPDATE recordings SET ended = (
    SELECT coalesce(max(time + duration), started) FROM segments WHERE {OF_RECORDING}
) WHERE id = :id
"""  # noqa: S608 - a constant
TITLE = "UPDATE recordings SET title = :title WHERE id = :id AND :title <> '' AND NOT titled"
KEEP = "UPDATE recordings SET keep_until = :now + :keep WHERE id = :id"  # by our clock, not the encoder's
# With what each has as one file, and the prefixes there have been, the newest last.
RECORDINGS = """
SELECT * FROM (SELECT recordings.*, files.key AS file_key, files.size AS file_size, files.type AS file_type,
    files.part_size AS file_part_size, files.etag AS file_etag,
    (SELECT value FROM facts WHERE name = 'prefixes') AS prefixes
FROM recordings LEFT JOIN files ON files.recording = recordings.id AND files.step = 'stored')
"""
# Times that are over are doubted for a while after a start: see ``Expiry``. What is deleted waits for a day,
# or not at all.
BIN_OVER = "(deleted = 0 OR deleted + :day <= :now AND deleted + :day > :doubted)"
KEEP_OVER = "(deleted IS NULL AND keep_until <= :now AND keep_until > :doubted)"
EXPIRED = f"{RECORDINGS} WHERE ended IS NOT NULL AND ({BIN_OVER} OR {KEEP_OVER})"
# Who takes it out of the bin has at least a day to decide for how long it is kept.
RESTORE = "deleted = NULL, keep_until = max(keep_until, :now + :day) WHERE id = :id AND deleted > 0"
# What was changed meanwhile, to be kept perhaps, is not removed.
UNCHANGED = "SELECT id FROM recordings WHERE id = :id AND revision = :revision"
OF_UNCHANGED = f"part IN (SELECT number FROM parts WHERE recording IN ({UNCHANGED}))"  # noqa: S608 - a constant
RELEASE = (
    f"""
    UPDATE segments SET part = NULL, unlisted = :now, availability = max(availability, :availability),
        delete_at = iif({IN_A_CLIP} OR {SHARED}, NULL, {DELETE_AT})
    WHERE {OF_UNCHANGED} AND key IS NOT NULL AND step = 'unlisted'
    """,  # noqa: S608 - a constant
    # What it shares with another recording goes when no other one has it any more.
    f"""
    UPDATE segments SET unlisted = :now, availability = max(availability, :availability),
        delete_at = {DELETE_AT}
    WHERE step = 'unlisted' AND part IS NULL AND delete_at IS NULL AND NOT {IN_A_CLIP}
        AND key IN (SELECT shared_key FROM segments WHERE {OF_UNCHANGED})
        AND NOT EXISTS (
            SELECT 1 FROM segments AS other WHERE other.shared_key = segments.key AND NOT other.{OF_UNCHANGED}
        )
    """,  # noqa: S608 - a constant
    f"DELETE FROM segments WHERE {OF_UNCHANGED} AND shared_key IS NOT NULL",  # noqa: S608 - a constant
    f"UPDATE segments SET part = NULL WHERE {OF_UNCHANGED}",  # noqa: S608 - what the window still lists
    f"DELETE FROM parts WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    f"UPDATE files SET step = 'removed', deleted = NULL WHERE recording IN ({UNCHANGED})",  # noqa: S608 - a constant
    # One that is kept after all gets its playlists again, and its pictures: the bucket has none of it.
    "UPDATE recordings SET poster = 0, thumbnails = 0, pictured = 0 WHERE id = :id AND revision <> :revision",
    "DELETE FROM recordings WHERE id = :id AND revision = :revision",
)
SEGMENT = """
position, variant, ifnull(key, shared_key) AS key, map_key, duration, time, target_duration, discontinuity,
independent, fault, size, iframe_offset, iframe_length
"""
SEGMENTS = f"""
SELECT {SEGMENT} FROM segments WHERE part = :part AND variant = :variant AND position > :after
ORDER BY position LIMIT {MOST}
"""  # noqa: S608 - a constant
WANTED = """
SELECT EXISTS (SELECT 1 FROM segments WHERE key = :key AND step <> 'deleted')
    OR EXISTS (SELECT 1 FROM segments WHERE map_key = :key)
    OR EXISTS (SELECT 1 FROM segments WHERE shared_key = :key)
    OR EXISTS (SELECT 1 FROM files WHERE key = :key)
"""

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
    + coalesce((SELECT sum(size) FROM files WHERE step = 'stored' OR deleted IS NOT NULL), 0)
    + coalesce((SELECT CAST(value AS INTEGER) FROM facts WHERE name = 'kept_bytes'), 0)
"""
