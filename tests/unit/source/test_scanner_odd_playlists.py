"""What encoders and people really write: odd playlists, and what the service's own reader makes of them."""

from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest

from broadcaster.catalog import Catalog
from broadcaster.catalog.records import Segment, SourceSnapshot
from broadcaster.catalog.rows import described_of, described_row
from broadcaster.events import SourceEvent, SourceRefused, VariantsListed
from broadcaster.hls import MediaPlaylist, MultivariantPlaylist, PlaylistParser, Variant, parse
from broadcaster.source.scanner import Scanner
from tests.support.fakes.channel import Channel
from tests.support.fakes.hls_writer import PACKET

HEAD = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:7\n"
PDT = "#EXT-X-PROGRAM-DATE-TIME:{:%Y-%m-%dT%H:%M:%S}.000Z\n"
FINE = (4.0, 4.0, 4.0, 4.0)
GAP = None
NOTHING = ()
# The names of the cases come from this time: each process that collects them has to find the same names.
NOW = datetime(2026, 3, 1, 12, 0, 55, tzinfo=UTC)


def entries(*, dated: bool = True) -> list[str]:
    times = [PDT.format(NOW + timedelta(seconds=4 * number)) if dated else "" for number in range(4)]
    return [f"#EXTINF:4.000000,\n{time}s{number}.ts\n" for number, time in enumerate(times)]


def second(old: str, new: str) -> str:
    """A playlist of four segments, in the second of which a text is another."""
    listed = entries()
    assert old in listed[1]
    listed[1] = listed[1].replace(old, new, 1)
    return HEAD + "".join(listed)


def extinf(value: str) -> str:
    return second("#EXTINF:4.000000,", f"#EXTINF:{value}")


def all_extinf(*values: str) -> str:
    listed = zip(entries(), values, strict=True)
    return HEAD + "".join(entry.replace("4.000000,", value) for entry, value in listed)


def head(old: str, new: str) -> str:
    assert old in HEAD
    return HEAD.replace(old, new, 1) + "".join(entries())


def before_second(line: str) -> str:
    return second("#EXTINF", f"{line}\n#EXTINF")


def target(value: str) -> str:
    return head("#EXT-X-TARGETDURATION:4\n", f"#EXT-X-TARGETDURATION:{value}\n")


def sequence(value: str) -> str:
    return head("#EXT-X-MEDIA-SEQUENCE:7\n", f"#EXT-X-MEDIA-SEQUENCE:{value}\n")


def date(value: str) -> str:
    return second(PDT.format(NOW + timedelta(seconds=4)), f"#EXT-X-PROGRAM-DATE-TIME:{value}\n")


def second_lasts(seconds: float | None) -> tuple[float | None, ...]:
    return (4.0, seconds, 4.0, 4.0)


