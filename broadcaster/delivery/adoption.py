"""What the spool has and the catalog does not know: it was finished in the seconds before a power cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from broadcaster.catalog.records import Run, Segment, SourceFile, SourceMemory
from broadcaster.ingest.names import encoder_id
from broadcaster.ingest.transport_stream import media_duration

# A run's id has its number in it, a segment's name ends with its own. What a fragment of MP4 begins with is
# known by its playlist alone.
KEY = re.compile(
    r"(?P<run>\d{8}T\d{6}Z-(?P<count>\d+)\b[^/]*)/(?P<variant>[^/]+)/(?P<name>.*?(?P<number>\d+)\.ts)"
)
LAST_NUMBER = re.compile(r".*?(\d+)\.\w+")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a variant stands: its newest segment, and the number in its name.

    A run has one numbering and one clock for all its variants (RFC 8216, 6.2.4).
    """

    run: Run
    sequence: int
    number: int
    time: datetime
    target_duration: int
    independent: bool


def adopted(keys: Iterable[str], folder: Path, prefix: str, memory: SourceMemory) -> Iterator[Segment]:
    """The segments that these files below ``folder`` are, in order: their paths say what they are.

    Those that are not after all that is known of their variant cannot be told.
    """
    found = [(match, key) for key in keys if (match := KEY.fullmatch(key.removeprefix(f"{prefix}/")))]
    places = {variant: place for variant in memory.positions if (place := _place(variant, memory))}
    for match, key in sorted(found, key=lambda one: (int(one[0]["count"]), int(one[0]["number"]))):
        variant, place = match["variant"], places.get(match["variant"])
        if place is None or place.run.id != match["run"]:
            if place and int(match["count"]) <= place.run.number:
                continue
            # Another variant may have met the run before.
            place = next((one for one in places.values() if one.run.id == match["run"]), place)
        elif int(match["number"]) <= place.number:
            continue
        segment = _segment(match, folder / key, place)
        if segment:
            places[variant] = _Place(
                segment.run,
                segment.sequence,
                int(match["number"]),
                segment.program_date_time,
                segment.target_duration,
                segment.independent,
            )
            yield segment


def _place(variant: str, memory: SourceMemory) -> _Place | None:
    position = memory.positions[variant]
    sequence = max(position.known)
    uri, time = position.known[sequence]
    match = LAST_NUMBER.fullmatch(uri)
    if match is None:
        return None
    number = int(match[1])
    return _Place(position.run, sequence, number, time, position.target_duration, position.independent)


def _segment(match: re.Match[str], kept: Path, place: _Place | None) -> Segment | None:
    number, name, status = int(match["number"]), match["name"], kept.stat()
    modified = datetime.fromtimestamp(status.st_mtime, UTC)
    duration = media_duration(kept) or timedelta(seconds=place.target_duration if place else 1)
    if place and place.run.id == match["run"]:
        steps = number - place.number
        run, sequence, time = place.run, place.sequence + steps, place.time + steps * duration
        if not run.has_encoder_id:
            name = name.partition("-")[2]
    else:
        encoder = encoder_id(name)
        if not encoder:
            return None
        run = Run(int(match["count"]), match["run"], f"{encoder}#0")
        sequence, time = number, modified - duration
    return Segment(
        variant=match["variant"],
        run=run,
        sequence=sequence,
        uri=name,
        name=name,
        duration=duration,
        program_date_time=time,
        target_duration=place.target_duration if place else max(1, round(duration.total_seconds())),
        independent=place.independent if place else True,
        noticed=modified,
        file=SourceFile(name, kept, status.st_size, status.st_mtime_ns),
    )
