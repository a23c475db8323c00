"""The public application around a channel that a test fills."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from prometheus_client import CollectorRegistry, generate_latest

from broadcaster.events import Event
from broadcaster.hls import Variant
from broadcaster.ingest.reports import VariantsListed
from broadcaster.live import Channel
from broadcaster.metrics import Metrics
from broadcaster.tracker import Tracker
from broadcaster.web import (
    EventStream,
    HealthReport,
    PublicOptions,
    Signaling,
    make_operator_app,
    make_public_app,
)
from tests.support.fakes import START, stored_segment

MEDIA = "/live/0/playlist.m3u8"
Client = TestClient[Request, Application]


class Site:
    """A site whose clock stands still; segments are four seconds long. Its tracker is off, unless given."""

    def __init__(
        self,
        folder: Path,
        *,
        window: timedelta = timedelta(),
        max_waiters: int = 100,
        tracker: Tracker | None = None,
    ) -> None:
        self.now: datetime = START
        self.registry = CollectorRegistry()
        self.event_stream = EventStream(max_waiters)
        self._metrics = Metrics(self.registry)
        self.channel = Channel(6, lambda: self.now, self._observe, window=window)
        self.report = HealthReport("offline", 0, None)
        self._count = 0
        viewer = folder / "viewer"
        viewer.mkdir()
        (viewer / "index.html").write_text("<!doctype html><title>live</title>")
        (viewer / "main.js").write_text("export {};")
        (folder / "secret.txt").write_text("secret")
        signaling = Signaling(self.channel, tracker) if tracker else None
        page = {"eventsUrl": "/live/events", "title": "Live"}
        options = PublicOptions(viewer, page, max_waiters, signaling=signaling)
        self.app = make_public_app(
            self.channel, lambda: self.report, self.event_stream, self.registry, options
        )
        self.operator_app = make_operator_app(self.channel, lambda: self.report, self.registry)

    def go_live(self, *names: str) -> None:
        self.channel.list_variants(
            VariantsListed(tuple(Variant(name, 1000) for name in names), frozenset(names))
        )
        for name in names:
            self.publish(name)

    def publish(self, name: str = "0", seconds: int = 4) -> None:
        time = START + timedelta(seconds=4 * self._count)
        self._count += 1
        url = f"https://b/{self._count}.ts"
        segment = stored_segment(
            url, variant=name, seconds=seconds, target_duration=seconds, time=time, completed=START
        )
        self.channel.publish(replace(segment, sha256="abc"))

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    def _observe(self, event: Event) -> None:
        self._metrics(event)
        self.event_stream(event)
