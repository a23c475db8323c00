"""What is known of the source, and of what reaches viewers, for ``/health``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

FLUSH = 1.5  # seconds in which the last segments are found after their encoder has gone
MANY = 3  # segments of one variant in a row that are lost, and none of another one listed meanwhile


@dataclass(slots=True)
class SourceHealth:
    """What the source brought last. Times are monotonic, in seconds.

    ``ended`` says that the source itself called its stream over, and brought no segment since; ``idle`` that
    Owncast's idle clip has been alone for so long that no transcoder can be beside it. ``fault`` is why
    nothing can be read in its folder, ``refused`` which of its playlists cannot be followed, and why.
    """

    start: float
    last_segment: float
    last_of: dict[str, float] = field(default_factory=dict)  # the same, by variant
    ended: bool = False
    idle: bool = False
    fault: str | None = None
    refused: str | None = None

    def brought(self, variant: str, now: float) -> None:
        """The source has finished a segment."""
        self.last_segment = self.last_of[variant] = now
        self.ended = self.idle = False

    def silence(self, looked_at: float, variant: str | None = None) -> float:
        """Seconds from the last segment, or the last of a variant, to the latest look at the folder."""
        last = self.last_of.get(variant, self.start) if variant is not None else self.last_segment
        return max(0.0, looked_at - last)


class GapMonitor:
    """Counts the segments that were lost, and the time, since a segment was listed whole."""

    def __init__(self, now: float) -> None:
        self.since = now  # monotonic: viewers got a segment that can be played, or a stream began
        self._lost: Counter[str] = Counter()  # by variant
        self._reason = ""

    def lost(self, variant: str, reason: str) -> None:
        """A segment is a gap."""
        self._lost[variant] += 1
        self._reason = reason

    def listed(self, now: float) -> None:
        """A segment is listed that can be played."""
        self._lost.clear()
        self.since = now

    def began(self, now: float) -> None:
        """A stream begins."""
        self.since = now

    def ended(self) -> None:
        """A stream is over."""
        self._lost.clear()

    @property
    def trouble(self) -> str | None:
        """What the operator has to know; None while segments are listed."""
        if max(self._lost.values(), default=0) < MANY:
            return None
        return f"the last {self._lost.total()} segments were lost: {self._reason}"


def encoder_gone(since: float | None, grace: float | None, last_segment: float, now: float) -> bool:
    """Whether the encoder has been gone for ``grace`` seconds, and for 1.5 at least.

    ``since`` is when it is known to have gone; never where that, or the grace time, is None. An encoder whose
    segments go on has not gone, whatever is said of it: what is known may be of another encoder.
    """
    # Some of the last segments may be found after it has gone, but none that late.
    if since is None or grace is None or last_segment > since + 2 * FLUSH:
        return False
    return now - max(since, last_segment) > max(grace, FLUSH)
