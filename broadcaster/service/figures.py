"""How the components stand when they are asked, as figures."""

from __future__ import annotations

import math
from collections.abc import Iterator

from broadcaster.feed import State
from broadcaster.figures import Figure
from broadcaster.service.components import Components


def figures_of(components: Components) -> Iterator[Figure]:
    """What is read when it is scraped."""
    yield Figure("lag_seconds", "How late the process is that takes the stream in", components.lag.seconds)
    spool, catalog = components.spool, components.catalog
    yield Figure("live", "1 while a stream is live", components.channel.state is State.LIVE)
    text = "1 while the source itself says that its stream is over"
    yield Figure("source_ended", text, components.source_ended)
    yield Figure("failing", "1 while /health says 503", components.health().reason is not None)
    yield Figure("backlog_segments", "Segments finished and not yet listed", components.pipeline.backlog)
    yield Figure("spool_bytes", "Bytes that wait in the spool", spool.size)
    yield Figure("spool_limit_bytes", "Bytes that may wait in the spool", spool.limit)
    yield Figure("spool_free_bytes", "Bytes free on the disk of the spool", spool.free)
    yield Figure("stored_bytes", "Bytes of segments in the bucket", catalog.stored_bytes)
    operations = components.store.operations
    text = "Requests to the bucket by price class: a, b or free"
    yield Figure("bucket_operations", text, operations, labels=("class",), rises=True)
    yield Figure("deleted_objects", "Objects deleted", components.sweeper.deleted, rises=True)
    yield Figure("journal_failing", "1 while the journal cannot be written", catalog.fault is not None)
    text = "1 while another broadcaster writes under the same prefix"
    yield Figure("prefix_shared", text, components.owner.warning is not None)
    yield from components.pictures.figures()
    yield from components.guest_check.figures()
    if mirror := components.mirror:
        text = "Attempts to put a playlist into the bucket by outcome: done or failed"
        writes = {"done": mirror.writes, "failed": mirror.failures}
        yield Figure("mirror_writes", text, writes, labels=("outcome",), rises=True)
        yield Figure("mirror_behind", "Playlists not up to date in the bucket", mirror.behind)
    if owncast := components.owncast:
        connected = math.nan if owncast.connected is None else owncast.connected
        text = "1 while Owncast says that the encoder is connected, 0 while it says that it is not, else NaN"
        yield Figure("owncast_connected", text, connected)
