"""Delta updates of a DVR window of four hours: how much smaller they are, and how long one takes to make.

Made means rendered, compressed and hashed, once per version and for all who ask. Each time no segment has its
lines yet, as after a restart; in a stream that goes on, all but the newest have them.
"""

import statistics
import time
from dataclasses import replace
from datetime import UTC, datetime

from broadcaster.hls import MediaPlaylist
from broadcaster.ipc.messages import Version
from broadcaster.viewer_server.snapshots import Snapshot
from tests.bench.report import Figure, progress
from tests.support.fakes.viewers_channel import ViewersChannel
from tests.support.servers.viewer_app_server import SECONDS, LongChannel

HOURS = 4
TIMES = 300
FULL_TIMES = 20


def measure() -> list[Figure]:
    """In this process, without HTTP."""
    progress(f"delta: {HOURS} hours of {SECONDS}-second segments")
    main = ViewersChannel(LongChannel(HOURS * 3600 // SECONDS).channel.view).main
    if main is None or not isinstance(main.playlist, MediaPlaylist) or not main.playlist.skippable:
        raise RuntimeError("there is no playlist that has delta updates")
    full, delta = main.full, main.delta
    seconds, full_seconds = [], []
    for number in range(TIMES):
        version = _fresh(main.playlist)
        begun = time.perf_counter()
        _ = version.delta
        seconds.append(time.perf_counter() - begun)
        if number < FULL_TIMES:
            begun = time.perf_counter()
            _ = version.full
            full_seconds.append(time.perf_counter() - begun)
    return [
        Figure(f"{HOURS}-hour window: full playlist", len(full.body) / 1000, "kB"),
        Figure(f"{HOURS}-hour window: full playlist, compressed", len(full.gzipped) / 1000, "kB"),
        Figure("delta update: share of its bytes", 100 * len(delta.body) / len(full.body), "%", at_most=5),
        Figure(
            "delta update: share of its bytes, both compressed",
            100 * len(delta.gzipped) / len(full.gzipped),
            "%",
            at_most=5,
        ),
        Figure("delta update: time to make one, median", 1000 * statistics.median(seconds), "ms"),
        Figure("full playlist: time to make one, median", 1000 * statistics.median(full_seconds), "ms"),
        Figure(
            "delta update: share of the full playlist's time",
            100 * statistics.median(seconds) / statistics.median(full_seconds),
            "%",
            at_most=5,
        ),
    ]


def _fresh(playlist: MediaPlaylist) -> Snapshot:
    """The same playlist, as if nothing of it had been rendered before."""
    segments = tuple(replace(segment) for segment in playlist.segments)
    fresh = replace(playlist, segments=segments)
    return Snapshot(Version(fresh, datetime.now(UTC), playlist.target_duration))
