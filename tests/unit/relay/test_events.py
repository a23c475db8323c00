"""What a relay makes of what its origin tells of events."""

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


def test_a_segment_is_told_with_our_address_once() -> None:
    """Whatever the state tells again after a reconnect; the encoder's offset is found again as it was."""
    words, fresh = made()
    told = {
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
    words.receive("segment", told)
    words.receive("state", {"state": "live", "trouble": "encoder", "segments": [told], "run": "r"})
    assert words.trouble == "encoder"
    assert [one.name for one in fresh] == ["7.ts"]
    assert words.waiting.qsize() == 1
    message = words.waiting.get_nowait().message
    assert isinstance(message, Listed)
    assert message.url == fresh[0].path
    assert message.time
    assert message.completed
    assert message.time + message.duration - message.completed == timedelta(seconds=1.5)


def test_a_segment_of_another_relay() -> None:
    """Its addresses are of its own, without its name."""
    words, fresh = made()
    told = {"variant": "0", "sequence": 7, "run": "r", "duration": 2.0, "published": 1e12}
    words.receive("segment", {**told, "url": "/segments/a/7.ts", "mapUrl": "/segments/b/init.mp4"})
    assert [one.url for one in fresh] == [
        f"https://live.example.com/segments/{path}" for path in ("b/init.mp4", "a/7.ts")
    ]
    assert words.waiting.qsize() == 1


def test_what_was_not_heard_is_told_by_the_state() -> None:
    """An end and a start that came while the uplink was away, each once."""
    words, _ = made()
    told: dict[str, object] = {"trouble": None, "segments": [], "run": "r", "targetDuration": 2, "now": 1e12}
    for state in ("live", "live", "ended", "ended", "live"):
        words.receive("state", {**told, "state": state, "goingOn": False})
    words.receive("ended", {"now": 1e12, "goingOn": True})
    words.receive("state", {**told, "state": "ended", "goingOn": False})
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
def test_what_makes_no_sense_is_left_out(name: str, data: object) -> None:
    """Nothing is told to pages of it, and nothing breaks."""
    words, fresh = made()
    words.receive(name, data)
    assert words.waiting.qsize() == 0
    assert fresh == []


async def test_an_origin_whose_events_do_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something in front of it may keep them back: one viewer waits for the first word, and then nobody."""
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
