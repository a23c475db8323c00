"""The metrics that ingest accepts from the viewer server."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from broadcaster.ipc.messages import HealthReport, Pong, SentMetric, Setup, View, encode_pong
from broadcaster.ipc.metrics import ACCEPTED, BOUNDS, accepted, fits
from broadcaster.metrics import MetricsCollector
from broadcaster.service.viewer_process import ViewerProcess
from broadcaster.viewer_server.app import ViewerServer
from tests.support.waiting import eventually

GAUGE = SentMetric("connections", "Connections", (), (((), 3.0),), is_counter=False, total=None)
COUNTER = SentMetric("viewer_stalls", "Stalls", ("variant",), ((("0",), 3.0),), is_counter=True, total=None)
BUCKETS = ((("0", "1.0"), 1.0), (("0", "+Inf"), 2.0))
HISTOGRAM = SentMetric(
    "viewer_startup_seconds", "Start", ("variant",), BUCKETS, is_counter=True, total=((("0",), 1.5),)
)


async def test_all_metrics_are_accepted(tmp_path: Path) -> None:
    """Each metric of the viewer server is in the list with its shape, and the list has no others."""
    (tmp_path / "index.html").write_text("<html><head></head></html>")
    server = ViewerServer(Setup(tmp_path, tracker=True, clips=True, recordings=True, signed=True))
    sent = server.pong().metrics
    assert accepted(sent) == (sent, set()), "a new metric needs a line in broadcaster/ipc/metrics.py"
    assert {metric.name for metric in sent} == set(ACCEPTED)
    assert all(map(fits, (GAUGE, COUNTER, HISTOGRAM)))


@pytest.mark.parametrize(
    "metric",
    [
        replace(GAUGE, name="segments_lost"),
        replace(GAUGE, name="connections\n# TYPE x"),
        replace(GAUGE, text="two\nlines"),
        replace(GAUGE, text="long" * 100),
        replace(GAUGE, is_counter=True),
        replace(GAUGE, total=()),
        replace(GAUGE, labels=("variant",)),
        replace(GAUGE, samples=((("0",), 3.0),)),
        replace(GAUGE, samples=(((), -1.0),)),
        replace(GAUGE, samples=(((), math.nan),)),
        replace(GAUGE, samples=(((), math.inf),)),
        replace(GAUGE, samples=(((), 1e9),)),
        replace(COUNTER, labels=("secret",)),
        replace(COUNTER, samples=((("a\nb",), 1.0),)),
        replace(COUNTER, samples=((("\u202e",), 1.0),)),
        replace(COUNTER, samples=((("x" * 1000,), 1.0),)),
        replace(COUNTER, samples=tuple(((str(number),), 1.0) for number in range(1000))),
        replace(HISTOGRAM, total=None),
        replace(HISTOGRAM, samples=()),
        replace(HISTOGRAM, samples=BUCKETS[:1]),
        replace(HISTOGRAM, samples=((("0", "1.0"), 3.0), (("0", "+Inf"), 2.0))),
        replace(HISTOGRAM, samples=((("0", "nan"), 1.0), *BUCKETS)),
        replace(HISTOGRAM, samples=((("0", "one"), 1.0), *BUCKETS)),
        replace(HISTOGRAM, samples=((("1", "+Inf"), 1.0), *BUCKETS)),
        replace(HISTOGRAM, samples=(*((("0", f"{n}.0"), 0.0) for n in range(BOUNDS)), (("0", "+Inf"), 0.0))),
        replace(HISTOGRAM, total=((("0",), math.inf),)),
    ],
)
def test_unknown_metrics_are_refused(metric: SentMetric) -> None:
    """Unknown names, kinds, labels and values, and too many of them, are refused."""
    assert accepted([metric, COUNTER if metric.name != COUNTER.name else GAUGE])[0] != ()
    assert metric not in accepted([metric])[0]


@pytest.mark.parametrize(
    "pong",
    [
        Pong((), viewers=-1),
        Pong((), peers=10**9),
        Pong((), max_viewer_delay=math.inf),
        Pong((), max_viewer_delay=math.nan),
        Pong((), playlists_to_sign=("x" * 10_000,)),
        Pong((), playlists_to_sign=("x",) * 1000),
        Pong((GAUGE,) * 1000),
    ],
)
async def test_impossible_numbers(
    pong: Pong, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A pong with impossible numbers is malformed: its sender is replaced."""
    async with heard(pong, monkeypatch) as process:
        await eventually(lambda: process.restarts)
    assert process.pong == Pong(())
    assert "sends invalid messages" in caplog.text


async def test_metrics_are_never_broken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The valid metrics of a pong with unknown metrics are shown, and the unknown names harm no terminal."""
    invented = [replace(GAUGE, name="\x1b[31m"), replace(HISTOGRAM, samples=()), GAUGE, COUNTER]
    async with heard(Pong((*invented, COUNTER)), monkeypatch) as process:
        await process.ready.wait()
        registry = CollectorRegistry()
        registry.register(MetricsCollector(process.metrics))
        text = generate_latest(registry).decode()
    assert "broadcaster_connections 3.0" in text
    assert 'broadcaster_viewer_stalls_total{variant="0"} 3.0' in text
    assert "31m" not in text
    assert "viewer_startup" not in text
    assert "an unknown metric: \\x1b[31m" in caplog.text


@asynccontextmanager
async def heard(pong: Pong, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ViewerProcess]:
    """Ingest's end of a channel whose other end always sends this answer."""
    others: list[socket.socket] = []

    async def start(_: object) -> tuple[asyncio.subprocess.Process, socket.socket]:
        ours, theirs = socket.socketpair()
        others.append(theirs)
        theirs.sendall(encode_pong(pong))
        return await asyncio.create_subprocess_exec("true"), ours

    monkeypatch.setattr("broadcaster.service.viewer_process.start_viewer_process", start)
    process = ViewerProcess(Setup(Path("none")), [], View(), lambda: HealthReport("offline", 0, None))
    running = asyncio.create_task(process.run())
    try:
        yield process
    finally:
        running.cancel()
        for other in others:
            other.close()
        await asyncio.gather(running, return_exceptions=True)
