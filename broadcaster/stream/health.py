"""The state of the source, and the gaps that viewers see, for ``/health``."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

FLUSH = 1.5  # seconds in which the last segments are found after their encoder has gone
MANY = 3  # lost segments of a variant while no segment of any variant is listed


@dataclass(slots=True)
class SourceHealth:
    """The state of the source; times are monotonic, in seconds."""

    start: float
    last_segment: float
    last_of: dict[str, float] = field(default_factory=dict)  # the same, by variant
    ended: bool = False  # the source says that its stream has ended, and has brought no segment since
    idle: bool = False  # Owncast shows its idle clip, and no transcoder can be running
    fault: str | None = None  # why the folder cannot be read
    refused: str | None = None  # which playlists cannot be followed, and why

    def brought(self, variant: str, now: float) -> None:
        """The source has finished a segment."""
        self.last_segment = self.last_of[variant] = now
        self.ended = self.idle = False

    def silence(self, looked_at: float, variant: str | None = None) -> float:
        """Seconds from the last segment, or the last of a variant, to the latest look at the folder."""
        last = self.last_of.get(variant, self.start) if variant is not None else self.last_segment
        return max(0.0, looked_at - last)


class GapMonitor:
    """Counts lost segments since the last listed segment that can be played."""

    def __init__(self, now: float) -> None:
        self.since = now  # monotonic: a segment that can be played was listed, or a stream began
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
    def problem(self) -> str | None:
        """The fault for the operator; None while segments are listed."""
        if max(self._lost.values(), default=0) < MANY:
            return None
        return f"the last {self._lost.total()} segments were lost: {self._reason}"


def encoder_gone(since: float | None, grace: float | None, last_segment: float, now: float) -> bool:
    """Whether the encoder has been disconnected, since ``since``, for ``grace`` seconds and 1.5 s at least.

    An encoder whose segments go on is not gone: the report may be about another encoder.
    """
    if since is None or grace is None or last_segment > since + 2 * FLUSH:
        return False
    return now - max(since, last_segment) > max(grace, FLUSH)
