"""How a relay follows the playlists of its origin, including responses that are not playlists."""

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
    """A playlist of one segment, without blocking reload."""
    head = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXT-X-MEDIA-SEQUENCE:{last}\n"
    return f"{head}#EXTINF:1,\nhttps://video.example.com/{last}.ts\n"


class FakeOrigin:
    """``answers`` has a status and a text for each path."""

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
    """A condition: the number of the last segment."""
    return lambda view: "0" in view.playlists and view.playlists["0"].playlist.last == last


@pytest.fixture
async def origin() -> FakeOrigin:
    """An origin with a live stream."""
    return FakeOrigin()


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 22, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the follower."""
    return Clock()


@pytest.fixture
async def follower(origin: FakeOrigin, clock: Clock) -> AsyncIterator[OriginFollower]:
    """A follower that has read the first segment."""
    follower = OriginFollower(cast("Origin", origin), UrlMap(), lambda _: None, lambda _: None, clock)
    running = asyncio.create_task(follower.run())
    assert await follower.until(shows(1), WITHIN)
    yield follower
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.parametrize("text", ["<html>Please log in</html>\n", "", "#EXTM3U\n" + "\r" * (MAX_LINES + 1)])
async def test_a_web_page_as_main_playlist(origin: FakeOrigin, follower: OriginFollower, text: str) -> None:
    """If the main playlist is a web page of a portal or proxy, the variants are still followed."""
    origin.answers |= {MAIN: (200, text), MEDIA: (200, media(2))}
    follower.poll_now()
    assert await follower.until(shows(2), WITHIN)
    origin.answers[MEDIA] = 200, media(3)
    follower.poll_now()
    assert await follower.until(shows(3), WITHIN)
    assert follower.view.state is State.LIVE


async def test_a_stream_that_is_missing_at_the_origin(
    monkeypatch: pytest.MonkeyPatch, origin: FakeOrigin, follower: OriginFollower
) -> None:
    """A stream that is missing at the origin is removed after a while, because a proxy may be wrong."""
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


async def test_a_playlist_without_news(follower: OriginFollower, clock: Clock) -> None:
    """``silence`` grows while the origin answers with the same playlist."""
    clock.now += timedelta(seconds=9)
    assert follower.silence == 9


def test_a_playlist_of_too_many_lines() -> None:
    """A playlist with too many lines is refused, with any kind of line break: parsing takes seconds."""
    for line in ("a\n", "\r", "\u2028"):
        with pytest.raises(PlaylistError, match="lines"):
            _ = OriginResponse(200, URL(), None, line * (MAX_LINES + 1)).playlist
