"""Where the key frame of a segment is, found without decoding it, and the playlist of key frames."""

import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import imageio_ffmpeg
import m3u8
import pytest
from hypothesis import given
from hypothesis import strategies as st

from broadcaster.hls import (
    ByteRange,
    MediaPlaylist,
    MediaSegment,
    MultivariantPlaylist,
    ServerControl,
    Variant,
)
from broadcaster.hls.mpegts import HEAD, MOST, PACKET, find_iframe
from broadcaster.stream.playlists import MeasuredBandwidth, multivariant
from tests.support.fakes.mpegts import AUDIO, IDR, SLICE, TABLES, VIDEO, packet, segment

START = datetime(2026, 1, 1, 12, 0, 0, tzinfo=UTC)
TWO = timedelta(seconds=2)
PICTURE = ["-f", "lavfi", "-i", "testsrc2=size=320x180:rate=10"]
SOUND = ["-f", "lavfi", "-i", "sine"]


def ffmpeg(*options: str, given: bytes = b"") -> bytes:
    """What ffmpeg writes to its output."""
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-threads", "1", *options]
    return subprocess.run(command, input=given, check=True, capture_output=True).stdout


@pytest.mark.parametrize("codec", [["libx264", "-bf", "2"], ["libx264", "-slices", "4"], ["libx265"]])
def test_the_key_frame_of_real_segments(codec: list[str]) -> None:
    """The tables and the bytes that were found are one whole picture, the first; sound may lie between."""
    encoding = ["-c:v", *codec, "-preset", "ultrafast", "-c:a", "aac", "-t", "1", "-f", "mpegts"]
    data = ffmpeg(*PICTURE, *SOUND, *encoding, "-muxdelay", "0", "-")
    found = find_iframe(data)
    assert found is not None
    assert found.length < len(data) / 2
    assert (found.offset % PACKET, found.length % PACKET) == (0, 0)
    pictures = ["-i", "-", "-map", "0:v", "-fps_mode", "passthrough", "-pix_fmt", "gray", "-f", "rawvideo"]
    alone = ffmpeg(*pictures, "-", given=data[: found.offset + found.length])
    assert alone == ffmpeg(*pictures, "-frames:v", "1", "-", given=data)


@pytest.mark.parametrize("codec", ["mpeg2video", None])
def test_what_has_no_key_frame_that_players_know(codec: str | None) -> None:
    """Sound alone, and video of another kind, have none."""
    encoding = ["-t", "0.3", "-f", "mpegts", "-"]
    data = ffmpeg(*PICTURE, "-c:v", codec, *encoding) if codec else ffmpeg(*SOUND, *encoding)
    assert find_iframe(data) is None


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (segment(), ByteRange(2 * PACKET, 2 * PACKET)),
        (TABLES + packet(VIDEO, IDR, starts=True), ByteRange(PACKET, 2 * PACKET)),
        (
            TABLES + packet(AUDIO, b"\x00", starts=True) + segment()[2 * PACKET :],
            ByteRange(2 * PACKET, 3 * PACKET),
        ),
        (TABLES + packet(VIDEO, SLICE, starts=True) + segment()[2 * PACKET :], None),
        (TABLES + packet(VIDEO, IDR), None),
        (segment()[2 * PACKET :], None),
        (TABLES[PACKET:] + segment()[2 * PACKET :], None),
        (TABLES + packet(VIDEO, b"\x00", starts=True) * 2, None),
        (TABLES + packet(VIDEO, b"\x00", starts=True) + packet(VIDEO, b"\x00") * HEAD, None),
        (TABLES + packet(VIDEO, IDR, starts=True) + packet(VIDEO, b"\x00") * (MOST // PACKET), None),
        (b"", None),
        (b"\x00\x00\x00\x18ftypmp42" * 100, None),
    ],
    ids=[
        *("whole", "single", "sound-first", "no-key-frame", "no-beginning", "no-tables", "no-program-table"),
        *("no-slice", "no-slice-for-long", "huge", "empty", "mp4"),
    ],
)
def test_segments_of_all_kinds(data: bytes, found: ByteRange | None) -> None:
    """What does not begin with a key frame, is not announced, or is too large, has none; it never raises."""
    assert find_iframe(data) == found


@given(
    st.integers(0, len(segment()) - 1), st.binary(min_size=1, max_size=300), st.integers(0, len(segment()))
)
def test_broken_bytes(at: int, junk: bytes, size: int) -> None:
    """Whatever is in the file, what is found lies in it."""
    data = (segment()[:at] + junk + segment()[at:])[:size]
    found = find_iframe(data)
    assert found is None or (found.length > 0 and 0 < found.offset <= len(data) - found.length)