STAMP = f"{NOW + timedelta(seconds=4):%Y-%m-%dT%H:%M:%S}"
# A playlist; how long each of its four segments lasts, None for a gap; empty where nothing can be followed.
TABLE: dict[str, tuple[str | bytes, tuple[float | None, ...]]] = {
    # EXTINF
    "duration of nothing": (extinf("0.000000,"), second_lasts(0.001)),
    "duration 0": (extinf("0,"), second_lasts(0.001)),
    "duration 0 without a comma": (extinf("0"), second_lasts(0.001)),
    "duration -0": (extinf("-0.0,"), second_lasts(0.001)),
    "duration 1e-9": (extinf("1e-9,"), second_lasts(0.001)),
    "duration tiny": (extinf("0.000001,"), second_lasts(0.001)),
    "duration of a millisecond": (extinf("0.001,"), second_lasts(0.001)),
    "duration short": (extinf("0.021333,"), second_lasts(0.021333)),
    "duration negative": (extinf("-1,"), second_lasts(GAP)),
    "duration negative fraction": (extinf("-0.5,"), second_lasts(GAP)),
    "duration nan": (extinf("nan,"), second_lasts(GAP)),
    "duration NaN": (extinf("NaN,"), second_lasts(GAP)),
    "duration inf": (extinf("inf,"), second_lasts(GAP)),
    "duration -inf": (extinf("-inf,"), second_lasts(GAP)),
    "duration of a day": (extinf("86400,"), second_lasts(GAP)),
    "duration 1e300": (extinf("1e300,"), second_lasts(GAP)),
    "duration 1e999": (extinf("1e999,"), second_lasts(GAP)),
    "duration 1e-999": (extinf("1e-999,"), second_lasts(0.001)),
    "duration of many digits": (extinf("9" * 400 + ","), second_lasts(GAP)),
    "duration of ten minutes": (extinf("600,"), second_lasts(600.0)),
    "duration just above": (extinf("600.1,"), second_lasts(GAP)),
    "duration missing": (extinf(","), second_lasts(GAP)),
    "duration and comma missing": (extinf(""), second_lasts(GAP)),
    "duration a word": (extinf("four,"), second_lasts(GAP)),
    "duration in hexadecimal": (extinf("0x4,"), second_lasts(GAP)),
    "duration with an underscore": (extinf("1_0,"), second_lasts(GAP)),
    "duration with two points": (extinf("1.2.3,"), second_lasts(GAP)),
    "duration with decimal comma": (extinf("3,960000,"), second_lasts(3.96)),
    "duration below one with decimal comma": (extinf("0,500000,"), second_lasts(0.5)),
    "duration with decimal comma and title": (extinf("3,960000,title"), second_lasts(3.96)),
    "duration with decimal comma alone": (extinf("3,960000"), second_lasts(3.96)),
    "duration with short decimal comma": (extinf("3,5,"), second_lasts(3.5)),
    "duration with decimal comma or title": (extinf("3,96"), second_lasts(3.0)),
    "durations with decimal comma": (all_extinf("3,96", "4,04", "3,98", "4,02"), (3.96, 4.04, 3.98, 4.02)),
    "durations with one decimal": (all_extinf("3,9", "4,1", "3,8", "4,2"), (3.9, 4.1, 3.8, 4.2)),
    "durations with as many decimals as needed": (
        all_extinf("3,96", "4", "3,5", "3,125"),
        (3.96, 4.0, 3.5, 3.125),
    ),
    "durations with a title of digits": (all_extinf("4,96", "4,96", "4,96", "4,96"), FINE),
    "durations with the hour as title": (all_extinf("4,21", "4,21", "4,title", "4,22"), FINE),
    "durations with a count as title": (all_extinf("4,17", "4,18", "4,19", "4,20"), FINE),
    "duration 0 with decimal comma": (extinf("0,000000,"), second_lasts(0.001)),
    "duration with a title": (extinf("4,a title, with a comma"), FINE),
    "duration in exponents": (extinf("4e0,"), FINE),
    "duration 0.4e1": (extinf("0.4E+1,"), FINE),
    "duration with blanks": (extinf(" 4.0 ,"), FINE),
    "duration with a plus": (extinf("+4.0,"), FINE),
    "duration without its zero": (extinf(".5,"), second_lasts(0.5)),
    "duration ends in a point": (extinf("4.,"), FINE),
    "duration quoted": (extinf('"4.0",'), FINE),
    "duration with a unit": (extinf("4s,"), second_lasts(GAP)),
    "duration in other digits": (extinf("٤,"), second_lasts(GAP)),
    "no EXTINF": (second("#EXTINF:4.000000,\n", ""), second_lasts(GAP)),
    "EXTINF twice": (second("#EXTINF:4.000000,\n", "#EXTINF:9,\n#EXTINF:4,\n"), FINE),
    "EXTINF without a colon": (second("#EXTINF:4.000000,", "#EXTINF"), second_lasts(GAP)),
    "EXTINF in lower case": (second("#EXTINF", "#extinf"), FINE),
    # EXT-X-TARGETDURATION
    **{
        f"target {value or 'empty'}": (target(value), FINE)
        for value in ("0", "-4", "nan", "inf", "1e400", "", "four", "4.000", "4.4", "4,4", " 4", "4 ", '"4"')
    },
    **{
        f"target {value}": (target(value), FINE)
        for value in ("1", "600", "601", "100000000000000000000", "1e1", "4s", "00004", "+4")
    },
    "target missing": (HEAD.replace("#EXT-X-TARGETDURATION:4\n", "") + "".join(entries()), FINE),
    # EXT-X-MEDIA-SEQUENCE, which numbers segments
    "sequence missing": (HEAD.replace("#EXT-X-MEDIA-SEQUENCE:7\n", "") + "".join(entries()), FINE),
    "sequence 0": (sequence("0"), FINE),
    "sequence 7.0": (sequence("7.0"), FINE),
    "sequence with blanks": (sequence(" 7 "), FINE),
    "sequence with zeros": (sequence("0000007"), FINE),
    "sequence epoch": (sequence("1700000000"), FINE),
    "sequence in microseconds": (sequence("1700000000000000"), FINE),
    "sequence 2**53 - 1": (sequence(str(2**53 - 1)), FINE),
    "sequence 2**53": (sequence(str(2**53)), FINE),
    "sequence 2**63 - 1": (sequence(str(2**63 - 1)), FINE),
    "sequence 2**64 - 1": (sequence(str(2**64 - 1)), FINE),
    "sequence 2**64": (sequence(str(2**64)), NOTHING),
    "sequence negative": (sequence("-1"), NOTHING),
    "sequence 7.5": (sequence("7.5"), NOTHING),
    "sequence nan": (sequence("nan"), NOTHING),
    "sequence a word": (sequence("seven"), NOTHING),
    "sequence empty": (sequence(""), NOTHING),
    # Tags that nobody uses
    **{
        f"head {line}": (head("#EXT-X-VERSION:3", line), FINE)
        for line in (
            "#EXT-X-VERSION:three",
            "#EXT-X-VERSION:-1",
            "#EXT-X-VERSION:",
            "#EXT-X-VERSION:3.5",
            "#EXT-X-VERSION:99999999999999999999999",
            "#EXT-X-START:PRECISE=YES",
            "#EXT-X-START:TIME-OFFSET=9007199254740991",
            "#EXT-X-SERVER-CONTROL:HOLD-BACK=9007199254740991",
            "# EXT-X-TARGETDURATION:9",
            "#EXT-X-START:TIME-OFFSET=nan",
            "#EXT-X-START:TIME-OFFSET=two",
            "#EXT-X-START",
            "#EXT-X-SERVER-CONTROL:HOLD-BACK=x",
            "#EXT-X-SERVER-CONTROL:CAN-SKIP-UNTIL=-1,HOLD-BACK=nan",
            "#EXT-X-SERVER-CONTROL",
            "#EXT-X-PART-INF:PART-TARGET=0",
            "#EXT-X-PART-INF:",
            "#EXT-X-DISCONTINUITY-SEQUENCE:x",
            "#EXT-X-DISCONTINUITY-SEQUENCE:-3",
            "#EXT-X-DISCONTINUITY-SEQUENCE:1e9",
            "#EXT-X-PLAYLIST-TYPE:LIVE",
            "#EXT-X-PLAYLIST-TYPE:",
            "#EXT-X-ALLOW-CACHE:perhaps",
            "#EXT-X-DEFINE:NAME",
            "#EXT-X-SKIP:SKIPPED-SEGMENTS=x",
            "#EXT-X-SESSION-DATA:VALUE",
            "#EXT-X-CONTENT-STEERING:x",
            "#EXT-X-INDEPENDENT-SEGMENTS:YES",
            "#EXT-X-UNHEARD-OF:1",
            "# a comment",
        )
    },
    **{
        f"entry {line}": (before_second(line), FINE)
        for line in (
            "#EXT-X-DATERANGE:START-DATE=x",
            "#EXT-X-DATERANGE:ID=1,DURATION=-1,END-DATE=never",
            "#EXT-X-DATERANGE",
            "#EXT-X-BITRATE:1200.5",
            "#EXT-X-BITRATE:many",
            "#EXT-X-BITRATE:-1",
            "#EXT-X-CUE-OUT:x",
            "#EXT-X-CUE-OUT-CONT:x/y",
            "#EXT-X-CUE-IN",
            "#EXT-X-PART:DURATION=x",
            "#EXT-X-PRELOAD-HINT:TYPE=PART",
            "#EXT-X-RENDITION-REPORT:LAST-MSN=x",
            "#EXT-X-ASSET:x",
            "#EXT-OATCLS-SCTE35:x",
            "#EXT-X-KEY:METHOD=NONE",
            "#EXT-X-KEY:METHOD=none",
            "#EXT-X-KEY:",
            '#EXT-X-KEY:METHOD=,URI=""',
            '# EXT-X-KEY:METHOD=AES-128,URI="k"',
            "# EXT-X-GAP",
            "# EXT-X-ENDLIST",
            "\ufeff",
            "\ufeff#EXT-X-CUE-IN",
            "#EXT-X-MAP:",
            "#EXT-X-MAP",
            "#",
            "##",
            "",
            "   ",
        )
    },
    "key at one segment": (
        before_second('#EXT-X-KEY:METHOD=AES-128,URI="k"').replace(
            "s1.ts\n", "s1.ts\n#EXT-X-KEY:METHOD=NONE\n"
        ),
        second_lasts(GAP),
    ),
    "key from the second on": (before_second('#EXT-X-KEY:METHOD=SAMPLE-AES,URI="k"'), (4.0, GAP, GAP, GAP)),
    "key for all": (head("#EXT-X-VERSION:3", '#EXT-X-KEY:METHOD=AES-128,URI="k"'), NOTHING),
    "byte range of one": (before_second("#EXT-X-BYTERANGE:188@0"), second_lasts(GAP)),
    "byte range of one that is none": (before_second("#EXT-X-BYTERANGE:x"), second_lasts(GAP)),
    "byte range of all": (HEAD + "".join("#EXT-X-BYTERANGE:188@0\n" + entry for entry in entries()), NOTHING),
    "gap": (before_second("#EXT-X-GAP"), second_lasts(GAP)),
    # EXT-X-PROGRAM-DATE-TIME
    **{
        f"time {value or 'empty'}": (date(value), FINE)
        for value in (
            "1970-01-01T00:00:00Z",
            "1980-01-06T00:00:00Z",
            "2150-01-01T00:00:00Z",
            "9999-12-31T23:59:59Z",
            "0001-01-01T00:00:00Z",
            "0000-00-00T00:00:00Z",
            f'"{STAMP}Z"',
            f"{STAMP}z",
            f"{STAMP}.123z",
            f"{STAMP},5Z",
            f"{STAMP}.123456789Z",
            f"{STAMP}+0000",
            f"{STAMP}+00",
            f"{STAMP}+00:00",
            f"{STAMP} Z",
            STAMP,
            STAMP.replace("T", " ") + "Z",
            STAMP[:-2] + "60Z",
            STAMP[:-2] + "61Z",
            STAMP[:10],
            "yesterday",
            *(
                f"{NOW + timedelta(seconds=4 + slip):%Y-%m-%dT%H:%M:%S}Z"
                for slip in (-3600, -5, -4, 5, 3600, 80_000)
            ),
            "1764000000",
            "",
        )
    },
    # Encodings
    "byte order mark": ("\ufeff" + HEAD + "".join(entries()), FINE),
    "UTF-16": ((HEAD + "".join(entries())).encode("utf-16"), FINE),
    "UTF-16, big end": (b"\xfe\xff" + (HEAD + "".join(entries())).encode("utf-16-be"), FINE),
    "UTF-16 without its mark": ((HEAD + "".join(entries())).encode("utf-16-le"), FINE),
    "UTF-16 without its mark, big end": ((HEAD + "".join(entries())).encode("utf-16-be"), FINE),
    "UTF-32": ((HEAD + "".join(entries())).encode("utf-32"), FINE),
    "byte order mark in the middle": (second("#EXTINF", "\ufeff#EXTINF"), FINE),
    "byte order mark before a name": (second("s1.ts", "\ufeffs1.ts"), FINE),
    "blanks of other kinds before the first line": ("\x0c\u00a0\u200b" + HEAD + "".join(entries()), FINE),
    "a comment before the first line": ("# made by a tool\n\n" + HEAD + "".join(entries()), FINE),
    "first line in lower case": ("#extm3u" + HEAD[7:] + "".join(entries()), FINE),
    "all in lower case": ((HEAD + "".join(entries())).lower(), FINE),
    "first time makes no sense": (
        (HEAD + "".join(entries())).replace(PDT.format(NOW), "#EXT-X-PROGRAM-DATE-TIME:\n"),
        FINE,
    ),
    "no line break at the end": ((HEAD + "".join(entries()))[:-1], FINE),
    "no line break after a query": (HEAD + "".join(entries())[:-1] + "?token=a", FINE),
    "no EXTINF at CMAF": (second("#EXTINF:4.000000,\n", "").replace("s1.ts", "s1.cmfv"), second_lasts(GAP)),
    "blank first line": ("\n\n" + HEAD + "".join(entries()), FINE),
    "blanks before the first line": ("  \t" + HEAD + "".join(entries()), FINE),
    "CR and LF": ((HEAD + "".join(entries())).replace("\n", "\r\n"), FINE),
    "CR alone": ((HEAD + "".join(entries())).replace("\n", "\r"), FINE),
    "blanks at the ends of lines": ((HEAD + "".join(entries())).replace("\n", " \n"), FINE),
    "blanks at the beginnings of lines": ((HEAD + "".join(entries())).replace("\n", "\n  "), FINE),
    "blank lines": ((HEAD + "".join(entries())).replace("\n", "\n\n"), FINE),
    "no first line": ("".join(entries()), NOTHING),
    "bytes that are no UTF-8": (
        (HEAD + "".join(entries())).encode().replace(b"s1.ts", b"s\xe9.ts"),
        second_lasts(GAP),
    ),
    "null bytes": (second("s1.ts", "s\0001.ts"), second_lasts(GAP)),
    # Names
    **{
        f"name {name}": (second("s1.ts", name), FINE)
        for name in (
            "./s1.ts",
            "s1.ts?token=a%20b",
            "s1.ts#t=1",
            "s%31.ts",
            "http://cdn.example/live/s1.ts",
            "//cdn.example/s1.ts",
            "/hls/0/s1.ts",
            " s1.ts",
        )
    },
    **{
        f"name {name}": (second("s1.ts", name), second_lasts(GAP))
        for name in (
            "../s1.ts",
            "..\\s1.ts",
            "absent.ts",
            "a%00b.ts",
            "%2e%2e/s1.ts",
            "x" * 300 + ".ts",
            "http://[/s1.ts",
        )
    },
}


