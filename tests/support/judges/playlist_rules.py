"""The rules of a live playlist (draft-pantos-hls-rfc8216bis), as a judge of what players were served."""

from dataclasses import replace
from datetime import timedelta

from broadcaster.hls import MediaPlaylist, MediaSegment, rounded_seconds


def violations(previous: MediaPlaylist | None, current: MediaPlaylist) -> list[str]:
    """What is wrong with a version by itself, and as the successor of an earlier one."""
    found = list(_alone(current))
    if previous is not None and previous != current:
        found += _after_end(previous, current) if previous.ended else _between(previous, current)
    return found


def last_number(playlist: MediaPlaylist) -> int:
    return playlist.media_sequence + len(playlist.segments) - 1


def _alone(playlist: MediaPlaylist) -> list[str]:
    found = []
    if playlist.media_sequence < 1:
        found.append("numbering begins below 1")
    time = None
    for number, segment in enumerate(playlist.segments, playlist.media_sequence):
        if rounded_seconds(segment.duration) > playlist.target_duration:
            found.append(f"{number}: EXTINF {segment.duration} above TARGETDURATION (4.4.3.1)")
        if segment.program_date_time is None:
            found.append(f"{number}: no PROGRAM-DATE-TIME (AS 8.4)")
            continue
        if time and segment.program_date_time < time - timedelta(milliseconds=100):
            found.append(f"{number}: PROGRAM-DATE-TIME goes back")
        time = segment.program_date_time
    return found


def _between(previous: MediaPlaylist, current: MediaPlaylist) -> list[str]:
    found = []
    if current.target_duration != previous.target_duration:
        found.append("TARGETDURATION changed (6.2.1)")
    removed = current.media_sequence - previous.media_sequence
    if removed < 0:
        found.append(f"MEDIA-SEQUENCE fell from {previous.media_sequence} to {current.media_sequence}")
        return found
    if last_number(current) < last_number(previous):
        found.append("segments were taken from the end")
    if removed and sum((s.duration for s in current.segments), timedelta()) < timedelta(
        seconds=3 * current.target_duration
    ):
        found.append("shorter than 3 target durations (6.2.2)")
    kept = previous.segments[removed:]
    for number, (before, now) in enumerate(zip(kept, current.segments, strict=False), current.media_sequence):
        if _without_map(before) != _without_map(now):
            found.append(f"{number}: changed from {before} to {now}")
    tags = sum(segment.discontinuity for segment in previous.segments[:removed])
    risen = current.discontinuity_sequence - previous.discontinuity_sequence
    missed_versions = removed > len(previous.segments)
    if risen != tags and not (missed_versions and risen > tags):
        found.append(f"DISCONTINUITY-SEQUENCE rose by {risen} where {tags} tags rolled off (6.2.2)")
    return found


def _without_map(segment: MediaSegment) -> MediaSegment:
    """A gap without the EXT-X-MAP of a segment before it: there is nothing to be read behind it."""
    return replace(segment, map_uri=None) if segment.gap else segment


def _after_end(previous: MediaPlaylist, current: MediaPlaylist) -> list[str]:
    """After ENDLIST only a new playlist may come: all segments new, all numbers higher."""
    found = []
    if current.media_sequence <= last_number(previous):
        found.append("a finished playlist changed")
    if current.discontinuity_sequence < previous.discontinuity_sequence:
        found.append("DISCONTINUITY-SEQUENCE fell")
    return found
