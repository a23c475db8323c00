"""The page settings of a relay."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from broadcaster.relay.origin import Origin, OriginResponse, PageSettings


def test_settings_of_the_origin() -> None:
    """The origin's settings are passed on; the stream's URLs are the relay's, other URLs become absolute."""
    settings = PageSettings(Origin(cast("Any", None), "https://live.example.com"))
    settings.take(
        {
            "title": "Opening night",
            "poster": "/poster.jpg",
            "chatUrl": "https://chat.example.com/x",
            "trackerUrl": "/live/tracker",
            "eventsUrl": None,
            "fallbackUrl": "https://a/hls/stream.m3u8",
            "playlistUrl": "https://b/live/playlist.m3u8",
            "recordings": {"list": "/recordings"},
            "clipsUrl": "/live/clips",
            "colors": {"live": "#ff0000"},
        }
    )
    assert settings.now == {
        "title": "Opening night",
        "poster": "https://live.example.com/poster.jpg",
        "chatUrl": "https://chat.example.com/x",
        "trackerUrl": "/live/tracker",
        "recordings": None,
        "colors": {"live": "#ff0000"},
        "eventsUrl": "/live/events",
        "beaconUrl": "/live/beacon",
    }
    settings.take({"trackerUrl": "wss://tracker.example.com"})
    assert settings.now["trackerUrl"] == "wss://tracker.example.com"


@pytest.mark.parametrize(("status", "text"), [(503, "full"), (429, ""), (200, "<html>"), (200, "[]")])
async def test_settings_that_are_not_available(
    monkeypatch: pytest.MonkeyPatch, status: int, text: str
) -> None:
    """If the origin refuses the settings, the earlier settings stay."""
    asked: list[URL] = []
    looked = asyncio.Event()

    async def ask(url: URL) -> OriginResponse:
        asked.append(url)
        if len(asked) > 1:
            looked.set()
            await asyncio.Event().wait()
        return OriginResponse(status, url, None, text)

    for name in ("EVERY", "RETRY_EVERY"):
        monkeypatch.setattr(f"broadcaster.relay.origin.{name}", 0)
    origin = SimpleNamespace(ask=ask, url=URL, address="https://live.example.com")
    settings = PageSettings(cast("Origin", origin))
    settings.take({"title": "Opening night", "trackerUrl": "/live/tracker"})
    before = dict(settings.now)
    running = asyncio.create_task(settings.run())
    async with asyncio.timeout(20):
        await looked.wait()
    assert settings.now == before
    running.cancel()
