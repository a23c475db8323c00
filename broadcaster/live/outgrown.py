"""Why playlists cannot go on, as what players were told must not change; and what the next ones need."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

from broadcaster.catalog.records import Segment
from broadcaster.hls import rounded_seconds
from broadcaster.live.playlists import Playlists

# Seconds. Where one segment is longer than those before, more will be: x264 sets key frames up to 250 frames
# apart, which is 10 s at 25 a second. So there is room for them at once, and not a new end for each.
ROOM = 10
LONGEST_ROOM = 60  # seconds; a longer segment becomes gaps, as no player could follow such playlists
# What another variant has brought since the newest of one that brings nothing more: so many segments, and so
# many target durations, but not less than two of the longest that vary in a source that is passed through.
STANDSTILL = 3


def is_too_long(segment: Segment, target_duration: int) -> bool:
    """Whether the segment needs a longer TARGETDURATION (§4.4.3.1), which must not change (§6.2.1)."""
    return not segment.gap and target_duration < rounded_seconds(segment.duration) <= LONGEST_ROOM


def room_for(segment: Segment, target_duration: int, newest_run: int) -> int:
    """The TARGETDURATION that the next playlists need, seconds.

    The first segment of a run shows its length (Owncast's latency level); one that is longer than those
    before it in its run shows that they vary.
    """
    if not is_too_long(segment, target_duration):
        return target_duration
    varies = segment.run.number <= newest_run
    return max(rounded_seconds(segment.duration), ROOM if varies else 0)


def gone(
    segment: Segment, playlists: Playlists, present: frozenset[str], expected: Mapping[str, int]
) -> set[str]:
    """Variants that bring nothing more, and would stand still in front of their viewers.

    Those without a place in the folder when a new run begins; and those that bring nothing, and have nothing
    on its way, while this one goes on.
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
        and expected.get(name, 0) <= 0
        and time - ((playlist.newest_run == run and playlist.end) or since) > patience
    }


def why_outgrown(segment: Segment, playlists: Playlists, dropped: set[str]) -> str | None:
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
    return f"there is no variant {', '.join(sorted(dropped))} any more" if dropped else None
