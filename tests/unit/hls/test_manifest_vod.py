"""The playlist of a recording: it only grows, and has whole what the live playlist cannot list."""

import gzip
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from broadcaster.hls import ByteRange, MediaPlaylist, MediaSegment, MultivariantPlaylist, Variant, parse
from broadcaster.hls.manifest import VodPlaylistBuilder
from broadcaster.recordings.writer import COMPRESS_FROM, GrowingVariant
from tests.support.fakes.pipeline_parts import START
from tests.support.judges.playlist_rules import violations

TWO = timedelta(seconds=2)


def grown(recorded: VodPlaylistBuilder, seconds: float, run: int, time: timedelta) -> None:
    segment = MediaSegment(f"{time}.ts", timedelta(seconds=seconds), program_date_time=START + time)
    recorded.append(segment, discontinuity=run, independent=True, size=1000)


def test_rendered_text() -> None:
    """The text is exactly what the specification asks for; an end makes VOD of an EVENT."""
    recorded = VodPlaylistBuilder(2, 7)
    for number, (uri, run) in enumerate([("a.ts", 7), ("b.ts", 8)]):
        segment = MediaSegment(uri, TWO, program_date_time=START + number * TWO)
        recorded.append(segment, discontinuity=run, independent=True, size=500_000)
    lines = [
        "#EXTM3U",
        "#EXT-X-VERSION:3",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-MEDIA-SEQUENCE:1",
        "#EXT-X-DISCONTINUITY-SEQUENCE:0",
        "#EXT-X-PLAYLIST-TYPE:EVENT",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00.000Z",
        "#EXTINF:2.000000,",
        "a.ts",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:02.000Z",
        "#EXTINF:2.000000,",
        "b.ts",
    ]
    assert recorded.playlist(ended=False).render().splitlines() == lines
    lines[5] = "#EXT-X-PLAYLIST-TYPE:VOD"
    assert recorded.playlist(ended=True).render().splitlines() == [*lines, "#EXT-X-ENDLIST"]
    start = recorded.playlist(ended=True, start=timedelta(seconds=1.5)).render()
    assert "#EXT-X-START:TIME-OFFSET=1.500,PRECISE=YES\n" in start
    assert recorded.peak_bandwidth == 2_000_000


def test_a_longer_segment_is_whole() -> None:
    """TARGETDURATION is that of the longest, whatever the encoder announced."""
    recorded = VodPlaylistBuilder(2, 0)
    grown(recorded, 2, 0, timedelta())
    assert recorded.playlist(ended=True).target_duration == 2
    grown(recorded, 90.4, 0, TWO)
    playlist = recorded.playlist(ended=True)
    assert playlist.target_duration == 90
    assert [segment.gap for segment in playlist.segments] == [False, False]


@given(
    st.lists(
        st.tuples(st.sampled_from([0.4, 1.0, 2.0, 2.6, 75.0]), st.sampled_from([0, 0, 0, 1, 2])), min_size=1
    )
)
def test_it_only_grows(steps: list[tuple[float, int]]) -> None:
    """Whatever comes, what was listed stays under its number, and each version is right by itself."""
    recorded = VodPlaylistBuilder(2, 0)
    time, run, before = timedelta(), 0, MediaPlaylist(2)
    for seconds, jump in steps:
        run += jump
        grown(recorded, seconds, run, time)
        time += timedelta(seconds=seconds)
        playlist = recorded.playlist(ended=False)
        assert parse(playlist.render()) == playlist
        assert not violations(None, playlist)
        assert playlist.segments[: len(before.segments)] == before.segments
        assert playlist.segments[-1].duration == timedelta(seconds=seconds)
        assert (
            sum(segment.discontinuity for segment in playlist.segments) + playlist.discontinuity_sequence
            == run
        )
        before = playlist


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.4, 1.0, 2.0, 2.6, 75.0]),  # seconds
            st.sampled_from([0, 0, 0, 0, 1, 3]),  # runs since the one before
            st.sampled_from([None, "a.mp4", "b.mp4"]),
            st.sampled_from([False, False, False, True]),  # a gap
            st.sampled_from([True, True, True, False]),  # independent, and its key frame is known
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 200),
    st.data(),
)
def test_text_that_grows_is_what_would_be_rendered(
    steps: list[tuple[float, int, str | None, bool, bool]], padding: int, data: st.DataObject
) -> None:
    """Kept compressed, and begun again when its head changes, it is that of the whole playlist."""
    whole, growing = VodPlaylistBuilder(2, 0), GrowingVariant(2, 0, ended=False)
    given_so_far = list[tuple[MediaSegment, int, bool]]()
    time, run = timedelta(), 0
    main = MultivariantPlaylist(iframes=Variant("0/iframes.m3u8", 1))
    for seconds, jump, map_uri, gap, frame in steps:
        run += jump
        segment = MediaSegment(
            f"{'x' * padding}{time}.ts",
            timedelta(seconds=seconds),
            map_uri=None if gap else map_uri,
            program_date_time=START + time,
            gap=gap,
            iframe=ByteRange(10, 20) if frame else None,
        )
        given_so_far.append((segment, run, frame))
        for builder in (whole, growing.playlist):
            builder.append(segment, discontinuity=run, independent=frame, size=1000)
        time += segment.duration
        is_last = len(given_so_far) == len(steps)
        if not (is_last or data.draw(st.booleans())):
            continue
        for ended in (False, True) if is_last else (False,):
            growing.ended = ended
            if not growing.has_right_head:
                growing = growing.restarted()
                for before, number, independent in given_so_far:
                    growing.playlist.append(before, discontinuity=number, independent=independent, size=1000)
            assert growing.has_right_head
            playlist = whole.playlist(ended=ended)
            expected = {
                "0/playlist.m3u8": playlist.render(),
                "0/iframes.m3u8": playlist.render_iframes(),
            }
            bodies = growing.bodies("0", main)
            found = {
                name: (gzip.decompress(body.content) if body.gzipped else body.content).decode()
                for name, body in bodies.items()
            }
            assert found == expected
            assert all(
                body.gzipped == (len(expected[name]) >= COMPRESS_FROM) for name, body in bodies.items()
            )
    assert growing.playlist.peak_bandwidth == whole.peak_bandwidth
    assert growing.playlist.independent_segments == whole.independent_segments
