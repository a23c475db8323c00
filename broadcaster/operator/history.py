"""How the service did in the last hour, for the operator's dashboard."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime

from prometheus_client import CollectorRegistry

from broadcaster.events import Event, SegmentPublished, SegmentUploaded
from broadcaster.feed import Row
from broadcaster.web.dashboard import ROWS, STEP

logger = logging.getLogger(__name__)

# What a row has of the metrics: a name of its own, the metric, and the labels that count (none: all).
# What has the same name is added up.
SERIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("live", "broadcaster_live", {}),
    ("backlog", "broadcaster_backlog_segments", {}),
    ("spoolBytes", "broadcaster_spool_bytes", {}),
    ("storedBytes", "broadcaster_stored_bytes", {}),
    ("published", "broadcaster_segments_published_total", {}),
    ("lost", "broadcaster_segments_lost_total", {}),
    ("uploadFailures", "broadcaster_upload_failures_total", {}),
    ("uploadedBytes", "broadcaster_uploaded_bytes_total", {}),
    ("requests", "broadcaster_requests_total", {}),
    ("mainPolls", "broadcaster_requests_total", {"route": "main_playlist"}),
    ("mediaPolls", "broadcaster_requests_total", {"route": "media_playlist"}),
    ("wakeUps", "broadcaster_wake_up_seconds_count", {}),
    ("waiters", "broadcaster_waiters", {}),
    ("eventReaders", "broadcaster_event_readers", {}),
    ("trackerSockets", "broadcaster_tracker_sockets", {}),
    ("peers", "broadcaster_tracker_peers", {}),
    ("connections", "broadcaster_connections", {}),
    ("bucketBytes", "broadcaster_viewer_bytes_total", {"source": "bucket"}),
    ("peerBytes", "broadcaster_viewer_bytes_total", {"source": "peers"}),
    ("watchedSeconds", "broadcaster_viewer_seconds_total", {}),
    ("operationsA", "broadcaster_bucket_operations_total", {"class": "a"}),
    ("operationsB", "broadcaster_bucket_operations_total", {"class": "b"}),
    ("operationsFree", "broadcaster_bucket_operations_total", {"class": "free"}),
    ("memory", "process_resident_memory_bytes", {}),
    ("cpu", "process_cpu_seconds_total", {}),
    ("memory", "broadcaster_audience_process_resident_memory_bytes", {}),
    ("cpu", "broadcaster_audience_process_cpu_seconds_total", {}),
)
NAMES = {name for _, name, _ in SERIES}


class History:
    """Looks at the metrics in ``registry`` every few seconds; an observer of events for what is longest."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=ROWS)
        self._delay: float | None = None
        self._upload: float | None = None
        self._stored = 0.0  # byte-seconds

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentPublished() if event.delay is not None:
                self._delay = max(event.delay, self._delay or 0)
            case SegmentUploaded(seconds=seconds):
                self._upload = max(seconds, self._upload or 0)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            try:
                self.look()
            except Exception:  # a dashboard is no reason to end a stream
                logger.exception("the dashboard misses a row")
            await asyncio.sleep(STEP)

    def look(self) -> None:
        """Add a row: counters as they stand, the longest publish delay and upload since the last one."""
        totals = dict.fromkeys((series for series, _, _ in SERIES), 0.0)
        for family in self._registry.collect():
            for sample in family.samples:
                if sample.name not in NAMES:
                    continue
                for series, name, labels in SERIES:
                    if name == sample.name and labels.items() <= sample.labels.items():
                        totals[series] += sample.value
        time = self._clock().timestamp() * 1000
        self._stored += totals["storedBytes"] * STEP
        longest = {"publishDelay": self._delay, "uploadTime": self._upload}
        self._rows.append({"time": time, **totals, **longest, "storedByteSeconds": self._stored})
        self._delay = self._upload = None

    def since(self, milliseconds: float) -> list[Row]:
        """The rows that are newer than a time."""
        return [row for row in self._rows if (row["time"] or 0) > milliseconds]
