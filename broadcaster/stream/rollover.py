"""When playlists have to end and new ones begin, and when the new ones are complete.

Players rely on what must not change: TARGETDURATION (RFC 8216bis 6.2.1) and the set of variants.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta

from broadcaster.catalog.records import Segment
from broadcaster.events import VariantsListed
from broadcaster.hls import rounded_seconds
from broadcaster.stream.playlists import Playlists

# Seconds. After one longer segment more follow: x264 sets key frames up to 250 frames apart, 10 s at 25 a
# second. Room for all of them at once avoids a rollover for each.
ROOM = 10
LONGEST_ROOM = 60  # seconds; a longer segment becomes gaps, as no player could follow such playlists
# A variant is stalled once another variant has brought so many segments, and so many target durations of
# media (2 * ROOM at least), since the stalled variant's newest.
STANDSTILL = 3
PATIENCE_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants
# How long ENDLIST stays before new playlists begin. A player polls once in a target duration (6.3.4), from a
# cache that keeps half of one; the mirror needs time for another write.
SEEN_TARGET_DURATIONS, SEEN_SECONDS = 1.5, 3.0


def is_too_long(segment: Segment, target_duration: int) -> bool:
    """Whether the segment needs a longer TARGETDURATION (4.4.3.1), which must not change (6.2.1)."""
    return not segment.gap and target_duration < rounded_seconds(segment.duration) <= LONGEST_ROOM


def next_target_duration(segment: Segment, target_duration: int, newest_run: int) -> int:
    """The TARGETDURATION that the next playlists need, seconds."""
    if not is_too_long(segment, target_duration):
        return target_duration
    # The first segment of a run shows the length of all (Owncast's latency level), unless lengths vary.
    varies = segment.run.number <= newest_run
    return max(rounded_seconds(segment.duration), ROOM if varies else 0)


def stalled_variants(
    segment: Segment, playlists: Playlists, present: AbstractSet[str], on_the_way: Mapping[str, int]
) -> set[str]:
    """Variants that bring no more segments.

    These are, when a new run begins, variants without a place in the folder; and variants that bring nothing,
    and have nothing on the way, while this segment's variant goes on.
    """
    run, time, current = segment.run.number, segment.program_date_time, playlists.current
    if run > playlists.newest_run and present:
        return current.keys() - present
    since = playlists.run_began
    if playlists.run != run or since is None:
        return set()
    target_duration = current[segment.variant].generator.target_duration
    patience = timedelta(seconds=max(STANDSTILL * target_duration, 2 * ROOM))
    return {
        name
        for name, playlist in current.items()
        if playlist.others[segment.variant] >= STANDSTILL
        and not on_the_way.get(name)
        and time - ((playlist.newest_run == run and playlist.end) or since) > patience
    }


def rollover_reason(segment: Segment, playlists: Playlists, stalled: set[str]) -> str | None:
    """Why the playlists cannot go on with this segment without the stalled variants; None when they can."""
    target_duration = playlists.target_duration or 0
    if is_too_long(segment, target_duration):
        return (
            f"{segment.key} lasts {segment.duration.total_seconds():.3f} s, more than TARGETDURATION,"
            f" {target_duration} s (BROADCASTER_TARGET_DURATION, set above the longest, prevents that)"
        )
    if segment.variant not in playlists.current:
        # The main address is a media playlist for one variant, and a multivariant playlist for two.
        alone = len(playlists.current) == 1
        return f"variant {segment.variant} comes beside an only one" if alone else None
    return f"there is no variant {', '.join(sorted(stalled))} any more" if stalled else None


@dataclass(slots=True)
class StartupBarrier:
    """Holds the first segments of a stream until all of its variants have brought some."""

    held: dict[str, list[Segment]] = field(default_factory=dict)  # by variant, in order
    rest: float = 0  # seconds for which the finished playlists have to stay
    room: int = 0  # seconds, the least TARGETDURATION
    stalled: set[str] = field(default_factory=set)  # variants that bring no more segments
    since: float | None = None  # monotonic

    def hold(self, segment: Segment) -> None:
        """Another segment waits."""
        self.held.setdefault(segment.variant, []).append(segment)

    @property
    def segments(self) -> list[Segment]:
        """All held segments, in the order of their runs, as the timeline needs them."""
        everything = (segment for segments in self.held.values() for segment in segments)
        return sorted(everything, key=lambda segment: segment.run.number)

    def opens(
        self,
        source: VariantsListed,
        known: AbstractSet[str],
        on_the_way: AbstractSet[str],
        now: float | None = None,
    ) -> bool:
        """Whether to go live: all variants have segments, or the wait is over ``now`` (monotonic, seconds).

        ``known`` are the variants of the previous stream, ``on_the_way`` variants with segments to come.
        """
        if now is not None:
            self.since = now if self.since is None else self.since
            self.rest = self.rest if now - self.since < self.rest else 0
        if self.rest or not self.held or not on_the_way <= self.held.keys():
            return False
        # A multivariant playlist may be an older run's, or the idle clip's. It is this run's if it names all
        # held variants, and no other variant has a place in the folder.
        awaited = source.present - self.stalled
        known = known - self.stalled
        if awaited <= self.held.keys() and self.held.keys() in (source.playlist.uris, known):
            return True
        patience = PATIENCE_TARGET_DURATIONS * self._seen_target_duration(None)
        return now is not None and self.since is not None and now - self.since >= patience

    def target_duration(self, configured: int | None) -> int:
        """Seconds; no less than the held segments need, up to LONGEST_ROOM."""
        return max(self.room, self._seen_target_duration(configured))

    def _seen_target_duration(self, configured: int | None) -> int:
        announced = configured or max(segment.target_duration for segment in self.segments)
        longest = max(segment.duration for segment in self.segments)
        return max(announced, min(rounded_seconds(longest), LONGEST_ROOM))
