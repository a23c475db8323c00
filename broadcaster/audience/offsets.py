"""How far a playlist's times are ahead of the clock, so that pages can tell the true latency.

PROGRAM-DATE-TIME is the encoder's own count. Owncast's ffmpeg begins it too late: the end of a segment by
PROGRAM-DATE-TIME and EXTINF is 1.6 s or so after the moment when its file is complete.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from statistics import median

from broadcaster.feed import Listed

# Of a run, all its variants together: enough that a few which came late do not count.
REMEMBERED_SEGMENTS = 15
REMEMBERED_RUNS = 4


class EncoderOffsets:
    """Measures each encoder run by itself: its times may have been moved, and its encoder begun anew."""

    def __init__(self) -> None:
        self._seconds: dict[str, deque[float]] = {}  # by run, oldest first

    def note(self, segment: Listed) -> timedelta | None:
        """Take note of a segment; returns how far its run is ahead of the clock, None if nothing has told.

        It is the median over the run's latest segments of PROGRAM-DATE-TIME + EXTINF less the time when the
        file was complete; when it could be listed is the bucket's doing and does not matter.
        """
        if segment.completed and segment.time:
            ahead = segment.time + segment.duration - segment.completed
            self._of(segment.run).append(ahead.total_seconds())
        known = self._seconds.get(segment.run)
        return timedelta(seconds=median(known)) if known else None

    def _of(self, run: str) -> deque[float]:
        known = self._seconds.setdefault(run, deque(maxlen=REMEMBERED_SEGMENTS))
        for old in list(self._seconds)[:-REMEMBERED_RUNS]:
            del self._seconds[old]
        return known
