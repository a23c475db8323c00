"""Finds segments that no playlist lists any more, after a time in which no playlist was read.

Owncast keeps more files than it lists, also of an earlier run. Durations are estimated from the times of the
files. All functions raise OSError where files cannot be read.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import LARGEST, FileIdentity
from broadcaster.hls import MediaSegment
from broadcaster.source.encoder_runs import MAX_STEP_TARGET_DURATIONS
from broadcaster.source.file_checks import OutsideError, identity, open_inside
from broadcaster.source.media_clock import media_duration
from broadcaster.source.owncast_names import encoder_id, is_offline_clip, local_name

NUMBERED = re.compile(r"(?P<stem>.*?)(?P<number>\d{1,20})(?P<suffix>\.\w+)")
MOST = 1000  # segments


def interpolate_missing(
    folder: Path, before: MediaSegment, after: MediaSegment, steps: int, target_duration: int
) -> list[MediaSegment] | None:
    """Return the segments between two known segments, ``steps`` apart; None if these are unrelated."""
    if steps > MOST or before.program_date_time is None or after.program_date_time is None:
        return None
    step = (after.program_date_time - before.program_date_time) / steps
    if not timedelta() < step <= timedelta(seconds=MAX_STEP_TARGET_DURATIONS * target_duration):
        return None
    missed = []
    for number in range(1, steps):
        uri = sibling(after.uri, number - steps)
        segment = MediaSegment(uri or after.uri, step, map_uri=after.map_uri)
        time = before.program_date_time + number * step
        gap = uri is None or modified_ns(folder, uri) is None
        missed.append(replace(segment, program_date_time=time, gap=gap))
    return missed


def trailing_unlisted(folder: Path, last: MediaSegment, duration: timedelta) -> list[MediaSegment]:
    """Return the segments of an earlier run after the last known segment, as far as there are files."""
    found: list[MediaSegment] = []
    for uri in _files_beside(folder, last.uri, 1):
        time = last.program_date_time and last.program_date_time + (len(found) + 1) * duration
        found.append(MediaSegment(uri, duration, program_date_time=time, map_uri=last.map_uri))
    return found


def leading_unlisted(
    folder: Path, first: MediaSegment, wanted: Callable[[datetime | None, datetime], bool] = lambda *_: True
) -> list[MediaSegment]:
    """Return the segments before a run's first listed segment, as far as there are ``wanted`` files."""
    found = [first]
    for uri in _files_beside(folder, first.uri, -1):
        duration = _duration(folder, uri) or first.duration
        time = found[-1].program_date_time and found[-1].program_date_time - duration
        if not wanted(time, datetime.fromtimestamp((modified_ns(folder, uri) or 0) / 1e9, UTC)):
            break
        found.append(MediaSegment(uri, duration, program_date_time=time, map_uri=first.map_uri))
    return found[:0:-1]


def _files_beside(folder: Path, uri: str, direction: int) -> Iterator[str]:
    """The names with the next higher or lower numbers, as far as there are files."""
    for steps in range(1, MOST + 1):
        name = sibling(uri, direction * steps)
        if name is None or modified_ns(folder, name) is None:
            break
        yield name


def unseen_runs(folder: Path, known: MediaSegment, listed: MediaSegment) -> dict[str, dict[int, str]]:
    """Return the names of files finished between the two segments, by encoder and number, in order."""
    began = known.program_date_time.timestamp() * 1e9 if known.program_date_time else 0
    first, last = modified_ns(folder, known.uri) or began, modified_ns(folder, listed.uri) or 0
    names = [entry.name for entry in os.scandir(folder)]
    found = sorted((modified_ns(folder, name) or 0, name) for name in names if encoder_id(name))
    runs: dict[str, dict[int, str]] = {}
    for modified, name in found:
        match = NUMBERED.fullmatch(name)
        if match and first < modified <= last and not is_offline_clip(MediaSegment(name, timedelta())):
            runs.setdefault(encoder_id(name), {})[int(match["number"])] = name
    return {encoder: dict(sorted(numbers.items())) for encoder, numbers in runs.items()}


def modified_ns(folder: Path, uri: str) -> int | None:
    """Return when the file of a URI was last changed, None without a file."""
    file = file_identity(folder, uri)
    return file.modified_ns if file else None


def file_identity(folder: Path, uri: str) -> FileIdentity | None:
    """Return the identity of the file of a URI, None without a file."""
    name = local_name(uri)
    return identity(folder, folder / name) if name else None


def _duration(folder: Path, uri: str) -> timedelta | None:
    try:
        with os.fdopen(open_inside(folder, folder / (local_name(uri) or "")), "rb") as file:
            return media_duration(file.read(LARGEST))
    except (OSError, OutsideError):
        return None


def sibling(name: str, steps: int) -> str | None:
    """Return the name whose last number is ``steps`` higher."""
    match = NUMBERED.fullmatch(name)
    if match is None or int(match["number"]) + steps < 0:
        return None
    width = len(match["number"]) if match["number"].startswith("0") else 0
    return f"{match['stem']}{int(match['number']) + steps:0{width}}{match['suffix']}"
