"""Prometheus metrics, kept by listening to events."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from broadcaster.events import (
    Event,
    SegmentDiscovered,
    SegmentLost,
    SegmentPublished,
    SegmentUploaded,
    StreamStarted,
    UploadFailed,
)

SECONDS = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 300)

PASSING, PERMANENT = "passing", "permanent"  # kinds of failure


class Metrics:
    """Registers the service's metrics in ``registry``; call it with each event."""

    def __init__(self, registry: CollectorRegistry) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"broadcaster_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(f"broadcaster_{name}", text, ["variant"], buckets=SECONDS, registry=registry)

        self._discovered = counter("segments_discovered", "Segments that the source finished", "variant")
        self._published = counter(
            "segments_published", "Segments listed for viewers, gaps included", "variant"
        )
        self._lost = counter("segments_lost", "Segments listed as gaps: broken or gone", "variant")
        self._bytes = counter("uploaded_bytes", "Bytes that the bucket has confirmed", "variant")
        self._failures = counter(
            "upload_failures", "Attempts that failed and are made again", "variant", "kind"
        )
        self._streams = counter("streams_started", "Streams that went live")
        self._upload = histogram("upload_seconds", "Time of the successful PUT of an object")
        self._delay = histogram(
            "publish_delay_seconds", "From segment complete on disk to listed for viewers"
        )

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        match event:
            case SegmentDiscovered(variant=variant):
                self._discovered.labels(variant).inc()
                self._start_at_zero(variant)
            case UploadFailed(variant=variant, permanent=permanent):
                self._failures.labels(variant, PERMANENT if permanent else PASSING).inc()
            case SegmentUploaded(variant=variant, size=size, seconds=seconds):
                self._bytes.labels(variant).inc(size)
                self._upload.labels(variant).observe(seconds)
            case SegmentLost(variant=variant):
                self._lost.labels(variant).inc()
            case SegmentPublished(segment=segment):
                self._published.labels(segment.variant).inc()
                if event.delay is not None:
                    self._delay.labels(segment.variant).observe(max(event.delay, 0))
            case StreamStarted():
                self._streams.inc()

    def _start_at_zero(self, variant: str) -> None:
        """Prometheus takes no notice of a first failure whose counter was not there before."""
        self._lost.labels(variant)
        for kind in (PASSING, PERMANENT):
            self._failures.labels(variant, kind)


def process_registry() -> CollectorRegistry:
    """A registry with the process's own figures (memory, CPU, open files, garbage collection)."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry
