"""What MediaMTX's control API says, and each mistake of its configuration."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from broadcaster.doctor.machine import mediamtx
from broadcaster.errors import EncoderError
from broadcaster.http import listening
from broadcaster.http.connections import CONNECTIONS, Connections
from broadcaster.mediamtx import (
    MediaMtxStatus,
    PathStatus,
    fetch_path,
    mistakes,
    parse_config,
    parse_path,
    split_url,
)
from broadcaster.owncast import RETURN, open_session
from broadcaster.service.health import Outcome

FOLDER = Path("/var/lib/mediamtx/hls/live")
# As a MediaMTX of 2026-08 answers, without what nobody here reads.
CONFIG: dict[str, object] = {
    "hls": True,
    "hlsAlwaysRemux": True,
    "hlsVariant": "mpegts",
    "hlsSegmentDuration": "2s",
    "hlsDirectory": "/var/lib/mediamtx/hls",
    "hlsCDNSecret": "",
}
PUBLISHED: dict[str, object] = {
    "name": "live",
    "ready": True,
    "available": True,
    "online": True,
    "source": {"type": "srtConn", "id": "d3f5786c"},
    "tracks": ["H264", "MPEG-4 Audio"],
}
SLATE = PUBLISHED | {"online": False, "source": None}
ABSENT = PUBLISHED | {"ready": False, "available": False, "online": False, "tracks": []}


class ControlApi:
    """The control API of a MediaMTX with one path."""

    def __init__(self) -> None:
        self.config = dict(CONFIG)
        self.path: dict[str, object] | None = dict(PUBLISHED)
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        if request.path == "/v3/config/global/get":
            return web.json_response(self.config)
        if request.path != "/v3/paths/get/live" or self.path is None:
            return web.json_response({"status": "error", "error": "path not found"}, status=404)
        return web.json_response(self.path)


@pytest.fixture
async def api() -> AsyncIterator[ControlApi]:
    """A control API that answers."""
    found, app = ControlApi(), web.Application()
    app[CONNECTIONS] = Connections(10)
    app.router.add_route("*", "/{path:.*}", found.answer)
    async with listening(app, "127.0.0.1", 0, "") as address:
        found.url = f"{address}/live"
        yield found


def test_the_path_at_the_end_of_the_address() -> None:
    """A path of MediaMTX may have slashes."""
    assert split_url("http://127.0.0.1:9997/live") == ("http://127.0.0.1:9997", "live")
    assert split_url("http://[::1]:9997/venue/one/") == ("http://[::1]:9997", "venue/one")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (PUBLISHED, PathStatus(connected=True, codecs=("H264", "MPEG-4 Audio"))),
        (SLATE, PathStatus(connected=True, codecs=("H264", "MPEG-4 Audio"))),
        (ABSENT, PathStatus(connected=False)),
        ({"ready": True, "tracks": [7, "Opus"]}, PathStatus(connected=True, codecs=("Opus",))),
    ],
)
def test_a_path(answer: dict[str, object], status: PathStatus) -> None:
    """A slate is a stream; an earlier release says ``ready`` alone."""
    assert parse_path(json.dumps(answer).encode()) == status


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"ready": 1}', b"[" * 60_000, b"\xff"])
def test_nonsense(body: bytes) -> None:
    """What is not MediaMTX's answer is none."""
    for parse in (parse_path, parse_config):
        with pytest.raises(EncoderError, match="MediaMTX"):
            parse(body)


def test_a_publisher_that_left() -> None:
    """A publisher that was seen has disconnected at once; without one, there is time to come back."""
    known = MediaMtxStatus("http://127.0.0.1:9997/live")
    here, gone = PathStatus(connected=True), PathStatus(connected=False)
    known.heard(gone, 0)
    assert (known.connected, known.disconnected_since) == (False, None)
    known.heard(gone, RETURN)
    assert known.disconnected_since == 0
    known.heard(here, 20)
    assert known.disconnected_since is None
    known.heard(gone, 21)
    known.heard(gone, 22)
    assert known.disconnected_since == 21
    known.heard(here, 30)
    known.silent("it refuses connections", 31)  # it may have been started again
    known.heard(gone, 32)
    assert known.disconnected_since is None


async def test_a_path_that_is_not_there(api: ControlApi) -> None:
    """A path that no publisher has used yet has no stream; another program's 404 says nothing."""
    async with open_session() as session:
        assert (await fetch_path(session, api.url)).connected
        api.path = None
        assert not (await fetch_path(session, api.url)).connected


@pytest.mark.parametrize(
    ("change", "seconds", "message", "remedy"),
    [
        ({"hls": False}, None, "HLS is off", "hls: true"),
        ({"hlsVariant": "lowLatency"}, None, "writes no playlists", "hlsVariant: mpegts"),
        ({"hlsVariant": "other"}, None, "hlsVariant is other", "hlsVariant: mpegts"),
        ({"hlsAlwaysRemux": False}, 2, "until somebody reads", "hlsAlwaysRemux: true"),
        ({"hlsDirectory": ""}, None, "no files are written", "hlsDirectory: /var/lib/mediamtx/hls"),
        ({"hlsDirectory": "/srv"}, None, "it writes into /srv/live", "BROADCASTER_HLS_DIR"),
        ({"hlsSegmentDuration": "1s"}, 2, "key frames are so far apart", "key frame interval"),
        ({"hlsCDNSecret": "secret"}, 2, "does not use", "remove it"),
    ],
)
async def test_each_mistake(
    api: ControlApi, change: dict[str, object], seconds: int | None, message: str, remedy: str
) -> None:
    """Each mistake is named, with what to do, and no secret."""
    right = await mediamtx(api.url, FOLDER, 2)
    assert (right.outcome, right.message) == (Outcome.OK, "the path live has a stream: H264, MPEG-4 Audio")
    api.config |= change
    wrong = await mediamtx(api.url, FOLDER, seconds)
    assert wrong.outcome is Outcome.FAILED
    assert message in wrong.message
    assert remedy in (wrong.remedy or "")
    assert "secret" not in wrong.message.replace("hlsCDNSecret", "")


def test_several_mistakes() -> None:
    """All are named at once; durations are read as Go writes them."""
    config = parse_config(json.dumps(CONFIG | {"hlsVariant": "lowLatency", "hlsAlwaysRemux": False}).encode())
    assert len([*mistakes(config, FOLDER, "live", 2)]) == 2
    assert [*mistakes(config, FOLDER.parent / "ladder", "live", 2)] == []  # ffmpeg writes there
    for text, found in (("1m0s", 60), ("1m30.5s", 90.5), ("200ms", 0.2), ("2s", 2), ("x", None), (7, None)):
        read = parse_config(json.dumps(CONFIG | {"hlsSegmentDuration": text}).encode())
        assert read.segment_seconds == found


async def test_nobody_answers() -> None:
    """Without the control API the check says how to switch it on."""
    found = await mediamtx("http://127.0.0.1:1/live", FOLDER, 2)
    assert found.outcome is Outcome.WARNING
    assert "api: true" in (found.remedy or "")
