"""What a relay makes of its origin's playlists, also of those that are none."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import cast

import pytest
from yarl import URL

from broadcaster.errors import PlaylistError
from broadcaster.ipc.messages import State, View
from broadcaster.relay.follower import MAIN, OriginFollower
from broadcaster.relay.origin import MAX_LINES, Origin, OriginResponse
from broadcaster.relay.url_map import UrlMap

MULTIVARIANT = "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1000\n0/playlist.m3u8\n"
MEDIA = "/live/0/playlist.m3u8"
WITHIN = 20.0  # seconds


def media(last: int) -> str:
    """A playlist of one segment, which does not block."""
    head = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{last}\n"
    return f"{head}#EXTINF:1,\nhttps://video.example.com/{last}.ts\n"


class FakeOrigin:
    """``answers`` are a status and a text by path, for as long as the test does not change them."""

    def __init__(self) -> None:
        self.fault: str | None = None
        self.answers = {MAIN: (200, MULTIVARIANT), MEDIA: (200, media(1))}

    def url(self, path: str) -> URL:
        return URL("https://live.example.com").join(URL(path))

    async def ask(self, url: URL, *, etag: str | None = None, within: float = 0) -> OriginResponse:
        del etag, within
        status, text = self.answers[url.path]
        return OriginResponse(status, url, None, text)


def shows(last: int) -> Callable[[View], bool]:
    """Whether that is the last segment."""
    return lambda view: "0" in view.playlists and view.playlists["0"].playlist.last == last


@pytest.fixture
async def origin() -> FakeOrigin:
    """With a stream that is on."""
    return FakeOrigin()


class Clock:
    """It stands still until the test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The wall time."""
    return Clock()


@pytest.fixture
async def follower(origin: FakeOrigin, clock: Clock) -> AsyncIterator[OriginFollower]:
    """It has seen the first segment."""
    follower = OriginFollower(cast("Origin", origin), UrlMap(), lambda _: None, lambda _: None, clock)
    running = asyncio.create_task(follower.run())
    assert await follower.until(shows(1), WITHIN)
    yield follower
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("text", ["<html>Please log in</html>\n", "", "#EXTM3U\n" + "\r" * (MAX_LINES + 1)])
async def test_a_main_playlist_that_is_none_changes_nothing(
    origin: FakeOrigin, follower: OriginFollower, text: str
) -> None:
    """As the page of a portal, or of a proxy that says 200 to everything: the variants are followed on."""
    origin.answers |= {MAIN: (200, text), MEDIA: (200, media(2))}
    follower.poll_now()
    assert await follower.until(shows(2), WITHIN)
    origin.answers[MEDIA] = 200, media(3)
    follower.poll_now()
    assert await follower.until(shows(3), WITHIN)
    assert follower.view.state is State.LIVE


async def test_a_stream_that_the_origin_no_longer_has(
    monkeypatch: pytest.MonkeyPatch, origin: FakeOrigin, follower: OriginFollower
) -> None:
    """It stays for a while, as a proxy may be wrong; then there is none here, until there is one again."""
    origin.answers = {MAIN: (404, ""), MEDIA: (200, media(2))}
    follower.poll_now()
    assert await follower.until(shows(2), WITHIN)
    assert follower.view.state is State.LIVE
    monkeypatch.setattr("broadcaster.relay.follower.GONE", 0)
    follower.poll_now()
    assert await follower.until(lambda view: view.state is State.OFFLINE, WITHIN)
    assert (follower.view.playlists, follower.view.main) == ({}, None)
    origin.answers[MAIN] = 200, MULTIVARIANT
    follower.poll_now()
    assert await follower.until(shows(2), WITHIN)


async def test_a_playlist_that_stands_still(follower: OriginFollower, clock: Clock) -> None:
    """It is counted for how long, though the origin answers."""
    clock.now += timedelta(seconds=9)
    assert follower.silence == 9


def test_a_playlist_of_too_many_lines() -> None:
    """It would take seconds to be read, in which nobody is served; whatever its lines end with."""
    for line in ("a\n", "\r", "\u2028"):
        with pytest.raises(PlaylistError, match="lines"):
            _ = OriginResponse(200, URL(), None, line * (MAX_LINES + 1)).playlist