class Reader:
    """The service's own reader over a folder, at times that the test chooses."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "0"
        self.folder.mkdir(parents=True)
        self.now = 100.0
        self.scanner = Scanner(root, lambda: NOW + timedelta(minutes=1), SourceSnapshot())

    def segments(self, *, waits: float = 12.0) -> list[Segment]:
        return [event for event in self.events(waits=waits) if isinstance(event, Segment)]

    def events(self, *, waits: float = 12.0) -> list[SourceEvent]:
        found: list[SourceEvent] = []
        for after in (0.2, 0.2, waits, 0.2):
            self.now += after
            found += self.scanner.scan(self.now)
        return found


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(tmp_path / "hls")


def write(reader: Reader, playlist: str | bytes) -> None:
    for number in range(4):
        (reader.folder / f"s{number}.ts").write_bytes(PACKET * 3)
    data = playlist.encode() if isinstance(playlist, str) else playlist
    (reader.folder / "stream.m3u8").write_bytes(data)


@pytest.mark.parametrize("case", TABLE)
def test_an_odd_playlist_costs_no_more_than_what_is_odd(reader: Reader, tmp_path: Path, case: str) -> None:
    """Of one wrong value that value alone is lost, and a service with it in its catalog starts again."""
    playlist, expected = TABLE[case]
    write(reader, playlist)
    segments = reader.segments()
    lasts = [None if segment.fault else segment.duration.total_seconds() for segment in segments]
    assert lasts == list(expected)
    if not expected:
        return
    assert all(1 <= segment.target_duration <= 600 for segment in segments)
    for before, after in pairwise(segments):
        assert before.program_date_time < after.program_date_time < NOW + timedelta(days=1)
    _comes_back(tmp_path / "state", segments)


def _comes_back(folder: Path, segments: list[Segment]) -> None:
    """A service that is killed with these segments in its catalog starts again, and lists all of them.

    They are there twice: as listed, and as noticed and on their way.
    """
    with closing(Catalog(folder, lambda: NOW)) as catalog:
        channel = Channel(6, lambda: NOW, lambda _: None, catalog=catalog)
        for variant in "01":
            for number, entry in enumerate(segments):
                key = f"{variant}/{number}"
                segment = replace(entry, variant=variant, key=key, url=f"https://b/{key}", size=1000)
                catalog.noticed(segment)
                if variant == "0":
                    catalog.stored(segment)
                    channel.publish(segment)
        channel.tick(0.0)
        channel.tick(1e6)
        catalog.writer.write(sync=True)
    with closing(Catalog(folder, lambda: NOW)) as catalog:
        memory = catalog.load()
        assert len(memory.pending) == len(segments)
        channel = Channel(6, lambda: NOW, lambda _: None, catalog=catalog, memory=memory.stream)
        assert channel.listed >= len(segments)
        for pending in memory.pending:
            channel.publish(pending)
        channel.tick(0.0)
        channel.tick(1e6)
        for version in channel.view.playlists.values():
            again = parse(version.playlist.render())
            assert isinstance(again, MediaPlaylist)
            assert len(again.segments) == len(version.playlist.segments)


@pytest.mark.parametrize("seconds", [1, 4, 10])
def test_what_cannot_be_followed_is_reported_with_its_cause(reader: Reader, seconds: int) -> None:
    """An encrypted playlist is reported after some seconds, however often it changes, and when it is over."""
    events: list[SourceEvent] = []
    for number in range(20 // seconds):
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:{seconds}\n#EXT-X-MEDIA-SEQUENCE:{number}\n"
        entry = f'#EXT-X-KEY:METHOD=AES-128,URI="k{number}"\n#EXTINF:{seconds},\ns{number % 4}.ts\n'
        write(reader, text + entry)
        events += reader.events(waits=seconds - 0.6)
    (refused,) = [entry.message for entry in events if isinstance(entry, SourceRefused)]
    assert refused
    assert "0/stream.m3u8 " in refused
    assert "encrypted with AES-128" in refused
    write(reader, HEAD + "".join(entries()))
    assert SourceRefused(None) in reader.events()


MULTIVARIANT = {
    'BANDWIDTH=800000,RESOLUTION=480X270,CODECS="avc1.4d401e"': Variant(
        "0", 800_000, None, "avc1.4d401e", (480, 270)
    ),
    'RESOLUTION=1280x720,CODECS="avc1.4d401f"': Variant("0", 0, None, "avc1.4d401f", (1280, 720)),
    "BANDWIDTH=abc,FRAME-RATE=29.97": Variant("0", 0, frame_rate=29.97),
    "BANDWIDTH=-5,FRAME-RATE=nan,RESOLUTION=0x0": Variant("0", 0),
    "BANDWIDTH=800000,FRAME-RATE=29,970": Variant("0", 800_000, frame_rate=29.0),
    "BANDWIDTH=800000.5,AVERAGE-BANDWIDTH=7e5": Variant("0", 800_000, 700_000),
    "BANDWIDTH=800000,VIDEO-RANGE=PQ": Variant("0", 800_000, video_range="PQ"),
    'BANDWIDTH=800000,CODECS="hvc1.2.4.L150",SUPPLEMENTAL-CODECS="dvh1.08.07/db4h,dvh1.08.06"': Variant(
        "0", 800_000, codecs="hvc1.2.4.L150", supplemental_codecs="dvh1.08.07/db4h,dvh1.08.06"
    ),
    'BANDWIDTH=800000,SUPPLEMENTAL-CODECS="dvh1 08"': Variant("0", 800_000),
    "BANDWIDTH=800000,VIDEO-RANGE=odd,SCORE=x,STABLE-VARIANT-ID=": Variant("0", 800_000),
    'bandwidth = 800000 , codecs = "hvc1.2.4.L120"': Variant("0", 800_000, None, "hvc1.2.4.L120"),
    "BANDWIDTH=800000,PROGRAM-ID=1,NAME=720": Variant("0", 800_000),
    'BANDWIDTH=800000,CODECS="avc1.4d401e': Variant("0", 800_000),
    'BANDWIDTH=800000,CODECS="avc1"4d401e"': Variant("0", 800_000),
    'BANDWIDTH=800000,CODECS="avc1\u2028x",RESOLUTION=640x360': Variant("0", 800_000, resolution=(640, 360)),
    "BANDWIDTH=800000,FRAME-RATE=0.0004": Variant("0", 800_000),
    "BANDWIDTH=800000,FRAME-RATE=1e-9": Variant("0", 800_000),
    "": Variant("0", 0),
}


@pytest.mark.parametrize("attributes", MULTIVARIANT)
def test_an_odd_attribute_costs_that_attribute(reader: Reader, attributes: str) -> None:
    """Of the attributes of a variant those that make sense are carried, and come back from the catalog."""
    write(reader, HEAD + "".join(entries()))
    text = f"#EXTM3U\n#EXT-X-STREAM-INF:{attributes}\n0/stream.m3u8\n"
    (reader.root / "stream.m3u8").write_text(text)
    found = [event.playlist.variants for event in reader.events() if isinstance(event, VariantsListed)]
    assert found[-1] == (MULTIVARIANT[attributes],)
    assert described_of(described_row(MultivariantPlaylist(found[-1]))).variants == found[-1]
    rendered = parse(MultivariantPlaylist(found[-1]).render())
    assert isinstance(rendered, MultivariantPlaylist)
    assert rendered.variants == found[-1]


class Arrivals(Reader):
    """A folder into which somebody copies, and what has been reported until now."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.found: list[Segment] = []

    def list(self, first: int, count: int, seconds: int = 2) -> None:
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:{seconds}\n#EXT-X-MEDIA-SEQUENCE:{first}\n"
        text += "".join(f"#EXTINF:{seconds},\ns{number}.ts\n" for number in range(first, first + count))
        (self.folder / "stream.m3u8").write_text(text)

    def bring(self, number: int) -> None:
        (self.folder / f"s{number}.ts").write_bytes(PACKET * 3)

    def until(self, time: float) -> None:
        """Look each quarter of a second, as the service does."""
        while self.now < time:
            self.now += 0.25
            self.found += [entry for entry in self.scanner.scan(self.now) if isinstance(entry, Segment)]

    @property
    def outcome(self) -> str:
        return "".join("-" if entry.fault else "+" for entry in self.found)


