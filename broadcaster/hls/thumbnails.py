"""Small pictures of a stream: of which segments they are made, and the WebVTT that tells where each belongs.

Pure: no clock, no I/O. Players take such thumbnails as WebVTT cues whose text is the address of a picture
and, as a media fragment (W3C Media Fragments 1.0, 4.2.2), the place in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, Variant

STEP = timedelta(seconds=10)  # between two pictures
COLUMNS = ROWS = 10  # of a sprite
TILE = (160, 90)  # pixels
WIDTH = 640  # pixels of a poster
_EPOCH = datetime.fromtimestamp(0, UTC)
_MILLISECOND = timedelta(milliseconds=1)


def is_due(time: datetime, last: datetime | None) -> bool:
    """Whether a segment of this time is the first of its step, where ``last`` had a picture."""
    return last is None or (time - _EPOCH) // STEP != (last - _EPOCH) // STEP


def variant_for_pictures(variants: Sequence[Variant]) -> str | None:
    """The URI of the smallest variant that fills a poster, else the largest; None where no size is known."""
    sized = sorted((one.resolution[0], one.uri) for one in variants if one.resolution)
    large = [uri for width, uri in sized if width >= WIDTH]
    return large[0] if large else sized[-1][1] if sized else None


def variant_of(playlist: MediaPlaylist | MultivariantPlaylist | None) -> str | None:
    """The same by the playlist that viewers begin with, as the name of the variant."""
    if not isinstance(playlist, MultivariantPlaylist):
        return None
    uri = variant_for_pictures(playlist.variants)
    return uri and uri.rpartition("/")[0]


def located(
    pictures: Iterable[datetime], segments: Iterable[tuple[datetime, timedelta]]
) -> Iterator[tuple[timedelta, datetime]]:
    """Where in a playlist each picture lies, from its beginning.

    ``segments`` are the playlist's, as times and durations, in order. A picture of another time is left out.
    """
    waiting = sorted(pictures, reverse=True)
    begin = timedelta()
    for time, duration in segments:
        while waiting and waiting[-1] < time:
            waiting.pop()
        while waiting and waiting[-1] < time + duration:
            picture = waiting.pop()
            yield begin + (picture - time), picture
        begin += duration


def webvtt(begins: Sequence[timedelta], duration: timedelta) -> str:
    """The cues of the pictures that begin there, each until the next, the first from the beginning."""
    lines = ["WEBVTT", ""]
    for count, begin in enumerate(begins):
        end = begins[count + 1] if count + 1 < len(begins) else max(duration, begin + _MILLISECOND)
        sheet, place = divmod(count, COLUMNS * ROWS)
        row, column = divmod(place, COLUMNS)
        width, height = TILE
        lines += [
            f"{_stamp(begin if count else timedelta())} --> {_stamp(end)}",
            f"{sprite(sheet)}#xywh={column * width},{row * height},{width},{height}",
            "",
        ]
    return "\n".join(lines)


def sprite(number: int) -> str:
    """The name of a sprite, which lies beside the cues."""
    return f"sprite-{number + 1}.jpg"


def _stamp(time: timedelta) -> str:
    """A WebVTT timestamp (WebVTT, 4.1); hours have two digits or more."""
    milliseconds = round(time / _MILLISECOND)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{milliseconds:03}"
