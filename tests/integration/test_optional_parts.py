"""Parts that the stream can do without fail in a running service: the stream goes on, and so do they."""

from __future__ import annotations

import asyncio
import inspect
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from broadcaster.admin import History, VariantTable
from broadcaster.aio import EventLoopLag
from broadcaster.bucket.lease import PrefixLease
from broadcaster.config import load
from broadcaster.demo.bucket import SeaweedBucket
from broadcaster.events import Event, SegmentPublished
from broadcaster.guest import GuestCheck
from broadcaster.owncast import OwncastStatus
from broadcaster.recordings.posters import Posters
from broadcaster.recordings.writer import Recorder
from broadcaster.service import serve
from broadcaster.service.components import Components
from broadcaster.service.public_recordings import ViewerClips
from broadcaster.service.serve import Metrics
from broadcaster.service.viewer_process import ViewerProcess
from broadcaster.upload.deleter import FileDeleter, RetentionDeleter
from broadcaster.upload.mirror import Mirror
from tests.support.fakes.hls_writer import HlsWriter
from tests.support.servers.service import Service
from tests.support.waiting import PATIENCE, eventually

FAILURES = 2  # of each
PARTS = [
    ("audience", ViewerProcess, "_run_once"),
    ("files", FileDeleter, "sweep"),
    ("guest check", GuestCheck, "run"),
    ("history", History, "sample"),
    ("lag", EventLoopLag, "note"),
    ("mirror", Mirror, "_attempt"),
    ("owncast", OwncastStatus, "silent"),
    ("owner", PrefixLease, "renew"),
    ("pictures", Posters, "run"),
    ("recorder", Recorder, "write"),
    ("sweeper", RetentionDeleter, "sweep"),
    ("systemd", Components, "report_to_systemd"),
    ("viewers' clips", ViewerClips, "run"),
]
OBSERVERS = [
    ("audience", ViewerProcess, "__call__"),
    ("audience", ViewerProcess, "show"),
    ("guest check", GuestCheck, "__call__"),
    ("health", Components, "health_of_ingest"),
    ("history", History, "__call__"),
    ("metrics", Metrics, "__call__"),
    ("mirror", Mirror, "__call__"),
    ("pictures", Posters, "__call__"),
    ("recorder", Recorder, "__call__"),
    ("variant table", VariantTable, "__call__"),
]


def break_it(
    monkeypatch: pytest.MonkeyPatch, kind: type, method: str, calls: Counter[tuple[type, str]]
) -> None:
    """Let the method raise at its first calls, and count them all."""
    original: Callable[..., Any] = getattr(kind, method)

    def count() -> None:
        calls[kind, method] += 1
        if calls[kind, method] <= FAILURES:
            raise ZeroDivisionError(f"{kind.__name__} is broken")

    async def later(*args: object, **kwargs: object) -> object:
        count()
        return await original(*args, **kwargs)

    def at_once(*args: object, **kwargs: object) -> object:
        count()
        return original(*args, **kwargs)

    broken = later if inspect.iscoroutinefunction(original) else at_once
    monkeypatch.setattr(kind, method, broken)


@pytest.mark.parametrize("broken", [PARTS, OBSERVERS], ids=["parts", "observers"])
async def test_the_stream_goes_on(
    tmp_path: Path,
    bucket: SeaweedBucket,
    monkeypatch: pytest.MonkeyPatch,
    broken: list[tuple[str, type, str]],
) -> None:
    """Each fails at first: segments are listed, ``/health`` and metrics count that, and each works again."""
    monkeypatch.setattr("broadcaster.service.supervisor.FIRST_PAUSE", 0.1)
    monkeypatch.setattr("broadcaster.upload.deleter.SWEEP_EVERY", 0.1)
    calls, expected = Counter[tuple[type, str]](), Counter[str]()
    for name, kind, method in broken:
        break_it(monkeypatch, kind, method, calls)
        expected[name] += FAILURES
    settings = {"BROADCASTER_MIRROR": "1", "BROADCASTER_OWNCAST_URL": "http://127.0.0.1:9"}
    service = Service(tmp_path, tmp_path / "hls", bucket, **settings)
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    writer = HlsWriter(tmp_path / "hls")
    stop, published = asyncio.Event(), list[str]()

    def note(event: Event) -> None:
        if isinstance(event, SegmentPublished):
            published.append(event.segment.name)

    def is_published(number: int) -> bool:
        return writer.name(number) in published

    async def read(url: str) -> str:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    async def is_listed(number: int) -> bool:
        return writer.name(number) in await read(f"{service.address}/live/playlist.m3u8")

    async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as group:
        serving = group.create_task(serve(load(), stop, on_event=note))
        await eventually(service.answers)
        for number in range(1, 8):
            writer.write(range(1 + number))
            await eventually(partial(is_published, number))
        await eventually(lambda: is_listed(7))
        streaming = group.create_task(writer.go_on(8))
        await eventually(lambda: all(calls[kind, method] > FAILURES for _, kind, method in broken))
        health = await service.until_health(http=200)
        failures = dict(re.findall(r"([a-z' ]+) has failed (once|\d+ times),", str(health["warning"])))
        assert set(expected) == {name.strip() for name in failures}
        assert "is broken): the stream goes on" in str(health["warning"])
        metrics = await read(f"{service.admin_address}/metrics")
        counted = dict(re.findall(r'broadcaster_part_failures_total{part="([^"]+)"} (\d+)', metrics))
        # Both writes of the mirror may fail at once, and are one failure then.
        assert all(1 <= int(counted[name]) <= count for name, count in expected.items())
        assert not serving.done()
        streaming.cancel()
        stop.set()
