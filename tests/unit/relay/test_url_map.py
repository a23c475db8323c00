"""Which objects a relay serves, under which paths; ranges and options."""

import argparse
from datetime import timedelta
from typing import Any

import aiohttp
import pytest
from yarl import URL

from broadcaster.errors import OriginError, PlaylistError
from broadcaster.hls import MediaPlaylist, MediaSegment
from broadcaster.relay.origin import Origin
from broadcaster.relay.segments import Unsatisfiable, parse_range
from broadcaster.relay.serve import add_options, options_of
from broadcaster.relay.url_map import RETENTION, UrlMap
from tests.support.fakes.clock import Clock

BASE = URL("https://live.example.com/live/0/playlist.m3u8")
BUCKET = "https://video.example.com/live/r/0"


def playlist(first: int, *uris: str, **more: Any) -> MediaPlaylist:  # noqa: ANN401 - of a playlist
    segments = tuple(MediaSegment(uri, timedelta(seconds=2)) for uri in uris)
    return MediaPlaylist(2, first, segments=segments, **more)


def address(uri: str) -> tuple[str, str]:
    """Token and name in a path of the relay."""
    _, prefix, token, name = uri.split("/")
    assert prefix == "segments"
    return token, name


def test_an_object_has_one_path_however_its_url_is_signed() -> None:
    """The token ignores the query, and the latest URL is fetched."""
    url_map = UrlMap()
    first, _ = url_map.take("0", playlist(1, f"{BUCKET}/a%20b.ts?X-Amz-Signature=1"), BASE)
    second, new = url_map.take("0", playlist(1, f"{BUCKET}/a%20b.ts?X-Amz-Signature=2%2F"), BASE)
    assert first.segments[0].uri == second.segments[0].uri
    assert new == []
    found = url_map.find(*address(second.segments[0].uri))
    assert found
    assert found.url == f"{BUCKET}/a%20b.ts?X-Amz-Signature=2%2F"
    assert found.name == "a_b.ts"


@pytest.mark.parametrize(
    "uri",
    [
        "file:///etc/passwd",
        "ftp://a.example/x.ts",
        "https://user:pw@a.example/x.ts",
        "http:///x.ts",
        "https://a.example:99999/x.ts",
        "https://xn--/x.ts",
        "https://a/" + 5000 * "x",
    ],
)
def test_only_http_urls(uri: str) -> None:
    """A playlist with a URL that is not http(s) is refused."""
    with pytest.raises(PlaylistError):
        UrlMap().take("0", playlist(1, uri), BASE)


async def test_an_origin_whose_name_cannot_be_looked_up() -> None:
    """An origin whose name cannot be resolved is unreachable."""
    async with aiohttp.ClientSession() as session:
        origin = Origin(session, "http://a..b")
        with pytest.raises(OriginError):
            await origin.ask(origin.url("/config.json"))
        with pytest.raises(OriginError):
            _ = [word async for word in origin.events()]
    assert origin.fault


def test_too_many_segments() -> None:
    """A playlist with too many segments is refused."""
    with pytest.raises(PlaylistError, match="more than"):
        UrlMap().take("0", playlist(1, *["a.ts"] * 20_001), BASE)


def test_expiry_of_removed_objects() -> None:
    """A removed object stays for the playlist's duration and a minute; both token and name are needed."""
    clock = Clock()
    url_map = UrlMap(clock)
    ours, _ = url_map.take("0", playlist(1, f"{BUCKET}/1.ts", "2.ts"), BASE)
    token, name = address(ours.segments[0].uri)
    _, new = url_map.take("0", playlist(2, "2.ts", "3.ts"), BASE)
    assert [segment.url for segment in new] == ["https://live.example.com/live/0/3.ts"]
    clock.now += 4 + RETENTION
    url_map.take("0", playlist(3, "3.ts"), BASE)
    assert url_map.find(token, name)
    assert url_map.find(token, "2.ts") is None
    clock.now += 1
    url_map.take("0", playlist(4, "4.ts"), BASE)
    assert url_map.find(token, name) is None
    url_map.drop("0")
    clock.now += 1000
    url_map.take("1", playlist(1, "other.ts"), BASE)
    assert len(url_map) == 1


