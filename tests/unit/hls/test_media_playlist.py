"""Rendering and parsing of playlists."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.errors import PlaylistError
from broadcaster.hls import (
    MediaPlaylist,
    MediaSegment,
    MultivariantPlaylist,
    PlaylistParser,
    ServerControl,
    Variant,
    parse,
    rounded_seconds,
)

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TWO = timedelta(seconds=2)

CASES = [
    pytest.param(MediaPlaylist(2), 3, id="empty"),
    pytest.param(MediaPlaylist(2, segments=(MediaSegment("a.ts", TWO),)), 3, id="one segment"),
    pytest.param(
        MediaPlaylist(
            3,
            media_sequence=7,
            discontinuity_sequence=2,
            independent_segments=True,
            server_control=ServerControl(
                can_block_reload=True, hold_back=timedelta(seconds=9), can_skip_until=timedelta(seconds=18)
            ),
            segments=(
                MediaSegment("a.ts", TWO, program_date_time=START),
                MediaSegment("b.ts", TWO, discontinuity=True, program_date_time=START + TWO),
            ),
            ended=True,
        ),
        3,
        id="all tags of a live playlist",
    ),
    pytest.param(
        MediaPlaylist(
            2,
            segments=(
                MediaSegment("a.m4s", TWO, map_uri="i.mp4"),
                MediaSegment("b.m4s", TWO, map_uri="i.mp4"),
            ),
        ),
        6,
        id="map",
    ),
    pytest.param(MediaPlaylist(2, segments=(MediaSegment("a.ts", TWO, gap=True),)), 8, id="gap"),
]


@pytest.mark.parametrize(("playlist", "version"), CASES)
def test_rendered_playlist_is_read_back(playlist: MediaPlaylist, version: int) -> None:
    """What is rendered reads back as the same playlist and declares the lowest version that covers it."""
    text = playlist.render()
    assert parse(text) == playlist
    assert f"#EXT-X-VERSION:{version}\n" in text


def test_rendered_text() -> None:
    """The text is exactly what the specification asks for."""
    playlist = MediaPlaylist(
        2,
        media_sequence=4,
        segments=(
            MediaSegment("a.m4s", TWO, map_uri="i.mp4", program_date_time=START),
            MediaSegment("b.m4s", TWO, map_uri="i.mp4", program_date_time=START + TWO, gap=True),
        ),
    )
    assert playlist.render().splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:8",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-MEDIA-SEQUENCE:4",
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        '#EXT-X-MAP:URI="i.mp4"',
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00.000Z",
        "#EXTINF:2.000000,",
        "a.m4s",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:02.000Z",
        "#EXT-X-GAP",
        "#EXTINF:2.000000,",
        "b.m4s",
    ]


segments = st.builds(
    MediaSegment,
    uri=st.from_regex(r"[a-z0-9_-]{1,20}\.ts", fullmatch=True),
    duration=st.integers(0, 60_000_000).map(lambda us: timedelta(microseconds=us)),
    discontinuity=st.booleans(),
    gap=st.booleans(),
)
playlists = st.builds(
    MediaPlaylist,
    target_duration=st.integers(1, 60),
    media_sequence=st.integers(0, 2**40),
    discontinuity_sequence=st.integers(0, 2**40),
    playlist_type=st.sampled_from([None, "EVENT", "VOD"]),
    independent_segments=st.booleans(),
    start=st.none() | st.integers(0, 10_000_000).map(lambda ms: timedelta(milliseconds=ms)),
    segments=st.lists(segments, max_size=20).map(
        lambda listed: tuple(
            replace(segment, program_date_time=START + number * timedelta(milliseconds=1))
            for number, segment in enumerate(listed)
        )
    ),
    ended=st.booleans(),
)


@given(playlists)
def test_round_trip(playlist: MediaPlaylist) -> None:
    """Any playlist survives rendering and parsing, and the m3u8 package agrees on what it says."""
    text = playlist.render()
    assert parse(text) == playlist
    judged = m3u8.loads(text)
    assert judged.target_duration == playlist.target_duration
    assert judged.media_sequence == playlist.media_sequence
    assert [segment.uri for segment in judged.segments] == [segment.uri for segment in playlist.segments]


@given(
    st.one_of(
        st.text(),
        st.text().map(lambda text: f"#EXTM3U\n{text}\n"),
        st.binary().map(lambda b: b.decode("latin-1")),
    )
)
def test_garbage_is_a_playlist_error(text: str) -> None:
    """Whatever the text, parsing gives a playlist or a PlaylistError."""
    try:
        playlist = parse(text)
    except PlaylistError:
        return
    assert isinstance(playlist, MediaPlaylist | MultivariantPlaylist)


# A map holds until the next one, so that a playlist which has one has it for all.
unmapped = st.lists(segments.map(lambda segment: replace(segment, map_uri=None)), min_size=1, max_size=12)
maps = st.sampled_from(["i.mp4", "j.mp4"])
mapped = st.lists(st.builds(replace, segments, map_uri=maps), min_size=1, max_size=12) | unmapped


@given(mapped, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12), st.integers(0, 60)), max_size=6))
def test_versions_read_as_each_by_itself(
    listed: list[MediaSegment], versions: list[tuple[int, int, int]]
) -> None:
    """Whatever windows follow each other, and wherever they are torn: each reads as it does by itself."""
    listed = [
        replace(segment, program_date_time=START + number * TWO) for number, segment in enumerate(listed)
    ]
    reader = PlaylistParser()
    for first, last, torn in sorted(versions):
        playlist = MediaPlaylist(2, first, segments=tuple(listed[first : last + 1]), ended=last == first)
        text = playlist.render()
        text = text[: max(90, len(text) - torn)]
        assert reader.read(text) == parse(text)


def test_only_what_is_new_is_parsed() -> None:
    """One version more of a playlist of hours costs one segment, while it grows and while it slides."""
    many = tuple(MediaSegment(f"{n}.m4s", TWO, map_uri="i.mp4", program_date_time=START) for n in range(1003))
    reader = PlaylistParser()
    counts = []
    for first, last in [(0, 1000), (0, 1001), (0, 1001), (1, 1002), (2, 1003)]:
        playlist = MediaPlaylist(2, first, segments=many[first:last])
        assert reader.read(playlist.render()) == playlist
        counts.append(reader.parsed)
    assert counts == [1000, 1001, 1001, 1002, 1003]


@pytest.mark.parametrize("last", ["b.ts", "sub/b.m4s", "#EXT-X-ENDLIST"])
def test_a_closed_file_needs_no_final_line_break(last: str) -> None:
    """What looks whole at the end counts once nobody writes the file; half a name never does."""
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\na.ts\n#EXTINF:2,\n{last}"
    whole = parse(text + "\n")
    assert parse(text, closed=True) == whole
    assert parse(text) != whole
    assert parse(text[:-1] if last == "#EXT-X-ENDLIST" else text[:-3], closed=True) == parse(text)


@pytest.mark.parametrize("written", range(80, 160, 4))
def test_two_versions_in_one_file_invent_no_segment(written: int) -> None:
    """When the idle clip's playlist is written to its end over the encoder's, no line of both is a name."""
    head = "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:0\n"
    idle = f"{head}#EXT-X-PLAYLIST-TYPE:EVENT\n#EXTINF:8.000000,\nstream-offline-0.ts\n#EXT-X-ENDLIST\n"
    time = "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:01:40.700+0000\n"
    ours = f"{head}#EXT-X-INDEPENDENT-SEGMENTS\n#EXTINF:2.000000,\n{time}stream-run-2-0.ts\n"
    mixed = ours[:written] + idle[written:] + ours[len(idle) :]
    try:
        read = parse(mixed)
    except PlaylistError:
        return
    assert isinstance(read, MediaPlaylist)
    assert {segment.uri for segment in read.segments} <= {"stream-offline-0.ts", "stream-run-2-0.ts"}


@given(st.data())
def test_every_prefix_is_a_prefix(data: st.DataObject) -> None:
    """A playlist torn anywhere lists a part of the whole, or is refused: it never invents a segment."""
    whole = CASES[2].values[0]
    assert isinstance(whole, MediaPlaylist)
    text = whole.render()
    torn = text[: data.draw(st.integers(0, len(text)))]
    try:
        part = parse(torn)
    except PlaylistError:
        return
    assert isinstance(part, MediaPlaylist)
    assert part.segments == whole.segments[: len(part.segments)]


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ("not a playlist", "does not start"),
        ("#EXTM3U\n#EXT-X-VERSION:3\n", "TARGETDURATION"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n#EXT-X-BYTERANGE:10@0\na.ts", "BYTERANGE"),
        ('#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-KEY:METHOD=AES-128,URI="k"\n#EXTINF:2,\na.ts', "KEY"),
        (f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXT-X-MEDIA-SEQUENCE:{10**20}\n#EXTINF:2,\na.ts", "sequence"),
    ],
)
def test_what_is_refused(lines: str, complaint: str) -> None:
    """What cannot be carried is refused with a reason."""
    with pytest.raises(PlaylistError, match=complaint):
        parse(lines + "\n")


@pytest.mark.parametrize("bad", ["nan", "inf", "-1.5", "95443", "1e12", "", "two"])
def test_one_bad_duration_costs_one_segment(bad: str) -> None:
    """A segment without a valid EXTINF is a gap of the target duration; numbers and times around it stay."""
    before, after = MediaSegment("a.ts", TWO), MediaSegment("c.ts", TWO)
    playlist = MediaPlaylist(
        3, 7, segments=(replace(before, program_date_time=START), MediaSegment("b.ts", TWO, gap=True), after)
    )
    text = playlist.render().replace("#EXT-X-GAP\n#EXTINF:2.000000", f"#EXTINF:{bad}")
    read = parse(text)
    assert isinstance(read, MediaPlaylist)
    assert read.media_sequence == 7
    assert [
        (segment.uri, segment.gap, segment.duration, segment.program_date_time) for segment in read.segments
    ] == [
        ("a.ts", False, TWO, START),
        ("b.ts", True, timedelta(seconds=3), START + TWO),
        ("c.ts", False, TWO, START + timedelta(seconds=5)),
    ]


def test_multivariant_playlist() -> None:
    """Owncast's attributes pass through a multivariant playlist unchanged."""
    playlist = MultivariantPlaylist(
        (
            Variant("0/playlist.m3u8", 1_200_000, 1_000_000, "avc1.64001f,mp4a.40.2", (1280, 720), 30.0),
            Variant("1/playlist.m3u8", 400_000),
        ),
        independent_segments=True,
    )
    assert parse(playlist.render()) == playlist
    assert re.search(
        r'BANDWIDTH=1200000,.*CODECS="avc1.64001f,mp4a.40.2",RESOLUTION=1280x720', playlist.render()
    )


@pytest.mark.parametrize(("seconds", "rounded"), [(2.499, 2), (2.5, 3), (2.0, 2), (0.4, 0), (8.333, 8)])
def test_rounding(seconds: float, rounded: int) -> None:
    """Halves round up, as a strict reader of 4.4.3.1 would."""
    assert rounded_seconds(timedelta(seconds=seconds)) == rounded


def test_what_stands_in_the_head_is_not_taken_for_what_is_known() -> None:
    """A version whose first segment has no tag of its own has the numbers that a first reading finds."""
    reader = PlaylistParser()
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE: {}\n"
    body = "#EXTINF:4.0,\ns2.ts\ns3\n#EXTINF:4.0,\ns4.ts\n"
    for text in (head.format(1) + "s1.ts\n" + body, head.format(2) + body):
        assert reader.read(text) == parse(text)
