"""Segments are read as viewers do, and what keeps viewers from them is named."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiohttp import web

from broadcaster.catalog.records import Segment
from broadcaster.config import Settings, load
from broadcaster.demo.processes import HOST, free_ports
from broadcaster.events import SegmentPublished
from broadcaster.guest import (
    EVERY,
    EVERY_IN_FAULT,
    GuestCheck,
    configured_page,
    warn_of_address,
    why_not_public,
)
from tests.support.fakes.pipeline_parts import stored_segment
from tests.support.servers.fake_origin import serve
from tests.support.servers.tcp import TcpConnection, TcpServer
from tests.support.waiting import eventually

BODY = bytes(range(256)) * 1000
PAGE = "https://watch.example.com"
OPEN = {"Access-Control-Allow-Origin": "*"}


class GuestRig:
    """A check, and a bucket that answers as ``answer`` says."""

    def __init__(self, url: str, *, signed: bool = False, busy: bool = False) -> None:
        self.url = url
        self.now = 1000.0
        self.asked: list[tuple[str, str]] = []  # path, and origin
        self.answer: Callable[[], web.Response] = lambda: web.Response(body=BODY, headers=OPEN)
        self.page: Callable[[], str | None] = lambda: PAGE
        self.check = GuestCheck(
            self._configured_page,
            "http://127.0.0.1:3000",
            signed=signed,
            busy=lambda: busy,
            clock=lambda: self.now,
        )

    def segment(self, number: int = 0, run: int = 0, variant: str = "0") -> Segment:
        url = f"{self.url}/{run}/{variant}/{number}.ts"
        segment = stored_segment(url, number=number, run=run, variant=variant, size=len(BODY))
        return replace(segment, sha256=hashlib.sha256(BODY).hexdigest())

    def publish(self, *segments: Segment) -> None:
        for segment in segments:
            self.check(SegmentPublished(segment, datetime.now(UTC)))

    def _configured_page(self) -> str | None:
        return self.page()

    @property
    def checks(self) -> float:
        (found,) = (metric for metric in self.check.metrics() if metric.name == "guest_checks")
        return sum(found.samples.values())

    async def checked(self, *segments: Segment) -> str | None:
        """Publish and wait until as many checks more are over as segments are to be read."""
        before = self.checks
        self.publish(*segments)
        await eventually(lambda: self.checks > before, within=20)
        return self.check.fault and self.check.fault.message


@asynccontextmanager
async def connected(
    monkeypatch: pytest.MonkeyPatch, *, signed: bool = False, busy: bool = False
) -> AsyncIterator[GuestRig]:
    monkeypatch.setattr("broadcaster.guest.CONFIRM", 0.01)

    async def answer(request: web.Request) -> web.Response:
        made.asked.append((request.path, request.headers["Origin"]))
        return made.answer()

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    runner, url = await serve(app)
    made = GuestRig(url, signed=signed, busy=busy)
    task = asyncio.create_task(made.check.run())
    try:
        yield made
    finally:
        task.cancel()
        await runner.cleanup()


async def test_which_segments_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of each run, then one a minute, each variant in its turn; gaps and lost ones never."""
    async with connected(monkeypatch) as on:
        on.publish(replace(on.segment(), fault="lost"))
        assert await on.checked(on.segment(1), on.segment(1, variant="1"), on.segment(2)) is None
        assert on.asked == [("/0/0/1.ts", PAGE)]
        on.now += EVERY - 1
        on.publish(on.segment(3), on.segment(3, variant="1"))
        on.now += 1
        assert await on.checked(on.segment(4), on.segment(4, variant="1")) is None
        assert await on.checked(on.segment(0, run=1)) is None
        assert [path for path, _ in on.asked] == ["/0/0/1.ts", "/0/1/4.ts", "/1/0/0.ts"]


TABLE: list[tuple[Callable[[], web.Response], str]] = [
    (lambda: web.Response(status=404, headers=OPEN), "is not found there (404)"),
    (lambda: web.Response(status=403, headers=OPEN), "is answered 403"),
    (lambda: web.Response(status=302, headers={"Location": "/login", **OPEN}), "is answered 302"),
    (lambda: web.Response(status=503, headers=OPEN), "is answered 503"),
    (lambda: web.Response(text="<html>Welcome</html>", headers=OPEN), "other bytes come"),
    (lambda: web.Response(body=BODY[:-1], headers=OPEN), "other bytes come"),
    (lambda: web.Response(body=BODY + b"x", headers=OPEN), "other bytes come"),
    (lambda: web.Response(body=BODY[::-1], headers=OPEN), "other bytes come"),
    (lambda: web.Response(body=BODY), "no Access-Control-Allow-Origin"),
    (
        lambda: web.Response(body=BODY, headers={"Access-Control-Allow-Origin": "https://other.example"}),
        "Access-Control-Allow-Origin is 'https://other.example'",
    ),
]


