"""Data of the operator's dashboard: the last hour, percentiles, state of each variant."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, Metric

from broadcaster.admin.dashboard import ROWS, STEP, Row
from broadcaster.events import Event, SegmentLost, SegmentPublished, SegmentUploaded

HALF, MOST = 0.5, 0.95
Pair = tuple[float | None, float | None]  # the median and the 95th percentile; None of nothing


def percentiles(values: Iterable[float]) -> Pair:
    """Of values as they are."""
    ordered = sorted(values)
    if not ordered:
        return None, None
    half, most = (ordered[math.ceil(share * len(ordered)) - 1] for share in (HALF, MOST))
    return half, most


class Buckets:
    """Those of a histogram that only rises, looked at again and again: what came in the last ``looks``."""

    def __init__(self, looks: int) -> None:
        self._seen: deque[Mapping[float, float]] = deque(maxlen=looks + 1)

    def look(self, counts: Mapping[float, float]) -> Pair:
        """Percentiles by interpolation; ``counts`` are how many values were at most each upper bound."""
        self._seen.append(counts)
        before = self._seen[0] if len(self._seen) > 1 else {}
        bounds = sorted(counts)
        came = [counts[bound] - before.get(bound, 0.0) for bound in bounds]
        if not came or came[-1] <= 0:
            return None, None
        half, most = (_reached(bounds, came, share * came[-1]) for share in (HALF, MOST))
        return half, most


def _reached(bounds: list[float], came: list[float], wanted: float) -> float:
    """Where so many are reached; the last bound that is finite stands for all above it."""
    at = bisect_left(came, wanted)
    low, under = (bounds[at - 1], came[at - 1]) if at else (0.0, 0.0)
    if math.isinf(bounds[at]):
        return low
    return low + (bounds[at] - low) * (wanted - under) / (came[at] - under)


# What a row has of the metrics: a name of its own, the metric, and the labels that count (none: all).
# What has the same name is added up.
SERIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("live", "broadcaster_live", {}),
    ("failing", "broadcaster_failing", {}),
    ("viewers", "broadcaster_viewers", {}),
    ("stalls", "broadcaster_viewer_stalls_total", {}),
    ("playerErrors", "broadcaster_viewer_errors_total", {}),
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
# Histograms of which a row has the median and the 95th percentile, and over how many rows.
MINUTE = int(60 / STEP)
HISTOGRAMS = {
    "latency": ("broadcaster_viewer_latency_seconds_bucket", MINUTE),
    "startup": ("broadcaster_viewer_startup_seconds_bucket", 10 * MINUTE),
}
RECENT = 60.0  # seconds whose segments count for the percentiles of their times


class History:
    """Looks at the metrics in ``registry`` every few seconds; and at events, for how long they take."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=ROWS)
        self._took: dict[str, deque[tuple[float, float]]] = {"publishDelay": deque(), "uploadTime": deque()}
        self._buckets = {series: Buckets(looks) for series, (_, looks) in HISTOGRAMS.items()}
        self._stored = 0.0  # byte-seconds

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentPublished() if event.delay is not None:
                self._note("publishDelay", event.delay)
            case SegmentUploaded(seconds=seconds):
                self._note("uploadTime", seconds)

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self.look()
            await asyncio.sleep(STEP)

    def look(self) -> None:
        """Add a row: counters as they stand, and percentiles of the last minute's times."""
        families = list(self._registry.collect())
        now = self._clock().timestamp()
        totals = _totals(families)
        self._stored += totals["storedBytes"] * STEP
        row: Row = {"time": now * 1000, **totals, "storedByteSeconds": self._stored}
        for series, took in self._took.items():
            while took and took[0][0] < now - RECENT:
                took.popleft()
            row[f"{series}50"], row[f"{series}95"] = percentiles(seconds for _, seconds in took)
        for series, (name, _) in HISTOGRAMS.items():
            row[f"{series}50"], row[f"{series}95"] = self._buckets[series].look(_counts(families, name))
        self._rows.append(row)

    def _note(self, series: str, seconds: float) -> None:
        self._took[series].append((self._clock().timestamp(), max(seconds, 0.0)))

    def since(self, milliseconds: float) -> list[Row]:
        """The rows that are newer than a time."""
        return [row for row in self._rows if (row["time"] or 0) > milliseconds]


def _totals(families: Iterable[Metric]) -> dict[str, float]:
    totals = dict.fromkeys((series for series, _, _ in SERIES), 0.0)
    for family in families:
        for sample in family.samples:
            if sample.name not in NAMES:
                continue
            for series, name, labels in SERIES:
                if name == sample.name and labels.items() <= sample.labels.items():
                    totals[series] += sample.value
    return totals


def _counts(families: Iterable[Metric], name: str) -> Mapping[float, float]:
    """Of a histogram, of all its labels: how many values were at most each upper bound."""
    counts: defaultdict[float, float] = defaultdict(float)
    for family in families:
        for sample in family.samples:
            if sample.name == name:
                counts[float(sample.labels["le"])] += sample.value
    return counts


SEGMENTS = 10  # whose bit rate is told


@dataclass(slots=True)
class _Variant:
    gaps: int = 0
    published: datetime | None = None
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=SEGMENTS))  # bytes, seconds


class VariantTable:
    """Call it with each event; ``clock`` gives the wall time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._variants: dict[str, _Variant] = {}

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentLost(variant=name):
                self._of(name).gaps += 1
            case SegmentPublished(segment=segment, published=published):
                variant = self._of(segment.variant)
                variant.published = published
                if segment.size:
                    variant.recent.append((segment.size, segment.duration.total_seconds()))

    def row(self, name: str) -> dict[str, object]:
        """Of one: bits per second, seconds since a segment was listed, and what was lost."""
        variant = self._variants.get(name, _Variant())
        size, seconds = (sum(one[column] for one in variant.recent) for column in (0, 1))
        published = variant.published
        return {
            "bitrate": 8 * size / seconds if seconds else None,
            "age": (self._clock() - published).total_seconds() if published else None,
            "gaps": variant.gaps,
        }

    def _of(self, name: str) -> _Variant:
        return self._variants.setdefault(name, _Variant())
