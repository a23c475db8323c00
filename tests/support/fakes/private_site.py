"""A private event that is live, and somebody who asks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

import aiohttp
from yarl import URL

from broadcaster.ipc.messages import (
    AccessMode,
    Grants,
    HealthReport,
    Ping,
    PublicRecording,
    RecordingsDelta,
    Setup,
    view_delta,
)
from broadcaster.own_files import VIEWER
from broadcaster.viewer_server.app import ViewerServer
from broadcaster.viewer_server.pages import BLOCK
from tests.support.fakes.viewer_app import ViewerApp
from tests.support.judges.gate_cases import FAULTS, GRANT, NOW, OPENED, OTHER, SECRET, WAITS, Case

TITLE = "The stream's own title"
WHEN = datetime(2026, 1, 2, 12, tzinfo=UTC)
LEAKS = (TITLE, "EXTM3U", "viewers", "recordings", "live", "offline", "0/playlist")
Clock = Callable[[], float]


class Site:
    """A private event that is live, at ``address``."""

    def __init__(
        self,
        folder: Path,
        *,
        knows_grants: bool = True,
        clock: Clock | None = None,
        access: AccessMode = "passphrase",
    ) -> None:
        self.now = float(NOW)
        self._source = source = ViewerApp(folder)
        source.go_live("0", "1")
        self.folder = viewer = folder / "viewer"
        for name in ("index.html", "recordings.html"):
            (viewer / name).write_text(f"<!doctype html><title>live</title>{BLOCK}")
        (viewer / "access.html").write_text((VIEWER / "public/access.html").read_text())
        (viewer / "config.json").write_text(json.dumps({"startsAt": "2026-12-24T20:00:00+01:00"}))
        setup = Setup(
            viewer,
            {
                "eventsUrl": "/live/events",
                "playlistUrl": "/live/playlist.m3u8",
                "trackerUrl": "/live/tracker",
            },
            recordings=True,
            clips=True,
            signed=True,
            tracker=True,
            access=access,
        )
        self.server = ViewerServer(setup)
        if gate := self.server.gate:
            gate._clock = clock or (lambda: self.now)  # noqa: SLF001 - the one thing of time in it
        self._show()
        self.server.handle(Ping(HealthReport("live", 7, None, title=TITLE)))
        if gate and knows_grants:
            self.admit(GRANT)
        self.address = ""

    def publish(self) -> None:
        """One segment of a second more in each variant."""
        for name in ("0", "1"):
            self._source.publish(name, seconds=1)
        self._show()

    def _show(self) -> None:
        self.server.handle(view_delta(self.server.stream.view, self._source.channel.view))

    def open(self, *opened: str) -> dict[str, PublicRecording]:
        """There are two recordings, of which these are opened; returns them by path."""
        found = [
            PublicRecording(
                name,
                f"Recorded {name}",
                WHEN,
                WHEN,
                9.0,
                (f"https://v.example/{name}.m3u8",),
                opened=name in opened,
            )
            for name in (OPENED, OTHER)
        ]
        self.server.handle(RecordingsDelta(tuple(found)))
        return {recording.path: recording for recording in found}

    def admit(self, *grants: str) -> None:
        """Let these in, and no others; one waits for the doors."""
        self.server.handle(grants_of(*grants))


def grants_of(*grants: str) -> Grants:
    """These may watch, and one more once the doors are open."""
    return Grants(SECRET.hex(), dict.fromkeys(grants), {WAITS: None})


async def answer(address: str, case: Case) -> tuple[int, bytes, dict[str, str]]:
    """Status, body and headers."""
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            case.method,
            URL(address + case.target, encoded=True),
            headers=case.headers,
            allow_redirects=False,
        ) as response,
    ):
        body = b"" if "events" in case.target and response.status == 200 else await response.read()
        return response.status, body, dict(response.headers)


async def check_table(
    address: str,
    table: Iterable[Case],
    leaks: Iterable[str] = LEAKS,
    refusal: Callable[[Case], int] = lambda _: HTTPStatus.UNAUTHORIZED,
) -> None:
    """Assert that a gate lets pass what the table says, and that no answer may be kept or leaks."""
    wrong = []
    for case in table:
        status, body, headers = await answer(address, case)
        if (status != refusal(case)) is not case.passes:
            wrong.append((case.name, status))
        assert headers["Cache-Control"] == "private, no-store", case.name
        assert headers["Referrer-Policy"] == "no-referrer", case.name
        if not case.passes:
            assert not [leak for leak in leaks if leak.encode() in body], case.name
            is_said = {fault: text.encode() in body for fault, text in FAULTS.items()}
            if "text/html" in case.headers.get("Accept", ""):
                assert is_said == {fault: fault == case.fault for fault in FAULTS}, case.name
            assert case.fault is None or ("Refresh" in headers) is (case.fault == "closed"), case.name
    assert wrong == []


async def check_opened(address: str) -> None:
    """Assert that strangers watch the recording that is opened, and find no more of the event on its page."""
    headers = {"Accept": "text/html"}
    status, body, answered = await answer(address, Case("", f"/watch/{OPENED}", passes=True, headers=headers))
    assert status == HTTPStatus.OK
    assert f"https://v.example/{OPENED}.m3u8" in body.decode()
    assert f"<title>Recorded {OPENED}</title>" in body.decode()
    for leak in (TITLE, OTHER, "/live/", "/t/", "newest", "playlistUrl", "oembed"):
        assert leak not in body.decode(), leak
    assert answered["Cache-Control"] == "private, no-store"
    assert "Set-Cookie" not in answered
