"""The rolling window of one variant."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.hls import MediaPlaylist, MediaSegment, parse
from broadcaster.hls.manifest import ManifestGenerator
from tests.support.judges.playlist_rules import violations

START = datetime(2026, 1, 1, tzinfo=UTC)


def fill(generator: ManifestGenerator, durations: list[float], discontinuity: int = 0) -> None:
    for number, seconds in enumerate(durations):
        time = START + timedelta(seconds=2 * number)
        segment = MediaSegment(
            f"{discontinuity}-{number}.ts", timedelta(seconds=seconds), program_date_time=time
        )
        generator.append(segment, discontinuity=discontinuity, independent=True)


def test_numbering_starts_at_one_and_counts_what_rolled_off() -> None:
    """MEDIA-SEQUENCE starts at 1 and rises by one per removed segment."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0] * 6)
    assert generator.playlist.media_sequence == 1
    fill(generator, [2.0] * 3)
    assert generator.playlist.media_sequence == 4
    assert generator.next_media_sequence == 10
    assert len(generator.playlist.segments) == 6


def test_window_is_never_below_the_minimum() -> None:
    """Short segments are kept until three target durations are listed, whatever the window."""
    generator = ManifestGenerator(4, 2)
    fill(generator, [1.0] * 30)
    assert len(generator.playlist.segments) == 12
    assert generator.playlist.duration == timedelta(seconds=12)


def test_discontinuity_is_derived_and_counted_when_it_rolls_off() -> None:
    """The first segment of a new run carries the tag; the sequence rises when that segment is removed."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0] * 3)
    fill(generator, [2.0] * 4, discontinuity=1)
    tags = [segment.discontinuity for segment in generator.playlist.segments]
    assert tags == [False, False, True, False, False, False]
    assert generator.playlist.discontinuity_sequence == 0
    fill(generator, [2.0] * 2, discontinuity=1)
    assert generator.playlist.segments[0].discontinuity
    assert generator.playlist.discontinuity_sequence == 0
    fill(generator, [2.0], discontinuity=1)
    assert generator.playlist.discontinuity_sequence == 1


def test_a_run_without_segments_of_this_variant_still_counts() -> None:
    """Where another variant had a run that this one missed, the numbers agree all the same."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0])
    fill(generator, [2.0], discontinuity=2)
    playlist = generator.playlist
    assert [segment.gap for segment in playlist.segments] == [False, True, False]
    assert playlist.discontinuity_sequence + sum(s.discontinuity for s in playlist.segments) == 2


def test_too_long_a_segment_becomes_gaps_of_the_same_length() -> None:
    """TARGETDURATION never changes: what does not fit is a gap of the right duration."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0, 5.0, 2.0])
    playlist = generator.playlist
    assert [segment.gap for segment in playlist.segments] == [False, True, True, True, False]
    assert abs(playlist.duration - timedelta(seconds=9)) < timedelta(milliseconds=1)
    assert not violations(None, MediaPlaylist(2, 1, segments=playlist.segments[:4]))


def test_independent_segments_only_while_it_is_true() -> None:
    """One segment that does not start with a key frame takes the claim away as long as it is listed."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0])
    assert generator.playlist.independent_segments
    generator.append(MediaSegment("x.ts", timedelta(seconds=2)), discontinuity=0, independent=False)
    assert not generator.playlist.independent_segments
    fill(generator, [2.0] * 6)
    assert generator.playlist.independent_segments


def test_nothing_after_the_end() -> None:
    """After ENDLIST the playlist does not change any more, and discontinuity numbers never fall."""
    generator = ManifestGenerator(2, 6)
    fill(generator, [2.0], discontinuity=1)
    with pytest.raises(ValueError, match="never fall"):
        fill(generator, [2.0], discontinuity=0)
    generator.end()
    assert generator.playlist.ended
    with pytest.raises(ValueError, match="ended"):
        fill(generator, [2.0], discontinuity=1)


steps = st.tuples(st.integers(100, 9000), st.integers(0, 2), st.booleans(), st.booleans())


@given(st.integers(1, 6), st.integers(1, 20), st.lists(steps, max_size=60))
def test_successive_playlists_obey_the_rules(
    target: int, window: int, listed: list[tuple[int, int, bool, bool]]
) -> None:
    """Whatever is appended, each version is a legal successor of the one before, also as text."""
    generator = ManifestGenerator(target, window)
    previous, time, run = None, START, 0
    for number, (milliseconds, new_runs, gap, independent) in enumerate(listed):
        run += new_runs
        duration = timedelta(milliseconds=milliseconds)
        time += new_runs * timedelta(seconds=target)
        segment = MediaSegment(f"{number}.ts", duration, program_date_time=time, gap=gap)
        generator.append(segment, discontinuity=run, independent=independent)
        time += duration
        current = parse(generator.playlist.render())
        assert isinstance(current, MediaPlaylist)
        assert not violations(previous, current)
        previous = current
