"""Data of the dashboard: the metrics of the last hour, percentiles, and the state of each variant."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from prometheus_client import CollectorRegistry, Metric

from broadcaster.events import Event, SegmentLost, SegmentPublished, SegmentUploaded

Row = dict[str, float | None]  # values at a time, by name of the series
STEP = 5.0  # seconds from a row to the next row
ROWS = 720  # an hour
Pair = tuple[float | None, float | None]  # the median and the 95th percentile; None without values
SHARES = 0.5, 0.95


def percentiles(values: Iterable[float]) -> Pair:
    """The median and the 95th percentile of values."""
    ordered = sorted(values)
    if not ordered:
        return None, None
    half, most = (ordered[math.ceil(share * len(ordered)) - 1] for share in SHARES)
    return half, most


class RecentBuckets:
    """The observations of a Prometheus histogram during the last ``reads`` reads."""

    def __init__(self, reads: int) -> None:
        self._reads: deque[Mapping[float, float]] = deque(maxlen=reads + 1)

    def read(self, counts: Mapping[float, float]) -> Pair:
        """Percentiles by interpolation; ``counts`` are the cumulated counts by upper bound."""
        self._reads.append(counts)
        before = self._reads[0] if len(self._reads) > 1 else {}
        bounds = sorted(counts)
        recent = [counts[bound] - before.get(bound, 0.0) for bound in bounds]
        if not recent or recent[-1] <= 0:
            return None, None
        half, most = (_interpolated(bounds, recent, share * recent[-1]) for share in SHARES)
        return half, most

    def restart(self, counts: Mapping[float, float]) -> Pair:
        """Forget all observations up to ``counts``."""
        self._reads.clear()
        self._reads.append(counts)
        return None, None


def _interpolated(bounds: list[float], counts: list[float], count: float) -> float:
    """The value below which ``count`` observations lie; the last finite bound for all above it."""
    at = bisect_left(counts, count)
    low, under = (bounds[at - 1], counts[at - 1]) if at else (0.0, 0.0)
    if math.isinf(bounds[at]):
        return low
    return low + (bounds[at] - low) * (count - under) / (counts[at] - under)


# Each series of a row: its name, the metric, and the labels that samples must have.
# Series of one name are added up.
SERIES: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("live", "broadcaster_live", {}),
    ("failing", "broadcaster_failing", {}),
    ("frozen", "broadcaster_frozen_seconds", {}),
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
# Histograms of which a row has the median and the 95th percentile, and over how many rows. In half a minute a
# page of a small audience reports once: only its newest report counts.
HALF_MINUTE = int(30 / STEP)
HISTOGRAMS = {
    "latency": ("broadcaster_viewer_latency_seconds_bucket", HALF_MINUTE),
    "startup": ("broadcaster_viewer_startup_seconds_bucket", 20 * HALF_MINUTE),
}
RECENT = 60.0  # seconds of segments in the percentiles of publishDelay and uploadTime
RATED = 10  # segments of which a variant's bit rate is computed


class History:
    """An observer that also samples the metrics in ``registry`` every few seconds."""

    def __init__(self, registry: CollectorRegistry, clock: Callable[[], datetime]) -> None:
        self._registry = registry
        self._clock = clock
        self._rows: deque[Row] = deque(maxlen=ROWS)
        self._times: dict[str, deque[tuple[float, float]]] = {"publishDelay": deque(), "uploadTime": deque()}
        self._buckets = {series: RecentBuckets(reads) for series, (_, reads) in HISTOGRAMS.items()}
        self._stored = 0.0  # byte-seconds

    def __call__(self, event: Event) -> None:
        """Note the times of an event."""
        match event:
            case SegmentPublished() if event.delay is not None:
                self._note("publishDelay", event.delay)
            case SegmentUploaded(seconds=seconds):
                self._note("uploadTime", seconds)

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(STEP)

    def sample(self) -> None:
        """Add a row: the counters, and the percentiles of the last minute's times."""
        families = list(self._registry.collect())
        now = self._clock().timestamp()
        totals = _totals(families)
        self._stored += totals["storedBytes"] * STEP
        row: Row = {"time": now * 1000, **totals, "storedByteSeconds": self._stored}
        is_frozen = totals["frozen"] > 0
        for series, times in self._times.items():
            # What was before viewers were frozen is not so any more.
            while times and (is_frozen or times[0][0] < now - RECENT):
                times.popleft()
            row[f"{series}50"], row[f"{series}95"] = percentiles(seconds for _, seconds in times)
        for series, (name, _) in HISTOGRAMS.items():
            buckets = self._buckets[series]
            # What pages report while they are frozen says nothing of the time after that.
            read = buckets.restart if series == "latency" and is_frozen else buckets.read
            row[f"{series}50"], row[f"{series}95"] = read(_counts(families, name))
        self._rows.append(row)

    def _note(self, series: str, seconds: float) -> None:
        self._times[series].append((self._clock().timestamp(), max(seconds, 0.0)))

    def since(self, milliseconds: float) -> list[Row]:
        """The rows that are newer than a time."""
        return [row for row in self._rows if (row["time"] or 0) > milliseconds]


def _totals(families: Iterable[Metric]) -> dict[str, float]:
    totals = dict.fromkeys((series for series, _, _ in SERIES), 0.0)
    for sample in (sample for family in families for sample in family.samples if sample.name in NAMES):
        for series, name, labels in SERIES:
            if name == sample.name and labels.items() <= sample.labels.items():
                totals[series] += sample.value
    return totals


def _counts(families: Iterable[Metric], name: str) -> Mapping[float, float]:
    """The cumulated counts of a histogram by upper bound, over all labels."""
    counts: defaultdict[float, float] = defaultdict(float)
    for sample in (sample for family in families for sample in family.samples if sample.name == name):
        counts[float(sample.labels["le"])] += sample.value
    return counts


@dataclass(slots=True)
class _VariantRow:
    gaps: int = 0
    published: datetime | None = None
    recent: deque[tuple[int, float]] = field(default_factory=lambda: deque(maxlen=RATED))  # bytes, seconds


class VariantTable:
    """An observer that keeps the bit rate, the age and the gaps of each variant. ``clock``: the wall time."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._variants: defaultdict[str, _VariantRow] = defaultdict(_VariantRow)

    def __call__(self, event: Event) -> None:
        """Note a listed or lost segment."""
        match event:
            case SegmentLost(variant=name):
                self._variants[name].gaps += 1
            case SegmentPublished(segment=segment, published=published):
                variant = self._variants[segment.variant]
                variant.published = published
                if segment.size:
                    variant.recent.append((segment.size, segment.duration.total_seconds()))

    def row(self, name: str) -> dict[str, object]:
        """A variant's bits per second, seconds since a segment was listed, and gaps."""
        variant = self._variants.get(name, _VariantRow())
        size, seconds = (sum(pair[column] for pair in variant.recent) for column in (0, 1))
        published = variant.published
        return {
            "bitrate": 8 * size / seconds if seconds else None,
            "age": (self._clock() - published).total_seconds() if published else None,
            "gaps": variant.gaps,
        }