def test_an_object_that_is_listed_long_after_its_event() -> None:
    """An object that was announced minutes before it is listed is available once listed."""
    clock = Clock()
    url_map = UrlMap(clock)
    url_map.note("0", f"{BUCKET}/1.ts", BASE)
    clock.now += RETENTION + 1
    _, new = url_map.take("0", playlist(1, f"{BUCKET}/1.ts"), BASE)
    assert [segment.name for segment in new] == ["1.ts"]


def test_the_live_edge() -> None:
    """The live edge has the newest and announced segments, never a segment that has left the playlist."""
    url_map = UrlMap()
    names = [f"{BUCKET}/{number}.ts" for number in range(20)]
    _, first = url_map.take("0", playlist(0, *names[:10]), BASE)
    assert [url_map.is_at_the_edge(segment) for segment in first] == 4 * [False] + 6 * [True]
    assert [url_map.is_newest(segment) for segment in first] == 8 * [False] + 2 * [True]
    coming = url_map.note("0", names[10], BASE, sha256="0" * 64)
    assert url_map.is_at_the_edge(coming)
    _, new = url_map.take("0", playlist(9, *names[9:]), BASE)
    assert new[0].sha256 == "0" * 64  # as announced
    assert not any(url_map.is_at_the_edge(segment) for segment in [*first, coming])


def test_objects_of_a_refused_playlist() -> None:
    """Objects of a refused playlist are soon removed."""
    clock = Clock()
    url_map = UrlMap(clock)
    for number in range(3):
        with pytest.raises(PlaylistError):
            url_map.take("0", playlist(1, f"{BUCKET}/{number}.ts", "ftp://a/x.ts"), BASE)
        clock.now += RETENTION + 1
    url_map.take("0", playlist(1), BASE)
    assert len(url_map) == 0


@pytest.mark.parametrize(("bound", "most"), [("MAX_OBJECTS", 3), ("MAX_CHARACTERS", 3 * len(BUCKET) + 15)])
def test_the_limit_of_announced_objects(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """Announced objects are limited; new objects are refused until old objects expire."""
    monkeypatch.setattr(f"broadcaster.relay.url_map.{bound}", most)
    clock, listed = Clock(), playlist(1, f"{BUCKET}/4.ts")
    url_map = UrlMap(clock)
    for number in (1, 2, 3, 3):
        url_map.note("0", f"{BUCKET}/{number}.ts", BASE)
    with pytest.raises(PlaylistError, match="more than"):
        url_map.take("0", listed, BASE)
    clock.now += RETENTION + 1
    url_map.take("0", listed, BASE)
    assert len(url_map) == 1


def test_gaps_and_maps() -> None:
    """A gap cannot be fetched; its EXT-X-MAP can."""
    url_map = UrlMap()
    gap = MediaSegment("gap.ts", timedelta(seconds=2), gap=True)
    fragment = MediaSegment("1.m4s", timedelta(seconds=2), map_uri="init.mp4")
    ours, new = url_map.take("0", MediaPlaylist(2, 1, segments=(gap, fragment)), BASE)
    assert url_map.find(*address(ours.segments[0].uri)) is None
    assert ours.segments[1].map_uri
    assert [segment.name for segment in new] == ["init.mp4", "1.m4s"]


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-9", (0, 10)),
        ("bytes=90-", (90, 100)),
        ("bytes=-10", (90, 100)),
        ("bytes=-1000", (0, 100)),
        ("bytes=50-1000", (50, 100)),
        ("bytes=0-", (0, 100)),
        ("bytes=9-3", None),
        ("bytes=0-1,5-6", None),
        ("bytes=-", None),
        ("lines=1-2", None),
        ("", None),
    ],
)
def test_ranges(header: str, part: tuple[int, int] | None) -> None:
    """A single range is answered, and other Range headers are ignored (RFC 9110, 14.2)."""
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_after_the_end(header: str) -> None:
    """A range after the end cannot be satisfied (RFC 9110, 15.5.17)."""
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


def test_wrong_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong addresses and sizes are refused with the expected form."""
    parser = argparse.ArgumentParser()
    parser.add_argument("origin")
    add_options(parser)
    chosen = options_of(parser.parse_args(["https://a", "--listen", "[::1]:80", "--memory", "1GiB"]))
    assert (chosen.listen, chosen.memory) == (("::1", 80), 2**30)
    for wrong in (["--listen", "8080"], ["--admin", ":99999"], ["--memory", "much"], ["--disk", "1"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["https://a", *wrong])
        assert wrong[0] in capsys.readouterr().err