@pytest.fixture
def arrivals(tmp_path: Path) -> Arrivals:
    return Arrivals(tmp_path / "hls")


@pytest.mark.parametrize(("lag", "lost"), [(0.0, 0), (1.9, 0), (3.5, 0), (4.4, 0), (6.5, 2), (12.0, 5)])
def test_a_playlist_that_is_ahead_of_its_files(arrivals: Arrivals, lag: float, lost: int) -> None:
    """A writer whose files come later than their listing loses no more than what its ways are learned by."""
    events = [(2.0 * number, -1, number) for number in range(12)]
    events += [(2.0 * number + lag, 1, number) for number in range(12)]
    for time, kind, number in sorted(events):
        arrivals.until(100.0 + time)
        if kind < 0:
            arrivals.list(max(0, number - 5), min(6, number + 1))
        else:
            arrivals.bring(number)
    arrivals.until(arrivals.now + 2)
    assert arrivals.outcome.count("+") >= 12 - lost
    assert arrivals.outcome.endswith("+" * (12 - lost))


ORDERS: dict[str, list[int]] = {
    "by name": sorted(range(16), key=str),
    "backwards": list(reversed(range(16))),
    "the odd first": [*range(1, 16, 2), *range(0, 16, 2)],
    "in order": list(range(16)),
    "the second half first": [*range(8, 16), *range(8)],
}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seconds", [0.25, 1.0])
def test_files_that_come_in_any_order(arrivals: Arrivals, order: str, seconds: float) -> None:
    """What is listed at once may be copied in any order, as long as files still arrive."""
    arrivals.list(0, 1)
    arrivals.bring(0)
    arrivals.until(101.0)
    arrivals.list(0, 17)
    for number in ORDERS[order]:
        arrivals.until(arrivals.now + seconds)
        arrivals.bring(number + 1)
    arrivals.until(arrivals.now + 10)
    assert [entry.name for entry in arrivals.found] == [f"s{number}.ts" for number in range(17)]
    assert arrivals.outcome == "+" * 17


