"""Messages between ingest and the viewer server: nothing is lost, and nothing malformed is accepted."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.hls import MediaPlaylist, MediaSegment, MultivariantPlaylist, ServerControl, Variant
from broadcaster.ipc.messages import (
    LENGTH,
    MAX_PONG,
    HealthReport,
    Ping,
    Pong,
    SentMetric,
    State,
    Version,
    View,
    ViewDelta,
    decode,
    encode,
    encode_pong,
    receive_pong,
    view_delta,
)

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
CONTROL = ServerControl(can_block_reload=True, hold_back=timedelta(seconds=6))

seconds = st.timedeltas(timedelta(), timedelta(days=2))
segments = st.builds(
    MediaSegment,
    st.text(min_size=1),
    seconds,
    st.booleans(),
    st.none() | st.just("init.mp4"),
    st.none() | seconds.map(lambda after: START + after),
    st.booleans(),
)


@st.composite
def playlists(draw: st.DrawFn) -> list[MediaPlaylist]:
    """A playlist's versions: segments come at the end and leave at the begin; now and then another begins."""
    numbers = draw(st.lists(segments, min_size=1, max_size=12))
    first, last, versions = 0, 0, []
    for _ in range(draw(st.integers(1, 6))):
        last = draw(st.integers(last, len(numbers)))
        first = draw(st.integers(first, last))
        if draw(st.integers(0, 5)) == 0:  # the same numbers, and other segments
            numbers = [replace(segment, uri=f"{segment.uri}x") for segment in numbers]
        ended, listed = draw(st.booleans()), tuple(numbers[first:last])
        versions.append(
            MediaPlaylist(
                4,
                first,
                independent_segments=True,
                server_control=CONTROL,
                segments=listed,
                ended=ended,
            )
        )
    return versions


@given(st.dictionaries(st.sampled_from("abc"), playlists()), st.booleans())
def test_deltas_make_the_view(stories: dict[str, list[MediaPlaylist]], several: bool) -> None:  # noqa: FBT001
    """The viewer server has each new view from deltas alone."""
    ours, theirs = View(), View()
    for step in range(6):
        versions = {name: story[step] for name, story in stories.items() if step < len(story)}
        listed = {
            name: Version(playlist, START, playlist.target_duration) for name, playlist in versions.items()
        }
        main: Version[MediaPlaylist] | Version[MultivariantPlaylist] | None
        main = next(iter(listed.values()), None)
        if several and listed:
            main = Version(MultivariantPlaylist(Variant(name, 1) for name in listed), START, 4)  # type: ignore[arg-type]
            main = replace(main, playlist=MultivariantPlaylist(tuple(Variant(name, 1) for name in listed)))
        now = View(State.LIVE, 4, ("a", "b"), listed, main)
        message = decode(encode(view_delta(ours, now))[LENGTH.size :])
        assert isinstance(message, ViewDelta)
        ours, theirs = now, message.apply_to(theirs)
        assert theirs == now


def test_a_delta_has_new_segments_only() -> None:
    """A new segment in a window of hours is sent without the others."""
    every = tuple(MediaSegment(f"{number}.ts", timedelta(seconds=2)) for number in range(1001))
    before = View(playlists={"0": Version(MediaPlaylist(2, 1, segments=every[:-1]), START, 2)})
    now = View(playlists={"0": Version(MediaPlaylist(2, 2, segments=every[1:]), START, 2)})
    assert view_delta(before, now).updates["0"].playlist.playlist.segments == every[-1:]


def test_a_delta_of_another_view_is_refused() -> None:
    """A delta of another view would make a wrong playlist."""
    every = tuple(MediaSegment(f"{number}.ts", timedelta(seconds=2)) for number in range(4))
    before = View(playlists={"0": Version(MediaPlaylist(2, 1, segments=every[:3]), START, 2)})
    now = View(playlists={"0": Version(MediaPlaylist(2, 1, segments=every), START, 2)})
    late = View(playlists={"0": Version(MediaPlaylist(2, 1, segments=every[:2]), START, 2)})
    for view in (View(), late):
        with pytest.raises(ValueError, match="does not continue"):
            view_delta(before, now).apply_to(view)


async def answered(*answers: bytes) -> Pong:
    """What is read of these bytes."""
    reader = asyncio.StreamReader()
    for answer in answers:
        reader.feed_data(answer)
    reader.feed_eof()
    return await receive_pong(reader)


async def test_a_pong() -> None:
    """Metrics arrive as they were sent, whatever their labels are."""
    metric = SentMetric("requests", "text", ("a", "b"), ((("x", "y,z"), 1.5),), is_counter=True, total=None)
    pong = Pong((metric,), peers=2, torrents=1)
    assert await answered(encode_pong(pong)) == pong


@pytest.mark.parametrize(
    "answer",
    [
        LENGTH.pack(MAX_PONG + 1),
        LENGTH.pack(2**32 - 1) + b"x",
        LENGTH.pack(2) + b"{}",
        LENGTH.pack(4) + b"\xff\xfe\x00x",
        encode(Ping(HealthReport("live", 0, None))),
    ],
)
async def test_a_malformed_pong_is_refused(answer: bytes) -> None:
    """Any bytes of the viewer server are refused without taking memory."""
    with pytest.raises(ValueError):  # noqa: PT011 - of several kinds
        await answered(answer)
    with pytest.raises(EOFError):
        await answered(encode_pong(Pong(()))[:-1])
