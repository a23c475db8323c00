"""Metrics that are not kept by listening to events: how the parts stand when they are asked."""

from __future__ import annotations

import math

from broadcaster.live import State
from broadcaster.metrics import Metrics
from broadcaster.service.components import Components


def add_gauges(metrics: Metrics, components: Components) -> None:
    """What is read when it is scraped."""
    metrics.watch("live", "1 while a stream is live", lambda: components.channel.state is State.LIVE)
    metrics.watch("failing", "1 while /health says 503", lambda: components.health().reason is not None)
    metrics.watch(
        "backlog_segments", "Segments finished and not yet listed", lambda: components.pipeline.backlog
    )
    metrics.watch("spool_bytes", "Bytes that wait in the spool", lambda: components.spool.size)
    metrics.watch("spool_limit_bytes", "Bytes that may wait in the spool", lambda: components.spool.limit)
    metrics.watch("spool_free_bytes", "Bytes free on the disk of the spool", lambda: components.spool.free)
    metrics.watch("stored_bytes", "Bytes of segments in the bucket", lambda: components.catalog.stored_bytes)
    metrics.count(
        "bucket_operations",
        "Requests to the bucket by price class: a, b or free",
        "class",
        lambda: components.store.operations,
    )
    metrics.watch("deleted_objects", "Objects deleted since the start", lambda: components.sweeper.deleted)
    metrics.watch(
        "journal_failing",
        "1 while the journal cannot be written",
        lambda: components.catalog.fault is not None,
    )
    metrics.watch(
        "prefix_shared",
        "1 while another broadcaster writes under the same prefix",
        lambda: components.owner.warning is not None,
    )
    if mirror := components.mirror:
        metrics.count(
            "mirror_writes",
            "Attempts to put a playlist into the bucket by outcome: done or failed",
            "outcome",
            lambda: {"done": mirror.writes, "failed": mirror.failures},
        )
        metrics.watch("mirror_behind", "Playlists not up to date in the bucket", lambda: mirror.behind)
    if owncast := components.owncast:
        metrics.watch(
            "owncast_connected",
            "1 while Owncast says that the encoder is connected, 0 while it says that it is not, else NaN",
            lambda: math.nan if owncast.connected is None else owncast.connected,
        )
