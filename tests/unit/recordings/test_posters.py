"""Of which segments, and of which variant, frames are decoded for posters."""

from datetime import timedelta

import pytest

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant
from broadcaster.recordings.frame_grabber import variant_for_posters
from broadcaster.recordings.posters import is_due, poster_variant
from tests.support.fakes.pipeline_parts import START

SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("seconds", [1, 2, 3, 4, 9, 10])
def test_one_picture_each_ten_seconds(seconds: int) -> None:
    """However long segments are, there is one in each step of ten seconds, also after a restart."""
    taken, last = [], None
    for number in range(-(-600 // seconds)):
        time = START + number * seconds * SECOND
        if is_due(time, last):
            taken.append(time)
            last = time
    assert len(taken) == 60
    assert {(time - START) // (10 * SECOND) for time in taken} == set(range(60))


def test_longer_segments_have_one_each() -> None:
    """A clock that was put back is no reason to have none."""
    assert is_due(START + 17 * SECOND, START)
    assert is_due(START - 100 * SECOND, START)
    assert not is_due(START + 9 * SECOND, START)


@pytest.mark.parametrize(
    ("widths", "expected"),
    [((1920, 1280, 640, 320), "640"), ((1920, 854), "854"), ((320, 480), "480"), ((), None)],
)
def test_the_smallest_that_is_large_enough(widths: tuple[int, ...], expected: str | None) -> None:
    """A poster should be sharp, and cheap to make."""
    variants = [Variant(str(width), 1000, resolution=(width, width // 2)) for width in widths]
    assert variant_for_posters(variants) == expected


def test_sound_alone_has_none() -> None:
    """Variants are named by the folders of their playlists; without a size, any may do."""
    variants = (Variant("0/playlist.m3u8", 1000), Variant("1/playlist.m3u8", 1000, resolution=(640, 360)))
    assert poster_variant(MultivariantPlaylist(variants, independent_segments=True)) == "1"
    assert poster_variant(MultivariantPlaylist(variants[:1], independent_segments=True)) is None
    assert poster_variant(MediaPlaylist(target_duration=2, media_sequence=1)) is None
    assert poster_variant(None) is None
