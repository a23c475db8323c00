"""The public application around a channel that a test fills."""

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from aiohttp.test_utils import TestClient
from aiohttp.web import Application, Request
from prometheus_client import CollectorRegistry, generate_latest

from broadcaster.admin import make_operator_app
from broadcaster.events import Event
from broadcaster.hls import ByteRange
from broadcaster.ipc.messages import HealthReport, Ping, Setup, View, view_delta
from broadcaster.metrics import MetricsCollector
from broadcaster.own_files import VIEWER
from broadcaster.service.serve import Metrics
from broadcaster.service.viewer_process import message_of
from broadcaster.tracker.tracker import Tracker
from broadcaster.viewer_server.app import ViewerServer
from tests.support.fakes.channel import Channel
from tests.support.fakes.pipeline_parts import START, stored_segment, variants_listed

MEDIA = "/live/0/playlist.m3u8"
Client = TestClient[Request, Application]


class ViewerApp:
    """A site whose clock stands still; segments are four seconds long. Its tracker is off, unless given."""

    def __init__(
        self,
        folder: Path,
        *,
        window: timedelta = timedelta(),
        max_waiters: int = 100,
        tracker: Tracker | None = None,
        places: int = 10_000,
    ) -> None:
        self.now: datetime = START
        self.registry = CollectorRegistry()
        self._metrics = Metrics(self.registry)
        viewer = folder / "viewer"
        viewer.mkdir()
        (viewer / "index.html").write_text("<!doctype html><title>live</title>")
        (viewer / "main.js").write_text("export {};")
        for name in ("404.html", "manifest.json"):
            (viewer / name).write_text((VIEWER / "public" / name).read_text())
        (folder / "secret.txt").write_text("secret")
        page = {"eventsUrl": "/live/events", "title": "Live"}
        setup = Setup(viewer, page, max_waiters, places, tracker=tracker is not None)
        self.server = ViewerServer(setup, lambda: self.now, tracker)
        self.channel = Channel(6, lambda: self.now, self._observe, window=window, show=self._show)
        self._count = 0
        self.app = self.server.app
        self.registry.register(MetricsCollector(self.server.metrics))
        self._report = HealthReport("offline", 0, None)
        self.operator_app = make_operator_app(self.reported, self.registry)

    def report(self, report: HealthReport) -> None:
        """How ingest is from now on."""
        self._report = report
        self.server.handle(Ping(self.reported()))

    def reported(self) -> HealthReport:
        """How ingest is, with what it lists."""
        view = self.channel.view
        names, target_duration = tuple(view.playlists), view.target_duration
        return replace(
            self._report,
            published=self.channel.published,
            listed=self.channel.listed,
            variants=names,
            target_duration=target_duration,
        )

    def go_live(self, *names: str) -> None:
        self.channel.list_variants(variants_listed(*names))
        for name in names:
            self.publish(name)

    def publish(self, name: str = "0", seconds: int = 4, iframe: ByteRange | None = None) -> None:
        time = START + timedelta(seconds=4 * self._count)
        self._count += 1
        url = f"https://b/{self._count}.ts"
        segment = stored_segment(
            url, variant=name, seconds=seconds, target_duration=seconds, time=time, completed=START
        )
        self.channel.publish(replace(segment, sha256="abc", iframe=iframe))

    def metrics(self) -> str:
        return generate_latest(self.registry).decode()

    def _show(self, view: View) -> None:
        self.server.handle(view_delta(self.server.stream.view, view))

    def _observe(self, event: Event) -> None:
        self._metrics(event)
        if message := message_of(event):
            self.server.handle(message)
