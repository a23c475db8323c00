"""What a power cut left in the spool, and took out of the catalog."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Run
from broadcaster.upload.spool import recover_spool_orphans
from tests.support.fakes.hls_writer import PACKET
from tests.support.fakes.pipeline_parts import START, segment_of

KNOWN = Run(3, "20260101T120000Z-3-k3f9", "abc#0")
FOLDER = "live/20260101T120000Z-3-k3f9/0"
NEXT = "live/20260101T130000Z-4-x7q2/0"


def adopt(folder: Path, *keys: str) -> list[tuple[str, int, float]]:
    """The names, numbers in the source, and times after the known segment that these are adopted with."""
    for key in keys:
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        (folder / key).write_bytes(PACKET)
    catalog = Catalog(folder / "state", lambda: START)
    known = replace(segment_of(None, number=7), run=KNOWN, uri="stream-abc-107.ts", name="stream-abc-107.ts")
    catalog.noticed(replace(known, key=f"{FOLDER}/stream-abc-107.ts"))
    found = list(recover_spool_orphans(keys, folder, "live", catalog.load().source))
    catalog.close()
    assert all(item.file and item.file.path.is_relative_to(folder) for item in found)
    return [
        (item.name, item.sequence, (item.program_date_time - known.program_date_time) / timedelta(seconds=1))
        for item in found
    ]


def test_segments_after_the_known_ones(tmp_path: Path) -> None:
    """They go on where the catalog ends, in the order of their numbers, not of their names."""
    keys = (f"{FOLDER}/stream-abc-110.ts", f"{FOLDER}/stream-abc-108.ts", f"{FOLDER}/stream-abc-109.ts")
    assert adopt(tmp_path, *keys) == [
        ("stream-abc-108.ts", 8, 2),
        ("stream-abc-109.ts", 9, 4),
        ("stream-abc-110.ts", 10, 6),
    ]


def test_a_run_that_is_not_known(tmp_path: Path) -> None:
    """The paths alone show a new run of an encoder with an id, after what is left of the last run."""
    keys = (f"{NEXT}/stream-xyz-0.ts", f"{NEXT}/stream-xyz-1.ts", f"{FOLDER}/stream-abc-108.ts")
    found = adopt(tmp_path, *keys)
    assert [(name, sequence) for name, sequence, _ in found] == [
        ("stream-abc-108.ts", 8),
        ("stream-xyz-0.ts", 0),
        ("stream-xyz-1.ts", 1),
    ]


@pytest.mark.parametrize(("number", "sequence", "seconds"), [(106, 6, -2), (107, 7, 0), (109, 9, 4)])
def test_a_variant_that_is_not_known(tmp_path: Path, number: int, sequence: int, seconds: int) -> None:
    """Another one of the same run tells its number and its time, which the file alone cannot."""
    key = f"live/20260101T120000Z-3-k3f9/1/stream-abc-{number}.ts"
    assert adopt(tmp_path, key) == [(f"stream-abc-{number}.ts", sequence, seconds)]


@pytest.mark.parametrize(
    "key",
    [
        f"{FOLDER}/stream-abc-106.ts",
        f"{FOLDER}/init.mp4",
        f"{FOLDER}/stream-abc-108.m4s",
        f"{NEXT}/7-seg.ts",
        "live/20260101T110000Z-2-aaaa/0/stream-old-1.ts",
        "elsewhere/0/a.ts",
    ],
)
def test_files_that_cannot_be_identified(tmp_path: Path, key: str) -> None:
    """What lies before the known ones, has no number or needs a map, or is of a run without a name."""
    assert adopt(tmp_path, key) == []