@pytest.mark.parametrize(("answer", "message"), TABLE)
async def test_what_viewers_cannot_read(
    answer: Callable[[], web.Response],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each fault is named, logged once, and looked at again soon; then it is over."""
    caplog.set_level(logging.INFO)
    async with connected(monkeypatch) as on:
        on.answer = answer
        assert message in (await on.checked(on.segment()) or "")
        assert len(on.asked) == 2  # it was confirmed
        on.now += EVERY_IN_FAULT
        assert message in (await on.checked(on.segment(1)) or "")
        assert caplog.text.count(message) == 1
        on.answer = lambda: web.Response(body=BODY, headers={"Access-Control-Allow-Origin": PAGE})
        on.now += EVERY_IN_FAULT
        assert await on.checked(on.segment(2)) is None
        assert "viewers can read what is listed again" in caplog.text


async def test_a_single_failure(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What works at the second attempt is no fault."""
    async with connected(monkeypatch) as on:
        answers = [web.Response(status=503), web.Response(body=BODY, headers=OPEN)]
        on.answer = lambda: answers.pop(0)
        assert await on.checked(on.segment()) is None
        assert caplog.text == ""


async def test_addresses_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens, or takes the request and is silent: it is said by the host, within seconds."""
    monkeypatch.setattr("broadcaster.guest.TIMEOUT", 0.3)

    async def hang(client: TcpConnection) -> None:
        await client.read_all()

    async with connected(monkeypatch) as on, TcpServer(hang) as silent:
        on.url = f"http://{HOST}:{free_ports(1)[0]}"
        assert await on.checked(on.segment()) == f"{on.url} refuses connections"
        on.url, on.now = silent.url, on.now + EVERY_IN_FAULT
        assert await on.checked(on.segment(1)) == f"{on.url} does not answer within 0 s"


async def test_an_initialisation_section(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its EXT-X-MAP a segment of MP4 cannot be played."""
    async with connected(monkeypatch) as on:
        on.answer = lambda: web.Response(status=404)
        segment = replace(on.segment(), map_url=f"{on.url}/init.mp4")
        assert await on.checked(segment) == "the object stored just now is not found there (404)"
        assert on.asked == [("/init.mp4", PAGE)] * 2


async def test_a_private_bucket(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Its signed address is read; what is said has no signature, and the remedy is of keys."""
    async with connected(monkeypatch, signed=True) as on:
        on.answer = lambda: web.Response(status=403)
        segment = replace(on.segment(), url=f"{on.url}/0.ts?X-Amz-Signature=5ec4e7")
        await on.checked(segment)
        assert on.check.fault
        assert "R2_ENDPOINT_URL" in on.check.fault.remedy
        assert "5ec4e7" not in caplog.text


async def test_a_busy_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """While segments are late, only the first of a run is read."""
    async with connected(monkeypatch, busy=True) as on:
        await on.checked(on.segment())
        on.now += EVERY
        on.publish(on.segment(1))
        await on.checked(on.segment(0, run=1), on.segment(0, run=1, variant="1"))
        assert [path for path, _ in on.asked] == ["/0/0/0.ts", "/1/0/0.ts"]


async def test_whose_origin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody has said where the page is, a refusal of its origin is not sure."""
    async with connected(monkeypatch) as on:
        on.page = lambda: None
        on.answer = lambda: web.Response(body=BODY)
        fault = await on.checked(on.segment())
        assert fault == "pages of http://127.0.0.1:3000 may not read: no Access-Control-Allow-Origin"
        assert on.check.uncertain
        on.answer = lambda: web.Response(status=404)
        await on.checked(on.segment(0, run=1))
        assert not on.check.uncertain


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name, value in {"ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b", "BUCKET": "live"}.items():
        monkeypatch.setenv(f"R2_{name}", value)
    monkeypatch.setenv("R2_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("R2_PUBLIC_URL", "https://video.example.com")
    monkeypatch.setenv("BROADCASTER_HLS_DIR", str(tmp_path / "hls"))
    monkeypatch.setenv("BROADCASTER_VIEWER_DIR", str(tmp_path))
    return load()


def test_where_the_page_is(tmp_path: Path, settings: Settings) -> None:
    """As its config.json says, if that can be read."""
    for text, page in (
        ("{", None),
        ("[]", None),
        ('{"pageUrl": 1}', None),
        (f'{{"pageUrl": "{PAGE}/"}}', PAGE),
    ):
        (tmp_path / "config.json").write_text(text)
        assert configured_page(settings) == (page and f"{page}/")


@pytest.mark.parametrize(
    ("url", "message", "certain"),
    [
        ("https://0123.r2.cloudflarestorage.com/live", "is the S3 endpoint", True),
        ("https://0123.eu.r2.cloudflarestorage.com", "is the S3 endpoint", True),
        ("https://pub-0123.r2.dev", "is for development", False),
        ("https://video.example.com", None, False),
        ("https://r2.dev.example.com", None, False),
    ],
)
def test_addresses_that_are_none_for_viewers(
    url: str,
    message: str | None,
    certain: bool,  # noqa: FBT001
    settings: Settings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What is wrong by its name alone is said at the start, and by the doctor."""
    warn_of_address(settings.model_copy(update={"public_url": url}))
    said = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert [level for level, _ in said] == ([] if message is None else ["ERROR" if certain else "WARNING"])
    assert all(str(message) in text and text.startswith("R2_PUBLIC_URL: ") for _, text in said)
    private = settings.model_copy(update={"public_url": url, "urls": "presigned"})
    warn_of_address(private)
    assert len(caplog.records) == len(said)
    fault = why_not_public(url)
    assert (fault is None) == (message is None)
    if fault:
        assert str(message) in fault.message
        assert fault.certain == certain
