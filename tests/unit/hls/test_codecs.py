"""CODECS as they are in the media, of ffmpeg's muxers and by hand."""

import re
import subprocess
from pathlib import Path

import pytest

from broadcaster.demo.encoder import ffmpeg
from broadcaster.hls import MultivariantPlaylist, Rendition, Variant
from broadcaster.hls.codecs import find_codecs
from tests.support.fakes.mpegts import segment

FRAGMENTS = ("-hls_segment_type", "fmp4")
H264, AAC, OPUS = ("-c:v", "libx264"), ("-c:a", "aac"), ("-c:a", "libopus")
HEVC = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=0:pools=1")
# Options, CODECS, and video and sound as ffmpeg reads them back. In its own multivariant playlist ffmpeg says
# nothing of HEVC as hev1 or in transport streams.
MEDIA = {
    "ts": ((*H264, *AAC), "avc1.64000a,mp4a.40.2", "h264 (High), aac (LC)"),
    "baseline": (
        (*H264, "-profile:v", "baseline", *AAC, *FRAGMENTS),
        "avc1.42c00a,mp4a.40.2",
        "h264 (Constrained Baseline), aac (LC)",
    ),
    "ac3": ((*H264, "-c:a", "ac3"), "avc1.64000a,ac-3", "h264 (High), ac3"),
    "mp3": ((*H264, "-c:a", "libmp3lame"), "avc1.64000a,mp4a.40.34", "h264 (High), mp3"),
    "mp2": ((*H264, "-c:a", "mp2"), "avc1.64000a,mp4a.40.33", "h264 (High), mp2"),
    "eac3": ((*H264, "-c:a", "eac3", *FRAGMENTS), "avc1.64000a,ec-3", "h264 (High), eac3"),
    "vp9": (
        ("-c:v", "libvpx-vp9", "-deadline", "realtime", "-c:a", "flac", "-strict", "-2", *FRAGMENTS),
        "vp09.00.10.08,flac",
        "vp9 (Profile 0), flac",
    ),
    "hevc": ((*HEVC, *AAC), "hvc1.1.6.L30.90,mp4a.40.2", "hevc (Main), aac (LC)"),
    "hev1": ((*HEVC, *AAC, *FRAGMENTS), "hev1.1.6.L30.90,mp4a.40.2", "hevc (Main), aac (LC)"),
    "main10": (
        (*HEVC, "-pix_fmt:v", "yuv420p10le", "-tag:v", "hvc1", *OPUS, *FRAGMENTS),
        "hvc1.2.4.L30.90,opus",
        "hevc (Main 10), opus",
    ),
    "high tier, 4:2:2": (
        (
            *HEVC,
            "-x265-params",
            "log-level=0:pools=1:high-tier=1:level-idc=50",
            "-pix_fmt:v",
            "yuv422p10le",
            *AAC,
        ),
        "hvc1.4.10.H150.9D.8,mp4a.40.2",
        "hevc (Rext), aac (LC)",
    ),
    "av1": (
        ("-c:v", "libaom-av1", "-cpu-used", "8", "-usage", "realtime", *OPUS, *FRAGMENTS),
        "av01.0.00M.08,opus",
        "av1 (libdav1d) (Main), opus",
    ),
}


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each name of MEDIA, with a segment that ffmpeg has made."""
    root = tmp_path_factory.mktemp("media")
    film = "testsrc2=size=128x96:rate=10:duration=0.6[out0];sine=sample_rate=48000:duration=0.6[out1]"
    outputs = list[str]()
    for name, (options, *_) in MEDIA.items():
        (root / name).mkdir()
        main = ("-master_pl_name", "main.m3u8", str(root / name / "stream.m3u8"))
        outputs += ["-map", "0:v", "-map", "0:a", "-pix_fmt", "yuv420p", *options, "-f", "hls", *main]
    subprocess.run([*ffmpeg(), "-loglevel", "error", "-f", "lavfi", "-i", film, *outputs], check=True)
    return root


@pytest.mark.parametrize("name", MEDIA)
def test_codecs_are_those_of_the_media(media: Path, name: str) -> None:
    """Ours are what ffmpeg's multivariant playlist says, if it says any, and what ffmpeg reads back."""
    _, expected, read = MEDIA[name]
    folder = media / name
    (first, *_) = [*folder.glob("*.ts"), *folder.glob("*.m4s")]
    header = folder / "init.mp4"
    found = find_codecs(first.read_bytes(), header.read_bytes() if header.exists() else b"")
    assert ",".join(found) == expected
    codecs = re.search(r'CODECS="(.*)"', (folder / "main.m3u8").read_text())
    assert codecs is None or codecs[1] == expected
    probe = [ffmpeg()[0], "-hide_banner", "-i", str(folder / "stream.m3u8")]
    text = subprocess.run(probe, check=False, capture_output=True, text=True).stderr
    assert all(f": {codec}" in text for codec in read.split(", "))


def test_unreadable_media_has_no_codecs(media: Path) -> None:
    """Media with an unknown codec has no CODECS at all: half of CODECS would be wrong."""
    header = (media / "hev1" / "init.mp4").read_bytes()
    whole = find_codecs(b"", header)
    assert {find_codecs(b"", header[:length]) for length in range(len(header))} == {(), whole[:1], whole}
    assert find_codecs(b"", header.replace(b"hev1", b"encv").replace(b"mp4a", b"enca")) == ()
    assert find_codecs(segment()) == ()  # it has no parameter sets
    assert find_codecs(b"") == ()


def test_codecs_of_a_variant_have_its_sound() -> None:
    """CODECS has the formats of the variant and of its renditions, once all are known; the same stays."""
    sound = (Rendition("a", "Deutsch", "de", "de"), Rendition("a", "As filmed"))
    playlist = MultivariantPlaylist((Variant("0", 1, audio="a"), Variant("1", 2)), renditions=sound)
    known = {"0": ("hev1.1.6.L30.90",), "1": ("av01.0.04M.10", "mp4a.40.2")}
    assert [variant.codecs for variant in playlist.with_codecs(known).variants] == [
        None,
        "av01.0.04M.10,mp4a.40.2",
    ]
    known["de"] = ("opus",)
    found = playlist.with_codecs(known)
    assert found.variants[0].codecs == "hev1.1.6.L30.90,opus"
    other = {"0": ("avc1.64001f",), "de": ("mp4a.40.2",), "1": ("av01.0.04M.08", "mp4a.40.2")}
    assert found.with_codecs(other).variants[0].codecs == "avc1.64001f,mp4a.40.2"
    for same in ("AV01.0.04M.10.0.110.09.16.09.0, mp4a.40.5", "mp4a.40.2,av01.0.04M.10"):
        given = MultivariantPlaylist((Variant("1", 2, codecs=same),))
        assert given.with_codecs(known) == given
