"""The rules of a relay: what can be had through it, in which words."""

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
    """Token and name of an address of ours."""
    _, prefix, token, name = uri.split("/")
    assert prefix == "segments"
    return token, name


def test_an_object_has_one_address_however_its_url_is_signed() -> None:
    """The token is of all but the query; what is fetched is what was listed last."""
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
def test_only_addresses_of_the_web_are_taken(uri: str) -> None:
    """A playlist that lists anything else is no version that is shown."""
    with pytest.raises(PlaylistError):
        UrlMap().take("0", playlist(1, uri), BASE)


async def test_an_origin_whose_name_cannot_be_looked_up() -> None:
    """It does not answer, as any other that cannot be reached; nothing else breaks."""
    async with aiohttp.ClientSession() as session:
        origin = Origin(session, "http://a..b")
        with pytest.raises(OriginError):
            await origin.ask(origin.url("/config.json"))
        with pytest.raises(OriginError):
            _ = [word async for word in origin.events()]
    assert origin.fault


def test_a_playlist_has_an_end() -> None:
    """More segments than any window has are refused."""
    with pytest.raises(PlaylistError, match="more than"):
        UrlMap().take("0", playlist(1, *["a.ts"] * 20_001), BASE)


def test_what_no_playlist_lists_goes_once_no_player_can_want_it() -> None:
    """A playlist's duration after it has left, and a while; a name alone is not enough to have it."""
    clock = Clock()
    url_map = UrlMap(clock)
    ours, _ = url_map.take("0", playlist(1, f"{BUCKET}/1.ts", "2.ts"), BASE)
    token, name = address(ours.segments[0].uri)
    _, new = url_map.take("0", playlist(2, "2.ts", "3.ts"), BASE)
    assert [one.url for one in new] == ["https://live.example.com/live/0/3.ts"]
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


def test_what_is_listed_long_after_it_was_told_of() -> None:
    """As when playlists could not be had for minutes, and events could: it is there all the same."""
    clock = Clock()
    url_map = UrlMap(clock)
    url_map.note("0", f"{BUCKET}/1.ts", BASE)
    clock.now += RETENTION + 1
    _, new = url_map.take("0", playlist(1, f"{BUCKET}/1.ts"), BASE)
    assert [one.name for one in new] == ["1.ts"]


def test_the_live_edge() -> None:
    """The newest segments are it, and what was only told of; what has left a playlist never is again."""
    url_map = UrlMap()
    names = [f"{BUCKET}/{number}.ts" for number in range(20)]
    _, first = url_map.take("0", playlist(0, *names[:10]), BASE)
    assert [url_map.is_at_the_edge(one) for one in first] == 4 * [False] + 6 * [True]
    assert [url_map.is_newest(one) for one in first] == 8 * [False] + 2 * [True]
    coming = url_map.note("0", names[10], BASE, sha256="0" * 64)
    assert url_map.is_at_the_edge(coming)
    _, new = url_map.take("0", playlist(9, *names[9:]), BASE)
    assert new[0].sha256 == "0" * 64  # as was told
    assert not any(url_map.is_at_the_edge(one) for one in [*first, coming])


def test_what_a_refused_playlist_has_listed_goes() -> None:
    """It is not shown, so nobody can want it for long."""
    clock = Clock()
    url_map = UrlMap(clock)
    for number in range(3):
        with pytest.raises(PlaylistError):
            url_map.take("0", playlist(1, f"{BUCKET}/{number}.ts", "ftp://a/x.ts"), BASE)
        clock.now += RETENTION + 1
    url_map.take("0", playlist(1), BASE)
    assert len(url_map) == 0


@pytest.mark.parametrize(("bound", "most"), [("MAX_OBJECTS", 3), ("MAX_CHARACTERS", 3 * len(BUCKET) + 15)])
def test_what_is_told_of_has_a_bound(monkeypatch: pytest.MonkeyPatch, bound: str, most: int) -> None:
    """More is refused until what is there has had its time; what is told again is no more than before."""
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


def test_a_gap_can_not_be_had_and_a_map_can() -> None:
    """What is listed as a gap has an address that answers nothing; EXT-X-MAP is an object like others."""
    url_map = UrlMap()
    gap = MediaSegment("gap.ts", timedelta(seconds=2), gap=True)
    fragment = MediaSegment("1.m4s", timedelta(seconds=2), map_uri="init.mp4")
    ours, new = url_map.take("0", MediaPlaylist(2, 1, segments=(gap, fragment)), BASE)
    assert url_map.find(*address(ours.segments[0].uri)) is None
    assert ours.segments[1].map_uri
    assert [one.name for one in new] == ["init.mp4", "1.m4s"]


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
def test_one_range_is_answered_and_what_is_none_ignored(header: str, part: tuple[int, int] | None) -> None:
    """RFC 9110, 14.2: a server may ignore a Range header that it does not like."""
    assert parse_range(header, 100) == part


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_a_range_past_the_end_cannot_be_had(header: str) -> None:
    """RFC 9110, 15.5.17."""
    with pytest.raises(Unsatisfiable):
        parse_range(header, 100)


def test_the_command_line_says_what_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses are [HOST]:PORT, sizes numbers of bytes with a unit."""
    parser = argparse.ArgumentParser()
    parser.add_argument("origin")
    add_options(parser)
    chosen = options_of(parser.parse_args(["https://a", "--listen", "[::1]:80", "--memory", "1GiB"]))
    assert (chosen.listen, chosen.memory) == (("::1", 80), 2**30)
    for wrong in (["--listen", "8080"], ["--admin", ":99999"], ["--memory", "much"], ["--disk", "1"]):
        with pytest.raises(SystemExit):
            parser.parse_args(["https://a", *wrong])
        assert wrong[0] in capsys.readouterr().err
