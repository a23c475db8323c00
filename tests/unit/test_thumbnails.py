"""Which segments get a picture, and how players are told where it belongs."""

from datetime import timedelta

import pytest

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant
from broadcaster.hls.thumbnails import is_due, located, variant_for_pictures, variant_of, webvtt
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
    assert variant_for_pictures(variants) == expected


def test_sound_alone_has_none() -> None:
    """Variants are named by the folders of their playlists; without a size, any may do."""
    variants = (Variant("0/playlist.m3u8", 1000), Variant("1/playlist.m3u8", 1000, resolution=(640, 360)))
    assert variant_of(MultivariantPlaylist(variants, independent_segments=True)) == "1"
    assert variant_of(MultivariantPlaylist(variants[:1], independent_segments=True)) is None
    assert variant_of(MediaPlaylist(target_duration=2, media_sequence=1)) is None
    assert variant_of(None) is None


def test_where_pictures_lie() -> None:
    """A recording's time stands still between two runs; what is not in it has no place."""
    first = [(START + number * 4 * SECOND, 4 * SECOND) for number in range(3)]
    later = START + timedelta(hours=1)
    pictures = [later + SECOND, START - SECOND, START + 4 * SECOND, START + 90 * SECOND, later + 8 * SECOND]
    found = list(located(pictures, [*first, (later, 4 * SECOND)]))
    assert found == [(4 * SECOND, START + 4 * SECOND), (13 * SECOND, later + SECOND)]


def test_cues() -> None:
    """One for each tile, by rows, without a break from the beginning to the end; a hundred in a sprite."""
    begins = [3 * SECOND + 10 * number * SECOND for number in range(102)]
    lines = webvtt(begins, timedelta(hours=1, milliseconds=1)).split("\n")
    assert lines[:5] == ["WEBVTT", "", "00:00:00.000 --> 00:00:13.000", "sprite-1.jpg#xywh=0,0,160,90", ""]
    cues = list(zip(lines[2::3], lines[3::3], strict=False))
    assert len(cues) == 102
    assert cues[11] == ("00:01:53.000 --> 00:02:03.000", "sprite-1.jpg#xywh=160,90,160,90")
    assert cues[99][1] == "sprite-1.jpg#xywh=1440,810,160,90"
    assert cues[101] == ("00:16:53.000 --> 01:00:00.001", "sprite-2.jpg#xywh=160,0,160,90")
    assert webvtt([], SECOND) == "WEBVTT\n"
