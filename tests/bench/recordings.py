"""A catalog of 1,000 recordings, of two hours and three variants each: what it takes to start with it.

The rows are made by SQL, as the service would have left them; the bucket has no part in it.
"""

import asyncio
import sqlite3
import tempfile
import time
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from broadcaster.catalog import Catalog
from broadcaster.catalog.rows import to_microseconds
from tests.bench.report import Figure, progress

RECORDINGS = 1000
SEGMENTS = 1800  # of each variant: two hours of four seconds
START = datetime(2024, 1, 1, tzinfo=UTC)
RECORDING = """
INSERT INTO recordings (
    id, title, titled, visibility, secret, started, ended, duration, size, revision, written
) VALUES (
    :id, 'Our evening', 1, 'listed', 'secret', :started, :started + 7200000000, 7200000000, 3240000000, 1, 1
)
"""
FILL = """
WITH RECURSIVE times (place) AS (SELECT 0 UNION ALL SELECT place + 1 FROM times WHERE place < :segments - 1),
    variants (variant) AS (VALUES ('0'), ('1'), ('2')),
    names AS (SELECT *, 'stream-XYZABCDEF-' || place || '.ts' AS name FROM times, variants)
INSERT INTO segments (
    step, key, variant, run, sequence, uri, name, duration, program_date_time, target_duration, noticed, path,
    file_size, modified_ns, url, size, sha256, uploaded, number, discontinuity, time, unlisted, part
)
SELECT 'unlisted', 'live/' || :id || '/' || variant || '/' || name, variant, :number, place, name, name,
    4000000, :started + place * 4000000, 4, :started, '/data/hls/' || variant || '/' || name, 600000, 1,
    'https://media.example.com/live/' || :id || '/' || variant || '/' || name, 600000,
    hex(randomblob(32)), :started, place, 0, :started + place * 4000000, :started, :number
FROM names ORDER BY place, variant
"""


def measure() -> list[Figure]:
    """Fill a catalog, and open it as a start does."""
    with tempfile.TemporaryDirectory() as folder:
        _fill(Path(folder))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
        return [
            Figure("size of the catalog with 1,000 recordings", size / 2**30, "GiB"),
            *asyncio.run(_start(Path(folder))),
        ]


def _fill(folder: Path) -> None:
    Catalog(folder, lambda: START, recordings=None).close()
    with closing(sqlite3.connect(folder / "journal.db")) as database:
        database.execute("PRAGMA synchronous = OFF")
        for number in range(1, RECORDINGS + 1):
            if number % 100 == 0:
                progress(f"recordings: {number} of {RECORDINGS} are there")
            started = START + number * timedelta(hours=12)
            values = {
                "id": f"{started:%Y-%m-%d-%H%M}-{number:04}",
                "number": number,
                "started": to_microseconds(started),
                "segments": SEGMENTS,
            }
            database.execute(
                "INSERT INTO runs (number, id, identity) VALUES (:number, 'run' || :number, :number)", values
            )
            database.execute(RECORDING, values)
            database.execute(
                "INSERT INTO parts VALUES (:number, :id, '[]', '[]')",
                {"number": number, "id": values["id"]},
            )
            database.execute(FILL, values)
            database.commit()


async def _start(folder: Path) -> list[Figure]:
    process = psutil.Process()
    before, began = process.memory_info().rss, time.perf_counter()
    catalog = Catalog(folder, lambda: datetime.now(UTC), recordings=None)
    catalog.load()
    opened = time.perf_counter() - began
    async with catalog.writer:
        began = time.perf_counter()
        assert len(await catalog.recordings.all()) == RECORDINGS
        listed = time.perf_counter() - began
        began = time.perf_counter()
        assert await catalog.due(RECORDINGS) == []
        swept = time.perf_counter() - began
    memory = process.memory_info().rss - before
    assert catalog.stored_bytes == RECORDINGS * 3_240_000_000
    catalog.close()
    return [
        Figure("start with 1,000 recordings", opened, "s", at_most=2),
        Figure("memory for 1,000 recordings", memory / 2**20, "MiB", at_most=30),
        Figure("list of 1,000 recordings", 1000 * listed, "ms", at_most=100),
        Figure("a sweep with 1,000 recordings kept", 1000 * swept, "ms", at_most=100),
    ]