def test_one_that_never_comes_is_waited_for_no_longer_than_before(arrivals: Arrivals) -> None:
    """Of a writer that is known to be prompt, a missing file is a gap after one target duration."""
    for number in range(8):
        arrivals.bring(number)
        arrivals.list(0, number + 1)
        arrivals.until(arrivals.now + 2)
    arrivals.list(0, 9)
    begun = arrivals.now
    arrivals.until(begun + 2)
    assert arrivals.outcome == "+" * 8
    arrivals.bring(9)
    arrivals.list(0, 10)
    arrivals.until(begun + 3)
    assert arrivals.outcome == "+" * 8 + "-+"


def test_a_decimal_comma_is_known_in_each_version() -> None:
    """The durations of a growing playlist with decimal commas stay as they were read first."""
    reader, lasts = PlaylistParser(), ["3,96", "4,04", "4,00", "3,98"]
    for count in range(1, 5):
        read = reader.read(
            HEAD + "".join(f"#EXTINF:{text}\ns{n}.ts\n" for n, text in enumerate(lasts[:count]))
        )
        assert isinstance(read, MediaPlaylist)
        assert [segment.duration.total_seconds() for segment in read.segments] == [3.96, 4.04, 4.0, 3.98][
            :count
        ]


FAR_APART = [7, 0, 1_700_000_000_000_000, 2**53 - 1, 2**53, 2**62 + 5, 2**63 - 1, 2**63, 2**64 - 8]


