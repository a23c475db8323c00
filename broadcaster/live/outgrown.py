"""Why playlists cannot go on, as what players were told must not change; and what the next ones need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from broadcaster.catalog.memory import Publication
from broadcaster.hls import rounded_seconds
from broadcaster.live.variant_playlist import VariantPlaylist

# Seconds. Where one segment is longer than those before, more will be: x264 sets key frames up to 250 frames
# apart, which is 10 s at 25 a second. So there is room for them at once, and not a new end for each.
ROOM = 10
LONGEST_ROOM = 60  # seconds; a longer segment becomes gaps, as no player could follow such playlists
# What another variant has brought since the newest of one that brings nothing more: so many segments, and so
# many target durations, but not less than two of the longest that vary in a source that is passed through.
STANDSTILL = 3


@dataclass(slots=True)
class RunBegin:
    """When the newest run began, by the encoder's clock."""

    run: int = -1
    time: datetime | None = None

    def note(self, publication: Publication) -> None:
        """A segment is listed."""
        time = publication.segment.program_date_time
        if time and publication.run.number != self.run:
            self.run, self.time = publication.run.number, time


def is_too_long(publication: Publication, target_duration: int) -> bool:
    """Whether the segment needs a longer TARGETDURATION (§4.4.3.1), which must not change (§6.2.1)."""
    duration = rounded_seconds(publication.segment.duration)
    return not publication.segment.gap and target_duration < duration <= LONGEST_ROOM


def room_for(publication: Publication, target_duration: int, newest_run: int) -> int:
    """The TARGETDURATION that the next playlists need, seconds.

    The first segment of a run shows its length (Owncast's latency level); one that is longer than those
    before it in its run shows that they vary.
    """
    if not is_too_long(publication, target_duration):
        return target_duration
    varies = publication.run.number <= newest_run
    return max(rounded_seconds(publication.segment.duration), ROOM if varies else 0)


def gone(
    publication: Publication,
    variants: Mapping[str, VariantPlaylist],
    present: frozenset[str],
    expected: Mapping[str, int],
    began: RunBegin,
) -> set[str]:
    """Variants that bring nothing more, and would stand still in front of their viewers.

    Those without a place in the folder when a new run begins; and those that bring nothing, and have nothing
    on its way, while this one goes on.
    """
    run, time = publication.run.number, publication.segment.program_date_time
    if run > max(served.newest_run for served in variants.values()) and present:
        return variants.keys() - present
    if began.run != run or began.time is None or time is None:
        return set()
    target_duration = variants[publication.variant].generator.target_duration
    patience, since = timedelta(seconds=max(STANDSTILL * target_duration, 2 * ROOM)), began.time
    return {
        name
        for name, served in variants.items()
        if served.others[publication.variant] >= STANDSTILL
        and expected.get(name, 0) <= 0
        and time - ((served.newest_run == run and served.end) or since) > patience
    }
