"""The night of an event, as the dashboard is shown it: each trouble by the service's own rules."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from http import HTTPStatus
from typing import Any

from aiohttp.test_utils import TestServer
from prometheus_client import CollectorRegistry

from broadcaster.admin import Dashboard, make_operator_app
from broadcaster.admin.history import HISTOGRAMS, ROWS, SERIES, STEP, Row
from broadcaster.aio import USUAL
from broadcaster.bucket.client import REFUSALS
from broadcaster.edge.publisher import REFUSED as REFUSED_BY_EDGE
from broadcaster.errors import Problem
from broadcaster.guest import ELSEWHERE, ViewerFault
from broadcaster.ipc.messages import HealthReport, State
from broadcaster.service.health import (
    HealthInputs,
    address_finding,
    clock_finding,
    disk_finding,
    doors_finding,
    encoder_finding,
    evaluate_health,
    passphrase_finding,
    public_finding,
    recording_finding,
    seconds_of_room,
)
from broadcaster.upload.pipeline import FASTER
from tests.support.judges.page import AXE

PROJECT = AXE.parents[3]
RATE = 600_000  # bytes a second of all qualities
WELL = HealthInputs(
    State.LIVE,
    4,
    silence=1.2,
    rate=RATE,
    spool=1_700_000,
    waiting=1,
    spool_limit=20 * 2**30,
    free=4e11,
    playing_pages=390,
)
OFFLINE = HealthInputs(State.OFFLINE, silence=900, spool_limit=20 * 2**30, free=4e11)
FAULT = ViewerFault("the object stored just now is not found there (404)", ELSEWHERE)
REFUSED, CHECK = REFUSALS["AccessDenied"]
DENIED = Problem(
    f"PUT to https://account.r2.cloudflarestorage.com, bucket 'event': AccessDenied: {REFUSED}", CHECK
)
THIN = Problem("the uplink carries 3.1 Mbit/s, the stream needs 4.8", FASTER)
WAITING = replace(WELL, frozen=67, waiting=62, spool=57_000_000)
# What an operator may have to read at night.
TROUBLES = {
    "bucket": replace(WAITING, delay=DENIED),
    "encoder": replace(WELL, silence=34.4, frozen=34.1, waiting=0, spool=0),
    "uplink": replace(WAITING, delay=THIN),
    "address": replace(WELL, unreadable=FAULT, playing_pages=0, failing_pages=412),
    "disk": replace(
        WELL,
        free=1.4e9,
        playlist_writes=Problem("PUT of live/recordings/index.json: no answer within 10 s", USUAL),
    ),
}
TROUBLES["three faults"] = replace(TROUBLES["bucket"], free=1.4e9, silences={"2": 95.0})
TROUBLES["four warnings"] = replace(
    TROUBLES["disk"], edge=REFUSED_BY_EDGE[HTTPStatus.UNAUTHORIZED], unconfirmed=True
)
QUALITIES = ("1080p, 3.0 Mbit/s", "720p, 1.3 Mbit/s", "360p, 500 kbit/s")


class EventNight:
    """What the service says; ``inputs`` can be changed, and a trouble that is ``over`` since ten seconds."""

    def __init__(self, inputs: HealthInputs) -> None:
        self.inputs = inputs
        self.over: HealthInputs | None = None

    def report(self) -> HealthReport:
        """The health of the service, by its rules."""
        now, found = self.inputs, evaluate_health(self.inputs)
        is_on = now.state is State.LIVE
        return HealthReport(
            now.state,
            now.waiting,
            found.reason,
            found.warning,
            listed=90 if is_on else 0,
            variants=("0", "1", "2") if is_on else (),
            qualities=QUALITIES if is_on else (),
            target_duration=now.target_duration,
            silence=now.silence,
            viewers=412 if is_on else 0,
            viewers_error=18 if is_on else 0,
            trouble=found.trouble,
            parts=found.parts,
            faults=found.faults,
            frozen=found.frozen,
        )

    def own(self, report: HealthReport, page: str) -> dict[str, Any]:
        """What the service adds for its operator."""
        now = self.inputs
        is_on = now.state is State.LIVE
        fault = FAULT if now.unreadable else None
        findings = {
            ("encoder", "Encoder connected"): encoder_finding(report, None),
            ("public", "First segment public"): public_finding(report, fault, was_read=is_on),
            ("recording", "Recording on"): recording_finding(report, timedelta(days=30), now.playlist_writes),
            ("doors", "Doors closed"): doors_finding(is_private=True, are_open=is_on, is_live=is_on),
            ("disk", "Disk for 9 h"): disk_finding(
                now.free, now.spool_limit, now.spool, now.rate, is_live=is_on
            ),
            ("clock", "Clock right"): clock_finding(0.2),
            ("address", "Addresses public"): address_finding(
                page or "https://event.example", "https://media.example"
            ),
            ("passphrase", "Passphrase known"): passphrase_finding(
                is_set=True, is_unconfirmed=now.unconfirmed
            ),
        }
        left = None if now.delay == DENIED else 0.0 if now.delay else 0.71
        return {
            "tokenFile": "/var/lib/broadcaster/operator-token",
            "checklist": [
                {"name": name, "title": title, **asdict(found)} for (name, title), found in findings.items()
            ],
            "uplink": {"needed": 8 * now.rate, "left": left if is_on else None},
            "spool": {
                "bytes": now.spool,
                "lasts": seconds_of_room(now.free, now.spool_limit, now.spool, now.rate),
            },
            "pages": {"playing": now.playing_pages, "failing": now.failing_pages, "undecodable": {}},
            "epoch": 7,
            "newest": 1000 * time.time(),
            "table": [
                {
                    "quality": name,
                    "bitrate": rate,
                    "age": report.frozen or now.silence,
                    "waiting": (now.waiting + index) // len(QUALITIES),
                    "gaps": 0,
                }
                for index, (name, rate) in enumerate(zip(QUALITIES, (3e6, 1.3e6, 5e5), strict=True))
                if is_on
            ],
        }

    def rows(self, since: float) -> list[Row]:
        """An hour that went well until a minute ago."""
        end = time.time() // STEP * STEP
        times = [end - STEP * (ROWS - 1 - index) for index in range(ROWS)]
        return [self._row(index, 1000 * at) for index, at in enumerate(times) if 1000 * at > since]

    def _row(self, index: int, at: float) -> Row:
        is_recent, is_over = index > ROWS - 12, index >= ROWS - 2
        now = self.over if self.over and not is_over else self.inputs
        found = evaluate_health(now)
        frozen = max(0.0, (found.frozen or 0.0) - STEP * (ROWS - 1 - index))
        frozen = frozen if frozen > STEP else 0.0  # before that it is not noticed
        is_failing = found.reason is not None and (frozen > 0 if found.frozen else is_recent)
        is_reported = not frozen and not (is_recent and now.failing_pages) and not (self.over and is_over)
        row: Row = dict.fromkeys((series for series, _, _ in SERIES), 0.0)
        row |= {f"{series}{share}": None for series in HISTOGRAMS for share in (50, 95)}
        viewers = 412 * (1 - math.exp(-index / 200)) + 6 * math.sin(index / 7)
        growing = {
            "stalls": index / 30,
            "requests": 60.0 * index,
            "bucketBytes": 4e6 * index,
            "peerBytes": 2.5e6 * index,
        }
        return (
            row
            | growing
            | {
                "time": at,
                "viewers": 412.0 if index == ROWS - 1 else round(viewers),
                "failing": float(is_failing),
                "frozen": frozen,
                "backlog": float(
                    now.waiting * (index - ROWS + 12) // 11 if is_recent and now.waiting > 1 else 1
                ),
                "spoolBytes": float(now.spool),
                "latency50": 6.2 + 0.4 * math.sin(index / 9) if is_reported else None,
                "latency95": 9.5 + 0.8 * math.sin(index / 5) if is_reported else None,
                "startup50": 0.7,
                "startup95": 1.9,
                "publishDelay50": 0.31 + 0.02 * math.sin(index / 3),
                "publishDelay95": 0.62 + 0.05 * math.sin(index / 4),
                "uploadTime50": 0.24,
                "uploadTime95": 0.51,
                "storedBytes": 4.2e9 + 4e6 * index,
                "storedByteSeconds": 1.5e13,
                "uploadedBytes": 4e6 * index,
                "published": 3.0 * index,
                "watchedSeconds": 412 * 5.0 * index,
                "operationsA": 3.4 * index,
                "operationsB": 0.2 * index,
                "memory": 1.5e8,
                "cpu": 0.12 * index,
            }
        )

    async def picture(self) -> bytes:
        """What is on."""
        return (PROJECT / "docs/images/page.jpg").read_bytes()


@asynccontextmanager
async def event_night() -> AsyncIterator[tuple[EventNight, str]]:
    """The night, and the address of its dashboard."""
    night = EventNight(WELL)
    folder = PROJECT / "viewer"
    dashboard = Dashboard(
        folder / "dashboard", folder / "public/vendor", night.rows, 0.09, night.picture, night.own
    )
    async with TestServer(make_operator_app(night.report, CollectorRegistry(), dashboard)) as server:
        yield night, str(server.make_url("/dashboard/"))
