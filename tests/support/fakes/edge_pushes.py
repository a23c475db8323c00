"""Pushes to the edge's Worker, made by hand: one variant, whose playlist ends with a number."""

import json
import time
from typing import Any

from broadcaster.edge import VERSION

PLAYLIST = "live/0/playlist.m3u8"
EPOCH = 1_700_000_000_000
TARGET = 10  # seconds


def playlist(last: int) -> str:
    """The text of a playlist that ends with this number."""
    lines = [f"#EXTINF:{TARGET}.000,\nhttps://video.example.com/{last - back}.ts\n" for back in (2, 1, 0)]
    return f"#EXTM3U\n#EXT-X-TARGETDURATION:{TARGET}\n#EXT-X-MEDIA-SEQUENCE:{last - 2}\n{''.join(lines)}"


def text_of(last: int, text: str | None = None) -> dict[str, Any]:
    """A playlist as a push has it."""
    about = {"last": last, "live": True, "target": TARGET, "seconds": TARGET}
    return {**about, "ops": [playlist(last) if text is None else text]}


def push_of(serial: int, last: int, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    """A push on the one before, or the whole view if it is the first."""
    return {
        "v": VERSION,
        "epoch": EPOCH,
        "serial": serial,
        "base": serial - 1 or None,
        "now": round(1000 * time.time()),
        "state": {"state": "live", "targetDuration": TARGET},
        "sampling": {"share": 1.0, "every": 25.0, "encoderOffset": None},
        "texts": {PLAYLIST: text_of(last)},
        "events": [["title", {"title": f"number {last}"}]],
        "segments": [{"sequence": last}],
        **changes,
    }


def pages() -> dict[str, Any]:
    """The texts of which the Worker makes its pages."""
    page = {"settings": {"recordings": True}, "tags": "<title>Live</title>", "list": "<title>All</title>"}
    health = {"status": "ok", "stream": "offline", "reason": None}
    texts = {"page": page, "recordings": [], "health": health}
    return {name: {"ops": [json.dumps(text)]} for name, text in texts.items()}
