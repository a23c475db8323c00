"""When playlists have to end and new ones begin, what the new ones need, and when they are complete.

Players were told what must not change: TARGETDURATION (RFC 8216bis 6.2.1), and which variants there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import timedelta

from broadcaster.catalog.records import Segment
from broadcaster.hls import rounded_seconds
from broadcaster.source.reports import VariantsListed
from broadcaster.stream.playlists import Playlists

# Seconds. Where one segment is longer than those before, more will be: x264 sets key frames up to 250 frames
# apart, which is 10 s at 25 a second. So there is room for them at once, and not a new end for each.
ROOM = 10
LONGEST_ROOM = 60  # seconds; a longer segment becomes gaps, as no player could follow such playlists
# A variant is stalled once another variant has brought so many segments since the stalled one's newest, and
# so many target durations, but not less than two of the longest that vary in a source that is passed through.
STANDSTILL = 3
PATIENCE_TARGET_DURATIONS = 2  # how long to wait for a multivariant playlist that names all variants
# How long ENDLIST is there before new playlists. A player polls once in a target duration (6.3.4), from a
# cache that keeps half of one; and the mirror needs time for a write after the one before it.
SEEN_TARGET_DURATIONS, SEEN_SECONDS = 1.5, 3.0


def is_too_long(segment: Segment, target_duration: int) -> bool:
    """Whether the segment needs a longer TARGETDURATION (4.4.3.1), which must not change (6.2.1)."""
    return not segment.gap and target_duration < rounded_seconds(segment.duration) <= LONGEST_ROOM


def next_target_duration(segment: Segment, target_duration: int, newest_run: int) -> int:
    """The TARGETDURATION that the next playlists need, seconds.

    The first segment of a run shows its length (Owncast's latency level); a segment that is longer than those
    before it in its run shows that lengths vary.
    """
    if not is_too_long(segment, target_duration):
        return target_duration
    varies = segment.run.number <= newest_run
    return max(rounded_seconds(segment.duration), ROOM if varies else 0)


def stalled_variants(
    segment: Segment, playlists: Playlists, present: AbstractSet[str], on_the_way: Mapping[str, int]
) -> set[str]:
    """Variants that bring nothing more, and would stand still in front of their viewers.

    These are variants without a place in the folder when a new run begins; and variants that bring nothing,
    and have nothing on the way, while this one goes on.
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
    """Why the playlists cannot go on with this segment, without those variants; None when they can."""
    target_duration = playlists.target_duration or 0
    if is_too_long(segment, target_duration):
        return (
            f"{segment.key} lasts {segment.duration.total_seconds():.3f} s, more than TARGETDURATION,"
            f" {target_duration} s (BROADCASTER_TARGET_DURATION, set above the longest, prevents that)"
        )
    if segment.variant not in playlists.current:
        # The main address is the media playlist of an only variant; with two it would be another kind.
        alone = len(playlists.current) == 1
        return f"variant {segment.variant} comes beside an only one" if alone else None
    return f"there is no variant {', '.join(sorted(stalled))} any more" if stalled else None


@dataclass(slots=True)
class StartupBarrier:
    """Holds the first segments of a stream until all of its variants have brought some."""

    held: dict[str, list[Segment]] = field(default_factory=dict)  # by variant, in order
    rest: float = 0  # seconds for which the finished playlists have to be there before
    room: int = 0  # seconds that TARGETDURATION has to leave for segments
    stalled: set[str] = field(default_factory=set)  # variants that bring nothing any more
    since: float | None = None  # monotonic

    def hold(self, segment: Segment) -> None:
        """Another segment waits."""
        self.held.setdefault(segment.variant, []).append(segment)

    @property
    def segments(self) -> list[Segment]:
        """All that wait; the segments of a run before those of the next, as a timeline wants them."""
        everything = (segment for segments in self.held.values() for segment in segments)
        return sorted(everything, key=lambda segment: segment.run.number)

    def opens(
        self,
        source: VariantsListed,
        known: AbstractSet[str],
        on_the_way: AbstractSet[str],
        now: float | None = None,
    ) -> bool:
        """Whether to go live: all variants are there, or it has taken too long by now (monotonic, seconds).

        ``known`` are the variants of the stream before, ``on_the_way`` those whose segments will have their
        turn.
        """
        if now is not None:
            self.since = now if self.since is None else self.since
            self.rest = self.rest if now - self.since < self.rest else 0
        if self.rest or not self.held or not on_the_way <= self.held.keys():
            return False
        # A multivariant playlist may be an older run's, or the idle clip's, and files tell nothing by their
        # times. It is this run's when it names all that has come, and nothing else has a place in the folder.
        awaited = source.present - self.stalled
        known = known - self.stalled
        complete = awaited <= self.held.keys() and self.held.keys() in (source.playlist.uris, known)
        return complete or (now is not None and self._has_waited(now))

    def _has_waited(self, now: float) -> bool:
        patience = PATIENCE_TARGET_DURATIONS * self._seen_target_duration(None)
        return self.since is not None and now - self.since >= patience

    def target_duration(self, configured: int | None) -> int:
        """Seconds; never below what has been seen, unless no player could follow that."""
        return max(self.room, self._seen_target_duration(configured))

    def _seen_target_duration(self, configured: int | None) -> int:
        # The encoder rounds up what it announces: that is the room to spare.
        announced = configured or max(one.target_duration for one in self.segments)
        longest = max(one.duration for one in self.segments)
        return max(announced, min(rounded_seconds(longest), LONGEST_ROOM))