class FarApart(Reader):
    """Variants of one encoder whose media sequence numbers have nothing to do with each other."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.time = NOW
        self.found: dict[str, list[Segment]] = {}
        self.scanner = Scanner(root, lambda: self.time, SourceSnapshot())
        lines = (f"#EXT-X-STREAM-INF:BANDWIDTH={1000 + n}\n{n}/stream.m3u8\n" for n in range(len(FAR_APART)))
        (root / "stream.m3u8").write_text("#EXTM3U\n" + "".join(lines))

    def encode(self, count: int, *, dated: bool) -> None:
        """A run of the encoder: each variant lists its segments one after the other, beside the others."""
        self.found, began = {}, self.time
        for newest in range(count):
            self.time = began + timedelta(seconds=4 * newest)
            for variant, first in enumerate(FAR_APART):
                self._list(variant, first, range(max(0, newest - 2), newest + 1), began if dated else None)
                for event in self.events(waits=0.2):
                    if isinstance(event, Segment):
                        self.found.setdefault(event.variant, []).append(event)

    def _list(self, variant: int, first: int, listed: range, began: datetime | None) -> None:
        folder = self.root / str(variant)
        folder.mkdir(exist_ok=True)
        text = f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXT-X-MEDIA-SEQUENCE:{first + listed.start}\n"
        for number in listed:
            name = f"{self.time.timestamp() - 4 * (listed[-1] - number):.0f}.ts"
            if not (folder / name).exists():
                (folder / name).write_bytes(PACKET * 3)
            date = PDT.format(began + timedelta(seconds=4 * number)) if began else ""
            text += f"#EXTINF:4.000000,\n{date}{name}\n"
        (folder / "stream.m3u8").write_text(text)


@pytest.mark.parametrize("dated", [True, False])
def test_numbers_of_variants_are_far_apart(tmp_path: Path, *, dated: bool) -> None:
    """Variants whose numbers are far apart, or larger than any computer's, are followed as one stream."""
    reader = FarApart(tmp_path / "hls")
    numbers = set[int]()
    for run in range(3):
        reader.encode(4, dated=dated)
        for variant in map(str, range(len(FAR_APART))):
            segments = reader.found[variant]
            assert [segment.fault for segment in segments] == [None] * 4
            assert [segment.run.number for segment in segments] == [run] * 4
            assert len({segment.sequence for segment in segments}) == 4
            numbers |= {segment.sequence for segment in segments}
        reader.time += timedelta(seconds=30)
    assert max(numbers) < 2**53