PLAYLIST = MediaPlaylist(
    2,
    media_sequence=4,
    discontinuity_sequence=1,
    independent_segments=True,
    server_control=ServerControl(can_block_reload=True, hold_back=3 * TWO),
    segments=(
        MediaSegment("a.ts", TWO, program_date_time=START, iframe=ByteRange(9400, 376)),
        MediaSegment(
            "b.ts", TWO, discontinuity=True, program_date_time=START + TWO, iframe=ByteRange(188, 564)
        ),
    ),
    ended=True,
)


def test_rendered_text() -> None:
    """Each segment stands for its key frame, with all else as in the media playlist."""
    text = PLAYLIST.render_iframes()
    assert text.splitlines() == [
        "#EXTM3U",
        "#EXT-X-VERSION:4",
        "#EXT-X-TARGETDURATION:2",
        "#EXT-X-MEDIA-SEQUENCE:4",
        "#EXT-X-DISCONTINUITY-SEQUENCE:1",
        "#EXT-X-INDEPENDENT-SEGMENTS",
        "#EXT-X-I-FRAMES-ONLY",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:00.000Z",
        "#EXTINF:2.000000,",
        "#EXT-X-BYTERANGE:9400@376",
        "a.ts",
        "#EXT-X-DISCONTINUITY",
        "#EXT-X-PROGRAM-DATE-TIME:2026-01-01T12:00:02.000Z",
        "#EXTINF:2.000000,",
        "#EXT-X-BYTERANGE:188@564",
        "b.ts",
        "#EXT-X-ENDLIST",
    ]
    judged = m3u8.loads(text)
    assert judged.is_i_frames_only
    assert [entry.byterange for entry in judged.segments] == ["9400@376", "188@564"]


@pytest.mark.parametrize("missing", [{"iframe": None}, {"gap": True}])
def test_without_a_key_frame_a_gap(missing: dict[str, bool | None]) -> None:
    """A segment whose key frame is not known, or that was lost, keeps its number and its time."""
    first, second = PLAYLIST.segments
    playlist = replace(PLAYLIST, segments=(replace(first, **missing), second))  # type: ignore[arg-type]
    text = playlist.render_iframes()
    assert "#EXT-X-VERSION:8\n" in text
    assert "12:00:00.000Z\n#EXT-X-GAP\n#EXTINF:2.000000,\na.ts\n" in text
    assert text.count("#EXT-X-BYTERANGE") == 1
    assert playlist.has_iframes
    assert not replace(playlist, segments=playlist.segments[:1]).has_iframes
    assert "#EXT-X-GAP" not in replace(playlist, segments=(first,)).render()


def test_the_entry_of_the_multivariant_playlist() -> None:
    """The multivariant playlist names the I-frame playlist, with the most that a key frame takes."""
    iframes = Variant("0/iframes.m3u8", PLAYLIST.iframe_bandwidth, codecs="avc1", resolution=(64, 36))
    text = MultivariantPlaylist((Variant("0/playlist.m3u8", 500_000),), iframes=iframes).render()
    line = '#EXT-X-I-FRAME-STREAM-INF:BANDWIDTH=37600,CODECS="avc1",RESOLUTION=64x36,URI="0/iframes.m3u8"'
    assert text.splitlines()[-1] == line
    (judged,) = m3u8.loads(text).iframe_playlists
    assert (judged.uri, judged.iframe_stream_info.bandwidth) == ("0/iframes.m3u8", 37600)
    assert MediaPlaylist(2).iframe_bandwidth == 0


def test_its_codec_is_one_that_browsers_decode() -> None:
    """H.264 is named before a smaller variant of another codec; else the smallest variant."""
    variants = tuple(
        Variant(name, 1, codecs=f"{codec},mp4a.40.2", video_range="PQ")
        for name, codec in (("0", "av01.0.04M.10"), ("1", "avc1.64001f"), ("2", "avc1.64001e"))
    )
    measured = {name: MeasuredBandwidth(10**6 * (int(name) + 1), 10**5, independent=True) for name in "012"}
    found = multivariant(MultivariantPlaylist(variants), measured).iframes
    assert found
    assert (found.uri, found.codecs, found.video_range) == ("1/iframes.m3u8", "avc1.64001f", "PQ")
    del measured["1"], measured["2"]
    found = multivariant(MultivariantPlaylist(variants), measured).iframes
    assert found
    assert (found.uri, found.codecs) == ("0/iframes.m3u8", "av01.0.04M.10")
