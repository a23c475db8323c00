"""How a relay repeats the events of its origin."""

import asyncio
from datetime import timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest
from yarl import URL

from broadcaster.ipc.messages import Listed, View
from broadcaster.relay.events import OriginEvents
from broadcaster.relay.follower import OriginFollower
from broadcaster.relay.origin import Origin
from broadcaster.relay.url_map import UrlMap

BUCKET = "https://video.example.com/live/r/0"


def made(url_map: UrlMap | None = None) -> tuple[OriginEvents, list[Any]]:
    fresh: list[Any] = []
    follower = SimpleNamespace(
        note_run=lambda *_: None, note_starting=lambda **_: None, poll_now=lambda: None, view=View()
    )
    return OriginEvents(
        Origin(cast("Any", None), "https://live.example.com"),
        cast("OriginFollower", follower),
        UrlMap() if url_map is None else url_map,
        lambda _: None,
        fresh.extend,
    ), fresh


def test_a_segment_is_announced_once_with_our_path() -> None:
    """A segment is announced once, with the relay's paths and the origin's encoder offset."""
    words, fresh = made()
    fields = {
        "variant": "0",
        "sequence": 7,
        "run": "r",
        "url": f"{BUCKET}/7.ts",
        "duration": 2.0,
        "programDateTime": 1e12,
        "encoderOffset": 1500.0,
        "published": 1e12,
        "gap": False,
    }
    words.receive("segment", fields)
    words.receive("state", {"state": "live", "trouble": "encoder", "segments": [fields], "run": "r"})
    assert words.trouble == "encoder"
    assert [segment.name for segment in fresh] == ["7.ts"]
    assert words.waiting.qsize() == 1
    message = words.waiting.get_nowait().message
    assert isinstance(message, Listed)
    assert message.url == fresh[0].path
    assert message.time
    assert message.completed
    assert message.time + message.duration - message.completed == timedelta(seconds=1.5)


def test_a_segment_of_another_relay() -> None:
    """The paths of a segment of another relay are resolved against that relay."""
    words, fresh = made()
    fields = {"variant": "0", "sequence": 7, "run": "r", "duration": 2.0, "published": 1e12}
    words.receive("segment", {**fields, "url": "/segments/a/7.ts", "mapUrl": "/segments/b/init.mp4"})
    assert [segment.url for segment in fresh] == [
        f"https://live.example.com/segments/{path}" for path in ("b/init.mp4", "a/7.ts")
    ]
    assert words.waiting.qsize() == 1


def test_missed_events() -> None:
    """An end and a start during an interruption are announced once, after the reconnection."""
    words, _ = made()
    fields: dict[str, object] = {
        "trouble": None,
        "segments": [],
        "run": "r",
        "targetDuration": 2,
        "now": 1e12,
    }
    for state in ("live", "live", "ended", "ended", "live"):
        words.receive("state", {**fields, "state": state, "goingOn": False})
    words.receive("ended", {"now": 1e12, "goingOn": True})
    words.receive("state", {**fields, "state": "ended", "goingOn": False})
    kinds = [words.waiting.get_nowait().message.kind for _ in range(words.waiting.qsize())]
    assert kinds == ["ended", "started", "ended"]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("segment", {"variant": "0"}),
        ("segment", None),
        ("state", []),
        ("state", {"trouble": None, "state": "live", "segments": [{}]}),
        ("started", {"run": "r", "variants": ["0"], "targetDuration": 1e9, "now": 1}),
        ("ended", {"now": "nan"}),
        ("trouble", {}),
        ("unheard-of", 1),
    ],
)
def test_malformed_events(name: str, data: object) -> None:
    """Malformed events are ignored."""
    words, fresh = made()
    words.receive(name, data)
    assert words.waiting.qsize() == 0
    assert fresh == []


async def test_an_origin_without_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a proxy holds back the events, only the first request waits for them."""
    monkeypatch.setattr("broadcaster.relay.events.FIRST_WITHIN", 0.01)
    url_map = UrlMap()
    words, _ = made(url_map)
    newest = url_map.note("0", f"{BUCKET}/7.ts", URL("https://live.example.com/"))
    await words.wait_for_metadata(newest)
    for _ in range(2):
        asked = asyncio.create_task(words.wait_for_metadata(newest))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asked.done()
    words.receive("viewers", {})
    asked = asyncio.create_task(words.wait_for_metadata(newest))
    await asyncio.sleep(0)
    assert not asked.done()
    asked.cancel()
